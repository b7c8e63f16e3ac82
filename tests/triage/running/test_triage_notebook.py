"""The list in a notebook: pictures, a viewer with the mask, and nothing that names anybody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mean_hu import MeanHU
from runner_support import ct, rows, runner, schedule, take

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.testing import synthetic
from voxelvault_triage.running.session import HERE, Hands, work_through
from voxelvault_triage.worklist.notebook import LiveWorklist


def test_a_row_has_a_picture_and_opens_a_viewer(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "in", *ct(1), *synthetic.mr_series())
    schedule(vault, MeanHU())
    work_through(vault, runner(vault, MeanHU()), Hands(HERE))
    shown = LiveWorklist(vault)
    text = shown.html()
    assert text.count("data:image/png;base64,") == 1
    assert "There is no CT." in text
    assert "not a medical device" in text
    for row in rows(
        vault, "select StudyInstanceUID, PatientID from studies join patients using (subject_id)"
    ):
        assert row["StudyInstanceUID"] not in text
        assert row["PatientID"] not in text
    size = vault.resources.log.size
    shown.html()
    assert vault.resources.log.size <= size + 2  # the queries; no image is read again
    assert shown.open(1) is not None
    with pytest.raises(UsageError, match="no series"):
        shown.open(2)
    with pytest.raises(UsageError, match="rows 1 to 2"):
        shown.open(3)


def test_the_table_follows_the_vault(vault: vv.Vault, tmp_path: Path) -> None:
    pytest.importorskip("ipywidgets")

    async def watched() -> tuple[str, str]:
        table = LiveWorklist(vault).live(every=0.05)
        before = table.value
        take(vault, tmp_path / "in", *ct(1))
        schedule(vault, MeanHU())
        for _ in range(100):
            await asyncio.sleep(0.1)
            if table.value != before:
                break
        return before, table.value

    before, after = asyncio.run(watched())
    assert "scheduled" not in before
    assert "scheduled" in after

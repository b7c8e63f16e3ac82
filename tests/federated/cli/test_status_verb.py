"""`federated status` names what a person has to look after."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from voxelvault_fl.cli import federated
from voxelvault_fl.provisioning.files import write


def _shown(state: Path) -> str:
    write(state / "processes.json", b"{}")
    made = CliRunner().invoke(federated, ["status", "--state", str(state)], catch_exceptions=False)
    return made.output


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b'{"job": 1}', b'{"job": {"id": "heads-1"}}', b"[" * 10**5]
)
def test_a_damaged_job_of_a_site_is_named(tmp_path: Path, said: bytes) -> None:
    write(tmp_path / "status.json", b'{"role": "site"}')
    write(tmp_path / "jobs" / ("a" * 64) / "job.json", said)
    good = b'{"job": {"consortium": "heads", "id": "heads-2"}}'
    write(tmp_path / "jobs" / ("b" * 64) / "job.json", good)
    shown = _shown(tmp_path).split()
    assert shown[shown.index("a" * 12) :][:3] == ["a" * 12, "damaged", "job.json"]
    assert "b" * 12 not in shown

"""The triage claims of `make bench-triage`, run once on very little."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks import triage, triage_arrival, triage_studies, triage_workers
from benchmarks.heads import Heads
from benchmarks.measure import Place

from voxelvault_triage.phantom.scanner import Scanners
from voxelvault_triage.phantom.study import Recipe


@pytest.mark.long
def test_each_claim_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setattr(triage_studies, "RECIPE", Recipe(scanners=Scanners(thickness=(5.0,))))
    monkeypatch.setattr(triage_studies, "MOST", 3)
    for claim, studies in ((triage, 2), (triage_workers, 2), (triage_arrival, 2)):
        monkeypatch.setattr(claim, "STUDIES", studies)
    (tmp_path / "work").mkdir()
    heads = Heads(tmp_path, real=False)
    place = Place(heads, heads, tmp_path / "work", 2, 1)
    found = [*triage.measure(place), *triage_workers.measure(place), *triage_arrival.measure(place)]
    assert len(found) == 6
    assert all(row.ours for row in found)
    assert all(row.ratio > 0 for row in found if row.goal is not None)

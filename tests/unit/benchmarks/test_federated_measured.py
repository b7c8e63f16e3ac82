"""The claims of `make bench-federated`, run once on very little."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks import federated
from benchmarks.heads import Heads
from benchmarks.measure import Place

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_each_claim_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setattr(federated, "ROUNDS", {"numpy": 2, "MONAI": 2})
    (tmp_path / "work").mkdir()
    heads = Heads(tmp_path, real=False)
    found = federated.measure(Place(heads, heads, tmp_path / "work", 2, 1))
    assert len(found) == 10
    assert all(row.ratio > 0 for row in found if row.goal is not None)
    # Bytes are the same on every machine: goals that are missed there are missed everywhere.
    assert all(row.met for row in found if "bytes" in row.claim)

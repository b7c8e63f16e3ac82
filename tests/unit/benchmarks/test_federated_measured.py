"""The claims of `make bench-federated`, run once on very little."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks import federated, federated_loss
from benchmarks.heads import Heads
from benchmarks.measure import Place


@pytest.mark.long
@pytest.mark.timeout(3600)
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


def test_int8_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federated_loss, "ROUNDS", 3)
    whole, small = (federated_loss.accuracy(codec, 0) for codec in ("none", "int8"))
    assert whole > 0.6
    assert abs(whole - small) < 0.005

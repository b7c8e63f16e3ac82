"""The table of `make bench-federated-heads`, from scores that are known; and all of it on very little."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

pytest.importorskip("torch")

from benchmarks import federated_heads as bench
from benchmarks.federated_hospitals import HOSPITALS, bleeds

from voxelvault_fl.cohorts.members import Member
from voxelvault_fl.training.examples import Example

TINY = [
    *("--validate", "3", "--test", "4", "--rounds", "1", "--steps", "1", "--planes", "2", "--seeds", "1"),
    *("--features", "4", "4", "4", "4", "4", "4"),
]


def test_the_prevalence_is_kept_in_any_number_of_studies() -> None:
    assert [sum(bleeds(0.35, count)) for count in (20, 60, 100)] == [7, 21, 35]
    assert bleeds(0.6, 100)[:20] == bleeds(0.6, 20)


def test_the_table_tells_the_mean_over_seeds_and_how_far_apart() -> None:
    truth = np.arange(40) % 2 == 1
    site = bench.Site(
        HOSPITALS[0],
        [Example(Member(str(at), str(at), ""), bool(one), "test") for at, one in enumerate(truth)],
        {},
    )
    right, half = truth.astype(float), np.zeros(40)
    found = {
        "alone": [half, half],
        "fedavg": [right, half],
        "fedprox": [right, right],
        "pooled": [right, right],
    }
    line = list(bench.table({arm: {"alder": scores} for arm, scores in found.items()}, [site]))[-1]
    assert line == (
        "| alder | 20 of 40 | 0.500 | 0.750 | 1.000 | 1.000 "
        "| +0.250 (+0.250 to +0.250) | +0.250 (+0.250 to +0.250) |"
    )


@pytest.mark.long
def test_all_of_it_on_very_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "HOSPITALS", [replace(one, train=4) for one in HOSPITALS])
    monkeypatch.setattr(sys, "argv", ["bench", "--cache", str(tmp_path), *TINY])
    bench.main()
    first = capsys.readouterr().out
    assert first.count("\n") == 2 + len(HOSPITALS)
    kept = sorted((tmp_path / "scores").rglob("*.json"))
    assert [path.stem for path in kept] == [
        "alone-alder-1", "alone-birch-1", "alone-cedar-1", "fedavg-1", "fedprox-1", "pooled-1",
    ]  # fmt: skip
    assert {name: len(scores) for name, scores in json.loads(kept[-1].read_text()).items()} == {
        "alder": 4, "birch": 4, "cedar": 4,
    }  # fmt: skip
    bench.main()
    assert capsys.readouterr().out == first

"""The table of `make bench`, and every claim run once on very little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from benchmarks import catalog, log, memory, object_store, orthanc, writers  # noqa: E402
from benchmarks.__main__ import CLAIMS, table  # noqa: E402
from benchmarks.heads import make_heads, pixels_of, uid_of  # noqa: E402
from benchmarks.measure import Measured, Place, compare  # noqa: E402


def test_goals_are_met_or_missed_in_both_directions() -> None:
    rate = Measured("a / b", 0.6, 0.5, "6 MB/s", "10 MB/s")
    share = Measured("size / files", 0.4, 0.33, "4 MB", "10 MB", at_most=True)
    text = table({"a / b": {1: rate}, "size / files": {1: share, 2: share}}).splitlines()
    assert text[2] == "| a / b | ≥ 0.50 | 0.60 (6 MB/s : 10 MB/s) |  | met |"
    assert text[3].endswith("| **missed** |")
    assert "≤ 0.33" in text[3]


def test_a_goal_missed_at_one_number_of_cores_is_missed() -> None:
    good, bad = (Measured("c", ratio, 1.0, "x", "y") for ratio in (1.1, 0.9))
    assert "missed" in table({"c": {1: good, 2: bad}})


def test_ours_is_compared_with_the_fastest_peer() -> None:
    order: list[str] = []
    slow = sum
    pair = compare(
        lambda: order.append("ours"),
        {"fast": lambda: order.append("fast"), "slow": lambda: slow(range(300_000))},
        4,
    )
    assert pair.name == "fast"
    assert order[:2] == ["ours", "fast"]
    assert len(order) == 10


def test_heads_have_no_frame_twice(tmp_path: Path) -> None:
    heads = make_heads(tmp_path / "heads", 40)
    assert len({uid_of(files) for files in heads.series}) == 2
    for files in heads.series:
        frames = pixels_of(files)
        assert len({frame.tobytes() for frame in frames}) == 40
        positions = [pydicom.dcmread(path).ImagePositionPatient for path in files]
        steps = np.linalg.norm(np.diff(np.array(positions, float), axis=0), axis=1)
        assert np.allclose(steps, 1, atol=1e-3)


@pytest.mark.long
def test_what_a_team_asks_about_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    heads = make_heads(tmp_path / "heads", 6)
    place = Place(heads, heads, tmp_path, 2, 1)
    found = [
        *catalog.measure(place, [20]),
        *log.measure(place, many=300),
        *memory.measure(place, many=200),
        *object_store.measure(place),
        *orthanc.measure(place),
        *writers.measure(place),
    ]
    assert len(found) >= 6
    assert all(row.ours for row in found)
    assert all(row.ratio > 0 for row in found if row.goal is not None)


@pytest.mark.long
def test_every_claim_is_measured(tmp_path: Path) -> None:
    # TorchIO draws no patch of 96 planes from a volume of fewer.
    line = [sys.executable, "-m", "benchmarks", "--slices", "96", "--long", "12", "--repeats", "1"]
    done = subprocess.run(
        [*line, "--tmp", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    assert len(done.stdout.splitlines()) > 2 + len(CLAIMS)

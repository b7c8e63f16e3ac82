"""One slice of a volume is the slice that the whole volume has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import voxelvault as vv
from voxelvault.errors import PolicyDenied, UsageError
from voxelvault.series import Series
from voxelvault.testing import synthetic


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Series]:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    with vv.create(tmp_path / "vault") as vault:
        # Two packs: the halves come one after the other.
        for number, data in enumerate(synthetic.ct_series(6, 24, 20)):
            place = tmp_path / f"half-{number % 2}"
            place.mkdir(exist_ok=True)
            (place / f"{number}.dcm").write_bytes(data)
        for half in (0, 1):
            vault.ingest(tmp_path / f"half-{half}", progress=False)
        uid = vault.sql("select SeriesInstanceUID from series").fetchall()[0][0]
        yield vault.series(uid)


@pytest.mark.parametrize("units", [None, "stored"])
def test_a_frame_is_its_slice(series: Series, units: str | None) -> None:
    whole = series.load(units=units)
    out = np.empty(whole.shape[1:], whole.dtype)
    for index in (5, 0, 3):
        assert np.array_equal(series.frame(index, units=units), whole[index])
        assert series.frame(index, units=units, out=out) is out
        assert np.array_equal(out, whole[index])


@pytest.mark.parametrize("index", [-1, 6])
def test_there_is_no_such_slice(series: Series, index: int) -> None:
    with pytest.raises(UsageError, match="0 to 5"):
        series.frame(index)


def test_a_destination_that_does_not_fit(series: Series) -> None:
    for out in (np.empty((24, 20), "u1"), np.empty((20, 24), "f4"), np.empty((24, 40), "f4")[:, ::2]):
        with pytest.raises(UsageError, match="out="):
            series.frame(0, out=out)


def test_a_closed_handle_reads_no_frame(series: Series) -> None:
    series.close()
    with pytest.raises(PolicyDenied):
        series.frame(0)

"""Which series a condition, a list of UIDs or a table means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import voxelvault as vv
from voxelvault.testing import synthetic


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    folder = tmp_path_factory.mktemp("selecting")
    patch = pytest.MonkeyPatch()
    patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "configuration"))
    inbox = folder / "in"
    inbox.mkdir()
    for number in range(6):
        make = synthetic.mr_series if number % 3 == 2 else synthetic.ct_series
        who = {"PatientID": f"P{number // 2}", "PatientName": f"NAME^{number // 2}"}
        for at, data in enumerate(make(3, 16, 16, seed=number, attributes=who)):
            (inbox / f"{number}-{at}.dcm").write_bytes(data)
    with vv.create(folder / "vault") as made:
        made.ingest(inbox, progress=False)
        yield made
    patch.undo()


def test_everything_counts_series(vault: vv.Vault) -> None:
    everything = vault.select()
    assert len(everything) == 6
    assert [len(series) for series in everything] == [3] * 6

"""One vault for the room: CT, MR and PET of a few people, a segmentation of each head."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic_segmentation import segmentation_of
from voxelvault.training.dataset import Dataset
from voxelvault.training.making import Request, make_dataset
from voxelvault.training.plan import Wish

SHAPE = (6, 24, 20)
ASKED = ("masks", "label", "labels", "groups", "unmasked")


def files_of(seed: int) -> list[bytes]:
    """Return a person's CT with a mask of two labels, and a PET of the same study."""
    person = {"PatientID": f"PERSON-{seed}", "PatientName": f"{synthetic.PATIENT_NAME}{seed}"}
    ct = synthetic.ct_series(*SHAPE, seed=seed, attributes=person)
    positions = synthetic.slice_positions(SHAPE[0])
    drawn = np.zeros((2 * SHAPE[0], *SHAPE[1:]), bool)
    drawn[2, 5, 7], drawn[SHAPE[0] + 4, 20:22, 3:5] = True, True
    seg = segmentation_of(
        drawn,
        np.concatenate([positions, positions]),
        [1] * SHAPE[0] + [2] * SHAPE[0],
        orientation=synthetic.AXIAL,
        spacing=(0.8, 0.6),
        labels={1: "lesion", 2: "bleed"},
        on=ct,
        seed=seed,
    )
    seg = renamed(seg, person)
    elsewhere = person | {"FrameOfReferenceUID": synthetic.uid(seed, "another frame of reference")}
    return [*ct, seg, *synthetic.pet_series(4, 10, 12, seed=seed, attributes=elsewhere)]


def renamed(file: bytes, person: dict[str, str]) -> bytes:
    """Return the file as another person's."""
    made = pydicom.dcmread(io.BytesIO(file))
    for keyword, value in person.items():
        setattr(made, keyword, value)
    out = io.BytesIO()
    made.save_as(out)
    return out.getvalue()


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    """Four people."""
    room = tmp_path_factory.mktemp("training")
    inbox = room / "inbox"
    inbox.mkdir()
    for seed in range(1, 5):
        for number, data in enumerate(files_of(seed)):
            (inbox / f"{seed}-{number}.dcm").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(room / "configuration"))
        with vv.create(room / "vault", codec="fast") as made:
            assert not made.ingest(inbox, progress=False).quarantined
            yield made


@pytest.fixture(scope="session")
def rows(vault: vv.Vault) -> list[dict[str, Any]]:
    """Rows of `series`, people in order."""
    found: list[dict[str, Any]] = vault.resources.catalog.query(
        "select * from series order by StudyInstanceUID, Modality"
    ).to_pylist()
    return found


@pytest.fixture
def dataset(vault: vv.Vault, rows: list[dict[str, Any]]) -> Iterator[Callable[..., Dataset]]:
    """Make data sets of the series of a modality; closed at the end."""
    made: list[Dataset] = []

    def make(modality: str = "CT", *, transform: Any = None, **wished: Any) -> Dataset:
        asked = {
            key: wished.pop(key)
            for key in ("masks", "label", "labels", "groups", "cache", "unmasked")
            if key in wished
        }
        arrays = wished.pop("arrays", None)
        groups = [
            (row["series_id"], {"image": row["series_id"]}) for row in rows if row["Modality"] == modality
        ]
        request = Request(**{"groups": groups, "labels": lambda *_: {}} | asked)
        made.append(make_dataset(vault.resources, Wish(**wished), request, transform, arrays))
        return made[-1]

    yield make
    for one in made:
        one.close()

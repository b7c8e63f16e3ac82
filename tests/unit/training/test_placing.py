"""Masks and patches lie where their image does: on uneven slices, and across the series of a study."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic_segmentation import segmentation_of

GAPS = (3, 7, 1, 1, 3)
"""Slices at 0, 3, 10, 11, 12, 15 mm: as many as the even grid has, and at other places."""


def drawn_on(ct: Sequence[bytes], index: int, attributes: dict[str, str]) -> bytes:
    """Return a segmentation of a few voxels of one slice."""
    files = [pydicom.dcmread(io.BytesIO(file)) for file in ct]
    files.sort(key=lambda file: float(file.ImagePositionPatient[2]))
    drawn = np.zeros((1, files[0].Rows, files[0].Columns), bool)
    drawn[0, 5:9, 7:9] = True
    first = files[index]
    return segmentation_of(
        drawn,
        [[float(value) for value in first.ImagePositionPatient]],
        orientation=synthetic.AXIAL,
        spacing=[float(value) for value in first.PixelSpacing],
        thickness=0.5,
        labels={1: "lesion"},
        on=ct,
        seed=int(attributes["PatientID"][1:]),
        attributes=attributes,
    )


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    """Two people with uneven slices, one of them with a lesion on the third slice."""
    room = tmp_path_factory.mktemp("uneven")
    files: list[bytes] = []
    for seed in (1, 2):
        person = {"PatientID": f"P{seed}"}
        ct = synthetic.ct_series(6, 24, 20, uneven=list(GAPS), seed=seed, attributes=person)
        files += [*ct, drawn_on(ct, 2, person)] if seed == 1 else ct
    for number, data in enumerate(files):
        (room / f"{number}.dcm").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(room / "configuration"))
        with vv.create(room / "vault", codec="fast") as made:
            assert not made.ingest(*room.glob("*.dcm"), progress=False).quarantined
            yield made


@pytest.mark.parametrize("kind", ["volumes", "patches"])
def test_a_mask_of_uneven_slices_comes_on_the_images_grid(uneven: vv.Vault, kind: str) -> None:
    heads = uneven.select("Modality = 'CT'")
    with heads.dataset(kind, masks="lesion", unmasked="background", patch_size=(6, 24, 20)) as samples:
        found = [sample for sample in samples if sample["mask"].any()]
        assert all(sample["mask"].shape == sample["image"].shape for sample in samples)
    [sample] = found
    # 10 mm is nearest to the even grid's slice at 9 mm.
    assert np.flatnonzero(sample["mask"][0].any((1, 2))).tolist() == [3]
    assert np.argwhere(sample["mask"][0, 3]).tolist() == [[r, c] for r in range(5, 9) for c in (7, 8)]


def test_slices_keep_their_own_masks(uneven: vv.Vault) -> None:
    with uneven.select("Modality = 'CT'").dataset("slices", masks="lesion", unmasked="background") as slices:
        assert [sample["slice"] for sample in slices if sample["mask"].any()] == [2]


def test_planes_show_the_mask_where_the_image_has_it(uneven: vv.Vault, monkeypatch: Any) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(
        "voxelvault.display.planes.planes", lambda volume, *_, **more: shown.append(more["mask"])
    )
    for series in uneven.select("Modality = 'CT'"):
        labels = np.zeros((6, 24, 20), np.uint8)
        labels[2, 5, 7] = 7
        series.show(planes=True, mask=labels)
        series.show(planes=True, mask=labels > 0)
    assert [np.argwhere(mask).tolist() for mask in shown] == [[[3, 5, 7]]] * 4
    assert [mask[3, 5, 7] for mask in shown] == [7, 1, 7, 1]

"""Masks and patches lie where their image does: on uneven slices, and across the series of a study."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.testing import synthetic
from voxelvault.testing.synthetic_segmentation import segmentation_of
from voxelvault.training.samples import _same_place
from voxelvault.training.volumes import ArrayVolume

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


def test_a_patch_of_another_series_covers_the_same_place_at_a_border() -> None:
    first = ArrayVolume(np.zeros((1, 60, 60, 60), np.float32), np.eye(4))
    moved = np.eye(4)
    moved[:3, 3] = [10, 0, -50]
    other = ArrayVolume(np.zeros((1, 60, 60, 60), np.float32), moved)
    start = _same_place(first, (0, 0, 44), other, (16, 16, 16))
    assert (moved @ [*start, 1])[:3].tolist() == [0, 0, 44]
    assert start == (-10, 0, 94)


@pytest.mark.parametrize("space", ["another", None])
def test_patches_of_several_series_need_one_frame_of_reference(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, space: str | None
) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    uid = synthetic.uid(1, space) if space else None
    for patient, attributes in (("P1", {}), ("P2", {"FrameOfReferenceUID": uid})):
        seed = int(patient[1:])
        person = {"PatientID": patient}
        files = synthetic.ct_series(4, 12, 12, seed=seed, attributes=person)
        files += synthetic.pet_series(4, 12, 12, seed=seed, attributes=person | attributes)
        for number, data in enumerate(files):
            (tmp_path / f"{patient}-{number}.dcm").write_bytes(data)
    with vv.create(tmp_path / "vault", codec="fast") as vault:
        vault.ingest(*tmp_path.glob("P*.dcm"), progress=False)
        size = {"patch_size": (2, 4, 4)}
        with pytest.raises(UsageError, match=r"1 of 2 samples .* frame of reference"):
            vault.select().dataset("patches", group="study", **size)
        assert len(vault.select().dataset(group="study")) == 2
        both = vault.select("PatientID = 'P1'").dataset("patches", group="study", **size)
        patch = both[0]
        assert patch["ct"].shape == patch["pt"].shape == (1, 2, 4, 4)
        ct, pet = (patch["affine_ras"][key] for key in ("ct", "pt"))
        apart = np.linalg.inv(pet) @ (ct @ [0.5, 1.5, 1.5, 1]) - [0.5, 1.5, 1.5, 1]
        # Both middles are at one place, to half a voxel of the other.
        assert np.abs(apart).max() <= 0.5

"""Overlays, three planes, side by side."""

from __future__ import annotations

import io
import sys
import zlib
from typing import Any

import ipywidgets
import nibabel
import numpy as np
import pytest
from PIL import Image

import voxelvault.display.compare as compare_module
import voxelvault.display.planes as planes_module
from voxelvault.display.compare import Pane, compare, counterpart
from voxelvault.display.image import png
from voxelvault.display.look import Look
from voxelvault.display.nifti_bytes import nifti_bytes, smallest
from voxelvault.display.overlay import PALETTE, as_labels, blend, mask_middle, named
from voxelvault.display.planes import planes, thinning, viewer
from voxelvault.display.planes_widget import PlanesViewer, program
from voxelvault.display.reformat import upright
from voxelvault.display.three_planes import three_planes
from voxelvault.errors import MissingExtra, UsageError

AXIAL = np.array([[-0.5, 0, 0, 20], [0, -0.5, 0, 30], [0, 0, 2, -10], [0, 0, 0, 1.0]])
"""(column, row, slice) to RAS: columns to the left, rows to the back, slices to the head."""


@pytest.fixture
def speck() -> tuple[np.ndarray, np.ndarray]:
    """A volume with one bright voxel, and where that is: mm, RAS."""
    volume = np.zeros((10, 60, 40), np.float32)
    volume[7, 12, 5] = 100.0
    return volume, (AXIAL @ [5, 12, 7, 1])[:3]


def test_labels_are_small_whole_numbers() -> None:
    np.testing.assert_array_equal(as_labels(np.array([True, False])), [1, 0])
    np.testing.assert_array_equal(as_labels(np.array([0.2, 0.5, 1.0])), [0, 1, 1])
    np.testing.assert_array_equal(as_labels(np.array([0, 3])), [0, 3])
    for wrong in (np.array([300]), np.array([-1]), np.array([2.5])):
        with pytest.raises(UsageError):
            as_labels(wrong)
    assert named(np.array([0, 2, 3]), {2: "lesion"}) == {2: "lesion", 3: "label 3"}
    assert named(None) == {}


def test_a_mask_colours_its_own_pixels() -> None:
    grey = np.full((8, 8), 100, np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6], mask[7, 7] = 1, 2
    full = blend(grey, mask, opacity=0.5)
    assert (full[0, 0] == 100).all()
    assert tuple(full[2, 2]) == PALETTE[0]  # border
    np.testing.assert_allclose(full[3, 3], np.add(PALETTE[0], 100) / 2, atol=1)
    assert tuple(full[7, 7]) == PALETTE[1]
    assert (blend(grey, mask, 0.0, outline=False) == 100).all()
    with pytest.raises(UsageError, match="shape"):
        blend(grey, mask[:4])


@pytest.mark.parametrize("seed", range(12))
def test_upright_keeps_every_voxel_at_its_place(seed: int) -> None:
    """Any order and direction of axes, a little oblique: the marked voxel is found where it was."""
    rng = np.random.default_rng(seed)
    volume = rng.random((4, 5, 6))
    turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3) @ _small_rotation(rng)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * rng.uniform(0.5, 3, 3), rng.uniform(-50, 50, 3)
    found = upright(volume, affine)
    assert np.argmax(np.abs(found.affine_ras[:3, :3]), axis=0).tolist() == [0, 1, 2]
    assert (np.diag(found.affine_ras)[:3] > 0).all()
    for slice_, row, column in rng.integers(0, (4, 5, 6), (5, 3)):
        place = (affine @ [column, row, slice_, 1])[:3]
        assert found.values[found.index_of(place)] == volume[slice_, row, column]
    assert found.index_of((9e9, -9e9, 0))[:1] == (found.values.shape[0] - 1,)


def _small_rotation(rng: np.random.Generator) -> np.ndarray:
    skew = rng.uniform(-0.1, 0.1, (3, 3))
    return np.asarray(np.linalg.qr(np.eye(3) + skew - skew.T)[0] * [-1, -1, -1])


def test_three_planes_look_as_a_radiologist_does(speck: tuple[np.ndarray, np.ndarray]) -> None:
    volume, place = speck
    turned = upright(volume, AXIAL)
    assert [turned.letters(*axes) for axes in ((0, 1), (0, 2), (1, 2))] == [
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    ]
    picture = np.asarray(
        three_planes(volume, AXIAL, Look(window=(50, 100)), at=place, size=300).convert("RGB")
    )
    shown = (picture.min(axis=2) > 120).nonzero()
    assert len(shown[0]) > 0
    # 20 mm right to left, 30 mm front to back and 20 mm high at 10 pixels a mm, 4 pixels apart.
    assert picture.shape[:2] == (308, 4 * 4 + 200 + 200 + 300)
    right, front = shown[1].min() - 4, shown[0].min() - 4
    assert 10 < right < 40  # column 5 of 40, the patient's right at the left
    assert 40 < front < 75  # row 12 of 60


def test_pictures_need_a_fitting_mask_and_three_axes(speck: tuple[np.ndarray, np.ndarray]) -> None:
    volume, _ = speck
    for show in (planes, viewer):
        with pytest.raises(UsageError, match="shape"):
            show(volume, AXIAL, mask=np.zeros((1, 2, 3), np.uint8))
        with pytest.raises(UsageError, match="grey volume"):
            show(volume[0], AXIAL)
    plain, masked = (three_planes(volume, AXIAL, mask=mask) for mask in (None, volume > 50))
    assert plain.size == masked.size
    assert isinstance(planes(volume, AXIAL, Look(unit="HU", names={1: "speck"})), Image.Image)


def test_nifti_is_what_nibabel_reads(speck: tuple[np.ndarray, np.ndarray]) -> None:
    volume, _ = speck
    for values in (smallest(volume), volume + np.float32(0.5), (volume > 0).astype(np.uint8)):
        read = nibabel.Nifti1Image.from_bytes(nifti_bytes(values, AXIAL, labels=values.dtype == np.uint8))
        np.testing.assert_array_equal(np.asarray(read.dataobj), values.transpose(2, 1, 0))
        np.testing.assert_allclose(read.affine, AXIAL)
        np.testing.assert_allclose(read.header.get_zooms(), (0.5, 0.5, 2))
        assert read.header["descrip"] == b""
    assert smallest(volume).dtype == np.int16
    assert smallest(np.array([np.nan, -3.0, 5.0])).tolist() == [-3, -3, 5]
    assert smallest(np.array([1e6, 0.0])).dtype == np.float32


def test_the_browser_gets_program_and_volumes_as_messages(
    speck: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, place = speck
    monkeypatch.setattr(planes_module, "in_notebook", lambda: True)
    look = Look(window=(50, 100), names={1: "speck"}, unit="HU")
    shown: Any = planes(volume, AXIAL, look, at=place, mask=volume > 50)
    assert isinstance(shown, PlanesViewer)
    sent: list[Any] = []
    monkeypatch.setattr(shown, "send", lambda message, buffers: sent.append((message, buffers)))
    for wanted in ("program", "volumes", "anything else"):
        shown._handle_custom_msg({"want": wanted}, [])
    assert [message for message, _ in sent] == [{"program": True}, {"volumes": 2}]
    assert zlib.decompress(sent[0][1][0]) == program().read_bytes()
    image, labels = (nibabel.Nifti1Image.from_bytes(zlib.decompress(part)).get_fdata() for part in sent[1][1])
    assert image[5, 12, 7] == 100
    assert np.argwhere(labels).tolist() == [[5, 12, 7]]
    assert (shown.low, shown.high, shown.names) == (0, 100, {"1": "speck"})
    np.testing.assert_allclose(shown.cross, [(39 - 5 + 0.5) / 40, (59 - 12 + 0.5) / 60, 7.5 / 10])
    state = {name: value for name, value in shown.get_state().items() if name not in ("_esm", "_css")}
    assert not any(isinstance(value, bytes | memoryview) for value in state.values())
    assert len(str(state)) < 4000
    Image.open(io.BytesIO(shown._still(shown))).load()


def test_the_cross_hair_starts_in_the_mask(
    speck: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, place = speck
    shown: Any = viewer(volume, AXIAL, mask=volume > 50)
    assert shown.cross == viewer(volume, AXIAL, at=place).cross != viewer(volume, AXIAL).cross
    assert shown.note == "opened in the middle of the mask"
    assert shown._still(shown) == png(three_planes(volume, AXIAL, at=place, mask=volume > 50))
    assert viewer(volume, AXIAL, at=place, mask=volume > 50).note == ""
    empty: Any = viewer(volume, AXIAL, mask=volume > 500)
    assert (empty.note, empty.cross) == ("the mask is empty", viewer(volume, AXIAL).cross)
    monkeypatch.setattr(planes_module, "MOST_VOXELS", volume.size // 8)
    assert viewer(volume, AXIAL).note == "one row and column of 3"


def test_the_middle_of_a_mask_is_in_the_mask() -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    assert mask_middle(mask) is None
    mask[0, :, 0] = mask[8, :, 0] = mask[6, 2:7, 2:7] = 1
    mask[6, 3:6, 3:6] = 0
    found = mask_middle(mask)
    assert found is not None
    assert (found[0], mask[found]) == (6, 1)


def test_large_volumes_are_thinned_out() -> None:
    assert thinning((100, 512, 512)) == 1
    assert thinning((600, 512, 512)) == 2
    assert thinning((20, 9000, 9000)) == 4


def test_without_ipyniivue_the_extra_is_named(
    speck: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = planes_module.__dict__["_widget"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[notebook\]"):
        find()
    monkeypatch.delitem(sys.modules, "voxelvault.display.planes_widget")
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[notebook\]"):
        viewer(speck[0], AXIAL)


def pane(count: int, places: list[float] | None = None, space: str = "", **look: Any) -> Pane:
    return Pane(lambda k: np.full((4, 4), float(k)), count, Look(**look), "CT", places, space)


def test_slices_go_together_by_place_or_by_part_of_the_way() -> None:
    fine, coarse = pane(21, [float(k) for k in range(21)], "a"), pane(5, [0.0, 6.0, 12.0, 18.0, 24.0], "a")
    assert [counterpart(fine, k, coarse) for k in (0, 8, 20)] == [0, 1, 3]
    elsewhere = pane(5, [100.0, 101, 102, 103, 104], "b")
    assert [counterpart(fine, k, elsewhere) for k in (0, 10, 20)] == [0, 2, 4]
    assert counterpart(pane(1), 0, fine) == 0


def test_linked_viewers_scroll_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_module, "in_notebook", lambda: True)
    box = compare([pane(21, unit="HU"), pane(5, unit="HU"), pane(11, unit="")])
    assert isinstance(box, ipywidgets.Box)
    one, two, three = box.children
    assert (one.index, two.index, three.index) == (10, 2, 5)
    one.index = 20
    assert (two.index, three.index) == (4, 10)
    two.index = 0
    assert (one.index, three.index) == (0, 0)


def test_side_by_side_outside_a_notebook_is_one_picture() -> None:
    picture = compare([pane(21), pane(5, unit="HU")])
    assert isinstance(picture, Image.Image)
    for few in ([pane(3)], [pane(3), pane(0)]):
        with pytest.raises(UsageError, match="two volumes"):
            compare(few)

"""Masks out of a vault: made ones whose every voxel is known, in mm and whatever way they lie."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

import voxelvault as vv
from voxelvault.errors import GeometryError, UsageError
from voxelvault.reading.many import open_many
from voxelvault.reading.segments import (
    findings_in_vault,
    labels_in_vault,
    plan_for,
    plan_masks,
    segments_in_vault,
)
from voxelvault.series import Series
from voxelvault.testing.synthetic import AXIAL, MARKER, SAGITTAL, ct_series, mr_series, slice_positions, uid
from voxelvault.testing.synthetic_segmentation import (
    circle,
    measurement_report,
    segmentation_of,
    structure_set,
)

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
WAYS = {"axial": AXIAL, "sagittal": SAGITTAL, "oblique": OBLIQUE, "feet first": FEET_FIRST}
SHAPE = (8, 24, 20)
SPACING = (0.8, 0.6)
CORNER = (-20.0, -15.0, 5.0)

Vaulted = Callable[..., vv.Vault]


@pytest.fixture
def vaulted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vaulted]:
    """Give what makes a vault of these files."""
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    made: list[vv.Vault] = []

    def make(*files: bytes) -> vv.Vault:
        inbox = tmp_path / "in"
        inbox.mkdir(exist_ok=True)
        for number, file in enumerate(files):
            (inbox / f"{number}.dcm").write_bytes(file)
        made.append(vv.create(tmp_path / "vault"))
        report = made[0].ingest(inbox, progress=False)
        assert report.stored == len(files)
        return made[0]

    yield make
    for vault in made:
        vault.close()


def series_of(vault: vv.Vault, files: Sequence[bytes]) -> Series:
    return vault.series(str(pydicom.dcmread(io.BytesIO(files[0])).SeriesInstanceUID))


def positions(orientation: Sequence[float], n: int = SHAPE[0], step: float = 2.0) -> np.ndarray:
    return slice_positions(n, origin=CORNER, orientation=orientation, step=step)


def ct(orientation: Sequence[float], **more: object) -> list[bytes]:
    return ct_series(*SHAPE, orientation=orientation, spacing=SPACING, origin=CORNER, step=2.0, **more)  # type: ignore[arg-type]


def about(middle: Sequence[float], orientation: Sequence[float]) -> tuple[float, ...]:
    """Where the first pixel is of a volume with that middle."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    half = (np.array(SHAPE) - 1) / 2
    steps = half[0] * 2.0 * np.cross(row, column) + half[1] * SPACING[0] * column + half[2] * SPACING[1] * row
    return tuple(float(value) for value in np.array(middle) - steps)


def pattern(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """No turn, mirror or shift leaves it as it is."""
    made = np.zeros(shape, bool)
    made[2:6, 3:9, 4:6] = True
    made[2, 8:12, 4:15] = True
    made[5, 3, 10] = True
    return made


@pytest.mark.parametrize("way", WAYS)
def test_a_segment_lies_on_the_marker_of_its_image(vaulted: Vaulted, way: str) -> None:
    """The image's brightest voxel and the segment's only one are at one point in mm; frames come shuffled."""
    orientation = WAYS[way]
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    point = positions(orientation)[5] + 7 * SPACING[0] * column + 13 * SPACING[1] * row
    files = ct(orientation, marker=tuple(point), shuffled=True)
    pixels = np.zeros(SHAPE, bool)
    pixels[5, 7, 13] = True
    order = [6, 5, 0, 3]
    seg = segmentation_of(
        pixels[order],
        positions(orientation)[order],
        orientation=orientation,
        spacing=SPACING,
        thickness=2.0,
        on=files,
    )
    contour = circle(point, 0.3, orientation)
    rt = structure_set({"dot": [contour]}, on=files)
    with series_of(vaulted(*files, seg, rt), files) as series:
        mask, drawn = series.mask("lesion"), series.mask("dot")
        image = series.load(dtype=np.int16)
        affine = series.affine_lps
    assert mask.dtype == np.uint8
    assert image.shape == mask.shape == drawn.shape == SHAPE
    np.testing.assert_array_equal(mask.astype(bool), image == MARKER)
    np.testing.assert_array_equal(drawn, mask)
    (index,) = np.argwhere(mask)
    there = affine @ [index[2], index[1], index[0], 1]
    np.testing.assert_allclose(there[:3], point, atol=1e-4)


def test_several_segments_overlap_and_sparse_frames(vaulted: Vaulted) -> None:
    files = ct(AXIAL)
    first, second = pattern(), np.roll(pattern(), 2, axis=2)
    frames = [(k, n) for n in (1, 2) for k in range(8) if (first, second)[n - 1][k].any()]
    seg = segmentation_of(
        np.stack([(first, second)[n - 1][k] for k, n in frames]),
        positions(AXIAL)[[k for k, _ in frames]],
        [n for _, n in frames],
        orientation=AXIAL,
        spacing=SPACING,
        thickness=2.0,
        labels={1: "Liver", 2: "Cyst"},
        on=files,
    )
    vault = vaulted(*files, seg)
    with series_of(vault, files) as series:
        listed = series.segmentations
        assert [(s.kind, s.label, s.number, s.frames, s.refers) for s in listed] == [
            ("SEG", "Liver", 1, 4, True),
            ("SEG", "Cyst", 2, 4, True),
        ]
        assert listed[0].type is not None
        assert str(listed[0].type) == "Tumor"
        np.testing.assert_array_equal(series.mask("Liver"), first)
        np.testing.assert_array_equal(series.mask(2), second)
        wanted = np.where(second, 2, np.where(first, 1, 0))
        np.testing.assert_array_equal(series.mask(["Liver", "Cyst"]), wanted)
        np.testing.assert_array_equal(series.mask(), wanted)
        other = np.where(first, 2, np.where(second, 1, 0))
        np.testing.assert_array_equal(series.mask(["cyst", "liver"]), other)
        with pytest.raises(UsageError, match="no segment of that label"):
            series.mask("Spleen")
        with pytest.raises(UsageError, match="several labels"):
            series.mask(fractional=True)
        with pytest.raises(UsageError, match="no label"):
            series.mask([])
        with pytest.raises(UsageError, match="source="):
            series.mask("Liver", source="0" * 32)
        found = series.mask("Liver", fractional=True)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, first)
    with pytest.raises(vv.errors.PolicyDenied):
        series.mask("Liver")


def test_fractions_and_label_maps(vaulted: Vaulted) -> None:
    files, where = ct(AXIAL), positions(AXIAL)
    fractions = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 256).astype(np.uint8)
    common = {"orientation": AXIAL, "spacing": SPACING, "thickness": 2.0, "on": files}
    seg = segmentation_of(fractions, where, kind="FRACTIONAL", labels={1: "chance"}, **common)
    numbers = np.where(pattern(), 3, np.where(np.roll(pattern(), 3, 1), 7, 0)).astype(np.uint8)
    numbers[0] = 9
    names = {0: "Background", 3: "three", 7: "seven"}
    order = [7, 5, 6, 4, 3, 2, 1, 0]
    label_map = segmentation_of(
        numbers[order], where[order], kind="LABELMAP", labels=names, series=51, **common
    )
    with series_of(vaulted(*files, seg, label_map), files) as series:
        assert {s.label for s in series.segmentations} == {"chance", "three", "seven"}
        np.testing.assert_allclose(series.mask("chance", fractional=True), fractions / np.float32(255))
        np.testing.assert_array_equal(series.mask("chance"), fractions >= 128)
        np.testing.assert_array_equal(series.mask("seven"), numbers == 7)
        both = np.where(numbers == 7, 1, np.where(numbers == 3, 2, 0))
        np.testing.assert_array_equal(series.mask(["seven", "three"]), both)


def test_another_grid_of_the_same_patient(vaulted: Vaulted) -> None:
    """Drawn on thin sagittal planes, wanted on an axial CT and on an oblique one."""
    ways = {1: AXIAL, 2: OBLIQUE, 3: FEET_FIRST}
    series_files = {
        number: ct_series(
            *SHAPE, orientation=way, spacing=SPACING, origin=about((-14, -8, 12), way), series=number
        )
        for number, way in ways.items()
    }
    fine = np.array([(x, -30.0, 45.0) for x in np.arange(-50, 20, 0.5)])
    size = (140, 160)
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    y, z = -30 + 0.5 * columns, 45 - 0.5 * rows

    def inside(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        ball = (x + 14) ** 2 + (y + 8) ** 2 + (z - 12) ** 2 < 25
        return ball | ((np.abs(x + 12) < 1.5) & (y > -8) & (y < 2) & (z > 12) & (z < 15))

    pixels = np.stack([inside(x, y, z) & np.ones(size, bool) for x in fine[:, 0]])
    seg = segmentation_of(
        pixels, fine, orientation=SAGITTAL, spacing=(0.5, 0.5), thickness=0.5, on=series_files[2]
    )
    vault = vaulted(*[file for files in series_files.values() for file in files], seg)
    for files in series_files.values():
        with series_of(vault, files) as series:
            got, affine = series.mask("lesion").astype(bool), series.affine_lps
            assert [s.refers for s in series.segmentations] == [files is series_files[2]]
        k, r, c = np.indices(got.shape)
        points = np.einsum("ij,j...->i...", affine, np.stack([c, r, k, np.ones_like(c)]))[:3]
        wanted = inside(*points)
        assert wanted.sum() > 100
        moves = [0.45 * (np.array(d)[:, None, None, None] - 1) for d in np.ndindex(3, 3, 3)]
        sure = np.all([inside(*(points + move)) == wanted for move in moves], axis=0)
        np.testing.assert_array_equal(got[sure], wanted[sure])
        assert (got != wanted).mean() < 0.02


def test_objects_that_name_the_series_go_first_and_several_must_be_told_apart(vaulted: Vaulted) -> None:
    files, others = ct(AXIAL), ct(AXIAL, series=2)
    common = {"orientation": AXIAL, "spacing": SPACING, "thickness": 2.0}
    own = segmentation_of(pattern(), positions(AXIAL), on=files, series=50, **common)
    near = segmentation_of(~pattern(), positions(AXIAL), on=others, series=51, **common)
    vault = vaulted(*files, *others, own, near)
    with series_of(vault, files) as series:
        assert [s.refers for s in series.segmentations] == [True, False]
        np.testing.assert_array_equal(series.mask("lesion"), pattern())
        far = series.segmentations[1].instance_id
        np.testing.assert_array_equal(series.mask("lesion", source=far), ~pattern())
    again = segmentation_of(pattern(), positions(AXIAL), on=files, series=52, **common)
    inbox = io.BytesIO(again)
    path = vault.path.parent / "again.dcm"
    path.write_bytes(inbox.getvalue())
    vault.ingest(path, progress=False)
    with series_of(vault, files) as series:
        with pytest.raises(UsageError, match=r"pass source= one of [0-9a-f]{32}, [0-9a-f]{32}"):
            series.mask("lesion")
        first = series.segmentations[0].instance_id
        np.testing.assert_array_equal(series.mask("lesion", source=first), pattern())


def test_another_frame_of_reference_is_refused(vaulted: Vaulted) -> None:
    files = ct(AXIAL)
    elsewhere = uid("elsewhere")
    common = {"orientation": AXIAL, "spacing": SPACING, "frame_of_reference": elsewhere}
    seg = segmentation_of(pattern(), positions(AXIAL), on=files, **common)
    strange = segmentation_of(pattern(), positions(AXIAL), labels={1: "no"}, series=51, **common)
    contour = circle(positions(AXIAL)[3] + 5, 3.0, AXIAL)
    rt = structure_set({"drawn": [contour]}, on=files, frame_of_reference=elsewhere)
    points = structure_set({"points": [contour]}, on=files, closed=False, series=61)
    with series_of(vaulted(*files, seg, strange, rt, points), files) as series:
        assert {s.label for s in series.segmentations} == {"lesion", "drawn", "points"}
        for label in ("lesion", "drawn"):
            with pytest.raises(GeometryError, match="another frame of reference"):
                series.mask(label)
        with pytest.raises(GeometryError, match="points or lines"):
            series.mask("points")


def test_another_person_s_segmentation_is_never_laid_on_a_series(vaulted: Vaulted) -> None:
    files = ct(AXIAL)
    seg = segmentation_of(
        pattern(), positions(AXIAL), orientation=AXIAL, spacing=SPACING, on=files, series=50, seed=0
    )
    dataset = pydicom.dcmread(io.BytesIO(seg))
    dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID = "other", "Other^Person", uid("other")
    out = io.BytesIO()
    dataset.save_as(out)
    with series_of(vaulted(*files, out.getvalue()), files) as series:
        assert series.segmentations == []
        with pytest.raises(UsageError, match="no segmentation"):
            series.mask()


def test_time_points_drawn_on_their_own_images(vaulted: Vaulted) -> None:
    files = mr_series(4, 16, 16, times=2, orientation=AXIAL)
    where = np.tile(slice_positions(4, orientation=AXIAL, step=3.0), (2, 1))
    pixels = np.zeros((8, 16, 16), bool)
    pixels[:4, 2:5, 3:9], pixels[4:, 9:12, 3:6] = True, True
    seg = segmentation_of(
        pixels, where, orientation=AXIAL, spacing=(1.0, 1.0), thickness=3.0, on=files, sources=files
    )
    once = segmentation_of(
        pixels[:4],
        where[:4],
        orientation=AXIAL,
        spacing=(1.0, 1.0),
        thickness=3.0,
        on=files,
        sources=files[:4],
        labels={1: "still"},
        series=51,
    )
    with series_of(vaulted(*files, seg, once), files) as series:
        assert len(series.stacks) == 2
        np.testing.assert_array_equal(series.mask("lesion", stack=0), pixels[:4])
        np.testing.assert_array_equal(series.mask("lesion", stack=1), pixels[4:])
        # Drawn once, it holds wherever it lies.
        np.testing.assert_array_equal(series.mask("still", stack=1), pixels[:4])
        with pytest.raises(UsageError, match="stack="):
            series.mask("lesion")


def test_images_without_a_place_are_labelled_by_reference(vaulted: Vaulted) -> None:
    files = [flat(file, n) for n, file in enumerate(ct_series(3, 16, 12))]
    pixels = pattern((8, 16, 16))[2:4, :, :12]
    common = {"orientation": AXIAL, "spacing": (1, 1), "frame_of_reference": None}
    seg = segmentation_of(pixels, [None, None], on=files, sources=[files[2], files[0]], **common)
    small = segmentation_of(
        pixels[:, :8], [None, None], on=files, sources=files[:2], labels={1: "small"}, series=51, **common
    )
    with series_of(vaulted(*files, seg, small), files) as series:
        mask = series.mask("lesion", stack=0)
        uids = [pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID for file in files]
        headers = [series.header(k).get("SOPInstanceUID") for k in range(3)]
        assert headers == uids
        np.testing.assert_array_equal(mask[2], pixels[0])
        np.testing.assert_array_equal(mask[0], pixels[1])
        assert not mask[1].any()
        with pytest.raises(GeometryError, match="no place in this series"):
            series.mask("small", stack=0)


def flat(file: bytes, number: int) -> bytes:
    """Take an image's place in the patient away."""
    dataset = pydicom.dcmread(io.BytesIO(file))
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        delattr(dataset, keyword)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def test_structures_with_holes_and_contours_of_another_series(vaulted: Vaulted) -> None:
    files, thin = ct(AXIAL), ct_series(15, 24, 20, spacing=SPACING, origin=CORNER, step=1.0, series=2)
    where = positions(AXIAL)
    middles = where + np.array([6.1, 9.1, 0])
    ring = [circle(m, r, AXIAL) for m in middles[2:5] for r in (5.0, 2.0)]
    rt = structure_set({"ring": ring}, on=files)
    vault = vaulted(*files, *thin, rt)
    rows, columns = np.indices((24, 20))
    away = np.hypot(rows * 0.8 - 9.1, columns * 0.6 - 6.1)
    wanted = (away < 5) & (away > 2)
    with series_of(vault, files) as series:
        assert [(s.kind, s.frames) for s in series.segmentations] == [("RTSTRUCT", 6)]
        mask = series.mask("ring")
        assert [k for k in range(8) if mask[k].any()] == [2, 3, 4]
        np.testing.assert_array_equal(mask[3], wanted)
    with series_of(vault, thin) as series:
        mask = series.mask("ring")
        # Planes 2 mm apart stand for 2 mm each: slices at 3 to 8 mm of 4, 6, 8.
        assert [k for k in range(15) if mask[k].any()] == [3, 4, 5, 6, 7, 8]
        np.testing.assert_array_equal(mask[5], wanted)


def test_a_look_and_a_mask_are_entered_in_the_log(vaulted: Vaulted) -> None:
    files = ct(AXIAL)
    seg = segmentation_of(pattern(), positions(AXIAL), orientation=AXIAL, spacing=SPACING, on=files)
    vault = vaulted(*files, seg)
    with series_of(vault, files) as series:
        before = len(vault.audit)
        series.segmentations
        assert len(vault.audit) == before + 1
        series.mask("lesion")
    entries = sorted(vault.audit.log(), key=lambda entry: entry.index)[before:]
    assert [entry.kind for entry in entries] == [
        "query",
        "query",
        "handle.opened",
        "handle.closed",
        "handle.closed",
    ]
    assert entries[2].codes["type"] == ("mask",)
    assert entries[3].counts["frames"] == SHAPE[0]
    assert entries[2].ids["series"] != entries[4].ids["series"]


def test_labels_and_findings_of_many_series_at_once(vaulted: Vaulted) -> None:
    files, others = ct(AXIAL), ct(SAGITTAL, series=2)
    seg = segmentation_of(pattern(), positions(AXIAL), orientation=AXIAL, spacing=SPACING, on=files)
    rt = structure_set({"heart": [circle((0, 0, 0), 3, AXIAL)]}, on=files)
    vault = vaulted(*files, *others, seg, rt, measurement_report(files, seg))
    with series_of(vault, files) as one, series_of(vault, others) as two:
        ids = [str(series._row["series_id"]) for series in (one, two)]
    resources, before = vault.resources, len(vault.audit.log())
    assert labels_in_vault(resources, ids) == {ids[0]: ["lesion", "heart"], ids[1]: ["lesion", "heart"]}
    assert labels_in_vault(resources, ids[:1], "RTSTRUCT")[ids[0]] == ["heart"]
    found = findings_in_vault(resources, ids)
    assert [finding.value for finding in found[ids[0]] if finding.kind == "NUM"] == [12.5]
    assert found[ids[0]][1].references[0].segments == (1,)
    assert found[ids[1]] == []
    entries = vault.audit.log()[before:]
    # Findings are diagnoses.
    assert [str(entry.kind) for entry in entries] == ["query", "query", "identifying.read"]
    assert [entry.ids["series"] for entry in entries] == [tuple(sorted(ids)), (ids[0],), tuple(sorted(ids))]


def test_labels_have_the_same_value_in_every_series_and_fit_into_a_byte(vaulted: Vaulted) -> None:
    files = ct(AXIAL)
    vault = vaulted(
        *files, segmentation_of(pattern(), positions(AXIAL), orientation=AXIAL, spacing=SPACING, on=files)
    )
    with series_of(vault, files) as series:
        series_id = str(series._row["series_id"])
    found = segments_in_vault(vault.resources, [series_id])[series_id]
    plan = plan_for(found, ["liver", "Lesion"])
    assert plan is not None
    assert [source.values for source in plan.sources] == [((1, 2),)]
    assert plan_for(found, ["liver"]) is None
    with pytest.raises(UsageError, match="255 labels"):
        plan_for(found, [*(f"label {number}" for number in range(255)), "lesion"])


def test_a_plan_pickles_without_names_and_needs_packs_only(vaulted: Vaulted) -> None:
    files = ct(AXIAL)
    seg = segmentation_of(
        pattern(), positions(AXIAL), orientation=AXIAL, spacing=SPACING, on=files, labels={1: "tumour"}
    )
    rt = structure_set({"heart": [circle(positions(AXIAL)[3] + np.array([6, 9, 0]), 3, AXIAL)]}, on=files)
    vault = vaulted(*files, seg, rt)
    with series_of(vault, files) as series:
        series_id = str(series._row["series_id"])
        wanted = series.mask(["tumour", "heart"])
    resources = vault.resources
    plan = plan_masks(segments_in_vault(resources, [series_id])[series_id], ["tumour", "heart"])
    data = pickle.dumps(plan)
    for secret in (b"tumour", b"heart", b"2.25.", series.uid.encode()):
        assert secret not in data
    opened = open_many(resources, [series_id, *plan.series_ids], kind_code="loader")
    stack = opened.series(series_id).stacks[0]
    got = pickle.loads(data).make(opened.packs, stack, guard=opened.handle)
    opened.close()
    np.testing.assert_array_equal(got, wanted)
    assert opened.handle.frames == SHAPE[0]
    assert set(np.unique(got)) == {0, 1, 2}

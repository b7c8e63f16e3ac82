"""Values of every image of the real files and of every synthetic kind, against pydicom's."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from material import Filled, Material
from truth import JPEG, Truth

import voxelvault as vv
from voxelvault.errors import GeometryError, NoPixels, StackChoiceNeeded, UsageError
from voxelvault.series import Series

SMALL = 1_500_000
"""Values up to which a volume is read again, lazily."""


def holding(filled: Filled, name: str) -> Series:
    """Return the open series that a source file is part of."""
    digest = next(d for path, d in filled.material.files.items() if str(path).endswith(name))
    query = "select series_id from instances where sha256 = ?"
    return filled.series[filled.vault.sql(query, [digest]).fetchall()[0][0]]


def stack_of(series: Series, filled: Filled, name: str) -> int:
    """Return the stack that holds a source file's first frame."""
    digest = next(d for path, d in filled.material.files.items() if str(path).endswith(name))
    (wanted,) = filled.vault.sql("select instance_id from instances where sha256 = ?", [digest]).fetchall()[0]
    return next(n for n in range(len(series.stacks)) if wanted in {member for member, _ in series.members(n)})


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference, as a part of values beyond 1; padding (nan) is left out."""
    assert ours.shape == theirs.shape
    there = np.isfinite(ours) if ours.dtype.kind == "f" else np.ones(ours.shape, bool)
    off = np.abs(ours[there].astype(np.float64) - theirs[there].astype(np.float64)).max(initial=0)
    return float(off / max(1.0, np.abs(theirs[np.isfinite(theirs)]).max(initial=0)))


def compare(series: Series, stack: int, sources: dict[str, Path], cache: dict[str, Truth]) -> str:
    """Compare one volume frame by frame; return what is wrong with it."""
    volume, members = series.load(stack), series.members(stack)
    positions = series.geometry(stack).positions
    for index, (instance_id, number) in enumerate(members):
        if instance_id not in cache:
            cache[instance_id] = Truth(sources[instance_id])
        truth = cache[instance_id]
        values, place = truth.values(number - 1), truth.position(number - 1)
        # Decoders of lossy JPEG may differ in the last bit of a colour, as T.83 allows.
        lossy = values.dtype == np.uint8 and str(truth.dataset.file_meta.TransferSyntaxUID) in JPEG
        if difference(volume[index], values) > (1 / max(1, values.max()) if lossy else 1e-6):
            return f"{truth.path.name} frame {number}: values differ"
        if place is not None and np.isfinite(positions[index]).all():
            if np.abs(place - positions[index]).max() > 1e-6:
                return f"{truth.path.name} frame {number}: another place"
    return ""


def wrong_volumes(filled: Filled) -> tuple[list[str], int, int]:
    sources, wrong, volumes, frames = filled.sources(), [], 0, 0
    for series in filled.series.values():
        cache: dict[str, Truth] = {}
        for stack in range(len(series.stacks)):
            problem = compare(series, stack, sources, cache)
            wrong += [problem] if problem else []
            volumes, frames = volumes + 1, frames + len(series.members(stack))
    return wrong, volumes, frames


def test_every_volume_has_the_values_that_pydicom_reads(filled: Filled) -> None:
    wrong, volumes, frames = wrong_volumes(filled)
    assert wrong == []
    readable = filled.vault.sql(
        "select count(*) from frames join instances using (instance_id) where not superseded"
    ).fetchall()
    assert frames == readable[0][0]
    if filled.material.manifest:
        assert (volumes, frames) >= (230, 1700)


def test_every_synthetic_kind_has_the_values_that_pydicom_reads(synthetic: Filled) -> None:
    wrong, volumes, _ = wrong_volumes(synthetic)
    assert wrong == []
    assert volumes >= 40


def test_frames_stand_in_order_of_space(filled: Filled) -> None:
    """Along the normal, as the cross product of row and column has it (PS3.3 C.7.6.2.1.1)."""
    checked = 0
    for series in filled.series.values():
        for stack in range(len(series.stacks)):
            group = series.geometry(stack)
            if group.orientation is None or len(group.positions) < 2:
                continue
            normal = np.cross(group.orientation[:3], group.orientation[3:])
            assert np.all(np.diff(group.positions @ normal) >= -1e-6)
            checked += 1
    assert checked >= (60 if filled.material.manifest else 3)


def test_lazy_reads_are_the_same(filled: Filled, synthetic: Filled) -> None:
    checked = 0
    for series in itertools.chain(filled.series.values(), synthetic.series.values()):
        for stack in range(len(series.stacks)):
            loaded_all = None
            lazy = series.volume(stack)
            if lazy.size > SMALL:
                continue
            loaded_all = series.load(stack)
            assert lazy.dtype == loaded_all.dtype
            np.testing.assert_array_equal(np.asarray(lazy), loaded_all)
            np.testing.assert_array_equal(series.to_xarray(stack).values, loaded_all)
            stored = series.load(stack, units="stored")
            np.testing.assert_array_equal(np.asarray(series.frames(stack)), stored)
            checked += 1
    assert checked >= 40


def test_a_slice_of_a_lazy_volume(synthetic: Filled) -> None:
    series = holding(synthetic, "ct_0.dcm")
    stored = series.load(units="stored")
    np.testing.assert_array_equal(np.asarray(series.pixels[3, 5:9, ::2]), stored[3, 5:9, ::2])
    np.testing.assert_array_equal(np.asarray(series.pixels[[5, 1]]), stored[[5, 1]])
    np.testing.assert_array_equal(series.to_xarray()[::-1][2, 7].values, series.load()[::-1][2, 7])


# --- what single kinds of images need -------------------------------------------------------------


def test_pet_has_a_slope_for_each_slice(synthetic: Filled) -> None:
    series = holding(synthetic, "pet_0.dcm")
    sources = synthetic.sources()
    slopes = [Truth(sources[i]).rescale(0)[0] for i, _ in series.members()]
    assert len(set(slopes)) == 5
    stored = series.load(units="stored")
    expected = stored * np.array(slopes)[:, None, None]
    np.testing.assert_allclose(series.load(), expected, rtol=1e-6)
    assert series.unit() == "BQML"


def test_slopes_that_differ_within_real_series(filled: Filled) -> None:
    rows = filled.vault.sql(
        "select series_id from frames group by all having count(distinct RescaleSlope) > 1"
    ).fetchall()
    sources = filled.sources()
    for (series_id,) in rows:
        series = filled.series[series_id]
        truths = {i: Truth(sources[i]) for n in range(len(series.stacks)) for i, _ in series.members(n)}
        for stack in range(len(series.stacks)):
            rescales = [truths[i].rescale(number - 1) for i, number in series.members(stack)]
            slopes, intercepts = np.array(rescales).T[:, :, None, None]
            stored = series.load(stack, units="stored")
            expected = stored * slopes + intercepts
            values = series.load(stack, units="modality")
            np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert len(rows) >= (3 if filled.material.manifest else 0)


def test_suv_only_on_request(synthetic: Filled) -> None:
    """70 kg, 370 MBq of F-18 an hour before the scan: worked by hand."""
    series = holding(synthetic, "pet_0.dcm")
    plain, suv = series.load(), series.load(units="suvbw")
    left = 3.7e8 * 2 ** (-3600 / 6586.2)
    np.testing.assert_allclose(suv, plain * (70_000 / left), rtol=1e-5)
    assert (series.unit(), series.unit(units="suvbw")) == ("BQML", "g/ml")
    assert series.to_xarray(units="suvbw").attrs["units"] == "g/ml"
    with pytest.raises(GeometryError, match=r"no SUV: .*; use the values in their own unit"):
        holding(synthetic, "ct_0.dcm").load(units="suvbw")


def test_hounsfield_units(synthetic: Filled) -> None:
    series = holding(synthetic, "ct_0.dcm")
    assert series.unit() == "HU"
    volume = series.load()
    assert volume.dtype == np.float32
    assert volume.min() >= -1000
    assert volume.max() <= 1000
    assert series.load(units="stored").dtype == np.uint16
    np.testing.assert_array_equal(series.load(units="stored").astype(int) - 1024, volume)


def test_enhanced_rescale_comes_from_the_frame_then_from_all(synthetic: Filled) -> None:
    ct, mr = holding(synthetic, "enhanced_CT.dcm"), holding(synthetic, "enhanced_MR.dcm")
    stored, numbers = ct.load(units="stored"), np.array([number for _, number in ct.members()])
    assert list(numbers) == [5, 4, 3, 2, 1], "frames stand in reverse order in the file"
    np.testing.assert_allclose(ct.load(), stored * numbers[:, None, None] - 1024.0)
    np.testing.assert_allclose(mr.load(), mr.load(units="stored") * 2.0 - 5.0)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("kind_one_bit.dcm", "uint8"),
        ("kind_signed_8.dcm", "int8"),
        ("kind_signed_16.dcm", "int16"),
        ("kind_signed_32.dcm", "int32"),
        ("kind_unsigned_32.dcm", "uint32"),
        ("kind_float.dcm", "float32"),
        ("kind_double.dcm", "float64"),
        ("kind_deflated.dcm", "uint16"),
        ("kind_big_endian_16.dcm", "uint16"),
        ("kind_big_endian_8_in_words.dcm", "uint8"),
    ],
)
def test_stored_values_keep_their_dtype(synthetic: Filled, name: str, dtype: str) -> None:
    series = holding(synthetic, name)
    stack = stack_of(series, synthetic, name)
    stored = series.load(stack, units="stored")
    assert stored.dtype == np.dtype(dtype) == series.frames(stack).dtype
    truth = Truth(synthetic.sources()[series.members(stack)[0][0]])
    np.testing.assert_array_equal(np.squeeze(stored), np.squeeze(truth.stored))


def test_wide_values_in_double(synthetic: Filled) -> None:
    series = holding(synthetic, "kind_unsigned_32.dcm")
    exact = series.load(units="stored").astype(np.float64)
    np.testing.assert_array_equal(series.load(dtype=np.float64), exact)
    np.testing.assert_array_equal(series.load(dtype=np.uint32), exact)


def test_palette_and_rgb(synthetic: Filled) -> None:
    series = holding(synthetic, "kind_PALETTE_COLOR.dcm")
    colours, indexes = series.load(), series.load(units="stored")
    assert colours.shape == (*indexes.shape, 3)
    assert colours.dtype == np.uint8
    assert series.pixels.shape == indexes.shape
    with pytest.raises(UsageError, match="colour is not resampled"):
        series.to_xarray(resample=True)


def test_subsampled_colour_has_its_chroma_for_every_pixel(synthetic: Filled) -> None:
    """Native YBR_FULL_422: Y1 Y2 Cb Cr for each pair of columns (PS3.3 C.7.6.3.1.2)."""
    series = holding(synthetic, "kind_YBR_FULL_422.dcm")
    raw = Truth(synthetic.sources()[series.members()[0][0]]).dataset.PixelData
    quads = np.frombuffer(raw, np.uint8).reshape(32, 20, 4)
    stored = series.load(units="stored")[0]
    np.testing.assert_array_equal(stored[:, 0::2], quads[..., [0, 2, 3]])
    np.testing.assert_array_equal(stored[:, 1::2], quads[..., [1, 2, 3]])
    assert series.pixels.shape == (1, 32, 40, 3)


def test_whole_slide_tiles(filled: Filled) -> None:
    if not filled.material.manifest:
        pytest.skip("slide microscopy is in the shared files only")
    tiled = [series for series in filled.series.values() if series.modality == "SM"]
    assert tiled
    for series in tiled:
        for stack in range(len(series.stacks)):
            tiles = series.load(stack)
            assert len(tiles) == len(series.members(stack)) > 1
    assert any(series.load(0).ndim == 4 for series in tiled)


def test_modality_table(filled: Filled) -> None:
    """4096 entries from -2048 on: values no line describes (PS3.3 C.11.1.1.1)."""
    if not filled.material.manifest:
        pytest.skip("modality look-up tables are in the shared files only")
    series = holding(filled, "mlut_18.dcm")
    item = Truth(filled.sources()[series.members()[0][0]]).dataset.ModalityLUTSequence[0]
    table = np.frombuffer(item.LUTData, "<u2") if isinstance(item.LUTData, bytes) else np.array(item.LUTData)
    stored = series.load(units="stored").astype(int)
    np.testing.assert_array_equal(series.load(), table[np.clip(stored + 2048, 0, 4095)])


def test_padding_is_masked(filled: Filled) -> None:
    masked = 0
    for series in filled.series.values():
        for stack in range(len(series.stacks)):
            if series.modality != "CT" or not np.isnan(volume := series.load(stack)).any():
                continue
            gone = np.isnan(volume)
            kept, stored = series.load(stack, padding="keep"), series.load(stack, units="stored")
            assert np.isfinite(kept).all()
            np.testing.assert_array_equal(kept[~gone], volume[~gone])
            dataset = Truth(filled.sources()[series.members(stack)[0][0]]).dataset
            value = dataset.PixelPaddingValue
            values = np.array([value, dataset.get("PixelPaddingRangeLimit", value)]).astype(stored.dtype)
            np.testing.assert_array_equal(gone, (stored >= values.min()) & (stored <= values.max()))
            masked += 1
    assert masked >= (3 if filled.material.manifest else 0)


# --- choices, refusals, destinations --------------------------------------------------------------


def test_several_stacks_ask_which(synthetic: Filled) -> None:
    series = holding(synthetic, "mr_0.dcm")
    assert len(series.stacks) == len(set(series.stacks)) == 4
    for read in (series.load, series.volume, series.frames, series.to_xarray, series.geometry):
        with pytest.raises(
            StackChoiceNeeded, match=r"; pass stack= one of 0: 'echo 10 ms, time 1'"
        ) as caught:
            read()
        assert "\n" not in str(caught.value)
    with pytest.raises(StackChoiceNeeded, match="several stacks"):
        series.affine_lps
    for number, label in enumerate(series.stacks):
        np.testing.assert_array_equal(series.load(label), series.load(number))
    with pytest.raises(StackChoiceNeeded, match="no such stack"):
        series.load("echo 3 ms")
    with pytest.raises(StackChoiceNeeded, match="no such stack"):
        series.load(4)


def test_labels_name_one_stack_each(filled: Filled) -> None:
    several = 0
    for series in filled.series.values():
        several += len(series.stacks) > 1
        assert len(series.stacks) == len(set(series.stacks))
        assert all(label and label.isprintable() and len(label) < 80 for label in series.stacks)
        if len(series.stacks) > 1:
            with pytest.raises(StackChoiceNeeded) as caught:
                series.load()
            assert len(str(caught.value)) < 1200
            assert not any(digits.count(".") > 4 for digits in str(caught.value).split()), "no UID in it"
    assert several >= (15 if filled.material.manifest else 1)


def test_series_without_pixels_say_so(filled: Filled, synthetic: Filled) -> None:
    without = 0
    for series in itertools.chain(filled.series.values(), synthetic.series.values()):
        if series.stacks:
            continue
        without += 1
        for read in (series.load, series.volume, series.frames, series.show, series.contact_sheet):
            with pytest.raises(NoPixels, match=r"no pixels that can be decoded; `export` gives its files"):
                read()
        assert "no pixels" in repr(series)
    assert without >= 3


def test_video_is_kept_and_says_that_it_is_no_array(synthetic: Filled) -> None:
    series = holding(synthetic, "kind_video.dcm")
    with pytest.raises(NoPixels, match="export"):
        series.load()


def test_out_is_filled_and_returned(synthetic: Filled) -> None:
    series = holding(synthetic, "ct_0.dcm")
    shape = series.volume().shape
    for dtype in (np.float32, np.float64, np.int16, np.int32):
        out = np.empty(shape, dtype)
        assert series.load(out=out) is out
        np.testing.assert_array_equal(out, series.load(dtype=np.float64))
    stored = np.empty(shape, np.uint16)
    series.load(out=stored, units="stored")
    np.testing.assert_array_equal(stored, np.asarray(series.pixels))
    wide = series.load(units="stored", dtype=np.float32)
    np.testing.assert_array_equal(wide, stored)


def test_destinations_that_do_not_fit(synthetic: Filled) -> None:
    series = holding(synthetic, "ct_0.dcm")
    shape = series.volume().shape
    for wrong in (np.empty(shape[1:], np.float32), np.empty(shape, np.float32, order="F")):
        with pytest.raises(UsageError, match=r"out= must be a writeable C-contiguous array of shape"):
            series.load(out=wrong)
    with pytest.raises(UsageError, match="out= must be"):
        series.load(out=np.empty(shape, np.float32), dtype=np.float64)
    for dtype in (np.uint8, np.uint16):
        with pytest.raises(UsageError, match="cannot hold these values; use float32"):
            series.load(dtype=dtype)
    with pytest.raises(UsageError, match="cannot hold these values"):
        holding(synthetic, "kind_float.dcm").load(dtype=np.int32)
    with pytest.raises(UsageError, match="no units 'hu'"):
        series.load(units="hu")
    with pytest.raises(UsageError, match="cannot hold"):
        series.load(units="stored", dtype=np.int8)


def test_read_only_out_is_refused(synthetic: Filled) -> None:
    series = holding(synthetic, "ct_0.dcm")
    out = np.zeros(series.volume().shape, np.float32)
    out.flags.writeable = False
    with pytest.raises(UsageError, match="writeable"):
        series.load(out=out)


def test_a_series_is_an_array(synthetic: Filled) -> None:
    series = holding(synthetic, "ct_0.dcm")
    np.testing.assert_array_equal(np.asarray(series), series.load())
    assert np.asarray(series, dtype=np.int16).dtype == np.int16
    assert np.array(series).mean() == series.load().mean()
    with pytest.raises(ValueError, match="fresh array"):
        np.asarray(series, copy=False)


def test_everything_can_be_looked_at(filled: Filled, synthetic: Filled) -> None:
    """One slice of every volume: sixteen-bit colour, bits, floats and odd sizes are pictures as well."""
    for series in itertools.chain(filled.series.values(), synthetic.series.values()):
        for stack in range(min(len(series.stacks), 2)):
            picture = series.contact_sheet(stack=stack, count=1)
            assert picture.mode == "RGB"
            assert min(picture.size) > 20
    ct = holding(synthetic, "ct_0.dcm")
    assert ct.show("brain").tobytes() == ct.contact_sheet("brain").tobytes()
    with pytest.raises(UsageError, match="window presets are for Hounsfield units"):
        holding(synthetic, "pet_0.dcm").show("brain")


def test_sixteen_bit_colour_keeps_its_shades(wheel_dicom: Path, tmp_path: Path) -> None:
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(wheel_dicom / "SC_rgb_rle_16bit.dcm", progress=False)
        series = vault.series(vault.sql("select SeriesInstanceUID from series").fetchall()[0][0])
        colours = series.load()
        assert colours.dtype == np.uint16
        shades = np.unique(np.asarray(series.contact_sheet()))
        assert set(np.unique(colours >> 8)) <= set(shades)


CUT_SHORT = "emri_small_jpeg_2k_lossless_too_short.dcm"
"""Its last delimiter is missing: pydicom drops the pixels, though all ten frames are there."""


def test_a_missing_delimiter_costs_no_frames(filled: Filled, tmp_path: Path) -> None:
    names = {path.name: path for path in filled.material.files}
    if CUT_SHORT not in names:
        pytest.skip("the file is in the shared files only")
    volumes = []
    for name in (CUT_SHORT, CUT_SHORT.replace("_too_short", "")):
        with vv.create(tmp_path / name) as vault:
            vault.ingest(names[name], progress=False)
            uid = vault.sql("select SeriesInstanceUID from series").fetchall()[0][0]
            volumes.append(vault.series(uid).load())
    assert len(volumes[0]) == 10
    np.testing.assert_array_equal(*volumes)


@pytest.mark.long
def test_versions_that_another_superseded(filled: Filled, tmp_path: Path) -> None:
    """Files that share a SOP Instance UID: each is current in a vault where it came alone."""
    rows = filled.vault.sql("select sha256 from instances where superseded").fetchall()
    by_digest = {digest: path for path, digest in filled.material.files.items()}
    left, rounds = [by_digest[digest] for (digest,) in rows], 0
    # Of these two pydicom reads no pixels; the second says that it has 1A frames.
    left = [path for path in left if path.name not in (CUT_SHORT, "badVR.dcm")]
    while left:
        rounds += 1
        with vv.create(tmp_path / f"vault {rounds}") as vault:
            report = vault.ingest(*left, progress=False)
            again = Filled(vault, Material((), {p: filled.material.files[p] for p in left}, {}), report)
            assert wrong_volumes(again)[0] == []
            rows = vault.sql("select sha256 from instances where superseded").fetchall()
        left = [by_digest[digest] for (digest,) in rows]
        assert rounds < 30

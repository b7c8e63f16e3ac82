"""Structure sets: the real one, which has contours, and made ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from voxelvault.dicom.mask_contours import paint_contours
from voxelvault.dicom.mask_grid import Grid
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header
from voxelvault.dicom.rtstruct import StructureSet, read_structure_set
from voxelvault.errors import MalformedDicom
from voxelvault.testing.synthetic import AXIAL, EXPLICIT, IMPLICIT, ct_series
from voxelvault.testing.synthetic_segmentation import circle, structure_set

REAL = "pydicom+pydicom/src/pydicom/data/test_files/rtstruct.dcm"


def read(data: bytes) -> StructureSet:
    part10 = parse(data)
    return read_structure_set(Header.from_part10(part10), part10.data)


def test_the_real_one_has_contours_of_one_region_and_two_points(shared_dicom: Path) -> None:
    found, dataset = (
        read((shared_dicom / REAL).read_bytes()),
        pydicom.dcmread(shared_dicom / REAL, force=True),
    )
    assert [region.label for region in found.regions] == ["patient", "Isocenter 1", "Isocenter 2"]
    assert [len(region.contours) for region in found.regions] == [3, 0, 0]
    assert [region.others for region in found.regions] == [0, 1, 1]
    for points, item in zip(
        found.regions[0].contours, dataset.ROIContourSequence[0].ContourSequence, strict=True
    ):
        np.testing.assert_array_equal(points.reshape(-1), np.array(item.ContourData, float))
    assert found.series == {
        dataset.ReferencedFrameOfReferenceSequence[0]
        .RTReferencedStudySequence[0]
        .RTReferencedSeriesSequence[0]
        .SeriesInstanceUID
    }
    assert (
        found.regions[0].frame_of_reference
        == dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    )


def test_the_real_one_s_box_on_a_grid(shared_dicom: Path) -> None:
    contours = read((shared_dicom / REAL).read_bytes()).regions[0].contours
    corners = np.concatenate(contours)
    assert np.ptp(corners, axis=0).tolist() == [400.0, 300.0, 20.0]
    places = np.arange(-230.0, -149.0, 10.0)
    positions = np.array([(-249.0, -249.0, z) for z in places])
    grid = Grid(positions, np.array([1.0, 0, 0, 0, 1, 0]), (2.0, 2.0), 250, 250, 10.0)
    out = np.zeros(grid.shape, np.uint8)
    paint_contours(out, grid, contours, 1)
    filled = [float(z) for z, one in zip(places, out, strict=True) if one.any()]
    assert filled == [-200.0, -190.0, -180.0]
    # 400 x 300 mm of pixels of 4 square mm: the box is where its corners say, and nowhere else.
    box = out[list(places).index(-200.0)]
    rows, columns = np.nonzero(box)
    assert (columns.min() * 2 - 249, columns.max() * 2 - 249) == (-199, 199)
    assert (rows.min() * 2 - 249, rows.max() * 2 - 249) == (-149, 149)
    assert box.sum() == 200 * 150


@pytest.mark.filterwarnings("ignore:.*exceeds the size of 64 kByte:UserWarning")
@pytest.mark.parametrize("transfer_syntax", [IMPLICIT, EXPLICIT])
def test_a_contour_too_long_for_a_header_is_read_from_the_data(transfer_syntax: str) -> None:
    """In explicit files it is too long for its own VR and becomes UN."""
    drawn = circle((1.5, 2.5, 7.0), 80.0, AXIAL, points=60_000)
    regions = {"long": [drawn], "short": [drawn[::600]]}
    data = structure_set(regions, on=ct_series(1, 8, 8), transfer_syntax=transfer_syntax)
    part10 = parse(data)
    header = Header.from_part10(part10)
    assert "BulkDataURI" in json.dumps(json.loads(header.json())["30060039"])
    long, short = read(data).regions
    np.testing.assert_allclose(long.contours[0], drawn, atol=1e-3)
    np.testing.assert_allclose(short.contours[0], drawn[::600], atol=1e-3)
    with pytest.raises(MalformedDicom, match="no triples"):
        read_structure_set(header)


def test_points_that_are_no_triples_are_refused() -> None:
    data = structure_set({"odd": [np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])]})
    model = json.loads(Header.from_part10(parse(data)).json())
    contour = model["30060039"]["Value"][0]["30060040"]["Value"][0]
    for values in ([1.0, 2.0], [1.0, 2.0, None], [1.0, 2.0, "left"]):
        contour["30060050"]["Value"] = values
        with pytest.raises(MalformedDicom, match="no triples"):
            read_structure_set(Header(model))

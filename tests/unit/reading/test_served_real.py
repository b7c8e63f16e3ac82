"""Real files served in other transfer syntaxes: pydicom reads from them what it reads from the originals."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array

import voxelvault as vv
from voxelvault.reading.many import open_many
from voxelvault.series import series_of

NATIVE, HTJ2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.201"


def chosen(folder: Path) -> list[Path]:
    """One small file of each transfer syntax, colour space, depth and sign."""
    found: dict[tuple[object, ...], Path] = {}
    for row in csv.DictReader((folder / "MANIFEST.csv").open()):
        path = folder / row["path"]
        if row["decode_ok"] != "yes" or path.stat().st_size > 600_000:
            continue
        head = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        names = ("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
        kind = (row["transfer_syntax_uid"], *(str(head.get(name)) for name in names))
        found.setdefault(kind, path)
    return list(found.values())


def values(dataset: pydicom.Dataset) -> np.ndarray:
    """Values without what else lies in their words."""
    plugin = "pylibjpeg" if dataset.file_meta.get("TransferSyntaxUID") == HTJ2K else ""
    words = pixel_array(dataset, decoding_plugin=plugin, raw=True)
    unused = 8 * words.dtype.itemsize - dataset.get("BitsStored", 8 * words.dtype.itemsize)
    return words if words.dtype.kind == "f" or dataset.BitsAllocated == 1 else (words << unused) >> unused


@pytest.mark.filterwarnings("ignore")
def test_real_files_say_the_same_in_other_syntaxes(
    shared_dicom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    compared = dict.fromkeys((NATIVE, HTJ2K), 0)
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(*chosen(shared_dicom), progress=False)
        ids = vault.resources.catalog.query("select series_id from series")["series_id"].to_pylist()
        opened = open_many(vault.resources, ids, kind_code="series")
        for series_id in ids:
            for instance in series_of(vault.resources, opened, series_id).instances:
                syntaxes = [uid for uid in instance.transfer_syntaxes[1:] if uid in compared]
                if not syntaxes or not len(instance):
                    continue
                try:
                    source = values(pydicom.dcmread(io.BytesIO(instance.as_dicom()), force=True))
                except (RuntimeError, NotImplementedError, AttributeError):
                    continue  # pydicom has no decoder for it; ours are compared elsewhere
                for syntax in syntaxes:
                    served = pydicom.dcmread(io.BytesIO(instance.as_dicom(syntax)))
                    assert served.file_meta.TransferSyntaxUID == syntax
                    np.testing.assert_array_equal(values(served), source, instance.instance_id)
                    compared[syntax] += 1
    assert compared[NATIVE] >= 15
    assert compared[HTJ2K] >= 25

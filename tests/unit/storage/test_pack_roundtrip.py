"""Files in, the same bytes out: synthetic kinds, the files of pydicom's wheel, all the shared ones."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pack_support import Packed, pack, parseable
from pydicom.pixels import get_decoder

from voxelvault.dicom.decode import DecoderPool
from voxelvault.storage import pack_reader, pack_writer, prepare
from voxelvault.storage.codecs import CODECS
from voxelvault.storage.objects import MemoryObjects
from voxelvault.testing import synthetic

KINDS = synthetic.every_kind()


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as made:
        yield made


def all_out(packed: Packed, pool: DecoderPool, frames: bool = True) -> Counter[str]:
    """Compare every file; read every frame too, though files made of our own chunks have done so."""
    reader = packed.reader(pool, verify=True)
    found: Counter[str] = Counter()
    for name, data in packed.files.items():
        assert packed.out_of(name, reader) == data, name
        one = packed.prepared[name]
        found.update([one.pixels, *(["original"] if one.original else [])])
        if one.key is not None:
            if frames:
                packed.frames(name, reader)
            found["frames"] += len(one.chunks)
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_every_kind_comes_back(codec: str, pool: DecoderPool) -> None:
    found = all_out(pack(KINDS, pool, codec), pool)
    assert found["array"] > 20
    assert found["codestream"] == 2 * len(synthetic.CODESTREAMS)
    assert (found["none"], found["undecodable"], found["original"]) == (2, 1, 2)


@pytest.mark.parametrize("size", [1, 1000])
def test_small_shards_batches_and_header_chunks_change_nothing(
    size: int, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_writer, "SHARD_BYTES", size)
    monkeypatch.setattr(pack_writer, "HEADER_CHUNK", 100 * size)
    for module in (prepare, pack_reader):
        monkeypatch.setattr(module, "BATCH_BYTES", size)
    monkeypatch.setattr(pack_reader, "JOIN_BYTES", size)
    packed = pack(KINDS, pool)
    assert max(len(stack.shards) for stack in packed.manifest.stacks) >= 3
    all_out(packed, pool)


def test_nothing_of_a_file_lies_in_the_store_as_it_is(pool: DecoderPool) -> None:
    packed = pack(KINDS, pool, "raw")
    objects = packed.sealed.objects
    assert isinstance(objects, MemoryObjects)
    stored = b"".join(objects.get(info.name) for info in objects.list("objects/"))
    names = "".join(info.name for info in objects.list(""))
    for planted in synthetic.PLANTED:
        assert str(planted).encode() not in stored
        assert str(planted) not in names
    assert b"zarr" not in stored


def test_the_files_of_the_wheel_come_back(wheel_dicom: Path, pool: DecoderPool) -> None:
    found: Counter[str] = Counter()
    for files in parseable(wheel_dicom):
        packed = pack(files, pool)
        found += all_out(packed, pool)
        compare_with_pydicom(packed, wheel_dicom, pool)
    assert found["array"] > 40
    assert found["codestream"] > 30
    assert found["undecodable"] <= 4


def compare_with_pydicom(packed: Packed, root: Path, pool: DecoderPool) -> None:
    """Read native frames that pydicom reads too, and compare; single bits and 4:2:2 are synthetic ones."""
    reader = packed.reader(pool)
    for name, one in packed.prepared.items():
        if one.pixels != "array" or one.key is None or one.key.shape[-1] == 2:
            continue
        dataset = pydicom.dcmread(root / name, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta or name == "badVR.dcm":
            continue  # pydicom doesn't read their pixels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's words about wrong values in real files
            values, _ = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(dataset, raw=True)
        ours = packed.frames(name, reader)
        assert np.array_equal(ours.reshape(values.shape), values), name


@pytest.mark.shared
def test_every_shared_file_comes_back(shared_dicom: Path, pool: DecoderPool) -> None:
    found: Counter[str] = Counter()
    names: set[str] = set()
    for files in parseable(shared_dicom):
        packed = pack(files, pool)
        found += all_out(packed, pool, frames=False)
        names |= files.keys()
    with (shared_dicom / "MANIFEST.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    print(f"{len(names)} of {len(rows)} real files came back: {dict(found)}")
    cut_within_an_element = {name for name in listed_as_parsed(rows) - names if "truncated" in name}
    assert listed_as_parsed(rows) - names == cut_within_an_element
    assert len(cut_within_an_element) <= 1
    # What pydicom decodes is decoded here too.
    assert found["undecodable"] <= sum(row["decode_ok"] != "yes" for row in rows)
    assert found["original"] <= 10
    listed = {row["path"]: row["sha256"] for row in rows}
    changed = [name for name in names & listed.keys() if digest(shared_dicom / name) != listed[name]]
    assert not changed


def listed_as_parsed(rows: list[dict[str, str]]) -> set[str]:
    return {row["path"] for row in rows if row["parse_ok"] == "yes"}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

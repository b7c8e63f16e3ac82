"""The one reader and the zarr face give the same frames, element by element."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.registry import get_codec_class
from zarr.storage import MemoryStore

from voxelvault.dicom.decode import DecoderPool
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header, frame_spec
from voxelvault.errors import IntegrityError, UsageError
from voxelvault.model import new_id
from voxelvault.storage import codecs, pack_writer
from voxelvault.storage.codecs import CODECS
from voxelvault.storage.objects import MemoryObjects
from voxelvault.storage.pack import Manifest, SeriesIdentity
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.pack_writer import PackWriter
from voxelvault.storage.prepare import prepare
from voxelvault.storage.sealed_objects import SealedObjects
from voxelvault.storage.zarr_codecs import (
    ADDED_NAME,
    DICOM_FRAME_NAME,
    HTJ2K_NAME,
    AddedCodec,
    DicomFrameCodec,
    Htj2kCodec,
)
from voxelvault.storage.zarr_pack import ProvenShard, zarr_entries
from voxelvault.storage.zarr_store import PackStore
from voxelvault.testing import synthetic

RNG = np.random.default_rng(11)
CT = RNG.integers(-1024, 3000, (11, 20, 24), dtype=np.int16)
KINDS = synthetic.every_kind()
IDENTITY = SeriesIdentity(new_id(), new_id(), new_id(), "", "", "", "")


@dataclass
class Made:
    manifest: Manifest
    dek: bytes
    sealed: SealedObjects


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as started:
        yield started


@pytest.fixture
def make(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Return a function that packs files, a few frames a shard."""

    def made(files: list[bytes], codec: str = "htj2k", shard_bytes: int = 4 * CT[0].nbytes) -> Made:
        monkeypatch.setattr(pack_writer, "SHARD_BYTES", shard_bytes)
        sealed, dek, pack_id = SealedObjects(MemoryObjects(), new_id()), os.urandom(32), new_id()
        writer = PackWriter(sealed, pack_id, dek)
        for data in files:
            part10 = parse(data)
            header, digest = Header.from_part10(part10), hashlib.sha256(data).hexdigest()
            writer.add(
                prepare(data, part10, header, instance_id=new_id(), sha256=digest, codec=codec, pool=pool), 64
            )
        stacks, instances, headers, chunks = writer.finish()
        manifest = Manifest(
            sealed.vault_id, pack_id, new_id(), "", "", IDENTITY, stacks, instances, headers, chunks
        )
        return Made(manifest, dek, sealed)

    return made


def opened(made: Made) -> zarr.Group:
    return zarr.open_group(PackStore(zarr_entries(made.manifest, made.sealed, made.dek)), mode="r")


def whole(made: Made, stack: int, pool: DecoderPool) -> np.ndarray[Any, Any]:
    record = made.manifest.stacks[stack]
    out = np.empty((record.frames, *record.key.shape), record.key.dtype)
    return PackReader(made.manifest, made.dek, made.sealed, pool).read(stack, range(record.frames), out)


@pytest.mark.parametrize("codec", CODECS)
def test_several_shards_the_last_one_short(codec: str, make: Callable[..., Made], pool: DecoderPool) -> None:
    made = make([synthetic.image(frame, instance=at) for at, frame in enumerate(CT)], codec)
    assert [len(made.manifest.stacks[0].shards), made.manifest.stacks[0].frames_per_shard] == [3, 4]
    array = opened(made)["stacks/0"]
    assert isinstance(array, zarr.Array)
    assert (array.shape, array.chunks, array.shards) == ((11, 20, 24), (1, 20, 24), (4, 20, 24))
    assert array.metadata.dimension_names == ("frame", "row", "column")  # type: ignore[union-attr]
    assert np.array_equal(array[:], CT)
    assert np.array_equal(whole(made, 0, pool), CT)
    for part in (np.s_[10], np.s_[3:9], np.s_[::5, 4, 3:7], np.s_[-1:, :, 2]):
        assert np.array_equal(array[part], CT[part])


@pytest.mark.parametrize("codec", CODECS)
def test_every_kind_of_stack(codec: str, make: Callable[..., Made], pool: DecoderPool) -> None:
    made = make(list(KINDS.values()), codec, shard_bytes=500)
    group = opened(made)
    assert len(made.manifest.stacks) > 25
    assert max(len(stack.shards) for stack in made.manifest.stacks) >= 3
    seen: set[str] = set()
    for number, stack in enumerate(made.manifest.stacks):
        array = group[f"stacks/{number}"]
        assert isinstance(array, zarr.Array)
        ours = whole(made, number, pool)
        assert array.dtype == ours.dtype
        assert array.metadata.dimension_names == ("frame", "row", "column", "sample")[: ours.ndim]  # type: ignore[union-attr]
        # As bits: a NaN equals itself.
        assert np.asarray(array[:]).tobytes() == ours.tobytes(), stack.key
        seen |= {stack.key.codec, stack.key.dtype}
    others = "raw" if codec == "raw" else "fast"  # HTJ2K doesn't hold floats
    assert seen >= {codec, others, "dicom_frame", "|u1", "<i2", "<f4", "<f8"}


def test_the_hierarchy_lists_itself(make: Callable[..., Made]) -> None:
    made = make([KINDS["signed 16"], KINDS["RGB"]])
    entries = zarr_entries(made.manifest, made.sealed, made.dek)
    assert set(entries) == {
        "zarr.json",
        "stacks/zarr.json",
        "stacks/0/zarr.json",
        "stacks/0/c/0/0/0",
        "stacks/1/zarr.json",
        "stacks/1/c/0/0/0/0",
    }
    assert len(entries) == 6
    assert "stacks/2/zarr.json" not in entries
    with pytest.raises(KeyError):
        entries["stacks/2/zarr.json"]
    assert sorted(name for name, _ in opened(made)["stacks"].members()) == ["0", "1"]  # type: ignore[union-attr]


@pytest.mark.parametrize("codec", ["fast", "raw"])
def test_plain_codecs_need_nothing_of_ours(codec: str, make: Callable[..., Made]) -> None:
    made = make([synthetic.image(CT), KINDS["float"], KINDS["one bit"]], codec)
    entries = zarr_entries(made.manifest, made.sealed, made.dek)
    for number in range(3):
        document = entries[f"stacks/{number}/zarr.json"]
        assert isinstance(document, bytes)
        assert b"voxelvault" not in document
        names = {inner["name"] for inner in json.loads(document)["codecs"][0]["configuration"]["codecs"]}
        assert names == {"bytes", "blosc"} if codec == "fast" else {"bytes"}


def test_a_forgers_codestream_never_reaches_zarrs_codec(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make([synthetic.image(CT)])
    stack = made.manifest.stacks[0]
    false = replace(stack, digests=("00" * 32, *stack.digests[1:]))
    forged = replace(made, manifest=replace(made.manifest, stacks=(false,)))
    array = opened(forged)["stacks/0"]
    assert isinstance(array, zarr.Array)
    assert np.array_equal(array[1:], CT[1:])
    seen: list[int] = []
    spy = replace(CODECS["htj2k"], decode_into=lambda chunk, out: seen.append(len(chunk)))
    monkeypatch.setattr(codecs, "CODECS", {"htj2k": spy})
    for part in (np.s_[0], np.s_[:4]):
        with pytest.raises(IntegrityError, match="not what was stored"):
            array[part]
    assert not seen


def test_part_of_a_codestream_is_refused(make: Callable[..., Made]) -> None:
    made = make([synthetic.image(CT)])
    shard = zarr_entries(made.manifest, made.sealed, made.dek)["stacks/0/c/0/0/0"]
    assert isinstance(shard, ProvenShard)
    index = np.frombuffer(shard.read(0, 64), "<u8").reshape(4, 2).tolist()
    (start, length), (after, _) = index[0], index[1]
    assert len(shard.read(start, start + length)) == length
    assert len(shard.read(0, shard.size)) == shard.size
    assert after == start + length
    for span in ((start, start + length - 1), (start + 1, after), (after - 1, after), (0, start + 1)):
        with pytest.raises(UsageError, match="whole chunks"):
            shard.read(*span)


def test_zarr_writes_htj2k(tmp_path: Path) -> None:
    for frames in (CT, RNG.integers(0, 255, (3, 9, 7, 3), dtype=np.uint8)):
        array = zarr.create_array(
            MemoryStore(),
            shape=frames.shape,
            dtype=frames.dtype,
            chunks=(1, *frames.shape[1:]),
            serializer=Htj2kCodec(),
            compressors=None,
        )
        array[:] = frames
        assert np.array_equal(array[:], frames)


@pytest.mark.parametrize("chunks", [(2, 20, 24)])
def test_a_chunk_is_one_frame(chunks: tuple[int, ...]) -> None:
    array = zarr.create_array(
        MemoryStore(),
        shape=CT.shape,
        dtype=CT.dtype,
        chunks=chunks,
        serializer=Htj2kCodec(),
        compressors=None,
    )
    with pytest.raises(UsageError, match="one frame"):
        array[:] = CT


def test_a_senders_codestream_is_never_made() -> None:
    spec = parse_spec(KINDS["1.2.840.10008.1.2.4.80"])
    array = zarr.create_array(
        MemoryStore(),
        shape=(1, spec.rows, spec.columns),
        dtype="u1",
        chunks=(1, spec.rows, spec.columns),
        serializer=DicomFrameCodec("1.2.840.10008.1.2.4.80", spec),
        compressors=None,
    )
    with pytest.raises(UsageError, match="never made"):
        array[:] = 1


def parse_spec(data: bytes) -> Any:
    return frame_spec(Header.from_part10(parse(data)))


def test_codecs_are_registered_and_named_as_entry_points() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    points = project["project"]["entry-points"]["zarr.codecs"]
    assert set(points) == {ADDED_NAME, HTJ2K_NAME, DICOM_FRAME_NAME}
    for name, value in points.items():
        assert EntryPoint(name, value, "zarr.codecs").load() is get_codec_class(name)
    spec = parse_spec(KINDS["RGB"])
    codec = DicomFrameCodec("1.2.3", spec)
    assert DicomFrameCodec.from_dict(json.loads(json.dumps(codec.to_dict()))) == codec
    assert Htj2kCodec.from_dict(Htj2kCodec().to_dict()) == Htj2kCodec()
    assert AddedCodec.from_dict(AddedCodec("example").to_dict()) == AddedCodec("example")

"""Children that decode: abort, hang, eat, lie; threads; fork; nothing of ours inside."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import imagecodecs
import numpy as np
import pytest

from voxelvault.dicom.decode import DecoderPool
from voxelvault.errors import DecodeError, DecoderCrashed, UsageError, VoxelVaultError
from voxelvault.model import FrameSpec
from voxelvault.testing.synthetic import CODESTREAMS

HTJ2K = "1.2.840.10008.1.2.4.201"
FRAMES = np.random.default_rng(0).integers(-1000, 1000, (6, 48, 64)).astype(np.int16)
CODED = [imagecodecs.htj2k_encode(frame, reversible=True) for frame in FRAMES]
SPEC = FrameSpec(48, 64, pixel_representation=1)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as made:
        yield made


@pytest.fixture(scope="module")
def bad() -> Iterator[DecoderPool]:
    with DecoderPool(1, seconds=2, module="voxelvault.testing.misbehaving_decoder") as made:
        yield made


def test_one_frame_and_many_arrive_in_the_callers_memory(pool: DecoderPool) -> None:
    np.testing.assert_array_equal(pool.decode(HTJ2K, CODED[0], SPEC), FRAMES[0])
    out = np.full_like(FRAMES, 7)
    assert pool.decode_many(HTJ2K, CODED, SPEC, out) is out
    np.testing.assert_array_equal(out, FRAMES)
    np.testing.assert_array_equal(
        pool.decode_many(HTJ2K, [memoryview(c) for c in CODED[:1]], SPEC), FRAMES[:1]
    )
    assert pool.decode_many(HTJ2K, [], SPEC).shape == (0, 48, 64)


def test_out_must_fit(pool: DecoderPool) -> None:
    for out in (
        np.empty((48, 64), np.uint16),
        np.empty((64, 48), np.int16),
        np.empty((48, 128), np.int16)[:, ::2],
    ):
        with pytest.raises(UsageError, match="out"):
            pool.decode(HTJ2K, CODED[0], SPEC, out)


def test_threads_share_a_pool(pool: DecoderPool) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for at in np.random.default_rng(seed).integers(0, len(CODED), 20):
            if not np.array_equal(pool.decode(HTJ2K, CODED[at], SPEC), FRAMES[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("fault", ["abort", "hang", "eat", "lie", "forge"])
def test_a_misbehaving_decoder_costs_its_frame_only(bad: DecoderPool, fault: str) -> None:
    began = time.monotonic()
    with pytest.raises(DecodeError) as caught:
        bad.decode(fault, CODED[0], SPEC)
    assert time.monotonic() - began < 10
    expected = {
        "abort": "killed",
        "hang": "too long",
        "eat": "memory",
        "lie": "not decode",
        "forge": "killed",
    }
    assert expected[fault] in str(caught.value)
    assert isinstance(caught.value, DecoderCrashed) == (fault in ("abort", "hang", "forge"))
    np.testing.assert_array_equal(bad.decode(HTJ2K, CODED[1], SPEC), FRAMES[1])


def damaged(coded: bytes, seed: int) -> bytes:
    """Flip a few bits, or cut, behind what says the size."""
    rng = np.random.default_rng(seed)
    data = bytearray(coded)
    for at in rng.integers(min(40, len(data) // 2), len(data), rng.integers(1, 8)):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data[: len(data) if seed % 3 else int(rng.integers(1, len(data)))])


def decode_damaged(pool: DecoderPool, rounds: int) -> None:
    for syntax, (frame, encode, _) in CODESTREAMS.items():
        spec = FrameSpec(*frame.shape, 1, 8 * frame.itemsize, 8 * frame.itemsize)
        coded = encode(frame)
        for seed in range(rounds):
            try:
                assert pool.decode(syntax, damaged(coded, seed), spec).shape == frame.shape
            except DecodeError as error:
                assert "\n" not in str(error)  # noqa: PT017


# CharLS loops for ever on some damaged codestreams: hence the short time limit.
def test_damaged_codestreams_decode_or_are_errors_of_ours() -> None:
    with DecoderPool(1, seconds=2) as pool:
        decode_damaged(pool, 12)


@pytest.mark.long
def test_many_damaged_codestreams_decode_or_are_errors_of_ours() -> None:
    with DecoderPool(2, seconds=2) as pool:
        decode_damaged(pool, 400)


def test_a_bad_frame_among_many_is_an_error(bad: DecoderPool, pool: DecoderPool) -> None:
    with pytest.raises(DecodeError):
        pool.decode_many(HTJ2K, [*CODED[:3], b"\xffgarbage" * 9, *CODED[3:]], SPEC)
    np.testing.assert_array_equal(pool.decode_many(HTJ2K, CODED, SPEC), FRAMES)


def test_what_a_codec_prints_does_not_reach_the_answer(bad: DecoderPool) -> None:
    np.testing.assert_array_equal(bad.decode("chatter", FRAMES[0].tobytes(), SPEC), FRAMES[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_the_child_sees_no_environment_and_no_file_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setenv("VOXELVAULT_KEY", "secret")
    with open(os.path.join(tmp_path, "telltale"), "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        with DecoderPool(1, module="voxelvault.testing.misbehaving_decoder") as pool:
            seen = pool.decode("environment", b"x" * 64, FrameSpec(1, 4096, bits_allocated=8, bits_stored=8))
    text = seen.tobytes().decode()
    assert "PYTHONPATH" in text
    assert "VOXELVAULT_KEY" not in text
    assert "HOME" not in text
    assert "telltale" not in text


def test_an_unknown_syntax_is_named_as_such(pool: DecoderPool) -> None:
    with pytest.raises(DecodeError, match="no decoder"):
        pool.decode("1.2.3", CODED[0], SPEC)


def test_claims_are_checked_before_memory_is_taken(pool: DecoderPool) -> None:
    with pytest.raises(DecodeError, match="larger"):
        pool.decode_many(HTJ2K, CODED, FrameSpec(65000, 65000))


def test_a_child_that_does_not_start_is_not_the_files_fault() -> None:
    with (
        DecoderPool(1, module="voxelvault.nowhere") as pool,
        pytest.raises(VoxelVaultError, match="start") as caught,
    ):
        pool.decode(HTJ2K, CODED[0], SPEC)
    assert not isinstance(caught.value, DecodeError)


def test_pools_start_lazily_close_and_start_again() -> None:
    pool = DecoderPool(2)
    pool.close()
    assert np.array_equal(pool.decode(HTJ2K, CODED[0], SPEC), FRAMES[0])
    pool.close()
    assert np.array_equal(pool.decode(HTJ2K, CODED[0], SPEC), FRAMES[0])
    pool.close()
    with pytest.raises(UsageError):
        pickle.dumps(pool)
    with pytest.raises(UsageError):
        DecoderPool(0)


FORK = """
import os, sys
import numpy as np, imagecodecs
from voxelvault.dicom.decode import DecoderPool
from voxelvault.model import FrameSpec
frame = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
coded = imagecodecs.jpeg2k_encode(frame, codecformat="j2k", reversible=True)
decode = lambda: np.array_equal(pool.decode("1.2.840.10008.1.2.4.90", coded, FrameSpec(64, 64)), frame)
pool = DecoderPool(1)
assert decode()
child = os.fork()
if not child:
    os._exit(0 if all(decode() for _ in range(20)) else 1)
ok = all(decode() for _ in range(20))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ok and decode()
"""


def test_a_forked_process_has_children_of_its_own() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", FORK], check=True, timeout=60)


LEFT = """
import numpy as np, imagecodecs
from voxelvault.dicom.decode import DecoderPool
from voxelvault.model import FrameSpec
frame = np.zeros((64, 64), np.uint16)
pool = DecoderPool(1)
pool.decode("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode(frame), FrameSpec(64, 64))
print(pool._children._idle.queue[-1]._process.pid)
"""


def test_no_child_outlives_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT], check=True, timeout=60, capture_output=True
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_the_child_imports_nothing_that_holds_keys_or_is_slow() -> None:
    code = "import sys, voxelvault.dicom.decode_child; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {
        "duckdb",
        "zarr",
        "cryptography",
        "pydicom",
        "pyarrow",
        "dask",
        "voxelvault.crypto",
        "voxelvault.storage",
    }
    assert not heavy & set(modules)

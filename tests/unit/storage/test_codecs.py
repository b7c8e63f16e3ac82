"""Our chunk codecs: lossless, warmed up alone, and what they are given."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import pytest

from voxelvault.errors import IntegrityError, UsageError
from voxelvault.storage import codecs
from voxelvault.storage.codecs import CODECS, codec_for, codec_named

SHAPES = [(1, 1), (1, 7), (3, 1), (2, 2), (31, 33), (64, 64), (5, 300)]


def frames(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    limits = np.iinfo(dtype)
    extremes = np.full(shape, limits.min, dtype)
    extremes.reshape(-1)[::2] = limits.max
    rng = np.random.default_rng(7)
    return {
        "noise": rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True),
        "extremes": extremes,
        "highest": np.full(shape, limits.max, dtype),
        "lowest": np.full(shape, limits.min, dtype),
        "ramp": np.arange(np.prod(shape)).astype(dtype).reshape(shape),
    }


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("samples", [(), (3,)], ids=["grey", "colour"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2"])
def test_integers_come_back(codec: str, dtype: str, samples: tuple[int, ...]) -> None:
    coder = codec_named(codec)
    for shape in SHAPES:
        for pattern, frame in frames(dtype, shape + samples).items():
            out = np.empty_like(frame)
            coder.decode_into(memoryview(coder.encode(frame)), out)
            assert np.array_equal(out, frame), (shape, pattern)


@pytest.mark.parametrize("codec", ["fast", "raw"])
@pytest.mark.parametrize("dtype", ["<u4", "<i4", "<u8", "<i8", "<f4", "<f8"])
def test_wide_values_come_back_bit_for_bit(codec: str, dtype: str) -> None:
    raw = np.random.default_rng(3).bytes(9 * 11 * np.dtype(dtype).itemsize)
    frame = np.frombuffer(raw, dtype).reshape(9, 11)  # floats: infinities and NaN payloads too
    out = np.empty_like(frame)
    codec_named(codec).decode_into(codec_named(codec).encode(frame), out)
    assert out.tobytes() == raw


@pytest.mark.parametrize("codec", CODECS)
def test_decoding_fills_a_slot_of_a_larger_array(codec: str) -> None:
    frame = frames("<i2", (16, 16))["noise"]
    out = np.zeros((3, 16, 16), "<i2")
    codec_named(codec).decode_into(codec_named(codec).encode(frame), out[1])
    assert np.array_equal(out[1], frame)
    assert not out[0].any()
    assert not out[2].any()


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2"])
def test_the_codestream_has_the_sign_of_the_values(dtype: str) -> None:
    codestream = bytes(codec_named("htj2k").encode(frames(dtype, (64, 64))["noise"]))
    precision = codestream[42]  # Ssiz of the first component (ITU-T T.800 A.5.1)
    assert precision >> 7 == (np.dtype(dtype).kind == "i")
    assert (precision & 127) + 1 == 8 * np.dtype(dtype).itemsize


def test_signed_values_are_not_coded_as_unsigned_ones() -> None:
    rng = np.random.default_rng(1)
    frame = rng.normal(0, 20, (256, 256)).astype("<i2")
    signed = len(codec_named("htj2k").encode(frame))
    assert signed < 0.75 * len(codec_named("htj2k").encode(frame.view("<u2")))


@pytest.mark.parametrize(
    ("dtype", "samples", "bits", "codec"),
    [
        ("u1", 1, 8, "htj2k"),
        ("<i2", 1, 16, "htj2k"),
        ("<u2", 3, 16, "htj2k"),
        ("u1", 1, 1, "fast"),
        ("u1", 2, 8, "fast"),
        ("u1", 4, 8, "fast"),
        ("<i4", 1, 32, "fast"),
        ("<f4", 1, 32, "fast"),
        ("<f8", 1, 64, "fast"),
    ],
)
def test_htj2k_where_it_can_hold_the_frames(dtype: str, samples: int, bits: int, codec: str) -> None:
    assert codec_for("htj2k", np.dtype(dtype), samples, bits) == codec
    assert codec_for("raw", np.dtype(dtype), samples, bits) == "raw"


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(UsageError, match="fast, htj2k, raw"):
        codec_for("zip", np.dtype("u1"), 1, 8)


def test_a_raw_chunk_of_another_length_is_refused() -> None:
    with pytest.raises(IntegrityError, match="length"):
        codec_named("raw").decode_into(b"123", np.empty((2, 2), "u1"))


class Watched:
    """Stands in for imagecodecs and sees how many calls of HTJ2K overlap, and when."""

    def __init__(self) -> None:
        self.inside, self.calls = 0, 0
        self.most_before, self.lock = 0, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        function = getattr(imagecodecs, name)

        def call(*args: Any, **options: Any) -> Any:
            with self.lock:
                self.inside += 1
                self.calls += 1
                if not codecs._warm:
                    self.most_before = max(self.most_before, self.inside)
            try:
                time.sleep(0.002)
                return function(*args, **options)
            finally:
                with self.lock:
                    self.inside -= 1

        return call


def test_the_codec_is_warmed_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    monkeypatch.setattr(codecs, "_warm", False)
    monkeypatch.setattr(codecs, "imagecodecs", watched)
    frame = frames("<i2", (64, 64))["noise"]
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda _: codec_named("htj2k").encode(frame), range(8)))
    assert watched.most_before == 1
    assert watched.calls > 8


def test_a_broken_codec_is_found_at_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        htj2k_encode = staticmethod(imagecodecs.htj2k_encode)

        @staticmethod
        def htj2k_decode(_: Any, out: Any) -> None:
            out[...] = 0

    monkeypatch.setattr(codecs, "_warm", False)
    monkeypatch.setattr(codecs, "imagecodecs", Broken)
    with pytest.raises(IntegrityError, match="reinstall"):
        codec_named("htj2k").encode(frames("<i2", (8, 8))["noise"])


COLD = """
import threading, numpy as np
from voxelvault.storage.codecs import codec_named
coder = codec_named("htj2k")
rng = np.random.default_rng(5)
frames = rng.normal(0, 300, (16, 256, 256)).astype("<i2")
out, chunks = np.empty_like(frames), [b""] * 16
start = threading.Barrier(4)
def work(first):
    start.wait()
    for i in range(first, 16, 4):
        chunks[i] = coder.encode(frames[i])
        coder.decode_into(chunks[i], out[i])
threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
assert np.array_equal(out, frames), "frames differ"
again = np.empty_like(frames)
[coder.decode_into(chunk, again[i]) for i, chunk in enumerate(chunks)]
assert np.array_equal(again, frames), "codestreams differ"
print("good")
"""


def cold_process(_: int) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, timeout=120)
    return done.stdout.strip(), done.stderr.strip()


def test_threads_of_a_cold_process_code_alike() -> None:
    assert cold_process(0) == ("good", "")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_threads_of_two_hundred_cold_processes_code_alike() -> None:
    with ThreadPoolExecutor(2) as executor:
        outcomes = list(executor.map(cold_process, range(240)))
    assert outcomes == [("good", "")] * 240

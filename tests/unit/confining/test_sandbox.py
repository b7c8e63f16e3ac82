"""The confinement of decoding processes: what a decoder taken over tries, and what the kernel is told."""

from __future__ import annotations

import csv
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from voxelvault.confining import sandbox, seccomp
from voxelvault.confining.seccomp import ALLOW, ARCHITECTURES, ENOSYS, EPERM, INSTRUCTION, KILL, program
from voxelvault.dicom.decode import DECODERS, DecoderPool, decode_frame
from voxelvault.dicom.part10 import parse
from voxelvault.dicom.read import Header, frame_spec
from voxelvault.errors import DecodeError, DecoderCrashed
from voxelvault.model import FrameSpec
from voxelvault.testing.misbehaving_decoder import ATTEMPTS

SPEC = FrameSpec(4, 4, bits_allocated=8, bits_stored=8)
FATAL = {"socket", "fork", "exec", "signal"}
FILTERED = sys.platform == "linux" and platform.machine() in ARCHITECTURES


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(1, seconds=4, module="voxelvault.testing.misbehaving_decoder") as made:
        yield made


@pytest.mark.skipif(not FILTERED, reason="no filter for this system: limits only")
def test_a_pool_says_what_confines_its_children(pool: DecoderPool) -> None:
    assert pool.sandbox() == "seccomp, limits"
    assert pool.decode("nothing", b"x" * 64, SPEC).shape == (4, 4)


@pytest.mark.skipif(not FILTERED, reason="no filter for this system: limits only")
@pytest.mark.parametrize("attempt", sorted(ATTEMPTS.keys() - {"nothing"}))
def test_breaking_out_fails(pool: DecoderPool, attempt: str) -> None:
    with pytest.raises(DecodeError, match="killed" if attempt in FATAL else "does not decode") as caught:
        pool.decode(attempt, b"x" * 64, SPEC)
    assert isinstance(caught.value, DecoderCrashed) == (attempt in FATAL)


def test_memory_and_time_are_bounded_from_outside(pool: DecoderPool) -> None:
    with pytest.raises(DecodeError, match="memory"):
        pool.decode("eat", b"x" * 64, SPEC)
    with (
        DecoderPool(1, seconds=0.5, module="voxelvault.testing.misbehaving_decoder") as short,
        pytest.raises(DecoderCrashed, match="too long"),
    ):
        short.decode("hang", b"x" * 64, SPEC)


@pytest.mark.filterwarnings("ignore")
def test_every_syntax_in_the_data_decodes_in_confinement(shared_dicom: Path) -> None:
    chosen: dict[str, Path] = {}
    for row in csv.DictReader((shared_dicom / "MANIFEST.csv").open()):
        if row["transfer_syntax_uid"] in DECODERS and row["decode_ok"] == "yes":
            chosen.setdefault(row["transfer_syntax_uid"], shared_dicom / row["path"])
    assert len(chosen) >= 12
    with DecoderPool(1) as ordinary:
        for syntax, path in chosen.items():
            dataset = pydicom.dcmread(path, force=True)
            frames = int(dataset.get("NumberOfFrames", 1) or 1)
            codestream = next(iter(generate_frames(dataset.PixelData, number_of_frames=frames)))
            spec = frame_spec(Header.from_part10(parse(path.read_bytes())))
            np.testing.assert_array_equal(
                ordinary.decode(syntax, codestream, spec), decode_frame(syntax, codestream, spec), syntax
            )


LIMITS_ONLY = """
import os, platform, sys
platform.machine = lambda: "abacus"
from voxelvault.confining import sandbox, seccomp
held = sandbox.confine()
assert sandbox.words(held, True) == "limits only: this system has no seccomp filter", held
try:
    os.open(os.__file__, os.O_RDONLY)
except OSError as error:
    os.write(1, os.strerror(error.errno).encode())
"""


def test_without_a_filter_limits_hold_and_are_said_to_be_all() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITS_ONLY], capture_output=True, text=True)
    assert "Too many open files" in done.stdout, done.stderr


def test_what_holds_in_part_is_not_said_to_hold() -> None:
    assert sandbox.words(sandbox.LIMITS | sandbox.FILTER, False) == "seccomp, limits in part"
    assert "only" in sandbox.words(sandbox.LIMITS, False)
    assert not sandbox.bound(2**22 + 5, 1 << 30, 1.0)  # no such process


def decided(
    machine: str, number: int, *arguments: int, architecture: int | None = None, threads: bool = False
) -> int:
    """Run the filter as the kernel does."""
    calls = ARCHITECTURES[machine]
    words = {0: number, 4: calls.architecture if architecture is None else architecture}
    for place, argument in enumerate(arguments):
        words[16 + 8 * place] = argument
    steps = list(INSTRUCTION.iter_unpack(program(calls, 77, threads=threads)))
    at = loaded = 0
    while True:
        code, if_true, if_false, value = steps[at]
        if code == 0x06:
            return value
        if code == 0x20:
            loaded = words.get(value, 0)
            at += 1
            continue
        holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
        at += 1 + (if_true if holds else if_false)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_decides_as_its_table_says(machine: str) -> None:
    calls = ARCHITECTURES[machine]
    assert {decided(machine, number) for number in calls.allowed} == {ALLOW}
    assert {decided(machine, number) for number in calls.fatal} == {KILL}
    assert not set(calls.allowed) & set(calls.fatal)
    for number in calls.mapping:
        assert decided(machine, number, 0, 4096, 0x3) == ALLOW
        assert decided(machine, number, 0, 4096, 0x7) == EPERM
    assert decided(machine, calls.tgkill, 77) == ALLOW
    assert decided(machine, calls.tgkill, 78) == KILL
    assert decided(machine, calls.clone, 0x11) == KILL
    assert decided(machine, calls.clone, 0x3D0F00) == EPERM
    assert decided(machine, calls.clone, 0x3D0F00, threads=True) == ALLOW
    assert decided(machine, calls.clone, 0x11, threads=True) == KILL
    assert decided(machine, calls.clone3) == ENOSYS
    assert decided(machine, 5000) == EPERM
    assert decided(machine, calls.allowed[0], architecture=1) == KILL


def test_the_other_calling_convention_of_x86_is_no_way_round() -> None:
    assert decided("x86_64", 0x40000000 | 0) == KILL


@pytest.mark.skipif(not os.path.exists("/usr/include/asm-generic/unistd.h"), reason="no kernel headers here")
def test_numbers_are_the_kernels() -> None:
    generic = Path("/usr/include/asm-generic/unistd.h").read_text()
    for name, number in {**seccomp._ALLOWED_AARCH64, **seccomp._FATAL_AARCH64}.items():
        found = re.search(rf"#define __NR(?:3264)?_{name} (\d+)$", generic, re.MULTILINE)
        assert found is not None, name
        assert int(found[1]) == number, name
    native = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    for name, number in (
        {**seccomp._ALLOWED_X86_64, **seccomp._FATAL_X86_64}.items() if native.exists() else ()
    ):
        assert f"#define __NR_{name} {number}\n" in native.read_text(), name

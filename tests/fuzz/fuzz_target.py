"""A child process that libFuzzer drives: `python fuzz_target.py CORPUS… [-libFuzzer=options]`.

It leaves each input that let anything but our own errors out as a file in `VOXELVAULT_FUZZ_FOUND`
and goes on, so that one known fault doesn't hide the others. What hangs, or fills the memory, ends
it, and libFuzzer leaves the input.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from pathlib import Path

import atheris

FOUND = Path(os.environ["VOXELVAULT_FUZZ_FOUND"])

with atheris.instrument_imports(include=["voxelvault.dicom"]):
    from voxelvault.testing import dissection

if os.environ.get("VOXELVAULT_FUZZ_STEPS") == "fail":  # the test of the fuzzer itself
    dissection.STEPS = (*dissection.STEPS, lambda part10, header: 1 // (len(header) - len(header)))

seen: set[str] = set()


def one_input(data: bytes) -> None:
    """Take one input apart; keep it if that fails in a way not seen before."""
    try:
        dissection.dissect(data)
    except Exception as error:
        places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        key = hashlib.sha256(f"{type(error).__name__} {places[-3:]}".encode()).hexdigest()[:12]
        if key not in seen:
            seen.add(key)
            (FOUND / f"{type(error).__name__}-{key}").write_bytes(data)
            traceback.print_exc()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

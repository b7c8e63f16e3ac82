"""Coverage-guided fuzzing of what reads a stranger's file, in a child process, for a bounded time.

`VOXELVAULT_FUZZ_SECONDS` lengthens it. What it finds is left in a folder whose path is printed: each
becomes a small test in `tests/unit/dicom/test_found_by_fuzzing.py`, and is mended.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from voxelvault.testing.hostile import hostile
from voxelvault.testing.synthetic import every_kind

TARGET = Path(__file__).with_name("fuzz_target.py")
SECONDS = int(os.environ.get("VOXELVAULT_FUZZ_SECONDS", "60"))
LARGEST = 8192
"""Bytes of an input: larger ones say nothing more about structure, and take longer."""


@pytest.fixture
def target() -> Path:
    """Give the target; atheris has wheels for Linux on x86-64 only."""
    if find_spec("atheris") is None:
        message = "atheris is not installed: it comes with the extra `dev` on Linux, Python 3.11 to 3.13"
        if os.environ.get("CI") and sys.version_info < (3, 14):
            pytest.fail(message)
        pytest.skip(message)
    return TARGET


def seeds(folder: Path, real: Path) -> int:
    """Write small files of every sort there is; return how many."""
    found = [path.read_bytes() for path in sorted(real.rglob("*")) if path.is_file() and is_small(path)]
    made = [*hostile().values(), *every_kind().values()]
    chosen = [data for data in (*found, *made) if len(data) <= LARGEST]
    for number, data in enumerate(chosen):
        (folder / f"{number:04}").write_bytes(data)
    return len(chosen)


def is_small(path: Path) -> bool:
    return 132 < path.stat().st_size <= LARGEST


def fuzz(target: Path, corpus: Path, found: Path, seconds: int, *, steps: str = "") -> str:
    """Let libFuzzer work; return what it printed."""
    work = found / "corpus"
    work.mkdir()
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LARGEST}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    done = subprocess.run(
        [sys.executable, target, work, corpus, *options],
        env={**os.environ, "VOXELVAULT_FUZZ_FOUND": str(found), "VOXELVAULT_FUZZ_STEPS": steps},
        capture_output=True,
        timeout=seconds + 240,
        check=False,
        text=True,
        errors="replace",
    )
    return done.stdout + done.stderr


def inputs(found: Path) -> list[str]:
    """Return names of what was found."""
    return sorted(path.name for path in found.iterdir() if path.is_file())


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
def test_the_parser_under_a_fuzzer(target: Path, shared_dicom: Path, tmp_path: Path) -> None:
    found = Path(tempfile.mkdtemp(prefix="voxelvault-fuzz-"))
    assert seeds(tmp_path, shared_dicom) > 100
    told = fuzz(target, tmp_path, found, SECONDS)
    runs = re.search(r"number_of_executed_units: (\d+)", told)
    print(f"{runs and runs[1]} inputs in {SECONDS} s; what was found lies in {found}")
    assert inputs(found) == [], told[-4000:]
    assert runs, told[-4000:]
    assert int(runs[1]) > 100
    shutil.rmtree(found)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_fault_is_found_and_kept(target: Path, tmp_path: Path) -> None:
    """A fuzzer that finds nothing may be one that looks at nothing."""
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    (corpus / "seed").write_bytes(bytes(128) + b"DICM\x02\0\x10\0UI\x02\x001\0\x08\0\x18\0UI\x02\x001\0")
    fuzz(target, corpus, found, 5, steps="fail")
    assert any(name.startswith("ZeroDivisionError-") for name in inputs(found))

"""The shape of the house: what the folders promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import voxelvault

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    ROOT / "platform" / "voxelvault",
    ROOT / "pipelines" / "voxelvault_triage",
    ROOT / "federated" / "voxelvault_fl",
)
LONGEST = 450


def test_platform_is_no_package() -> None:
    # It would shadow Python's own `platform` for everything run from the repository root.
    assert not (ROOT / "platform" / "__init__.py").exists()
    run = "import platform; print(platform.python_version())"
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ".".join(map(str, sys.version_info[:3]))


def test_public_names_are_complete() -> None:
    public = {name for name in vars(voxelvault) if not name.startswith("_")}
    modules = {name for name in public if isinstance(vars(voxelvault)[name], type(sys))}
    assert public - modules == set(voxelvault.__all__) - {"__version__", "errors"}


def test_no_file_swells() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for source in SOURCES
        for path in source.rglob("*.py")
        if (lines := path.read_text().count("\n")) > LONGEST and "__pycache__" not in path.parts
    }
    assert too_long == {}


def test_importing_pulls_in_nothing_heavy() -> None:
    run = "import sys, voxelvault; print(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "torch",
        "monai",
        "flwr",
        "distributed",
        "dask",
        "zarr",
        "duckdb",
        "pydicom",
        "xarray",
    }


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them by that name alone, and would collect only the first."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

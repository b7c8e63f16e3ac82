"""Where the real files are, and what happens when they are not there; the command, run in this process."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom.data
import pytest

from postgres_support import Cluster
from s3_servers import Server, moto, seaweedfs
from voxelvault.interfaces.cli import main

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "dicom"
EXERCISED = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def shared_dicom() -> Path:
    """Folder of the 966 real DICOM files with MANIFEST.csv; without it CI fails, a laptop skips."""
    if not (SHARED / "MANIFEST.csv").is_file():
        place = SHARED.relative_to(ROOT.parent)
        message = f"the shared DICOM files are missing: expected {place} beside the project"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def wheel_dicom() -> Path:
    """Folder of the real DICOM files inside pydicom's wheel: always there."""
    return Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """Give moto's server, a process of its own: S3 as far as a vault needs it."""
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def weed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give SeaweedFS, for long tests: what a small team may run."""
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        yield server


@dataclass(frozen=True)
class Ran:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a configuration of the test's own, where the command finds it."""
    for name in ("VOXELVAULT", "VOXELVAULT_KEY", "VOXELVAULT_PASSPHRASE", "VOXELVAULT_CHECKPOINT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "configuration"
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(home))
    return home


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], configuration: Path) -> Callable[..., Ran]:
    """Give what runs a command line in this process, with a configuration of its own."""

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture(scope="session")
def exercised(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """Give what a test calls with the number of real files it took through a vault."""

    def count(files: int) -> None:
        request.config.stash[EXERCISED] = request.config.stash.get(EXERCISED, 0) + files

    return count


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A private PostgreSQL server; without its programs CI fails, a laptop skips."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to `make test-long`."""
    if config.getoption("-m"):
        return
    # By marker: an item's keywords also hold the names of the folders above it.
    kept = [item for item in items if item.get_closest_marker("long") is None]
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
    items[:] = kept


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the count from a worker process to the one that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["exercised"] = session.config.stash.get(EXERCISED, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's count; workers take the same files in, so the largest is the number."""
    counts = (node.config.stash.get(EXERCISED, 0), getattr(node, "workeroutput", {}).get("exercised", 0))
    node.config.stash[EXERCISED] = max(counts)


_seconds: defaultdict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up time by folder."""
    _seconds["/".join(report.nodeid.split("::")[0].split("/")[:3])] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many real files went through a vault, and minutes by folder."""
    if files := config.stash.get(EXERCISED, 0):
        shared = (SHARED / "MANIFEST.csv").is_file()
        where = "of the shared DICOM folder" if shared else "of pydicom's wheel, and made ones"
        terminalreporter.write_line(f"real files exercised through a vault: {files} {where}")
    folders: defaultdict[str, float] = defaultdict(float)
    for place, seconds in _seconds.items():
        folders[place.rsplit("/", 1)[0] if place.endswith(".py") else place] += seconds
    terminalreporter.section("minutes by folder")
    for place, seconds in sorted(folders.items()):
        terminalreporter.write_line(f"{seconds / 60:6.2f}  {place}")

"""A site adds a codec, an ingest source and a verb by a package of its own; nothing here is patched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "plugin_example"


def installed(folder: Path, name: str, groups: dict[str, dict[str, str]], code: Path | str = "") -> Path:
    """Put a package where pip would: its modules, and what says which entry points it has."""
    folder.mkdir(exist_ok=True)
    if isinstance(code, Path):
        shutil.copytree(code, folder / code.name, ignore=shutil.ignore_patterns("__pycache__"))
    elif code:
        (folder / f"{name.replace('-', '_')}.py").write_text(code)
    about = folder / f"{name.replace('-', '_')}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in groups.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return folder


RUN = """
import contextlib, io, json, shlex, sys
from voxelvault.interfaces.cli import main
done = []
for line in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(shlex.split(line))
    done.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(done))
"""


class Ran(NamedTuple):
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


class Site:
    """A machine with some packages beside voxelvault."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.packages = place / "site"

    def python(self, code: str, *, packages: bool = True) -> str:
        done = self._run([sys.executable, "-W", "error", "-c", code], packages)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def voxelvault(self, *lines: str, packages: bool = True) -> list[Ran]:
        """Run command lines in one new process."""
        done = self._run([sys.executable, "-c", RUN, *lines], packages)
        assert done.returncode == 0, done.stderr
        return [Ran(*one) for one in json.loads(done.stdout)]

    def _run(self, line: list[str], packages: bool) -> subprocess.CompletedProcess[str]:
        roots = [str(self.packages)] if packages else []
        changed = {
            "VOXELVAULT_CONFIG_HOME": str(self.place / "configuration"),
            "PYTHONPATH": os.pathsep.join([*roots, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        return subprocess.run(
            line, cwd=self.place, env=os.environ | changed, capture_output=True, text=True, timeout=120
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The example is installed, and a vault that uses its codec holds a series of its source."""
    made = Site(tmp_path_factory.mktemp("site"))
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    added = {**project["entry-points"], "voxelvault.pipelines": {"example-metal": "voxelvault_example:None_"}}
    installed(made.packages, project["name"], added, EXAMPLE / "voxelvault_example")
    made.python(SETTING_UP)
    return made


SETTING_UP = """
import pathlib
import voxelvault as vv
from voxelvault.testing.synthetic import mr_series
for number, data in enumerate(mr_series()):
    pathlib.Path(f"mr-{number}.dcm").write_bytes(data)
with vv.create("vault", codec="example-zlib") as vault:
    report = vault.ingest("example:4", progress=False)
    assert (report.stored, report.complete) == (4, True), report
    assert vault.ingest(*pathlib.Path().glob("*.dcm"), codec="fast", progress=False).complete
"""


def test_verbs_of_another_package_are_verbs_and_info_lists_what_it_adds(site: Site) -> None:
    count, shown, info = site.voxelvault("--vault vault count --json", "--help", "--vault vault info --json")
    assert count.json == {"CT": 1, "MR": 1}
    assert "of voxelvault-example" in shown.out
    assert info.json["plugins"] == [
        "codecs example-zlib (voxelvault-example)",
        "ingest_sources example (voxelvault-example)",
        "verbs count (voxelvault-example)",
        "pipelines example-metal (voxelvault-example)",
    ]


READ = """
import io
import numpy as np, pydicom, zarr
import voxelvault as vv
from voxelvault.testing.synthetic import ct_series
find = "select SeriesInstanceUID as uid from series where Modality = 'CT'"
with vv.open("vault") as vault:
    codecs = vault.sql("select Modality, codec from stacks join series using (series_id) order by all")
    with vault.series(vault.resources.catalog.query(find)["uid"][0].as_py()) as series:
        volume = series.load(units="stored", dtype="int16")
        wanted = {pydicom.dcmread(io.BytesIO(file)).pixel_array.tobytes() for file in ct_series(4, 16, 16)}
        assert {frame.tobytes() for frame in volume} == wanted
        assert np.array_equal(series.frames().compute(), volume)
        assert len(series.frame_as_dicom(0)) > 500
    assert not vault.verify(progress=False).failures
print(codecs.fetchall())
"""


def test_frames_of_its_codec_are_read_and_verified(site: Site) -> None:
    assert "('CT', 'example-zlib')" in site.python(READ)


WITHOUT = """
import warnings
import voxelvault as vv
from voxelvault.access import MissingCodec
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    vault = vv.open("vault")
assert [w.category for w in said] == [MissingCodec] and "example-zlib" in str(said[0].message), said
uids = vault.resources.catalog.query("select Modality, SeriesInstanceUID as uid from series").to_pylist()
outcome = {}
for row in uids:
    with vault.series(row["uid"]) as series:
        try:
            series.frame(0, 0)
            outcome[row["Modality"]] = "read"
        except vv.errors.MissingExtra as error:
            assert "example-zlib" in str(error) and "install" in str(error)
            outcome[row["Modality"]] = "missing"
assert outcome == {"CT": "missing", "MR": "read"}, outcome
try:
    vault.ingest("example:2", progress=False)
except vv.errors.UsageError as error:
    assert "no codec" in str(error) or "no ingest source" in str(error), error
else:
    raise AssertionError
failures = vault.verify(progress=False).failures
assert len(failures) == 4 and all("example-zlib" in failure.problem for failure in failures), failures
vault.close()
"""


def test_without_the_package_the_vault_says_what_is_missing_and_the_rest_is_read(site: Site) -> None:
    site.python(WITHOUT, packages=False)
    info, count = site.voxelvault("--vault vault info", "count", packages=False)
    assert info.code == 0
    assert "warning: this vault needs the codec 'example-zlib'" in info.err
    assert count.code == 2


def test_nothing_of_a_plug_in_is_loaded_before_it_is_asked_for(site: Site) -> None:
    loaded = site.python("import sys, voxelvault; print(*sys.modules)").split()
    assert "voxelvault_example" not in loaded
    assert "importlib.metadata" not in loaded
    opened = "import sys, voxelvault as vv\nvv.open('vault').close()\nprint(*sys.modules)"
    assert "voxelvault_example" not in site.python(opened).split()


FAILING = """
def find(where):
    yield "name", 3
    raise ValueError("secret")
def read(name):
    return 1 / 0
"""


@pytest.fixture
def worse(site: Site, tmp_path: Path) -> Site:
    """The same machine with packages that are broken, greedy, or wrong."""
    made = Site(site.place)
    made.packages = tmp_path / "site"
    broken = "voxelvault_broken"
    groups = {
        "voxelvault.verbs": {"count": f"{broken}:nothing", "verify": f"{broken}:nothing"},
        "voxelvault.codecs": {
            "htj2k": f"{broken}:nothing",
            "broken-codec": f"{broken}:x",
            "wrong-codec": "os:sep",
        },
        "voxelvault.ingest_sources": {"s3": f"{broken}:nothing", "failing": "voxelvault_failing"},
    }
    installed(made.packages, "voxelvault-broken", groups, "raise SystemExit('patient names')\n")
    again = {"voxelvault.verbs": {"twice": "voxelvault_failing:find"}}
    installed(made.packages, "voxelvault-failing", again, FAILING)
    installed(made.packages, "voxelvault-twice", again)
    return made


def test_a_broken_package_costs_what_it_brings_and_one_line(worse: Site) -> None:
    ingest = "--vault vault ingest none.dcm --codec "
    count, sql, shown, broken, wrong, unknown = worse.voxelvault(
        "--vault vault count",
        "--vault vault sql 'select 1'",
        "--help",
        f"{ingest} broken-codec",
        f"{ingest} wrong-codec",
        f"{ingest} no-codec",
    )
    assert count.code == 1
    (line,) = count.err.splitlines()
    assert "verbs count (voxelvault-broken) can't be loaded (SystemExit)" in line
    assert "patient" not in line
    assert (sql.code, shown.code) == (0, 0)
    assert "voxelvault-broken" in shown.out
    for ran, expected in ((broken, "voxelvault-broken"), (wrong, "no ChunkCodec"), (unknown, "choose one")):
        assert ran.code in (1, 2)
        assert expected in ran.err.splitlines()[-1]


def test_names_of_ours_stay_ours(worse: Site) -> None:
    verify, info, twice, bucket = worse.voxelvault(
        "--vault vault verify --quick --json",
        "--vault vault info --json",
        "twice",
        "--vault vault ingest s3:bucket --codec fast",
    )
    assert "packs" in verify.json, verify.err
    taken = [line for line in info.json["plugins"] if "is voxelvault's own" in line]
    assert [line.split(" (")[0] for line in taken] == ["codecs htj2k", "ingest_sources s3", "verbs verify"]
    assert twice.code == 2
    assert "several packages add this name" in twice.err
    assert bucket.code == 2
    assert "voxelvault's own" in bucket.err


def test_a_failing_source_is_reported_and_stops_nothing(worse: Site) -> None:
    (done,) = worse.voxelvault(f"--vault vault ingest failing:x {EXAMPLE} --codec fast --json")
    assert done.code == 3, done.err
    assert not done.json["complete"]
    assert done.json["not_dicom"] >= 4
    assert "ValueError" in done.json["refused"][0]
    assert "secret" not in done.out
    assert len(done.json["quarantined"]) == 1

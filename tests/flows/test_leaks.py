"""Nothing decrypted leaks: planted values are looked for wherever they must not be."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from material import Filled, write_all

import voxelvault as vv
from voxelvault.errors import VoxelVaultError
from voxelvault.testing.synthetic import PLANTED, ct_series, every_kind, hostile, uid

UIDS = (uid(0), uid(0, 201), uid(0, 201, 1), "2.25.")
SECRETS = (*PLANTED, *UIDS[:3])


def leaks(data: bytes | str) -> list[str]:
    """Return which planted values the bytes hold, as UTF-8 or UTF-16."""
    raw = data.encode() if isinstance(data, str) else data
    return [s for s in SECRETS if s.encode() in raw or s.encode("utf-16-le") in raw]


def leaking_files(folder: Path) -> dict[str, list[str]]:
    """Return every file under a folder whose bytes or name hold a planted value."""
    found = {}
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if bad := leaks(data) + leaks(str(path.relative_to(folder))):
            found[str(path)] = bad
    return found


STORY = """
import shutil, sys, tempfile
from pathlib import Path
import voxelvault as vv

source, work, codec = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with vv.create(work / "vault", codec=codec) as vault:
    vault.ingest(source, progress=False)
    vault.sql("select * from patients").df()
    vault.sql("select PatientName, header from patients, instances order by header").fetchall()
    rows = vault.sql("select SeriesInstanceUID, StudyInstanceUID, subject_id from series").fetchall()
    for uid, study, subject in rows:
        series = vault.series(uid, study=study, subject=subject)
        for stack in range(len(series.stacks)):
            series.load(stack)
            series.volume(stack)[0].compute()
    vault.export(work / "out", progress=False)
    vault.verify(progress=False)
    vault.ingest(source, progress=False)
    # What is there while the vault is open counts as well: keep it for the search.
    shutil.copytree(tempfile.gettempdir(), work / "kept", ignore_dangling_symlinks=True)
"""


@pytest.fixture(scope="module", params=["htj2k", "raw"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run everything a day brings in a process with a TMPDIR of its own; return the folder."""
    work = tmp_path_factory.mktemp("leaks")
    files = {f"ct {n}": data for n, data in enumerate(ct_series(series=201))}
    if request.param == "htj2k":
        files |= {f"kind {n}": data for n, data in every_kind().items() if not n.endswith("frames")}
        files |= {f"bad {n}": data for n, data in enumerate(hostile().values()) if len(data) < 1 << 20}
    write_all(work / "in", files)
    (work / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(work / "tmp"), "VOXELVAULT_CONFIG_HOME": str(work / "config")}
    done = subprocess.run(
        [sys.executable, "-c", STORY, str(work / "in"), str(work), request.param],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (work / "said.txt").write_text(done.stdout + done.stderr)
    return work


def test_no_file_of_the_vault_holds_a_planted_value(story: Path) -> None:
    assert len(leaking_files(story / "in")) >= 8, "the search itself must be able to find them"
    assert leaking_files(story / "vault") == {}
    assert leaking_files(story / "config") == {}


def test_no_file_of_the_vault_holds_pixels(story: Path) -> None:
    """Sixteen rows of a slice as they came: also under the codec that stores them as they are."""
    import pydicom

    pixels = pydicom.dcmread(story / "in" / "ct_3.dcm").PixelData
    row = pixels[40 * 2 * 20 :][: 40 * 2]
    assert any(row in path.read_bytes() for path in (story / "in").iterdir())
    assert not [p for p in (story / "vault").rglob("*") if p.is_file() and row in p.read_bytes()]
    assert not [p for p in (story / "kept").rglob("*") if p.is_file() and row in p.read_bytes()]


def test_tmpdir_holds_nothing_in_clear(story: Path) -> None:
    assert leaking_files(story / "kept") == {}
    assert leaking_files(story / "tmp") == {}
    assert list((story / "tmp").iterdir()) == [], "everything is taken away at the end"


def test_nothing_is_printed(story: Path) -> None:
    assert leaks((story / "said.txt").read_text()) == []


def test_names_in_the_vault_are_random(story: Path) -> None:
    names = {path.name for path in (story / "vault").rglob("*")}
    assert not [name for name in names if "2.25" in name or "series" in name.lower()]


# --- what is shown --------------------------------------------------------------------------------


def test_reprs_name_nobody(synthetic: Filled) -> None:
    vault = synthetic.vault
    shown = [repr(vault), vault._repr_html_(), str(vault.summary()), repr(vault.audit), repr(vault.options)]
    shown += [str(synthetic.report), str(vault.verify(quick=True, progress=False))]
    for series in synthetic.series.values():
        shown += [repr(series), series._repr_html_(), str(series.summary()), str(series.stacks)]
        for stack in range(min(len(series.stacks), 1)):
            array = series.to_xarray(stack)
            shown += [repr(series.geometry(stack)), str(series.volume(stack))]
            shown += [repr(array), array._repr_html_()]
    assert [leaks(text) for text in shown if leaks(text)] == []


def test_identifying_is_a_choice_of_its_own(synthetic: Filled) -> None:
    vault, series = synthetic.vault, next(iter(synthetic.series.values()))
    before = len(vault.audit)
    vault.options.identifying = True
    try:
        assert "SeriesInstanceUID" in series.summary()
    finally:
        vault.options.identifying = False
    assert len(vault.audit) == before + 2
    assert "SeriesInstanceUID" not in series.summary()


def test_pictures_carry_no_text_chunks(synthetic: Filled, tmp_path: Path) -> None:
    for number, series in enumerate(synthetic.series.values()):
        if series.stacks:
            series.contact_sheet(stack=0).save(tmp_path / f"{number}.png")
    assert len(list(tmp_path.iterdir())) > 40
    assert leaking_files(tmp_path) == {}
    assert not [p for p in tmp_path.iterdir() if b"tEXt" in p.read_bytes() or b"eXIf" in p.read_bytes()]


def test_audit_entries_hold_no_identifiers(synthetic: Filled) -> None:
    """A query's text is sealed apart from its entry, so a name typed into one is not in the log."""
    vault = synthetic.vault
    vault.sql(f"select count(*) from patients where PatientID = '{PLANTED[2]}'").fetchall()
    entries = vault.audit.log()
    assert len(entries) > 10
    assert [leaks(repr(entry)) for entry in entries if leaks(repr(entry))] == []
    assert leaks(str(vault.audit.table().to_pylist())) == []
    assert leaks(json.dumps(vault.audit.prove(len(entries) - 1), default=str)) == []


def said_by(call: Callable[[], object]) -> str:
    with pytest.raises(VoxelVaultError) as caught:
        call()
    # The whole chain: a notebook prints `from` and `during handling of` as well.
    error: BaseException | None = caught.value
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)


def test_error_messages_name_nobody(synthetic: Filled, tmp_path: Path) -> None:
    vault = synthetic.vault
    ct = next(series for series in synthetic.series.values() if series.modality == "CT" and len(series) > 3)
    mr = next(series for series in synthetic.series.values() if len(series.stacks) > 1)
    none = next(series for series in synthetic.series.values() if not series.stacks)
    (tmp_path / "full").mkdir()
    first = vault.export(tmp_path / "full", series=ct.uid, progress=False)
    target = next(path for path in first.folder.rglob("*.dcm"))
    target.write_bytes(b"something else")
    said = [
        said_by(lambda: vault.series(uid(0))),
        said_by(lambda: vault.series(uid(0, 201), study=uid(0, 201))),
        said_by(lambda: vault.export(tmp_path / "x", study=uid(0, 201), progress=False)),
        said_by(lambda: vault.export(tmp_path / "full", series=ct.uid, progress=False)),
        said_by(mr.load),
        said_by(none.load),
        said_by(lambda: ct.load(dtype=np.uint8)),
        said_by(lambda: ct.load(units="suvbw")),
        said_by(lambda: ct.show("no such window")),
        said_by(lambda: vault.sql("select nothing from patients")),
        said_by(lambda: vault.merge_subjects("0" * 32, "1" * 32)),
    ]
    assert [text for text in said if leaks(text) or "2.25." in text] == []
    assert all("\n" not in text for text in said)


def test_a_failed_query_does_not_quote_the_data(synthetic: Filled) -> None:
    """DuckDB's conversion errors quote the value that would not convert."""
    for query in (
        "select PatientName::INT from patients",
        "select PatientBirthDate::VARCHAR::INT[] from patients",
        "select error(PatientID) from patients",
        "select AccessionNumber::TIMESTAMP from studies",
    ):
        assert leaks(said_by(lambda query=query: synthetic.vault.sql(query).fetchall())) == []


def test_a_pickled_handle_says_nothing(synthetic: Filled) -> None:
    import pickle

    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(synthetic.vault)
    assert leaks(str(caught.value)) == []
    assert leaks(pickle.dumps(next(iter(synthetic.series.values())))) == []


def test_logging_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    files = {f"ct {n}": data for n, data in enumerate(ct_series(n=3))} | dict(list(hostile().items())[:6])
    with vv.create(tmp_path / "vault") as vault:
        vault.ingest(write_all(tmp_path / "in", files), progress=False)
        rows = vault.sql("select SeriesInstanceUID, subject_id from series").fetchall()
        for series_uid, subject in rows:
            with vault.series(series_uid, subject=subject) as series:
                assert not series.stacks or series.contact_sheet(stack=0).width
    assert leaks(caplog.text) == []

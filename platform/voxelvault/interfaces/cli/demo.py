"""`demo`: the tour on real files, from a new vault to a verified log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError, VoxelVaultError
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit, say, size, table

if TYPE_CHECKING:
    from voxelvault.vault import Vault

CONFIG = "VOXELVAULT_CONFIG_HOME"
_NAME = 48
_WHEEL = ("test_files", "charset_files", "palettes")
_TRIES, _MOST = 20, 1 << 28
"""Series looked at, and pixels of the largest: a tour fits into a laptop's memory."""

Facts = dict[str, Any]


@verb(
    "demo",
    "voxelvault demo --out demo-out",
    "voxelvault demo --out demo-out --data /data/dicom",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path), metavar="PATH", help="DICOM of your own, too."
)
def demo(out: Path, data: tuple[Path, ...], as_json: bool) -> None:
    """Show on real files what a vault does.

    The vault is made in a fresh folder under DIR, of the files that pydicom's wheel carries and any
    --data. Key file and configuration lie beside it, so your own stay as they are; delete the
    folder when you have seen enough.
    """
    # Under --json the tour goes to stderr, so that stdout holds one document.
    found = tour(out, data, say if as_json else click.echo)
    if as_json:
        emit(found, [], as_json)


def tour(out: Path, data: tuple[Path, ...], tell: Any = click.echo) -> Facts:
    """Walk through the vault; return what was shown.

    Parameters
    ----------
    out : Path
        Each tour gets a fresh folder in it.
    data : tuple of Path
        Folders and files to ingest beside those of pydicom's wheel.
    tell : callable
        Prints a line.

    Raises
    ------
    VoxelVaultError
        A step failed.
    """
    import voxelvault

    # Heavy libraries are loaded while the user reads the first line.
    folder = place_of_tour(out.expanduser(), "tour")
    tell(f"voxelvault {voxelvault.__version__}: a tour on real files, in {folder}\n")
    with own_configuration(folder / "config"):
        with _made(folder, tell) as vault:
            found = {
                "folder": folder,
                "ingest": _ingest(vault, data, tell),
                "catalog": _catalog(vault, tell),
                "series": _series(vault, folder, tell),
                "export": _export(vault, folder, tell),
                "log": _log(vault, tell),
            }
        found["next"] = _next(folder, tell)
    return found


def place_of_tour(out: Path, name: str) -> Path:
    """Return a fresh folder for a tour of that name.

    Raises
    ------
    UsageError
        `out` is a file, or full of tours.
    """
    for number in range(1, 10_000):
        folder = out / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not out.is_dir():
                raise UsageError("--out is a file; name a folder") from None
            continue
        return folder
    raise UsageError("the folder is full of tours; delete some, or choose another")


@contextmanager
def own_configuration(folder: Path) -> Iterator[None]:
    """Keep keys and pins of the tour out of the user's own configuration."""
    before = os.environ.get(CONFIG)
    os.environ[CONFIG] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[CONFIG]
        else:
            os.environ[CONFIG] = before


def _step(tell: Any, title: str) -> None:
    tell(f"\n== {title}")


def _made(folder: Path, tell: Any) -> Vault:
    import voxelvault

    _step(tell, "A new vault")
    vault = voxelvault.create(folder / "vault", purpose="demo")
    tell(f"sealed under keys of its own; key file in {folder / 'config'}")
    tell(f"recovery code, shown once: {vault.recovery_code}")
    return vault


def _ingest(vault: Vault, data: tuple[Path, ...], tell: Any) -> Facts:
    _step(tell, "Real DICOM goes in")
    report = vault.ingest(*wheel_folders(), *data)
    tell(str(report))
    for code, count in _counted(item.reason.code for item in report.quarantined).items():
        tell(f"  in quarantine: {count} {code} (`voxelvault quarantine list` says why and what to do)")
    if report.interrupted:
        raise UsageError("the tour was interrupted; start it again")
    return {"found": report.found, "stored": report.stored, "quarantined": len(report.quarantined)}


def wheel_folders() -> list[Path]:
    """Return the folders of real DICOM files inside pydicom's wheel."""
    import pydicom

    base = Path(pydicom.__file__).parent / "data"
    return [base / name for name in _WHEEL if (base / name).is_dir()]


def _counted(words: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return found


def _catalog(vault: Vault, tell: Any) -> list[Facts]:
    from pydicom.uid import UID

    _step(tell, "The catalog, by modality and transfer syntax")
    result = vault.sql(
        "select coalesce(Modality, 'none') as modality, TransferSyntaxUID as syntax,"
        " count(distinct series_id) as series, count(*) as instances, sum(length)::BIGINT as bytes"
        " from instances join series using (series_id) group by 1, 2 order by 1, instances desc"
    )
    rows = [(row[0], _short(UID(row[1] or "").name) or "none", *row[2:]) for row in result.fetchall()]
    columns = ("modality", "transfer syntax", "series", "instances", "size")
    for line in table(columns, [(*row[:4], size(row[4])) for row in rows]):
        tell(line)
    summary = vault.summary()
    tell("{subjects} subjects, {studies} studies, {series} series, {instances} instances".format(**summary))
    return [dict(zip(result.columns, row, strict=True)) for row in rows]


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _series(vault: Vault, folder: Path, tell: Any) -> Facts:
    """Load the CT series with most pixels as HU and draw it."""
    _step(tell, "A series as Hounsfield units")
    for uid, study in _candidates(vault):
        try:
            return _loaded(vault, uid, study, folder / "contact-sheet.png", tell)
        except VoxelVaultError as error:
            say(f"passed over a series: {error}")
    raise UsageError("there is no CT series that can be loaded; give one with --data")


def _candidates(vault: Vault) -> list[tuple[str, str]]:
    found = vault.sql(
        "select any_value(s.SeriesInstanceUID), any_value(s.StudyInstanceUID),"
        ' sum(k.frames * k."rows" * k."columns") as size'
        " from stacks k join series s using (series_id) where s.Modality = 'CT'"
        " group by series_id having size < $most order by size desc, series_id limit $tries",
        {"tries": _TRIES, "most": _MOST},
    )
    return [(str(row[0]), str(row[1])) for row in found.fetchall()]


def _loaded(vault: Vault, uid: str, study: str, picture: Path, tell: Any) -> Facts:
    import numpy as np

    with vault.series(uid, study=study) as series:
        values = series.load(stack=0)
        unit = series.unit(stack=0)
        if unit != "HU":
            raise UsageError("its values are no Hounsfield units")
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        tell(repr(series))
        tell(f"shape {values.shape} (slice, row, column), {values.dtype}, {low:.0f} to {high:.0f} {unit}")
        series.contact_sheet(stack=0).save(picture)
    tell(f"contact sheet: {picture}")
    return {
        "shape": values.shape,
        "unit": unit,
        "range": (low, high),
        "SeriesInstanceUID": uid,
        "picture": picture,
    }


def _export(vault: Vault, folder: Path, tell: Any) -> Facts:
    """Export the largest study and hash what came out, apart from the vault."""
    import csv
    import hashlib

    from voxelvault.export import MANIFEST

    _step(tell, "One study goes out again, byte for byte")
    study = vault.sql(
        "select s.StudyInstanceUID from instances join studies s using (study_id)"
        " where s.StudyInstanceUID != '' group by 1"
        " order by count(*) filter (where pixels != 'none') desc, 1 limit 1"
    ).fetchall()[0][0]
    report = vault.export(folder / "export", study=study)
    came_in = {row[0] for row in vault.sql("select sha256 from instances").fetchall()}
    with (report.folder / MANIFEST).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    same = 0
    for row in rows:
        digest = hashlib.sha256((report.folder / row["path"]).read_bytes()).hexdigest()
        same += digest == row["sha256"] and digest in came_in
    for row in rows[:3]:
        # Not the path: it is made of UIDs.
        tell(f"  {row['sha256']}  {row['bytes']:>9} bytes")
    tell(f"{same} of {len(rows)} files have the SHA-256 that they came in with ({report.folder})")
    if same != len(rows):
        raise UsageError("a file came out changed; run `voxelvault verify` and report it")
    return {"files": len(rows), "same": same, "folder": report.folder}


def _log(vault: Vault, tell: Any) -> Facts:
    _step(tell, "The audit log")
    report = vault.audit.verify()
    for line in table(
        ("entry", "who", "what", "outcome"),
        [(entry.index, entry.who, entry.kind, entry.outcome) for entry in vault.audit.log(5)],
    ):
        tell(line)
    tell(str(report))
    return {"entries": report.size, "root": report.root}


def _next(folder: Path, tell: Any) -> str:
    """Say where to go: with this tour's configuration, so that its key is found."""
    command = with_this_tour(folder, "lab")
    _step(tell, "Where to go next")
    tell(f"open {folder / 'contact-sheet.png'}, then JupyterLab on the notebooks with this vault:")
    tell(f"  {command}")
    return command


def with_this_tour(folder: Path, words: str) -> str:
    """Return a command line that finds the vault and the key of a tour."""
    return f"{CONFIG}={folder / 'config'} VOXELVAULT={folder / 'vault'} {_program()} {words}"


def _program() -> str:
    """Return how the user can start this program again from the same folder."""
    started = Path(sys.argv[0])
    return str(started) if started.name == "voxelvault" and started.parent != Path() else "voxelvault"

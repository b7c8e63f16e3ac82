"""`triage demo`: head CTs of nobody come in, are analysed, and the list is another one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.demo import own_configuration, place_of_tour, with_this_tour
from voxelvault.interfaces.cli.output import emit, say, table

if TYPE_CHECKING:
    from voxelvault import Vault
    from voxelvault_triage.worklist.listing import Item

STUDIES = 4
PICTURE = "key-image.png"

Truth = dict[str, dict[str, str]]


@verb("demo", "voxelvault triage demo --out demo-out")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Made if need be.")
@click.option("--workers", type=click.IntRange(1), help="Processes that analyse; one a core.")
def command(out: Path, workers: int | None, as_json: bool) -> None:
    """Show what triage does, on drawn heads of nobody.

    Everything lies in a fresh folder under DIR; your own vaults and keys stay as they are.
    """
    found = tour(out, workers, say if as_json else click.echo)
    if as_json:
        emit(found, [], as_json)


def tour(out: Path, workers: int | None = None, tell: Any = click.echo) -> dict[str, Any]:
    """Draw, ingest, analyse, order, show; return what was shown.

    Parameters
    ----------
    out : Path
        Each tour gets a fresh folder in it.
    workers : int, optional
        Processes; by default one a core.
    tell : callable
        Prints a line.

    Raises
    ------
    VoxelVaultError
        A step failed.
    """
    import voxelvault
    from voxelvault_triage.phantom.studies import practice_heads

    folder = place_of_tour(out.expanduser(), "triage")
    tell(f"A tour of triage, in {folder}\n\n== {STUDIES} head CTs of nobody are drawn and come in")
    truth = _read(practice_heads(folder / "incoming", STUDIES))
    with own_configuration(folder / "config"), voxelvault.create(folder / "vault", purpose="demo") as vault:
        tell(str(vault.ingest(sorted((folder / "incoming").glob("study-*")), progress=False)))
        arrived = _arrived(vault, truth, tell)
        listed = _analysed(vault, workers, truth, tell)
        found = {
            "folder": folder,
            "arrived": arrived,
            "worklist": [item.StudyInstanceUID for item in listed],
            "result": _result(vault, listed[0], folder / PICTURE, tell),
            "entries": _entries(vault, tell),
        }
    tell(f"\n== Where to go next\n  {with_this_tour(folder, 'triage worklist')}")
    return found


def _read(path: Path) -> Truth:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["StudyInstanceUID"]: row for row in csv.DictReader(file)}


def _drawn(truth: Truth, study: str) -> str:
    row = truth[study]
    return f"{row['types']}, {row['volume_ml']} mL" if row["hemorrhage"] == "1" else "no blood"


def _arrived(vault: Vault, truth: Truth, tell: Any) -> list[str]:
    tell("\n== In the order of their arrival")
    rows = vault.sql(
        "select s.StudyInstanceUID from instances i join studies s using (study_id)"
        " group by 1 order by min(i.received), 1"
    ).fetchall()
    lines = [(str(place), study, _drawn(truth, study)) for place, (study,) in enumerate(rows, 1)]
    for line in table(("", "study", "what was drawn"), lines):
        tell(line)
    return [row[0] for row in rows]


def _analysed(vault: Vault, workers: int | None, truth: Truth, tell: Any) -> list[Item]:
    from voxelvault.tasks import now
    from voxelvault_triage.analysing import analyse
    from voxelvault_triage.running.session import Hands
    from voxelvault_triage.worklist.listing import listing, notices

    tell("\n== Gate, model, results, list: worker processes that are lent one study at a time")
    tell(str(analyse(vault, hands=Hands(workers=workers))))
    items = listing(vault, now())
    if not items:
        raise UsageError(
            "nothing was listed; run `voxelvault triage run --new` on the tour's vault to see why"
        )
    lines = [
        (
            str(place),
            item.priority,
            _score(item),
            _volume(item),
            item.StudyInstanceUID,
            _drawn(truth, item.StudyInstanceUID),
        )
        for place, item in enumerate(items, 1)
    ]
    tell("\n== The list, re-ordered")
    for line in table(("", "priority", "score", "mL", "study", "what was drawn"), lines):
        tell(line)
    tell(notices(items))
    return items


def _score(item: Item) -> str:
    return item.reason if item.score is None else f"{item.score:.2f} / {item.threshold:.2f}"


def _volume(item: Item) -> str:
    return "" if item.volume_ml is None else f"{item.volume_ml:.1f}"


def _result(vault: Vault, item: Item, picture: Path, tell: Any) -> dict[str, Any]:
    """Say what stands in the first study's report, and write its key image."""
    from voxelvault_triage.results import read_results

    tell("\n== What was written into the first study, as DICOM")
    result = read_results(vault, item.study_id)[-1]
    rows = vault.sql(
        "select Modality, SeriesDescription, SeriesInstanceUID from series where series_id in"
        " (select series_id from instances where origin is not null) and study_id = $study"
        " order by SeriesNumber",
        {"study": item.study_id},
    ).fetchall()
    for modality, description, _ in rows:
        tell(f"  {modality}: {description}")
    tell(f"the report says: {result.verdict}, score {result.score:.2f}, threshold {result.threshold:.2f}")
    shown = next((uid for modality, _, uid in rows if modality not in ("SR", "SEG")), None)
    if shown is not None:
        _save(vault, shown, picture)
        tell(f"the slice that shows it best: {picture}")
    return {"verdict": result.verdict, "score": result.score, "picture": picture if shown else None}


def _save(vault: Vault, uid: str, picture: Path) -> None:
    from PIL import Image

    with vault.series(uid) as series:
        Image.fromarray(series.load()[0]).save(picture)


def _entries(vault: Vault, tell: Any) -> int:
    tell("\n== Everything is in the log")
    rows = vault.sql(
        "select kind, count(*) as entries from audit group by all order by 2 desc limit 6"
    ).fetchall()
    for line in table(("what", "entries"), [(kind, str(count)) for kind, count in rows]):
        tell(line)
    report = vault.audit.verify()
    tell(str(report))
    return report.size

"""`triage worklist`: who is read next, and why."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import datetime, timedelta
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, table
from voxelvault_triage.amounts import Amount
from voxelvault_triage.worklist.order import AGEING

if TYPE_CHECKING:
    from voxelvault import Vault
    from voxelvault_triage.worklist.listing import Item
    from voxelvault_triage.worklist.order import Rules

_SHORT = 12
"""Digits of an item's id that are shown."""
_COLUMNS = ("", "study", "priority", "state", "waits", "left", "score", "mL", "priors")
"""The finding comes last: what a window cuts off is the end of a reason, never what a study is claimed by."""


@verb(
    "worklist",
    "voxelvault --vault ~/vault triage worklist --watch",
    "voxelvault --vault ~/vault triage worklist --claim 1.2.840.113619.2.5",
    "voxelvault --vault ~/vault triage worklist --override 1.2.840.113619.2 --to HIGH --reason 'phone call'",
)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--every", type=Amount(0.2), default=2.0, show_default=True, help="Seconds.")
@click.option("--pipeline", metavar="NAME", help="Only what this pipeline listed.")
@click.option("--all", "completed", is_flag=True, help="Those too that were read.")
@click.option("--priors", is_flag=True, help="Name the patient's other studies.")
@click.option("--ageing", type=Amount(1), default=AGEING, show_default=True, help="Minutes a level.")
@click.option("--claim", metavar="STUDY", help="Take a study to read: its UID; or an item's id.")
@click.option("--release", metavar="STUDY", help="Put back what you claimed.")
@click.option("--complete", metavar="STUDY", help="Say that you have read it.")
@click.option("--override", metavar="STUDY", help="Give it another priority: --to and --reason.")
@click.option("--to", type=click.Choice(["HIGH", "MEDIUM", "LOW"]), help="The priority that it gets.")
@click.option("--reason", metavar="TEXT", help="Why; it stands on the list: name nobody.")
@pass_session
def command(
    session: Session, /, as_json: bool, watch: bool, every: float, ageing: float, **asked: Any
) -> None:
    """Show the studies to be read, the most urgent first.

    HIGH is what a model flagged, MEDIUM what no model has judged, LOW the rest; + is a level that it has
    risen by waiting, (set) a reader's choice. `waits` is the time since its last image came, `left` what
    remains until it should be read: 30 minutes from then for HIGH, 2 hours for MEDIUM, 4 for LOW. A
    study's UID means all of its items, an item's id that one. Showing the list reads identifiers, and is
    logged.
    """
    from voxelvault.tasks import now
    from voxelvault_triage.worklist.order import Rules

    rules = Rules(ageing=timedelta(minutes=ageing))
    if watch and as_json:
        raise UsageError("--watch is for people: without it, --json prints the list once")
    if asked["override"] is None and (asked["to"] or asked["reason"] is not None):
        raise UsageError("--to and --reason say what becomes of a study: name it by --override STUDY")
    with session.open() as vault:
        _require_known(vault, asked["pipeline"])
        _change(vault, asked)
        if watch:
            _watch(vault, rules, asked, every)
            return
        items, at = _listed(vault, rules, asked), now()
        lines, notice = _told(items, at, rules, asked)
        if sys.stdout.isatty():
            lines = cut(lines, shutil.get_terminal_size().columns)
        emit([item.document(at, rules) for item in items], [*lines, "", notice], as_json)


def _require_known(vault: Vault, pipeline: str | None) -> None:
    """Refuse a name that nothing goes by: its list would be empty, as if all was read."""
    from voxelvault_triage.pipeline import pipeline_named

    listed = "select 1 from tasks where pipeline = $pipeline limit 1"
    if pipeline and not vault.resources.catalog.query(listed, {"pipeline": pipeline}).num_rows:
        pipeline_named(pipeline)


def _change(vault: Vault, asked: dict[str, Any]) -> None:
    from voxelvault.tasks import now
    from voxelvault_triage.worklist import reading
    from voxelvault_triage.worklist.listing import find, listing
    from voxelvault_triage.worklist.states import Priority

    verbs = {"claim": reading.claim, "release": reading.release, "complete": reading.finish}
    wanted = {name: asked[name] for name in (*verbs, "override") if asked[name] is not None}
    if not wanted:
        return
    if len(wanted) > 1:
        raise UsageError("one change at a time: --claim, --release, --complete or --override")
    items = listing(vault, now(), pipeline=asked["pipeline"])
    for name, study in wanted.items():
        chosen = [item.item_id for item in find(items, study)]
        if name in verbs:
            verbs[name](vault, chosen)
        elif asked["to"] is None:
            raise UsageError("--override wants --to HIGH, MEDIUM or LOW, and --reason")
        else:
            reading.override(vault, chosen, Priority(asked["to"]), asked["reason"] or "")


def _watch(vault: Vault, rules: Rules, asked: dict[str, Any], every: float) -> None:
    """Show the list again and again; Ctrl-C is how that ends. It is read, and logged, when it has changed."""
    from voxelvault.tasks import now
    from voxelvault_triage.worklist.order import ordered

    click.clear()
    seen, items = "", []
    try:
        while True:
            if (head := vault.resources.catalog.head().digest) != seen:
                seen, items = head, _listed(vault, rules, asked)
            lines, notice = _told(ordered(items, now(), rules), now(), rules, asked)
            at = f"{datetime.now():%H:%M:%S}  every {every:g} s; Ctrl-C ends it"
            if sys.stdout.isatty():
                size = shutil.get_terminal_size()
                drawn = fitted(lines, ["", *wrap(notice, size.columns - 1), at], size)
                # Over what is there, in one go: a screen that is cleared first flickers.
                click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in drawn) + "\x1b[J", nl=False)
            else:
                emit(None, [*lines, "", notice, at, ""], as_json=False)
            time.sleep(every)
    except KeyboardInterrupt:
        click.echo()


def fitted(lines: list[str], below: list[str], size: tuple[int, int]) -> list[str]:
    """Return lines as they fit a terminal of so many columns and rows; what stands below stays."""
    columns, rows = size
    room = max(rows - 1 - len(below), 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} lines more; the window is too low for them"]
    return cut([*lines, *below], columns)


def cut(lines: list[str], columns: int) -> list[str]:
    """Return lines as they fit a terminal of so many columns."""
    return [line if len(line) < columns else f"{line[: columns - 2]}…" for line in lines]


def _listed(vault: Vault, rules: Rules, asked: dict[str, Any]) -> list[Item]:
    from voxelvault.tasks import now
    from voxelvault_triage.worklist.listing import listing

    return listing(vault, now(), rules, completed=asked["completed"], pipeline=asked["pipeline"])


def _told(items: list[Item], at: datetime, rules: Rules, asked: dict[str, Any]) -> tuple[list[str], str]:
    """Return the list as lines, and what must stand below it."""
    from voxelvault_triage.worklist.listing import notices

    lines = _table(items, at, rules) if items else ["the list is empty"]
    if asked["priors"]:
        lines += [line for place, item in enumerate(items, 1) for line in _priors(place, item)]
    return lines, notices(items)


def _table(items: list[Item], now: datetime, rules: Rules) -> list[str]:
    rows = [_row(place, item, now, rules) for place, item in enumerate(items, 1)]
    heads = list(_COLUMNS)
    if len({item.pipeline for item in items}) > 1:
        # A study is listed once by each pipeline, and what one calls negative another may have flagged.
        heads.append("pipeline")
        rows = [[*row, item.pipeline] for row, item in zip(rows, items, strict=True)]
    if len({item.StudyInstanceUID for item in items}) < len(items):
        heads.append("item")
        rows = [[*row, item.item_id[:_SHORT]] for row, item in zip(rows, items, strict=True)]
    heads.append("finding")
    rows = [[*row, _finding(item)] for row, item in zip(rows, items, strict=True)]
    return table(heads, rows, widest=None)


def _row(place: int, item: Item, now: datetime, rules: Rules) -> list[str]:
    from voxelvault_triage.worklist.order import left, level

    raised = item.priority.level - level(item, now, rules)
    priority = f"{item.priority}{'+' * raised}{' (set)' if item.overridden else ''}"
    state = f"{item.state} by {item.claimed_by}" if item.claimed_by else item.state
    rest = left(item, now, rules)
    due = f"{_minutes(rest)}" if rest.total_seconds() >= 0 else f"{_minutes(-rest)} over"
    score = "" if item.score is None else f"{item.score:.2f} / {item.threshold:.2f}"
    volume = "" if item.volume_ml is None else f"{item.volume_ml:.1f}"
    waits, priors = _minutes(now - item.arrived), str(len(item.priors) or "")
    return [str(place), item.StudyInstanceUID, priority, state, waits, due, score, volume, priors]


def _finding(item: Item) -> str:
    words = {"CANCELED": "not analysed", "SCHEDULED": "to be analysed", "IN PROGRESS": "being analysed"}
    told = str(item.verdict or words.get(item.task_state, "to be analysed"))
    # The reason of an override is the reader's, and often against the verdict.
    link = "; set:" if item.overridden else ":"
    told += f"{link} {item.reason}" if item.reason else ""
    return "; ".join([told, *(f"flagged by {check}" for check in item.checks)])


def _minutes(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _priors(place: int, item: Item) -> list[str]:
    return [
        f"{place}: {prior.StudyInstanceUID}  {prior.StudyDate or 'no date'}"
        f"  {'/'.join(prior.modalities)}  {prior.verdict or ''}"
        for prior in item.priors
    ]

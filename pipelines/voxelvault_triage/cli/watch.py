"""`triage watch`: new studies are analysed as they come in."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import click

from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, say
from voxelvault_triage.amounts import Amount
from voxelvault_triage.running.asked import analysing


@verb(
    "watch",
    "voxelvault --vault ~/vault triage watch",
    "voxelvault --vault ~/vault triage watch --quiet 120 --scheduler tls://scheduler:8786",
    "voxelvault --vault ~/vault triage watch --cohort \"Modality = 'CT'\"",
)
@click.option("--quiet", type=Amount(0), default=60.0, show_default=True, help="Seconds without a new image.")
@click.option(
    "--gap", type=Amount(0), default=600.0, show_default=True, help="Seconds if slices are missing."
)
@click.option("--every", type=Amount(0.1), default=1.0, show_default=True, help="Seconds, a look.")
@click.option("--cohort", metavar="SQL", help="Only studies with series that a condition selects.")
@click.option("--once", is_flag=True, help="End when nothing is left to wait for.")
@analysing
@pass_session
def command(
    session: Session,
    /,
    as_json: bool,
    quiet: float,
    gap: float,
    every: float,
    cohort: str | None,
    once: bool,
    pipeline: str,
    **asked: Any,
) -> int:
    """Analyse new studies as soon as they are there; Ctrl-C ends it.

    A study is there when nothing new has come for a while and no slice is missing. Later images
    supersede its result and put it back on the list. A model that is installed, calibrated or removed
    meanwhile counts from then on. A watcher that was killed is started again by the same command.
    With --cohort, a study gets a result and a place on the list once it is selected; others get none.
    """
    from voxelvault_triage.ready import Patience
    from voxelvault_triage.running.asked import in_use, prepared
    from voxelvault_triage.running.session import work_through
    from voxelvault_triage.studies import selected
    from voxelvault_triage.watching import Watcher
    from voxelvault_triage.worklist.store import unfinished

    with session.open() as vault:
        among = None if cohort is None else partial(selected, vault, cohort)
        if among is not None:
            among()  # A faulty condition is refused before workers are started.
        runner, version, hands = prepared(vault, pipeline, asked)
        patience = Patience(timedelta(seconds=quiet), timedelta(seconds=max(quiet, gap)))
        newest = in_use(vault, pipeline, asked["model"])
        watcher = Watcher(vault, pipeline, version, runner.digest, newest, patience, every, tell=say)
        watcher.listed, watcher.among = runner.ranks, among
        if once:
            watcher.stop = lambda: watcher.idle and not unfinished(vault, pipeline)
        told = f"watching for {pipeline}; {runner.notice}"
        try:
            work_through(vault, runner, hands, watcher.tick, lambda: say(told))
        except KeyboardInterrupt:
            say("stopped: what was in hand is done by the next watcher")
    emit(runner.report.document(), f"studies: {runner.report}", as_json)
    return PARTLY if runner.report.given_up else 0

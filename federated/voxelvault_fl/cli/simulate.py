"""`federated simulate`: a job on virtual sites of one vault, before any hospital is asked."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, table

if TYPE_CHECKING:
    from voxelvault_fl.jobs.job import Job
    from voxelvault_fl.simulation.baselines import Compared
    from voxelvault_fl.simulation.simulate import Simulated

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@verb(
    "simulate",
    "voxelvault --vault ~/vault federated simulate job.toml --labels labels.csv --out run",
    "voxelvault --vault ~/vault federated simulate job.toml --labels labels.csv --out run --split dirichlet",
)
@click.argument("job", type=_FILE)
@click.option(
    "--out", required=True, type=_FOLDER, metavar="DIR", help="Goes on from there if it was stopped."
)
@click.option("--labels", type=_FILE, metavar="FILE", help="Table of labels, Parquet or CSV.")
@click.option("--on", default="StudyInstanceUID", show_default=True, help="Key column of the table.")
@click.option("--sites", type=click.IntRange(1), default=3, show_default=True, help="Virtual ones.")
@click.option(
    "--split", type=click.Choice(["iid", "scanner", "dirichlet"]), default="scanner", show_default=True
)
@click.option("--alpha", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True)
@click.option("--compare", is_flag=True, help="Also train at each site alone, and on all data together.")
@pass_session
def command(
    session: Session, job: Path, out: Path, labels: Path | None, on: str, sites: int, split: str,
    alpha: float, compare: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run a job file on virtual sites made of one vault: no server, no certificates, the same numbers.

    A person belongs to one site. What a site computes is what `federated site` computes.
    """
    from voxelvault_fl.jobs.filling import filling
    from voxelvault_fl.jobs.job import read_job
    from voxelvault_fl.simulation.baselines import compared
    from voxelvault_fl.simulation.simulate import simulate
    from voxelvault_fl.simulation.splitting import split as split_up
    from voxelvault_fl.training.examples import SiteData
    from voxelvault_fl.training.tasks import first_weights

    found = read_job(job, filling(first_weights, datetime.now(UTC)))
    with session.open() as vault:
        whole = SiteData(vault, labels, on)
        made_of = split_up(whole, found, split, sites, alpha, found.seed)
        data = {name: replace(whole, only=only) for name, only in made_of.items()}
        done = simulate(found, data, out)
        against = compared(found, data, done.outcome.weights) if compare else None
    emit(_document(found, done, against), _lines(found, done, against), as_json)


def _document(job: Job, done: Simulated, against: Compared | None) -> dict[str, Any]:
    out = done.outcome
    said = {"job": job.digest, "status": out.status, "rounds": out.round, "best": out.best}
    more = {"sites": dict(out.tested), "decisions": dict(out.decisions), "warning": job.warning}
    return {**said, **more, **({"compared": asdict(against)} if against else {})}


_UNMEASURED = "no figure was told: too few people behind each; the best round is the last, chosen by nothing"


def _lines(job: Job, done: Simulated, against: Compared | None) -> list[str]:
    out = done.outcome
    rows = [
        (one.round, *(f"{one.metrics.get(name, float('nan')):.4f}" for name in ("loss", "auc")))
        for one in done.record
        if one.kind == "evaluation"
    ]
    lines = [f"{out.status} after round {out.round}; the best is round {out.best}"]
    lines += table(("round", "loss", "auc"), rows) if rows else []
    lines += [] if out.measured else [_UNMEASURED]
    lines += [f"{name} answered: {why}" for name, why in out.decisions.items() if why != "approved"]
    if against:
        lines += table(("test AUC at", "alone", "federated", "pooled"), against.rows())
    return [*lines, *([f"warning: {job.warning}"] if job.warning else [])]

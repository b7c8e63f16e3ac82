"""`federated audit-model`: an attack, before the job is approved."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, plain

_PATH = click.Path(path_type=Path, exists=True)


@verb("audit-model", "voxelvault --vault V federated audit-model job.toml --labels labels.csv")
@click.argument("job", type=_PATH)
@click.option("--labels", type=_PATH, help="The site's table of labels, Parquet or CSV.")
@click.option("--on", default="StudyInstanceUID", show_default=True, help="Its key column.")
@click.option(
    "--epsilon",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="Of the model with noise, where the job says none.",
)
@click.option("--references", type=click.IntRange(1, 64), default=8, show_default=True)
@pass_session
def command(
    session: Session,
    job: Path,
    labels: Path | None,
    on: str,
    epsilon: float,
    references: int,
    as_json: bool,
) -> None:
    """Attack the model of JOB on this vault: try to tell who was in its training data.

    It trains without and with differential privacy on halves of the subjects, and prints how well an attack
    tells them apart. Nothing leaves, and no budget is charged. A test, no proof.
    """
    from voxelvault_fl.auditing import audit_model
    from voxelvault_fl.hospital import now
    from voxelvault_fl.jobs.filling import filling
    from voxelvault_fl.jobs.job import read_job
    from voxelvault_fl.training.examples import SiteData
    from voxelvault_fl.training.tasks import first_weights

    asked = read_job(job, filling(first_weights, now()))
    with session.open() as vault:
        found = audit_model(asked, SiteData(vault, labels, on), epsilon=epsilon, references=references)
    lines = [
        f"without differential privacy: {found.without}",
        f"with it: {found.with_noise}",
        f"the noise: {found.spent}",
        "a small figure is no proof: a better attack may find more; epsilon bounds all of them",
    ]
    emit(plain(found), lines, as_json)

"""A hospital's side put together: its data, its policy, its keys, and the rules of rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.task import Task, Weights
from voxelvault_fl.privacy.compressing import ErrorFeedback, codec_of
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.site import Hands, SiteSide, Standing
from voxelvault_fl.rounds.strategies import reach
from voxelvault_fl.rounds.transport import Compression, Plain
from voxelvault_fl.training.deciding import Decider
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import task_for

COUNTED = "counted.json"
"""File of a site's folder that remembers which cohorts were counted."""


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def compression(job: Job) -> Compression:
    """Return what makes a job's updates smaller: with a memory, so one for a job and a site."""
    return _within(job, job.update_norm)


def broadcasting(job: Job, model: Weights) -> Compression:
    """Return what makes the models that a job's server sends smaller: with a memory, so one for a job."""
    return _within(job, reach(job, model))


def _within(job: Job, most: float) -> Compression:
    codec = codec_of(job.compression)
    return Plain() if codec is None else ErrorFeedback(codec, most)


def no_ledger(job: Job) -> str:
    """Return the rule that a job under differential privacy breaks where there is no privacy ledger."""
    return "no-ledger" if job.privacy.mode == "dp-sgd" else ""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a hospital's process adds: its own log, its audit, its ledger of privacy, its clock."""

    log: Callable[[BaseException], None]
    noted: Callable[[Record], None] = lambda record: None
    ledger: Callable[[Job], str] = no_ledger
    task: Callable[[Job, SiteData], Task] = task_for
    now: Callable[[], datetime] = now


def side(
    name: str, folder: Path, standing: Callable[[], Standing], data: SiteData, outside: Outside
) -> SiteSide:
    """Return what answers a server's messages at a hospital.

    Parameters
    ----------
    name : str
        The site's.
    folder : Path
        Of the site's state: jobs, approvals, what was counted.
    standing : callable
        Gives its keys, those of server and lead, and its policy, as they are now.
    data : SiteData
        Its own.
    outside : Outside
        Of its process.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    smaller: dict[str, Compression] = {}

    def remembered(job: Job) -> Compression:
        if job.digest not in smaller:
            smaller[job.digest] = compression(job)
        return smaller[job.digest]

    hands = Hands(
        decide=Decider(
            lambda: standing().policy, data, folder / COUNTED, outside.now, outside.ledger, outside.log
        ),
        task=lambda job: outside.task(job, data),
        compression=remembered,
        now=outside.now,
        log=outside.log,
        noted=outside.noted,
    )
    return SiteSide(name, folder / "jobs", standing, hands)


__all__ = ["COUNTED", "Outside", "broadcasting", "compression", "now", "side"]

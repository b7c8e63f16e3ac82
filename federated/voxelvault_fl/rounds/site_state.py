"""What a site keeps of a job: what it was asked and said, the run's record as it saw it, its own model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load, save

from voxelvault.errors import IntegrityError
from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.jobs.strict import canonical
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.rounds import shelf
from voxelvault_fl.rounds.journal import Journal
from voxelvault_fl.rounds.records import Record


class SiteState:
    """The folder of one job at a site.

    Parameters
    ----------
    folder : Path
        Made at the first write.
    job : str
        Digest of the job.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self.folder = folder
        self._journal = Journal(folder / "journal", job)

    @property
    def chain(self) -> tuple[Record, ...]:
        """The run's record as it was seen here."""
        return self._journal.chain

    @property
    def offered(self) -> bytes | None:
        """The signed job as it came, if it was offered."""
        return shelf.get(self.folder / "job.json")

    def offer(self, signed: bytes) -> None:
        """Keep the signed job; the same one is offered again after each start of a server."""
        if self.offered != signed:
            shelf.put(self.folder / "job.json", signed)

    def use(self, turn: int) -> None:
        """Use up a turn, on the disk before anything is done.

        Raises
        ------
        MessageRefused
            The rule is ``replayed``: it or a later one was used before.
        """
        if turn <= self._journal.turn:
            raise MessageRefused("replayed", "this message, or a later one, was answered before")
        self._journal.use(turn)

    def follow(self, more: Sequence[Record]) -> None:
        """Take over new entries of the run's record; see `extended`."""
        self._journal.add(more)

    def give(self, round: int, said: Mapping[str, Any], sent: Weights) -> None:
        """Keep what a round is answered with, on the disk before it leaves."""
        head = canonical({"round": round, "said": dict(said)})
        shelf.put(self.folder / "given", head + b"\n" + save(sent))

    def given(self, round: int) -> tuple[dict[str, Any], Weights] | None:
        """Return what a round was answered with, if it was the last that was kept."""
        head, _, sent = (shelf.get(self.folder / "given") or b"{}").partition(b"\n")
        kept = json.loads(head)
        return (kept["said"], load(sent)) if kept.get("round") == round else None

    def keep_own(self, weights: Weights) -> None:
        """Keep the fine-tuned model, which never leaves."""
        shelf.put(self.folder / "personal.safetensors", save(weights))

    def own(self) -> Weights | None:
        """Return the fine-tuned model."""
        data = shelf.get(self.folder / "personal.safetensors")
        return load(data) if data else None

    @property
    def decided(self) -> str:
        """What was said last when the job came: ``approved``, ``waiting`` or a rule; empty before."""
        return (shelf.get(self.folder / "decided") or b"").decode()

    def decide(self, word: str) -> None:
        """Note what was decided, for those who look after this site."""
        if word != self.decided:
            shelf.put(self.folder / "decided", word.encode())

    @property
    def approved(self) -> bool:
        """Whether somebody here approved the job by hand."""
        return (self.folder / "approved").exists()

    @property
    def stopped(self) -> bool:
        """Whether somebody here stopped the job."""
        return (self.folder / "stopped").exists()

    @property
    def other_job(self) -> bool:
        """Whether another job with this one's id was offered here before."""
        mine, since = _id(self.folder), _since(self.folder)
        others = (one for one in self.folder.parent.iterdir() if one.name != self.folder.name)
        return any(mine and _id(one) == mine and _since(one) <= since for one in others)

    @property
    def finished(self) -> bool:
        """Whether the run's record, as it was seen here, has its end."""
        return bool(self.chain) and self.chain[-1].kind == "end"

    def approve(self) -> None:
        """Approve the job by hand."""
        shelf.put(self.folder / "approved", b"")

    def stop(self) -> None:
        """Stop the job here, for good: nothing of it is answered any more."""
        shelf.put(self.folder / "stopped", b"")


def _since(folder: Path) -> int:
    """Return when a job was first offered: its file is written once."""
    return (folder / "job.json").stat().st_mtime_ns


def damaged(folder: Path) -> bool:
    """Tell whether what was offered in a job's folder can't be read any more: it holds up that job alone."""
    return (folder / "job.json").exists() and not _id(folder)


def standing(folder: Path) -> dict[str, Any]:
    """Return how a job stands at a site: `id`, `status`, `rule` where it refuses, and the last `round`."""
    name = job_id(folder)
    if not name:
        return {"status": "damaged", "rule": "job.json"}
    try:
        mine = SiteState(folder, folder.name)
    except IntegrityError:
        return {"id": name, "status": "damaged", "rule": "journal"}
    word, chain = mine.decided, mine.chain
    if mine.stopped:
        said = {"status": "stopped"}
    elif mine.finished:
        said = {"status": "finished"}
    elif word in ("approved", "waiting", ""):
        said = {"status": word or "offered"}
    else:
        said = {"status": "refused", "rule": word}
    return {"id": name, **said, **({"round": chain[-1].round} if chain else {})}


def job_id(folder: Path) -> str:
    """Return a job's id; empty where none was offered or submitted, or the file is damaged."""
    return _id(folder).partition("/")[2]


def _id(folder: Path) -> str:
    """Return consortium and id of a job; empty where none was offered, or the file is damaged."""
    try:
        job = json.loads((folder / "job.json").read_bytes())["job"]
        return f"{job['consortium']}/{job['id']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


__all__ = ["SiteState", "damaged", "job_id", "standing"]

"""Ingest on the workers of a cluster: they read and write, the vault's own process decides.

A file is read twice: once to tell whose it is, once to store it; in between the vault's process
groups files into series and leaves out what it has. A worker gets paths and one fresh key for each
pack, nothing that opens another; what it found comes back sealed.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from voxelvault.crew import Bench, Crew, Unit
from voxelvault.dicom.columns import Tags
from voxelvault.dicom.json_model import Repeated
from voxelvault.dicom.sources import Source
from voxelvault.errors import UsageError, WorkerDied
from voxelvault.intake.candidates import Arrival, Candidate, examine
from voxelvault.intake.commit import Draft, discard, log_intent
from voxelvault.intake.identity import Person
from voxelvault.intake.packing import Press, Pressed, draft_of, press
from voxelvault.intake.quarantine import Reason, Refused
from voxelvault.model import new_id
from voxelvault.resources import Resources

LOOK_FILES, LOOK_BYTES = 16, 64 << 20
"""Files, and bytes of files, that one task looks at."""

PACK_BYTES, PACK_FILES = 256 << 20, 4096
"""Bytes of files, and files, of one pack: a worker holds them at once."""

CELL = 512
"""Bytes that a cell of a header takes, about."""

MOST_BATCHES = 4
"""Batches taken at once, however many workers there are: the vault's process holds their headers."""

NOT_SEEN = (
    "the workers cannot read the files that this process can: mount their folder on every worker at the "
    "same path, or ingest without a cluster"
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a worker found of a file; implements `Arrival`."""

    source: Source
    issuer: str
    size: int
    sha256: str
    person: Person
    study_uid: str
    series_uid: str
    sop_uid: str
    taken: int = 0
    """What its header takes in the worker that writes it, in cells of about 512 bytes."""

    @property
    def cells(self) -> int:
        """Nothing: the header is left where it is."""
        return 0

    @property
    def weight(self) -> int:
        """Bytes that a worker holds of it: of the file, or of its header where that grows beyond it."""
        return max(self.size, self.taken * CELL)

    @property
    def group(self) -> tuple[Person, str, str]:
        """Person, study and series."""
        return self.person, self.study_uid, self.series_uid


@dataclass(frozen=True, slots=True)
class PackJob:
    """What a worker is to make of some files of one series; paths and digests are never shown by `repr`."""

    pack_id: str
    codec: str
    tags: Tags = field(repr=False)
    files: tuple[tuple[Source, str, str], ...] = field(repr=False)
    """Source, issuer and SHA-256 of each."""


def look(_bench: Bench, files: Sequence[tuple[Source, str]]) -> list[Found | Refused | None]:
    """Tell what some files are, in a worker."""
    repeated = Repeated()
    return [_described(source, issuer, repeated) for source, issuer in files]


def _described(source: Source, issuer: str, repeated: Repeated) -> Found | Refused | None:
    outcome = examine(source, issuer, repeated)
    if isinstance(outcome, Candidate):
        person, study_uid, series_uid = outcome.group
        return Found(
            source,
            issuer,
            outcome.size,
            outcome.sha256,
            person,
            study_uid,
            series_uid,
            outcome.sop_uid,
            outcome.cells,
        )
    return outcome if outcome is None else _without_bytes(outcome)


def _without_bytes(refused: Refused) -> Refused:
    """Leave the bytes where they are; the vault's process reads them again when it seals them."""
    if refused.data is None:
        return refused
    item = refused.described()
    return replace(refused, data=None, sha256=item.sha256, size=item.size)


def pack(bench: Bench, job: PackJob) -> Pressed:
    """Write one pack, in a worker; return what the commit needs."""
    candidates: list[Candidate] = []
    aside: list[Refused] = []
    repeated = Repeated()
    for source, issuer, sha256 in job.files:
        outcome = examine(source, issuer, repeated)
        if isinstance(outcome, Candidate) and outcome.sha256 == sha256:
            candidates.append(outcome)
        else:
            aside.append(Refused(source, Reason.CHANGED, None))
    pressed = Pressed()
    if candidates:
        with ThreadPoolExecutor(1) as executor:
            tools = Press(bench.sealed(), bench.pool, job.codec, executor, job.tags)
            pressed = press(tools, job.pack_id, bench.key(job.pack_id), candidates)
    pressed.aside = aside + [_without_bytes(refused) for refused in pressed.aside]
    return pressed


class There:
    """The workers of a crew; see `voxelvault.intake.here.Hands`.

    Parameters
    ----------
    resources : Resources
        The open vault.
    codec : str
        Preferred codec.
    crew : Crew
        Who does it.
    """

    def __init__(self, resources: Resources, codec: str, crew: Crew) -> None:
        self._resources, self._codec, self._crew = resources, codec, crew
        self._tags = {table: dict(columns) for table, columns in resources.tags.items()}

    @property
    def batches(self) -> int:
        """As many batches' worth as keep all workers busy."""
        return max(1, min(self._crew.hands, MOST_BATCHES))

    def examine(
        self, files: Sequence[tuple[Source, str]], stop: threading.Event
    ) -> Iterator[Found | Refused | None]:
        """Yield what each file is, in their order; fewer after Ctrl-C."""
        parts = list(_parted(files, lambda file: file[0].size, LOOK_FILES, LOOK_BYTES))
        found: dict[int, Sequence[Found | Refused | None]] = {}
        for done in self._crew.run([partial(Unit, "ingest-look", look, part) for part in parts], stop.is_set):
            if done.lost:
                raise WorkerDied(_LOOKED)
            found[done.number] = done.result
        for number in sorted(found):
            for (source, issuer), outcome in zip(parts[number], found[number], strict=True):
                yield self._checked(source, issuer, outcome)

    def _checked(
        self, source: Source, issuer: str, outcome: Found | Refused | None
    ) -> Found | Refused | None:
        """Make sure that a file which a worker could not read is one that nobody can."""
        if isinstance(outcome, Refused) and outcome.reason is Reason.UNREADABLE:
            here = examine(source, issuer)
            if not (isinstance(here, Refused) and here.reason is Reason.UNREADABLE):
                raise UsageError(NOT_SEEN)
        return outcome

    def write(
        self,
        action: str,
        groups: Sequence[Sequence[Found]],
        late: list[Refused],
        go_on: Callable[[Sequence[Arrival]], bool],
        refused: list[str],
    ) -> tuple[list[Draft], bool]:
        """Have a pack written for each group, or several for a large one; say whether all were."""
        parts = [
            part
            for group in groups
            for part in _parted(group, lambda found: found.weight, PACK_FILES, PACK_BYTES)
        ]
        first = [new_id() for _ in parts]
        log_intent(self._resources, action, "pack", first)
        makers = [
            partial(self._attempt, action, part, [pack_id])
            for part, pack_id in zip(parts, first, strict=True)
        ]
        drafts: dict[int, Draft] = {}
        aside: dict[int, list[Refused]] = {}
        stopped = threading.Event()
        finished = 0
        try:
            for done in self._crew.run(makers, stopped.is_set):
                part = parts[done.number]
                finished += 1
                if done.lost:
                    refused += [f"{found.source.display}: {_LOST}" for found in part]
                else:
                    drafts[done.number], aside[done.number] = self._draft(done.unit, part, done.result)
                if not go_on(part):
                    stopped.set()
        except BaseException:
            for draft in drafts.values():
                discard(self._resources, draft.writer)
            raise
        late += [one for number in sorted(aside) for one in aside[number]]
        return [drafts[number] for number in sorted(drafts)], finished == len(parts)

    def _attempt(self, action: str, part: Sequence[Found], named: list[str]) -> Unit:
        """Return an attempt at a pack, each with an id and a key of its own.

        What a killed worker has written stays another pack's, which is never committed: `verify
        --repair` sweeps it.
        """
        if named:
            pack_id = named.pop()
        else:
            pack_id = new_id()
            log_intent(self._resources, action, "pack", [pack_id])
        files = tuple((found.source, found.issuer, found.sha256) for found in part)
        job = PackJob(pack_id, self._codec, self._tags, files)
        keys = {pack_id: secrets.token_bytes(32)}
        return Unit("ingest-series", pack, job, keys, writes=True)

    def _draft(self, unit: Unit, part: Sequence[Found], pressed: Pressed) -> tuple[Draft, list[Refused]]:
        pack_id = unit.argument.pack_id
        return draft_of(pack_id, unit.keys[pack_id], part[0], self._codec, pressed), pressed.aside


_LOOKED = (
    "each worker that looked at some of the files was killed: give the workers more memory, or ingest "
    "without a cluster; what was stored before stays"
)
_LOST = (
    "each worker that took in its series was killed, so it was left out: give the workers more memory, "
    "or ingest it without a cluster"
)


def _parted(items: Sequence[Any], size: Callable[[Any], int], most: int, limit: int) -> Iterator[list[Any]]:
    """Cut a sequence into parts of so many items and bytes at most; one item is never cut."""
    part: list[Any] = []
    held = 0
    for item in items:
        if part and (len(part) >= most or held + size(item) > limit):
            yield part
            part, held = [], 0
        part.append(item)
        held += size(item)
    if part:
        yield part


__all__ = ["Found", "PackJob", "There", "look", "pack"]

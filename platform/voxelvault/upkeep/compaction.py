"""Many small packs of a series become one: an intent, new objects, one commit, an outcome.

A series that arrived image by image has a pack for each image. The joined pack is written beside
them; the commit swaps the rows; the old objects stay for readers at work and are swept by repair
when nobody can be reading any more. Kill it anywhere: before the commit nothing has changed,
after it only the outcome is missing, which repair enters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_bytes

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import CommitInfo
from voxelvault.crew import Crew, Unit
from voxelvault.errors import IntegrityError
from voxelvault.intake.commit import check_written, discard
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.storage.pack import SHARD_BYTES, SeriesIdentity
from voxelvault.upkeep.joining import CarryJob, carry_there
from voxelvault.upkeep.rewriting import (
    IDS_AN_ENTRY,
    Rewritten,
    Row,
    Source,
    entries,
    expected_frames,
    made_of,
    rewrite,
    seal,
    sources_of,
    swap,
    unchanged,
)

AT_ONCE = 16
"""Joined packs of one commit."""


@dataclass(slots=True)
class CompactReport:
    """What was joined, or would be.

    Attributes
    ----------
    series : int
        Series with packs to join.
    packs, into : int
        Packs that were joined, and what they became.
    bytes : int
        Size of the files in them.
    skipped : int
        Joined packs that were given up, since somebody changed theirs meanwhile.
    dry_run : bool
        Only looked.
    """

    series: int = 0
    packs: int = 0
    into: int = 0
    bytes: int = 0
    skipped: int = 0
    dry_run: bool = False

    @property
    def complete(self) -> bool:
        """True when nothing was given up."""
        return not self.skipped

    def __str__(self) -> str:
        if not self.packs and not self.skipped:
            return "nothing to join"
        would = "would become" if self.dry_run else "became"
        told = f"{self.packs} packs of {self.series} series {would} {self.into} ({self.bytes / 1e6:,.1f} MB)"
        return told + (f"; {self.skipped} given up, changed meanwhile: run it again" if self.skipped else "")


@dataclass(frozen=True, slots=True)
class _Group:
    """Small packs of one series that may be joined: their rows, oldest first, and their files' size."""

    rows: Sequence[Row]
    size: int


Plan = tuple[_Group, str, list[Source]]
"""Packs to join, the id of what they become, and them as sources."""


def compact(
    resources: Resources,
    *,
    dry_run: bool = False,
    advance: Callable[[int], object] = lambda packs: None,
    crew: Crew | None = None,
) -> CompactReport:
    """Join the small packs of each series.

    A pack is small when its files are smaller than a shard. Packs that were written under different
    identities (before and after a merge, say) stay apart: their manifests tell whose they were.

    Parameters
    ----------
    resources : Resources
        The open vault.
    dry_run : bool
        Only count.
    advance : callable
        Progress: called with the number of packs done.
    crew : Crew, optional
        Workers of a cluster that read and write; by default this process does.

    Returns
    -------
    CompactReport
        What was joined.

    Raises
    ------
    PolicyDenied, AuditError, NoPermission, StorageError
        What was committed before stays so; nothing else has changed.
    """
    require(resources.policy, Request(Kind.COMPACTED, (), resources.purpose, resources.who))
    report = CompactReport(dry_run=dry_run)
    groups = _groups(resources)
    if dry_run:
        for group in groups:
            _count(report, [group])
        report.series = len({group.rows[0]["series_id"] for group in groups})
        return report
    require_writable(resources)
    joined: set[str] = set()
    step = AT_ONCE if crew is None else max(AT_ONCE, min(4 * crew.hands, 16 * AT_ONCE))
    for at in range(0, len(groups), step):
        done = _join(resources, groups[at : at + step], report, advance, crew)
        joined |= {group.rows[0]["series_id"] for group in done}
    report.series = len(joined)
    return report


def _count(report: CompactReport, groups: Sequence[_Group]) -> None:
    report.packs += sum(len(group.rows) for group in groups)
    report.into += len(groups)
    report.bytes += sum(group.size for group in groups)


def _groups(resources: Resources) -> list[_Group]:
    """Return what may be joined: at least two small packs of a series, under one key."""
    rows = resources.catalog.query(
        "select p.*, f.size as file_bytes from packs p join (select pack_id, sum(length)::BIGINT as size"
        " from instances group by pack_id having sum(length) < $limit) f using (pack_id)"
        " qualify count(*) over (partition by p.series_id, p.key_id) > 1"
        " order by p.series_id, p.key_id, p.created, p.pack_id",
        {"limit": SHARD_BYTES},
    ).to_pylist()
    alike: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        alike.setdefault((row["series_id"], row["key_id"]), []).append(row)
    return [_Group(some, sum(row["file_bytes"] for row in some)) for some in alike.values()]


def _join(
    resources: Resources,
    groups: Sequence[_Group],
    report: CompactReport,
    advance: Callable[[int], object],
    crew: Crew | None,
) -> list[_Group]:
    """Join some groups in one commit; return those that were."""
    action = new_id()
    plan: list[Plan] = [
        (group, new_id(), sources) for group in groups for sources in _by_identity(resources, group)
    ]
    if not plan:
        return []
    named = [(pack_id, [source.row["pack_id"] for source in sources]) for _, pack_id, sources in plan]
    resources.audit.append(_events(resources, action, Outcome.INTENT, named))
    written: list[Rewritten] = []
    try:
        if crew is None:
            for _, pack_id, sources in plan:
                written.append(rewrite(resources, pack_id, sources, advance))
        else:
            plan = _rewrite_there(resources, action, plan, written, advance, crew)
            report.skipped += len(named) - len(plan)
    except BaseException:
        for rewritten in written:
            discard(resources, rewritten.writer)
        raise
    with resources.catalog.lease() as lease:
        kept, found, manifests = [], [], {}
        for rewritten in written:
            check_written(resources, rewritten.writer)
            try:
                belongs = unchanged(lease, rewritten)
            except IntegrityError:
                report.skipped += 1
                discard(resources, rewritten.writer)
                continue
            manifest, ref = seal(resources, rewritten, rewritten.manifest.study_key_id)
            found += swap(lease, rewritten, manifest, ref, belongs)
            kept.append(rewritten)
            manifests[rewritten.pack_id] = ref.sha256
        info = lease.commit(found, resources.keys.commit)
    done = [(rewritten.pack_id, rewritten.old) for rewritten in kept]
    outcome = _events(resources, action, Outcome.OK, done, manifests, info)
    resources.audit.append(outcome)
    there = set(manifests)
    for _, pack_id, sources in plan:
        if pack_id in there:
            taken = sum(row["file_bytes"] for row in (source.row for source in sources))
            _count(report, [_Group([source.row for source in sources], taken)])
    return [group for group, pack_id, _ in plan if pack_id in there]


def _rewrite_there(
    resources: Resources,
    action: str,
    plan: Sequence[Plan],
    written: list[Rewritten],
    advance: Callable[[int], object],
    crew: Crew,
) -> list[Plan]:
    """Have workers write the joined packs; return the plan with the ids under which that was done."""

    def attempt(number: int) -> Unit:
        _, first, sources = plan[number]
        pack_id = first if number not in tried else new_id()
        old = [source.row["pack_id"] for source in sources]
        if number in tried:
            resources.audit.append(_events(resources, action, Outcome.INTENT, [(pack_id, old)]))
        tried.add(number)
        taken = tuple((source.row["pack_id"], source.instance_ids) for source in sources)
        job = CarryJob(pack_id, taken, expected_frames(sources))
        rows = [source.row for source in sources]
        return Unit("compact-series", carry_there, job, {pack_id: token_bytes(32)}, rows, writes=True)

    tried: set[int] = set()
    found: dict[int, Plan] = {}
    for done in crew.run([partial(attempt, number) for number in range(len(plan))]):
        group, _, sources = plan[done.number]
        advance(len(sources))
        if not done.lost:
            pack_id = done.unit.argument.pack_id
            found[done.number] = group, pack_id, sources
            written.append(made_of(pack_id, done.unit.keys[pack_id], sources, done.result))
    return [found[number] for number in sorted(found)]


def _by_identity(resources: Resources, group: _Group) -> Iterator[list[Source]]:
    """Yield the sources of a group that were written for one subject, study and series."""
    alike: dict[SeriesIdentity, list[Source]] = {}
    for source in sources_of(resources, group.rows):
        alike.setdefault(source.manifest.identity, []).append(source)
    yield from (sources for sources in alike.values() if len(sources) > 1)


def _events(
    resources: Resources,
    action: str,
    outcome: Outcome,
    named: Sequence[tuple[str, Sequence[str]]],
    manifests: dict[str, str] | None = None,
    info: CommitInfo | None = None,
) -> list[Event]:
    """Return the entries of all joined packs: which go, and which comes for them."""
    found: list[Event] = []
    for pack_id, old in named:
        own = {pack_id: manifests[pack_id]} if manifests else None
        for at in range(0, len(old), IDS_AN_ENTRY):
            part = old[at : at + IDS_AN_ENTRY]
            # Every entry says which pack its own became: a rebuild goes by it.
            ids = {"pack": part, "into": [pack_id]}
            found += entries(resources, Kind.COMPACTED, action, outcome, ids, {"packs": len(part)}, info, own)
    return found or entries(resources, Kind.COMPACTED, action, outcome, {}, {}, info)


__all__ = ["CompactReport", "compact"]

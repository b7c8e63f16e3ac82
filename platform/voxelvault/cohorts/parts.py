"""Splitting the series of a selection, and a frozen cohort's split, which stays what it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from voxelvault.access import log_query
from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.catalog.catalog import Change, CommitInfo
from voxelvault.catalog.engine import quoted
from voxelvault.cohorts.digests import canonical, members_digest
from voxelvault.cohorts.freezing import Frozen
from voxelvault.cohorts.groups import Groups, groups_of
from voxelvault.cohorts.selecting import Chosen, one_view
from voxelvault.cohorts.splitting import DEFAULT, by_dealing, by_hash, shares
from voxelvault.errors import SplitViolation, UsageError
from voxelvault.model import new_id
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.rows import changes


@dataclass(frozen=True)
class Recipe:
    """How a split is made.

    Parameters
    ----------
    parts : mapping of str to float
        Shares by name, in order.
    seed : int
        Another seed is another split.
    stratify : tuple of str or None
        Columns whose every combination of values is dealt out by the shares; empty: all are dealt
        out as one; None: each group's hash alone decides.
    """

    parts: Mapping[str, float]
    seed: int = 0
    stratify: tuple[str, ...] | None = None

    def plain(self) -> dict[str, Any]:
        """Return the recipe as JSON holds it."""
        return {
            "parts": dict(self.parts),
            "seed": self.seed,
            "stratify": None if self.stratify is None else list(self.stratify),
        }


@dataclass(frozen=True)
class Assigned:
    """Which series went where.

    Parameters
    ----------
    recipe : Recipe
        How.
    part_of : mapping of str to str
        Opaque series id to part.
    strata : mapping of str to str
        Opaque series id to its group's stratum; empty for a split by hash, and for a stored one.
    """

    recipe: Recipe
    part_of: Mapping[str, str] = field(repr=False)
    strata: Mapping[str, str] = field(default_factory=dict, repr=False)

    def ids(self, part: str) -> tuple[str, ...]:
        """Return the opaque ids of a part's series, in order."""
        return tuple(sorted(one for one, name in self.part_of.items() if name == part))


def recipe(parts: Mapping[str, float], seed: int | None, stratify: str | Sequence[str] | None) -> Recipe:
    """Return the recipe for what `split` was given.

    Raises
    ------
    UsageError
        The shares or the seed are none.
    """
    shares(parts or DEFAULT)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise UsageError("seed= is a whole number")
    columns = (stratify,) if isinstance(stratify, str) else stratify
    return Recipe(dict(parts or DEFAULT), seed or 0, None if columns is None else tuple(columns))


def assign(chosen: Chosen, series_ids: Sequence[str], how: Recipe) -> Assigned:
    """Split series so that all who may be one person stand in one part.

    Raises
    ------
    UsageError
        A part would be empty though it has a share, or there is no column to stratify by.
    """
    groups, exact = groups_of(chosen.resources, series_ids), shares(how.parts)
    strata: dict[str, str] = {}
    if how.stratify is None:
        found = by_hash([arrival.anchor for arrival in groups.arrivals], exact, how.seed, chosen.salt)
    else:
        strata = _strata(chosen, groups, how.stratify)
        arrivals = [(one.anchor, strata[one.anchor]) for one in groups.arrivals]
        found = by_dealing(arrivals, exact, how.seed, chosen.salt)
    empty = sorted({name for name, share in exact.items() if share} - set(found.values()))
    if empty:
        raise UsageError(_too_few(empty[0], len(groups.arrivals), how))
    return Assigned(
        how,
        {series_id: found[group] for series_id, group in groups.of_series.items()},
        {series_id: strata[group] for series_id, group in groups.of_series.items()} if strata else {},
    )


def with_strata(chosen: Chosen, found: Assigned) -> Assigned:
    """Return a split that was stored, with the strata that it was dealt out by, as they are now."""
    if found.strata or found.recipe.stratify is None:
        return found
    groups = groups_of(chosen.resources, list(found.part_of))
    strata = _strata(chosen, groups, found.recipe.stratify)
    return replace(found, strata={one: strata[group] for one, group in groups.of_series.items()})


def _strata(chosen: Chosen, groups: Groups, columns: Sequence[str]) -> dict[str, str]:
    """Return the stratum of each group: what its first series says, which no later one changes."""
    first = {one.came[1]: one.anchor for one in groups.arrivals}
    rows = _values(chosen, list(first), columns)
    return {anchor: canonical(rows[series_id]) for series_id, anchor in first.items()}


def _values(chosen: Chosen, series_ids: Sequence[str], columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of label or catalog columns of series."""
    own = [name for name in columns if name in chosen.labels.columns]
    other = [name for name in columns if name not in own]
    told: dict[str, Mapping[str, Any]] = {}
    if other:
        told = _of_catalog(chosen, series_ids, other)
    return {
        one: [chosen.labels.of(one).get(name) if name in own else told[one][name] for name in columns]
        for one in series_ids
    }


def _of_catalog(
    chosen: Chosen, series_ids: Sequence[str], columns: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    view = one_view(chosen.ask, " ".join(columns))
    known = chosen.ask(f"SELECT * FROM {view} LIMIT 0").columns  # noqa: S608 - ours
    lacking = [name for name in columns if name not in known]
    if lacking:
        raise UsageError(
            f"there is no column {lacking[0]!r} to stratify by: pass a label's, or one of series, studies"
            " or patients"
        )
    listed = ", ".join(map(quoted, columns))
    log_query(chosen.resources, f"select {listed} from series")  # noqa: S608 - quoted
    ids = ", ".join(f"'{series_id}'" for series_id in series_ids)
    rows = chosen.ask(
        f"SELECT series_id, {listed} FROM {view} WHERE series_id IN ({ids})"  # noqa: S608 - quoted, opaque
    ).arrow()
    return {row["series_id"]: row for row in rows.to_pylist()}


def stored(resources: Resources, frozen: Frozen) -> Assigned | None:
    """Return the split that a cohort has; None before the first."""
    (told,) = resources.catalog.query(
        "select split from cohorts where cohort_id = $id", {"id": frozen.cohort_id}
    )["split"].to_pylist()
    if not told:
        return None
    rows = resources.catalog.query(
        "select distinct series_id, part from cohort_members where cohort_id = $id and part is not null"
        " order by series_id, part",
        {"id": frozen.cohort_id},
    ).to_pylist()
    how = json.loads(told)
    stratify = None if how["stratify"] is None else tuple(how["stratify"])
    several = Counter(row["series_id"] for row in rows)
    if max(several.values(), default=1) > 1:
        # Two series that became one by a merge.
        _refuse([one for one, count in several.items() if count > 1], "series")
    return Assigned(
        Recipe(how["parts"], how["seed"], stratify), {row["series_id"]: row["part"] for row in rows}
    )


def standing(resources: Resources, frozen: Frozen) -> tuple[Mapping[str, str], str]:
    """Return a cohort's parts by series, for showing, and in a word what is wrong with them."""
    try:
        there = stored(resources, frozen)
        if there is not None:
            check(resources, there.part_of)
    except SplitViolation:
        return {}, "its split is violated since a merge: split() says by whom"
    return (there.part_of, "split") if there else ({}, "")


def split_once(
    chosen: Chosen, frozen: Frozen, series_ids: Sequence[str], how: Recipe | None, resplit: bool
) -> Assigned:
    """Split a whole cohort, or return the split that it has: a cohort is split once, and keeps it.

    Parameters
    ----------
    chosen : Chosen
        The cohort as a selection.
    frozen : Frozen
        The cohort.
    series_ids : sequence of str
        All of its series.
    how : Recipe or None
        None: as it is split already.
    resplit : bool
        Split a frozen cohort anew.

    Raises
    ------
    UsageError
        The cohort is split by another recipe, or not yet and none is given.
    SplitViolation
        Somebody stands in two parts since a merge.
    """
    there = None if resplit else stored(chosen.resources, frozen)
    if there is None:
        if how is None:
            raise UsageError("this cohort is not split yet: name the parts, such as train=0.75, val=0.25")
        found = assign(chosen, series_ids, how)
        _store(chosen.resources, frozen, found)
        return found
    if how is not None and canonical(how.plain()) != canonical(there.recipe.plain()):
        raise UsageError(
            "this cohort is split already, in another way: split() without parameters returns that split,"
            " resplit=True replaces it"
        )
    check(chosen.resources, there.part_of)
    return there


def check(resources: Resources, part_of: Mapping[str, str]) -> None:
    """Make sure that nobody stands in two parts, as far as the vault knows today.

    Raises
    ------
    SplitViolation
        Somebody does: two subjects were merged, or may be one person, since the split.
    """
    groups = groups_of(resources, list(part_of))
    parts: dict[str, set[str]] = {}
    for series_id, group in groups.of_series.items():
        parts.setdefault(group, set()).add(part_of[series_id])
    _refuse([group for group, found in parts.items() if len(found) > 1], "subject")


def _refuse(ids: Sequence[str], what: str) -> None:
    if ids:
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        raise SplitViolation(
            f"since this split, who stands in one part and in another became (or may be) one person: {what}"
            f" {', '.join(sorted(ids)[:3])}{more}; split(resplit=True) splits anew, and what was trained on"
            " the old split may have seen its test set"
        )


def _store(resources: Resources, frozen: Frozen, found: Assigned) -> None:
    require(
        resources.policy,
        Request(Kind.COHORT_SPLIT, (frozen.cohort_id,), resources.purpose, resources.who),
    )
    require_writable(resources)
    # Not sorted: the parts come back in the order they were given.
    how = json.dumps(found.recipe.plain())
    with resources.catalog.lease() as lease:
        members = lease.query(
            "select cohort_id, instance_id, series_id, subject_id from cohort_members where cohort_id = $id",
            {"id": frozen.cohort_id},
        )
        part = [found.part_of.get(series_id) for series_id in members["series_id"].to_pylist()]
        rows = members.select(["cohort_id", "instance_id"]).append_column("part", pa.array(part, pa.string()))
        action = new_id()
        event = _Event(resources, frozen, action, found, members)
        resources.audit.append([event.made(Outcome.INTENT)])
        info = lease.commit(
            [
                Change("cohort_members", rows, "merge"),
                *changes("cohorts", [{"cohort_id": frozen.cohort_id, "split": how}], "merge"),
            ]
        )
    resources.audit.append([event.made(Outcome.OK, info)])


@dataclass(frozen=True)
class _Event:
    resources: Resources
    frozen: Frozen
    action: str
    found: Assigned
    members: pa.Table

    def made(self, outcome: Outcome, info: CommitInfo | None = None) -> Event:
        counts = {
            "members": self.members.num_rows,
            "subjects": len(set(self.members["subject_id"].to_pylist())),
            "parts": len(self.found.recipe.parts),
        }
        digests = {"members": self.frozen.members_sha256, "recipe": recipe_digest(self.found.recipe)}
        return Event(
            kind=Kind.COHORT_SPLIT,
            who=self.resources.who,
            purpose=self.resources.purpose,
            action=self.action,
            outcome=outcome,
            ids={"cohort": (self.frozen.cohort_id,)},
            counts=counts | ({"snapshot": info.snapshot} if info else {}),
            digests=digests | ({"catalog": info.digest} if info else {}),
        )


def recipe_digest(how: Recipe) -> str:
    """Return the SHA-256 of a recipe."""
    return members_digest([canonical(how.plain())])


def part(chosen: Chosen, found: Assigned, name: str) -> Chosen:
    """Return one part of a selection that was split."""
    how = recipe_digest(found.recipe)
    return replace(
        chosen,
        text=f"part {name} of ({chosen.text}) split by {how}",
        find=lambda: found.ids(name),
        part=name,
        salt=f"{chosen.salt} {how} {name}",
    )


def without(chosen: Chosen, found: Assigned, name: str) -> Chosen:
    """Return all of a selection but one part."""
    rest = [one for one, other in found.part_of.items() if other != name]
    kept = part(chosen, found, name)
    return replace(kept, text=f"all but {kept.text}", find=lambda: rest, part=None, salt=f"not {kept.salt}")


def _too_few(empty: str, people: int, how: Recipe) -> str:
    """Return what to do about a part that nobody stands in."""
    wanted = sum(share > 0 for share in how.parts.values())
    told = "1 person" if people == 1 else f"{people} people"
    if people < wanted:
        return (
            f"{told} (subjects who may be one count once) cannot fill {wanted} parts; select more people, or"
            " name fewer parts"
        )
    way_out = "name fewer parts" if how.stratify == () else "stratify=[] deals them out evenly"
    return f"the part {empty} would be empty: {told} are few for these shares; {way_out}"


def folds(chosen: Chosen, series_ids: Sequence[str], k: int, seed: int, stratify: Any) -> Assigned:
    """Return k parts of like size; see `assign`.

    Raises
    ------
    UsageError
        There are fewer subjects than folds, or k is no number from 2 up.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 2:
        raise UsageError("k is the number of folds, 2 or more")
    names = {f"fold {number}": 1 / k for number in range(k)}
    # Dealt out, not hashed: a fold that chance leaves empty is of no use.
    return assign(chosen, series_ids, recipe(names, seed, stratify if stratify is not None else ()))


__all__ = [
    "Assigned",
    "Recipe",
    "assign",
    "check",
    "folds",
    "part",
    "recipe",
    "recipe_digest",
    "split_once",
    "standing",
    "stored",
    "with_strata",
    "without",
]

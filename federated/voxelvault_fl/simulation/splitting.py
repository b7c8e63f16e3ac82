"""Virtual sites of one vault. A person belongs to one site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from voxelvault_fl.cohorts.members import Member, members
from voxelvault_fl.cohorts.view import view_sql
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.training.examples import Example, SiteData, examples

SPLITS = ("iid", "scanner", "dirichlet")


def split(
    data: SiteData, job: Job, how: str, sites: int, alpha: float = 0.5, seed: int = 0
) -> dict[str, frozenset[str]]:
    """Return the series ids of each virtual site.

    Parameters
    ----------
    data : SiteData
        The vault and its labels.
    job : Job
        Its cohort is split.
    how : str
        ``iid``: people at random; ``scanner``: by manufacturer and model, the smallest joined where there
        are more than sites; ``dirichlet``: each class dealt out by shares drawn with `alpha`, small for
        sites that differ much.
    sites : int
        How many.
    alpha : float
        Of the Dirichlet distribution.
    seed : int
        Of the draw.

    Raises
    ------
    JobRefused
        There are fewer people or scanners than sites.
    """
    if how == "scanner":
        # Labels may take long to read: what can't be split is refused before.
        _require_scanners(data, job, sites)
    found = examples(data, job)
    people = list(dict.fromkeys(one.member.subject_id for one in found))
    draw = np.random.default_rng(seed)
    if how == "iid":
        dealt = {one: at % sites for at, one in enumerate(draw.permutation(np.array(people, object)))}
    elif how == "scanner":
        dealt = _by_scanner(data, found, sites)
    elif how == "dirichlet":
        dealt = _by_shares(found, people, sites, alpha, draw)
    else:
        raise JobRefused("split", f"splits are {', '.join(SPLITS)}")
    made = {f"site-{at + 1}": _series(found, dealt, at) for at in range(sites)}
    if not all(made.values()):
        raise JobRefused("split", "some virtual site would be empty; take fewer sites or another split")
    return made


def _series(found: Sequence[Example], dealt: Mapping[str, int], site: int) -> frozenset[str]:
    return frozenset(one.member.series_id for one in found if dealt[one.member.subject_id] == site)


def _scanners(data: SiteData, chosen: Iterable[Member]) -> dict[str, str]:
    """Return each person's scanner; whoever was on two counts as the first one's."""
    scanner = {
        series: " ".join(filter(None, (maker, model))) or "unnamed"
        for series, maker, model in data.vault.sql(
            f"SELECT series_id, Manufacturer, ManufacturerModelName FROM ({view_sql()}) AS view"  # noqa: S608
        )
    }
    first: dict[str, str] = {}
    for one in chosen:
        first.setdefault(one.subject_id, scanner[one.series_id])
    return first


def _require_scanners(data: SiteData, job: Job, sites: int) -> None:
    people = Counter(_scanners(data, members(data.vault, job.cohort, data.only)).values())
    if len(people) < sites:
        told = ", ".join(f"{name} ({count})" for name, count in people.most_common()) or "none"
        raise JobRefused(
            "split",
            f"{sites} sites by scanner need as many scanners; the cohort's, with people: {told}."
            " Take fewer --sites, or --split iid or dirichlet",
        )


def _by_scanner(data: SiteData, found: Sequence[Example], sites: int) -> dict[str, int]:
    first = _scanners(data, [one.member for one in found])
    sizes = Counter(first.values())
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    place = {name: min(at, sites - 1) for at, name in enumerate(order)}
    return {subject: place[name] for subject, name in first.items()}


def _by_shares(
    found: Sequence[Example], people: Sequence[str], sites: int, alpha: float, draw: np.random.Generator
) -> dict[str, int]:
    sick = {one.member.subject_id for one in found if one.positive}
    dealt: dict[str, int] = {}
    for positive in (False, True):
        mine = [one for one in people if (one in sick) is positive]
        draw.shuffle(mine)
        ends = np.round(np.cumsum(draw.dirichlet([alpha] * sites)) * len(mine)).astype(int)
        dealt |= {one: int(np.searchsorted(ends, at, side="right")) for at, one in enumerate(mine)}
    return {one: min(at, sites - 1) for one, at in dealt.items()}


__all__ = ["SPLITS", "split"]

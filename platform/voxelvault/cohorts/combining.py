"""Selections made of selections: and, or, without, a sample."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache

from voxelvault.cohorts.labels import joined
from voxelvault.cohorts.selecting import Chosen
from voxelvault.errors import UsageError


def intersection(one: Chosen, other: Chosen) -> Chosen:
    """Return the series of both, with the labels of both."""
    _same_vault(one, other)
    return replace(
        _subset(one if one.frozen else other),
        text=f"({one.text}) & ({other.text})",
        find=cache(lambda: set(one.find()) & set(other.find())),
        labels=joined([one.labels, other.labels]),
        keep=one.keep,
    )


def union(one: Chosen, other: Chosen) -> Chosen:
    """Return the series of either, with the labels of both."""
    _same_vault(one, other)
    same = one.frozen and other.frozen and one.frozen.cohort_id == other.frozen.cohort_id
    return replace(
        _subset(one) if same else replace(one, frozen=None, part=None),
        text=f"({one.text}) | ({other.text})",
        find=cache(lambda: set(one.find()) | set(other.find())),
        labels=joined([one.labels, other.labels]),
    )


def difference(one: Chosen, other: Chosen) -> Chosen:
    """Return the series of the one that are not in the other."""
    _same_vault(one, other)
    return replace(
        _subset(one),
        text=f"({one.text}) - ({other.text})",
        find=cache(lambda: set(one.find()) - set(other.find())),
    )


def sample(one: Chosen, n: int, seed: int) -> Chosen:
    """Return n of the series, or all where there are fewer.

    Each series has its place by a hash of its id keyed with the seed: what comes in later pushes a
    few out, and draws none of the others anew.

    Raises
    ------
    UsageError
        `n` is negative or no whole number.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise UsageError("sample takes how many series, a whole number of 0 or more")
    return replace(
        _subset(one),
        text=f"sample {n} seed {seed} of ({one.text})",
        find=cache(lambda: drawn(one.find(), n, seed)),
    )


def drawn(series_ids: Collection[str], n: int, seed: int) -> Sequence[str]:
    """Return the n ids that come first by keyed hash."""
    key = hashlib.sha256(f"voxelvault sample {seed}".encode()).digest()
    return sorted(series_ids, key=lambda one: hmac.digest(key, one.encode(), "sha256"))[:n]


def _subset(one: Chosen) -> Chosen:
    """Return a selection some of whose series are meant: still of its cohort, no longer a whole part."""
    return replace(one, part=None)


def _same_vault(one: Chosen, other: Chosen) -> None:
    if one.resources.settings.vault_id != other.resources.settings.vault_id:
        raise UsageError("these selections are of two vaults; series can only be combined within one")


__all__ = ["difference", "drawn", "intersection", "sample", "union"]

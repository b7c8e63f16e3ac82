"""Who goes into which part: by keyed hash, or dealt out in order of arrival. Decides, touches nothing.

Either way nobody moves when more people come: a hash depends on the person alone, and dealing looks
at those who came before.

References
----------
J. Still, A class of new methods for congressional apportionment, SIAM J. Appl. Math. 37 (1979): which
parts may get the next seat, so that none is ever a whole seat away from its share.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import ceil, floor

from voxelvault.errors import UsageError

DEFAULT: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
_FINEST = 10_000


def shares(parts: Mapping[str, float]) -> dict[str, Fraction]:
    """Return the parts' shares as exact fractions that add up to one.

    Raises
    ------
    UsageError
        A share is not between 0 and 1, they don't add up to 1, or there are none.
    """
    if not parts or not all(
        isinstance(part, int | float) and 0.0 <= float(part) <= 1.0 for part in parts.values()
    ):
        raise UsageError("each part is a share between 0 and 1, such as train=0.7, val=0.15, test=0.15")
    exact = {name: Fraction(share).limit_denominator(_FINEST) for name, share in parts.items()}
    total = sum(exact.values(), Fraction(0))
    if abs(total - 1) > Fraction(1, 1000):
        raise UsageError(f"the parts add up to {float(total):g}, not to 1; name every part with its share")
    return {name: share / total for name, share in exact.items()}


def by_hash(
    groups: Iterable[str], parts: Mapping[str, Fraction], seed: int, salt: str = ""
) -> dict[str, str]:
    """Return the part of each group: the same in every cohort that is split by these shares and seed.

    `salt` sets a split of a part apart from the one that made it: with one key for both, all of a
    part would go the same way again.
    """
    key = _key("split", seed, salt)
    bounds: list[tuple[Fraction, str]] = []
    total = Fraction(0)
    for name, share in parts.items():
        total += share
        if share:
            bounds.append((total, name))
    return {group: next(name for bound, name in bounds if _draw(key, group) < bound) for group in groups}


def by_dealing(
    arrivals: Sequence[tuple[str, str]], parts: Mapping[str, Fraction], seed: int, salt: str = ""
) -> dict[str, str]:
    """Return the part of each group, every stratum within one group of its share at any time.

    Parameters
    ----------
    arrivals : sequence of (str, str)
        Group and stratum, in order of arrival.
    parts : mapping of str to Fraction
        Shares, together 1.
    seed, salt : int, str
        Draw among the parts that may have the next group.
    """
    key = _key("deal", seed, salt)
    counts: dict[str, dict[str, int]] = {}
    found: dict[str, str] = {}
    for group, stratum in arrivals:
        dealt = counts.setdefault(stratum, dict.fromkeys(parts, 0))
        found[group] = _dealt(dealt, parts, _draw(key, group))
        dealt[found[group]] += 1
    return found


def _dealt(dealt: Mapping[str, int], parts: Mapping[str, Fraction], draw: Fraction) -> str:
    """Return the part that gets the next group: drawn among those that may, by what they lack."""
    number = sum(dealt.values()) + 1
    lack = {name: number * share - dealt[name] for name, share in parts.items()}
    may = [name for name in _urgent(dealt, parts, number) if lack[name] > 0]
    left = draw * sum(lack[name] for name in may)
    for name in may:
        left -= lack[name]
        if left < 0:
            return name
    return may[-1]


def _urgent(dealt: Mapping[str, int], parts: Mapping[str, Fraction], number: int) -> list[str]:
    """Return the parts that may have the next group without another's falling short later on.

    Looks for the first number of groups at which what the parts must have by then leaves no choice
    any more: then only a part that must have more may get this one.
    """
    some = [share for share in parts.values() if share]
    for ahead in range(number, number + ceil(1 / min(some)) + 1):
        must = {name: max(floor(ahead * share), dealt[name]) for name, share in parts.items()}
        if sum(must.values()) >= ahead:
            return [name for name, least in must.items() if least > dealt[name]]
    return list(parts)


def _key(use: str, seed: int, salt: str) -> bytes:
    return hashlib.sha256(f"voxelvault {use} {seed} {salt}".encode()).digest()


def _draw(key: bytes, group: str) -> Fraction:
    """Return a number from 0 to below 1 that only key and group decide."""
    return Fraction(int.from_bytes(hmac.digest(key, group.encode(), "sha256")[:8], "big"), 1 << 64)


__all__ = ["DEFAULT", "by_dealing", "by_hash", "shares"]

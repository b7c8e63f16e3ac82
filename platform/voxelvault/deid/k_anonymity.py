"""How many people share a combination of what stayed in the headers of a release.

A value alone says little; a rare combination says who it is. Two readings are counted: what one
series tells (somebody knows of one examination), and what all series of a patient tell together.

References
----------
Samarati and Sweeney 1998 (k-anonymity); ISO/IEC 20889 (de-identification techniques).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter

from voxelvault.deid.model import Option
from voxelvault.deid.scratch import temporary

_ALWAYS = ("PatientSex", "PatientAge", "EthnicGroup", "Modality", "BodyPartExamined", "Laterality")
_BY_OPTION: Mapping[Option, tuple[str, ...]] = {
    Option.RETAIN_PATIENT_CHARACTERISTICS: (
        "PatientWeight",
        "PatientSize",
        "SmokingStatus",
        "PregnancyStatus",
        "PatientSpeciesDescription",
    ),
    Option.RETAIN_FULL_DATES: ("StudyDate",),
    Option.RETAIN_INSTITUTION: ("InstitutionName",),
    Option.RETAIN_DEVICE: ("DeviceSerialNumber", "StationName"),
}
_LENGTH = 16
_BANDS = ((1, "1"), (2, "2"), (4, "3-4"), (9, "5-9"), (19, "10-19"), (49, "20-49"))


@dataclass(frozen=True)
class Classes:
    """Combinations of values, and how many people share each.

    Attributes
    ----------
    smallest : int
        People in the smallest class: k; 0 for no rows at all.
    unique : int
        Combinations that are one person's alone.
    people_alone : int
        People who have such a combination.
    histogram : mapping of str to int
        Number of combinations by how many people share them.
    """

    smallest: int
    unique: int
    people_alone: int
    histogram: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """k-anonymity of a release.

    Attributes
    ----------
    columns : tuple of str
        The quasi-identifiers that some row has a value of, by keyword.
    rows, people : int
        What was counted.
    by_row : Classes
        What one row tells.
    by_person : Classes
        What all rows of a person tell together.
    """

    columns: tuple[str, ...]
    rows: int
    people: int
    by_row: Classes
    by_person: Classes


def quasi_identifiers(options: Iterable[Option], kept: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the keywords that may point at somebody, as far as they are retained.

    Dates that were moved are none: who doesn't know the offset can't compare them.

    Parameters
    ----------
    options : iterable of Option
        In force.
    kept : iterable of str
        Keywords of what a site's rules keep as it came.
    """
    chosen = frozenset(options)
    names = [name for option, names in _BY_OPTION.items() if option in chosen for name in names]
    return tuple(dict.fromkeys([*_ALWAYS, *names, *kept]))


class KAnonymity:
    """Counts who shares which combination, one row after the other.

    Nothing is held: keyed digests of people and combinations lie in SQLite's own temporary database,
    which has no name on the disk and is gone with the process.

    Parameters
    ----------
    columns : iterable of str
        Quasi-identifiers (`quasi_identifiers`); a column that no row has a value of is left out.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns = tuple(columns)
        self._used: set[str] = set()
        self._key = os.urandom(32)
        self._rows = temporary("create table told (person blob, combination blob)")

    def add(self, person: str, values: Mapping[str, object]) -> None:
        """Take a row: a person's pseudonym, and values by keyword; one a series."""
        row = [_text(values.get(name)) for name in self._columns]
        self._used.update(name for name, value in zip(self._columns, row, strict=True) if value)
        made = (self._digest(person), self._digest(json.dumps(row)))
        self._rows.execute("insert into told values (?, ?)", made)

    def report(self) -> Report:
        """Return counts alone, no values."""
        rows, people = self._rows.execute("select count(*), count(distinct person) from told").fetchone()
        self._rows.execute("create temp table alike (person blob, combination blob)")
        self._rows.executemany("insert into alike values (?, ?)", self._together())
        kept = tuple(name for name in self._columns if name in self._used)
        report = Report(kept, rows, people, self._classes("told"), self._classes("alike"))
        self._rows.execute("drop table alike")
        return report

    def _together(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield people, each with the digest of all that their rows tell together."""
        found = self._rows.execute("select distinct person, combination from told order by 1, 2")
        for person, rows in groupby(found, key=itemgetter(0)):
            together = blake2b(digest_size=_LENGTH)
            for _, combination in rows:
                together.update(combination)
            yield person, together.digest()

    def _classes(self, table: str) -> Classes:
        sizes = f"select combination, count(distinct person) as size from {table} group by combination"  # noqa: S608
        counts: Counter[int] = Counter(
            dict(self._rows.execute(f"select size, count(*) from ({sizes}) group by size"))  # noqa: S608
        )
        (alone,) = self._rows.execute(
            f"select count(distinct person) from {table} join ({sizes}) using (combination) where size = 1"  # noqa: S608
        ).fetchone()
        bands: Counter[str] = Counter()
        for size, count in counts.items():
            bands[_band(size)] += count
        return Classes(min(counts, default=0), counts[1], alone, dict(_in_order(bands)))

    def _digest(self, text: str) -> bytes:
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_LENGTH, key=self._key).digest()


def _band(size: int) -> str:
    return next((name for most, name in _BANDS if size <= most), "50 and more")


def _in_order(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    order = [name for _, name in _BANDS] + ["50 and more"]
    return sorted(counts.items(), key=lambda one: order.index(one[0]))


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


__all__ = ["Classes", "KAnonymity", "Report", "quasi_identifiers"]

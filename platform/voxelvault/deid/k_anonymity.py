"""How many people share a combination of what stayed in the headers of a release.

A value alone says little; a rare combination says who it is. Two readings are counted: what one
series tells (somebody knows of one examination), and what all series of a patient tell together.

References
----------
Samarati and Sweeney 1998 (k-anonymity); ISO/IEC 20889 (de-identification techniques).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from voxelvault.deid.model import Option

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


def quasi_identifiers(options: Iterable[Option]) -> tuple[str, ...]:
    """Return the keywords that may point at somebody, as far as the options retain them.

    Dates that were moved are none: who doesn't know the offset can't compare them.
    """
    chosen = frozenset(options)
    return _ALWAYS + tuple(name for option, names in _BY_OPTION.items() if option in chosen for name in names)


def k_anonymity(rows: Iterable[tuple[str, Mapping[str, object]]], columns: Iterable[str]) -> Report:
    """Count who shares which combination.

    Parameters
    ----------
    rows : iterable of (str, mapping)
        A person's pseudonym, and values by keyword: one row a series.
    columns : iterable of str
        Quasi-identifiers (`quasi_identifiers`); a column that no row has a value of is left out.

    Returns
    -------
    Report
        Counts alone, no values.
    """
    names = tuple(columns)
    sharing: dict[tuple[str, ...], set[str]] = defaultdict(set)
    having: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    count, used = 0, set[str]()
    for person, values in rows:
        row = tuple(_text(values.get(name)) for name in names)
        used.update(name for name, value in zip(names, row, strict=True) if value)
        sharing[row].add(person)
        having[person].add(row)
        count += 1
    alike: dict[Hashable, set[str]] = defaultdict(set)
    for person, combinations in having.items():
        alike[frozenset(combinations)].add(person)
    kept = tuple(name for name in names if name in used)
    return Report(kept, count, len(having), _classes(sharing.values()), _classes(alike.values()))


def _classes(groups: Iterable[set[str]]) -> Classes:
    every = list(groups)
    alone = [group for group in every if len(group) == 1]
    return Classes(
        smallest=min(map(len, every), default=0),
        unique=len(alone),
        people_alone=len(set().union(*alone)),
        histogram=dict(_in_order(Counter(_band(len(group)) for group in every))),
    )


def _band(size: int) -> str:
    return next((name for most, name in _BANDS if size <= most), "50 and more")


def _in_order(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    order = [name for _, name in _BANDS] + ["50 and more"]
    return sorted(counts.items(), key=lambda one: order.index(one[0]))


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


__all__ = ["Classes", "Report", "k_anonymity", "quasi_identifiers"]

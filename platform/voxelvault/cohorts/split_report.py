"""Counting a split: what people look at before they train."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from voxelvault.cohorts.groups import groups_of
from voxelvault.cohorts.parts import Assigned
from voxelvault.resources import Resources


@dataclass(frozen=True)
class SplitReport:
    """Counts of a split: a row for each part, and one for each stratum in it.

    Subjects who may be one person count once: a selection's own line may name more of them.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(str(line[at])) for line in lines) for at in range(len(self.columns))]
        return "\n".join(
            "  ".join(str(value).ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from voxelvault.display.html import table

        return table(self.columns, self.rows, title="Split", note="subjects who may be one person count once")


def report(resources: Resources, found: Assigned) -> SplitReport:
    """Count series and people of each part, and of each stratum."""
    groups = groups_of(resources, list(found.part_of))
    strata: Iterable[str | None] = [None, *sorted(set(found.strata.values()))] if found.strata else [None]
    rows = []
    for stratum in strata:
        ids = [one for one in found.part_of if stratum is None or found.strata.get(one) == stratum]
        total = len({groups.of_series[one] for one in ids if one in groups.of_series})
        for part, share in found.recipe.parts.items():
            mine = [one for one in ids if found.part_of[one] == part and one in groups.of_series]
            people = len({groups.of_series[one] for one in mine})
            rows.append(
                (
                    part,
                    "all" if stratum is None else ", ".join(map(str, json.loads(stratum))) or "all",
                    f"{share:.3g}",
                    f"{people / total:.3g}" if total else "",
                    people,
                    len(mine),
                )
            )
    return SplitReport(("part", "stratum", "share", "got", "people", "series"), tuple(rows))


__all__ = ["SplitReport", "report"]

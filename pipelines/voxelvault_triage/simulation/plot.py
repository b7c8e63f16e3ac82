"""A picture of what re-ordering does to waiting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from voxelvault_triage.figures import figure, saved
from voxelvault_triage.simulation.compare import Estimate, Waiting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUPS = ("positive", "negative", "positive, missed", "all")
_SIDES = (("before", "first come, first read", "#8a8f98"), ("after", "re-ordered by flag", "#c8553d"))


def draw(waiting: Mapping[str, Waiting], title: str, kind: str) -> bytes:
    """Draw mean and 95th percentile of waiting, before and after, with their intervals.

    Parameters
    ----------
    waiting : mapping of str to Waiting
        By group of studies.
    title : str
        What was simulated.
    kind : str
        ``svg`` or ``png``; an SVG of the same figures is the same bytes.

    Raises
    ------
    MissingExtra
        Matplotlib is not installed.
    """
    drawn = figure(9.0, 4.0)
    panels = drawn.subplots(1, 2)
    for panel, figure_name, words in zip(panels, ("mean", "p95"), ("mean", "95th percentile"), strict=True):
        _bars(panel, waiting, figure_name)
        panel.set_ylabel(f"minutes until read, {words}")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    drawn.suptitle(title, fontsize=9)
    return saved(drawn, kind)


def _bars(panel: Axes, waiting: Mapping[str, Waiting], figure_name: str) -> None:
    groups = [group for group in _GROUPS if group in waiting]
    for at, (side, label, colour) in enumerate(_SIDES):
        values = [getattr(waiting[group], side)[figure_name] for group in groups]
        places = [place + (at - 0.5) * 0.38 for place in range(len(groups))]
        means = [value.mean for value in values]
        panel.bar(places, means, 0.36, yerr=_whiskers(values), color=colour, label=label, capsize=3)
    panel.set_xticks(range(len(groups)), [group.replace(", ", ",\n") for group in groups])


def _whiskers(values: Sequence[Estimate]) -> list[float]:
    """Return half of each interval; it is even on both sides."""
    return [0.0 if math.isnan(value.high) else value.high - value.mean for value in values]

"""Numbers on the command line: nan and infinity are none, and nothing waits for years."""

from __future__ import annotations

import math
from typing import Any, Final

import click

MOST: Final = 1e7
"""Of seconds, minutes or days: more is a slip."""


class Amount(click.FloatRange):
    """A finite number from `least` to `most`.

    Parameters
    ----------
    least, most : float
        Both are allowed, unless `min_open`.
    min_open : bool
        `least` itself isn't.
    """

    def __init__(self, least: float, most: float = MOST, *, min_open: bool = False) -> None:
        super().__init__(least, most, min_open=min_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; comparisons of nan are all false, so that no range keeps it out."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail("it is no number", param, ctx)
        return found

    def _describe_range(self) -> str:
        """Leave the bound out of help where it only keeps slips away."""
        if self.max != MOST:
            return super()._describe_range()
        return f"x>{self.min:g}" if self.min_open else f"x>={self.min:g}"

"""Matplotlib without its global state: figures that become bytes, the same for the same values."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from voxelvault.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches.

    Raises
    ------
    MissingExtra
        Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("drawing needs Matplotlib: pip install 'voxelvault[triage]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def saved(drawn: Figure, kind: str) -> bytes:
    """Return the figure as ``svg``, text left as text and no date in it, or as ``png``."""
    from matplotlib import rc_context

    written = io.BytesIO()
    # The salt names an SVG's clip paths, which would be random without it.
    with rc_context({"svg.hashsalt": "voxelvault", "svg.fonttype": "none"}):
        drawn.savefig(written, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return written.getvalue()

"""What an export into another tool's format wrote, what it left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

LEFT = "decrypted copies now lie outside the vault: no key, log or erasure reaches them there"


class LeavesTheVault(UserWarning):
    """Decrypted data is being written where the vault no longer protects it."""


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one volume, or of a series as a whole.

    Parameters
    ----------
    series_id : str
        Opaque id.
    stack : str
        Label of the volume, as `stack=` takes it; empty for a series of one, or as a whole.
    path : str
        File or folder, relative to the report's; empty when none was written.
    bytes : int
        Size of what was written.
    reason : str
        Why nothing was, or what is to be known of it; empty otherwise.
    """

    series_id: str
    stack: str = ""
    path: str = ""
    bytes: int = 0
    reason: str = ""

    def __str__(self) -> str:
        stack = f", stack {self.stack!r}" if self.stack else ""
        return f"{self.path or self.series_id}{stack}: {self.reason or f'{self.bytes:,} bytes'}"


@dataclass(frozen=True, slots=True)
class FormatReport:
    """What an export did; printing it gives a summary and a line for each volume left out.

    Parameters
    ----------
    folder : Path
        Where.
    format : str
        ``nifti`` or ``ome-zarr``.
    written, kept, skipped : tuple of Item
        New ones; those that were there already and were left alone; those left out, with reasons.
    without_pixels : int
        Series that hold no images, such as reports; nothing of them is missing.
    stopped : str
        Why it ended early; empty when it didn't.
    """

    folder: Path
    format: str
    written: tuple[Item, ...] = ()
    kept: tuple[Item, ...] = ()
    skipped: tuple[Item, ...] = ()
    without_pixels: int = 0
    stopped: str = ""

    @property
    def files(self) -> int:
        """How many volumes were written."""
        return len(self.written)

    @property
    def bytes(self) -> int:
        """How much was written."""
        return sum(item.bytes for item in self.written)

    @property
    def complete(self) -> bool:
        """Whether every volume is there."""
        return not self.skipped and not self.stopped

    def df(self) -> pandas.DataFrame:
        """Return a pandas data frame, a row for each volume: `state`, `series_id`, `stack`, `path`, …."""
        import pandas

        parts = (("written", self.written), ("kept", self.kept), ("skipped", self.skipped))
        rows = [
            (state, item.series_id, item.stack, item.path, item.bytes, item.reason)
            for state, items in parts
            for item in items
        ]
        return pandas.DataFrame(rows, columns=["state", "series_id", "stack", "path", "bytes", "reason"])

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        from voxelvault.display.html import card

        facts: dict[str, object] = {"written": f"{self.files} volumes, {self.bytes:,} bytes"}
        for name, items in (("there already", self.kept), ("left out", self.skipped)):
            if items:
                facts[name] = f"{len(items)}: {_reasons(items)}"
        if self.without_pixels:
            facts["without images"] = f"{self.without_pixels} series"
        if self.stopped:
            facts["stopped"] = self.stopped
        return card(f"Export as {self.format}", {**facts, "note": LEFT})

    def _lines(self) -> list[str]:
        note = f"; {LEFT}" if self.written or self.kept else ""
        lines = [f"{self.files} {self.format} volumes, {self.bytes:,} bytes{note}"]
        if self.kept:
            lines.append(f"{len(self.kept)} were there already and were left alone")
        if self.without_pixels:
            lines.append(f"{self.without_pixels} series have no images; export them as dicom")
        lines += [f"left out {item}" for item in self.skipped[:20]]
        if len(self.skipped) > 20:
            lines.append(f"and {len(self.skipped) - 20} more: {_reasons(self.skipped[20:])}")
        noted = Counter(item.reason for item in self.written if item.reason)
        lines += [f"note on {count} of those written: {reason}" for reason, count in noted.most_common()]
        if self.stopped:
            lines.append(f"stopped early: {self.stopped}; run it again for the rest")
        return lines


def _reasons(items: Sequence[Item]) -> str:
    counted = Counter(item.reason for item in items)
    return "; ".join(f"{reason} ({count})" for reason, count in counted.most_common(4))


__all__ = ["FormatReport", "Item", "LeavesTheVault"]

"""The worklist in a notebook: a table that follows the vault, and a viewer with the mask over the slices.

What it shows names nobody: rows are numbered, and a number opens the images.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from voxelvault import Vault
from voxelvault.display.gallery import gallery, thumbnail
from voxelvault.display.look import Look
from voxelvault.display.overlay import blend
from voxelvault.display.window import to_uint8
from voxelvault.errors import MissingExtra, UsageError, VoxelVaultError
from voxelvault.reading.many import open_many
from voxelvault.series import Series, series_of
from voxelvault.tasks import now
from voxelvault_triage.results.reading import Recorded, read_result
from voxelvault_triage.worklist.listing import Item, listing, notices
from voxelvault_triage.worklist.order import Rules, left, level

MOST = 25
"""Rows shown."""
FIRST = 0
"""The volume with the most slices stands first in a series: it is the one to look at."""


class LiveWorklist:
    """The list as it is; display it, or call `open(place)` for the images of a row.

    Parameters
    ----------
    vault : Vault
        Open.
    rules : Rules, optional
        How it is ordered.
    window : str
        Preset for the small pictures and the viewer, such as ``brain``.

    Examples
    --------
    >>> shown = LiveWorklist(vault)                          # doctest: +SKIP
    >>> shown.live(every=5)                                  # doctest: +SKIP
    >>> shown.open(1)                                        # doctest: +SKIP
    """

    def __init__(self, vault: Vault, rules: Rules | None = None, window: str = "brain") -> None:
        self._vault, self._rules, self._window = vault, rules or Rules(), window
        self._pictures: dict[str, bytes | None] = {}
        # A loop holds its tasks weakly.
        self._following: asyncio.Task[None] | None = None
        self.items: list[Item] = []

    def __repr__(self) -> str:
        return f"<LiveWorklist: {len(self.items)} studies>"

    def html(self) -> str:
        """Return the list as it is now, as HTML that loads nothing; an identifying read, in the log."""
        self.items = listing(self._vault, now(), self._rules)[:MOST]
        # The picture of a result is made once: each time is a reading of its images.
        known = {item.task_id: self._picture(item) for item in self.items}
        self._pictures = known
        rows = [self._row(place, item) for place, item in enumerate(self.items, 1)]
        return gallery(rows, [known[item.task_id] for item in self.items], "Worklist", notices(self.items))

    _repr_html_ = html

    def open(self, place: int) -> Any:
        """Return a viewer of a row's images, with a slider, and the mask of the result over them.

        Parameters
        ----------
        place : int
            As the table numbers it, from 1.

        Raises
        ------
        UsageError
            There is no such row, or nothing was analysed in it.
        """
        if not 1 <= place <= len(self.items):
            raise UsageError(f"the list has rows 1 to {len(self.items)}; show it again")
        item = self.items[place - 1]
        found = read_result(self._vault, item.study_id, item.pipeline)
        if item.series_id is None or found is None:
            raise UsageError("no series of this study was analysed; its reason stands in the list")
        series = self._series(item)
        preset = self._window if series.modality == "CT" else None
        return series.show(preset, stack=FIRST, mask=found.mask(self._vault, FIRST))

    def live(self, every: float = 5.0) -> Any:
        """Return a widget that follows the vault while the kernel is idle.

        Parameters
        ----------
        every : float
            Seconds between looks.

        Raises
        ------
        MissingExtra
            Without the extra `notebook`.
        """
        try:
            import ipywidgets
        except ImportError:
            raise MissingExtra("widgets need an extra: pip install 'voxelvault[notebook]'") from None
        seen = self._vault.resources.catalog.head().digest
        table = ipywidgets.HTML(self.html())
        self._following = asyncio.get_running_loop().create_task(self._follow(table, every, seen))
        return table

    async def _follow(self, table: Any, every: float, seen: str) -> None:
        """Keep a widget up to date until the vault is closed."""
        while not self._vault.resources.keys.closed:
            await asyncio.sleep(every)
            try:
                head = self._vault.resources.catalog.head().digest
                if head != seen:
                    seen, table.value = head, self.html()
            except VoxelVaultError:
                return

    def _row(self, place: int, item: Item) -> dict[str, object]:
        at = now()
        rest = left(item, at, self._rules)
        return {
            "#": place,
            "priority": str(item.priority) + "+" * (item.priority.level - level(item, at, self._rules)),
            "state": item.state,
            "waits": f"{(at - item.arrived).total_seconds() / 60:.0f} min",
            "left": f"{rest.total_seconds() / 60:.0f} min",
            "finding": "; ".join([item.verdict or item.task_state.lower(), *item.checks]),
            "score": "" if item.score is None else f"{item.score:.2f} / {item.threshold:.2f}",
            "mL": "" if item.volume_ml is None else f"{item.volume_ml:.1f}",
            "reason": "" if item.overridden else item.reason,
            "priors": len(item.priors) or "",
        }

    def _picture(self, item: Item) -> bytes | None:
        """Return the slice that shows it best, the mask over it; None where nothing was analysed."""
        if item.task_id in self._pictures or item.series_id is None:
            return self._pictures.get(item.task_id)
        found = read_result(self._vault, item.study_id, item.pipeline)
        if found is None:
            return None
        with self._series(item) as series:
            return _small(self._vault, series, found, self._window)

    def _series(self, item: Item) -> Series:
        resources = self._vault.resources
        opened = open_many(resources, [str(item.series_id)], kind_code="worklist")
        return series_of(resources, opened, str(item.series_id))


def _small(vault: Vault, series: Series, found: Recorded, window: str) -> bytes:
    mask = found.mask(vault, FIRST)
    frames = series.members(FIRST)
    index = found.key_frame if found.key_frame is not None else len(frames) // 2
    look = Look(window=window if series.modality == "CT" else None, hounsfield=series.modality == "CT")
    plane = series.frame(min(index, len(frames) - 1), FIRST)
    grey = plane if plane.ndim == 3 else to_uint8(plane, look.window_for(plane))
    if mask is not None:
        grey = blend(np.asarray(grey), mask[min(index, len(mask) - 1)].astype(np.uint8))
    return thumbnail(np.asarray(grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)))


__all__ = ["LiveWorklist"]

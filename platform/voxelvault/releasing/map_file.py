"""The file that says what became of what: whoever has it can undo the release.

It is written when a run ends, however it ends, and added to when the same release goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxelvault.deid.approving import MAPS
from voxelvault.errors import UsageError
from voxelvault.files import disk_error
from voxelvault.releasing.run import Maps

New = str | tuple[str, ...] | None
"""What became of an old value: several, where people share an id; None where a file was refused."""

Found = dict[str, dict[str, New]]


class MapFile:
    """Old and new paths, UIDs and patients of one release; keeps nothing where no file is wanted.

    Parameters
    ----------
    place : Path or None
        Where the file will lie.
    known : Found
        What an earlier run of the same release wrote.
    """

    def __init__(self, place: Path | None, known: Found) -> None:
        self._place = place
        self._maps: Found = {name: dict(known.get(name, {})) for name in MAPS}

    def add(self, pairs: Maps) -> None:
        """Take the pairs of a study."""
        for name, found in pairs.items() if self._place else ():
            for old, new in found.items():
                self._maps[name][old] = _joined(self._maps[name].get(old), new)

    def write(self) -> None:
        """Write the file, readable by its owner only."""
        if self._place is None or not any(self._maps.values()):
            return
        part = self._place.with_name(f".{self._place.name}.part")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._maps, file, ensure_ascii=False, indent=1)
            os.replace(part, self._place)
        except OSError as error:
            raise disk_error(error) from None


@contextmanager
def map_of(release: Path, place: Path | None, *, goes_on: bool) -> Iterator[MapFile]:
    """Collect what becomes of what, and write it at the end, also after an error.

    Parameters
    ----------
    release : Path
        The release, in which the file must not lie.
    place : Path or None
        The file; None when none is wanted.
    goes_on : bool
        Whether an earlier run of this release got something done; its file is added to.

    Raises
    ------
    UsageError
        The file would lie in the release, in another one's place, or lacks what was done earlier.
    """
    maps = MapFile(place, {} if place is None else _known(release, place, goes_on))
    try:
        yield maps
    finally:
        maps.write()


def _known(release: Path, place: Path, goes_on: bool) -> Found:
    if place.resolve().is_relative_to(release.resolve()):
        raise UsageError("the map re-identifies: write it elsewhere than into the release")
    if not goes_on and place.exists():
        raise UsageError("there is a file in the map's place; choose another name")
    if not goes_on:
        return {}
    try:
        known = json.loads(place.read_text("utf-8"))
        return {name: {old: _new(new) for old, new in known[name].items()} for name in MAPS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            "the map of what was released before is not in its place: put it there to go on, or delete the"
            " release and begin anew"
        ) from None


def _joined(one: New, other: New) -> New:
    """Return all that became of one value."""
    every = {*_several(one), *_several(other)}
    return tuple(sorted(every)) if len(every) > 1 else next(iter(every), None)


def _several(new: New) -> tuple[str, ...]:
    return (new,) if isinstance(new, str) else new or ()


def _new(new: str | list[str] | None) -> New:
    return tuple(new) if isinstance(new, list) else new


__all__ = ["MapFile", "map_of"]

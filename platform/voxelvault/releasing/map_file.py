"""The file that says what became of what: whoever has it can undo the release.

It is written when a run ends, however it ends, and added to when the same release goes on. Until then
what became of each study lies beside it, line by line, so that a run which is killed leaves it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from voxelvault.deid.approving import MAPS
from voxelvault.errors import UsageError
from voxelvault.files import disk_error

New = str | tuple[str, ...] | None
"""What became of an old value: several, where people share an id; None where a file was refused."""

Pairs = Mapping[str, Mapping[str, New]]


class MapFile:
    """Old and new paths, UIDs and patients of one release; keeps nothing where no file is wanted.

    Parameters
    ----------
    place : Path or None
        Where the file will lie.
    known : Pairs
        What earlier runs of the same release left.
    """

    def __init__(self, place: Path | None, known: Pairs) -> None:
        self._place = place
        self._maps: dict[str, dict[str, New]] = {name: dict(known.get(name, {})) for name in MAPS}

    def add(self, pairs: Pairs) -> None:
        """Take the pairs of a study, ahead of its files: nothing is released that the file lacks."""
        if self._place is None:
            return
        with _disk(), os.fdopen(_opened(_lines(self._place), os.O_APPEND), "w", encoding="ascii") as file:
            # Ahead of it, for a line in which another run was killed stays one of its own.
            file.write("\n" + json.dumps(pairs))
            file.flush()
            os.fsync(file.fileno())
        _join(self._maps, pairs)

    def write(self) -> None:
        """Write the file, readable by its owner only."""
        if self._place is None:
            return
        if any(self._maps.values()):
            _put(self._place, json.dumps(self._maps, ensure_ascii=False, indent=1))
        with _disk():
            _lines(self._place).unlink(missing_ok=True)


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
    maps = MapFile(place, {} if place is None else _begun(release, place, goes_on))
    try:
        yield maps
    finally:
        maps.write()


def _begun(release: Path, place: Path, goes_on: bool) -> Pairs:
    """Begin the lines of a release's map, and return what earlier runs left of it."""
    if place.resolve().is_relative_to(release.resolve()):
        raise UsageError("the map re-identifies: write it elsewhere than into the release")
    if not goes_on and place.exists():
        raise UsageError("there is a file in the map's place; choose another name")
    left = _left(_lines(place))
    of = str(release.resolve())
    if left and left[0] != of:
        raise UsageError("what a killed run left of another release's map lies there; choose another name")
    if not goes_on:
        known: Pairs = {}
    else:
        known = left[1] if left else _known(place)
    with _disk():
        place.parent.mkdir(parents=True, exist_ok=True)
    _put(_lines(place), json.dumps({"of": of, **known}))
    return known


def _left(lines: Path) -> tuple[str, Pairs] | None:
    """Return of which release a run that was killed left pairs, and those; lines not whole are of none."""
    with suppress(OSError, ValueError, KeyError):
        head, *more = lines.read_text("ascii", "replace").split("\n")
        first = json.loads(head)
        of = str(first.pop("of"))
        maps: dict[str, dict[str, New]] = {name: {} for name in MAPS}
        _join(maps, first)
        for line in more:
            with suppress(ValueError):
                _join(maps, json.loads(line))
        return of, maps
    return None


def _known(place: Path) -> Pairs:
    try:
        known = json.loads(place.read_text("utf-8"))
        return {name: {old: _new(new) for old, new in known[name].items()} for name in MAPS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            "the map of what was released before is not in its place: put it there to go on, or delete the"
            " release and begin anew"
        ) from None


def _lines(place: Path) -> Path:
    return place.with_name(f".{place.name}.lines")


def _put(path: Path, text: str) -> None:
    """Write a file of its owner's, whole or not at all; names that are no text stay JSON's escapes."""
    part = path.with_name(f".{path.name.strip('.')}.part")
    with _disk():
        part.unlink(missing_ok=True)
        with os.fdopen(_opened(part, os.O_EXCL), "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)


def _opened(path: Path, how: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error) from None


def _join(maps: dict[str, dict[str, New]], pairs: Pairs) -> None:
    """Add pairs: all that became of one value."""
    for name, found in pairs.items():
        for old, new in found.items():
            every = {*_several(maps[name].get(old)), *_several(_new(new))}
            maps[name][old] = tuple(sorted(every)) if len(every) > 1 else next(iter(every), None)


def _several(new: New) -> tuple[str, ...]:
    return (new,) if isinstance(new, str) else new or ()


def _new(new: object) -> New:
    """Return what became of a value, as JSON has it."""
    return tuple(map(str, new)) if isinstance(new, list | tuple) else None if new is None else str(new)


__all__ = ["MapFile", "map_of"]

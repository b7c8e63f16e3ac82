"""What was blanked in pictures, and faces that were taken off, to be looked at: before and after.

The pictures show what identifies. They are kept sealed in the project, where that lies in a vault, and
written to a page where the user says: readable by its owner alone, and never inside the release.
"""

from __future__ import annotations

import html
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from voxelvault.audit.events import Kind
from voxelvault.deid.instance import Result
from voxelvault.deid.pixels import PixelReport
from voxelvault.deid.project_shelf import SealedShelf
from voxelvault.deid.stored_project import StoredProject
from voxelvault.errors import UsageError
from voxelvault.files import disk_error
from voxelvault.model import new_id
from voxelvault.readonly import require_writable
from voxelvault.releasing.entries import step
from voxelvault.releasing.projects import Using
from voxelvault.releasing.study import Outcome
from voxelvault.resources import Resources
from voxelvault.storage.layout import PICTURES

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What was blanked</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; background: #fff; color: #111 }
figure { margin: 0 0 2em; display: flex; flex-wrap: wrap; gap: 1em }
figcaption { width: 100%; overflow-wrap: anywhere }
svg { flex: 1 1 30em; min-width: 0; max-width: min(100%, 60em); max-height: 95vh; overflow: visible }
rect { fill: none; stroke: #f60; stroke-width: 2; vector-effect: non-scaling-stroke }
</style>
<h1>What was blanked</h1>
<p><strong>This page shows patients' own values.</strong> Left as it came, with the boxes that were
blanked; right as it is released. Of several frames the one that shows most is here; boxes are blanked in
all. Large pictures are made smaller: enlarge the page, or open the file that is named. Look at it, then
delete it.</p>
"""
_NONE = "<p>No pictures are kept.</p>\n"
_NOTHING = "<p>Nothing was blanked in the pictures of this run, and no face was taken off.</p>\n"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture before and after; `path` is where its file lies in the release."""

    path: str
    report: PixelReport

    def figure(self) -> str:
        """Return it as HTML."""
        one, boxes = self.report, len(self.report.boxes)
        what = [f"{boxes} {'box' if boxes == 1 else 'boxes'} blanked"] if boxes else []
        what += ["face taken off"] if one.face else []
        what += [f"frame {one.frame + 1} of {one.frames} shown"] if one.frames > 1 else []
        told = f"{self.path}: {', '.join(what)}"
        first = _svg(self.report, self.report.before, boxes=True)
        second = _svg(self.report, self.report.after)
        return f"<figure><figcaption>{html.escape(told)}</figcaption>{first}{second}</figure>\n"

    def document(self) -> bytes:
        """Return it as JSON, for a shelf."""
        pictures = {"before": _base64(self.report.before), "after": _base64(self.report.after)}
        one = self.report
        told = {"path": self.path, "boxes": one.boxes, "face": one.face, "size": one.size}
        return json.dumps({**told, "frame": one.frame, "frames": one.frames, **pictures}).encode()

    @classmethod
    def of_document(cls, data: bytes) -> Picture:
        """Return what `document` made."""
        told = json.loads(data)
        path, boxes = told.pop("path"), tuple(tuple(box) for box in told.pop("boxes"))
        before, after = (b64decode(told.pop(side)) for side in ("before", "after"))
        size = (told["size"][0], told["size"][1])
        return cls(path, PixelReport("", boxes, before, after, **{**told, "size": size}))


def _draw(write: Callable[[str], object], picture: Picture) -> None:
    write(picture.figure())


def _svg(report: PixelReport, png: bytes | None, *, boxes: bool = False) -> str:
    rows, columns = report.size
    drawn = "".join(
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>'
        for _, left, top, right, bottom in (report.boxes if boxes else ())
    )
    image = f'<image href="data:image/png;base64,{_base64(png)}" width="{columns}" height="{rows}"/>'
    return f'<svg viewBox="0 0 {columns} {rows}">{image}{drawn}</svg>'


def _base64(png: bytes | None) -> str:
    return b64encode(png or b"").decode()


class Review:
    """Takes what became of each file, and hands on the pictures worth a look.

    Of faces that is the one image of each series with most of it; of text, every one.

    Parameters
    ----------
    sinks : sequence of callable
        Each takes a `Picture`.
    """

    def __init__(self, sinks: Sequence[Callable[[Picture], object]]) -> None:
        self._sinks = sinks
        self._study = ""
        self._faces: dict[str, Picture] = {}
        self.handed_on = 0

    @property
    def wanted(self) -> bool:
        """Somebody takes pictures."""
        return bool(self._sinks)

    def take(self, outcome: Outcome, path: str) -> None:
        """Take what became of a file, and where it lies in the release."""
        result = outcome.result
        if result is None or result.pixels is None or result.pixels.before is None:
            return
        if result.study_uid != self._study:
            self.flush()
            self._study = result.study_uid
        picture = Picture(path, result.pixels)
        if result.pixels.boxes:
            self._hand_on(picture)
        else:
            self._faces[result.series_uid] = self._larger(result, picture)

    def _larger(self, result: Result, picture: Picture) -> Picture:
        held = self._faces.get(result.series_uid, picture)
        return max(held, picture, key=lambda one: one.report.face)

    def flush(self) -> None:
        """Hand on the faces of the study at hand."""
        for picture in self._faces.values():
            self._hand_on(picture)
        self._faces = {}

    def _hand_on(self, picture: Picture) -> None:
        self.handed_on += 1
        for sink in self._sinks:
            sink(picture)


@contextmanager
def review_of(
    release: Path, page: Path | None, mine: Using, release_id: str, *, goes_on: bool
) -> Iterator[Review]:
    """Keep pictures while a release is made.

    Parameters
    ----------
    release : Path
        The release, in which the page must not lie.
    page : Path or None
        The page; None when none is wanted.
    mine : Using
        The project; pictures are kept in it where it is sealed in a vault.
    release_id : str
        They are kept under it.
    goes_on : bool
        Whether an earlier run got something done: its page is added to.

    Raises
    ------
    UsageError
        The page would lie in the release, or in the place of another file.
    """
    with ExitStack() as opened:
        sinks: list[Callable[[Picture], object]] = []
        write: Callable[[str], object] | None = None
        if page is not None:
            _require_outside(page.expanduser(), release)
            write = opened.enter_context(_page(page.expanduser(), goes_on))
            sinks.append(partial(_draw, write))
        shelf = None if mine.stored is None else mine.stored.shelf
        if isinstance(shelf, SealedShelf):
            name = f"{PICTURES}/{release_id}"
            sinks.append(lambda picture: shelf.put(f"{name}/{new_id()}", picture.document()))
        review = Review(sinks)
        yield review
        review.flush()
        if write is not None and not review.handed_on:
            write(_NOTHING)


def show_kept(found: StoredProject, place: Path, resources: Resources) -> int:
    """Write a page of all pictures that a vault keeps of a project's releases.

    Parameters
    ----------
    found : StoredProject
        A project inside the vault.
    place : Path
        The page; no file yet.
    resources : Resources
        The open vault, whose log has it first.

    Returns
    -------
    int
        Pictures on the page.

    Raises
    ------
    UsageError
        The project is in a folder, where no pictures are kept; or the place of the page is taken.
    PolicyDenied, AuditError
        Then nothing was read.
    """
    shelf = _sealed(found)
    names = list(shelf.names(PICTURES))
    with step(resources, Kind.IDENTIFYING_READ, _ids(found)) as entry:
        entry.intend(counts={"documents": len(names)})
        with _page(place.expanduser(), goes_on=False) as write:
            for name in names:
                write(Picture.of_document(shelf.get(name)[0]).figure())
            if not names:
                write(_NONE)
    return len(names)


def remove_kept(found: StoredProject, resources: Resources) -> int:
    """Take all pictures of a project's releases out of a vault, and return how many; as `show_kept`."""
    require_writable(resources)
    shelf = _sealed(found)
    names = list(shelf.names(PICTURES))
    with step(resources, Kind.DOCUMENT_REMOVED, _ids(found)) as entry:
        entry.intend(counts={"documents": len(names)}, codes={"area": (PICTURES,)})
        for name in names:
            shelf.delete(name)
    return len(names)


def _sealed(found: StoredProject) -> SealedShelf:
    if isinstance(found.shelf, SealedShelf):
        return found.shelf
    raise UsageError("pictures are kept where the project lies in a vault; name one that does")


def _ids(found: StoredProject) -> dict[str, tuple[str, ...]]:
    return {"project": (found.read().project_id,)}


def _require_outside(place: Path, release: Path) -> None:
    if place.resolve().is_relative_to(release.resolve()):
        raise UsageError("the page of pictures shows patients' own values: write it outside the release")


@contextmanager
def _page(place: Path, goes_on: bool) -> Iterator[Callable[[str], object]]:
    if place.exists() and not goes_on:
        raise UsageError("there is a file in the place of the page of pictures; choose another name")
    with ExitStack() as opened:
        with _told():
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            file = opened.enter_context(os.fdopen(descriptor, "w", encoding="utf-8"))
            os.fchmod(descriptor, 0o600)

        def write(text: str) -> None:
            with _told():
                file.write(text)
                file.flush()

        if not os.fstat(descriptor).st_size:
            write(_HEAD)
        yield write


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error) from None


__all__ = ["Picture", "Review", "remove_kept", "review_of", "show_kept"]

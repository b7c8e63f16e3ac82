"""How far a release has come: what was done to each study, kept where the release lies until it is whole.

A run that was stopped goes on where it was; one with other rules or another project is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from voxelvault.deid.project_shelf import Shelf
from voxelvault.deid.receipt import Receipt, Refusal, Terms
from voxelvault.errors import ObjectMissing, UsageError
from voxelvault.model import new_id

Entry: TypeAlias = Receipt | Refusal

TERMS, STUDIES = "terms", "studies"


class Progress:
    """The entries of a release in the making.

    Parameters
    ----------
    shelf : Shelf
        Where they are kept.
    terms : Terms
        Of this run; those of an earlier one must agree but for its id.

    Raises
    ------
    UsageError
        The place holds a release made by other rules.

    Attributes
    ----------
    entries : list of Receipt or Refusal
        What was done so far.
    sources : set of str
        Keyed digests of the files that are done.
    paths : set of str
        Where released files lie.
    """

    def __init__(self, shelf: Shelf, terms: Terms) -> None:
        self._shelf = shelf
        self.terms = self._begun(terms)
        self.entries: list[Entry] = []
        self.sources: set[str] = set()
        self.paths: set[str] = set()
        for name in shelf.names(STUDIES):
            self._know(map(_entry, json.loads(shelf.get(name)[0])))

    def _know(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries.append(entry)
            self.sources.add(entry.source)
            if isinstance(entry, Receipt):
                self.paths.add(entry.path)

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep what was done to one study, once its files are in their place."""
        self._shelf.put(f"{STUDIES}/{new_id()}", json.dumps([_plain(entry) for entry in entries]).encode())
        self._know(entries)

    def _begun(self, terms: Terms) -> Terms:
        try:
            found = json.loads(self._shelf.get(TERMS)[0])
        except ObjectMissing:
            self._shelf.put(TERMS, json.dumps(asdict(terms)).encode())
            return terms
        lists: dict[str, Any] = {name: _frozen(value) for name, value in found.items()}
        earlier = Terms(**lists)
        if (earlier.policy, earlier.options, earlier.notes) != (terms.policy, terms.options, terms.notes):
            raise UsageError(
                "this place holds a release that was begun with other rules: give the same ones to go on,"
                " or choose another place"
            )
        return earlier


def _plain(entry: Entry) -> dict[str, Any]:
    return {"kind": "file" if isinstance(entry, Receipt) else "refused", **asdict(entry)}


def _entry(found: dict[str, Any]) -> Entry:
    if found.pop("kind") == "refused":
        return Refusal(**found)
    return Receipt(**{**found, "boxes": tuple(map(tuple, found["boxes"]))})


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


__all__ = ["Entry", "Progress"]

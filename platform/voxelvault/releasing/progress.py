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
    signer : bytes
        The project's public key: another project's pseudonyms would make two people of one.
    faces : str
        What is done about faces, or empty: then a face ends the run, and the choice is made when it
        goes on.

    Raises
    ------
    UsageError
        The place holds a release that was begun by other rules or with another project's key.

    Attributes
    ----------
    entries : list of Receipt or Refusal
        What was done so far.
    sources : set of str
        Keyed digests of the files that are done.
    paths : set of str
        Where released files lie.
    """

    def __init__(self, shelf: Shelf, terms: Terms, signer: bytes, faces: str = "") -> None:
        self._shelf = shelf
        self.terms = self._begun(terms, signer.hex(), faces)
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

    def leave_out(self, entries: Iterable[tuple[Receipt, str]]) -> None:
        """Take files out again, each for a reason; where they are kept, they stay for another run."""
        reasons = {entry.path: reason for entry, reason in entries}
        self.entries = [
            Refusal(entry.source, reasons[entry.path])
            if isinstance(entry, Receipt) and entry.path in reasons
            else entry
            for entry in self.entries
        ]

    def _begun(self, terms: Terms, signer: str, faces: str) -> Terms:
        begun = self._earlier()
        if begun is None:
            self._begin(terms, signer, faces)
            return terms
        if begun["signer"] != signer:
            raise UsageError(
                "this place holds a release that was begun with another project's key, or with one for that"
                " run alone: give its project to go on, or delete it and begin anew"
            )
        lists: dict[str, Any] = {name: _frozen(value) for name, value in begun["terms"].items()}
        earlier = Terms(**lists)
        rules = [(one.policy, one.options, one.notes) for one in (earlier, terms)]
        if rules[0] != rules[1] or begun["faces"] not in ("", faces):
            raise UsageError(
                "this place holds a release that was begun with other rules: give the same ones to go on,"
                " or choose another place"
            )
        self._begin(earlier, signer, faces)
        return earlier

    def _begin(self, terms: Terms, signer: str, faces: str) -> None:
        begun = json.dumps({"terms": asdict(terms), "signer": signer, "faces": faces}).encode()
        try:
            version = self._shelf.get(TERMS)[1]
        except ObjectMissing:
            self._shelf.put(TERMS, begun)
        else:
            self._shelf.swap(TERMS, begun, version)

    def _earlier(self) -> dict[str, Any] | None:
        """Return how the release was begun; None where nothing came of it yet."""
        if not list(self._shelf.names(STUDIES)):
            return None
        return dict(json.loads(self._shelf.get(TERMS)[0]))


def _plain(entry: Entry) -> dict[str, Any]:
    return {"kind": "file" if isinstance(entry, Receipt) else "refused", **asdict(entry)}


def _entry(found: dict[str, Any]) -> Entry:
    if found.pop("kind") == "refused":
        return Refusal(**found)
    return Receipt(**{**found, "boxes": tuple(map(tuple, found["boxes"]))})


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


__all__ = ["STUDIES", "Entry", "Progress"]

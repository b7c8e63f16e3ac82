"""How far a release has come: what was done to each study, kept where the release lies until it is whole.

A run that was stopped goes on where it was; one with other rules or another project is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from voxelvault.deid.project_shelf import Shelf
from voxelvault.deid.receipt import Receipt, Refusal, Terms
from voxelvault.errors import ObjectMissing, UsageError
from voxelvault.model import new_id
from voxelvault.releasing.spool import Entry, Spool, receipt_from

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
    issuer : str
        Keyed digest of the issuer of ids whose header names none: another one makes two people of one.

    Raises
    ------
    UsageError
        The place holds a release that was begun by other rules or with another project's key.

    Attributes
    ----------
    terms : Terms
        Those the release was begun with.
    goes_on : bool
        An earlier run got something done.
    """

    def __init__(self, shelf: Shelf, terms: Terms, signer: bytes, faces: str = "", issuer: str = "") -> None:
        self._shelf = shelf
        self.terms = self._begun(terms, {"signer": signer.hex(), "faces": faces, "issuer": issuer})
        self._entries = Spool()
        for name in shelf.names(STUDIES):
            self._entries.add(map(_entry, json.loads(shelf.get(name)[0])), met=False)
        self.goes_on = bool(self._entries.count("true"))

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep what was done to one study, once its files are in their place."""
        self._shelf.put(f"{STUDIES}/{new_id()}", json.dumps([_plain(entry) for entry in entries]).encode())
        self._entries.add(entries, met=True)

    def leave_out(self, path: str, reason: str) -> None:
        """Take a file out again; where entries are kept, its own stays for another run."""
        self._entries.leave_out(path, reason)

    def meet(self, source: str) -> bool:
        """Tell whether a source is done, and keep in mind that it is still there."""
        return self._entries.meet(source)

    def reasons(self, source: str) -> list[str]:
        """Return why files of a source were refused, a reason a file."""
        return self._entries.reasons(source)

    def holds(self, path: str) -> bool:
        """Tell whether a released file lies there."""
        return self._entries.holds(path)

    def of_source(self, source: str) -> Iterator[Receipt]:
        """Yield what became of a source, if anything did."""
        return self._entries.of_source(source)

    def receipts(self) -> Iterator[Receipt]:
        """Yield the released files by their paths."""
        return self._entries.receipts()

    def refusals(self) -> Iterator[Refusal]:
        """Yield what was refused, by its source."""
        return self._entries.refusals()

    @property
    def files(self) -> int:
        """Files released."""
        return self._entries.count("reason is null")

    @property
    def blanked(self) -> int:
        """Files released with something blanked."""
        return self._entries.count("blanked and reason is null")

    @property
    def refused(self) -> int:
        """Files refused."""
        return self._entries.count("reason is not null")

    def require_met(self) -> None:
        """Refuse to end a release that holds files of what is no longer to be released.

        Raises
        ------
        UsageError
            A source that was done in an earlier run is not among those of this one.
        """
        if self._entries.count("not met"):
            raise UsageError(
                "the unfinished release holds files that are no longer among those to release: give the same"
                " ones to go on, or delete it and begin anew"
            )

    def _begun(self, terms: Terms, bound: dict[str, str]) -> Terms:
        begun = self._earlier()
        if begun is None:
            self._begin(terms, bound)
            return terms
        if begun["signer"] != bound["signer"]:
            raise UsageError(
                "this place holds a release that was begun with another project's key, or with one for that"
                " run alone: give its project to go on, or delete it and begin anew"
            )
        lists: dict[str, Any] = {name: _frozen(value) for name, value in begun["terms"].items()}
        earlier = Terms(**lists)
        if earlier.version != terms.version:
            raise UsageError(
                "this place holds a release that was begun by another version of voxelvault: go on with that"
                " one, or delete it and begin anew"
            )
        rules = [(one.policy, one.options, one.notes) for one in (earlier, terms)]
        same = rules[0] == rules[1] and begun["issuer"] == bound["issuer"]
        if not same or begun["faces"] not in ("", bound["faces"]):
            raise UsageError(
                "this place holds a release that was begun with other rules: give the same ones to go on,"
                " or choose another place"
            )
        self._begin(earlier, bound)
        return earlier

    def _begin(self, terms: Terms, bound: dict[str, str]) -> None:
        begun = json.dumps({"terms": asdict(terms), **bound}).encode()
        try:
            version = self._shelf.get(TERMS)[1]
        except ObjectMissing:
            self._shelf.put(TERMS, begun)
        else:
            self._shelf.swap(TERMS, begun, version)

    def _earlier(self) -> dict[str, Any] | None:
        """Return how the release was begun; None where nothing came of it yet."""
        if next(iter(self._shelf.names(STUDIES)), None) is None:
            return None
        return dict(json.loads(self._shelf.get(TERMS)[0]))


def _plain(entry: Entry) -> dict[str, Any]:
    return {"kind": "file" if isinstance(entry, Receipt) else "refused", **vars(entry)}


def _entry(found: dict[str, Any]) -> Entry:
    return Refusal(**found) if found.pop("kind") == "refused" else receipt_from(found)


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


__all__ = ["STUDIES", "Progress"]

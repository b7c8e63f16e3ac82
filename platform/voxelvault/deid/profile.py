"""Which action an element gets: the table, a choice of options, and a site's own rules.

The order is: site rule, Table E.1-1, safe private list, what a module wants with a value, what is
said of the tag or its VR; an element that nothing lets through is removed.

References
----------
DICOM PS3.15 E.2 (Basic Profile), E.3 (options), Table E.1-1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from voxelvault.deid import tables
from voxelvault.deid.model import BASIC, Action, Decision, Option
from voxelvault.deid.tables import Row
from voxelvault.dicom.vr import public_vr
from voxelvault.errors import UsageError

PRESETS: dict[str, frozenset[Option]] = {
    "basic": frozenset(),
    "research": frozenset([Option.CLEAN_DESCRIPTORS, Option.RETAIN_MODIFIED_DATES]),
}
"""`basic` obeys the table to the letter; `research` keeps cleaned descriptors and moved dates."""

OPAQUE = frozenset(["OB", "OW", "OB or OW", "UN", ""])
"""VRs whose bytes nobody can clean."""

DATES = frozenset(["DA", "DT", "TM"])

_MOST = 50_000
"""Decisions remembered."""

_LETTERS = {letter.value: letter for letter in Action}


class SiteRules(Protocol):
    """A site's own rules, which go before all others."""

    def find(self, tag: int, creator: str | None) -> Decision | None:
        """Return the decision for an element, None where no rule names it."""

    def digest(self) -> bytes:
        """Return the SHA-256 of the rules."""


class _NoRules:
    def find(self, tag: int, creator: str | None) -> Decision | None:
        return None

    def digest(self) -> bytes:
        return b""


_PATIENT_ID = 0x00100020


@dataclass(frozen=True)
class Profile:
    """The Basic Profile with options and site rules; made by `profile`."""

    name: str
    options: frozenset[Option]
    site: SiteRules = field(default_factory=_NoRules)
    edition: str = tables.EDITION
    _made: dict[tuple[object, ...], Decision] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """SHA-256 of all rules in force, hexadecimal."""
        options = ",".join(sorted(self.options)).encode()
        return sha256(tables.digest() + sha256(options).digest() + self.site.digest()).hexdigest()

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of CID 7050 that the profile stands for, the Basic Profile first."""
        return (BASIC, *sorted(option.code for option in self.options))

    def decide(self, tag: int, vr: str, creator: str | None, sop_class: str, nested: bool) -> Decision:
        """Return the action for one element; see `voxelvault.deid.model.Policy`."""
        key = (tag, vr, creator, sop_class, nested)
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= _MOST:  # creators and classes are whatever files say
                self._made.clear()
            found = self._made[key] = self._decide(tag, vr, creator, sop_class, nested)
        return found

    def _decide(self, tag: int, vr: str, creator: str | None, sop_class: str, nested: bool) -> Decision:
        site = self.site.find(tag, creator)
        if site is not None:
            return site
        row = tables.listed(tag)
        if row is None:
            return self._unlisted(tag, vr, tables.wants_value(tag, sop_class, nested))
        if row.key == "private":
            return self._private(tag, creator)
        return self._listed(row, tag, vr, sop_class, nested)

    def retains(self, tag: int) -> bool:
        """Say whether an option in force or a site's rule keeps this public element as it came."""
        site = self.site.find(tag, None)
        if site is not None:
            return site.action is Action.KEEP
        row = tables.listed(tag)
        return row is not None and any(row.options.get(option) == "K" for option in self.options)

    def patient_id_by_site(self) -> Action | None:
        """Return what a site's rule does with PatientID in place of a pseudonym of each patient's own."""
        site = self.site.find(_PATIENT_ID, None)
        return None if site is None or site.action in (Action.ZERO, Action.DUMMY) else site.action

    def one_patient_id(self) -> bool:
        """Tell whether a site's rule gives one PatientID, or none, to everybody."""
        return self.patient_id_by_site() in (Action.REPLACE, Action.REMOVE)

    def kept_by_site(self) -> tuple[str, ...]:
        """Return the keywords of what a site's rules keep as it came, though the table removes it."""
        from pydicom.datadict import keyword_for_tag

        kept = (tag for tag in tables.numbers() if _keeps(self.site.find(tag, None)))
        return tuple(keyword for keyword in map(keyword_for_tag, kept) if keyword)

    def _listed(self, row: Row, tag: int, vr: str, sop_class: str, nested: bool) -> Decision:
        name = f"E.1-1 {written(tag)}"
        if row.key == "50xxxxxx":  # a retired drawing in any of ten VRs: nothing can clean it
            return Decision(Action.REMOVE, f"{name} basic X")
        letters = {option: row.options[option] for option in sorted(self.options) if option in row.options}
        shifted = Option.RETAIN_MODIFIED_DATES
        opaque = vr in OPAQUE and row.key != "60xx3000"  # planes are drawn and looked at
        if letters.get(shifted) == "C" and not opaque:
            return Decision(Action.SHIFT, f"{name} {shifted} C")
        for letter, action in (("K", Action.KEEP), ("C", Action.CLEAN)):
            option = next((option for option, said in letters.items() if said == letter), None)
            if option is not None and not (action is Action.CLEAN and opaque):
                return Decision(action, f"{name} {option} {letter}")
        return resolved(row.basic, name, tables.type_of(tag, sop_class, nested))

    def _private(self, tag: int, creator: str | None) -> Decision:
        name = f"E.1-1 {written(tag)}"
        if Option.RETAIN_SAFE_PRIVATE in self.options and creator is not None:
            vr = tables.safe_private().get((tag >> 16, tag & 0xFF, creator))
            if vr is not None and vr not in OPAQUE:
                return Decision(
                    Action.CLEAN, f"E.3.10-1 ({tag >> 16:04X},xx{tag & 0xFF:02X}) of its creator C"
                )
        return Decision(Action.REMOVE, f"{name} private X")

    def _unlisted(self, tag: int, vr: str, wanted: bool) -> Decision:
        if not tag & 0xFFFF or (public_vr(tag) == "UN" and not tables.public_tag(tag)):
            return Decision(Action.REMOVE, f"{written(tag)} not in any list X")
        said = tables.public_tag(tag) or tables.public_vr_rule(vr)
        name = f"public list {written(tag) if said.key != vr else vr}, {said.why}"
        action = self._dated() if said.action == "S" else _LETTERS[said.action]
        if action is Action.REMOVE and said.key == vr and wanted:
            return Decision(Action.DUMMY, f"{name}; a module wants a value D")
        if action is Action.UID and Option.RETAIN_UIDS in self.options:
            action = Action.KEEP
        return Decision(
            action, f"{name} {action.value}", tables.STANDARD if action is Action.REPLACE else None
        )

    def _dated(self) -> Action:
        if Option.RETAIN_FULL_DATES in self.options:
            return Action.KEEP
        return Action.SHIFT if Option.RETAIN_MODIFIED_DATES in self.options else Action.REMOVE


def _keeps(decision: Decision | None) -> bool:
    return decision is not None and decision.action is Action.KEEP


def profile(
    preset: str = "research", options: Iterable[Option] = (), site: SiteRules | None = None
) -> Profile:
    """Return a preset with more options and a site's rules.

    Raises
    ------
    UsageError
        No such preset, or options that exclude each other.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no such profile; choose one of {', '.join(PRESETS)}")
    chosen = PRESETS[preset] | frozenset(options)
    if {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES} <= chosen:
        raise UsageError(
            "retain_full_dates and retain_modified_dates exclude each other, and research has the second; "
            "choose one, with profile basic for the first"
        )
    name = "+".join([preset, *sorted(chosen - PRESETS[preset])]) + ("+site" if site else "")
    return Profile(name, chosen, site or _NoRules())


def resolved(basic: str, name: str, type_: int) -> Decision:
    """Return what the Basic Profile does, where the type of the attribute has a say in it.

    Parameters
    ----------
    basic : str
        A cell of the table: X, Z, D, U, or a choice such as X/Z/D.
    name : str
        Of the rule.
    type_ : int
        1, 2 or 3 (PS3.5 7.4).

    References
    ----------
    DICOM PS3.15 Table E.1-1a (action codes).
    """
    choices = basic.split("/")
    if len(choices) == 1:
        return Decision(_LETTERS[basic], f"{name} basic {basic}")
    if choices[-1] == "U*":
        return Decision(Action.UID, f"{name} basic {basic}: U, so that references stay whole")
    order = {1: "DZX", 2: "ZDX", 3: "XZD"}[type_]
    letter = min(choices, key=order.index)
    return Decision(_LETTERS[letter], f"{name} basic {basic}: {letter}, type {type_}")


def written(tag: int) -> str:
    """Return a tag as the standard writes it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


__all__ = ["OPAQUE", "PRESETS", "Profile", "SiteRules", "profile", "resolved", "written"]

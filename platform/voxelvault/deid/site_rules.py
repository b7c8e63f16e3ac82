"""A site's own rules: one TOML file, which goes before the table.

::

    rest = "remove"                  # optional: what no rule names goes

    [[rule]]
    tag = "PatientSex"               # keyword, (0010,0040), 00100040 or (60xx,0022)
    action = "keep"                  # keep, remove, empty, replace, clean, hash, shift

    [[rule]]
    tag = "(0019,xx0C)"              # of a private element: its place in the block
    creator = "SIEMENS MR HEADER"
    action = "keep"

    [[rule]]
    tag = "InstitutionName"
    action = "replace"
    value = "a hospital"

References
----------
DICOM PS3.15 E.1.1: a site may do more, or less, than the profile; it must then not claim it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from typing import Any

from pydicom import config, valuerep

from voxelvault.deid import tables
from voxelvault.deid.model import Action, Decision
from voxelvault.deid.normal import TEXTS, proper_vr
from voxelvault.dicom.vr import tags_by_keyword
from voxelvault.errors import RulesRefused, UsageError

WORDS = {
    "keep": Action.KEEP,
    "remove": Action.REMOVE,
    "empty": Action.ZERO,
    "replace": Action.REPLACE,
    "clean": Action.CLEAN,
    "hash": Action.HASH,
    "shift": Action.SHIFT,
}
"""What a rule may say."""

NEEDED = frozenset([0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E])
"""Elements that stay when the rest is removed: without them there is no object."""

_PIXELS = 0x0028
_NIBBLES = re.compile(r"\(?\s*([0-9A-Fa-fxX]{4})\s*,?\s*([0-9A-Fa-fxX]{4})\s*\)?")
_SHIFTED = ("DA", "DT", "TM")


class RuleProblem(Exception):
    """One rule that can't be honoured; collected, never shown alone."""


@dataclass(frozen=True)
class Where:
    """Which elements a rule is for: those whose tag agrees in the bits of the mask.

    `creator` is set for a private element, whose tag then has no block.
    """

    tag: int
    mask: int = 0xFFFFFFFF
    creator: str | None = None

    def holds(self, tag: int, creator: str | None) -> bool:
        """Tell whether the rule is for an element."""
        if self.creator is not None:
            return creator == self.creator and tag & 0xFFFF00FF == self.tag
        return tag & self.mask == self.tag and not (tag >> 16 & 1 and self.mask == 0xFFFFFFFF)

    @property
    def vr(self) -> str:
        """The VR of the one element meant, `UN` where it can't be told."""
        if self.mask != 0xFFFFFFFF or (self.tag & 0xFFFF < 0x10 and self.creator):
            return "UN"
        return proper_vr(self.tag | 0x1000 if self.creator else self.tag, None, self.creator, False)


@dataclass(frozen=True)
class SiteRule:
    """One rule."""

    where: Where
    action: Action
    name: str
    value: str | None = None


@dataclass(frozen=True)
class SiteRules:
    """All rules of a site; the more particular goes first.

    Attributes
    ----------
    rules : tuple of SiteRule
    rest : Action or None
        `REMOVE`: what no rule names is removed, but for what an object can't be without.
    spared : frozenset of int
        Groups that `rest` doesn't reach.
    """

    rules: tuple[SiteRule, ...]
    rest: Action | None = None
    spared: frozenset[int] = frozenset()

    def find(self, tag: int, creator: str | None) -> Decision | None:
        """Return the decision for an element, None where no rule names it."""
        rule = next((rule for rule in self._ordered if rule.where.holds(tag, creator)), None)
        if rule is not None:
            return Decision(rule.action, rule.name, rule.value)
        spared = tag in NEEDED or tag >> 16 == _PIXELS or tag >> 16 in self.spared
        if self.rest is None or spared:
            return None
        return Decision(self.rest, "site rule for the rest")

    def digest(self) -> bytes:
        """Return the SHA-256 of the rules."""
        said = [
            f"{rule.where.tag:08X}/{rule.where.mask:08X}/{rule.where.creator}={rule.action}{rule.value!r}"
            for rule in self.rules
        ]
        return sha256("\n".join([*said, str(self.rest), str(sorted(self.spared))]).encode()).digest()

    @cached_property
    def _ordered(self) -> tuple[SiteRule, ...]:
        return tuple(sorted(self.rules, key=lambda rule: -rule.where.mask.bit_count()))


def read_toml(text: str) -> SiteRules:
    """Read a site's rules.

    Parameters
    ----------
    text : str
        The TOML file.

    Raises
    ------
    UsageError
        It is no TOML.
    RulesRefused
        Rules that can't be honoured, all of them.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as failed:
        raise UsageError("the rules are no TOML; look at the example in the guide") from failed
    rest = document.get("rest")
    problems = [] if rest in (None, "remove") else ["rest: write remove, or leave it out"]
    problems += [f"{key}: there is no such setting" for key in document if key not in ("rest", "rule")]
    tables_ = document.get("rule", [])
    entries = tables_ if isinstance(tables_, list) else []
    made: list[SiteRule] = []
    for number, entry in enumerate(entries, 1):
        try:
            made.append(_from_toml(entry, f"site rule {number}"))
        except RuleProblem as problem:
            problems.append(f"rule {number}: {problem}")
    return checked(made, problems, Action.REMOVE if rest else None)


def _from_toml(entry: Mapping[str, Any], name: str) -> SiteRule:
    unknown = set(entry) - {"tag", "creator", "action", "value"}
    if unknown:
        raise RuleProblem("only tag, creator, action and value are known")
    if not all(isinstance(value, str) for value in entry.values()):
        raise RuleProblem("write every value in quotes")
    if entry.get("action") not in WORDS:
        raise RuleProblem(f"action must be one of {', '.join(WORDS)}")
    where = place(str(entry.get("tag", "")), entry.get("creator"))
    return rule(where, WORDS[entry["action"]], name, entry.get("value"))


def rule(where: Where, action: Action, name: str, value: str | None = None) -> SiteRule:
    """Return a rule, if an element of that VR can be treated so.

    Raises
    ------
    RuleProblem
        The action doesn't fit the VR, or the value isn't of it.
    """
    vr = where.vr
    if (action is Action.REPLACE) != (value is not None):
        raise RuleProblem("replace needs a value, and no other action has one")
    if action is Action.SHIFT and vr not in _SHIFTED:
        raise RuleProblem("only dates and times can be shifted")
    if action in (Action.REPLACE, Action.HASH) and vr not in TEXTS:
        raise RuleProblem("only text can be replaced or hashed")
    if action is Action.CLEAN and vr in ("OB", "OW", "UN"):
        raise RuleProblem("opaque bytes can't be cleaned; remove them")
    if value is not None:
        _check(vr, value)
    return SiteRule(where, action, name, value)


def _check(vr: str, value: str) -> None:
    try:
        valuerep.validate_value(vr, value, config.RAISE)
    except ValueError:
        raise RuleProblem(f"the value is no {vr}") from None


def place(text: str, creator: str | None = None) -> Where:
    """Return the elements that a tag or keyword names.

    Parameters
    ----------
    text : str
        A keyword, or eight hexadecimal digits with or without comma and brackets; `x` is any digit.
    creator : str or None
        Of a private element, whose block is then `xx` or whatever the source had.

    Raises
    ------
    RuleProblem
        It names nothing.
    """
    match = _NIBBLES.fullmatch(text.strip())
    if match is None:
        if creator is not None or text not in keywords():
            raise RuleProblem("write a keyword of the dictionary, or a tag like (0010,0040)")
        return Where(keywords()[text])
    digits = (match[1] + match[2]).lower()
    if int(digits[3].replace("x", "0"), 16) & 1:
        return _private(digits, creator)
    if creator is not None:
        raise RuleProblem("only private elements, of odd groups, have a creator")
    mask = "".join("0" if digit == "x" else "f" for digit in digits)
    return Where(int(digits.replace("x", "0"), 16), int(mask, 16))


def _private(digits: str, creator: str | None) -> Where:
    if not creator:
        raise RuleProblem("a private element needs its creator")
    if "x" in digits[:4] + digits[6:]:
        raise RuleProblem("of a private element only the block may be xx")
    return Where(int(digits[:4] + "00" + digits[6:], 16), 0xFFFF00FF, creator)


def checked(
    rules: Iterable[SiteRule],
    problems: list[str],
    rest: Action | None = None,
    spared: Iterable[int] = (),
) -> SiteRules:
    """Return the rules, unless there are problems or two for one element.

    Raises
    ------
    RulesRefused
        All problems at once.
    """
    made = tuple(rules)
    problems = [*problems, *_doubled(made)]
    if problems:
        raise RulesRefused(problems)
    return SiteRules(made, rest, frozenset(spared))


def _doubled(rules: tuple[SiteRule, ...]) -> Iterator[str]:
    seen: dict[Where, str] = {}
    for one in rules:
        if one.where in seen:
            yield f"{one.name}: {seen[one.where]} is for the same element; keep one"
        seen.setdefault(one.where, one.name)


@cache
def keywords() -> dict[str, int]:
    """Return tag by keyword: the dictionary's, and those of the table that it lacks."""
    newer = {row.keyword: int(row.key, 16) for row in tables.table().values() if tables.is_tag(row.key)}
    return {**newer, **tags_by_keyword()}


__all__ = [
    "NEEDED",
    "RuleProblem",
    "SiteRule",
    "SiteRules",
    "WORDS",
    "Where",
    "checked",
    "place",
    "read_toml",
    "rule",
]

"""Which rule decides over an element, and why, under each choice of options.

References
----------
DICOM PS3.15 Table E.1-1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voxelvault.deid import tables
from voxelvault.deid.model import Action, Decision, Option, Policy
from voxelvault.deid.normal import proper_vr
from voxelvault.deid.profile import PRESETS, profile
from voxelvault.deid.site_rules import RuleProblem, Where, keywords, place
from voxelvault.errors import UsageError

IN_WORDS = {
    Action.KEEP: "kept",
    Action.REMOVE: "removed",
    Action.ZERO: "emptied",
    Action.DUMMY: "replaced by a dummy",
    Action.CLEAN: "cleaned",
    Action.UID: "UIDs mapped",
    Action.HASH: "replaced by a keyed hash",
    Action.SHIFT: "moved by the patient's days",
    Action.REPLACE: "replaced by a fixed value",
}


@dataclass(frozen=True)
class Explanation:
    """What one choice of options does with an element."""

    options: str
    decision: Decision
    becomes: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.options}: {self.becomes} ({self.decision.rule})"


def explain(
    tag: str,
    creator: str | None = None,
    *,
    sop_class: str = "1.2.840.10008.5.1.4.1.1.2",
    policies: Iterable[Policy] = (),
) -> list[Explanation]:
    """Say what becomes of an element under both presets, each option, and policies of one's own.

    Parameters
    ----------
    tag : str
        Keyword or tag, as in a site's rules.
    creator : str or None
        Of a private element.
    sop_class : str
        UID of the class, which decides where the table leaves a choice; CT unless told otherwise.
    policies : iterable of Policy
        Explained first.

    Returns
    -------
    list of Explanation
        Options that change nothing beside `basic` are left out.

    Raises
    ------
    UsageError
        No such element.
    """
    try:
        where = place(tag, creator)
    except RuleProblem as problem:
        raise UsageError(str(problem)) from None
    number = where.tag | 0x1000 if creator else where.tag
    vr = proper_vr(number, None, creator, False)

    def under(policy: Policy) -> Explanation:
        decision = policy.decide(number, vr, creator, sop_class, False)
        keyed = number in tables.pseudonymous() and decision.action in (Action.ZERO, Action.DUMMY)
        words = "replaced by a pseudonym" if keyed else IN_WORDS[decision.action]
        return Explanation(policy.name, decision, words)

    presets = [under(policy) for policy in [*policies, *map(profile, PRESETS)]]
    basic = under(profile("basic")).decision
    alone = [under(profile("basic", [option])) for option in Option]
    return presets + [said for said in alone if said.decision != basic]


def title(tag: str, creator: str | None = None) -> str:
    """Return tag and keyword, as a heading.

    Raises
    ------
    UsageError
        No such element.
    """
    try:
        where = place(tag, creator)
    except RuleProblem as problem:
        raise UsageError(str(problem)) from None
    name = next((keyword for keyword, known in keywords().items() if known == where.tag), creator or "")
    return f"{_pattern(where)} {name}".strip()


def _pattern(where: Where) -> str:
    """Return the tags meant, `x` for each digit that may be any: a block, or a group of many."""
    digits = zip(f"{where.tag:08X}", f"{where.mask:08X}", strict=True)
    text = "".join(digit if mask == "F" else "x" for digit, mask in digits)
    return f"({text[:4]},{text[4:]})"


__all__ = ["Explanation", "explain", "title"]

"""Recipes of pydicom/deid, read as a site's rules.

`KEEP`, `REMOVE`, `BLANK`, `REPLACE` by a literal and `JITTER` are honoured (the days of a jitter are
the project's secret and not the recipe's); filters, labels, variables and functions are errors, one
for each line, all at once.

References
----------
pydicom/deid, "Recipe headers" and "Private tags" of its user guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxelvault.deid.model import Action
from voxelvault.deid.site_rules import (
    RuleProblem,
    SiteRule,
    SiteRules,
    Where,
    checked,
    keywords,
    place,
    rule,
)

_ACTIONS = {
    "KEEP": Action.KEEP,
    "REMOVE": Action.REMOVE,
    "BLANK": Action.ZERO,
    "REPLACE": Action.REPLACE,
    "JITTER": Action.SHIFT,
}
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),\"([^\"]+)\",([0-9A-Fa-f]{2})\)?")
_LINE = re.compile(r"(\w+)\s+(\(?[0-9A-Fa-f]{4},\"[^\"]+\",[0-9A-Fa-f]{2}\)?|\S+)(?:\s+(.*))?")
_OURS = frozenset(["PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"])
_MATCHES = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": lambda keyword, part: re.search(part, keyword) is not None,
}
_DATES = ("DA", "DT", "TM")


def read_deid(text: str) -> SiteRules:
    """Read a recipe.

    Parameters
    ----------
    text : str
        The recipe file.

    Raises
    ------
    RulesRefused
        A message for each line that can't be honoured.
    """
    named: dict[Where, SiteRule] = {}
    matched: dict[Where, SiteRule] = {}
    problems: list[str] = []
    rest, section = None, ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        try:
            if line.startswith("%"):
                section = line[1:].strip()
                _require_header(section)
            elif line and not line.startswith("FORMAT") and section == "header":
                if re.fullmatch(r"REMOVE\s+ALL", line, re.IGNORECASE):
                    rest = Action.REMOVE
                for one in _rules(line, f"recipe line {number}"):
                    (matched if ":" in line else named).setdefault(one.where, one)
            elif line and line != "FORMAT dicom":
                raise RuleProblem("this stands in no section that has a counterpart")
        except RuleProblem as problem:
            problems.append(f"line {number}: {problem}")
    return checked({**matched, **named}.values(), problems, rest)


def _require_header(section: str) -> None:
    if section != "header":
        raise RuleProblem("only the section %header has a counterpart; pixels are read, not listed")


def _rules(line: str, name: str) -> Iterator[SiteRule]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise RuleProblem("write an action, a field and perhaps a value")
    action, field, value = match[1].upper(), match[2], match[3]
    if field.upper() == "ALL" and action == "REMOVE" and value is None:
        return
    if action == "ADD" and field in _OURS:
        return  # written into every released object anyway
    if action not in _ACTIONS:
        raise RuleProblem("only KEEP, REMOVE, BLANK, REPLACE and JITTER have a counterpart")
    if value is not None and re.match(r"(var|func|deid_func):", value):
        raise RuleProblem("variables and functions have no counterpart; write the value")
    if action not in ("REPLACE", "JITTER") and value is not None:
        raise RuleProblem("an action with a condition has no counterpart")
    for where in _fields(field, action):
        yield rule(where, _ACTIONS[action], name, value if action == "REPLACE" else None)


def _fields(field: str, action: str) -> list[Where]:
    private = _PRIVATE.fullmatch(field)
    if private:
        return [place(f"{private[1]}xx{private[3]}", private[2])]
    how, colon, part = field.partition(":")
    if not colon:
        return [place(field)]
    if how not in _MATCHES:
        raise RuleProblem("only startswith, endswith and contains choose fields")
    try:
        chosen = [Where(tag) for keyword, tag in keywords().items() if _MATCHES[how](keyword, part)]
    except re.error:
        raise RuleProblem("the pattern is no regular expression") from None
    if action == "JITTER":
        chosen = [where for where in chosen if where.vr in _DATES]
    if not chosen:
        raise RuleProblem("no field of the dictionary is meant")
    return chosen


__all__ = ["read_deid"]

"""Scripts of the RSNA's Clinical Trials Processor, read as a site's rules.

What a line asks for in our terms is honoured (`@incrementdate` and `@hashdate` become our shift, whose
days are the project's secret and not the script's); every other line is an error, all at once.
Lines that the script has switched off are no lines.

References
----------
MIRC CTP, "The CTP DICOM Anonymizer" (script language).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from voxelvault.deid.model import Action
from voxelvault.deid.site_rules import RuleProblem, SiteRule, SiteRules, Where, checked, place, rule
from voxelvault.errors import UsageError

_PRIVATE = re.compile(r"([0-9A-Fa-f]{4})\[([^\]]+)\]([0-9A-Fa-f]{2})")
_CALL = re.compile(r"@(\w+)\((.*)\)", re.DOTALL)
_FUNCTIONS = {
    "keep": Action.KEEP,
    "remove": Action.REMOVE,
    "empty": Action.ZERO,
    "blank": Action.ZERO,
    "hash": Action.HASH,
    "hashname": Action.HASH,
    "hashptid": Action.HASH,
    "hashuid": Action.HASH,
    "uid": Action.HASH,
    "incrementdate": Action.SHIFT,
    "hashdate": Action.SHIFT,
}
_THIS = frozenset(["hash", "hashname", "hashptid", "hashuid", "incrementdate", "hashdate"])
_GROUPS = {
    "privategroups": Where(0x00010000, 0x00010000),
    "curves": Where(0x50000000, 0xFFE10000),
    "overlays": Where(0x60000000, 0xFFE10000),
}


@dataclass
class _Line:
    kind: str
    attributes: Mapping[str, str]
    number: int
    text: str = ""


@dataclass
class _Script:
    lines: list[_Line] = field(default_factory=list)
    open: list[_Line] = field(default_factory=list)


def read_ctp(text: str) -> SiteRules:
    """Read a CTP script.

    Parameters
    ----------
    text : str
        The XML file.

    Raises
    ------
    UsageError
        It is no XML, or declares entities.
    RulesRefused
        A message for each line that can't be honoured.
    """
    lines = [line for line in _lines(text) if line.attributes.get("en", "T") == "T"]
    parameters = {f"@{line.attributes.get('t', '')}": line.text for line in lines if line.kind == "p"}
    rules: list[SiteRule] = []
    problems: list[str] = []
    rest, spared = None, []
    for line in lines:
        try:
            if line.kind == "e":
                rules.append(_element(line, parameters))
            elif line.kind == "k":
                spared.append(_kept_group(line))
            elif line.kind == "r" and line.attributes.get("t") == "unspecifiedelements":
                rest = Action.REMOVE
            elif line.kind == "r":
                rules.append(_removed_group(line))
        except RuleProblem as problem:
            problems.append(f"line {line.number}: {problem}")
    return checked(rules, problems, rest, spared)


def _lines(text: str) -> list[_Line]:
    """Parse with line numbers, which ElementTree doesn't keep; entities are refused."""
    script = _Script()
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        script.open.append(_Line(name, attributes, parser.CurrentLineNumber))

    def end(name: str) -> None:
        line = script.open.pop()
        line.text = line.text.strip()
        if name in "epkr":
            script.lines.append(line)

    def characters(data: str) -> None:
        script.open[-1].text += data

    def entity(*_: object) -> NoReturn:
        raise UsageError("the script declares entities; write their text instead")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = characters, entity
    try:
        parser.Parse(text, True)
    except expat.ExpatError as failed:
        raise UsageError(f"the script is no XML at line {failed.lineno}") from failed
    return script.lines


def _element(line: _Line, parameters: Mapping[str, str]) -> SiteRule:
    where = _where(line.attributes.get("t", ""))
    name = f"CTP script line {line.number}"
    text = parameters.get(line.text.removeprefix("@param(").removesuffix(")"), line.text)
    if text.startswith("@param("):
        raise RuleProblem("the script has no such parameter")
    if not text:
        return rule(where, Action.ZERO, name)
    if not text.startswith("@"):
        return rule(where, Action.REPLACE, name, text)
    return rule(where, _action(text), name)


def _where(tag: str) -> Where:
    private = _PRIVATE.fullmatch(tag)
    return place(f"{private[1]}xx{private[3]}", private[2]) if private else place(tag)


def _action(text: str) -> Action:
    call = _CALL.fullmatch(text)
    if call is None or call[1] not in _FUNCTIONS:
        raise RuleProblem(
            "this function has no counterpart; write a rule of keep, remove, replace, hash or shift"
        )
    arguments = [argument.strip() for argument in call[2].split(",")]
    if call[1] in _THIS - {"hashuid", "hashptid"} and arguments[0] != "this":
        raise RuleProblem("a value can't be made of another element's")
    if "@" in call[2].replace("@DATEINC", "").replace("@UIDROOT", "").replace("@SITEID", ""):
        raise RuleProblem("functions within functions have no counterpart")
    return _FUNCTIONS[call[1]]


def _kept_group(line: _Line) -> int:
    try:
        return int(line.attributes.get("t", "").removeprefix("keepgroup"), 16)
    except ValueError:
        raise RuleProblem("only groups can be kept; for private ones choose retain_safe_private") from None


def _removed_group(line: _Line) -> SiteRule:
    where = _GROUPS.get(line.attributes.get("t", ""))
    if where is None:
        raise RuleProblem("there is no such group of elements")
    return SiteRule(where, Action.REMOVE, f"CTP script line {line.number}")


__all__ = ["read_ctp"]

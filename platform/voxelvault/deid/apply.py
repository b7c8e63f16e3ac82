"""A data set rebuilt: one pass over every element at every depth, and only what a rule lets through.

What comes out is a new data set in Explicit VR Little Endian and UTF-8. Pixels, overlays and
encapsulated documents aren't in it: other parts clean them and put them in.

References
----------
DICOM PS3.15 E.1.1 (de-identifier), E.2, E.3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from voxelvault.deid import coded, palettes, tables
from voxelvault.deid.colour import standard_profile
from voxelvault.deid.model import BASIC, Action, Context, Decision, Option, Policy, Refused, Rewritten
from voxelvault.deid.normal import Stored, as_bytes, as_sequence, proper_vr, raw_element, stored
from voxelvault.deid.values import Values, dummy, is_term, text_of
from voxelvault.dicom.charset import encodings_of

DEEPEST = 64
"""Sequences nested deeper than this are an attack or a mistake."""

ELSEWHERE = frozenset([0x00420011, 0x54001010, 0x5400100A])
"""Elements that other parts put in, beside the pixels and overlays: documents, samples and their padding."""

_CHARSET, _SOP_CLASS, _SIGNED = 0x00080005, 0x00080016, 0x00280103
_DEFLATED = frozenset(["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"])
"""Syntaxes that deflate the whole data set and say where the pixels are; none is written."""

_BY_OTHERS = frozenset(
    [Option.CLEAN_PIXELS, Option.CLEAN_FACES, Option.CLEAN_GRAPHICS, Option.CLEAN_STRUCTURED]
)
_PARTIAL = {option.value: option.code for option in (Option.CLEAN_GRAPHICS, Option.CLEAN_STRUCTURED)}
_LOOSE = frozenset([Action.KEEP, Action.CLEAN, Action.SHIFT])
_TABLES = ("E.1-1", "E.3.10-1")
_REBUILT = frozenset([Action.KEEP, Action.CLEAN, Action.UID, Action.SHIFT])
_DUMMY = Decision(Action.DUMMY, "inside a sequence that is replaced by a dummy")


class _Plan(NamedTuple):
    """What happens to elements of one tag and stored VR, decided once."""

    decision: Decision
    vr: str
    tag: BaseTag
    handled: str
    """`value`, `sequence`, `code`, `profile`, `palette` or nothing."""

    code: str | None
    """Of CID 7050, for an option that is said to be applied only where it was."""

    wanted: bool
    """The class wants a value."""

    loosens: bool
    """A site lets through what the table doesn't."""


class _Place(NamedTuple):
    """Where in the data set we are."""

    encodings: tuple[str, ...]
    depth: int
    dummies: bool
    """Inside a sequence that is replaced by a dummy."""


_Kept: TypeAlias = dict[BaseTag, DataElement | RawDataElement]
_Key: TypeAlias = tuple[int, str | None, bool, str | None]
"""Tag, stored VR, whether it is nested, and creator."""

_MOST_KINDS, _MOST_PLANS = 500, 5000
_PLANS: WeakKeyDictionary[Policy, dict[tuple[str, bool], dict[_Key, _Plan]]] = WeakKeyDictionary()
"""Plans by policy, by SOP class and sign of the pixels: files of a run are much alike."""


def rewrite(source: Dataset, context: Context) -> Rewritten:
    """Rebuild a data set by the rules of a policy.

    Parameters
    ----------
    source : Dataset
        As read by pydicom, deferred reading off; its file meta says what its pixels are coded in.
    context : Context
        Policy, pseudonyms, person and cleaner.

    Returns
    -------
    Rewritten
        With file meta that has only the transfer syntax: the source's where pixels are encapsulated,
        else Explicit VR Little Endian.

    Raises
    ------
    Refused
        The data set can't be read to its end, or is nested too deeply.
    """
    try:
        return _Rewriter(source, context).rewritten()
    except (RecursionError, EOFError, NotImplementedError, OSError):
        raise Refused("data_set_malformed") from None


class _Rewriter:
    def __init__(self, source: Dataset, context: Context) -> None:
        self._source = source
        self._policy = context.policy
        self._values = Values(context)
        self._other = context.pseudonyms.other
        self._counts: Counter[Action] = Counter()
        self._sop_class = _plain(source, _SOP_CLASS).decode("latin-1")
        self._signed = _plain(source, _SIGNED) == b"\1"
        self._plans: dict[tuple[int, str | None, bool, str | None], _Plan] = {}
        known = _PLANS.setdefault(context.policy, {})
        if len(known) >= _MOST_KINDS:
            known.clear()
        self._made_before = known.setdefault((self._sop_class, self._signed), {})
        self._applied = {BASIC, *(option.code for option in context.policy.options - _BY_OTHERS)}

    def rewritten(self) -> Rewritten:
        """Walk from the root."""
        dataset = self._item(self._source, _Place(("iso8859",), 0, False))
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = _syntax(self._source)
        self._applied |= {plan.code for plan in self._plans.values() if plan.code}
        if any(plan.loosens for plan in self._plans.values()):
            self._applied.discard(BASIC)
        return Rewritten(dataset, self._counts, self._applied)

    def _item(self, source: Dataset, place: _Place) -> Dataset:
        if place.depth > DEEPEST:
            raise Refused("data_set_malformed")
        own = _plain(source, _CHARSET)
        if own:
            place = place._replace(encodings=encodings_of(own))
        kept: _Kept = {}
        private = []
        for tag, element in source.items():
            number = int(tag)
            if number & 0x10000:
                private.append(tag)
            elif number != _CHARSET and not _elsewhere(number):
                self._add(kept, source, element, None, place)
        if private:
            self._private(kept, source, sorted(private, key=int), place)
        if not place.depth:
            kept[Tag(_CHARSET)] = raw_element(Tag(_CHARSET), "CS", b"ISO_IR 192")
        made = Dataset(kept)
        made.set_original_encoding(False, True, "utf8")
        return made

    def _private(self, kept: _Kept, source: Dataset, tags: list[BaseTag], place: _Place) -> None:
        """Let through what the safe private list or a site's rule names, with its creator."""
        creators: dict[int, str] = {}
        for tag in tags:
            if 0x10 <= tag & 0xFFFF <= 0xFF:
                text = text_of(_plain(source, tag), "LO", place.encodings)
                creators[tag >> 16 << 8 | tag & 0xFF] = text.strip("\0 ")
                continue
            creator = creators.get(tag >> 8)
            if self._add(kept, source, source.get_item(tag), creator, place) and creator:
                head = Tag(tag >> 16, tag >> 8 & 0xFF)
                kept.setdefault(head, raw_element(head, "LO", creator.encode()))
        self._counts[Action.REMOVE] += sum(Tag(key >> 8, key & 0xFF) not in kept for key in creators)

    def _add(
        self,
        kept: _Kept,
        source: Dataset,
        element: DataElement | RawDataElement,
        creator: str | None,
        place: _Place,
    ) -> bool:
        read = isinstance(element, RawDataElement)
        vr = element.VR if read else stored(element).vr
        plan = self._plan((int(element.tag), vr, place.depth > 0, creator))
        made = self._made(plan, stored(element), source, place) if plan.handled else None
        if made is None:
            self._counts[Action.REMOVE] += 1
            return False
        self._counts[plan.decision.action] += 1
        kept[plan.tag] = made
        return True

    def _plan(self, key: _Key) -> _Plan:
        plan = self._plans.get(key)
        if plan is None:
            plan = self._made_before.get(key) or self._planned(*key)
            self._plans[key] = plan
            if key[3] is None or len(self._made_before) < _MOST_PLANS:  # no end of creators
                self._made_before[key] = plan
        return plan

    def _planned(self, tag: int, vr: str | None, nested: bool, creator: str | None) -> _Plan:
        proper = proper_vr(tag, vr, creator, self._signed)
        decision = self._policy.decide(tag, proper, creator, self._sop_class, nested)
        code = next((_PARTIAL[option] for option in _PARTIAL if f" {option} " in decision.rule), None)
        by_site = not decision.rule.startswith(_TABLES) and tables.listed(tag) is not None
        loosens = by_site and decision.action in _LOOSE
        handled = "value"
        if proper == "SQ":
            handled = "sequence"
        elif tag in coded.VALUES or tag in (coded.DESIGNATOR, coded.VERSION, coded.MEANING):
            handled = "code" if decision.action is Action.CLEAN else "value"
        elif decision.value == tables.STANDARD:
            handled = "profile"
        elif tag in palettes.DESCRIPTORS or tag in palettes.SEGMENTED:
            handled = "palette"
        handled = "" if decision.action is Action.REMOVE else handled
        wanted = tables.wants_value(tag, self._sop_class, nested)
        return _Plan(decision, proper, Tag(tag), handled, code, wanted, loosens)

    def _made(
        self, plan: _Plan, found: Stored, source: Dataset, place: _Place
    ) -> DataElement | RawDataElement | None:
        if plan.handled == "sequence":
            return self._sequence(plan, found, source, place)
        value = as_bytes(found, plan.vr)
        if value is None:
            return None
        encodings = found.encodings or place.encodings
        if place.dummies:
            made = self._stand_in(plan, value, encodings)
        elif plan.handled == "code":
            made = self._code(int(plan.tag), plan.vr, value, source, encodings)
        elif plan.handled == "profile":
            made = standard_profile()
        elif plan.handled == "palette":
            made = self._palette(int(plan.tag), value, source)
        else:
            made = self._values.make(plan.decision, value, plan.vr, int(plan.tag), encodings, plan.wanted)
        return None if made is None else raw_element(plan.tag, plan.vr, made)

    def _sequence(self, plan: _Plan, found: Stored, source: Dataset, place: _Place) -> DataElement | None:
        items = self._items(plan, found, source, place)
        if items is None:
            return None
        action = plan.decision.action
        dummies = place.dummies or action is Action.DUMMY
        if action is Action.ZERO:
            items = Sequence()
        elif not dummies and action not in _REBUILT:
            return None
        below = _Place(place.encodings, place.depth + 1, dummies)
        return DataElement(plan.tag, "SQ", Sequence([self._item(item, below) for item in items]))

    def _items(self, plan: _Plan, found: Stored, source: Dataset, place: _Place) -> Sequence | None:
        if found.vr in ("SQ", None) and not isinstance(found.value, Sequence):
            try:
                value = source[plan.tag].value
            except Exception:  # pydicom raises what it likes
                return None
            return value if isinstance(value, Sequence) else None
        return as_sequence(found, place.encodings)

    def _palette(self, tag: int, value: bytes, source: Dataset) -> bytes | None:
        if tag in palettes.SEGMENTED:
            return None if palettes.spells(value) else value
        descriptor = palettes.DESCRIPTORS[tag]
        if descriptor not in source:
            return None
        found = stored(source.get_item(descriptor))
        return palettes.cut(value, as_bytes(found, "SS" if found.vr == "SS" else "US") or b"")

    def _stand_in(self, plan: _Plan, value: bytes, encodings: tuple[str, ...]) -> bytes | None:
        """Return a dummy of the same kind; known terms and mapped UIDs keep the object valid."""
        if plan.vr == "UI":
            return self._values.make(
                replace(_DUMMY, action=Action.UID), value, "UI", int(plan.tag), encodings
            )
        if plan.vr == "CS":
            parts = text_of(value, "CS", encodings).strip("\0 ").split("\\")
            return "\\".join(part if is_term(part.strip()) else "OTHER" for part in parts).encode()
        if int(plan.tag) == coded.DESIGNATOR:
            return b"99ANON"
        return dummy(plan.vr, value) if value else b""

    def _code(self, tag: int, vr: str, value: bytes, source: Dataset, encodings: tuple[str, ...]) -> bytes:
        text = text_of(value, vr, encodings).strip("\0 ")
        if not text:
            return b""
        designator = text_of(_plain(source, coded.DESIGNATOR), "SH", encodings)
        if tag == coded.MEANING:
            code = text_of(_plain(source, 0x00080100), "SH", encodings)
            return (coded.meaning(code, designator, text) or self._values.text(text)[:64]).encode()
        if tag == coded.DESIGNATOR:
            return (
                text if coded.is_public_scheme(text) or self._values.text(text) == text else "99OTHER"
            ).encode()
        if tag == coded.VERSION:
            return (text if coded.is_version(text) else self._values.text(text)[:16]).encode()
        if coded.is_public_code(text, designator) or self._values.text(text) == text:
            return text.encode()
        return self._other(text).encode()


def _plain(source: Dataset, tag: int) -> bytes:
    """Return the bytes of an element without its padding; empty where it isn't there."""
    key = Tag(tag)
    if key not in source:
        return b""
    value = stored(source.get_item(key)).value
    return value.strip(b"\0 ") if isinstance(value, bytes) else b""


def _elsewhere(tag: int) -> bool:
    """Tell whether another part puts the element in: pixels, overlays, documents."""
    group = tag >> 16
    return group == 0x7FE0 or group & 0xFFE1 == 0x6000 or tag in ELSEWHERE


def _syntax(source: Dataset) -> UID:
    return _written(str(getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", None) or ""))


@lru_cache(maxsize=256)
def _written(syntax: str) -> UID:
    """Return the syntax that a data set of this one is written in."""
    uid = UID(syntax)
    known = uid.is_transfer_syntax and uid not in _DEFLATED
    return uid if known and uid.is_encapsulated else ExplicitVRLittleEndian


__all__ = ["DEEPEST", "ELSEWHERE", "rewrite"]

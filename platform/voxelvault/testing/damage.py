"""Hypothesis strategies for damage: bytes cut and changed, documents with something else in a place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.sampled_from(["", "0", "\ud800", "zz", "../x", "9" * 30, "é"])
)
JSON = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["a", "vr"]), PLAIN, max_size=2)
"""Anything that JSON, or Python's idea of it, can hold; small."""


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Return bytes that were cut, or some of them moved, doubled or replaced; at times unchanged."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at, end = sorted(draw(st.tuples(st.integers(0, len(made)), st.integers(0, len(made)))))
        kind = draw(st.sampled_from(["cut", "flip", "drop", "double", "replace", "reverse"]))
        if kind == "cut":
            del made[end:]
        elif kind == "flip" and at < len(made):
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "drop":
            del made[at:end]
        elif kind == "double":
            made[at:at] = made[at : min(end, at + 64)]
        elif kind == "replace":
            made[at : at + 4] = draw(st.binary(min_size=4, max_size=4) | st.just(b"\xff" * 4))
        elif kind == "reverse":
            made[at:end] = made[at:end][::-1]
    return bytes(made)


@st.composite
def changed_document(draw: st.DrawFn, document: Any) -> Any:
    """Return a JSON document in which something else stands in one place, or nothing does."""
    made = copy.deepcopy(document)
    places = list(_places(made))
    if not places or draw(st.integers(0, 15)) == 15:
        return draw(JSON)
    within, key = draw(st.sampled_from(places))
    if draw(st.integers(0, 3)) == 3:
        del within[key]
    else:
        within[key] = draw(JSON)
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


__all__ = ["JSON", "changed", "changed_document"]

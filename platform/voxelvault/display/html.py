"""Notebook reprs as HTML from plain values; everything is escaped, so markup in names is harmless."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

_FONT = "system-ui,sans-serif"
STYLE = f"border-collapse:collapse;font:13px/1.5 {_FONT};font-variant-numeric:tabular-nums;margin:4px 0"
CELL = "text-align:left;padding:2px 14px 2px 0;border:none;border-bottom:1px solid rgba(128,128,128,.25)"
HEAD = CELL + ";font-weight:600;white-space:nowrap"


def card(title: str, facts: Mapping[str, object], note: str = "", picture: bytes | None = None) -> str:
    """Return a small table of names and values, for one object.

    Parameters
    ----------
    title : str
        What it is.
    facts : mapping
        Names and values; None and empty text are left out.
    note : str
        A sentence under it.
    picture : bytes, optional
        A PNG beside it.

    Returns
    -------
    str
        HTML, safe whatever the values hold.
    """
    rows = "".join(
        f'<tr><th style="{HEAD}">{text_of(name)}</th><td style="{CELL}">{text_of(value)}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "")
    )
    body = f'<table style="{STYLE}"><tbody>{rows}</tbody></table>'
    return frame(title, body + _picture(picture), note)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", note: str = "", most: int = 50
) -> str:
    """Return a table; rows beyond `most` are counted, not shown.

    Parameters
    ----------
    columns : sequence of str
        Heads.
    rows : sequence of sequences
        Values, one per column.
    title, note : str
        Above and below it.
    most : int
        Rows to show.

    Returns
    -------
    str
        HTML, safe whatever the values hold.
    """
    head = "".join(f'<th style="{HEAD}">{text_of(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{text_of(value)}</td>' for value in row) + "</tr>"
        for row in rows[:most]
    )
    left = f"… and {len(rows) - most:,} more rows. " if len(rows) > most else ""
    whole = f'<table style="{STYLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return frame(title, whole, left + note)


def vault_html(summary: Mapping[str, object]) -> str:
    """Return a vault's repr.

    Parameters
    ----------
    summary : mapping
        Names and values; a mapping or a sequence of mappings among them becomes a table of its own.
    """
    plain = {name: value for name, value in summary.items() if not _nested(value)}
    tables = "".join(_inner(name, value) for name, value in summary.items() if _nested(value))
    return card("Vault", plain) + tables


def _nested(value: object) -> bool:
    rows = isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)
    return rows or isinstance(value, Mapping)


def _inner(name: str, value: object) -> str:
    """Return a mapping as two columns, a sequence of mappings as one column for each key."""
    if isinstance(value, Mapping):
        return table([name, ""], list(value.items()))
    rows = list(value) if isinstance(value, list | tuple) else []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return table([str(key) for key in columns], [[row.get(key) for key in columns] for row in rows], name)


def frame(title: str, body: str, note: str) -> str:
    """Return HTML between a title and a note, both escaped."""
    head = f'<div style="font:600 14px {_FONT}">{text_of(title)}</div>' if title else ""
    foot = f'<div style="font:12px {_FONT};opacity:.7">{text_of(note)}</div>' if note else ""
    return f"<div>{head}{body}{foot}</div>"


def _picture(picture: bytes | None) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture).decode()
    return f'<img alt="" style="max-width:100%" src="data:image/png;base64,{data}">'


def text_of(value: object) -> str:
    """Return the value escaped; numbers with separators, sequences joined."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        sizes = all(isinstance(part, int | float) for part in value)
        return (" \u00d7 " if sizes else ", ").join(text_of(part) for part in value)
    return "" if value is None else escape(str(value), quote=True)

"""Names of options: those that are none are refused in one line, with what was probably meant."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from voxelvault.errors import UsageError


def refuse_unknown(
    given: Iterable[str], known: Collection[str], more: Collection[str] = (), whose: str = ""
) -> None:
    """Refuse options that nobody takes.

    Parameters
    ----------
    given : iterable of str
        Names of keywords.
    known : collection of str
        Those that are ours, listed in the message.
    more : collection of str
        Those that are passed on; too many to list.
    whose : str
        Who takes those.

    Raises
    ------
    UsageError
        A name is none of them.

    Examples
    --------
    >>> refuse_unknown(["patch_sise"], ["kind", "patch_size"])
    Traceback (most recent call last):
    voxelvault.errors.UsageError: no option patch_sise=; did you mean patch_size=? Options: kind, patch_size
    """
    every = [*known, *more]
    unknown = [name for name in given if name not in every]
    if not unknown:
        return
    close = [found for name in unknown for found in get_close_matches(name, every, 1)]
    meant = f"; did you mean {', '.join(f'{name}=' for name in dict.fromkeys(close))}?" if close else "."
    others = f", and those of {whose}" if whose else ""
    names = ", ".join(f"{name}=" for name in unknown)
    raise UsageError(f"no option {names}{meant} Options: {', '.join(known)}{others}")


__all__ = ["refuse_unknown"]

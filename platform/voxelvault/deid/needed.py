"""Packages of the extra `deid`, imported where they are first used."""

from __future__ import annotations

from typing import Any

from voxelvault.errors import MissingExtra


def ndimage() -> Any:
    """Return `scipy.ndimage`.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        from scipy import ndimage as found
    except ImportError:
        raise MissingExtra("faces are looked for with SciPy: pip install 'voxelvault[deid]'") from None
    return found


def pdfium() -> Any:
    """Return `pypdfium2`.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        import pypdfium2 as found
    except ImportError:
        raise MissingExtra("pages are drawn with pypdfium2: pip install 'voxelvault[deid]'") from None
    return found


__all__ = ["ndimage", "pdfium"]

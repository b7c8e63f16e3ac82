"""Importing a large package whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def whole(package: str) -> Iterator[None]:
    """Take a package's modules out again where importing it is interrupted.

    Python takes out the one module that failed. A package whose modules import each other in a
    circle, as zarr's do, is left in pieces by a Ctrl-C, and can't be imported until the kernel is
    started anew.

    Parameters
    ----------
    package : str
        Its name.
    """
    before = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in sys.modules.keys() - before:
            if name.partition(".")[0] == package:
                del sys.modules[name]
        raise


__all__ = ["whole"]

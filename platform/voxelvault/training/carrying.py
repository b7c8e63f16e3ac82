"""Callables that reach another process whole: a lambda of a notebook cell, a class of a script.

Pickle sends a function of `__main__` by name, and a worker has another `__main__`, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloudpickle

from voxelvault.errors import UsageError


class Carried:
    """A callable that is pickled by value where it lives in a notebook or script.

    Parameters
    ----------
    call : callable
        What is carried.

    Raises
    ------
    UsageError
        When it is pickled: it holds something that can't reach another process.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call what is carried."""
        return self.call(*given, **named)

    def __reduce__(self) -> tuple[Callable[[bytes], Carried], tuple[bytes]]:
        try:
            packed = cloudpickle.dumps(self.call)
        except Exception as error:
            # Not the pickler's own words: it may print what it couldn't take, and that may name somebody.
            raise UsageError(
                "the transform holds something that worker processes can't be given"
                f" ({type(error).__name__}): open files, locks and vaults inside the function, or use"
                " num_workers=0"
            ) from None
        return _unpack, (packed,)


def _unpack(packed: bytes) -> Carried:
    return Carried(cloudpickle.loads(packed))


__all__ = ["Carried"]

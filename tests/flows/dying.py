"""For children of the stories: a process that kills itself before the n-th of some calls."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def dies_before(call: int, *methods: tuple[type, str]) -> Callable[[], int]:
    """Have this process killed before a call, from 0, of these methods, counted together.

    Returns
    -------
    callable
        Tells how many calls are left: for a child that comes to its end.
    """
    left = call

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments, **named)

        return counting

    for owner, name in methods:
        setattr(owner, name, counted(getattr(owner, name)))
    return lambda: left

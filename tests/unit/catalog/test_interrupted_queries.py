"""Ctrl-C in a query is a KeyboardInterrupt, as anywhere else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.engine import interrupted

LONG = "select count(*) from range(30000000000) t(i) where hash(i) = 1"
"""A minute or so: not for ever, should no signal come."""


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT mean what it does in a session: pytest's worker processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("which", ["ours", "the user's"])
def test_ctrl_c_ends_a_query(filled: DuckLakeCatalog, which: str) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    with filled.user_session() as session:
        run: Callable[[str], object] = filled.query if which == "ours" else session.sql
        run("select 1 as one")
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run(LONG)
        timer.join()
    assert filled.query("select 1 as one").to_pydict() == {"one": [1]}


def test_other_errors_are_none() -> None:
    assert interrupted(RuntimeError("Query interrupted"))
    assert not interrupted(RuntimeError("something else"))
    assert not interrupted(ValueError("Query interrupted"))

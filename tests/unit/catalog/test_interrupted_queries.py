"""Ctrl-C in a query is a KeyboardInterrupt, as anywhere else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.engine import interrupted

ENDLESS = "select count(*) from range(1000000000000) t(i) where hash(i) = 1"


@pytest.mark.parametrize("which", ["ours", "the user's"])
def test_ctrl_c_ends_a_query(filled: DuckLakeCatalog, which: str) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("Ctrl-C reaches the main thread")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    with filled.user_session() as session:
        run: Callable[[str], object] = filled.query if which == "ours" else session.sql
        run("select 1 as one")
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run(ENDLESS)
        timer.join()
    assert filled.query("select 1 as one").to_pydict() == {"one": [1]}


def test_other_errors_are_none() -> None:
    assert interrupted(RuntimeError("Query interrupted"))
    assert not interrupted(RuntimeError("something else"))
    assert not interrupted(ValueError("Query interrupted"))

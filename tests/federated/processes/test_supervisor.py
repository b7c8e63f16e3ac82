from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.processes.lifetime import LONG
from voxelvault_fl.processes.supervisor import Program, Supervisor, wait_before

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def _until(fact: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < until
        time.sleep(0.02)


def _pid(state: Path, name: str) -> int | None:
    said: int | None = json.loads((state / "processes.json").read_text())[name]["pid"]
    return said


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_waits_double_between_their_bounds() -> None:
    assert [wait_before(n, 60, 600) for n in (1, 2, 3, 4, 5, 6)] == [60, 120, 240, 480, 600, 600]
    assert wait_before(0, 1, 60) == 1


def test_what_dies_comes_back_and_all_end_together(tmp_path: Path) -> None:
    kept = Supervisor([Program("one", SLEEP, least=0.05), Program("two", SLEEP)], tmp_path, dict(os.environ))
    kept.start()
    first, other = _pid(tmp_path, "one"), _pid(tmp_path, "two")
    assert first is not None
    assert other is not None
    os.kill(first, signal.SIGKILL)

    def back() -> bool:
        kept.look_after()
        return _pid(tmp_path, "one") not in (None, first)

    _until(back)
    assert _pid(tmp_path, "two") == other
    kept.stop()
    assert not _alive(other)
    assert json.loads((tmp_path / "processes.json").read_text()) == {}


def test_one_that_does_not_start_ends_the_others(tmp_path: Path) -> None:
    fails = Program(
        "two", [sys.executable, "-c", "print('a secret'); raise SystemExit(3)"], ready=lambda: False
    )
    kept = Supervisor([Program("one", SLEEP), fails], tmp_path, dict(os.environ))
    with pytest.raises(ProcessFailed, match=r"log/two\.log") as caught:
        kept.start()
    assert "secret" not in str(caught.value)
    assert (tmp_path / "log" / "two.log").read_text() == "a secret\n"
    assert json.loads((tmp_path / "processes.json").read_text()) == {}


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from voxelvault_fl.processes.supervisor import Program, Supervisor\n"
        "child = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "Supervisor([Program('one', child)], Path(sys.argv[1]), dict(os.environ)).start()\n"
        "time.sleep(60)\n"
    )
    outer = Supervisor(
        [Program("outer", [sys.executable, "-c", program, str(tmp_path / "inner")])],
        tmp_path,
        dict(os.environ),
    )
    outer.start()
    _until((tmp_path / "inner" / "processes.json").exists)
    pid, child = _pid(tmp_path, "outer"), _pid(tmp_path / "inner", "one")
    assert pid is not None
    assert child is not None
    os.kill(pid, signal.SIGKILL)
    _until(lambda: not _alive(child))
    outer.stop()


def test_the_log_of_a_process_that_runs_on_stays_short(tmp_path: Path) -> None:
    code = "import time\nwhile True: print('x' * 1_000_000, flush=True); time.sleep(0.01)"
    kept = Supervisor([Program("loud", [sys.executable, "-c", code])], tmp_path, dict(os.environ))
    kept.start()
    log = tmp_path / "log" / "loud.log"
    try:
        _until(lambda: log.stat().st_size > LONG)
        kept.look_after()
        assert log.with_name("loud.log.1").stat().st_size > LONG
        assert log.stat().st_size < LONG
        # It goes on where the file ends now.
        _until(lambda: log.stat().st_size > 0)
        assert b"\0" not in log.read_bytes()
    finally:
        kept.stop()

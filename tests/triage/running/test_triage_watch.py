"""New studies are scheduled once they are there; the commands do so from the outside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mean_hu import MeanHU
from runner_support import ct, rows, runner, take

import voxelvault as vv
from voxelvault.errors import UsageError
from voxelvault.tasks import now
from voxelvault_triage.ready import Patience
from voxelvault_triage.running.queue_lock import queue_of
from voxelvault_triage.running.session import HERE, Hands, work_through
from voxelvault_triage.studies import selected
from voxelvault_triage.watching import Watcher

LATER = timedelta(seconds=61)


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead


def watcher(vault: vv.Vault, clock: Clock, **more: Any) -> Watcher:
    return Watcher(vault, "mean-hu", "1.0", "", every=0, clock=clock, **more)


def test_a_study_is_scheduled_once_it_is_quiet(vault: vv.Vault, tmp_path: Path) -> None:
    clock = Clock()
    watch = watcher(vault, clock)
    assert watch.look() == []
    take(vault, tmp_path / "one", *ct(1))
    assert watch.look() == []
    clock.ahead = LATER
    take(vault, tmp_path / "two", *ct(1, slices=range(5, 8)))
    assert watch.look() == []  # it grew: quiet from now
    clock.ahead = 2 * LATER
    assert len(watch.look()) == 1
    assert watch.look() == []
    assert watch.idle


def test_a_missing_slice_is_waited_for_a_while(vault: vv.Vault, tmp_path: Path) -> None:
    clock = Clock()
    watch = watcher(vault, clock, patience=Patience(with_gap=5 * LATER))
    take(vault, tmp_path / "one", *ct(1, slices=[0, 1, 2, 4, 5]), *ct(2))
    assert watch.look() == []
    clock.ahead = LATER
    (task,) = watch.look()
    assert not watch.idle
    clock.ahead = 6 * LATER
    assert len(watch.look()) == 1
    assert rows(vault, f"select state from tasks where task_id = '{task}'")[0]["state"] == "SCHEDULED"


def test_it_goes_on_after_a_restart_and_results_trigger_nothing(vault: vv.Vault, tmp_path: Path) -> None:
    clock = Clock()
    clock.ahead = LATER
    take(vault, tmp_path / "one", *ct(1))
    first = watcher(vault, clock)
    assert len(first.look()) == 1
    work_through(vault, runner(vault, MeanHU()), Hands(HERE))
    clock.ahead = 2 * LATER
    assert (first.look(), watcher(vault, clock).look()) == ([], [])
    take(vault, tmp_path / "two", *ct(1, slices=range(5, 8)))
    clock.ahead = 3 * LATER
    assert len(watcher(vault, clock).look()) == 1
    found = rows(vault, "select state, superseded from reading_items order by listed")
    assert [(row["state"], row["superseded"]) for row in found] == [("waiting", True), ("waiting", False)]


def test_a_condition_keeps_the_rest_out_until_it_holds(vault: vv.Vault, tmp_path: Path) -> None:
    clock = Clock()
    clock.ahead = LATER
    watch = watcher(vault, clock, among=lambda: selected(vault, "frame_count > 6"))
    take(vault, tmp_path / "one", *ct(1, slices=range(5)), *ct(2, slices=range(8)))
    assert len(watch.look()) == 1
    assert watch.idle
    size = vault.resources.log.size
    assert watch.look() == []
    assert vault.resources.log.size == size
    take(vault, tmp_path / "two", *ct(1, slices=range(5, 8)))
    clock.ahead = 2 * LATER
    assert len(watch.look()) == 1


def test_an_idle_watcher_asks_nobody(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "one", *ct(1))
    watch = watcher(vault, Clock())
    watch.look()
    size = vault.resources.log.size
    for _ in range(3):
        watch.look()
    assert vault.resources.log.size == size


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package had added the pipeline."""
    monkeypatch.setattr("voxelvault_triage.pipeline.pipeline_named", lambda _name: MeanHU())


@pytest.mark.usefixtures("installed")
def test_the_commands(vault: vv.Vault, tmp_path: Path, run: Callable[..., Any]) -> None:
    take(vault, tmp_path / "in", *ct(1), *ct(2, -50))
    uids = [row["StudyInstanceUID"] for row in rows(vault, "select StudyInstanceUID from studies")]
    words = ("--vault", vault.path, "triage")
    same = ("--pipeline", "mean-hu", "--scheduler", "none", "--json")
    assert run(*words, "run", *same).code == 2
    for size in ("lots", "0", "-1GiB", "4", "0GiB"):
        refused = run(*words, "run", "--new", "--memory", size, *same)
        assert (refused.code, "4GiB" in refused.err) == (2, True)
    found = run(*words, "run", "--study", uids[0], *same)
    assert (found.code, found.json["scheduled"], found.json["analysed"]) == (0, 1, 1)
    assert run(*words, "run", "--study", uids[0], *same).json["scheduled"] == 0
    assert run(*words, "run", "--cohort", "Modality = 'CT'", *same).json["analysed"] == 1
    assert run(*words, "run", "--new", *same).json["scheduled"] == 0
    with queue_of(vault, "mean-hu"):
        second = run(*words, "watch", "--once", *same)
    assert second.code == 1
    assert second.err.startswith("voxelvault: another process works on this pipeline")
    take(vault, tmp_path / "more", *ct(3))
    nobody = run(*words, "watch", "--cohort", "Modality = 'CR'", "--quiet", "0", "--once", *same)
    assert (nobody.code, nobody.json["analysed"]) == (0, 0)
    faulty = run(*words, "watch", "--cohort", "Modalty = 'CT'", "--once", *same)
    assert (faulty.code, "Modalty" in faulty.err, faulty.err.count("\n")) == (1, True, 1)
    seen = run(*words, "watch", "--quiet", "0", "--every", "0.1", "--once", *same)
    assert seen.json["priorities"] == {"HIGH": 1}
    listed = run(*words, "worklist", "--json").json
    assert [one["priority"] for one in listed] == ["HIGH", "HIGH", "LOW"]


def test_another_model_counts_from_when_it_came(vault: vv.Vault, tmp_path: Path) -> None:
    clock, told = Clock(), list[str]()
    answers = [UsageError("it takes another input"), "b" * 64]
    clock.ahead = LATER
    take(vault, tmp_path / "one", *ct(1))

    def newest() -> str:
        answer = answers.pop(0)
        if isinstance(answer, UsageError):
            raise answer
        return answer

    watch = watcher(vault, clock, newest=newest, tell=told.append)
    assert len(watch.look()) == 1
    vault.documents("models").put("one", b"1")
    assert watch.look() == []
    assert told == ["it takes another input; the model of before stays in use"]
    vault.documents("models").put("two", b"2")
    assert len(watch.look()) == 1
    assert told[1:] == ["another model is in use from now on: bbbbbbbbbbbb"]
    assert watch.look() == []
    found = rows(vault, "select coalesce(model, '') as model from tasks order by scheduled")
    assert [row["model"] for row in found] == ["", "b" * 64]

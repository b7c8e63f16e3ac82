"""Both lists in a vault, and `triage worklist` on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import voxelvault as vv
from voxelvault.errors import UnknownUID, UsageError
from voxelvault.tasks import now
from voxelvault.testing import synthetic
from voxelvault_triage import notice
from voxelvault_triage.cli import worklist as command
from voxelvault_triage.model import Analysis, Finding, Gated, Reason, Study
from voxelvault_triage.models import registry
from voxelvault_triage.worklist import reading, store
from voxelvault_triage.worklist.listing import Item, find, listing, notices
from voxelvault_triage.worklist.order import Rules
from voxelvault_triage.worklist.states import Priority
from voxelvault_triage.worklist.store import Task, Wanted

MODEL, NAME = "ab" * 32, "mean-hu"


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of two studies of one patient."""
    place = tmp_path_factory.mktemp("pattern")
    inbox = place / "inbox"
    inbox.mkdir()
    for seed in (1, 2):
        for number, data in enumerate(synthetic.ct_series(2, 16, 16, seed=seed)):
            (inbox / f"{seed}-{number}.dcm").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        with vv.create(place / "vault", codec="fast") as made:
            made.ingest(inbox, progress=False)
    return place


@pytest.fixture
def vault(pattern: Path, tmp_path: Path, configuration: Path) -> Iterator[vv.Vault]:
    shutil.copytree(pattern / "configuration", configuration)
    shutil.copytree(pattern / "vault", tmp_path / "vault")
    with vv.open(tmp_path / "vault") as opened:
        yield opened


def studies(vault: vv.Vault) -> list[Study]:
    rows = vault.resources.catalog.query("select * from studies order by StudyInstanceUID").to_pylist()
    return [Study(row["study_id"], row["subject_id"], row["StudyInstanceUID"], "00" * 32) for row in rows]


def test_each_item_says_whether_a_demonstration_judged_it(vault: vv.Vault) -> None:
    one, other = studies(vault)
    shipped = registry.find(vault, "head-ct-hemorrhage").digest
    assert notices(listing(vault, now())) == notice.GENERAL
    started(vault, one, model=shipped)
    assert [item.demonstration for item in listing(vault, now())] == [True]
    started(vault, other)
    items = listing(vault, now())
    told = {item.model: item.document(now(), Rules())["notice"] for item in items}
    assert told == {shipped: notice.DEMONSTRATION, MODEL: notice.SITE}
    assert set(notices(items).split(" Made ")) <= {notice.DEMONSTRATION, notice.SITE.removeprefix("Made ")}


def scheduled(vault: vv.Vault, study: Study, **more: Any) -> list[str]:
    return store.schedule(vault, [Wanted(study, now())], NAME, "1", more.pop("model", MODEL), **more)


def started(vault: vv.Vault, study: Study, **more: Any) -> Task:
    (task,) = store.start(vault, scheduled(vault, study, **more))
    return task


def analysis(study: Study, score: float | None) -> Analysis:
    if score is None:
        return Analysis(study, NAME, "1", MODEL, Gated(None, reasons=(Reason("thickness", "Too thick."),)))
    mask = np.zeros((2, 16, 16), bool)
    return Analysis(study, NAME, "1", MODEL, Gated("1.2.3"), Finding(score, 0.5, {}, mask, 1.5))


def shown(vault: vv.Vault, **more: Any) -> list[Item]:
    return listing(vault, now(), **more)


def completed(vault: vv.Vault, task: Task, found: Analysis) -> dict[str, Priority]:
    return store.complete(vault, [store.Ended(task, found)])


def later(study: Study, content: str = "11" * 32) -> Study:
    return Study(study.study_id, study.subject_id, study.StudyInstanceUID, content)


def test_a_study_is_listed_at_once_and_ranked_by_its_result(vault: vv.Vault) -> None:
    one, other = studies(vault)
    scheduled(vault, one)
    (item,) = shown(vault)
    assert (item.state, item.task_state, item.priority, item.verdict) == (
        "waiting",
        "SCHEDULED",
        Priority.MEDIUM,
        None,
    )
    assert [prior.StudyInstanceUID for prior in item.priors] == [other.StudyInstanceUID]
    task = started(vault, other)
    assert completed(vault, task, analysis(other, 0.9)) == {task.task_id: Priority.HIGH}
    first, second = shown(vault)
    assert (first.study_id, first.score, first.volume_ml, second.study_id) == (
        other.study_id,
        0.9,
        1.5,
        one.study_id,
    )
    assert second.priors[0].verdict == "positive"


def test_not_analysed_is_a_result_with_its_reason(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    completed(vault, started(vault, one), analysis(one, None))
    (item,) = shown(vault)
    assert (item.task_state, item.verdict, item.reason) == ("COMPLETED", "not-analysed", "Too thick.")
    assert item.priority is Priority.MEDIUM


def test_once_for_a_content_a_pipeline_and_a_model(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    assert len(scheduled(vault, one)) == 1
    assert scheduled(vault, one) == []
    assert len(scheduled(vault, one, model="cd" * 32)) == 1


def test_later_images_bring_a_read_study_back(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    completed(vault, started(vault, one), analysis(one, 0.1))
    (item,) = shown(vault)
    reading.claim(vault, [item.item_id])
    reading.finish(vault, [item.item_id])
    assert shown(vault) == []
    assert scheduled(vault, one, model="cd" * 32)
    assert shown(vault) == []  # another model alone is no reason to read it again
    scheduled(vault, later(one), model="cd" * 32)
    (back,) = shown(vault)
    assert (back.state, back.task_state, back.item_id == item.item_id) == ("waiting", "SCHEDULED", False)
    rows = vault.resources.catalog.query("select state, superseded from tasks order by entry").to_pylist()
    assert sorted((row["state"], row["superseded"]) for row in rows) == [
        ("CANCELED", True),
        ("COMPLETED", True),
        ("SCHEDULED", False),
    ]


def test_a_result_that_comes_too_late_ranks_nothing(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    task = started(vault, one)
    scheduled(vault, later(one))
    completed(vault, task, analysis(one, 0.9))
    (item,) = shown(vault)
    assert (item.priority, item.verdict) == (Priority.MEDIUM, None)


def test_attempts_end_and_a_reader_decides(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    why = Reason("time-out", "It took longer than it may.")
    second = store.give_up(vault, started(vault, one), why, again=True)
    assert second is not None
    (item,) = shown(vault)
    assert (item.task_state, item.reason) == ("SCHEDULED", "")
    (task,) = store.start(vault, [second])
    assert (task.attempt, store.give_up(vault, task, why, again=False)) == (2, None)
    (item,) = shown(vault)
    assert (item.task_state, item.verdict, item.reason) == ("CANCELED", None, why.sentence)
    with pytest.raises(UsageError, match="say why"):
        reading.override(vault, [item.item_id], Priority.HIGH, " ")
    reading.override(vault, [item.item_id], Priority.LOW, "seen before")
    assert scheduled(vault, one) == []
    again = started(vault, one, again=True)
    completed(vault, again, analysis(one, 0.9))
    (item,) = shown(vault)
    assert (item.priority, item.overridden, item.verdict) == (Priority.LOW, True, "positive")


def test_what_a_dead_runner_had_in_hand_is_scheduled_again(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    task = started(vault, one)
    assert (store.take_over(vault, NAME), store.take_over(vault, NAME)) == (1, 0)
    assert completed(vault, task, analysis(one, 0.9)) == {}
    with pytest.raises(UsageError, match="can't become"):
        store.give_up(vault, task, Reason("failed", "It failed."), again=True)
    (item,) = shown(vault)
    assert item.state == "waiting"


def test_find_wants_one(vault: vv.Vault) -> None:
    one, _ = studies(vault)
    scheduled(vault, one)
    items = shown(vault)
    assert find(items, one.StudyInstanceUID) == find(items, items[0].item_id[:8]) == items
    with pytest.raises(UnknownUID):
        find(items, "1.2.3")


def test_the_command_shows_claims_and_completes(vault: vv.Vault, run: Callable[..., Any]) -> None:
    one, _ = studies(vault)
    completed(vault, started(vault, one), analysis(one, 0.9))
    words = ("--vault", vault.path, "triage", "worklist")
    found = run(*words, "--json")
    assert found.code == 0
    (document,) = found.json
    asked = "StudyInstanceUID state priority score threshold volume_ml reason model".split()
    assert [document[name] for name in asked] == [
        one.StudyInstanceUID,
        "waiting",
        "HIGH",
        0.9,
        0.5,
        1.5,
        "",
        MODEL,
    ]
    text = run(*words, "--priors", "--claim", one.StudyInstanceUID).out
    assert "0.90 / 0.50" in text
    assert "claimed by" in text
    assert "not a medical device" in text
    assert run(*words, "--complete", one.StudyInstanceUID, "--all", "--json").json[0]["state"] == "completed"
    assert run(*words, "--override", one.StudyInstanceUID, "--to", "LOW", "--reason", "x").code == 2
    for wrong in (("--to", "HIGH"), ("--reason", "x"), ("--pipeline", "mean-hou")):
        assert run(*words, *wrong).code == 2
    assert run(*words, "--pipeline", NAME).code == 0
    assert run(*words, "--pipeline", "ct-geometry-check").code == 0
    # An empty variable of a script claims nothing, and isn't told that it did.
    assert run(*words, "--claim", "").code == 2
    assert run(*words).out.startswith("the list is empty")


def test_the_reason_of_an_override_is_not_the_model_s(vault: vv.Vault, run: Callable[..., Any]) -> None:
    one, _ = studies(vault)
    completed(vault, started(vault, one), analysis(one, 0.1))
    words = ("--vault", vault.path, "triage", "worklist")
    told = run(*words, "--override", one.StudyInstanceUID, "--to", "HIGH", "--reason", "phone call").out
    assert "negative; set: phone call" in told


def test_one_change_at_a_time_and_none_by_half(vault: vv.Vault, run: Callable[..., Any]) -> None:
    one, other = studies(vault)
    scheduled(vault, one)
    scheduled(vault, other)
    words = ("--vault", vault.path, "triage", "worklist")
    found = run(*words, "--claim", one.StudyInstanceUID, "--complete", other.StudyInstanceUID)
    assert (found.code, "one change at a time" in found.err) == (2, True)
    assert [item.state for item in shown(vault)] == ["waiting", "waiting"]


@pytest.fixture
def twice(vault: vv.Vault) -> Study:
    """A study that two pipelines listed."""
    one, _ = studies(vault)
    scheduled(vault, one)
    store.schedule(vault, [Wanted(one, now())], "other", "1", MODEL)
    return one


def test_a_study_that_two_pipelines_listed_is_read_once(
    vault: vv.Vault, twice: Study, run: Callable[..., Any]
) -> None:
    words, uid = ("--vault", vault.path, "triage", "worklist"), twice.StudyInstanceUID
    assert run(*words, "--override", uid, "--to", "HIGH", "--reason", "phone call").code == 0
    assert {(item.priority, item.overridden) for item in shown(vault)} == {(Priority.HIGH, True)}
    assert run(*words, "--claim", uid).out.count("claimed by") == 2
    assert run(*words, "--claim", uid).code == 2
    assert run(*words, "--release", uid).out.count("waiting") == 2
    run(*words, "--claim", uid)
    assert run(*words, "--complete", uid).out.startswith("the list is empty")


def test_one_item_of_a_study_goes_by_its_id(vault: vv.Vault, twice: Study, run: Callable[..., Any]) -> None:
    words, (one, other) = ("--vault", vault.path, "triage", "worklist"), shown(vault)
    told = run(*words).out
    assert all(item.item_id[:12] in told and item.pipeline in told for item in (one, other))
    run(*words, "--claim", one.item_id[:12])
    assert {item.item_id: item.state for item in shown(vault)} == {
        one.item_id: "claimed",
        other.item_id: "waiting",
    }
    # The study as a whole takes what is left of it, and is complete when all of it is.
    assert run(*words, "--complete", twice.StudyInstanceUID).code == 2
    assert run(*words, "--claim", twice.StudyInstanceUID).code == 0
    assert run(*words, "--complete", twice.StudyInstanceUID).out.startswith("the list is empty")


def test_another_reader_s_item_keeps_the_whole_study(
    vault: vv.Vault, twice: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = shown(vault)
    reading.claim(vault, [one.item_id])
    with monkeypatch.context() as patch:
        patch.setattr(vault, "resources", replace(vault.resources, who="somebody else"))
        with pytest.raises(UsageError, match="another reader"):
            reading.claim(vault, [one.item_id, other.item_id])
    assert {item.item_id: item.state for item in shown(vault)}[other.item_id] == "waiting"


def test_a_check_of_quality_is_told_and_ranks_nothing(vault: vv.Vault, run: Callable[..., Any]) -> None:
    one, other = studies(vault)
    completed(vault, started(vault, one), analysis(one, 0.1))
    assert scheduled(vault, other, model="") != []
    check = "ct-geometry-check"
    (task_id,) = store.schedule(vault, [Wanted(one, now())], check, "1", "", listed=False)
    (task,) = store.start(vault, [task_id])
    completed(vault, task, analysis(one, 0.9))
    by_study = {item.study_id: item for item in shown(vault)}
    assert len(by_study) == 2
    assert (by_study[one.study_id].priority, by_study[one.study_id].checks) == (Priority.LOW, (check,))
    # What a check says of images is no finding in a patient.
    assert [prior.verdict for prior in by_study[other.study_id].priors] == ["negative"]
    told = run("--vault", vault.path, "triage", "worklist").out
    assert f"negative; flagged by {check}" in told


def test_a_watched_list_is_read_when_it_changed_and_ends_quietly(
    vault: vv.Vault, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = studies(vault)
    scheduled(vault, one)
    changes = iter([lambda: None, lambda: scheduled(vault, other), lambda: None])
    reads: list[object] = []

    def sleep(_seconds: float) -> None:
        try:
            next(changes)()
        except StopIteration:
            raise KeyboardInterrupt from None

    read = command._listed
    monkeypatch.setattr(command, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(command, "_listed", lambda *given: reads.append(given) or read(*given))
    found = run("--vault", vault.path, "triage", "worklist", "--watch")
    assert (found.code, "Traceback" in found.err, len(reads)) == (0, False, 2)
    assert found.out.count(one.StudyInstanceUID) == 4
    assert found.out.count(other.StudyInstanceUID) == 2

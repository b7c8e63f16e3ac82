"""A job's cohort at a site: chosen by the filter, labelled, dealt into parts, counted and decided on."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_consortium import make_job

from voxelvault_fl.cohorts.members import cohort_digest, members
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.job import Labels, Privacy
from voxelvault_fl.jobs.policy import Approved, Refused, SitePolicy, Waiting
from voxelvault_fl.jobs.task import Turn
from voxelvault_fl.training.deciding import Decider
from voxelvault_fl.training.examples import SiteData, balance, examples
from voxelvault_fl.training.logistic import Logistic, features, settings

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CT = {"column": "Modality", "op": "=", "value": "CT"}


def maker(name: str) -> dict[str, Any]:
    return {"all": [CT, {"column": "Manufacturer", "op": "=", "value": name}]}


@dataclass
class Hands:
    approved: bool = False
    stopped: bool = False
    other_job: bool = False


def decider(data: SiteData, folder: Path, **more: Any) -> Decider:
    policy = SitePolicy("heads", (app_digest(),), ("IRB-1",), ("consent",), "by-policy")
    return Decider(lambda: replace(policy, **more), data, folder / "counted.json", lambda: NOW)


def test_a_filter_chooses_series_in_an_order_of_its_own(three_scanners: SiteData) -> None:
    vault = three_scanners.vault
    assert len(members(vault, CT)) == 33
    assert len(members(vault, maker("Birch"))) == 10
    assert len(members(vault, {"column": "AgeYears", "op": ">", "value": 59})) == 33
    assert not members(vault, {"column": "StudyYear", "op": "<", "value": 2000})
    assert not members(vault, {"column": "Manufacturer", "op": "=", "value": "x' OR '1'='1"})
    found = members(vault, CT)
    assert list(found) == sorted(found, key=lambda one: one.order)
    some = frozenset(one.series_id for one in found[:3])
    assert members(vault, CT, some) == found[:3]


def test_a_digest_of_a_cohort_is_of_one_job(three_scanners: SiteData) -> None:
    vault, found = three_scanners.vault, members(three_scanners.vault, CT)
    assert cohort_digest(vault, found, "a") == cohort_digest(vault, found[::-1], "a")
    assert len({cohort_digest(vault, found, "a"), cohort_digest(vault, found, "b")}) == 2
    assert cohort_digest(vault, found[1:], "a") != cohort_digest(vault, found, "a")


def test_parts_share_no_person_and_have_both_classes(three_scanners: SiteData) -> None:
    found = examples(three_scanners, make_job())
    assert balance(found) == (17, 16)
    parts = {
        name: {e.member.subject_id for e in found if e.part == name} for name in ("train", "validate", "test")
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 33
    assert all(min(balance([e for e in found if e.part == name])) >= 2 for name in parts)


def test_under_differential_privacy_a_person_more_or_less_moves_nobody_else(three_scanners: SiteData) -> None:
    """An accountant counts one person's gradient: others must not change parts because of somebody."""
    job = make_job(privacy=Privacy("dp-sgd"), evaluate_every=0)
    whole = {one.member.series_id: one.part for one in examples(three_scanners, job)}
    assert set(whole.values()) == {"train", "validate", "test"}
    for gone in list(whole)[:5]:
        rest = replace(three_scanners, only=frozenset(whole) - {gone})
        less = {one.member.series_id: one.part for one in examples(rest, job)}
        assert less == {name: part for name, part in whole.items() if name != gone}


def test_labels_that_a_site_has_not_are_named(three_scanners: SiteData) -> None:
    with pytest.raises(JobRefused) as refused:
        examples(replace(three_scanners, table=None), make_job())
    assert refused.value.rule == "labels"


def test_without_segmentations_nothing_is_positive(three_scanners: SiteData) -> None:
    found = examples(three_scanners, make_job(labels=Labels("SEG")))
    assert balance(found) == (33, 0)


def test_a_job_is_approved_with_a_rounded_count(three_scanners: SiteData, tmp_path: Path) -> None:
    job = make_job(app_digest=app_digest())
    found = decider(three_scanners, tmp_path)(job, Hands())
    assert isinstance(found, Approved)
    assert found.count == 30
    assert decider(three_scanners, tmp_path)(job, Hands(stopped=True)) == Refused("stopped")


def test_before_somebody_approved_a_job_no_label_is_read_and_nothing_is_counted(
    three_scanners: SiteData, tmp_path: Path
) -> None:
    job = make_job(app_digest=app_digest())
    unlabelled = decider(replace(three_scanners, table=None), tmp_path, approval="by-hand")
    small = decider(three_scanners, tmp_path, approval="by-hand", min_cohort=1000)
    for asked in (unlabelled, small):
        assert asked(job, Hands()) == Waiting()
        assert asked(job, Hands(other_job=True)) == Refused("job-id")
    assert not (tmp_path / "counted.json").exists()
    assert unlabelled(job, Hands(approved=True)) == Refused("labels")
    assert small(job, Hands(approved=True)) == Refused("cohort-size")


def test_a_cohort_one_person_away_is_refused_also_after_a_restart(
    three_scanners: SiteData, tmp_path: Path
) -> None:
    job = make_job(app_digest=app_digest())
    decider(three_scanners, tmp_path)(job, Hands())
    first = members(three_scanners.vault, CT)[0]
    rest = frozenset(one.series_id for one in members(three_scanners.vault, CT)) - {first.series_id}
    less = make_job(app_digest=app_digest(), id="heads-2", cohort={"all": [CT]})
    assert decider(replace(three_scanners, only=rest), tmp_path)(less, Hands()) == Refused("count-differs")
    assert first.subject_id.encode() not in (tmp_path / "counted.json").read_bytes()


def _table(folder: Path, whole: SiteData, columns: dict[str, set[int]]) -> SiteData:
    """Return the site with other labels: each column lacks some rows."""
    assert whole.table is not None
    rows = list(csv.DictReader(whole.table.read_text().splitlines()))
    path = folder / "other.csv"
    with path.open("w", newline="") as file:
        made = csv.writer(file)
        made.writerow(["StudyInstanceUID", *columns])
        for at, row in enumerate(rows):
            values = ["" if at in without else row["hemorrhage"] for without in columns.values()]
            made.writerow([row["StudyInstanceUID"], *values])
    return replace(whole, table=path)


def _asked(data: SiteData, folder: Path, column: str, **more: Any) -> object:
    job = make_job(app_digest=app_digest(), id=f"heads-{column}", labels=Labels("table", column))
    return decider(data, folder, **more)(job, Hands())


def test_who_has_no_label_is_not_counted(three_scanners: SiteData, tmp_path: Path) -> None:
    data = _table(tmp_path, three_scanners, {"few": set(range(24))})
    assert _asked(data, tmp_path, "few", min_cohort=10) == Refused("cohort-size")
    found = _asked(data, tmp_path / "other", "few", min_cohort=9, count_step=1)
    assert isinstance(found, Approved)
    assert found.count == 9


def test_two_label_columns_a_person_apart_are_not_both_counted(
    three_scanners: SiteData, tmp_path: Path
) -> None:
    data = _table(tmp_path, three_scanners, {"a": {0}, "b": {0, 1}, "c": set(range(12))})
    assert isinstance(_asked(data, tmp_path, "a"), Approved)
    assert _asked(data, tmp_path, "b") == Refused("count-differs")
    assert isinstance(_asked(data, tmp_path, "c"), Approved)
    assert isinstance(_asked(data, tmp_path, "a"), Approved)


def test_a_column_that_the_table_has_not_is_named(three_scanners: SiteData, tmp_path: Path) -> None:
    assert _asked(three_scanners, tmp_path, "nothing") == Refused("labels")
    policy = SitePolicy("heads", (app_digest(),), ("IRB-1",), ("consent",), "by-policy")
    told: list[BaseException] = []
    deciding = Decider(
        lambda: policy, three_scanners, tmp_path / "counted", lambda: NOW, lambda job: "", told.append
    )
    job = make_job(app_digest=app_digest(), labels=Labels("table", "Hemorrhage"))
    assert [deciding(job, Hands()) for _ in range(2)] == [Refused("labels")] * 2
    # Once, in the site's own log.
    assert ["'Hemorrhage'" in str(one) for one in told] == [True]


def test_a_small_cohort_is_refused(three_scanners: SiteData, tmp_path: Path) -> None:
    job = make_job(app_digest=app_digest(), cohort=maker("Birch"))
    assert decider(three_scanners, tmp_path, min_cohort=11)(job, Hands()) == Refused("cohort-size")


def test_refusals_cost_as_much_as_counts(three_scanners: SiteData, tmp_path: Path) -> None:
    """Without a budget, refusals alone would tell by trial how many people fit any filter."""

    def asked(name: str, number: int) -> object:
        cohort = {"all": [maker(name), {"column": "KVP", "op": ">", "value": number}]}
        job = make_job(app_digest=app_digest(), id=f"heads-{number}", cohort=cohort)
        return decider(three_scanners, tmp_path, min_cohort=30, count_queries=3)(job, Hands())

    said = [asked("Birch", number) for number in (0, 1, 1, 2, 3)]
    assert said == [Refused("cohort-size")] * 4 + [Refused("count-budget")]
    whole = make_job(app_digest=app_digest())
    assert decider(three_scanners, tmp_path, count_queries=3)(whole, Hands()) == Refused("count-budget")


def test_the_model_learns_and_a_proximal_term_holds_it_back(three_scanners: SiteData) -> None:
    task = Logistic({"steps": 50}, three_scanners, examples(three_scanners, make_job()))
    start = task.init(0)
    free = task.train(start, Turn(1, 0))
    held = task.train(start, Turn(1, 0, proximal=5.0))
    size = {name: np.linalg.norm(one.weights["weight"]) for name, one in {"free": free, "held": held}.items()}
    assert size["held"] < size["free"]
    assert not start["weight"].any()
    assert task.evaluate(free.weights).metrics["loss"] < task.evaluate(start).metrics["loss"]


def test_what_a_model_sees_of_nothing_is_nothing() -> None:
    assert not features(np.full((3, 8, 8), np.nan)).any()


@pytest.mark.parametrize("config", [{"step": 1}, {"steps": 0}, {"rate": -1.0}, {"steps": "__import__('os')"}])
def test_a_configuration_is_numbers(config: dict[str, Any]) -> None:
    with pytest.raises(JobRefused):
        settings(config)

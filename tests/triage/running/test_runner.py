"""One study end to end, and that a bad one ends alone. In this process, with a real small pipeline."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from mean_hu import RAISES, MeanHU, Threshold
from runner_support import ct, reports, rows, runner, schedule, take

import voxelvault as vv
from voxelvault.tasks import now
from voxelvault.testing import synthetic
from voxelvault.upkeep.removal import delete_study
from voxelvault_triage.model import Gated, Study
from voxelvault_triage.results import read_results
from voxelvault_triage.running.own_hands import OwnHands
from voxelvault_triage.running.queue_lock import AtWorkElsewhere
from voxelvault_triage.running.runner import NAMELESS, Limits, Runner
from voxelvault_triage.running.session import HERE, Hands, work_through
from voxelvault_triage.worklist.listing import listing


def test_from_images_to_the_top_of_the_list(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "in", *ct(1, -50), *ct(2, 60), *synthetic.mr_series())
    pipeline, model = MeanHU(), Threshold(10)
    assert len(schedule(vault, pipeline, model.digest)) == 3
    report = work_through(vault, runner(vault, pipeline, model), Hands(HERE))
    assert (report.studies, report.given_up) == (3, {})
    assert str(report) == "2 analysed, 1 not analysed; 1 HIGH; 1 LOW; 1 MEDIUM"
    assert (report.document()["analysed"], report.document()["not_analysed"]) == (2, 1)
    items = listing(vault, now())
    assert [item.verdict for item in items] == ["positive", "not-analysed", "negative"]
    assert (items[0].score, items[0].model, items[1].reason) == (0.9, model.digest, "There is no CT.")
    assert set(reports(vault).values()) == {1}
    entries = [entry for entry in vault.audit.log() if entry.kind == "handle.closed"]
    assert sum(entry.counts.get("frames", 0) for entry in entries) >= 10
    assert schedule(vault, pipeline, model.digest) == []
    assert len(schedule(vault, pipeline, Threshold(20).digest)) == 3


def test_a_bad_study_ends_alone_and_is_listed(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "in", *ct(1, first=RAISES), *ct(2), *ct(3))
    schedule(vault, MeanHU())
    told: list[str] = []
    report = work_through(vault, runner(vault, MeanHU()), Hands(HERE, tell=told.append))
    assert (report.studies, report.given_up) == (2, {"failed": 1})
    bad = [item for item in listing(vault, now()) if item.task_state == "CANCELED"]
    assert [item.reason for item in bad] == ["The analysis failed (ValueError)."]
    assert f"{bad[0].StudyInstanceUID}: given up: The analysis failed (ValueError)." in told
    assert sorted(line.partition(": ")[2].partition(":")[0] for line in told) == [
        "given up",
        *["positive"] * 2,
    ]
    attempts = rows(vault, "select attempt, superseded from tasks where state = 'CANCELED' order by attempt")
    assert [(row["attempt"], row["superseded"]) for row in attempts] == [(1, True), (2, False)]
    assert schedule(vault, MeanHU()) == []


def test_a_study_that_no_result_could_name_says_so_at_once(vault: vv.Vault, tmp_path: Path) -> None:
    nameless = pydicom.dcmread(io.BytesIO(ct(1)[0]))
    del nameless.StudyInstanceUID
    nameless.save_as(data := io.BytesIO())
    take(vault, tmp_path / "in", data.getvalue(), *ct(2))
    schedule(vault, MeanHU())
    told: list[str] = []
    report = work_through(vault, runner(vault, MeanHU()), Hands(HERE, tell=told.append))
    assert (report.studies, report.given_up) == (1, {"no-study-uid": 1})
    assert f"a study without a UID: given up: {NAMELESS.sentence}" in told
    assert [row["attempt"] for row in rows(vault, "select attempt from tasks")] == [1, 1]


def test_a_wrong_call_is_not_tried_again(vault: vv.Vault, tmp_path: Path) -> None:
    class Wrong(MeanHU):
        def gate(self, vault: vv.Vault, study: Study) -> Gated:
            vault.sql("select nothing from nowhere")
            return super().gate(vault, study)

    take(vault, tmp_path / "in", *ct(1))
    schedule(vault, Wrong())
    told: list[str] = []
    report = work_through(vault, runner(vault, Wrong()), Hands(HERE, tell=told.append))
    assert (report.given_up, len(told), "QueryError" in told[0]) == ({"failed": 1}, 1, True)
    assert [row["attempt"] for row in rows(vault, "select attempt from tasks")] == [1]


def test_later_images_supersede_and_results_trigger_nothing(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "one", *ct(1, slices=range(4)))
    schedule(vault, MeanHU())
    work_through(vault, runner(vault, MeanHU()), Hands(HERE))
    assert schedule(vault, MeanHU()) == []
    take(vault, tmp_path / "two", *ct(1, slices=range(4, 7)))
    assert len(schedule(vault, MeanHU())) == 1
    assert work_through(vault, runner(vault, MeanHU()), Hands(HERE)).studies == 1
    found = rows(vault, "select state, superseded from tasks order by scheduled")
    assert [(row["state"], row["superseded"]) for row in found] == [("COMPLETED", True), ("COMPLETED", False)]
    from voxelvault_triage.results.reading import read_results

    (study,) = rows(vault, "select study_id from studies")
    assert [one.superseded for one in read_results(vault, study["study_id"])] == [True, False]


def test_a_study_that_changes_or_goes_meanwhile_is_left(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "one", *ct(1, slices=range(4)), *ct(2))
    schedule(vault, MeanHU())
    take(vault, tmp_path / "two", *ct(1, slices=range(4, 7)))
    work = runner(vault, MeanHU())
    gone = rows(vault, "select study_id from studies join instances using (study_id) group by all")
    (sent,) = {
        row["study_id"]
        for row in gone
        if len(rows(vault, f"from instances where study_id = '{row['study_id']}'")) == 5
    }
    delete_study(vault.resources, sent)
    assert work_through(vault, work, Hands(HERE)).given_up == {"superseded": 1}


def test_what_a_dead_runner_wrote_is_found_and_not_written_again(
    vault: vv.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxelvault_triage.worklist import store

    take(vault, tmp_path / "in", *ct(1))
    schedule(vault, MeanHU())
    with monkeypatch.context() as patch:

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(store, "complete", dies)
        with pytest.raises(KeyboardInterrupt):
            work_through(vault, runner(vault, MeanHU()), Hands(HERE))
    assert sum(reports(vault).values()) == 1
    assert [row["state"] for row in rows(vault, "select state from tasks")] == ["IN PROGRESS"]
    assert work_through(vault, runner(vault, MeanHU()), Hands(HERE)).studies == 1
    assert sum(reports(vault).values()) == 1
    (item,) = listing(vault, now())
    assert item.verdict == "positive"


def test_there_is_one_runner_of_a_pipeline(vault: vv.Vault) -> None:
    first, second = runner(vault, MeanHU()), runner(vault, MeanHU())
    with first.lock(), pytest.raises(AtWorkElsewhere, match="another process works"), second.lock():
        pass


def test_the_model_is_sent_once_and_again_where_it_is_lacking(vault: vv.Vault, tmp_path: Path) -> None:
    from voxelvault_triage.running import worker

    worker._models.clear()
    take(vault, tmp_path / "in", *ct(1), *ct(2))
    model = Threshold(10)
    schedule(vault, MeanHU(), model.digest)
    work = runner(vault, MeanHU(), model)
    crew = OwnHands(vault.resources)
    crew.hands = 0  # type: ignore[misc]
    work.work(crew)
    assert work.report.studies == 2
    assert list(worker._models) == [model.digest]


def test_each_study_is_analysed_by_the_model_it_was_scheduled_for(vault: vv.Vault, tmp_path: Path) -> None:
    first, later = Threshold(10), Threshold(20)
    take(vault, tmp_path / "in", *ct(1))
    schedule(vault, MeanHU(), first.digest)
    work_through(vault, runner(vault, MeanHU(), first), Hands(HERE))
    schedule(vault, MeanHU(), later.digest)
    take(vault, tmp_path / "new", *ct(2))
    schedule(vault, MeanHU(), later.digest)
    found = rows(vault, "select study_id, priority from tasks where state = 'SCHEDULED' order by scheduled")
    # What no model has judged goes before what another one has.
    assert [row["priority"] for row in found] == ["LOW", "MEDIUM"]
    work = Runner(vault, MeanHU(), first, Limits(), {later.digest: later}.__getitem__)
    work_through(vault, work, Hands(HERE))
    (again,) = read_results(vault, found[0]["study_id"])[1:]
    assert (again.model, again.model_name) == (later.digest, later.name)


def test_a_model_that_is_gone_is_told(vault: vv.Vault, tmp_path: Path) -> None:
    take(vault, tmp_path / "in", *ct(1))
    schedule(vault, MeanHU(), "0" * 64)
    work_through(vault, runner(vault, MeanHU(), Threshold(10)), Hands(HERE))
    (row,) = rows(vault, "select state, reason from tasks")
    assert row["state"] == "CANCELED"
    assert "scheduled for a model that this pipeline hasn't got" in row["reason"]

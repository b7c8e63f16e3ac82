"""A site believes nobody: what the server sends is checked, used once, and answered in fixed words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from toy_consortium import Toy, make_job

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.jobs.policy import Refused
from voxelvault_fl.jobs.strict import plain
from voxelvault_fl.jobs.task import Trained, Turn, Weights, weights_digest
from voxelvault_fl.rounds.messages import Message, pack, unpack
from voxelvault_fl.rounds.records import record_of
from voxelvault_fl.rounds.shelf import put
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.rounds.transport import Fault

MOST = 1 << 20


def _said(toy: Toy, name: str, answer: bytes) -> dict[str, object]:
    return dict(unpack(answer, toy.keys[name].public_key(), MOST).said)


def _meddle(toy: Toy, kind: str, round: int, change: Callable[[Message], Message]) -> None:
    """Let the server itself turn bad: it signs what it likes."""

    def changed(number: int, name: str, data: bytes) -> bytes:
        came = unpack(data, toy.server.public_key(), MOST)
        if (came.kind, number, name) == (kind, round, "west"):
            return pack(change(came), toy.server)
        return data

    toy.to_site = changed


def _faults(toy: Toy, kind: str = "train") -> list[object]:
    """Return the words with which one site answered, round by round; None where it did its work."""
    came = [unpack(answer, toy.keys[name].public_key(), MOST) for _, name, _, answer in toy.asked]
    return [one.said.get("fault") for one in came if (one.sender, one.kind) == ("west", kind)]


def _without_since(came: Message) -> dict[str, Any]:
    return {name: said for name, said in came.said.items() if name != "since"}


def test_trap_weights_are_not_trained_on(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    trap = {"w": np.full((2, 2), 5, np.float32), "b": np.zeros(3, np.float32)}
    # As a whole model, instead of what the site holds already.
    _meddle(toy, "train", 2, lambda came: replace(came, weights=trap, said=_without_since(came)))
    toy.run().go()
    assert _faults(toy) == [None, "aggregate", None]
    assert len(toy.tasks["west"].turns) == 2


def test_a_run_that_starts_from_other_weights_is_refused(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def other(came: Message) -> Message:
        start = {**came.said["records"][0], "aggregate": "f" * 64}
        return replace(came, said={"records": [start]})

    _meddle(toy, "train", 1, other)
    toy.run().go()
    assert _faults(toy)[0] == "initial-weights"


def test_a_rewritten_record_is_refused(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def other(came: Message) -> Message:
        records = [{**one, "previous": "e" * 64} for one in came.said["records"]]
        return replace(came, said={"records": records})

    _meddle(toy, "train", 2, other)
    toy.run().go()
    assert _faults(toy)[1] == "forked"


def test_an_update_that_the_site_never_sent_is_not_its_own(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def other(came: Message) -> Message:
        records = [dict(one) for one in came.said["records"]]
        for one in records:
            if one["kind"] == "round":
                one["sites"] = {**one["sites"], "west": {**one["sites"]["west"], "update": "d" * 64}}
        return replace(came, said={"records": records})

    _meddle(toy, "evaluate", 1, other)
    toy.run().go()
    assert _faults(toy, "evaluate")[0] == "update"


def test_a_message_is_answered_once(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run().go()
    for _, name, request, _ in toy.asked:
        assert _said(toy, name, toy.sides[name].answer(request)) == {"fault": "replayed"}
    # Also by a process that started anew.
    _, name, request, _ = toy.asked[-1]
    assert _said(toy, name, toy.side(name).answer(request)) == {"fault": "replayed"}


def test_a_message_of_a_stranger_or_for_another_site_has_no_answer(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run().go()
    _, name, request, _ = toy.asked[0]
    came = unpack(request, toy.server.public_key(), MOST)
    with pytest.raises(MessageRefused, match="signature"):
        toy.sides[name].answer(pack(came, Ed25519PrivateKey.generate()))
    other = next(site for site in toy.sides if site != name)
    with pytest.raises(MessageRefused, match="address"):
        toy.sides[other].answer(request)


def test_a_job_that_was_never_offered_is_not_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    message = Message("train", "b" * 64, 1, "west", 1, "server")
    assert _said(toy, "west", toy.sides["west"].answer(pack(message, toy.server))) == {"fault": "not-offered"}


def test_a_job_that_the_lead_did_not_sign_is_not_taken(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    forged = toy.signed
    toy.lead = Ed25519PrivateKey.generate()
    document = {"job": replace(forged, signature=toy.lead.sign(b"x")).dumps().decode()}
    message = Message("offer", toy.job.digest, 0, "west", 1, "server", document)
    assert _said(toy, "west", toy.sides["west"].answer(pack(message, toy.server))) == {"fault": "signature"}


@pytest.mark.parametrize("job", ["../../etc", "A" * 64, ""])
def test_a_job_is_named_by_a_digest_and_nothing_else(tmp_path: Path, job: str) -> None:
    toy = Toy(tmp_path)
    answer = toy.sides["west"].answer(pack(Message("train", job, 1, "west", 1, "server"), toy.server))
    assert _said(toy, "west", answer) == {"fault": "malformed"}


@pytest.mark.parametrize(
    ("error", "word"),
    [(RuntimeError("Plantedworth^Quillfeather"), "failed"), (OSError(28, "full"), "no-room")],
)
def test_an_exceptions_text_stays_at_the_site(tmp_path: Path, error: Exception, word: str) -> None:
    toy = Toy(tmp_path)

    def fails(weights: Weights, turn: Turn) -> Trained:
        raise error

    toy.tasks["west"].train = fails  # type: ignore[method-assign]
    toy.run().go()
    assert _faults(toy) == [word] * 3
    assert toy.logs == [error] * 3
    assert not any(b"Plantedworth" in answer for *_, answer in toy.asked)


def test_a_site_never_sends_what_is_not_finite_and_clips_the_rest(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(update_norm=0.5))
    toy.tasks["west"].target, toy.tasks["east"].target = float("nan"), 1e6
    toy.run().go()
    assert _faults(toy) == ["finite"] * 3
    sent = [unpack(a, toy.keys[n].public_key(), MOST) for _, n, _, a in toy.asked if n == "east"]
    norms = [np.sqrt(sum((w**2).sum() for w in one.weights.values())) for one in sent if one.kind == "train"]
    assert norms == pytest.approx([0.5] * 3, rel=1e-3)


def test_only_figures_that_the_policy_names_leave(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    train = toy.tasks["west"].train

    def telling(weights: Weights, turn: Turn) -> Trained:
        return replace(train(weights, turn), metrics={"loss": 0.123456789, "worst_subject": 4.0})

    toy.tasks["west"].train = telling  # type: ignore[method-assign]
    toy.run().go()
    told = [_said(toy, n, a) for _, n, _, a in toy.asked if n == "west"]
    assert [one["metrics"] for one in told if "spent" in one] == [{"loss": 0.1235}] * 3


def test_no_figure_of_a_few_people_leaves(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=1))
    toy.tasks["west"].examples = 4
    toy.run().go()
    told = [unpack(a, toy.keys[n].public_key(), MOST) for _, n, _, a in toy.asked if n == "west"]
    assert [one.said["metrics"] for one in told if "metrics" in one.said] == [{}, {}]


def test_a_job_has_no_more_rounds_than_the_lead_signed(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run().go()
    came = unpack(toy.asked[-1][2], toy.server.public_key(), MOST)
    more = replace(came, kind="train", round=4, site="west", turn=999, weights=toy.run().go().weights)
    answer = toy.sides["west"].answer(pack(more, toy.server))
    assert _said(toy, "west", answer) == {"fault": "rounds"}


def test_a_second_model_of_the_same_round_is_not_trained_on(tmp_path: Path) -> None:
    """A server that may record one round twice gets an answer to any weights it likes."""
    toy = Toy(tmp_path)
    trap = {"w": np.full((2, 2), 5, np.float32), "b": np.zeros(3, np.float32)}

    def twice(came: Message) -> Message:
        last = record_of(came.said["records"][-1])
        again = replace(last, kind="round", round=1, previous=last.digest, aggregate=weights_digest(trap))
        records = [*came.said["records"], plain(replace(again, sites={"east": {}, "north": {}}))]
        return replace(came, weights=trap, said={"records": records})

    _meddle(toy, "train", 2, twice)
    toy.run().go()
    assert _faults(toy)[1] == "record"
    assert [turn.round for turn in toy.tasks["west"].turns] == [1, 3]


def test_what_was_computed_while_somebody_stopped_the_job_stays(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    train = toy.tasks["west"].train

    def stopping(weights: Weights, turn: Turn) -> Trained:
        SiteState(toy.sides["west"].state_folder(toy.job.digest), toy.job.digest).stop()
        return train(weights, turn)

    toy.tasks["west"].train = stopping  # type: ignore[method-assign]
    toy.run().go()
    assert _faults(toy)[0] == "stopped"


def test_what_was_computed_while_the_policy_became_stricter_stays(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    train = toy.tasks["west"].train

    def tightening(weights: Weights, turn: Turn) -> Trained:
        toy.decisions["west"] = Refused("purpose")
        return train(weights, turn)

    toy.tasks["west"].train = tightening  # type: ignore[method-assign]
    toy.run().go()
    assert _faults(toy) == ["purpose"] * 3
    assert len(toy.tasks["west"].turns) == 1


def test_nothing_is_learned_from_a_few_people_and_no_number_of_its_own_leaves(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=1))
    toy.tasks["west"].examples, toy.tasks["east"].examples = 4, 7
    toy.run().go()
    assert _faults(toy) == ["cohort-size"]
    told = [_said(toy, n, a) for _, n, _, a in toy.asked]
    # One number of people leaves, however many were trained, chosen or tested on.
    assert {one["examples"] for one in told if "examples" in one} == {20}


def test_a_recorded_trap_is_further_away_than_updates_can_lead(tmp_path: Path) -> None:
    """The server writes a record of its own in which the trap is the model that round 1 gave."""
    toy = Toy(tmp_path)
    trap = {"w": np.full((2, 2), 50, np.float32), "b": np.zeros(3, np.float32)}

    def recorded(came: Message) -> Message:
        start = next(one for one in toy.noted if one.kind == "start")
        made = replace(start, kind="round", round=1, previous=start.digest, aggregate=weights_digest(trap))
        records = [plain(start), plain(replace(made, sites={"east": {}, "north": {}}))]
        return replace(came, weights=trap, round=2, said={"records": records})

    _meddle(toy, "train", 1, recorded)
    toy.run().go()
    assert _faults(toy)[0] == "norm"


def test_nothing_of_a_record_that_is_refused_is_entered_in_the_sites_log(tmp_path: Path) -> None:
    toy, entered = Toy(tmp_path), list[str]()
    toy.sides["west"]._hands = replace(toy.sides["west"]._hands, noted=lambda one: entered.append(one.digest))

    def forked(came: Message) -> Message:
        records = [{**one, "previous": "e" * 64} for one in came.said["records"]]
        return replace(came, said={"records": records})

    _meddle(toy, "train", 2, forked)
    toy.run().go()
    assert _faults(toy)[1] == "forked"
    assert entered == [one.digest for one in toy.noted]


@pytest.mark.parametrize("other", [{"count": 1000}, {"cohort": "d" * 64}])
def test_a_cohort_with_which_the_site_did_not_join_is_not_its_own(
    tmp_path: Path, other: dict[str, object]
) -> None:
    toy = Toy(tmp_path)

    def joined(came: Message) -> Message:
        start, *rest = (dict(one) for one in came.said["records"])
        start["sites"] = {**start["sites"], "west": {**start["sites"]["west"], **other}}
        return replace(came, said={"records": [start, *rest]})

    _meddle(toy, "train", 1, joined)
    toy.run().go()
    assert _faults(toy)[0] == "cohort"


def test_a_private_round_that_is_asked_for_again_is_answered_with_what_it_gave(tmp_path: Path) -> None:
    """Trained anew it would cost a second time, and the job's last round could never be paid for."""
    toy = Toy(tmp_path, make_job(min_sites=3))
    train, lost = toy.tasks["west"].train, list[int]()

    def costly(weights: Weights, turn: Turn) -> Trained:
        cost = {"epsilon": 1.0, "delta": 1e-5, "unit": "subject", "accountant": "ours"}
        return replace(train(weights, turn), metrics={}, spent=cost)

    def once(round: int, name: str, data: bytes) -> bytes | Fault:
        came = unpack(data, toy.keys[name].public_key(), MOST)
        if (name, came.kind, round) == ("east", "train", 2) and not lost:
            toy.sides["west"] = toy.side("west")
            lost.append(round)
            return Fault("disconnected")
        return data

    toy.tasks["west"].train, toy.to_server = costly, once  # type: ignore[method-assign]
    run = toy.run()
    run._pause = lambda tries: True
    assert run.go().status == "finished"
    assert [turn.round for turn in toy.tasks["west"].turns] == [1, 2, 3]
    sent = [unpack(a, toy.keys[n].public_key(), MOST) for _, n, _, a in toy.asked if n == "west"]
    first, second = (one for one in sent if "spent" in one.said and one.round == 2)
    assert first.said == second.said
    assert weights_digest(first.weights) == weights_digest(second.weights)


@pytest.mark.parametrize("said", [b"", b"[]", b'{"job": {}}', b"\xff"])
def test_a_damaged_job_holds_up_no_decision_on_others(tmp_path: Path, said: bytes) -> None:
    for name, content in (("a", said), ("b", b'{"job": {"consortium": "heads", "id": "heads-1"}}')):
        put(tmp_path / (name * 64) / "job.json", content)
    assert not SiteState(tmp_path / ("b" * 64), "b" * 64).other_job
    put(tmp_path / ("c" * 64) / "job.json", b'{"job": {"consortium": "heads", "id": "heads-1"}}')
    assert SiteState(tmp_path / ("c" * 64), "c" * 64).other_job

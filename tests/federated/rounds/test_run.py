"""A run over sites in memory: what it reaches, what it sets aside, how it goes on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from toy_consortium import Toy, make_job

from voxelvault_fl.errors import KitRefused
from voxelvault_fl.jobs.job import Strategy
from voxelvault_fl.jobs.policy import Refused, Waiting
from voxelvault_fl.jobs.task import Turn, weights_digest
from voxelvault_fl.rounds.asking import LARGEST_HEAD
from voxelvault_fl.rounds.messages import Message, pack, unpack
from voxelvault_fl.rounds.records import aggregate_of
from voxelvault_fl.rounds.run import Outcome
from voxelvault_fl.rounds.transport import Fault


def test_three_sites_train_three_rounds(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    out = toy.run().go()
    assert (out.status, out.round, out.best) == ("finished", 3, 3)
    assert out.weights["b"] == pytest.approx(2 * (1 - 0.5**3))
    assert [one.kind for one in toy.noted] == ["start"] + ["round", "evaluation"] * 3 + ["end"]
    assert aggregate_of(toy.noted, 3) == weights_digest(out.weights)
    assert set(out.decisions.values()) == {"approved"}
    assert not toy.logs


def test_counts_weigh_and_uniform_does_not(tmp_path: Path) -> None:
    counts = {"east": 60, "north": 20, "west": 20}
    weighed = Toy(tmp_path / "a", make_job(rounds=1), counts=counts).run().go()
    assert weighed.weights["b"] == pytest.approx((0.6 * 1 + 0.2 * 2 + 0.2 * 3) / 2)
    uniform = make_job(rounds=1, strategy=Strategy("fedavg", "uniform"))
    assert Toy(tmp_path / "b", uniform, counts=counts).run().go().weights["b"] == pytest.approx(1.0)


def _broken(toy: Toy, site: str, change: Callable[[Message], Message]) -> None:
    """Let one site's code return something else, signed with the site's own key: a site turned bad."""

    def changed(round: int, name: str, data: bytes) -> bytes:
        key = toy.keys[name]
        came = unpack(data, key.public_key(), 1 << 20)
        return pack(change(came), key) if name == site and came.kind == "train" else data

    toy.to_server = changed


def _weights(value: Any) -> Callable[[Message], Message]:
    return lambda came: replace(came, weights={n: np.full_like(w, value) for n, w in came.weights.items()})


def _named(name: str) -> Callable[[Message], Message]:
    return lambda came: replace(came, weights={"w": came.weights["w"], name: came.weights["b"]})


def _said(**more: Any) -> Callable[[Message], Message]:
    return lambda came: replace(came, said={**came.said, **more})


FAULTS: list[tuple[Callable[[Message], Message], str]] = [
    (_weights(np.nan), "finite"),
    (_weights(np.inf), "finite"),
    (_weights(1e9), "norm"),
    (_named("c"), "keys"),
    (lambda came: replace(came, weights={**came.weights, "b": np.zeros(4, np.float32)}), "shape"),
    (lambda came: replace(came, weights={**came.weights, "b": np.zeros(3, np.float64)}), "dtype"),
    (lambda came: replace(came, weights={}), "keys"),
    (_said(examples=-5), "count"),
    (_said(examples="many"), "count"),
    (lambda came: replace(came, answers="0" * 64), "replayed"),
    (lambda came: replace(came, sender="north"), "replayed"),
    (lambda came: replace(came, kind="offer"), "replayed"),
    (lambda came: replace(came, job="d" * 64), "replayed"),
    (lambda came: replace(came, round=7), "replayed"),
    (lambda came: replace(came, turn=70), "replayed"),
    (_said(spent=[1, 2]), "spent"),
    (_said(spent={"epsilon": "much"}), "spent"),
    (_said(spent={"epsilon": 1.0, "delta": 1e-5, "unit": "x" * 5000, "accountant": "a"}), "spent"),
    (_said(spent={"note": {"deep": "x" * 100}}), "spent"),
    (_said(note="x" * LARGEST_HEAD), "size"),
]


@pytest.mark.parametrize(("change", "rule"), FAULTS)
def test_a_bad_update_is_set_aside_and_the_round_goes_on(
    tmp_path: Path, change: Callable[[Message], Message], rule: str
) -> None:
    toy = Toy(tmp_path)
    _broken(toy, "west", change)
    out = toy.run().go()
    assert out.status == "finished"
    assert all(np.isfinite(one).all() for one in out.weights.values())
    assert 1 < out.weights["b"][0] < 1.5
    assert [one.aside for one in toy.noted if one.kind == "round"] == [{"west": rule}] * 3


def test_a_false_count_is_clamped_to_the_registered_cohort(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=1))
    _broken(toy, "west", _said(examples=10**12))
    assert toy.run().go().weights["b"] == pytest.approx(1.0)


@pytest.mark.parametrize("said", [{"count": 10**400}, {"cohort": "c" * 65}, {"cohort": ["c"]}])
def test_who_joins_with_what_cannot_be_proved_or_counted_does_not_join(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    toy = Toy(tmp_path, make_job(rounds=1))

    def lying(round: int, name: str, data: bytes) -> bytes:
        key = toy.keys[name]
        came = unpack(data, key.public_key(), 1 << 20)
        wrong = name == "west" and came.kind == "offer"
        return pack(replace(came, said={**came.said, **said}), key) if wrong else data

    toy.to_server = lying
    assert toy.run().go().decisions["west"] == "malformed"
    assert all("west" not in one.sites for one in toy.noted)


@pytest.mark.parametrize("auc", [10**400, 1e308, 3.0, -1, True, "1"])
def test_a_false_figure_chooses_no_round_and_stops_no_run(tmp_path: Path, auc: object) -> None:
    toy = Toy(tmp_path, make_job(metric="auc"))

    def lying(round: int, name: str, data: bytes) -> bytes:
        key = toy.keys[name]
        came = unpack(data, key.public_key(), 1 << 20)
        if came.kind != "evaluate":
            return data
        told = auc if (name, round) == ("west", 1) else 0.1 * round
        return pack(replace(came, said={"examples": 20, "metrics": {"auc": told}}), key)

    toy.to_server = lying
    out = toy.run().go()
    assert (out.status, out.best) == ("finished", 3)


def test_garbage_and_silence_are_set_aside(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.to_server = lambda round, name, data: b"garbage" if (name, round) == ("west", 2) else data
    toy.to_site = lambda round, name, data: Fault("timeout") if (name, round) == ("east", 1) else data
    toy.run().go()
    aside = [dict(one.aside) for one in toy.noted if one.kind == "round"]
    assert aside == [{"east": "timeout"}, {"west": "malformed"}, {}]


def test_what_a_site_calls_its_fault_is_a_word_or_nothing(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def told(round: int, name: str, data: bytes) -> bytes:
        came = unpack(data, toy.keys[name].public_key(), 1 << 20)
        said = {"north": "no slice of Doe^Jane", "west": "no-room"}.get(name)
        if said is None or (came.kind, round) != ("train", 2):
            return data
        return pack(replace(came, said={"fault": said}, weights={}), toy.keys[name])

    toy.to_server = told
    toy.run().go()
    aside = [dict(one.aside) for one in toy.noted if one.kind == "round" or one.kind == "attempt"]
    assert {"north": "failed", "west": "no-room"} in aside


def test_a_replayed_answer_counts_once(tmp_path: Path) -> None:
    toy, old = Toy(tmp_path), dict[str, bytes]()

    def again(round: int, name: str, data: bytes) -> bytes:
        if name == "west" and unpack(data, toy.keys[name].public_key(), 1 << 20).kind == "train":
            return old.setdefault(name, data)
        return data

    toy.to_server = again
    toy.run().go()
    assert [dict(one.aside) for one in toy.noted if one.kind == "round"] == [{}] + [{"west": "replayed"}] * 2


def test_too_few_answers_are_tried_again_and_then_wait(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.to_site = lambda round, name, data: Fault("timeout") if name != "east" and round == 2 else data
    out = toy.run().go()
    assert (out.status, out.round) == ("stalled", 1)
    assert [one.kind for one in toy.noted].count("attempt") == 1, "the same three times is entered once"
    toy.to_site = lambda round, name, data: data
    assert toy.run().go().status == "finished"


def test_a_killed_server_goes_on_from_the_last_round(tmp_path: Path) -> None:
    whole = Toy(tmp_path / "whole", make_job(strategy=Strategy("fedadam"))).run().go()
    toy = Toy(tmp_path / "cut", make_job(strategy=Strategy("fedadam")))

    class Killed(BaseException):
        pass

    def kill(round: int, name: str, data: bytes) -> bytes:
        if (round, name) == (2, "west"):
            raise Killed
        return data

    toy.to_site = kill
    with pytest.raises(Killed):
        toy.run().go()
    toy.to_site = lambda round, name, data: data
    assert weights_digest(toy.run().go().weights) == weights_digest(whole.weights)


def test_a_server_killed_before_an_evaluation_makes_up_for_it(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def kill(round: int, name: str, data: bytes) -> bytes:
        if round == 2 and unpack(data, toy.server.public_key(), 1 << 20).kind == "evaluate":
            raise KeyboardInterrupt
        return data

    toy.to_site = kill
    with pytest.raises(KeyboardInterrupt):
        toy.run().go()
    toy.to_site = lambda round, name, data: data
    toy.run().go()
    assert [one.round for one in toy.noted if one.kind == "evaluation"] == [1, 2, 3]


def test_a_killed_site_goes_on(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def restart(round: int, name: str, data: bytes) -> bytes:
        if name == "north":
            toy.sides[name] = toy.side(name)
        return data

    toy.to_site = restart
    assert toy.run().go().status == "finished"
    assert not any(one.aside for one in toy.noted)


def test_a_site_that_lost_its_disk_gets_the_record_again(tmp_path: Path) -> None:
    import shutil

    toy, lost = Toy(tmp_path, make_job(rounds=4)), list[int]()

    def lose(round: int, name: str, data: bytes) -> bytes:
        if (round, name) == (2, "north") and not lost:
            lost.append(round)
            shutil.rmtree(tmp_path / "north")
            # The policy's own process finds the job again when it is offered; here it is put back.
            (tmp_path / "north" / toy.job.digest).mkdir(parents=True)
            (tmp_path / "north" / toy.job.digest / "job.json").write_bytes(toy.signed.dumps())
        return data

    toy.to_site = lose
    assert toy.run().go().status == "finished"
    assert [dict(one.aside) for one in toy.noted if one.kind == "round"] == [{}, {"north": "forked"}, {}, {}]


def test_a_record_longer_than_a_message_comes_in_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxelvault_fl.rounds.messages.HEAD_BYTES", 16_000)
    monkeypatch.setattr("voxelvault_fl.rounds.asking.PAGE", 8_000)
    toy = Toy(tmp_path, make_job(rounds=10))
    toy.decisions["west"] = Waiting()

    def killed(round: int, name: str, data: bytes) -> bytes:
        if round == 8:
            raise KeyboardInterrupt
        return data

    toy.to_site = killed
    with pytest.raises(KeyboardInterrupt):
        toy.run().go()
    # All of the record is news to who comes late; the others say how much of it they have.
    toy.to_site = lambda round, name, data: data
    toy.decisions, toy.asked = {}, []
    out = toy.run().go()
    assert (out.status, out.round) == ("finished", 10)
    assert [len(one.sites) for one in toy.noted if one.kind == "round"] == [2] * 7 + [3] * 3
    assert all(not one.aside for one in toy.noted)
    keys = toy.server.public_key()
    pages = [name for _, name, sent, _ in toy.asked if unpack(sent, keys, 1 << 20).kind == "follow"]
    assert pages.count("west") > pages.count("east") == pages.count("north") == 1


def test_a_refusal_names_the_rule_and_others_train(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.decisions["west"] = Refused("purpose")
    out = toy.run().go()
    assert out.decisions == {"east": "approved", "north": "approved", "west": "purpose"}
    assert {tuple(sorted(one.sites)) for one in toy.noted if one.kind == "round"} == {("east", "north")}


def test_a_site_that_approves_late_joins_later(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.decisions["west"] = Waiting()

    def approve(round: int, name: str, data: bytes) -> bytes:
        if round == 2:
            toy.decisions.pop("west", None)
        return data

    toy.to_site = approve
    toy.run().go()
    assert [len(one.sites) for one in toy.noted if one.kind == "round"] == [2, 2, 3]
    assert [sorted(one.sites) for one in toy.noted if one.kind == "joined"] == [["west"]]


def test_a_site_stops_a_job_at_any_time(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def stop(round: int, name: str, data: bytes) -> bytes:
        if round == 2:
            toy.decisions["west"] = Refused("stopped")
        return data

    toy.to_site = stop
    out = toy.run().go()
    assert [dict(one.aside) for one in toy.noted if one.kind == "round"] == [{}] + [{"west": "stopped"}] * 2
    assert out.decisions == {"east": "approved", "north": "approved", "west": "stopped"}


def test_who_left_a_run_that_rests_is_told(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def leave(round: int, name: str, data: bytes) -> bytes:
        if round == 2:
            toy.decisions["west"], toy.up = Refused("stopped"), ["north", "west"]
        return data

    toy.to_site = leave
    out = toy.run().go()
    assert out.status == "stalled"
    assert out.decisions == {"east": "no-answer", "north": "approved", "west": "stopped"}


def test_who_leaves_the_roster_while_it_answers_is_set_aside(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def leave(round: int, name: str, data: bytes) -> bytes:
        if round == 2:
            toy.keys.pop("west", None)
            toy.up = ["east", "north"]
        return data

    run = toy.run()

    def key_of(name: str) -> Ed25519PublicKey:
        if name not in toy.keys:
            raise KitRefused("no party of this name")
        return toy.keys[name].public_key()

    run._asking._parties = replace(run._asking._parties, key_of=key_of)
    toy.to_server = leave
    assert run.go().status == "finished"
    asides = [dict(one.aside) for one in toy.noted if one.kind == "round"]
    assert asides == [{}, {"west": "revoked"}, {}]


def test_who_enters_the_roster_in_a_run_joins_it(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.up = ["east", "north"]

    def enter(round: int, name: str, data: bytes) -> bytes:
        toy.up = ["east", "north", "west"]
        return data

    toy.to_site = enter
    assert toy.run().go().status == "finished"
    assert [len(one.sites) for one in toy.noted if one.kind == "round"] == [3, 3, 3]


def test_an_early_stop_keeps_the_best_round(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=9, patience=2, metric="auc"))
    scores = iter([0.6, 0.8, 0.7, 0.8])

    def score(round: int, name: str, data: bytes) -> bytes:
        key = toy.keys[name]
        came = unpack(data, key.public_key(), 1 << 20)
        if came.kind != "evaluate":
            return data
        if name == "east":
            toy.score = next(scores)  # type: ignore[attr-defined]
        return pack(replace(came, said={"examples": 20, "metrics": {"auc": toy.score}}), key)  # type: ignore[attr-defined]

    toy.to_server = score
    out: Outcome = toy.run().go()
    assert (out.status, out.round, out.best) == ("stopped-early", 4, 2)
    assert weights_digest(out.weights) == aggregate_of(toy.noted, 2)


def test_of_equal_rounds_the_one_with_the_least_loss_is_best(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(metric="auc"))
    losses = iter([0.5, 0.2, 0.3])

    def score(round: int, name: str, data: bytes) -> bytes:
        key = toy.keys[name]
        came = unpack(data, key.public_key(), 1 << 20)
        if came.kind != "evaluate":
            return data
        if name == "east":
            toy.loss = next(losses)  # type: ignore[attr-defined]
        told = {"auc": 1.0, "loss": toy.loss}  # type: ignore[attr-defined]
        return pack(replace(came, said={"examples": 20, "metrics": told}), key)

    toy.to_server = score
    assert toy.run().go().best == 2


def test_fine_tuning_stays_at_the_site(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(personalise=5))
    out = toy.run().go()
    assert {name: set(told) for name, told in out.tested.items()} == {
        name: {"examples", "metrics", "personal"} for name in ("east", "north", "west")
    }
    assert toy.tasks["east"].turns[-1].steps == 5
    last = [unpack(answer, toy.keys[name].public_key(), 1 << 20) for _, name, _, answer in toy.asked]
    assert all(not one.weights for one in last if one.kind == "personalise")
    assert (tmp_path / "east" / toy.job.digest / "personal.safetensors").exists()


def test_every_site_draws_from_its_own_seed(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run().go()
    turns: list[Turn] = [turn for task in toy.tasks.values() for turn in task.turns]
    assert len({turn.seed for turn in turns}) == 9
    assert {turn.proximal for turn in turns} == {0.0}


def test_fedprox_tells_sites_how_near_to_stay(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(strategy=Strategy("fedprox", numbers={"proximal": 0.5})))
    toy.run().go()
    assert {turn.proximal for turn in toy.tasks["east"].turns} == {0.5}


def test_a_round_counts_its_bytes(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run().go()
    sent = {len(request) for round, _, request, _ in toy.asked if round == 3}
    last = [one for one in toy.noted if one.kind == "round"][-1]
    assert 3 * min(sent) <= last.sent <= 3 * max(sent)
    assert last.received == sum(len(a) for r, n, _, a in toy.asked if r == 3 and _kind(toy, n, a) == "train")


def _kind(toy: Toy, name: str, answer: bytes) -> str:
    return unpack(answer, toy.keys[name].public_key(), 1 << 20).kind

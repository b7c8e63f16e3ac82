"""The consortium's terms hold in a run: at the server whatever a job says, at a site whatever its policy."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy_consortium import Toy, make_job

from voxelvault_fl.consortium import Terms
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.rounds.messages import Message, pack, unpack
from voxelvault_fl.rounds.transport import Fault

POOLED = Terms(site_metrics=False)
MOST = 1 << 20


def _answers(toy: Toy, kind: str) -> list[Message]:
    came = [unpack(answer, toy.keys[name].public_key(), MOST) for _, name, _, answer in toy.asked]
    return [one for one in came if one.kind == kind]


def _recorded_heads(toy: Toy) -> list[dict[str, object]]:
    """Return what each update in the record says of itself."""
    attested = [said["attested"] for one in toy.noted if one.kind == "round" for said in one.sites.values()]
    found = []
    for text in attested:
        head = b64decode(text)
        found.append(json.loads(head[10 : 10 + int.from_bytes(head[6:10], "big")])["said"])
    return found


def test_a_round_of_fewer_sites_than_the_terms_want_is_not_aggregated(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(min_sites=2), terms=Terms(minimum_sites=3))
    toy.to_site = lambda round, name, data: Fault("timeout") if name == "west" and round == 2 else data
    out = toy.run().go()
    assert (out.status, out.round) == ("stalled", 1)
    assert [len(one.sites) for one in toy.noted if one.kind == "round"] == [3]


def test_a_run_does_not_start_with_fewer_sites_than_the_terms_want(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(min_sites=1), terms=Terms(minimum_sites=3))
    toy.up = ["east", "north"]
    assert toy.run().go().status == "stalled"
    assert toy.noted == []


def test_terms_that_change_in_a_run_hold_from_the_next_round_on(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def tightened(round: int, name: str, data: bytes) -> bytes:
        if round == 2:
            toy.terms = Terms(minimum_sites=4)
        return data

    toy.to_site = tightened
    assert toy.run().go().round == 1


def test_a_run_ends_once_its_job_is_outside_of_the_terms(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    run = toy.run()

    def outside() -> Terms:
        if len(toy.noted) > 2:
            raise JobRefused("purpose", "the job is outside of the consortium's terms")
        return toy.terms

    run._terms = outside
    with pytest.raises(JobRefused):
        run.go()
    assert [one.round for one in toy.noted if one.kind == "round"] == [1]


def test_no_metric_of_a_single_site_is_recorded_or_told_where_the_terms_forbid_it(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(personalise=2), terms=POOLED)
    out = toy.run().go()
    assert out.status == "finished"
    assert all(not said.get("metrics") for one in toy.noted for said in one.sites.values())
    assert all(not said.get("personal") for one in toy.noted for said in one.sites.values())
    assert all(not said["metrics"] and not said["personal"] for said in out.tested.values())
    # Pooled ones are there, and chose the round.
    assert all(set(one.metrics) == {"loss"} for one in toy.noted if one.kind in ("evaluation", "end"))
    # An update's own words stand in the record, signed; a fine-tuned model's figures stay at the site.
    assert [one["metrics"] for one in _recorded_heads(toy)] == [{}] * 9
    assert {str(one.said["metrics"]) for one in _answers(toy, "personalise")} == {"{}"}
    # Where they may be told, all of that is there: the test can fail.
    free = Toy(tmp_path / "free", make_job(personalise=2))
    free.run().go()
    assert all(said["personal"] for one in free.noted if one.kind == "end" for said in one.sites.values())
    assert all(one["metrics"] for one in _recorded_heads(free))


def test_the_mean_of_one_site_is_that_sites_metric(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=2), terms=POOLED)

    def away(round: int, name: str, data: bytes) -> bytes | Fault:
        kind = unpack(data, toy.server.public_key(), MOST).kind
        return Fault("timeout") if kind == "evaluate" and round == 1 and name != "east" else data

    toy.to_site = away
    assert toy.run().go().measured
    told = [dict(one.metrics) for one in toy.noted if one.kind == "evaluation"]
    assert told[0] == {}
    assert set(told[1]) == {"loss"}


def test_a_model_that_nothing_measured_is_told_as_such(tmp_path: Path) -> None:
    toy = Toy(tmp_path, make_job(rounds=2), terms=POOLED)

    def alone(round: int, name: str, data: bytes) -> bytes | Fault:
        kind = unpack(data, toy.server.public_key(), MOST).kind
        return Fault("timeout") if kind == "evaluate" and name != "east" else data

    toy.to_site = alone
    out = toy.run().go()
    assert (out.measured, out.best) == (False, 2)


def test_a_site_that_tells_its_own_metrics_with_an_update_is_set_aside(tmp_path: Path) -> None:
    toy = Toy(tmp_path, terms=POOLED)
    keys = toy.side("west")._standing().keys
    toy.sides["west"]._standing = lambda: replace(toy.standing(keys), site_metrics=True)
    toy.run().go()
    assert [dict(one.aside) for one in toy.noted if one.kind == "round"] == [{"west": "metrics"}] * 3


def _other_record(toy: Toy, change: Callable[[dict[str, object]], dict[str, object]]) -> None:
    """Let the server show one site another record than the one it keeps."""

    def changed(round: int, name: str, data: bytes) -> bytes:
        came = unpack(data, toy.server.public_key(), MOST)
        if name != "west" or not came.said.get("records"):
            return data
        records = [change(dict(one)) for one in came.said["records"]]
        return pack(replace(came, said={**came.said, "records": records}), toy.server)

    toy.to_site = changed


def test_a_site_follows_no_record_with_metrics_of_single_sites(tmp_path: Path) -> None:
    toy = Toy(tmp_path, terms=POOLED)

    def telling(one: dict[str, object]) -> dict[str, object]:
        told = one["kind"] == "evaluation"
        return {**one, "sites": {"east": {"examples": 20, "metrics": {"loss": 0.5}}}} if told else one

    _other_record(toy, telling)
    toy.run().go()
    faults = [one.said.get("fault") for one in _answers(toy, "train") if one.sender == "west"]
    assert faults == [None, "metrics", "metrics"]


def test_a_site_follows_no_round_of_fewer_sites_than_agreed(tmp_path: Path) -> None:
    toy = Toy(tmp_path)

    def alone(one: dict[str, object]) -> dict[str, object]:
        return {**one, "sites": {"east": {}}} if one["kind"] == "round" else one

    _other_record(toy, alone)
    toy.run().go()
    faults = [one.said.get("fault") for one in _answers(toy, "train") if one.sender == "west"]
    assert faults == [None, "sites", "sites"]

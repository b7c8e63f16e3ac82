"""A run of three sites with real kits and logs: who attests what, and every way of lying about it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whole_consortium import NOW, SITES, Whole

from voxelvault.errors import IntegrityError, RollbackDetected, UsageError
from voxelvault.storage.objects import LocalObjects
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.provisioning.authority import read_authority
from voxelvault_fl.provisioning.roster import sign_roster
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.record.logbook import small_vault
from voxelvault_fl.record.office import Letter, Office, pack_letters, unpack_letters
from voxelvault_fl.record.provenance import Signed, believed, document, verify
from voxelvault_fl.rounds.records import Record

Lie = Callable[[dict[str, Any]], object]


def test_all_sites_attest_all_rounds_and_cosign_each_other(whole: Whole) -> None:
    assert whole.logs == []
    assert [one for party in whole.parties.values() for one in party.office.alarms] == []
    proved = verify(whole.provenance(2), whole.weights(2), whole.authority)
    assert proved.whole
    assert (proved.round, proved.last) == (2, 3)
    assert proved.job == whole.job
    assert proved.sites.keys() == set(SITES)
    for name, site in proved.sites.items():
        assert (site.rounds, site.cohort, site.count) == ((1, 2, 3), "c" * 64, 20)
        assert site.attested is not None
        assert site.attested.record == whole.chain[-1].digest
        assert site.attested.app == "a" * 64
        assert set(site.attested.cosigned) == {*SITES, "server"} - {name}
    assert proved.server is not None
    assert set(proved.server.cosigned) == set(SITES)


def test_a_run_outside_of_the_terms_proves_nothing(whole: Whole) -> None:
    authority = read_authority(whole.folder.parent / "kits" / "authority")
    roster = authority.roster()
    terms = replace(roster.consortium.terms, maximum_rounds=2)
    other = replace(roster, consortium=replace(roster.consortium, terms=terms))
    signed = Signed(other.to_bytes(), sign_roster(other, authority.key), authority.certificate)
    data = document(signed, whole.signed, whole.chain, 2, whole.attestations)
    with pytest.raises(IntegrityError, match="outside of the terms"):
        verify(data, whole.weights(2), whole.authority)


def test_a_round_of_fewer_sites_than_agreed_proves_nothing(whole: Whole) -> None:
    chain: list[Record] = []
    for one in whole.chain:
        sites = dict(list(one.sites.items())[:1]) if one.kind == "round" else one.sites
        chain.append(replace(one, previous=chain[-1].digest if chain else "", sites=sites))
    data = document(whole.roster(), whole.signed, chain, 2, {})
    with pytest.raises(IntegrityError, match="fewer sites"):
        verify(data, whole.weights(2), whole.authority)


def test_every_log_holds_the_whole_record(whole: Whole) -> None:
    for party in whole.parties.values():
        entries = [one for one in party.vault.audit.log() if one.kind == "federated.entered"]
        assert [one.digests["record"] for one in entries] == [one.digest for one in whole.chain]
        assert {one.who for one in entries} == {party.kit.party}
        assert {one.codes["entry"][0] for one in entries} >= {"start", "round", "evaluation", "end"}
        mine = [one.digests["update"] for one in entries if "update" in one.digests]
        assert len(mine) == (0 if party.kit.party == "server" else 3)


def test_an_entry_of_the_record_is_found_in_the_log(whole: Whole) -> None:
    book = whole.parties["east"].book
    found = book.find(whole.chain[-1])
    assert found is not None
    assert found.digests["record"] == whole.chain[-1].digest
    assert book.find(replace(whole.chain[-1], round=99)) is None


@pytest.mark.parametrize("round", [0, 1, 2, 3])
def test_any_round_can_be_gone_back_to(whole: Whole, round: int) -> None:
    assert verify(whole.provenance(round), whole.weights(round), whole.authority).round == round


def test_another_model_is_found_out(whole: Whole) -> None:
    other = {name: one + np.float32(1e-3) for name, one in whole.weights(2).items()}
    with pytest.raises(IntegrityError, match="weights"):
        verify(whole.provenance(2), other)
    with pytest.raises(IntegrityError, match="weights"):
        verify(whole.provenance(1), whole.weights(2))


def test_another_authority_is_found_out(whole: Whole, tmp_path: Path) -> None:
    said = {"id": "heads", "name": "Heads", "server": {"host": "localhost"}, "sites": list(SITES)}
    provision(consortium_of(said), tmp_path / "kits", NOW)
    kit = tmp_path / "kits/server"
    with pytest.raises(IntegrityError, match="not the one of this model"):
        verify(whole.provenance(2), whole.weights(2), (kit / "ca.pem").read_bytes())
    with pytest.raises(UsageError, match="no certificate"):
        verify(whole.provenance(2), whole.weights(2), (kit / "roster.json").read_bytes())


def test_an_attestation_that_proves_nothing_is_left_out_for_all_others(whole: Whole) -> None:
    told = {**whole.attestations, "west": whole.attestations["east"], "nobody": "{}"}
    good = believed(told, whole.roster().open(), whole.job, whole.chain)
    assert set(good) == set(whole.attestations) - {"west"}


def test_a_model_without_attestations_is_not_whole(whole: Whole) -> None:
    proved = verify(whole.provenance(2, {}), whole.weights(2))
    assert not proved.whole
    assert proved.sites["east"].rounds == (1, 2, 3)
    some = {name: text for name, text in whole.attestations.items() if name != "west"}
    assert not verify(whole.provenance(2, some), whole.weights(2)).whole


def test_a_model_of_other_code_than_the_jobs_is_not_whole(whole: Whole) -> None:
    proved = verify(whole.provenance(2), whole.weights(2))
    other = replace(proved.sites["east"].attested, app="b" * 64)  # type: ignore[type-var]
    sites = {**proved.sites, "east": replace(proved.sites["east"], attested=other)}
    assert not replace(proved, sites=sites).whole


def swapped(said: dict[str, Any]) -> None:
    letters = said["attestations"]
    letters["east"], letters["west"] = letters["west"], letters["east"]


def forged(said: dict[str, Any]) -> None:
    one = json.loads(said["attestations"]["east"])
    one["proof"]["index"] += 1
    said["attestations"]["east"] = json.dumps(one)


LIES: list[Lie] = [
    lambda said: said.update(format=2),
    lambda said: said.update(round=7),
    lambda said: said.update(round="x"),
    lambda said: said.update(roster_signature=b64encode(b"x").decode()),
    lambda said: said.update(job=said["job"].replace("IRB-1", "IRB-2")),
    lambda said: said["chain"].pop(),
    lambda said: said["chain"].pop(0),
    lambda said: said["chain"].pop(2),
    lambda said: said["chain"].clear(),
    lambda said: said["chain"][0]["sites"]["east"].update(cohort="d" * 64),
    lambda said: said["chain"][1]["sites"]["east"].update(update="d" * 64),
    lambda said: said["chain"][1]["sites"]["east"].update(examples=1000),
    lambda said: said["attestations"].update(lead="{}"),
    lambda said: said["attestations"].update(east="{}"),
    lambda said: said["attestations"].update(east="[]"),
    swapped,
    forged,
]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_out(whole: Whole, lie: Lie) -> None:
    said = dict(json.loads(whole.provenance(2)))
    lie(said)
    with pytest.raises(IntegrityError):
        verify(json.dumps(said).encode(), whole.weights(2), whole.authority)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_provenance_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify(data, {})


def test_an_update_that_a_site_did_not_sign_is_found_out(whole: Whole) -> None:
    """The server rewrites the whole chain, digests and all; it can't sign for a site."""
    chain = list(whole.chain)
    at = next(n for n, one in enumerate(chain) if one.kind == "round")
    of_west = {**chain[at].sites["east"], "attested": chain[at].sites["west"]["attested"]}
    chain[at] = replace(chain[at], sites={**chain[at].sites, "east": of_west})
    for number in range(at + 1, len(chain)):
        chain[number] = replace(chain[number], previous=chain[number - 1].digest)
    with pytest.raises(IntegrityError, match="didn't sign"):
        verify(document(whole.roster(), whole.signed, chain, 2, {}), whole.weights(2))


def test_an_update_of_a_site_that_never_joined_is_found_out(whole: Whole) -> None:
    """Nobody would know on which cohort it trained."""
    start, *rest = whole.chain
    chain = [replace(start, sites={name: said for name, said in start.sites.items() if name != "east"})]
    for one in rest:
        chain.append(replace(one, previous=chain[-1].digest))
    with pytest.raises(IntegrityError, match="never joined"):
        verify(document(whole.roster(), whole.signed, chain, 2, {}), whole.weights(2))


def test_a_forked_log_gets_no_cosignature_by_mail(whole: Whole, tmp_path: Path) -> None:
    east, west = whole.parties["east"], whole.parties["west"]
    fork = small_vault(tmp_path / "fork", "IRB-1")
    log, objects = fork.resources.log, fork.resources.objects
    kept = LocalObjects(tmp_path / "kept")
    office = Office("east", "heads", east.kit.keys.signing, log, objects, kept, east.office.peers)
    before = len(west.office.alarms)
    answers = west.office.receive([one for one in office.letters() if one.to == "west"])
    assert len(west.office.alarms) > before
    assert [one.status for one in answers] == [404]
    office.receive(answers)
    assert office.note(0) is None
    fork.close()


def test_a_witness_that_saw_more_raises_an_alarm(whole: Whole) -> None:
    office = whole.parties["north"].office
    office._request("west", 0)
    before = len(office.alarms)
    office.receive([Letter("west", "north", "answer", "100000\n", 409)])
    assert isinstance(office.alarms[before], RollbackDetected)


def test_letters_of_strangers_and_to_others_are_left_unread(whole: Whole) -> None:
    office = whole.parties["east"].office
    for letter in (
        Letter("nobody", "east", "request", "old 0\n\n"),
        Letter("west", "north", "request", "old 0\n\n"),
        Letter("west", "east", "answer", "old 0\n\n", 200),
    ):
        assert office.receive([letter]) == []


@pytest.mark.parametrize(
    "data", [b"", b"vvmail1\n", b"vvmail1\n{}", b'vvmail1\n[{"kind":"key"}]', b"vvmail1\n" + b"[" * 99_999]
)
def test_what_is_no_bag_is_refused(data: bytes) -> None:
    with pytest.raises(MessageRefused):
        unpack_letters(data)


def test_a_bag_is_packed_and_unpacked() -> None:
    letters = [Letter("a", "b", "answer", "x", 200), Letter("b", "c", "ask", "y")]
    assert unpack_letters(pack_letters(letters)) == letters
    assert unpack_letters(pack_letters([Letter("a", "b", "bomb", "x")])) == []

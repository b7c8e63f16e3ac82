from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

SAID = "id: heads\nname: Heads\nserver: {host: localhost}\nsites: [north, south]\n"


@pytest.fixture
def consortium(tmp_path: Path) -> Path:
    path = tmp_path / "consortium.yaml"
    path.write_text(SAID)
    return path


def test_keys_made_at_the_site_become_a_kit_with_the_authoritys_reply(
    consortium: Path, tmp_path: Path, run: Any
) -> None:
    out, kit, reply = tmp_path / "heads", tmp_path / "kit", tmp_path / "reply.json"
    assert run("federated", "provision", consortium, "--out", out).code == 0
    asked = json.loads(run("federated", "request", "heads", "north", "--kit", kit, "--json").out)
    digest = hashlib.sha256((kit / "request.json").read_bytes()).hexdigest()
    assert asked["fingerprint"].replace("-", "") == digest[:32]
    place = ("--authority", out / "authority", "--reply", reply)
    admitted = ("federated", "admit", kit / "request.json", *place)
    assert run(*admitted).code == 2
    another = run(*admitted, "--fingerprint", "0000-1111")
    assert "another fingerprint" in another.err
    assert not reply.exists()
    told = asked["fingerprint"].upper().replace("-", " ")
    assert "nothing in it is secret" in run(*admitted, "--fingerprint", told).out
    assert "complete" in run("federated", "accept", reply, "--kit", kit).out
    # Who comes with new keys replaces what was, and is told so.
    fresh = tmp_path / "fresh"
    asked = json.loads(run("federated", "request", "heads", "north", "--kit", fresh, "--json").out)
    anew = ("federated", "admit", fresh / "request.json", *place, "--fingerprint", asked["fingerprint"])
    said = run(*anew).out
    assert "its keys are new: 1 certificates of the ones before are revoked" in said
    assert "everybody needs the newest crl.pem, roster.sig and roster.json" in said
    server = tmp_path / "server"
    server.mkdir()
    revoked = run(
        "federated", "revoke", "north", "--authority", out / "authority", "--server-kit", server, "--json"
    )
    assert json.loads(revoked.out)["party"] == "north"
    assert {one.name for one in server.iterdir()} == {"roster.json", "roster.sig", "crl.pem"}


def test_whole_kits_for_a_trial(consortium: Path, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "trial"
    made = run("federated", "provision", consortium, "--out", out, "--whole-kits", "--json")
    assert set(json.loads(made.out)["kits"]) == {"server", "lead", "north", "south"}
    consortium.write_text(SAID.replace("south", "south, west"))
    again = run("federated", "provision", consortium, "--out", out)
    assert again.code != 0
    assert "has an authority already" in again.err
    amended = run("federated", "provision", consortium, "--out", out, "--amend")
    assert amended.code == 0
    assert "sites: north, south, west, before north, south" in amended.out
    assert "everybody needs the newest crl.pem" in amended.out


def test_a_refusal_is_one_line(tmp_path: Path, run: Any) -> None:
    (tmp_path / "request.json").write_text("{}")
    place = ("--authority", tmp_path, "--reply", tmp_path / "r", "--fingerprint", "0")
    refused = run("federated", "admit", tmp_path / "request.json", *place)
    assert refused.code != 0
    assert len(refused.err.strip().splitlines()) == 1


def test_status_and_stop_of_nothing(tmp_path: Path, run: Any) -> None:
    assert "nothing was started" in run("federated", "status", "--state", tmp_path).err
    assert "nothing was running" in run("federated", "stop", "--state", tmp_path).out


def test_kits_of_another_role_are_refused(consortium: Path, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "trial"
    run("federated", "provision", consortium, "--out", out, "--whole-kits")
    serve = run("federated", "serve", "--kit", out / "north", "--state", tmp_path / "state")
    assert "not the server's" in serve.err

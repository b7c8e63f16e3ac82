"""Witnesses over real HTTP on loopback, and the verbs."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import voxelvault
from voxelvault.audit.checkpoint import NoteKey
from voxelvault.audit.cosignature import WitnessKey, cosigned
from voxelvault.audit.witness import BODY_LIMIT, Witness, origin_hash
from voxelvault.interfaces.witness_http import witness_app
from voxelvault.storage.objects import LocalObjects


class Served:
    """A witness behind a real server."""

    def __init__(self, place: Path, name: str, log: NoteKey) -> None:
        signer = Ed25519PrivateKey.generate()
        self.key = WitnessKey(name, signer.public_key().public_bytes_raw())
        app = witness_app(Witness(self.key, signer.sign, [log], LocalObjects(place)))
        # No logging configuration of uvicorn's: it closes every handler of the process, with their streams.
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def key(filled: Path, run: Any) -> NoteKey:
    return NoteKey.parse(run("--vault", filled, "audit", "checkpoint", "--json").json["log_public_key"])


@pytest.fixture
def witnesses(tmp_path: Path, key: NoteKey) -> Iterator[list[Served]]:
    served = [Served(tmp_path / name, f"{name}.example", key) for name in ("b", "c")]
    yield served
    for one in served:
        one.stop()


@pytest.fixture
def policy(tmp_path: Path, witnesses: list[Served]) -> Path:
    lines = [f"witness W{number} {one.key} {one.url}" for number, one in enumerate(witnesses)]
    lines += ["group both all W0 W1", "quorum both"]
    place = tmp_path / "policy.txt"
    place.write_text("\n".join([*lines, ""]))
    return place


def test_a_vault_is_cosigned_and_verified(
    run: Any, filled: Path, policy: Path, witnesses: list[Served], key: NoteKey
) -> None:
    unwitnessed = run("--vault", filled, "audit", "verify", "--policy", policy)
    assert (unwitnessed.code, "attests nothing" in unwitnessed.err) == (1, True)
    done = run("--vault", filled, "audit", "cosign", "--policy", policy, "--json")
    assert done.code == 0
    assert done.json["enough"]
    assert {one["size"] for one in done.json["attested"].values()} == {done.json["size"]}
    verified = run("--vault", filled, "audit", "verify", "--policy", policy)
    assert verified.code == 0
    assert "nobody could have rewritten" in verified.out
    status, kind, note = witnesses[0].ask("GET", f"/{origin_hash(key.name)}/checkpoint")
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    assert cosigned(note.decode(), [witnesses[0].key]).keys() == {witnesses[0].key}


def test_a_witness_that_is_down_leaves_the_quorum_open(
    run: Any, filled: Path, policy: Path, witnesses: list[Served]
) -> None:
    witnesses[1].stop()
    done = run("--vault", filled, "audit", "cosign", "--policy", policy)
    assert done.code == 3
    assert "W1: a witness doesn't answer" in done.out


def test_what_http_brings_is_bounded(witnesses: list[Served]) -> None:
    one = witnesses[0]
    assert one.ask("POST", "/add-checkpoint", b"x" * (BODY_LIMIT + 1))[0] == 413
    assert one.ask("POST", "/add-checkpoint", b"")[0] == 400
    assert one.ask("GET", "/add-checkpoint")[0] == 405
    assert one.ask("GET", "/../b/witness.key/checkpoint")[0] == 404
    assert one.ask("GET", f"/{'0' * 64}/checkpoint")[0] == 404


def test_a_size_has_the_type_of_the_specification(
    run: Any, filled: Path, policy: Path, witnesses: list[Served]
) -> None:
    run("--vault", filled, "audit", "cosign", "--policy", policy)
    with voxelvault.open(filled) as vault:
        note = vault.audit.checkpoint()
        body = f"old 0\n\n{note}".encode()
        status, kind, size = witnesses[0].ask("POST", "/add-checkpoint", body)
    assert (status, kind) == (409, "text/x.tlog.size")
    assert int(size) > 0


def test_the_verb_serves_a_witness(tmp_path: Path, run: Any, filled: Path, key: NoteKey) -> None:
    logs = tmp_path / "logs.txt"
    logs.write_text(f"log {key}\nquorum none\n")
    state = tmp_path / "witness"
    command = [
        *(sys.executable, "-c", "from voxelvault.interfaces.cli import main; main()"),
        *("audit", "witness", str(state), "--name", "w.example/w"),
        *("--policy", str(logs), "--port", "0"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert WitnessKey.parse(line.split()[2]).name == "w.example/w"
        assert (state / "witness.key").stat().st_mode & 0o777 == 0o600
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("name", ["a b", "a+b"])
def test_a_witness_needs_a_plain_name(tmp_path: Path, run: Any, name: str) -> None:
    logs = tmp_path / "logs.txt"
    logs.write_text("quorum none\n")
    assert run("audit", "witness", tmp_path / "w", "--name", name, "--policy", logs).code == 2

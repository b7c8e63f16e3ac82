from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from gate_support import Running

from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.gate import haproxy
from voxelvault_fl.gate.configuration import (
    FLEET_CALLS,
    FROM_ONE_ADDRESS,
    LARGEST_BODY,
    connector_configuration,
)
from voxelvault_fl.gate.running import connections, let_in, replace_revoked, shut_out, write_connector
from voxelvault_fl.processes.contact import Contact
from voxelvault_fl.processes.local_tls import make_local_tls
from voxelvault_fl.processes.ports import free_port, listens
from voxelvault_fl.processes.supervisor import end
from voxelvault_fl.provisioning.authority import deliver, revoke

PULL = "/v1/fleet/pull-messages"


def test_a_site_with_its_certificate_and_its_key_reaches_the_fleet_api(running: Running) -> None:
    with running.client("north") as north:
        for call in FLEET_CALLS:
            answer = north.post(f"/v1/fleet/{call}", content=b"x", headers=running.key("north"))
            assert (answer.status_code, answer.text) == (200, f"/v1/fleet/{call}")


def test_a_certificate_with_the_key_of_another_site_is_refused(running: Running) -> None:
    with running.client("north") as north:
        assert north.post(PULL, content=b"x", headers=running.key("south")).status_code == 403
        assert north.post(PULL, content=b"x").status_code == 403
        both = [*running.key("north").items(), *running.key("south").items()]
        assert north.post(PULL, content=b"x", headers=both).status_code == 403
    assert running.arrived == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/pull-messages/",
        "/V1/FLEET/pull-messages",
        "//v1/fleet/pull-messages",
        "/v1/fleet/%70ull-messages",
        "/docs",
        "/",
    ],
)
def test_nothing_but_the_fleet_api_is_behind_it(running: Running, path: str) -> None:
    with running.client("north") as north:
        request = north.build_request("POST", PULL, content=b"x", headers=running.key("north"))
        request.url = request.url.copy_with(raw_path=path.encode())
        assert north.send(request).status_code == 404
        assert north.get(PULL, headers=running.key("north")).status_code == 405
    assert running.arrived == []


def test_a_body_that_is_too_large_or_of_no_known_size_is_refused(running: Running) -> None:
    with running.client("north") as north:
        fits = north.post(PULL, content=bytes(LARGEST_BODY), headers=running.key("north"))
        assert fits.status_code == 200
        # The gate closes while the body is still coming, and TCP may lose the answer with that.
        with suppress(httpx.RemoteProtocolError, httpx.ReadError):
            large = north.post(PULL, content=bytes(LARGEST_BODY + 1), headers=running.key("north"))
            assert large.status_code == 413
    with running.client("north") as north:
        unsized = north.post(PULL, content=iter([b"x"]), headers=running.key("north"))
        assert unsized.status_code == 411
    assert running.arrived == [PULL]


def test_without_a_certificate_of_a_site_nobody_comes_in(running: Running) -> None:
    for context in (_anonymous(running), _self_signed(running)):
        with pytest.raises(httpx.TransportError), _with(running, context) as stranger:
            stranger.post(PULL, content=b"x", headers=running.key("north"))
    # The lead's certificate is from the authority, but no site's.
    with pytest.raises(httpx.TransportError), running.client("lead") as lead:
        lead.post(PULL, content=b"x", headers=running.key("lead"))
    assert running.arrived == []


def test_the_revoked_is_out_at_once_and_its_open_connections_end(own_gate: Running) -> None:
    with own_gate.client("north") as north, own_gate.client("south") as south:
        assert north.post(PULL, content=b"x", headers=own_gate.key("north")).status_code == 200
        assert south.post(PULL, content=b"x", headers=own_gate.key("south")).status_code == 200
        with _open(own_gate, "north") as idle:
            assert connections(own_gate.gate, "north") == 2
            roster = revoke(own_gate.authority, "north", datetime.now(UTC))
            started = time.monotonic()
            replace_revoked(own_gate.gate, own_gate.authority.revocation_list())
            shut_out(own_gate.gate, roster.revoked[0], "north")
            assert idle.recv(1) == b""
            assert time.monotonic() - started < 1
        assert connections(own_gate.gate, "north") == 0
        with pytest.raises(httpx.TransportError):
            north.post(PULL, content=b"x", headers=own_gate.key("north"))
        assert south.post(PULL, content=b"x", headers=own_gate.key("south")).status_code == 200
    assert own_gate.arrived == [PULL] * 3


def test_the_list_of_the_revoked_alone_refuses_in_the_handshake(own_gate: Running) -> None:
    revoke(own_gate.authority, "north", datetime.now(UTC))
    replace_revoked(own_gate.gate, own_gate.authority.revocation_list())
    with pytest.raises(httpx.TransportError, match="revoked"), own_gate.client("north") as north:
        north.post(PULL, content=b"x", headers=own_gate.key("north"))


def test_a_gate_that_does_not_do_what_it_is_told_says_so(running: Running) -> None:
    """Or a revocation would be noted that shut nobody out."""
    elsewhere = replace(running.gate, folder=running.gate.folder / "other")
    with pytest.raises(ProcessFailed, match="does not do"):
        shut_out(elsewhere, "00", "north")
    with pytest.raises(ProcessFailed, match="does not do"):
        let_in(elsewhere, "00", "north")


def test_one_address_takes_only_so_many_connections(own_gate: Running) -> None:
    with ExitStack() as opened:
        taken, reset = [], 0
        for _ in range(FROM_ONE_ADDRESS + 1):
            # Threads of the gate take them in any order: which of the last ones is closed isn't known.
            try:
                taken.append(opened.enter_context(_plain(own_gate)))
            except ConnectionResetError:
                reset += 1
        closed, _, _ = select.select(taken, [], [], 0 if reset else 30)
        assert 1 <= reset + len(closed) < 8


def test_a_connector_believes_no_revoked_server(own_gate: Running, tmp_path: Path) -> None:
    for told in ("before", "after"):
        inward = free_port()
        local = make_local_tls(tmp_path / told, datetime.now(UTC))
        written = write_connector(own_gate.kits["north"], tmp_path / told, local.both, inward)
        process = subprocess.Popen(haproxy.command(written), start_new_session=True)
        try:
            with _through(inward, local.authority) as way:
                if told == "before":
                    assert way.post(PULL, content=b"x", headers=own_gate.key("north")).status_code == 200
                else:
                    with pytest.raises(httpx.TransportError):
                        way.post(PULL, content=b"x", headers=own_gate.key("north"))
        finally:
            end(process)
        if told == "before":
            revoke(own_gate.authority, "server", datetime.now(UTC))
            deliver(own_gate.authority, own_gate.kits["north"].path)


@pytest.mark.parametrize(
    ("party", "somewhere", "why"),
    [("north", True, "not-reached"), ("lead", False, "not-admitted"), ("north", False, "not-believed")],
)
def test_a_connectors_log_tells_why_nothing_came_back(
    running: Running, tmp_path: Path, party: str, somewhere: bool, why: str
) -> None:
    inward, kit = free_port(), running.kits[party]
    local = make_local_tls(tmp_path / "local", datetime.now(UTC))
    written = write_connector(kit, tmp_path / "connector", local.both, inward)
    said = written.read_text()
    if somewhere:
        said = said.replace(f"localhost:{running.gate.port}", f"localhost:{free_port()}")
    if why == "not-believed":
        said = said.replace(str(kit.file("ca.pem")), str(local.authority)).replace(
            f"crl-file {kit.file('crl.pem')}", ""
        )
    written.write_text(said)
    (tmp_path / "log").mkdir()
    with (tmp_path / "log" / "connector.log").open("wb") as log:
        process = subprocess.Popen(haproxy.command(written), stdout=log, stderr=log, start_new_session=True)
    try:
        with _through(inward, local.authority) as way, pytest.raises(httpx.TransportError) as failed:
            way.post(PULL, content=b"x", headers=running.key("north"))
        contact = Contact(tmp_path)
        contact.heard("no-connection")
        until = time.monotonic() + 5
        while contact.standing()["why"] != why and time.monotonic() < until:
            time.sleep(0.02)
        assert contact.standing()["why"] == why, failed
    finally:
        end(process)


def test_a_connector_does_not_start_without_its_servers_address(running: Running, tmp_path: Path) -> None:
    kit = running.kits["north"].path
    local = make_local_tls(tmp_path, datetime.now(UTC))
    (tmp_path / "client.pem").write_bytes((kit / "tls.pem").read_bytes() + (kit / "tls.key").read_bytes())
    said = connector_configuration(kit, tmp_path, "nowhere.invalid", 8443, local.both, free_port())
    (tmp_path / "haproxy.cfg").write_text(said)
    with pytest.raises(ProcessFailed, match="name resolve"):
        haproxy.command(tmp_path / "haproxy.cfg")


def _plain(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.gate.port), timeout=30)


def _through(port: int, authority: Path) -> httpx.Client:
    until = time.monotonic() + 10
    while not listens(port)():
        assert time.monotonic() < until
        time.sleep(0.02)
    context = ssl.create_default_context(cafile=str(authority))
    return httpx.Client(base_url=f"https://localhost:{port}", verify=context, trust_env=False, timeout=10)


def test_a_gate_that_is_gone_says_so(running: Running) -> None:
    gone = replace(running.gate, sockets=running.gate.folder)
    with pytest.raises(ProcessFailed, match="does not answer"):
        shut_out(gone, "00", "north")


def test_a_missing_or_unhappy_haproxy_says_what_to_do(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = running.gate.folder / "broken.cfg"
    broken.write_text("frontend of nothing\n")
    with pytest.raises(ProcessFailed, match="refuses its configuration"):
        haproxy.command(broken)
    monkeypatch.setattr(shutil, "which", lambda *said, **more: None)
    with pytest.raises(ProcessFailed, match="apt-get install haproxy"):
        haproxy.haproxy()


def _open(running: Running, party: str) -> ssl.SSLSocket:
    folder = running.kits[party].path
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    plain = socket.create_connection(("127.0.0.1", running.gate.port), timeout=5)
    made = context.wrap_socket(plain, server_hostname="localhost")
    until = time.monotonic() + 5
    while connections(running.gate, party) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    return made


def _anonymous(running: Running) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(running.kits["north"].path / "ca.pem"))


def _self_signed(running: Running) -> ssl.SSLContext:
    made = running.gate.folder / "own"
    made.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/O=heads/CN=north", "-keyout", str(made / "key"), "-out", str(made / "pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    context = _anonymous(running)
    context.load_cert_chain(made / "pem", made / "key")
    return context


def _with(running: Running, context: ssl.SSLContext) -> httpx.Client:
    address = f"https://localhost:{running.gate.port}"
    return httpx.Client(base_url=address, verify=context, trust_env=False, timeout=10)

"""What was broken in plain Flower, and what happens here: real processes, TLS, loopback."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from federation import LEASE, Federation, alive, mean_after, until
from flwr.superlink.grid import http_grid
from toy_answering import PATIENT, TARGETS

from voxelvault.interfaces.cli.app import main
from voxelvault_fl.processes import flower
from voxelvault_fl.processes.bundle import Bundle, packed
from voxelvault_fl.processes.contact import QUIET, Contact
from voxelvault_fl.processes.environment import quiet
from voxelvault_fl.processes.ports import free_port
from voxelvault_fl.processes.tasks import Runtime
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.transport import Fault
from voxelvault_fl.server import superlink
from voxelvault_fl.server.flower_sites import FlowerSites
from voxelvault_fl.server.superlink import SuperLink

ALL = tuple(TARGETS)
pytestmark = pytest.mark.timeout(900)

EXPECTED = {
    2: ("nan", "finite"),
    3: ("shape", "shape"),
    4: ("keys", "keys"),
    5: ("huge", "norm"),
    6: ("raise", "failed"),
    7: ("escape", "failed"),
    8: ("full", "no-room"),
    9: ("replay", "replayed"),
    10: ("garbage", "malformed"),
}
COUNT = 11
"""The round in which a site says that it trained on a million million people."""


def _invoke(*arguments: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["federated", *arguments]) == 0
    return out.getvalue()


def test_what_a_site_does_wrong_is_set_aside_and_the_run_goes_on(heads: Federation) -> None:
    wrong = {str(number): said for number, (said, _) in EXPECTED.items()}
    heads.behave("west", {**wrong, str(COUNT): "count"})
    job = heads.submit(rounds=COUNT)
    assert heads.outcome(job, 600)["status"] == "finished"
    heads.behave("west", {})
    rounds = {one.round: one for one in heads.records(job) if one.kind == "round"}
    assert {number: dict(one.aside) for number, one in rounds.items()} == {
        1: {},
        **{number: {"west": rule} for number, (_, rule) in EXPECTED.items()},
        COUNT: {},
    }
    without = mean_after(9, "north", "south", start=mean_after(1, *ALL))
    # Whatever it says, it weighs as much as the cohort that it registered.
    np.testing.assert_allclose(heads.model(job)["b"], mean_after(1, *ALL, start=without), rtol=1e-5)


def test_no_text_of_an_exception_leaves_the_site(heads: Federation) -> None:
    assert PATIENT in (heads.state("west") / "log" / "detail.log").read_text()
    assert PATIENT.split()[0].encode() not in heads.on_the_server()


def test_a_run_in_which_every_site_fails_is_not_told_as_a_success(heads: Federation) -> None:
    for name in ALL:
        heads.behave(name, {"*": "raise"})
    job = heads.submit(rounds=1)
    until(lambda: [one for one in heads.records(job) if one.kind == "attempt"])
    assert not heads.folder.outcome(job)
    for name in ALL:
        heads.behave(name, {})
    heads.outcome(job)
    np.testing.assert_allclose(heads.model(job)["b"], mean_after(1, *ALL), rtol=1e-6)


@contextmanager
def _superlink(heads: Federation) -> Iterator[SuperLink]:
    arguments = Path(f"/proc/{heads.pid('server', 'superlink')}/cmdline").read_text().split("\0")
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} < set(arguments)
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    port = arguments[arguments.index("--port") + 1]
    local = (heads.state("server") / "loopback" / "local-ca.pem").read_bytes()
    with closing(SuperLink(Runtime(f"127.0.0.1:{port}", heads.folder.secret.read_bytes(), local))) as made:
        yield made


def test_an_app_that_somebody_starts_on_the_server_runs_nowhere(
    heads: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = (
        b'[project]\nname = "theft"\nversion = "1.0.0"\ndescription = "d"\nlicense = "MIT"\n'
        b'dependencies = ["requests"]\n[tool.flwr.app]\npublisher = "p"\nfab-format-version = 0\n'
        b'[tool.flwr.app.components]\nserverapp = "s:app"\nclientapp = "c:app"\n'
    )
    theft = packed({"pyproject.toml": project, "c.py": b"app = 1", "s.py": b"app = 1"})
    monkeypatch.setattr(superlink, "bundle", lambda: Bundle(theft, hashlib.sha256(theft).hexdigest()))
    roster = heads.kit("server").roster
    with _superlink(heads) as link, link.run() as grid:
        sites = FlowerSites(grid, link.nodes, lambda: roster, 240)
        until(lambda: set(sites.ready()) == set(ALL))
        answers = sites.ask(1, {name: b"ship everything" for name in ALL})
    assert answers == dict.fromkeys(ALL, Fault("app-not-allowed"))
    # Nothing was unpacked or installed for it, at no site and not on the server.
    assert not list(heads.path.glob("states/*/flower/apps/**/c.py"))


def test_what_the_server_did_not_sign_is_not_answered(heads: Federation) -> None:
    roster = heads.kit("server").roster
    with _superlink(heads) as link, link.run() as grid:
        sites = FlowerSites(grid, link.nodes, lambda: roster, 240)
        assert sites.ask(1, {"north": b"train, please"}) == {"north": Fault("malformed")}


def test_a_message_whose_server_died_while_it_was_sent_holds_up_no_site(
    heads: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = heads.kit("server").roster
    with _superlink(heads) as link:
        with link.run() as grid, monkeypatch.context() as dying:
            dying.setattr(http_grid, "push_objects", lambda *given, **more: None)
            sites = FlowerSites(grid, link.nodes, lambda: roster, 4)
            until(lambda: set(sites.ready()) == set(ALL))
            assert all(isinstance(one, Fault) for one in sites.ask(1, dict.fromkeys(ALL, b"half a")).values())
        with link.run() as grid:
            sites = FlowerSites(grid, link.nodes, lambda: roster, 60)
            assert sites.ask(1, dict.fromkeys(ALL, b"x")) == dict.fromkeys(ALL, Fault("malformed"))


def test_an_outsider_with_the_authoritys_certificate_gets_no_answer(heads: Federation) -> None:
    context = ssl.create_default_context(cafile=str(heads.path / "kits" / "north" / "ca.pem"))
    address = f"https://localhost:{heads.port}/v1/fleet/register-node"
    with httpx.Client(verify=context, trust_env=False) as outsider, pytest.raises(httpx.TransportError):
        outsider.post(address, content=b"x")
    context.load_cert_chain(
        heads.path / "kits" / "north" / "tls.pem", heads.path / "kits" / "north" / "tls.key"
    )
    with httpx.Client(verify=context, trust_env=False) as site:
        assert site.post(address, content=b"x").status_code == 404
        control = site.post(f"https://localhost:{heads.port}/v1/control/start-run", content=b"x")
        assert control.status_code == 404
    with _superlink(heads) as link:
        assert len(link.nodes()) == len(ALL)


def test_a_kit_that_takes_part_already_is_not_signed_on_again(heads: Federation, tmp_path: Path) -> None:
    again = Path(f"/proc/{heads.pid('north', 'supernode')}/cmdline").read_text().split("\0")[:-1]
    again[again.index(flower.__name__) + 1] = str(tmp_path)
    again[again.index("--port") + 1] = str(free_port())
    subprocess.run(again, env=quiet(tmp_path), timeout=120, capture_output=True, check=False)
    later = Contact(tmp_path, lambda: datetime.now(UTC) + QUIET + timedelta(seconds=1))
    assert later.standing()["why"] == "not-signed-on"
    assert "north" in _signed_on(heads)


def test_a_supernode_that_is_killed_comes_back_after_its_lease_and_rounds_go_on(heads: Federation) -> None:
    heads.behave("west", {"2": "slow"})
    job = heads.submit(rounds=3)
    heads.round_of(job, 1)
    pid = heads.pid("west", "supernode")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert dict(heads.round_of(job, 2).aside)["west"] in ("disconnected", "timeout")
    heads.behave("west", {})
    assert heads.outcome(job, 600)["status"] == "finished"
    until(lambda: heads.pid("west", "supernode") not in (None, pid))
    assert time.monotonic() - killed > LEASE
    until(lambda: "west" in _signed_on(heads))
    again = heads.submit(rounds=1)
    heads.outcome(again)
    assert sorted(heads.round_of(again, 1).sites) == sorted(ALL)


def _rounds(heads: Federation, job: str) -> list[Record]:
    return [one for one in heads.records(job) if one.kind == "round"]


def _signed_on(heads: Federation) -> list[str]:
    names = {site.node_key: site.name for site in heads.kit("server").roster.sites()}
    with _superlink(heads) as link:
        return [names[key] for key, node in link.nodes().items() if node.online]


def test_a_server_that_is_killed_goes_on_from_its_last_round(heads: Federation) -> None:
    job = heads.submit(rounds=4)
    heads.round_of(job, 2)
    children = [heads.pid("server", name) for name in ("superlink", "gate", "runner")]
    heads.kill("server")
    until(lambda: not any(alive(pid) for pid in children if pid))
    reached = len(_rounds(heads, job))
    heads.serve()
    heads.running("server")
    assert heads.outcome(job, 600)["status"] == "finished"
    assert [one.round for one in _rounds(heads, job)] == [1, 2, 3, 4]
    assert reached < 4


def test_a_site_stops_at_any_time_and_comes_back(heads: Federation) -> None:
    job = heads.submit(rounds=3)
    heads.round_of(job, 1)
    programs = [heads.pid("west", name) for name in ("connector", "supernode", "executor")]
    assert "nothing leaves" in _invoke("stop", "--state", str(heads.state("west")))
    assert not any(alive(pid) for pid in programs if pid)
    assert "not running" in _invoke("status", "--state", str(heads.state("west")))
    heads.processes["west"].wait(10)
    heads.join("west")
    heads.running("west")
    assert heads.outcome(job, 600)["status"] == "finished"


def test_status_shows_who_is_connected(heads: Federation) -> None:
    said = _invoke("status", "--state", str(heads.state("server")))
    assert "server of heads: running" in said
    assert "calls to elsewhere: 0" in said


def test_a_revoked_site_is_out_within_a_second_in_the_middle_of_a_run(heads: Federation) -> None:
    until(lambda: set(_signed_on(heads)) == set(ALL))
    heads.behave("west", {"2": "slow"})
    job = heads.submit(rounds=2)
    heads.trains(job, "west", 2)
    until(lambda: heads.about("server")["sites"]["west"]["connections"])
    authority, kit = heads.path / "kits" / "authority", heads.path / "kits" / "server"
    _invoke("revoke", "west", "--authority", str(authority), "--server-kit", str(kit))
    started = time.monotonic()
    until(lambda: "shut-out" in heads.events("server"), 20)
    assert heads.outcome(job)["status"] == "finished"
    assert time.monotonic() - started < 35
    assert dict(heads.round_of(job, 2).aside) == {"west": "revoked"}
    assert "west" not in heads.about("server")["sites"]


def test_no_process_called_anywhere_but_the_configured_server(heads: Federation) -> None:
    assert len(list(heads.path.glob("states/*/log/calls-elsewhere"))) == 1 + len(ALL)
    assert heads.calls_elsewhere() == []

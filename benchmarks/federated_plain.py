"""Plain Flower as one deploys it: a SuperLink with TLS and registered SuperNodes, no gate, no rules."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from benchmarks.federated_parts import SITES
from voxelvault_fl.processes import flower
from voxelvault_fl.processes.environment import quiet
from voxelvault_fl.processes.local_tls import LocalTls, make_local_tls
from voxelvault_fl.processes.ports import LOOPBACK, free_port, listens
from voxelvault_fl.processes.supervisor import end
from voxelvault_fl.provisioning.keys import make_keys, node_text, write_keys

_PROJECT = """\
[project]
name = "plain"
version = "1.0.0"
description = "What is measured."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "benchmarks"
fab-format-version = 0

[tool.flwr.app.components]
serverapp = "plain:server"
clientapp = "plain:client"

[tool.flwr.app.config]
task = "numpy"
rounds = 3
told = ""
quick = false
"""
_APP = """\
from benchmarks import federated_app

client = federated_app.client
server = federated_app.server
"""

T = TypeVar("T")


@dataclass
class Plain:
    """A federation of plain Flower that runs.

    Parameters
    ----------
    folder : Path
        Of everything.
    warm : bool
        ClientApps are kept in a process each, and nobody rests longer than in ours: what is left is what
        our layer costs. Otherwise as Flower comes: a process a message.
    """

    folder: Path
    warm: bool

    def run(self, task: str, rounds: int) -> list[float]:
        """Run an app and return when each round's updates were joined, seconds."""
        told = self.folder / f"{task}.told"
        told.unlink(missing_ok=True)
        said = f'task="{task}" rounds={rounds} told="{told}" quick={str(self.warm).lower()}'
        self._flwr("run", str(self.folder / "app"), "plain", "-c", said)
        until(lambda: told.exists() and told.read_text().endswith("end\n"))
        return [float(line) for line in told.read_text().splitlines()[:-1]]

    def _flwr(self, *said: str) -> None:
        command, own = [program("flwr"), *said], environment(self.folder)
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)


@contextmanager
def plain(folder: Path, warm: bool) -> Iterator[Plain]:
    """Run a SuperLink and three SuperNodes."""
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "pyproject.toml").write_text(_PROJECT)
    (folder / "app" / "plain.py").write_text(_APP)
    local, port = make_local_tls(folder / "tls", datetime.now(UTC)), free_port()
    home = folder / "flower"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "plain"\n\n[superlink.plain]\naddress = "{LOOPBACK}:{port}"\n'
        f'root-certificates = "{local.authority}"\n'
    )
    processes = [start(folder, "superlink", _superlink(folder, port, local))]
    try:
        until(listens(port))
        with _control(port, local) as control:
            for site in SITES:
                processes += _join(folder, site, port, local, control, warm)
            until(lambda: _online(control) == len(SITES))
        yield Plain(folder, warm)
    finally:
        for one in reversed(processes):
            end(one)


def _superlink(folder: Path, port: int, local: LocalTls) -> list[str]:
    return [
        program("flower-superlink"), "--host", LOOPBACK, "--port", str(port),
        "--ssl-ca-certfile", str(local.authority), "--ssl-certfile", str(local.certificate),
        "--ssl-keyfile", str(local.key), "--enable-supernode-auth",
        "--disable-runtime-dependency-installation", "--database", str(folder / "state.db"),
    ]  # fmt: skip


def _join(
    folder: Path, site: str, port: int, local: LocalTls, control: ControlHttpClient, warm: bool
) -> list[subprocess.Popen[bytes]]:
    keys, place, runtime = make_keys(), folder / site, free_port()
    write_keys(keys, place)
    public = node_text(keys.node.public_key())
    control.RegisterNode(RegisterNodeRequest(public_key=public.encode(), name=site))
    options = [
        "--superlink", f"{LOOPBACK}:{port}", "--root-certificates", str(local.authority),
        "--auth-supernode-private-key", str(place / "node.key"), "--node-config", f'site="{site}"',
        "--host", LOOPBACK, "--port", str(runtime),
    ]  # fmt: skip
    if not warm:
        return [start(folder, site, [program("flower-supernode"), *options])]
    secret = place / "secret"
    secret.write_bytes(secrets.token_bytes(32))
    options += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    node = start(folder, site, flower.command(folder, 60.0, "supernode", *options))
    until(listens(runtime))
    app = [sys.executable, "-m", "benchmarks.federated_app", str(runtime), str(secret)]
    return [node, start(folder, f"{site}-app", app)]


@contextmanager
def _control(port: int, local: LocalTls) -> Iterator[ControlHttpClient]:
    version = RuntimeVersionHttpInterceptor(component_name="flwr")
    authority = local.authority.read_bytes()
    control = ControlHttpClient.from_server_address(f"{LOOPBACK}:{port}", False, authority, [version])
    try:
        yield control
    finally:
        control.close()


def _online(control: ControlHttpClient) -> int:
    return sum(one.status == "online" for one in control.ListNodes(ListNodesRequest()).nodes_info)


def start(folder: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process whose output goes into a file."""
    with (folder / f"{name}.log").open("ab") as out:
        return subprocess.Popen(
            command, stdout=out, stderr=out, env=environment(folder), start_new_session=True
        )


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a child: quiet, and with this repository's benchmarks to import."""
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**quiet(folder), "PYTHONPATH": path, "PATH": found}


def program(name: str) -> str:
    """Return one of Flower's programs."""
    found = shutil.which(name, path=environment(Path())["PATH"])
    if found is None:
        raise RuntimeError(f"{name} isn't installed: pip install 'voxelvault[federated]'")
    return found


def until(fact: Callable[[], T], patience: float = 900.0) -> T:
    """Wait for a fact and return it."""
    last = time.monotonic() + patience
    while not (found := fact()):
        if time.monotonic() > last:
            raise RuntimeError("a federation doesn't start or doesn't end; see its logs")
        time.sleep(0.2)
    return found

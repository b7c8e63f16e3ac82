from __future__ import annotations

import ssl
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.gate.configuration import Gate
from voxelvault_fl.gate.haproxy import command
from voxelvault_fl.gate.running import write_gate
from voxelvault_fl.processes.local_tls import make_local_tls
from voxelvault_fl.processes.ports import free_port, listens
from voxelvault_fl.processes.supervisor import end
from voxelvault_fl.provisioning.authority import Authority
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.trial import provision


@dataclass
class Running:
    """A gate before something that answers every POST with its path, and the kits of its consortium."""

    gate: Gate
    kits: dict[str, Kit]
    authority: Authority
    arrived: list[str] = field(default_factory=list)

    def client(self, party: str) -> httpx.Client:
        folder = self.kits[party].path
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        return httpx.Client(
            base_url=f"https://localhost:{self.gate.port}", verify=context, trust_env=False, timeout=10
        )

    def key(self, party: str) -> dict[str, str]:
        return {"flwr-public-key": b64encode(self.kits[party].entry.node_key.encode()).decode()}


@contextmanager
def gate_before_an_echo(tmp_path: Path) -> Iterator[Running]:
    now = datetime.now(UTC)
    port, inner = free_port(), free_port()
    said = {
        "id": "heads",
        "name": "Heads",
        "server": {"host": "localhost", "port": port},
        "sites": ["north", "south"],
    }
    authority = provision(consortium_of(said), tmp_path / "kits", now)
    kits = {name: read_kit(tmp_path / "kits" / name) for name in ("server", "lead", "north", "south")}
    local = make_local_tls(tmp_path / "local", now)
    with tempfile.TemporaryDirectory(prefix="vv-") as sockets:
        gate = Gate(
            tmp_path / "gate", Path(sockets), kits["server"].path, "127.0.0.1", port, inner, local.authority
        )
        made = Running(gate, kits, authority)
        server = _echo(made, inner, local.certificate, local.key)
        written = write_gate(gate, kits["server"].roster.sites())
        with (tmp_path / "gate.log").open("wb") as log:
            process = subprocess.Popen(command(written), stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(port)
            yield made
        finally:
            end(process)
            server.shutdown()
            server.server_close()


def _wait(port: int) -> None:
    until = time.monotonic() + 10
    while not listens(port)():
        assert time.monotonic() < until
        time.sleep(0.02)


def _echo(made: Running, port: int, certificate: Path, key: Path) -> ThreadingHTTPServer:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            made.arrived.append(self.path)
            self.send_response(200)
            self.send_header("content-length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server

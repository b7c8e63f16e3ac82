"""`federated serve`: SuperLink on loopback, the gate before it, the runner behind it."""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxelvault_fl.errors import KitRefused, ProcessFailed
from voxelvault_fl.gate import haproxy
from voxelvault_fl.gate.configuration import Gate
from voxelvault_fl.gate.running import connections, let_in, replace_revoked, shut_out, write_gate
from voxelvault_fl.processes import flower
from voxelvault_fl.processes.environment import quiet
from voxelvault_fl.processes.lifetime import Ending, alone, every, lines, note, tell
from voxelvault_fl.processes.local_tls import LocalTls, make_local_tls
from voxelvault_fl.processes.ports import LOOPBACK, free_port, listens, require_free
from voxelvault_fl.processes.supervisor import Program, Supervisor
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.provisioning.roster import Roster
from voxelvault_fl.server.admission import Admitted, Change, admitted, change, doors
from voxelvault_fl.server.folder import ServerFolder

_TICK = 0.1


@dataclass(frozen=True)
class Settings:
    """How a server serves.

    Parameters
    ----------
    kit, state : Path
        The server's kit; the folder where it keeps what it does.
    listen : str
        Address at which the gate listens; the port is the consortium's.
    patience : float
        Seconds that a site has for an answer in a round.
    """

    kit: Path
    state: Path
    listen: str = "0.0.0.0"  # noqa: S104 - the gate is the one thing that faces the network
    patience: float = 3600.0


def superlink_options(port: int, local: LocalTls, folder: ServerFolder) -> list[str]:
    """Return the options without which the promises don't hold; `SuperLink.check` tries two of them out."""
    return [
        "--host", LOOPBACK, "--port", str(port),
        "--ssl-ca-certfile", str(local.authority),
        "--ssl-certfile", str(local.certificate),
        "--ssl-keyfile", str(local.key),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        "--isolation", "process",
        "--superexec-auth-secret-file", str(folder.secret),
        "--database", str(folder.path / "superlink.db"),
    ]  # fmt: skip


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises
    ------
    KitRefused, ProcessFailed
        The kit is not a server's, or its roster older than one that was seen; another process has the
        folder, the port is taken, or a program does not start.
    """
    kit = read_kit(settings.kit)
    if kit.role != "server":
        raise KitRefused("this kit is not the server's; `federated site` takes a site's")
    ending = Ending()
    with alone(settings.state), tempfile.TemporaryDirectory(prefix="vv-") as sockets:
        newest = NewestKit(kit, settings.state, lambda why: note(settings.state, "roster-not-taken", why=why))
        for warning in newest.warnings(datetime.now(UTC)):
            say(warning)
        require_free(settings.listen, kit.consortium.server.port)
        served = _Served(settings, newest, Path(sockets))
        say(f"starting the server of {kit.consortium.id}")
        try:
            served.start()
            say(f"serving {kit.consortium.id} at {settings.listen}:{kit.consortium.server.port}")
            while not ending.came:
                served.tick()
                time.sleep(_TICK)
        finally:
            served.stop()


@dataclass
class _Served:
    settings: Settings
    newest: NewestKit
    sockets: Path
    _inside: Admitted = field(default_factory=dict)
    _doors: dict[str, str] = field(default_factory=dict)
    _seen: tuple[Roster, int] | None = None

    def start(self) -> None:
        state, now, kit = self.settings.state, datetime.now(UTC), self.newest()
        self.folder = ServerFolder(state)
        about = {"role": "server", "consortium": kit.consortium.id}
        tell(self.folder.about, {**about, "running": False, "starting": True})
        write(self.folder.secret, secrets.token_bytes(32), private=True)
        self.folder.registered.unlink(missing_ok=True)
        local = make_local_tls(state / "loopback", now)
        port = free_port()
        self.gate = Gate(
            state / "gate", self.sockets, kit.path, self.settings.listen,
            kit.consortium.server.port, port, local.authority,
        )  # fmt: skip
        self._open_gate(kit.roster, now)
        self._kept = Supervisor(self._programs(port, local, kit.path), state, quiet(state))
        self._kept.start()
        self._tell = every(1.0, self._about)
        note(state, "started")

    def tick(self) -> None:
        """Look after the processes and the roster."""
        self._kept.look_after()
        # Each minute too: certificates expire.
        seen = self.newest().roster, int(time.monotonic() // 60)
        if seen != self._seen:
            self._seen = seen
            self._follow(seen[0])
        self._tell()

    def stop(self) -> None:
        if hasattr(self, "_kept"):
            self._kept.stop()
            note(self.settings.state, "stopped")
            consortium = self.newest().consortium.id
            tell(self.folder.about, {"role": "server", "running": False, "consortium": consortium})

    def _programs(self, port: int, local: LocalTls, kit: Path) -> list[Program]:
        options = superlink_options(port, local, self.folder)
        runner = [sys.executable, "-m", "voxelvault_fl.server.runner", str(kit)]
        runner += [str(self.folder.path), str(port), str(local.authority), str(self.settings.patience)]
        here = LOOPBACK if self.settings.listen in ("0.0.0.0", "*") else self.settings.listen  # noqa: S104
        outside = listens(self.gate.port, here)
        return [
            Program(
                "superlink", flower.command(self.folder.path, 0, "superlink", *options), ready=listens(port)
            ),
            # A SuperNode that comes before it is registered gives up and waits for its lease.
            Program("runner", runner, ready=self.folder.registered.exists),
            Program("gate", haproxy.command(self.gate.folder / "haproxy.cfg"), ready=outside),
        ]

    def _open_gate(self, roster: Roster, now: datetime) -> None:
        self._inside, self._doors = admitted(roster, now), doors(roster)
        write_gate(self.gate, roster.sites())

    def _follow(self, roster: Roster) -> None:
        """Bring the gate up to the newest roster: shut out first, then let in."""
        now = datetime.now(UTC)
        todo = change(self._inside, self._doors, roster, now)
        if todo.out or todo.come or todo.anew:
            anew = not self._applied(todo)
            self._open_gate(roster, now)
            if anew:
                self._kept.restart("gate")

    def _applied(self, todo: Change) -> bool:
        """Tell a running gate what to do; False where it has to start again."""
        state = self.settings.state
        try:
            for certificate, site in todo.out.items():
                shut_out(self.gate, certificate, site)
                note(state, "shut-out", site=site)
            if todo.out:
                replace_revoked(self.gate, self.newest().file("crl.pem").read_bytes())
            for certificate, site in todo.come.items():
                note(state, "let-in", site=site)
                if not todo.anew:
                    let_in(self.gate, certificate, site)
        except ProcessFailed:
            # A gate that doesn't answer is down and lets nobody in; it comes back with the new files.
            return False
        return not todo.anew

    def _about(self) -> None:
        kit, sites = self.newest(), {}
        for site in kit.roster.sites():
            sites[site.name] = {"expires": site.expires, "connections": self._connections(site.name)}
        said: dict[str, Any] = {
            "role": "server",
            "running": True,
            "consortium": kit.consortium.id,
            "roster": kit.roster.serial,
            "sites": sites,
            "waiting": [one.name for one in self.folder.waiting()],
            "calls_elsewhere": lines(self.folder.calls),
            "warnings": list(self.newest.warnings(datetime.now(UTC))),
        }
        tell(self.folder.about, said)

    def _connections(self, site: str) -> int:
        try:
            return connections(self.gate, site)
        except ProcessFailed:
            return 0


__all__ = ["Settings", "serve", "superlink_options"]

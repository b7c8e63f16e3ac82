"""`federated site`: the connector, a SuperNode behind it, and the executor that answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxelvault_fl.errors import KitRefused, ProcessFailed
from voxelvault_fl.gate import haproxy
from voxelvault_fl.gate.running import write_connector
from voxelvault_fl.processes import flower
from voxelvault_fl.processes.contact import Contact
from voxelvault_fl.processes.environment import quiet
from voxelvault_fl.processes.lifetime import Ending, alone, every, lines, note, tell
from voxelvault_fl.processes.local_tls import LocalTls, make_local_tls
from voxelvault_fl.processes.outgoing import CALLS
from voxelvault_fl.processes.ports import LOOPBACK, free_port, listens
from voxelvault_fl.processes.supervisor import Program, Supervisor
from voxelvault_fl.provisioning.files import write
from voxelvault_fl.provisioning.kit import Kit, read_kit
from voxelvault_fl.provisioning.newest import NewestKit
from voxelvault_fl.site.health import Health

_TICK = 0.1
_MARGIN = 2.0
_LONGEST = 600.0


@dataclass(frozen=True)
class SiteFolder:
    """The state folder of a site."""

    path: Path

    @property
    def secret(self) -> Path:
        """What executor and SuperNode share: tasks are given to nobody else."""
        return self.path / "supernode.secret"

    @property
    def record(self) -> Path:
        """The site's own log of all runs, and what it cosigned of others."""
        return self.path / "record"

    @property
    def calls(self) -> Path:
        """Calls that a process tried to make to elsewhere: empty."""
        return self.path / CALLS

    @property
    def about(self) -> Path:
        """What `status` shows."""
        return self.path / "status.json"


@dataclass(frozen=True)
class Settings:
    """How a site takes part.

    Parameters
    ----------
    kit, state : Path
        The site's kit; the folder where it keeps what it does.
    executor : callable
        Gives the command of the process that answers, for the port of the SuperNode's runtime API.
    lease : float
        Seconds for which the server takes a silent SuperNode for alive. One that was killed can't sign
        on again before they are over, so it is not tried earlier.
    """

    kit: Path
    state: Path
    executor: Callable[[int], Sequence[str]]
    lease: float = flower.LEASE


def take_part(settings: Settings, say: Callable[[str], None]) -> None:
    """Take part until SIGTERM or SIGINT.

    Raises
    ------
    KitRefused, ProcessFailed
        The kit is not a site's, or its roster older than one that was seen; another process has the
        folder, or a program does not start.
    """
    kit = read_kit(settings.kit)
    if kit.role != "site":
        raise KitRefused("this kit is not a site's; `federated serve` takes the server's")
    ending = Ending()
    with alone(settings.state):
        newest = NewestKit(kit, settings.state, lambda why: note(settings.state, "roster-not-taken", why=why))
        for warning in newest.warnings(datetime.now(UTC)):
            say(warning)
        part = _Part(settings, kit, newest, say=say)
        say(f"starting {kit.party} of {kit.consortium.id}: the vault is opened, then the server called")
        try:
            part.start()
            server = kit.consortium.server
            say(f"taking part in {kit.consortium.id}; the only address called is {server.host}:{server.port}")
            while not ending.came:
                part.tick()
                time.sleep(_TICK)
        finally:
            part.stop()


@dataclass
class _Part:
    settings: Settings
    kit: Kit
    newest: NewestKit
    _kept: Supervisor | None = None
    say: Callable[[str], None] = field(default=lambda text: None)
    _tell: Callable[[], None] = field(default=lambda: None)
    _last: str = ""

    def start(self) -> None:
        state = self.settings.state
        self.contact.begin()
        self.folder = SiteFolder(state)
        tell(self.folder.about, {**self._mine, "running": False, "starting": True})
        write(self.folder.secret, secrets.token_bytes(32), private=True)
        local = make_local_tls(state / "loopback", datetime.now(UTC))
        self._kept = Supervisor(self._programs(local), state, quiet(state))
        self._start(self._kept)
        self._tell = every(1.0, self._about)
        note(state, "started")

    def _start(self, kept: Supervisor) -> None:
        self.health.begin()
        try:
            kept.start()
        except ProcessFailed:
            if self.health.open or not self.health.fault:
                raise
            raise ProcessFailed(f"the executor did not start: {self.health.fault}") from None
        for warning in self.health.warnings:
            self.say(warning)

    @property
    def health(self) -> Health:
        """What its executor says of itself."""
        return Health(self.settings.state)

    @property
    def contact(self) -> Contact:
        """What its SuperNode hears of the server."""
        return Contact(self.settings.state)

    def tick(self) -> None:
        """Look after the processes."""
        if self._kept is not None:
            self._kept.look_after()
            self._tell()

    def stop(self) -> None:
        if self._kept is not None:
            self._kept.stop()
            note(self.settings.state, "stopped")
            tell(self.folder.about, {**self._mine, "running": False})

    def _programs(self, local: LocalTls) -> list[Program]:
        inward, runtime = free_port(), free_port()
        connector = write_connector(self.kit, self.settings.state / "connector", local.both, inward)
        node = flower.command(
            self.settings.state, self.settings.lease, "supernode", *self._options(inward, runtime, local)
        )
        return [
            Program("connector", haproxy.command(connector), ready=listens(inward)),
            # Whoever can't open his vault doesn't sign on.
            Program("executor", self.settings.executor(runtime), ready=lambda: self.health.open),
            Program("supernode", node, self.settings.lease + _MARGIN, _LONGEST, ready=listens(runtime)),
        ]

    def _options(self, inward: int, runtime: int, local: LocalTls) -> list[str]:
        return [
            "--superlink", f"{LOOPBACK}:{inward}",
            "--root-certificates", str(local.authority),
            "--auth-supernode-private-key", str(self.kit.file("node.key")),
            "--isolation", "process",
            "--superexec-auth-secret-file", str(self.folder.secret),
            "--host", LOOPBACK, "--port", str(runtime),
        ]  # fmt: skip

    @property
    def _mine(self) -> dict[str, Any]:
        return {"role": "site", "consortium": self.kit.consortium.id, "site": self.kit.party}

    def _about(self) -> None:
        contact = self.contact.standing()
        said: dict[str, Any] = {
            **self._mine,
            "running": True,
            "roster": self.newest().roster.serial,
            "contact": contact,
            "server": f"{self.kit.consortium.server.host}:{self.kit.consortium.server.port}",
            "calls_elsewhere": lines(self.folder.calls),
            "warnings": [*self.newest.warnings(datetime.now(UTC)), *self.health.warnings],
        }
        tell(self.folder.about, said)
        if contact["text"] != self._last and (contact["answers"] or contact["answered"] or contact["why"]):
            self._last = str(contact["text"])
            self.say(self._last)
            word = contact["why"] or ("answers" if contact["answers"] else "silent")
            note(self.settings.state, "contact", why=str(word))


__all__ = ["Settings", "SiteFolder", "take_part"]

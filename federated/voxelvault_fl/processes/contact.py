"""Whether a site's server answers: noted by the SuperNode with each call, read by what looks after it.

The SuperNode knows only that its connector hung up. Why is in the last line of the connector's log: how the
connection ended, as HAProxy writes it, and how many bytes came back.

References
----------
HAProxy 2.6 configuration manual, 8.5 (session state at disconnection), 7.3.4 (ssl_bc_err).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from voxelvault_fl.processes.lifetime import tell
from voxelvault_fl.provisioning.files import read_json

CONNECTOR_LOG = "server ended=%ts received=%B tls=%[ssl_bc_err]"
"""What a connector writes of each connection, in HAProxy's words."""
QUIET = timedelta(seconds=10)
"""So long after the last answer a fault is none yet: a gate that starts again is back by then."""
LOST = timedelta(minutes=3)
"""So long after the last answer there is nobody who asks: a SuperNode in a round asks twice a minute."""
_ENDED = re.compile(r"server ended=(..) received=(\d+) tls=(\S+)")
_TAIL = 4096
_WORDS = {
    "not-admitted": "the server hangs up: its roster lacks this site's certificate, or has it as revoked",
    "not-believed": "what answers at that address has no certificate of this consortium's server, or the "
    "clock here or there is wrong",
    "not-reached": "nothing answers at that address: the server is down, or a firewall is between",
    "not-signed-on": "the server doesn't sign this site on: its kit takes part elsewhere, or did until a "
    "minute ago, or the server's roster lacks it",
    "not-serving": "the server's gate answers, and nothing behind it",
    "turned-away": "the server's gate turns this site's key away: its roster has another one",
}


class Contact:
    """The file in which a SuperNode notes what it hears.

    Parameters
    ----------
    state : Path
        The site's state folder.
    clock : callable
        The time, UTC.
    """

    def __init__(self, state: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._path, self._clock = state / "contact.json", clock
        self._log = state / "log" / "connector.log"
        self._said: dict[str, str] = {}

    def begin(self) -> None:
        """Forget what was heard before."""
        self._path.unlink(missing_ok=True)

    def heard(self, fault: str = "") -> None:
        """Note an answer of now, or what came instead of one; an answer once a second at most."""
        now = self._clock().isoformat(timespec="seconds")
        answered = self._said.get("answered", "") if fault else now
        said = {"answered": answered, "fault": fault}
        if said != self._said:
            self._said = said
            tell(self._path, said)

    def asked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call of the server that notes how it went, and goes no other way for it."""

        def noting(*given: Any, **named: Any) -> Any:
            try:
                answer = call(*given, **named)
            except httpx.HTTPStatusError as refused:
                self.heard(_refusal(named.get("path", ""), refused.response.status_code))
                raise
            except httpx.TransportError:
                self.heard("no-connection")
                raise
            self.heard()
            return answer

        return noting

    def standing(self) -> dict[str, str | bool]:
        """Return whether the server answers, when it last did, and why not, in a word and in plain text."""
        said = read_json(self._path)
        answered = said.get("answered", "")
        age = self._clock() - datetime.fromisoformat(answered) if answered else None
        fault = said.get("fault", "") if age is None or age > QUIET else ""
        if fault == "no-connection":
            fault = self._hung_up()
        answers = age is not None and age < LOST and not fault
        return {
            "answers": answers,
            "answered": answered,
            "why": fault,
            "text": _text(answers, answered, fault),
        }

    def _hung_up(self) -> str:
        ended: list[tuple[str, str, str]] = []
        with suppress(OSError), self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - _TAIL))
            ended = _ENDED.findall(file.read().decode("utf-8", "replace"))
        # What was open and ended in the usual way says nothing of the last try.
        tries = [(state, tls) for state, received, tls in ended if received == "0"]
        return _way(*tries[-1]) if tries else "not-reached"


def _way(state: str, tls: str) -> str:
    """Return why a connection brought nothing, by HAProxy's two letters and its error of TLS."""
    if state[1] != "C":
        return "not-admitted"
    return "not-reached" if tls in ("-", "0") else "not-believed"


def _refusal(path: str, status: int) -> str:
    if status in (502, 503, 504):
        return "not-serving"
    if status == httpx.codes.FORBIDDEN:
        return "turned-away"
    return "not-signed-on" if path.endswith("/activate-node") or status == 401 else ""


def _text(answers: bool, answered: str, fault: str) -> str:
    silent = "nothing was heard of the server for minutes" if answered else "the server has not answered yet"
    return "the server answers" if answers else _WORDS.get(fault, silent)


__all__ = ["CONNECTOR_LOG", "LOST", "QUIET", "Contact"]

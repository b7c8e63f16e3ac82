"""Flower's own programs under our audit hook: `python -m voxelvault_fl.processes.flower`.

Its arguments are the state folder of a server or a site, the seconds that a silent SuperNode stays signed on
(20 at least: Flower's shortest heartbeat is 10 s and it waits for two), `superlink` or `supernode`, and
options.

Version 1.41 has no options for two numbers of a SuperNode, so they are set in its modules: how often it says
that it is alive, and how long it rests where no message was waiting (3 s, which every round would pay). And
it forgets a message whose run ended on the way, which leaves the site silent for two hours: see `_whole`.
What a SuperLink takes from a site is bounded in `voxelvault_fl.processes.intake`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from voxelvault_fl.processes.contact import Contact
from voxelvault_fl.processes.outgoing import CALLS, stay_here
from voxelvault_fl.processes.pace import Pace

LEASE = 60.0
SHORTEST_LEASE = 20.0
REST = 0.5
"""Most seconds between two looks of a SuperNode for a message, or for its answer."""


def command(state: Path, lease: float, program: str, *options: str) -> list[str]:
    """Return the command that runs a program of Flower."""
    return [sys.executable, "-m", __name__, str(state), str(lease), program, *options]


def main(arguments: list[str]) -> None:
    """Run one of Flower's programs with the rest of the arguments."""
    folder, lease, program, *rest = arguments
    state = Path(folder)
    stay_here(state / CALLS)
    sys.argv = [f"flower-{program}", *rest]
    if program == "superlink":
        from flwr.superlink.cli.flower_superlink import flower_superlink

        from voxelvault_fl.processes.intake import stand_before

        stand_before(state)
        flower_superlink()
    else:
        from flwr.supernode.cli.flower_supernode import flower_supernode

        _set(max(float(lease), SHORTEST_LEASE) / 2)
        _note_contact(Contact(state))
        flower_supernode()


def _set(interval: float) -> None:
    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection, start_client_internal

    for module in (heartbeat, fleet_http_connection):
        vars(module)["HEARTBEAT_DEFAULT_INTERVAL"] = interval
    pace = Pace(REST)

    def pulled(ids: list[str], *, pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
        pace.came()
        return _whole(ids, pull_object_fn=pull_object_fn)

    vars(start_client_internal)["time"] = SimpleNamespace(sleep=lambda wish: pace.rest())
    vars(start_client_internal)["pull_objects"] = pulled


def _note_contact(contact: Contact) -> None:
    """Have each call of the server noted, with what came of it."""
    from flwr.supernode.fleet_http_client import FleetHttpClient

    FleetHttpClient._unary_unary = contact.asked(FleetHttpClient._unary_unary)  # type: ignore[method-assign]


def _whole(ids: list[str], *, pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
    """Pull the objects of a message; where its run has ended meanwhile, fail as for any other reason.

    Flower's exception for that is no `Exception`: it passes by the clause that takes the message out again.
    Whoever has the message's task then waits for the rest of it, and the SuperNode for an answer.
    """
    from flwr.supercore.inflatable.inflatable_utils import pull_objects
    from flwr.supercore.run import RunNotRunningException

    try:
        return pull_objects(ids, pull_object_fn)
    except RunNotRunningException:
        raise ConnectionError("the run ended before all of the message had come") from None


if __name__ == "__main__":
    main(sys.argv[1:])

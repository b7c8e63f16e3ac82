"""Flower's own programs under our audit hook: `python -m voxelvault_fl.processes.flower`.

Its arguments are the file of refused calls, the seconds that a silent SuperNode stays signed on (20 at
least: Flower's shortest heartbeat is 10 s and it waits for two), `superlink` or `supernode`, and options.
"""

from __future__ import annotations

import sys
from pathlib import Path

from voxelvault_fl.processes.outgoing import stay_here

LEASE = 60.0
SHORTEST_LEASE = 20.0


def command(record: Path, lease: float, program: str, *options: str) -> list[str]:
    """Return the command that runs a program of Flower."""
    return [sys.executable, "-m", __name__, str(record), str(lease), program, *options]


def main(arguments: list[str]) -> None:
    """Run one of Flower's programs with the rest of the arguments."""
    record, lease, program, *rest = arguments
    stay_here(Path(record))
    sys.argv = [f"flower-{program}", *rest]
    if program == "superlink":
        from flwr.superlink.cli.flower_superlink import flower_superlink

        flower_superlink()
    else:
        from flwr.supernode.cli.flower_supernode import flower_supernode

        _beat(max(float(lease), SHORTEST_LEASE) / 2)
        flower_supernode()


def _beat(interval: float) -> None:
    """Have the SuperNode announce and keep this interval: 1.41 has no option for it."""
    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection

    for module in (heartbeat, fleet_http_connection):
        vars(module)["HEARTBEAT_DEFAULT_INTERVAL"] = interval


if __name__ == "__main__":
    main(sys.argv[1:])

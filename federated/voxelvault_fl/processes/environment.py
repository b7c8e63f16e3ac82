"""The environment of a child process: Flower's calls home off, no proxy, a home of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_LOG_LEVEL": "WARNING",
    "RAY_USAGE_STATS_ENABLED": "0",
    "NO_PROXY": "*",
    "no_proxy": "*",
    "PYTHONUNBUFFERED": "1",
}


def quiet(state: Path, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for a process of ours.

    Parameters
    ----------
    state : Path
        Flower's home becomes a folder of it.
    given : mapping
        What is inherited; proxies and settings of Flower are not.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("FLWR_", "RAY_"))
    }
    return {**kept, **_QUIET, "FLWR_HOME": str(state / "flower")}


__all__ = ["quiet"]

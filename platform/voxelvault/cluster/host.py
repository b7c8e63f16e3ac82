"""The process that a cluster of our own lives in: scheduler, nannies and workers, and no vault.

Its parent writes one line of JSON to its standard input and keeps that open; it answers with one
line, and ends when its input does, however its parent ended. It starts with a scrubbed environment,
which its workers inherit, those too that are started again after one was killed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MEMORY = {"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False}
"""No worker writes what it holds to its disk; where memory ends, it pauses and is then restarted."""

_MALLOC = "distributed.nanny.pre-spawn-environ.MALLOC_{}_THRESHOLD_"
ALLOCATION = {_MALLOC.format("MMAP"): 32 << 20, _MALLOC.format("TRIM"): 64 << 20}
"""Bytes that glibc keeps rather than gives back. Dask's own choice, 64 KiB, has every array of more than
128 KiB mapped anew and its pages zeroed again, which takes a worker longer than what it does with them."""


def main() -> None:
    """Run a cluster until standard input ends."""
    asked = json.loads(sys.stdin.readline())
    import dask
    from distributed import LocalCluster

    dask.config.set(MEMORY | ALLOCATION)
    security = security_of(asked["certificate"], asked["key"])
    cluster: Any = LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=asked["workers"],
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        protocol="tls://",
        security=security,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        memory_limit=asked["memory"],
        local_directory=asked["folder"],
    )
    with cluster:
        told = {"address": cluster.scheduler_address, "dashboard": cluster.dashboard_link}
        print(json.dumps(told), flush=True)
        sys.stdin.read()


def security_of(certificate: str, key: str) -> Any:
    """Return Dask's TLS settings for every role under one certificate; PEM, never on a disk."""
    from distributed import Security

    roles = {
        f"tls_{role}_{part}": value
        for role in ("client", "scheduler", "worker")
        for part, value in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=certificate, require_encryption=True, **roles)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()

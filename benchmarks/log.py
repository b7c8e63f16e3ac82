"""The audit log: entries a second with group commit, and how long a million take to verify."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import voxelvault as vv
from benchmarks.measure import Measured, Place, seconds
from voxelvault.audit.events import Event, Kind

WRITERS = 64
EACH = 100
RATE_GOAL = 2_000.0
MANY = 1_000_000
A_BATCH = 20_000
VERIFY_SECONDS = 60.0


def measure(place: Place, many: int = MANY) -> list[Measured]:
    """Entries of threads that wait for each one; then a log filled up and verified whole."""
    folder = Path(mkdtemp(dir=place.folder))
    try:
        with vv.create(folder / "vault") as vault:
            return [_rate(vault), _verify(vault, many)]
    finally:
        rmtree(folder)


def _rate(vault: vv.Vault) -> Measured:
    log = vault.resources.audit

    def one(_: int) -> None:
        for _ in range(EACH):
            log.append([Event(kind=Kind.HANDLE_CLOSED, who=vault.resources.who, purpose=None)])

    with ThreadPoolExecutor(WRITERS) as threads:
        taken = seconds(lambda: list(threads.map(one, range(WRITERS))))
    found = WRITERS * EACH / taken
    return Measured(
        f"audit entries a second, {WRITERS} writers waiting for each", found, RATE_GOAL, f"{found:.0f}/s", ""
    )


def _verify(vault: vv.Vault, many: int) -> Measured:
    log, event = vault.resources.audit, Event(kind=Kind.HANDLE_CLOSED, who="bench", purpose=None)
    for first in range(0, many, A_BATCH):
        log.append([event] * min(A_BATCH, many - first))
    taken = seconds(log.verify)
    return Measured(
        f"verifying {many:,} audit entries, seconds",
        taken,
        VERIFY_SECONDS,
        f"{taken:.1f} s",
        "",
        at_most=True,
    )

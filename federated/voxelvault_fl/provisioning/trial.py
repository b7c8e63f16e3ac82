"""Whole kits at once, for a trial: all keys are made in one place, which no real consortium should do."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from voxelvault_fl.consortium import Consortium
from voxelvault_fl.provisioning.authority import Authority, admit, deliver, found
from voxelvault_fl.provisioning.requests import accept, ask


def provision(consortium: Consortium, out: Path, now: datetime) -> Authority:
    """Make the authority and a whole kit for the server, the lead and each site.

    Raises
    ------
    KitRefused
        The folder has an authority already.
    """
    authority = found(consortium, out / "authority", now)
    parties = [("server", "server"), (consortium.lead, "lead")]
    parties += [(site.name, "site") for site in consortium.sites]
    for party, role in parties:
        kit = out / party
        accept(admit(authority, ask(consortium.id, party, role, kit), now), kit)
    for party, _ in parties:
        deliver(authority, out / party)
    return authority


__all__ = ["provision"]

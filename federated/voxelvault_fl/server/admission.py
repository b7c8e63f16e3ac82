"""Who may come through the gate now, and what changes when the roster does: rules only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from voxelvault_fl.provisioning.roster import Roster

Admitted = dict[str, str]
"""Digest of a certificate to the name of its site."""


@dataclass(frozen=True)
class Change:
    """What to do at the gate.

    Parameters
    ----------
    out : dict
        Certificates to shut out, with their sites.
    come : dict
        Certificates to let in, of sites and node keys that the gate knows.
    anew : bool
        Whether a site or a node key is new: the gate's configuration is written and it starts again.
    """

    out: Admitted
    come: Admitted
    anew: bool


def admitted(roster: Roster, now: datetime) -> Admitted:
    """Return the certificates of the sites that are neither revoked nor expired."""
    good = [site for site in roster.sites() if site.expires_at() > now]
    return {one: site.name for site in good for one in site.certificates if one not in roster.revoked}


def doors(roster: Roster) -> dict[str, str]:
    """Return the node key of each site: what the gate's configuration is made of."""
    return {site.name: site.node_key for site in roster.sites()}


def change(before: Admitted, had: dict[str, str], roster: Roster, now: datetime) -> Change:
    """Return what to do at a gate that lets `before` in and has the doors `had`."""
    wanted = admitted(roster, now)
    out = {one: site for one, site in before.items() if wanted.get(one) != site}
    come = {one: site for one, site in wanted.items() if before.get(one) != site}
    new = any(had.get(name) != key for name, key in doors(roster).items())
    return Change(out, come, new)


__all__ = ["Admitted", "Change", "admitted", "change", "doors"]

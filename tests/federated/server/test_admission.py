from __future__ import annotations

from datetime import UTC, datetime, timedelta

from voxelvault_fl.consortium import Consortium, Server, Site, Terms
from voxelvault_fl.provisioning.roster import Party, Roster
from voxelvault_fl.server.admission import admitted, change, doors

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def _party(name: str, *certificates: str, days: int = 1, key: str = "k", role: str = "site") -> Party:
    return Party(name, role, certificates, f"{name}-{key}", "s", (NOW + timedelta(days=days)).isoformat())


def _roster(*parties: Party, revoked: tuple[str, ...] = ()) -> Roster:
    sites = (Site("north"), Site("south"))
    return Roster(Consortium("heads", "H", "lead", Server("h"), sites, Terms()), 1, parties, revoked)


def test_only_sites_that_are_neither_revoked_nor_expired_come_in() -> None:
    roster = _roster(
        _party("north", "a2", "a1"),
        _party("south", "b", days=-1),
        _party("lead", "c", role="lead"),
        revoked=("a1",),
    )
    assert admitted(roster, NOW) == {"a2": "north"}


def test_a_revoked_site_goes_out_and_nothing_starts_again() -> None:
    before = _roster(_party("north", "a"), _party("south", "b"))
    todo = change(admitted(before, NOW), doors(before), _roster(_party("south", "b")), NOW)
    assert (todo.out, todo.come, todo.anew) == ({"a": "north"}, {}, False)


def test_a_renewed_certificate_comes_in_while_the_gate_runs() -> None:
    before = _roster(_party("north", "a"))
    todo = change(admitted(before, NOW), doors(before), _roster(_party("north", "a2", "a")), NOW)
    assert (todo.out, todo.come, todo.anew) == ({}, {"a2": "north"}, False)


def test_a_new_site_or_a_new_node_key_needs_a_new_door() -> None:
    before = _roster(_party("north", "a"))
    assert change(admitted(before, NOW), doors(before), _roster(_party("north", "a", key="n")), NOW).anew
    both = _roster(_party("north", "a"), _party("south", "b"))
    assert change(admitted(before, NOW), doors(before), both, NOW).anew


def test_time_alone_shuts_out_what_expires() -> None:
    roster = _roster(_party("north", "a"))
    later = NOW + timedelta(days=2)
    assert change(admitted(roster, NOW), doors(roster), roster, later).out == {"a": "north"}

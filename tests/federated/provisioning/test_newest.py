"""The newest roster counts without a restart, and an older one never again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.errors import KitRefused
from voxelvault_fl.provisioning import newest as module
from voxelvault_fl.provisioning.authority import Authority, deliver, revoke
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.newest import SEEN, NewestKit
from voxelvault_fl.provisioning.trial import provision

NOW = datetime.now(UTC)
Put = Callable[[str], None]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    said = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "north", "west"]}
    return provision(consortium_of(said), tmp_path / "kits", NOW)


@pytest.fixture
def kit(tmp_path: Path, authority: Authority) -> Path:
    return tmp_path / "kits" / "east"


def _names(newest: NewestKit) -> set[str]:
    return {one.name for one in newest().roster.sites()}


def test_a_newer_roster_counts_at_once(authority: Authority, kit: Path, tmp_path: Path) -> None:
    newest = NewestKit(read_kit(kit), tmp_path, pytest.fail)
    assert _names(newest) == {"east", "north", "west"}
    revoke(authority, "north", NOW)
    deliver(authority, kit)
    assert _names(newest) == {"east", "west"}
    assert (tmp_path / SEEN).read_text() == str(authority.roster().serial)


def test_between_its_two_files_the_roster_stays_what_it_was(
    authority: Authority, kit: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    newest = NewestKit(read_kit(kit), tmp_path, said.append)
    revoke(authority, "north", NOW)
    (kit / "roster.sig").write_bytes((authority.path / "roster.sig").read_bytes())
    assert newest.doubts == ()
    assert _names(newest) == {"east", "north", "west"}
    assert len(said) == 1
    assert _names(newest) == {"east", "north", "west"}
    assert "not believed, number" in newest.doubts[0]
    deliver(authority, kit)
    assert _names(newest) == {"east", "west"}
    assert newest.doubts == ()


def _older(authority: Authority, kit: Path) -> Callable[[], None]:
    """Return what puts the roster of now back later."""
    kept = {name: (kit / name).read_bytes() for name in ("crl.pem", "roster.sig", "roster.json")}

    def back() -> None:
        for name, content in kept.items():
            (kit / name).write_bytes(content)

    return back


def test_an_older_roster_is_not_taken_in_a_run_nor_at_the_next_start(
    authority: Authority, kit: Path, tmp_path: Path
) -> None:
    back, said = _older(authority, kit), list[str]()
    newest = NewestKit(read_kit(kit), tmp_path, said.append)
    revoke(authority, "north", NOW)
    deliver(authority, kit)
    assert _names(newest) == {"east", "west"}
    back()
    assert _names(newest) == {"east", "west"}
    assert _names(newest) == {"east", "west"}
    assert ["older than one that was seen" in one for one in said] == [True]
    with pytest.raises(KitRefused, match="older than one that was seen here"):
        NewestKit(read_kit(kit), tmp_path, said.append)
    deliver(authority, kit)
    assert _names(NewestKit(read_kit(kit), tmp_path, said.append)) == {"east", "west"}


def test_whom_a_roster_revokes_is_out_on_a_full_disk_too(
    authority: Authority, kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    newest = NewestKit(read_kit(kit), tmp_path, said.append)

    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    revoke(authority, "north", NOW)
    deliver(authority, kit)
    monkeypatch.setattr(module, "write", full)
    assert _names(newest) == {"east", "west"}
    assert "could not be kept" in said[0]


def test_a_roster_of_another_authority_is_not_taken(kit: Path, tmp_path: Path) -> None:
    said: list[str] = []
    newest = NewestKit(read_kit(kit), tmp_path, said.append)
    other = {"id": "heads", "name": "H", "server": {"host": "localhost"}, "sites": ["east", "evil"]}
    deliver(provision(consortium_of(other), tmp_path / "other", NOW), kit)
    assert _names(newest) == {"east", "north", "west"}
    assert "not believed" in said[0]


def test_whom_the_roster_lacks_is_warned_of(authority: Authority, kit: Path, tmp_path: Path) -> None:
    newest = NewestKit(read_kit(kit), tmp_path, pytest.fail)
    assert newest.warnings(NOW) == ()
    for party in ("lead", "north"):
        revoke(authority, party, NOW)
    deliver(authority, kit)
    (warned,) = newest.warnings(NOW)
    # Another site is no matter of this one's.
    assert "lacks lead: not admitted yet, or revoked" in warned

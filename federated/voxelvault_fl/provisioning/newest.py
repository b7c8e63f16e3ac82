"""A kit with the newest roster: read again when it changes, and never one older than was seen here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from voxelvault_fl.errors import FederatedError, KitRefused
from voxelvault_fl.provisioning.files import version, write
from voxelvault_fl.provisioning.kit import Kit
from voxelvault_fl.provisioning.roster import Roster, open_roster

SEEN = "roster-seen"
"""File of a state folder that holds the highest serial which any process of it has seen."""


def lacks(roster: Roster, *names: str) -> str:
    """Return what to say of a roster that lacks one of these, or else of all whom the consortium names."""
    missing = ", ".join(roster.lacking(*names))
    said = (
        f"the roster here, number {roster.serial}, lacks {missing}: not admitted yet, or revoked; "
        "after the last admission everybody needs the authority's newest crl.pem, roster.sig and roster.json "
        "in the kit"
    )
    return said if missing else ""


class NewestKit:
    """Gives a kit with the newest roster that its authority signed.

    Parameters
    ----------
    kit : Kit
        As it was read.
    state : Path
        The party's state folder, where the highest serial is kept.
    say : callable
        Told why a roster that changed isn't taken over.

    Raises
    ------
    KitRefused
        The kit's roster is older than one that was seen from this state folder.
    """

    def __init__(self, kit: Kit, state: Path, say: Callable[[str], None]) -> None:
        self._kit, self._seen, self._say = kit, state / SEEN, say
        self._content, self._signature = kit.file("roster.json"), kit.file("roster.sig")
        self._version: object = None
        self._doubt = ""
        self._take(kit.roster)

    @property
    def doubts(self) -> tuple[str, ...]:
        """A line to warn with for as long as the kit's files hold a roster that isn't taken."""
        return (self._doubt,) if self._doubt else ()

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """Return what to warn of, a line each: what expires, a roster that isn't taken, whom it lacks.

        Raises
        ------
        KitRefused
            A certificate is no longer valid, or not yet.
        """
        kit = self()
        # Other sites are no matter of a site's: one that is only announced would be warned of everywhere.
        own = ("server", kit.consortium.lead, kit.party) if kit.role == "site" else ()
        missing = lacks(kit.roster, *own)
        return (*kit.warnings(now), *self.doubts, *((missing,) if missing else ()))

    def __call__(self) -> Kit:
        """Return the kit as it is now."""
        found = version(self._content, self._signature)
        if found != self._version:
            self._version = found
            try:
                self._take(self._read())
                self._doubt = ""
            except (FederatedError, OSError) as refused:
                # Roster and signature are two files: between the two writes the pair is not believed.
                self._say(f"the roster is not believed for now: {refused}")
                counts = self._kit.roster.serial
                self._doubt = f"the roster in the kit is not believed, number {counts} counts on: {refused}"
        return self._kit

    def _read(self) -> Roster:
        return open_roster(self._content.read_bytes(), self._signature.read_bytes(), self._kit.authority)

    def _take(self, roster: Roster) -> None:
        highest = max(self._kit.roster.serial, self._highest())
        if roster.serial < highest:
            raise KitRefused(
                f"this kit's roster, {roster.serial}, is older than one that was seen here, {highest}; "
                "bring it up to date from the authority"
            )
        self._kit = replace(self._kit, roster=roster)
        try:
            if roster.serial > self._highest():
                write(self._seen, str(roster.serial).encode())
        except OSError as refused:
            # Whom it revokes is shut out all the same.
            self._say(f"the roster's serial could not be kept: {refused}")

    def _highest(self) -> int:
        try:
            return int(self._seen.read_text())
        except (OSError, ValueError):
            return -1


__all__ = ["SEEN", "NewestKit", "lacks"]

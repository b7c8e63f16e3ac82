"""The server's part in the mail: it passes letters on, is a witness itself, and gathers what all attest."""

from __future__ import annotations

from collections.abc import Sequence

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.record.office import Letter, Office, pack_letters, unpack_letters
from voxelvault_fl.rounds.transport import Fault, Sites

TURNS = 4
"""Most bags to and from each site. Three will do: requests, their answers, and cosignatures on which is
attested; one more where a witness knew another size of a log."""
LONGEST = 1 << 16
"""Characters of a letter that is passed on; a checkpoint and its proof are far shorter."""
_PASSED = ("key", "request", "answer")


class Hub:
    """Carries letters.

    Parameters
    ----------
    office : Office
        The server's own.
    sites : Sites
        The way to the sites.
    """

    def __init__(self, office: Office, sites: Sites) -> None:
        self._office, self._sites = office, sites
        self._boxes: dict[str, dict[tuple[str, str], Letter]] = {}
        self._silent: set[str] = set()
        self.attestations: dict[str, str] = {}

    def exchange(self, job: str = "") -> None:
        """Carry letters to and fro; a site that can't be reached gets its own the next time.

        Parameters
        ----------
        job : str
            Digest of the job of which sites are asked what they attest, once they can have been cosigned.
        """
        self._silent.clear()
        for turn in range(TURNS):
            self._post(self._office.letters())
            last = turn >= TURNS - 2
            self._once(job if last else "")
            if last and not self._waiting():
                return

    def _waiting(self) -> bool:
        """Tell whether there is mail for somebody who answers."""
        return any(self._boxes.get(name) for name in self._sites.ready() if name not in self._silent)

    def _once(self, job: str) -> None:
        names = [name for name in self._sites.ready() if name not in self._silent]
        bags = {
            name: pack_letters([*self._boxes.pop(name, {}).values(), *self._ask(name, job)]) for name in names
        }
        for name, answer in self._sites.ask(0, bags).items():
            if isinstance(answer, Fault):
                # Waiting for the slow is expensive; who can't answer now is asked the next time.
                self._silent.add(name)
                continue
            try:
                self._sort(name, unpack_letters(answer))
            except MessageRefused as refused:
                self._office.alarms.append(refused)

    def _ask(self, name: str, job: str) -> list[Letter]:
        return [Letter(self._office.name, name, "ask", job)] if job else []

    def _sort(self, name: str, letters: Sequence[Letter]) -> None:
        """Take what is for the server and box the rest; nobody sends in another's name."""
        own = [one for one in letters if one.sender == name]
        for one in own:
            if one.kind == "attestation" and one.to == self._office.name:
                self.attestations[name] = one.body
        mine = self._office.name
        self._post([one for one in own if one.to != mine and one.kind in _PASSED])
        self._post(self._office.receive([one for one in own if one.to == mine]))

    def _post(self, letters: Sequence[Letter]) -> None:
        """Box what is for a party of the roster, the newest of each sender and kind: a box can't overflow."""
        for one in letters:
            if one.to in self._office.peers and len(one.body) <= LONGEST:
                self._boxes.setdefault(one.to, {})[one.sender, one.kind] = one


__all__ = ["LONGEST", "TURNS", "Hub"]

"""A project where it lies: made, opened by a custodian, written to, and its ledger opened by two.

What takes approval hands what belongs into the audit log to `before`, ahead of its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.deid import approving, enrolment, ledger
from voxelvault.deid.approver import ApproverKey, ApproverPublic
from voxelvault.deid.approving import Approval, Request
from voxelvault.deid.project import OpenProject, Project, open_project
from voxelvault.deid.project_shelf import DOCUMENT, Shelf
from voxelvault.errors import IntegrityError, ObjectExists, UsageError
from voxelvault.model import new_id

Before: TypeAlias = Callable[[Mapping[str, Approval]], object]
"""Called with approvals by their approvers' ids, when they are known to be good."""


def _nothing(approvals: Mapping[str, Approval]) -> None:
    pass


@dataclass(frozen=True)
class StoredProject:
    """One project and the shelf that it lies on."""

    shelf: Shelf

    def create(self, made: Project) -> None:
        """Store a new project.

        Raises
        ------
        ObjectExists
            A project is here already.
        """
        self.shelf.put(DOCUMENT, made.data())

    def read(self) -> Project:
        """Return the project's document, its signature checked.

        Raises
        ------
        ObjectMissing
            No project is here.
        IntegrityError
            It was changed.
        """
        return Project.from_data(self.shelf.get(DOCUMENT)[0])

    def open(self, private: PrivateKey) -> OpenProject:
        """Open it as a custodian; see `project.open_project`."""
        return open_project(self.read(), private)

    def change(self, opened: OpenProject, changed: Project) -> OpenProject:
        """Store a changed document, if it still is the one that was opened.

        Raises
        ------
        ObjectChanged, UsageError
            Somebody else changed it meanwhile.
        """
        data, version = self.shelf.get(DOCUMENT)
        if data != opened.project.data():
            raise UsageError("the project was changed meanwhile; open it again")
        self.shelf.swap(DOCUMENT, changed.data(), version)
        return OpenProject(changed, opened.key, opened.custodian_id)

    # The ledger

    def record(self, opened: OpenProject, maps: ledger.Maps) -> str:
        """Add pairs to the ledger and return the batch's id; needs no approval.

        Raises
        ------
        UsageError
            The project keeps no ledger.
        """
        batch_id = new_id()
        self.shelf.put(f"batches/{batch_id}", ledger.seal_batch(opened, batch_id, maps))
        return batch_id

    def ask(self, asked: Request) -> str:
        """Store a request for the approvers to see, and return its digest."""
        self.shelf.put(f"requests/{asked.request_id}", asked.data())
        return asked.digest

    def not_held(self, asked: Request) -> int:
        """Count the pseudonyms of a request that the ledger doesn't hold; see `ledger.not_held`."""
        return ledger.not_held(self.read(), asked, self._batches())

    def asked(self, request_id: str) -> Request:
        """Return a stored request; `ObjectMissing` if there is none."""
        return Request.from_data(self.shelf.get(f"requests/{request_id}")[0])

    def requests(self) -> list[Request]:
        """Return all stored requests, in the order of their ids."""
        return [self.asked(name.rpartition("/")[2]) for name in self.shelf.names("requests")]

    def carried_out(self) -> frozenset[str]:
        """Return the ids of the requests that were carried out: none is a second time."""
        return frozenset(name.rpartition("/")[2] for name in self.shelf.names("opened"))

    def approve(self, request_id: str, key: ApproverKey, before: Before = _nothing) -> Approval:
        """Approve a stored request.

        Raises
        ------
        ObjectExists
            This approver has approved it already.
        KeyUnavailable, UsageError, IntegrityError
            See `approving.approve`.
        """
        document, asked = self.read(), self.asked(request_id)
        approval = approving.approve(document, asked, key)
        approver_id = approving.approver_of(document, asked, approval)
        before({approver_id: approval})
        self.shelf.put(f"approvals/{request_id}.{approver_id}", approval.data())
        return approval

    def approvals(self, request_id: str) -> list[Approval]:
        """Return the approvals of a request, in the order of their approvers' ids.

        Raises
        ------
        UsageError
            A file among them is none.
        """
        return list(map(Approval.from_data, self.approval_files(request_id)))

    def approval_files(self, request_id: str) -> Iterator[bytes]:
        """Yield what lies among the approvals of a request, whatever it is."""
        for name in self.shelf.names("approvals"):
            if name.startswith(f"approvals/{request_id}."):
                yield self.shelf.get(name)[0]

    def reidentify(
        self, request_id: str, private: PrivateKey, before: Before = _nothing
    ) -> dict[str, list[ledger.Pair]]:
        """Carry out an approved request, once: return the maps that it asked for.

        Raises
        ------
        KeyUnavailable
            There are not two approvals by two approvers.
        IntegrityError
            An approval, a share or the ledger was changed, or the key is not the request's.
        UsageError
            The request was carried out before, or asks for an enrolment.
        """
        document, asked = self.read(), self.asked(request_id)
        if asked.maps == (approving.ENROL,):
            raise UsageError("this request was approved for enrolling approvers, not for reading")
        secrets = self._unlocked(document, asked, private, before)
        return ledger.open_batches(document, asked, secrets, self._batches())

    def enrol(
        self,
        opened: OpenProject,
        request_id: str,
        private: PrivateKey,
        approvers: Mapping[str, ApproverPublic],
        before: Before = _nothing,
    ) -> OpenProject:
        """Carry out a request to enrol further approvers: those that it named by digest.

        Raises
        ------
        UsageError
            The request is for others, or for reading; or it was carried out before.
        KeyUnavailable, IntegrityError
            As `reidentify`.
        """
        asked = self.asked(request_id)
        if asked.maps != (approving.ENROL,) or asked.subject != enrolment.digest_of(approvers):
            raise UsageError("the request was approved for something else; ask for this enrolment")
        secrets = self._unlocked(opened.project, asked, private, before)
        return self.change(opened, enrolment.with_approvers(opened.project, opened.key, approvers, secrets))

    # Receipts

    def keep_receipts(self, release_id: str, lines: Iterable[bytes]) -> None:
        """Keep a release's receipts beside the project, in the place of those of a run that was killed."""
        self.shelf.write(f"receipts/{release_id}", lines)

    def _batches(self) -> Iterator[tuple[str, bytes]]:
        for name in self.shelf.names("batches"):
            yield name.rpartition("/")[2], self.shelf.get(name)[0]

    def _unlocked(
        self, document: Project, asked: Request, private: PrivateKey, before: Before
    ) -> tuple[PrivateKey, ...]:
        if private.public_key() != asked.public_key:
            raise IntegrityError("this key is not the request's; use the one that was made with it")
        counting = (one for one in self.approvals(asked.request_id) if approving.is_enrolled(document, one))
        said = {approving.approver_of(document, asked, one): one for one in counting}
        two = dict(islice(said.items(), 2))
        secrets = approving.ledger_keys(document, asked, private, list(two.values()))
        before(two)
        try:
            # Before anything is opened: of two who try at once, one is refused.
            self.shelf.put(f"opened/{asked.request_id}", asked.digest.encode())
        except ObjectExists:
            raise UsageError("this request was carried out before; make a new one") from None
        return secrets


__all__ = ["Before", "StoredProject"]

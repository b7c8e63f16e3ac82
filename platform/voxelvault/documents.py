"""Sealed documents that a pipeline keeps in a vault: models, settings. Nothing of a patient.

They lie in ``documents/<area>/``, each sealed under its own place. Storing and removing is entered in
the log, ahead of its effect and again with how it ended. Reading is not: what belongs to a patient
is an instance, and doesn't belong here. An erasure leaves them as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from voxelvault.audit.events import Event, Kind, Outcome
from voxelvault.crypto import streaming_aead
from voxelvault.errors import ObjectExists, UsageError
from voxelvault.plugins import NAME
from voxelvault.policy.access import Request, require
from voxelvault.readonly import require_writable
from voxelvault.resources import Resources
from voxelvault.storage.layout import DOCUMENTS
from voxelvault.storage.sealed_documents import SealedDocuments

READ = "document.read"
"""What a policy is asked for reading."""


class Documents:
    """Named sealed documents of one area of a vault; `vault.documents(area)` opens it.

    Names are relative paths of `[a-z0-9._-]` parts. A document is written once.
    """

    def __init__(self, resources: Resources, area: str) -> None:
        if not NAME.fullmatch(area):
            raise UsageError("an area of documents is named by 2 to 32 small letters, digits and dashes")
        self._resources, self._area = resources, area
        kind = streaming_aead.Kind.DOCUMENT
        self._sealed = SealedDocuments(
            resources.objects, resources.keys, f"{DOCUMENTS}/{area}", DOCUMENTS, kind
        )

    def put(self, name: str, data: bytes, about: str | None = None) -> None:
        """Store a document.

        Parameters
        ----------
        name : str
            Not taken yet.
        data : bytes
            Held in memory whole.
        about : str, optional
            SHA-256 of what it is about, hexadecimal, for the log; that of the document stands there
            in any case.

        Raises
        ------
        ObjectExists
            The name is taken.
        PolicyDenied, NoPermission, AuditError
            Then nothing was stored.
        """
        if name in self.names():
            raise ObjectExists("there is a document of that name already; remove it first")
        digests = {"document": hashlib.sha256(data).hexdigest()} | ({"about": about} if about else {})
        with self._entered(Kind.DOCUMENT_STORED, name, {"bytes": len(data)}, digests):
            self._sealed.put(name, data)

    def get(self, name: str) -> bytes:
        """Return a document.

        Raises
        ------
        ObjectMissing
            There is none.
        IntegrityError
            It was changed, or stood under another name.
        PolicyDenied
            The policy said no.
        """
        self._allowed(READ, name)
        return self._sealed.get(name)[0]

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the documents below a folder, in order; all of them without one."""
        return list(self._sealed.names(folder))

    def remove(self, name: str, about: str | None = None) -> None:
        """Remove a document; as `put`, and no error when it is not there."""
        if name in self.names():
            with self._entered(Kind.DOCUMENT_REMOVED, name, {}, {"about": about} if about else {}):
                self._sealed.delete(name)

    def _allowed(self, action: str, name: str) -> None:
        resources = self._resources
        ids = (self._sealed.object_id(name),)
        require(resources.policy, Request(action, ids, resources.purpose, resources.who))

    @contextmanager
    def _entered(
        self, kind: Kind, name: str, counts: dict[str, int], digests: dict[str, str]
    ) -> Iterator[None]:
        """Enter what is about to be done, and how it ended."""
        resources = self._resources
        self._allowed(kind, name)
        require_writable(resources)
        event = Event(
            kind=kind,
            who=resources.who,
            purpose=resources.purpose,
            outcome=Outcome.INTENT,
            ids={"document": (self._sealed.object_id(name),)},
            counts=counts,
            digests=digests,
            codes={"area": (self._area,)},
        )
        resources.audit.append([event])
        try:
            yield
        except BaseException:
            resources.audit.append([replace(event, outcome=Outcome.FAILED)])
            raise
        resources.audit.append([replace(event, outcome=Outcome.OK)])


__all__ = ["Documents"]

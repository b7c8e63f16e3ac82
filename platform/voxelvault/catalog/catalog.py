"""What the rest of the vault knows of its catalog: eight methods and a few values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from voxelvault.catalog.user_sql import UserSession

Mode = Literal["insert", "merge", "delete"]


@dataclass(frozen=True)
class Change:
    """Rows to bring into one table.

    Parameters
    ----------
    table : str
        A table of the schema.
    rows : pyarrow.Table
        Any subset of the table's columns that includes its key; no key twice.
    mode : {"insert", "merge", "delete"}
        `insert` adds rows that are not there: for what belongs to a pack, rows of packs that the
        catalog knew before are skipped as a whole; elsewhere rows whose key is there. `merge` adds
        rows, and where the key is there sets the columns given. `delete` removes by the key.
        Each leaves the same catalog when it is repeated.
    """

    table: str
    rows: pa.Table
    mode: Mode = "merge"


@dataclass(frozen=True)
class CommitInfo:
    """A state of the catalog.

    Parameters
    ----------
    snapshot : int
        Grows with every commit and every maintenance.
    digest : str
        SHA-256 over the former digest and this commit's changes, hexadecimal: equal digests are
        equal histories. Maintenance keeps it. It stands in the log, so an older catalog put back
        is noticed.
    """

    snapshot: int
    digest: str


@dataclass(frozen=True)
class MaintenanceReport:
    """What maintenance did: objects deleted and left to their grace period, and keys now unused.

    Parameters
    ----------
    deleted, kept : tuple of str
        Object ids: swept, and unreferenced but younger than the grace period.
    dead_keys : tuple of str
        Key ids that seal nothing any more: destroy them to make old copies unreadable.
    """

    deleted: tuple[str, ...]
    kept: tuple[str, ...]
    dead_keys: tuple[str, ...]


class Lease(Protocol):
    """The catalog held for writing: nobody else commits meanwhile."""

    def commit(
        self, changes: Sequence[Change], before_commit: Callable[[], object] | None = None
    ) -> CommitInfo:
        """Commit the changes, all or none."""

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """Return rows as of the last commit."""


class Catalog(Protocol):
    """The SQL catalog of one vault.

    Two implementations share it: the embedded one, and a server's for teams. Every method raises
    `CatalogError` (its message carries no value), `LockTimeout`, or a `StorageError`.
    """

    def commit(
        self, changes: Sequence[Change], before_commit: Callable[[], object] | None = None
    ) -> CommitInfo:
        """Take the lease, commit the changes all or none, let the lease go.

        `before_commit` runs when the rows are written and before they count; what it raises undoes
        the commit.
        """

    def lease(self, timeout: float = 60.0) -> AbstractContextManager[Lease]:
        """Hold the catalog for several commits; `LockTimeout` after that many seconds."""

    def query(self, sql: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the rows of a trusted, parameterised query as of the last commit."""

    def user_session(
        self,
        allowed: Mapping[str, str] | None = None,
        extra: Mapping[str, pa.Table] | None = None,
    ) -> UserSession:
        """Open a session fit to be handed to a user.

        Parameters
        ----------
        allowed : mapping of str to str, optional
            Under a row or column policy: table name to the query that selects what the user may
            see. The session then holds copies of these rows and nothing else.
        extra : mapping of str to pyarrow.Table, optional
            More tables, such as the audit log.
        """

    def head(self) -> CommitInfo:
        """Return the state as of the last commit."""

    def maintain(self, grace: float = 86_400.0) -> MaintenanceReport:
        """Join small files, rewrite files with deleted rows, sweep what nothing references.

        Parameters
        ----------
        grace : float
            Seconds that former states and unreferenced files are kept for readers at work; 0 for an
            erasure.
        """

    def rebuild(self) -> MaintenanceReport:
        """Write the catalog anew under a fresh key, so that the old key opens nothing current."""

    def close(self) -> None:
        """Let go of files and memory."""


class Renewable(Catalog, Protocol):
    """A catalog that can be written anew from what packs and log say, as both implementations can."""

    def anew(self) -> AbstractContextManager[Lease]:
        """Hold an empty catalog under a fresh key; it takes this one's place when all went well."""


__all__ = ["Catalog", "Change", "CommitInfo", "Lease", "MaintenanceReport", "Mode", "Renewable"]

"""Which catalog a vault has: `embedded`, or the address of a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Mapping

from voxelvault.catalog.catalog import Catalog
from voxelvault.catalog.ducklake import DuckLakeCatalog
from voxelvault.catalog.lease import CatalogKeys
from voxelvault.catalog.postgres import PostgresCatalog
from voxelvault.catalog.postgres_locks import PostgresLocks
from voxelvault.catalog.postgres_server import PostgresServer
from voxelvault.model import ObjectStore
from voxelvault.storage.objects import LocalObjects
from voxelvault.storage.shared_folder import SharedFolder

EMBEDDED = "embedded"

Typed = Mapping[str, Mapping[str, str]] | None


class ChosenCatalog:
    """What vault.toml's `catalog` stands for.

    Parameters
    ----------
    setting : str
        `embedded`, or postgresql://host[:port]/database.
    vault_id : str
        32 hexadecimal digits.

    Raises
    ------
    UsageError
        The setting is neither, or has a password in it.
    MissingExtra
        psycopg is not installed.
    """

    def __init__(self, setting: str, vault_id: str) -> None:
        self._vault_id = vault_id
        self._server = None if setting == EMBEDDED else PostgresServer(setting)

    @property
    def anywhere(self) -> bool:
        """Whether the vault's folder may be written on a network file system."""
        return self._server is not None

    def check(self) -> None:
        """Find out whether the server answers, before anything is made that needs it.

        Raises
        ------
        StorageError
            It doesn't.
        """
        if self._server is not None:
            self._server.ask(lambda connection: connection.execute("SELECT 1"))

    def locked(self, objects: ObjectStore) -> ObjectStore:
        """Return the store with the locks that this choice gives it."""
        if self._server is None or not isinstance(objects, LocalObjects):
            return objects
        return SharedFolder(objects.root, PostgresLocks(self._server, self._vault_id))

    def create(self, objects: ObjectStore, keys: CatalogKeys, typed: Typed = None) -> Catalog:
        """Make the catalog of a new vault."""
        if self._server is None:
            return DuckLakeCatalog.create(objects, keys, typed)
        return PostgresCatalog.create(self._server, objects, keys, typed)

    def unopened(
        self, objects: ObjectStore, keys: CatalogKeys, typed: Typed = None, *, read_only: bool = False
    ) -> Catalog:
        """Return a vault's catalog, whether it is there or not, to be written anew."""
        if self._server is None:
            return DuckLakeCatalog.unopened(objects, keys, typed, read_only=read_only)
        return PostgresCatalog.unopened(self._server, objects, keys, typed, read_only=read_only)

    def open(
        self, objects: ObjectStore, keys: CatalogKeys, typed: Typed = None, *, read_only: bool = False
    ) -> Catalog:
        """Open a vault's catalog."""
        if self._server is None:
            return DuckLakeCatalog.open(objects, keys, typed, read_only=read_only)
        return PostgresCatalog.open(self._server, objects, keys, typed, read_only=read_only)


__all__ = ["EMBEDDED", "ChosenCatalog"]

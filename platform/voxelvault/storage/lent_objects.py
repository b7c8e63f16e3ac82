"""The object store of a vault as a worker process sees it: nothing is replaced, little is added."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

from voxelvault.errors import PolicyDenied, UsageError
from voxelvault.model import Buffer, ObjectInfo, ObjectStore
from voxelvault.storage.layout import OBJECTS
from voxelvault.storage.objects import LocalObjects


class LentObjects:
    """A store to read, and to add objects to in some areas.

    Parameters
    ----------
    store : ObjectStore
        The vault's own, opened in this process.
    areas : sequence of str
        Where new objects may be put.
    """

    def __init__(self, store: ObjectStore, areas: Sequence[str] = ()) -> None:
        self._store = store
        self._areas = tuple(f"{area}/" for area in areas)
        self._own: set[str] = set()
        self._lock = threading.Lock()
        self.get, self.size, self.read_into = store.get, store.size, store.read_into
        self.versioned, self.version = store.versioned, store.version

    def put(self, name: str, parts: Iterable[Buffer]) -> None:
        """Create an object where that was allowed."""
        if not name.startswith(self._areas or "?"):
            raise PolicyDenied("this loan allows no writing here; write in the process that opened the vault")
        self._store.put(name, parts)
        if name.startswith(f"{OBJECTS}/"):
            with self._lock:
                self._own.add(name)

    def delete(self, name: str) -> None:
        """Take back an object of a pack that was put here under this loan; refuse any other."""
        with self._lock:
            own = name in self._own
        if not own:
            raise PolicyDenied("a loan allows no removal; do it in the process that opened the vault")
        self._store.delete(name)

    def replace(self, name: str, data: Buffer) -> NoReturn:
        """Refuse."""
        raise PolicyDenied("a loan allows no changes; make them in the process that opened the vault")

    def swap(self, name: str, data: Buffer, expected: str | None) -> NoReturn:
        """Refuse."""
        self.replace(name, data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Refuse: what was lent is known by name."""
        raise PolicyDenied("a loan lists nothing; look in the process that opened the vault")

    def lock(self, name: str, timeout: float) -> AbstractContextManager[None]:
        """Refuse."""
        raise PolicyDenied("a loan holds no locks; take them in the process that opened the vault")


def describe_store(store: ObjectStore) -> dict[str, Any]:
    """Return how another process opens a store; no secret is in it.

    Raises
    ------
    UsageError
        It is in this process's memory.
    """
    if isinstance(store, LocalObjects):
        return {"root": str(store.root), "durable": store.durable}
    if url := getattr(store, "url", ""):
        from voxelvault.storage.places import public_config

        return {"url": url, "config": public_config(url)}
    raise UsageError("this vault is in memory alone, where no worker process can read it; use num_workers=0")


def lent_store(described: Mapping[str, Any], areas: Sequence[str] = ()) -> LentObjects:
    """Open what `describe_store` described; object storage is asked with this process's credentials."""
    if "root" in described:
        return LentObjects(LocalObjects(Path(described["root"]), described["durable"]), areas)
    # Only here: a worker beside the vault needs none of it.
    from voxelvault.storage.places import store_at

    return LentObjects(store_at(described["url"], described["config"]), areas)


__all__ = ["LentObjects", "describe_store", "lent_store"]

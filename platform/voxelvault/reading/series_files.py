"""An open series as files that fsspec reads: the keys of its zarr store, nothing on any disk."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import fsspec
from fsspec.spec import AbstractFileSystem

from voxelvault.errors import NoPermission, PolicyDenied, UsageError
from voxelvault.model import new_id
from voxelvault.storage.zarr_store import Entry

PROTOCOL = "voxelvault"

_FACES: WeakValueDictionary[str, SeriesFiles] = WeakValueDictionary()


class SeriesFiles(AbstractFileSystem):  # type: ignore[misc]
    """A read-only file system over the zarr keys of one open series.

    Parameters
    ----------
    entries : mapping of str to bytes or RangeReader, optional
        The keys. It travels to other processes as these do: as a loan.
    face : str, optional
        Instead: the random id in the `url` of such a file system in this process.

    Raises
    ------
    PolicyDenied
        No open series of this process has that URL.

    Examples
    --------
    ``xarray.open_zarr(series.filesystem.get_mapper())``, and where a URL is wanted,
    ``fsspec.get_mapper(files.url)`` for as long as `files = series.filesystem` is kept.
    """

    protocol = PROTOCOL
    cachable = False
    root_marker = ""

    def __init__(
        self, entries: Mapping[str, Entry] | None = None, face: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if entries is None:
            known = _FACES.get(face or "")
            if known is None:
                raise PolicyDenied(
                    "no open series has this URL; keep `files = series.filesystem`, use its url"
                )
            entries = known._entries
        self._entries: Mapping[str, Entry] = entries
        self._face = new_id()
        self._sizes: dict[str, int] = {}
        self._folders = _folders(entries)

    @property
    def url(self) -> str:
        """Address within this process, good while this object is kept; random, it names nobody."""
        fsspec.register_implementation(PROTOCOL, SeriesFiles, clobber=True)
        _FACES[self._face] = self
        return f"{PROTOCOL}://{self._face}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(path)
        if text.startswith(f"{PROTOCOL}://"):
            text = text.removeprefix(f"{PROTOCOL}://").partition("/")[2]
        return text.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {"face": path.removeprefix(f"{PROTOCOL}://").partition("/")[0]}

    def get_mapper(self, root: str = "", **options: Any) -> Any:
        """Return the files as a mapping of key to bytes, for `xarray.open_zarr`."""
        return super().get_mapper(root, **options)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size and type; `FileNotFoundError` for what isn't there."""
        path = self._strip_protocol(path)
        if path in self._entries:
            return {"name": path, "size": self._size(path), "type": "file"}
        if path in self._folders:
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List a folder."""
        path = self._strip_protocol(path)
        names = self._folders.get(path)
        if names is None:
            found = [self.info(path)]
        else:
            found = [self.info(f"{path}/{name}".strip("/")) for name in names]
        return found if detail else [item["name"] for item in found]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Return a file's bytes, or a range of them."""
        path = self._strip_protocol(path)
        if path not in self._entries:
            raise FileNotFoundError(path)
        entry = self._entries[path]
        size = len(entry) if isinstance(entry, bytes) else entry.size
        first, stop, _step = slice(start, end).indices(size)
        return bytes(entry[first:stop] if isinstance(entry, bytes) else entry.read(first, max(first, stop)))

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        if mode != "rb":
            raise NoPermission("a series is never written through its files; `ingest` brings new ones")
        return io.BytesIO(self.cat_file(path))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise UsageError("a series is never changed through its files; `ingest` brings new ones")

    pipe_file = mkdir = makedirs = rm = rm_file = _rm = mv = cp_file = touch = _refuse

    def _size(self, path: str) -> int:
        # A slice's size is known without decoding it, but asking opens its pack.
        if path not in self._sizes:
            entry = self._entries[path]
            self._sizes[path] = len(entry) if isinstance(entry, bytes) else entry.size
        return self._sizes[path]


def _folders(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the names directly below each folder."""
    found: dict[str, dict[str, None]] = {"": {}}
    for key in entries:
        parts = key.split("/")
        for depth, name in enumerate(parts):
            found.setdefault("/".join(parts[:depth]), {})[name] = None
    return {folder: list(names) for folder, names in found.items()}


__all__ = ["PROTOCOL", "SeriesFiles"]

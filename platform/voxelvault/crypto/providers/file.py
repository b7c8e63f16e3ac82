"""A private key in a file of its owner's."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from voxelvault.crypto.hybrid import PrivateKey, public_text
from voxelvault.crypto.providers import fits, recipient_key
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import KeyUnavailable, NoPermission, NoSpace, StorageError, UsageError

_NONE = "there is no key file at the given place: make one, or say where it is"


class FileProvider:
    """Private keys from one key file.

    Parameters
    ----------
    path : path
        The key file.
    allow_shared : bool
        Take a file that others can read, too.
    required : bool
        That there is no such file is a failure, and not just no key.

    Notes
    -----
    While a key is being replaced, its successor lies beside it with the suffix `.next`: whichever
    of the two the vault record names opens it, so a crash in between locks nobody out.
    """

    name = "file"

    def __init__(
        self, path: str | os.PathLike[str], *, allow_shared: bool = False, required: bool = False
    ) -> None:
        self._path = Path(path).expanduser()
        self._allow_shared = allow_shared
        self._required = required

    def create(self, label: str = "") -> NewSlot:
        """Write a fresh key to the file, readable by its owner only, and return its slot.

        Raises
        ------
        UsageError
            The file is there already: a key is never overwritten.
        StorageError
            The file can't be written.
        """
        return self._create(self._path, label)

    def slot(self, label: str = "") -> NewSlot:
        """Return a slot for the key that the file holds already.

        Raises
        ------
        KeyUnavailable
            There is no usable key file.
        """
        return NewSlot(self.name, self.private_key().public_key(), label)

    def recipient_text(self) -> str:
        """Return the public key to hand over to whoever sends a vault.

        Raises
        ------
        KeyUnavailable
            There is no usable key file.
        """
        return public_text(recipient_key(self.private_key()).public_key())

    def create_next(self, label: str = "") -> NewSlot:
        """Write the key's successor beside it and return its slot; `promote` follows.

        Raises
        ------
        StorageError
            The file can't be written.
        """
        with contextlib.suppress(UsageError):
            return self._create(self._next, label)
        successor = self._read(self._next)
        if successor is None:
            raise KeyUnavailable("the key file's successor vanished: try again")
        return NewSlot(self.name, successor.public_key(), label)

    def promote(self) -> None:
        """Put the successor in the key's place, once the vault record names it."""
        os.replace(self._next, self._path)
        _sync_folder(self._path.parent)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if it is in the file.

        Raises
        ------
        KeyUnavailable
            The file is damaged, or others can read it; or it is required, and not there.
        """
        there = False
        for path in (self._path, self._next):
            key = self._read(path)
            found = fits(key, slot) if key else None
            if found:
                return found
            there = there or key is not None
        if self._required and not there:
            raise KeyUnavailable(_NONE)
        return None

    @property
    def _next(self) -> Path:
        return self._path.with_name(self._path.name + ".next")

    def private_key(self) -> PrivateKey:
        """Return the key that the file holds.

        Raises
        ------
        KeyUnavailable
            There is no usable key file.
        """
        key = self._read(self._path)
        if key is None:
            raise KeyUnavailable(_NONE)
        return key

    def _read(self, path: Path) -> PrivateKey | None:
        try:
            with open(path, encoding="ascii") as file:
                if os.fstat(file.fileno()).st_mode & 0o077 and not self._allow_shared:
                    raise KeyUnavailable(
                        "others can read the key file: run chmod 600 on it, or allow it explicitly"
                    )
                return PrivateKey.from_text(file.read(4096))
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise KeyUnavailable(
                "the key file is damaged: restore it from a copy, or use the recovery code"
            ) from None
        except OSError:
            raise KeyUnavailable("the key file can't be read: check its owner and permissions") from None

    def _create(self, path: Path, label: str) -> NewSlot:
        key = PrivateKey.generate()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError("there is a key file already: use it, or say where the new one goes") from None
        except PermissionError:
            raise NoPermission("the key file can't be written there: say where else it goes") from None
        except OSError:
            raise StorageError(
                "the key file can't be written: check the disk, or say where else it goes"
            ) from None
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(key.text() + "\n")
                file.flush()
                os.fsync(handle)
        except OSError:
            path.unlink()
            raise NoSpace(
                "the key file can't be written: free some space, or say where else it goes"
            ) from None
        _sync_folder(path.parent)
        return NewSlot(self.name, key.public_key(), label)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["FileProvider"]

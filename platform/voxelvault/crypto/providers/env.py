"""A private key in an environment variable, for jobs and containers."""

from __future__ import annotations

import os
from collections.abc import Mapping

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.providers import fits
from voxelvault.crypto.vault_record import NewSlot, Slot
from voxelvault.errors import KeyUnavailable

VARIABLE = "VOXELVAULT_KEY"


class EnvProvider:
    """The private key whose text is in `VOXELVAULT_KEY`.

    Parameters
    ----------
    environment : mapping, optional
        Instead of the process's own.
    """

    name = "env"

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    def slot(self, label: str = "") -> NewSlot:
        """Return a slot for the key in the variable.

        Raises
        ------
        KeyUnavailable
            The variable is empty or no private key.
        """
        key = self._key()
        if key is None:
            raise KeyUnavailable(f"{VARIABLE} is not set: put the text of a private key there")
        return NewSlot(self.name, key.public_key(), label)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if it is in the variable.

        Raises
        ------
        KeyUnavailable
            The variable holds no private key.
        """
        key = self._key()
        return fits(key, slot) if key else None

    def _key(self) -> PrivateKey | None:
        text = self._environment.get(VARIABLE, "").strip()
        return PrivateKey.from_text(text) if text else None


__all__ = ["VARIABLE", "EnvProvider"]

"""A slot for somebody else, who gave us a public key: that is how a vault is handed over."""

from __future__ import annotations

from voxelvault.crypto.hybrid import public_from_text
from voxelvault.crypto.providers import RECIPIENT
from voxelvault.crypto.vault_record import NewSlot


def recipient_slot(text: str, label: str = "") -> NewSlot:
    """Return a slot that opens with the recipient's own key file.

    Parameters
    ----------
    text : str
        What the recipient's `FileProvider.recipient_text` returned.
    label : str
        For people; stored in clear.

    Raises
    ------
    UsageError
        The text is no public key, or it was damaged.
    """
    return NewSlot(RECIPIENT, public_from_text(text), label)


__all__ = ["recipient_slot"]

"""Proofs as plain JSON, and what a verification says.

An inclusion proof is checked by someone who has the log's public key and nothing else of the vault.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, open_checkpoint
from voxelvault.audit.leaf import Entry, decode_leaf
from voxelvault.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from voxelvault.errors import IntegrityError
from voxelvault.model import FORMAT

_NOT_A_PROOF = "this is not a proof; give the file that `audit prove` wrote"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `AuditLog.verify` proved.

    Parameters
    ----------
    size : int
        Number of entries, each opened and compared with the tree.
    root : str
        Root hash, hexadecimal.
    checkpoint : str
        The log's own signed checkpoint.
    against : int or None
        Size of the earlier checkpoint that the log was compared with.
    texts : int or None
        How many free texts were opened and compared; None when that was not asked for.
    witnessed : int or None
        Entries that the quorum of witnesses attests; None when no policy was given.
    """

    size: int
    root: str
    checkpoint: str
    against: int | None = None
    texts: int | None = None
    witnessed: int | None = None

    def __str__(self) -> str:
        """Say in one sentence what was proved, and from which checkpoint."""
        whole = f"{self.size} entries make the tree that the log's own checkpoint signs"
        if self.witnessed:
            return (
                f"{whole} and begin with the {self.witnessed} entries that the policy's quorum of witnesses "
                "cosigned: nobody could have rewritten those without that quorum's keys"
            )
        if self.against is None:
            return f"{whole}; nothing older was given: whoever holds the vault's keys could have rewritten it"
        return (
            f"{whole} and begin with the {self.against} entries of the checkpoint that was kept; "
            "no witness cosigned it"
        )


def inclusion_proof(index: int, leaf: bytes, path: Sequence[bytes], note: str) -> dict[str, Any]:
    """Return an entry's proof as JSON; it holds the leaf in clear."""
    encoded = base64.b64encode(leaf).decode("ascii")
    return {"format": FORMAT, "index": index, "leaf": encoded, "hashes": _hex(path), "checkpoint": note}


def consistency_proof(old_size: int, path: Sequence[bytes], note: str) -> dict[str, Any]:
    """Return the proof of growth since `old_size` entries as JSON (RFC 6962, 2.1.2)."""
    return {"format": FORMAT, "old_size": old_size, "hashes": _hex(path), "checkpoint": note}


def _hex(path: Sequence[bytes]) -> list[str]:
    return [value.hex() for value in path]


def verify_proof(proof: Mapping[str, Any], key: NoteKey) -> Entry:
    """Check an entry's proof with nothing but the log's public key.

    Parameters
    ----------
    proof : mapping
        From `AuditLog.prove`.
    key : NoteKey
        The log's verifier key, obtained from a place one trusts.

    Returns
    -------
    Entry
        The entry, now known to be in the log whose checkpoint the proof carries.

    Raises
    ------
    IntegrityError
        The proof does not hold.
    """
    try:
        leaf = base64.b64decode(proof["leaf"], validate=True)
        path = [bytes.fromhex(value) for value in proof["hashes"]]
        index, note = int(proof["index"]), str(proof["checkpoint"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise IntegrityError(_NOT_A_PROOF) from None
    checkpoint = open_checkpoint(note, key)
    verify_inclusion(leaf_hash(leaf), index, checkpoint.size, path, checkpoint.root)
    return decode_leaf(index, leaf)


def verify_growth(proof: Mapping[str, Any], older: str, key: NoteKey) -> Checkpoint:
    """Check that the log only grew, with nothing but its public key and an older checkpoint.

    Parameters
    ----------
    proof : mapping
        From `AuditLog.consistency`.
    older : str
        The signed checkpoint that was kept.
    key : NoteKey
        The log's verifier key.

    Returns
    -------
    Checkpoint
        The newer state, to be kept from now on.

    Raises
    ------
    IntegrityError
        The proof does not hold.
    """
    try:
        path, note = [bytes.fromhex(value) for value in proof["hashes"]], str(proof["checkpoint"])
    except (KeyError, TypeError, ValueError):
        raise IntegrityError(_NOT_A_PROOF) from None
    old, new = open_checkpoint(older, key), open_checkpoint(note, key)
    verify_consistency(old.size, new.size, path, old.root, new.root)
    return new

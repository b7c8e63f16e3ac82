"""The DEK of a pack, wrapped under its study's key, as it stands in the pack's manifest."""

from __future__ import annotations

from voxelvault.crypto.key_state import KeyState
from voxelvault.crypto.key_tree import PARENTS
from voxelvault.crypto.wrap import WrapContext, derive, unwrap, wrap
from voxelvault.errors import UsageError

_ROLE, _LABEL = "pack", "wrap/pack"


def wrap_dek(state: KeyState, study_key_id: str, pack_id: str, dek: bytes) -> str:
    """Wrap a pack's DEK; hexadecimal. `KeyRing.wrap_dek` says what can fail."""
    return wrap(_wrapping(state, study_key_id), dek, _context(state, study_key_id, pack_id)).hex()


def unwrap_dek(state: KeyState, study_key_id: str, pack_id: str, wrapped: str) -> bytes:
    """Return the DEK that `wrap_dek` wrapped; `KeyRing.unwrap_dek` says what can fail."""
    context = _context(state, study_key_id, pack_id)
    return unwrap(_wrapping(state, study_key_id), _from_hex(wrapped), context)


def _wrapping(state: KeyState, study_key_id: str) -> bytes:
    with state.mutex:
        state.know(study_key_id)
        if state.tree.place(study_key_id).role not in PARENTS:
            raise UsageError(f"key {study_key_id} wraps no packs: name a study or subject key")
        return derive(state.tree.raw(study_key_id), _LABEL)


def _context(state: KeyState, study_key_id: str, pack_id: str) -> WrapContext:
    # Generation 0: a manifest is written once and outlives every root.
    return WrapContext(_ROLE, state.record.vault_id, pack_id, study_key_id, 0)


def _from_hex(wrapped: str) -> bytes:
    try:
        return bytes.fromhex(wrapped)
    except ValueError:
        return b""  # refused as of the wrong length


__all__ = ["unwrap_dek", "wrap_dek"]

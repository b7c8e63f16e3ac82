"""The vault record: one document that says which slots open the vault and which pages hold its keys.

Its payload is canonical JSON; the root key MACs it and the log's key signs it. The MAC keeps a
stranger's slot or page out, the signature ties the record to the log that people have pinned, and
the root commitment makes up for GCM not committing to its key. Nothing here does I/O.

References
----------
RFC 2104 (HMAC), RFC 8032 (Ed25519), RFC 9180 (HPKE)
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from voxelvault.crypto.hybrid import PrivateKey, seal_to
from voxelvault.crypto.text_code import from_groups, to_groups
from voxelvault.crypto.wrap import KEY_LENGTH, derive
from voxelvault.errors import ForgedRecord, IntegrityError, NewerFormat
from voxelvault.model import FORMAT, new_id

_SLOT_INFO = struct.Struct(">18s16s16sQ")
# A checkpoint, which the same key signs, is text and never begins with a zero byte.
_SIGNED = b"\0voxelvault/1/record\0"
_FINGERPRINT_LENGTH = 20


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot to be: whose public key the root will be sealed to.

    Parameters
    ----------
    provider : str
        Who finds the private key: `file`, `passphrase`, `env`, `recovery`, `recipient`, ….
    public_key : bytes
        1,216 bytes (`voxelvault.crypto.hybrid`).
    label : str
        For people; it is stored in clear.
    parameters : mapping
        What the provider needs to find the private key again; stored in clear.
    """

    provider: str
    public_key: bytes
    label: str = ""
    parameters: Mapping[str, str | int] = field(default_factory=dict)

    def seal(self, root: bytes, vault_id: str, generation: int, slot_id: str | None = None) -> Slot:
        """Return the slot with the root sealed to it, under a fresh id unless one is given."""
        slot_id = slot_id or new_id()
        sealed = seal_to(self.public_key, root, _slot_info(vault_id, slot_id, generation))
        return Slot(self.provider, self.public_key, self.label, self.parameters, slot_id, sealed)


@dataclass(frozen=True, slots=True)
class Slot(NewSlot):
    """A way to the root key: the root, sealed to one public key.

    Parameters
    ----------
    slot_id : str
        32 hexadecimal digits.
    sealed_root : bytes
        HPKE's encapsulated key and ciphertext; `info` is vault id, slot id and generation.
    """

    slot_id: str = ""
    sealed_root: bytes = b""

    def seal(self, root: bytes, vault_id: str, generation: int, slot_id: str | None = None) -> Slot:
        """Return the slot with another root sealed to it, under its own id."""
        return NewSlot.seal(self, root, vault_id, generation, slot_id or self.slot_id)

    def open(self, key: PrivateKey, vault_id: str, generation: int) -> bytes:
        """Return the root key.

        Raises
        ------
        IntegrityError
            The root was sealed to another key, slot, vault or generation.
        """
        return key.open(self.sealed_root, _slot_info(vault_id, self.slot_id, generation))


@dataclass(frozen=True, slots=True)
class PageRef:
    """One page of wrapped keys: its id, the SHA-256 of its bytes, how many keys it holds."""

    page_id: str
    sha256: str
    count: int


@dataclass(frozen=True, slots=True)
class VaultRecord:
    """What the record says.

    Parameters
    ----------
    vault_id : str
        32 hexadecimal digits.
    number : int
        One more at every write.
    generation : int
        One more at every new root.
    vault_toml_sha256, root_commitment : str
        Hexadecimal.
    log_public_key : bytes
        Ed25519, 32 bytes: the vault's identity to those who pinned it.
    slots : tuple of Slot
    pages : tuple of PageRef
        Oldest first; a later page's entry for a key supersedes an earlier one's.
    settings : mapping
        Settings of the vault that nobody without the root key may change.
    """

    vault_id: str
    number: int
    generation: int
    vault_toml_sha256: str
    root_commitment: str
    log_public_key: bytes
    slots: tuple[Slot, ...]
    pages: tuple[PageRef, ...]
    settings: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record as it is stored: payload, MAC, signature, and the SHA-256 of the whole document."""

    record: VaultRecord
    payload: bytes
    mac: bytes
    signature: bytes
    document: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the document, hexadecimal: what the log commits to."""
        return hashlib.sha256(self.document).hexdigest()


def build(record: VaultRecord, root: bytes, sign: Callable[[bytes], bytes]) -> SignedRecord:
    """Return the record, MACed under `root` and signed by `sign` (Ed25519, the log's key)."""
    payload = _canonical(_payload(record))
    mac = _mac(root, payload)
    signature = sign(_SIGNED + payload + mac)
    return SignedRecord(record, payload, mac, signature, _document(record, mac, signature))


def parse(document: bytes) -> SignedRecord:
    """Read a stored record; it proves nothing until `verify_origin` and `verify_root` have run.

    Raises
    ------
    ForgedRecord
        The bytes are not exactly a document that `build` makes.
    NewerFormat
        A newer version of this package wrote it.
    """
    try:
        outer = json.loads(document)
        if isinstance(form := outer["record"]["format"], int) and form > FORMAT:
            raise NewerFormat(f"the vault record has format {form}: upgrade voxelvault to open this vault")
        record = _record(outer["record"])
        mac, signature = _decode(outer["mac"]), _decode(outer["signature"])
        # One spelling for each record: doubled names, blanks and other forms of a number fail here.
        if _document(record, mac, signature) != document:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ForgedRecord("the vault record is damaged: restore keys/record.json from a copy") from None
    return SignedRecord(record, _canonical(_payload(record)), mac, signature, document)


def verify_origin(signed: SignedRecord, vault_id: str, vault_toml: bytes) -> None:
    """Check what can be checked without the root key.

    Parameters
    ----------
    signed : SignedRecord
    vault_id : str
        Of the vault being opened.
    vault_toml : bytes
        The vault's public description, as stored.

    Raises
    ------
    ForgedRecord
        The record is of another vault, or its description or signature was changed.
    """
    record = signed.record
    if record.vault_id != vault_id or record.vault_toml_sha256 != hashlib.sha256(vault_toml).hexdigest():
        raise ForgedRecord("vault.toml is not the one the vault record vouches for: restore it from a copy")
    try:
        key = Ed25519PublicKey.from_public_bytes(record.log_public_key)
        key.verify(signed.signature, _SIGNED + signed.payload + signed.mac)
    except (InvalidSignature, ValueError):
        raise ForgedRecord(
            "the vault record is not signed by its log's key: restore keys/ from a copy"
        ) from None


def verify_root(signed: SignedRecord, root: bytes) -> None:
    """Check that the holder of the root key wrote the record.

    Raises
    ------
    ForgedRecord
        The MAC or the root commitment does not fit.
    """
    same_root = hmac.compare_digest(commitment(root), signed.record.root_commitment)
    if not (same_root and hmac.compare_digest(_mac(root, signed.payload), signed.mac)):
        raise ForgedRecord("the vault record is not what its root key vouches for: restore keys/ from a copy")


def commitment(root: bytes) -> str:
    """Return the commitment to a root key, hexadecimal."""
    return derive(root, "record/commitment").hex()


def fingerprint(vault_id: str, log_public_key: bytes) -> str:
    """Return what identifies a vault to a recipient, as groups that can be read aloud."""
    whole = b"voxelvault/1/fingerprint" + bytes.fromhex(vault_id) + log_public_key
    return to_groups(hashlib.sha256(whole).digest()[:_FINGERPRINT_LENGTH])


def same_fingerprint(given: str, vault_id: str, log_public_key: bytes) -> bool:
    """Say whether a typed fingerprint is this vault's; a misspelt one is not."""
    try:
        typed = from_groups(given, _FINGERPRINT_LENGTH)
    except ValueError:
        return False
    return to_groups(typed) == fingerprint(vault_id, log_public_key)


def root_from(slot: Slot, key: PrivateKey, record: VaultRecord) -> bytes:
    """Open one slot of a record.

    Raises
    ------
    ForgedRecord
        The slot names this key but does not open with it.
    """
    try:
        root = slot.open(key, record.vault_id, record.generation)
        if len(root) != KEY_LENGTH:
            raise IntegrityError
    except IntegrityError:
        raise ForgedRecord(
            f"slot {slot.slot_id} does not open: restore keys/record.json from a copy"
        ) from None
    return root


def _slot_info(vault_id: str, slot_id: str, generation: int) -> bytes:
    ids = bytes.fromhex(vault_id), bytes.fromhex(slot_id)
    return _SLOT_INFO.pack(b"voxelvault/1/slot", *ids, generation)


def _mac(root: bytes, payload: bytes) -> bytes:
    return hmac.digest(derive(root, "record/mac"), payload, "sha256")


def _canonical(value: object) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def _document(record: VaultRecord, mac: bytes, signature: bytes) -> bytes:
    return _canonical({"record": _payload(record), "mac": _encode(mac), "signature": _encode(signature)})


def _payload(record: VaultRecord) -> dict[str, Any]:
    plain = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    slots = [{f.name: getattr(slot, f.name) for f in dataclasses.fields(slot)} for slot in record.slots]
    for slot in slots:
        slot |= {name: _encode(slot[name]) for name in ("public_key", "sealed_root")}
        slot["parameters"] = dict(slot["parameters"])
    return plain | {
        "format": FORMAT,
        "log_public_key": _encode(record.log_public_key),
        "slots": slots,
        "pages": [dataclasses.asdict(page) for page in record.pages],
        "settings": dict(record.settings),
    }


def _record(payload: dict[str, Any]) -> VaultRecord:
    plain = {name: value for name, value in payload.items() if name != "format"}
    slots = [
        Slot(**slot | {name: _decode(slot[name]) for name in ("public_key", "sealed_root")})
        for slot in payload["slots"]
    ]
    counters = [payload[name] for name in ("format", "number", "generation")]
    if not all(isinstance(n, int) and 0 < n < 1 << 63 for n in counters):
        raise ValueError
    # These are used before the MAC can be checked.
    if not all(_is_id(i) for i in (payload["vault_id"], *(slot.slot_id for slot in slots))):
        raise ValueError
    if not all(isinstance(text, str) for slot in slots for text in (slot.provider, slot.label)):
        raise ValueError
    if not all(map(_is_plain, (payload["settings"], *(slot.parameters for slot in slots)))):
        raise ValueError
    return VaultRecord(
        **plain
        | {
            "log_public_key": _decode(payload["log_public_key"]),
            "slots": tuple(slots),
            "pages": tuple(PageRef(**page) for page in payload["pages"]),
        }
    )


def _is_id(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{32}", text) is not None


def _is_plain(mapping: object) -> bool:
    return isinstance(mapping, dict) and all(isinstance(value, str | int) for value in mapping.values())


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


__all__ = [
    "NewSlot",
    "PageRef",
    "SignedRecord",
    "Slot",
    "VaultRecord",
    "build",
    "commitment",
    "fingerprint",
    "parse",
    "root_from",
    "same_fingerprint",
    "verify_origin",
    "verify_root",
]

"""Messages between server and site: a signed JSON head and weights as safetensors; no pickle.

::

    "vvfl1", newline | length of the head (4 bytes, big-endian) | head | Ed25519 signature (64) | weights

The head is canonical JSON and holds the SHA-256 of the weights' bytes, so one signature covers both. It
names job, round, site and turn. The server's turns of one job and site only grow, and a site answers a turn
once; the site's answer names the digest of the request it answers, and so fits no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from safetensors import SafetensorError
from safetensors.numpy import load, save

from voxelvault_fl.errors import JobRefused, MessageRefused
from voxelvault_fl.jobs.strict import canonical
from voxelvault_fl.jobs.task import Weights

SERVER = "server"
"""The sender's name where the server speaks; no site has it."""
KINDS = ("offer", "follow", "train", "evaluate", "test", "personalise", "finish")
HEAD_BYTES = 16 << 20
"""No head is larger."""

_MAGIC = b"vvfl1\n"
_DOMAIN = b"voxelvault federated message v1\n"
_SIGNATURE = 64
_FIELDS = {
    "kind": str, "job": str, "round": int, "site": str, "turn": int, "sender": str, "answers": str,
    "said": dict, "body": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message.

    Parameters
    ----------
    kind : str
        One of `KINDS`, in both directions.
    job : str
        Digest of the job.
    round, turn : int
        Which round, and a number that grows with each message to this site in this job.
    site, sender : str
        The site it is to or from; `SERVER` or the site again.
    said : mapping
        Plain data: counts, metrics, records.
    weights : mapping of str to array
        May be empty.
    answers : str
        Digest of the request that a site answers; empty for the server's.
    """

    kind: str
    job: str
    round: int
    site: str
    turn: int
    sender: str
    said: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights = field(default_factory=dict)
    answers: str = ""


def message_digest(data: bytes) -> str:
    """Return the SHA-256 of a packed message, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def pack(message: Message, key: Ed25519PrivateKey) -> bytes:
    """Return a message as signed bytes."""
    body = save(message.weights) if message.weights else b""
    head = canonical(
        {
            "kind": message.kind,
            "job": message.job,
            "round": message.round,
            "site": message.site,
            "turn": message.turn,
            "sender": message.sender,
            "answers": message.answers,
            "said": dict(message.said),
            "body": hashlib.sha256(body).hexdigest(),
        }
    )
    return _MAGIC + len(head).to_bytes(4, "big") + head + key.sign(_DOMAIN + head) + body


def signed_head(data: bytes) -> bytes:
    """Return a message's head and signature without its weights: what its sender attests."""
    head, signature, _ = _cut(data, len(data))
    return _MAGIC + len(head).to_bytes(4, "big") + head + signature


def body_of(data: bytes) -> str:
    """Return the SHA-256 of the weights that a head names; the head's signature was checked before."""
    return str(_head(_cut(data, 0)[0])["body"])


def attested(data: bytes, key: Ed25519PublicKey) -> dict[str, Any]:
    """Check what `signed_head` kept, and return the head: plain data; ``body`` is the weights' digest.

    Raises
    ------
    MessageRefused
        It isn't signed with that key.
    """
    head, signature, _ = _cut(data, 0)
    _verify(key, signature, head)
    return _head(head)


def unpack(data: bytes, key: Ed25519PublicKey, most: int) -> Message:
    """Check a message's size, signature and weights, in this order, and return it.

    Parameters
    ----------
    data : bytes
        As it came.
    key : Ed25519PublicKey
        Of who should have sent it.
    most : int
        Bytes that weights may have.

    Raises
    ------
    MessageRefused
        It is too large, malformed, or not signed with that key.
    """
    head, signature, body = _cut(data, most)
    _verify(key, signature, head)
    said = _head(head)
    if hashlib.sha256(body).hexdigest() != said.pop("body"):
        raise MessageRefused("digest", "the weights aren't those that were signed")
    return Message(weights=_weights(body), **said)


def _verify(key: Ed25519PublicKey, signature: bytes, head: bytes) -> None:
    try:
        key.verify(signature, _DOMAIN + head)
    except InvalidSignature:
        raise MessageRefused("signature", "the message isn't signed by who should have sent it") from None


def _cut(data: bytes, most: int) -> tuple[bytes, bytes, bytes]:
    start = len(_MAGIC) + 4
    length = int.from_bytes(data[len(_MAGIC) : start], "big")
    if not data.startswith(_MAGIC) or length > HEAD_BYTES or len(data) < start + length + _SIGNATURE:
        raise MessageRefused("malformed", "this is no message of a federated round")
    end = start + length + _SIGNATURE
    if len(data) - end > most:
        raise MessageRefused("size", "the message is larger than the job's model allows")
    return data[start : start + length], data[start + length : end], data[end:]


def _head(head: bytes) -> dict[str, Any]:
    try:
        said = json.loads(head)
        fits = set(said) == set(_FIELDS) and all(type(said[name]) is kind for name, kind in _FIELDS.items())
        # What can't be written again as it came (a key twice, no number, half a letter) is in no record.
        fits = fits and canonical(said) == head
    except (ValueError, TypeError, RecursionError, JobRefused):
        fits = False
    if not fits or said["kind"] not in KINDS:
        raise MessageRefused("malformed", "the message's head isn't one of ours")
    return dict(said)


def _weights(body: bytes) -> Weights:
    try:
        return load(body) if body else {}
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise MessageRefused("malformed", "the weights are no safetensors") from None


__all__ = [
    "HEAD_BYTES", "KINDS", "SERVER", "Message", "attested", "body_of", "message_digest", "pack",
    "signed_head", "unpack",
]  # fmt: skip

"""What runs in a worker process: it makes a key pair, opens what is lent to it, and answers sealed.

Nothing is raised here, and nothing but ciphertext returned: a worker logs what a task raises, with
the task's arguments, and keeps what it returns.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
from typing import Any

import imagecodecs

from voxelvault.crew import Bench, Work
from voxelvault.crypto.grants import adopt, disown, open_grant, seal_reply
from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.errors import ObjectMissing, StorageError, VoxelVaultError
from voxelvault.reading.lending import SECRETS, OpenLoan, forget_lent
from voxelvault.reading.processes import check_process, opened
from voxelvault.storage.layout import VAULT_TOML

REPLY = "reply"
"""Name under which a grant carries the key that the answer is sealed under."""

FAMILY = b"voxelvault family 1\n"
"""HPKE's `info` of a family's key on its way to a worker, before the session."""

SEALED, REFUSED = b"+", b"-"
"""What an answer begins with: ciphertext follows, or a code."""

Outcome = tuple[bool, Any]
"""True and what the work returned; False, an error's class and its message."""

_keys: dict[str, PrivateKey] = {}
_guard = threading.Lock()


def introduce(session: str) -> bytes:
    """Return the public key that this process has for a session; made at the first call.

    Parameters
    ----------
    session : str
        Random id of a verb's run.
    """
    for name in SECRETS:
        os.environ.pop(name, None)
    with _guard:
        return _keys.setdefault(session, PrivateKey.generate()).public_key()


def forget(session: str) -> None:
    """Drop the key pair of a session that is over: what was lent under it opens no more."""
    with _guard:
        _keys.pop(session, None)
    disown(session)
    forget_lent()


def join(session: str, sealed: bytes) -> None:
    """Join the family of the process that has the vault open, until `forget`; raises codes alone."""
    with _guard:
        private = _keys[session]
    adopt(session, PrivateKey(private.open(sealed, FAMILY + session.encode())))


def perform(session: str, sealed: bytes) -> bytes:
    """Do the unit of work that a sealed grant carries.

    Returns
    -------
    bytes
        The answer, sealed under the grant's own key; or a code where the grant did not open.
    """
    try:
        check_process()
        with _guard:
            private = _keys[session]
        grant = open_grant(sealed, private, time.time())
        reply = grant.keys[REPLY]
    except Exception as error:
        return REFUSED + type(error).__name__.encode()
    opened()
    outcome = _outcome(OpenLoan(grant))
    return SEALED + seal_reply(reply, grant.grant_id, packed(outcome))


def packed(value: object) -> bytes:
    """Return a value pickled and compressed: headers and rows shrink to a tenth."""
    return bytes(imagecodecs.zstd_encode(pickle.dumps(value), level=1))


def unpacked(data: bytes) -> Any:
    """Return what `packed` packed; for what came sealed, from whom it could only come, alone."""
    return pickle.loads(imagecodecs.zstd_decode(data))  # noqa: S301


def _outcome(loan: OpenLoan) -> Outcome:
    try:
        # Safe: whoever could change the payload could change the code that runs here.
        work, argument, digest = unpacked(loan.payload)
        _require_vault(loan, digest)
        return True, _result(work, loan, argument)
    except VoxelVaultError as error:
        return False, (type(error).__name__, str(error))
    except Exception as error:
        # Other errors' messages may hold values: the name alone goes back.
        return False, ("VoxelVaultError", f"a worker failed in an unforeseen way ({type(error).__name__})")


def _require_vault(loan: OpenLoan, digest: str) -> None:
    """Make sure that the vault is here: a worker would fill an empty folder of its own without a word."""
    try:
        found = hashlib.sha256(loan.sealed().objects.get(VAULT_TOML)).hexdigest()
    except ObjectMissing:
        found = ""
    if found != digest:
        raise StorageError(
            "a worker does not see this vault: mount its folder on every worker at the same path, or use a "
            "vault in object storage"
        )


def _result(work: Work, bench: Bench, argument: Any) -> Any:
    return work(bench, argument)


__all__ = [
    "FAMILY",
    "REFUSED",
    "REPLY",
    "SEALED",
    "forget",
    "introduce",
    "join",
    "packed",
    "perform",
    "unpacked",
]

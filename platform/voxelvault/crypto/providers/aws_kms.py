"""A private key that a key of AWS KMS wraps.

KMS binds what it encrypts to an encryption context of vault id and slot id, which its key policy
can ask for and CloudTrail records. It opens what former versions of the key made, so a rotation of
the key, which KMS does by itself, changes nothing here.

Credentials, region of aliases and endpoints come from where boto3 looks for them; a slot names only
the key's ARN, so a record that somebody wrote can't lead to another host.

References
----------
AWS KMS API Reference, Encrypt and Decrypt; AWS KMS Developer Guide, "Encryption context"
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.providers.key_service import context, not_its_own, unwrapped_key, wrapped_slot
from voxelvault.crypto.vault_record import Slot
from voxelvault.errors import KeyUnavailable, MissingExtra, UsageError, VoxelVaultError

ATTEMPTS = 5
"""Calls made at most; botocore waits between them, longer each time and a random part of it."""
_CONNECT_SECONDS, _READ_SECONDS = 5, 10
_ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,256}")

_CREDENTIALS = "AWS knows no valid credentials: sign in (`aws sso login`), or set AWS_PROFILE"
_OUTAGE = "AWS KMS was not reached: check the network and the endpoint, and try again"
_THROTTLED = "AWS KMS is throttling: wait a minute and try again, or have the quota raised"
_STATE = "its KMS key is disabled or waits for its deletion: enable it, or cancel the deletion, at once"
_DENIED = "AWS KMS denied it: ask for kms:Decrypt (to add slots, kms:Encrypt) on the slot's key"
_ABSENT = "there is no such KMS key: check account and region, and the ARN in `keys list`"
_SAID = {
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "DependencyTimeoutException": _OUTAGE,
    "DisabledException": _STATE,
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "KMSInternalException": _OUTAGE,
    "KMSInvalidStateException": _STATE,
    "KeyUnavailableException": _OUTAGE,
    "LimitExceededException": _THROTTLED,
    "NotFoundException": _ABSENT,
    "ServiceUnavailable": _OUTAGE,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ThrottlingException": _THROTTLED,
    "UnrecognizedClientException": _CREDENTIALS,
}
_NOT_ITS_OWN = {"InvalidCiphertextException", "IncorrectKeyException"}


class AwsKmsProvider:
    """Private keys wrapped by AWS KMS.

    Parameters
    ----------
    vault_id : str
        32 hexadecimal digits; part of the encryption context.
    """

    name = "aws-kms"

    def __init__(self, vault_id: str) -> None:
        self._vault_id = vault_id

    def slot(self, key: str, label: str = "", slot_id: str | None = None) -> Slot:
        """Return a slot whose private key the KMS key with the ARN `key` wraps.

        Raises
        ------
        UsageError
            It is no ARN of a key or an alias.
        KeyUnavailable
            KMS refused or was not reached.
        MissingExtra
            boto3 is not installed.
        """
        if not _ARN.fullmatch(key):
            raise UsageError(
                "a KMS key is named by its ARN: arn:aws:kms:REGION:ACCOUNT:key/ID, or …:alias/NAME"
            )

        def encrypt(seed: bytes, new_slot_id: str) -> bytes:
            bound = context(self._vault_id, new_slot_id)
            answer = _call(key, new_slot_id, "encrypt", Plaintext=seed, EncryptionContext=bound)
            return bytes(answer["CiphertextBlob"])

        return wrapped_slot(self.name, key, label, slot_id, encrypt)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if it is one that KMS wraps.

        Raises
        ------
        KeyUnavailable
            KMS refused or was not reached, or the slot is another vault's.
        MissingExtra
            boto3 is not installed.
        """
        if slot.provider != self.name:
            return None

        def decrypt(key: str, wrapped: bytes) -> bytes:
            bound = context(self._vault_id, slot.slot_id)
            answer = _call(key, slot.slot_id, "decrypt", CiphertextBlob=wrapped, EncryptionContext=bound)
            return bytes(answer["Plaintext"])

        return unwrapped_key(slot, decrypt)


def _call(key: str, slot_id: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
    arn = _ARN.fullmatch(key)
    if arn is None:
        raise not_its_own(slot_id)
    answer, problem = _answer(arn[1], slot_id, operation, {"KeyId": key, **parameters})
    if problem is not None:
        # Raised here, where no frame of botocore's with its request hangs on the exception.
        raise problem
    return answer


def _answer(
    region: str, slot_id: str, operation: str, parameters: Mapping[str, Any]
) -> tuple[Mapping[str, Any], VoxelVaultError | None]:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return {}, MissingExtra("AWS KMS needs boto3: pip install 'voxelvault[aws]'")
    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
    )
    try:
        with _quiet():
            client = boto3.session.Session().client("kms", region_name=region, config=config)
            call: Callable[..., Mapping[str, Any]] = getattr(client, operation)
            return call(**parameters), None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
    except BotoCoreError as error:
        code = type(error).__name__
    except ValueError:
        # botocore has no error of its own for an address that is none.
        code = "Endpoint"
    return {}, _problem(slot_id, code)


def _problem(slot_id: str, code: str) -> KeyUnavailable:
    if code in _NOT_ITS_OWN:
        return not_its_own(slot_id)
    if code in _SAID:
        return KeyUnavailable(f"slot {slot_id}: {_SAID[code]}")
    if "Credential" in code or "Profile" in code or "Token" in code or "SSO" in code:
        return KeyUnavailable(f"slot {slot_id}: {_CREDENTIALS}")
    if re.search("Timeout|Connect|Endpoint|Proxy|SSL|HTTPClient", code):
        return KeyUnavailable(f"slot {slot_id}: {_OUTAGE}")
    said = code if re.fullmatch("[A-Za-z]{1,64}", code) else "an unknown error"
    return KeyUnavailable(f"slot {slot_id}: AWS KMS answered {said}: ask who administers it")


_guard = threading.Lock()
_running = 0
_level = logging.NOTSET


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep botocore from logging requests and answers, which hold the private key in clear."""
    global _running, _level
    logger = logging.getLogger("botocore")
    with _guard:
        if not _running:
            _level = logger.level
            logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
        _running += 1
    try:
        yield
    finally:
        with _guard:
            _running -= 1
            if not _running:
                logger.setLevel(_level)


__all__ = ["AwsKmsProvider"]

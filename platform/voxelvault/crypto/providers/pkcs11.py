"""A private key that a key in a PKCS#11 token wraps: a hardware security module, a card, SoftHSM.

The token's AES key never leaves it: it wraps by AES-GCM inside the token, with vault id and slot id
as associated data, and a key that could be read out is refused. AES rather than RSA-OAEP because
GCM binds that context; rather than ECDH because slots stay the same hybrid key pairs everywhere.

The token is named by an RFC 7512 URI (`pkcs11:token=…;object=…`). Which library talks to it says
`VOXELVAULT_PKCS11_MODULE` and nothing else: a path in a slot would let whoever writes the record
run code here. The PIN comes from `VOXELVAULT_PKCS11_PIN` or is asked for at a terminal.

python-pkcs11 does the talking: maintained, MIT, with types and with AES-GCM parameters; PyKCS11 is
GPL.

References
----------
OASIS PKCS#11 v3.0 (CKM_AES_GCM), RFC 7512 (the pkcs11 URI scheme), NIST SP 800-38D (GCM)
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.providers.key_service import context, not_its_own, unwrapped_key, wrapped_slot
from voxelvault.crypto.vault_record import Slot
from voxelvault.errors import KeyUnavailable, MissingExtra, UsageError

MODULE = "VOXELVAULT_PKCS11_MODULE"
PIN = "VOXELVAULT_PKCS11_PIN"
_OF_TOKEN, _OF_KEY = {"token", "serial"}, {"object", "id"}
_NAMES = {"token": "token_label", "serial": "token_serial", "object": "label", "id": "id"}
_NONCE_LENGTH = 12
_TAG_BITS = 128
# A login belongs to the whole process: two at once disturb each other.
_one_at_a_time = threading.Lock()

_ABSENT = "its token is absent: plug it in or start its service, and check the token in `keys list`"
_NO_KEY = "its token has no such AES key: check the object in `keys list`, or make the key in the token"
_WRONG_PIN = f"the token's PIN is wrong: correct {PIN} before the token locks itself"
_NO_PIN = f"{PIN} is not set, and there is no terminal to ask for the token's PIN at: set it"
_LOCKED = "the token's PIN is locked: have its security officer set it anew"
_MANY = "more than one token or key is called that: name the token's serial or the key's id too"
_LEAVES = "its token would give the key away: make one that is sensitive and not extractable"
_UNABLE = "the token refused AES-GCM with that key: allow the key to encrypt and decrypt"
_DEVICE = "the token failed: plug it in again or restart its service, and try again"
_NO_MODULE = f"{MODULE} names no PKCS#11 library: put the path of the token's there"
_SAID = {
    "NoSuchToken": _ABSENT,
    "TokenNotPresent": _ABSENT,
    "TokenNotRecognised": _ABSENT,
    "DeviceRemoved": _ABSENT,
    "SlotIDInvalid": _ABSENT,
    "KeyHandleInvalid": _NO_KEY,
    "ObjectHandleInvalid": _NO_KEY,
    "PinIncorrect": _WRONG_PIN,
    "PinInvalid": _WRONG_PIN,
    "PinLenRange": _WRONG_PIN,
    "PinExpired": _LOCKED,
    "PinLocked": _LOCKED,
    "UserPinNotInitialized": _LOCKED,
    "MultipleTokensReturned": _MANY,
    "FunctionNotSupported": _UNABLE,
    "KeySizeRange": _UNABLE,
    "KeyTypeInconsistent": _UNABLE,
    "MechanismInvalid": _UNABLE,
    "MechanismParamInvalid": _UNABLE,
}

Use = Callable[[Any, Any], bytes | str | None]
"""From the library and the token's key to bytes, or why there are none; None: not the slot's own."""


class Pkcs11Provider:
    """Private keys wrapped inside a PKCS#11 token.

    Parameters
    ----------
    vault_id : str
        32 hexadecimal digits; part of what a wrapped key is bound to.
    environment : mapping, optional
        Instead of the process's own.
    """

    name = "pkcs11"

    def __init__(self, vault_id: str, environment: Mapping[str, str] | None = None) -> None:
        self._vault_id = vault_id
        self._environment = os.environ if environment is None else environment
        self._wrong: set[str] = set()

    def slot(self, key: str, label: str = "", slot_id: str | None = None) -> Slot:
        """Return a slot whose private key the token's AES key at the URI `key` wraps.

        Raises
        ------
        UsageError
            It is no URI of a key in a token, or says more than where the key is.
        KeyUnavailable
            The token is absent, its PIN wrong, or the key can leave it.
        MissingExtra
            python-pkcs11 is not installed.
        """
        _parse(key)

        def encrypt(seed: bytes, new_slot_id: str) -> bytes:
            nonce, bound = os.urandom(_NONCE_LENGTH), self._bound(new_slot_id)

            def seal(pkcs11: Any, token_key: Any) -> bytes | str:
                if not _stays(pkcs11, token_key):
                    return _LEAVES
                return bytes(token_key.encrypt(seed, **_gcm(pkcs11, nonce, bound)))

            return nonce + self._with_key(key, new_slot_id, seal)

        return wrapped_slot(self.name, key, label, slot_id, encrypt)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if it is one that a token wraps.

        Raises
        ------
        KeyUnavailable
            The token is absent, its PIN wrong, or the slot is another vault's.
        MissingExtra
            python-pkcs11 is not installed.
        """
        if slot.provider != self.name:
            return None

        def decrypt(key: str, wrapped: bytes) -> bytes:
            nonce, sealed = wrapped[:_NONCE_LENGTH], wrapped[_NONCE_LENGTH:]
            bound = self._bound(slot.slot_id)

            def unseal(pkcs11: Any, token_key: Any) -> bytes | None:
                # SoftHSM says GeneralError where others say that the data is invalid.
                refusals = pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange, pkcs11.GeneralError
                try:
                    return bytes(token_key.decrypt(sealed, **_gcm(pkcs11, nonce, bound)))
                except refusals:
                    return None

            return self._with_key(key, slot.slot_id, unseal)

        return unwrapped_key(slot, decrypt)

    def _bound(self, slot_id: str) -> bytes:
        return json.dumps(context(self._vault_id, slot_id), sort_keys=True, separators=(",", ":")).encode()

    def _with_key(self, uri: str, slot_id: str, use: Use) -> bytes:
        try:
            import pkcs11
        except ImportError:
            raise MissingExtra(
                "a PKCS#11 token needs python-pkcs11: pip install 'voxelvault[pkcs11]'"
            ) from None
        with _one_at_a_time:
            result = self._attempt(pkcs11, uri, use)
        # Raised here, where no frame that knows the PIN hangs on the exception.
        if result is None:
            raise not_its_own(slot_id)
        if isinstance(result, str):
            raise KeyUnavailable(f"slot {slot_id}: {result}")
        return result

    def _attempt(self, pkcs11: Any, uri: str, use: Use) -> bytes | str | None:
        try:
            place = _parse(uri)
        except UsageError:
            return None
        of_token = {name: value for name, value in place.items() if name.startswith("token")}
        if repr(of_token) in self._wrong:
            # A second attempt would use up the token's few.
            return _WRONG_PIN
        if (library := _library(pkcs11, self._environment.get(MODULE))) is None:
            return _NO_MODULE
        try:
            token = library.get_token(**of_token)
            if (pin := self._pin()) is None:
                return _NO_PIN
            with _session(pkcs11, token, pin) as session:
                found = _key(pkcs11, session, place)
                return found if isinstance(found, str) else use(pkcs11, found)
        except pkcs11.PKCS11Error as error:
            said = _SAID.get(type(error).__name__, _DEVICE)
        if said is _WRONG_PIN:
            self._wrong.add(repr(of_token))
        return said

    def _pin(self) -> str | None:
        if given := self._environment.get(PIN):
            return given
        asking = sys.stdin is not None and sys.stdin.isatty()
        return getpass.getpass("PIN of the key's token: ") if asking else None


def _parse(uri: str) -> dict[str, Any]:
    """Return what a URI says of token and key, as python-pkcs11 names it.

    Raises
    ------
    UsageError
        It is no such URI, or says more: a PIN or a library's path must not be stored.
    """
    scheme, _, rest = uri.partition(":")
    parts = [part.partition("=") for part in rest.split(";")]
    found = {name: unquote_to_bytes(value) for name, _, value in parts if name in _NAMES and value}
    names_both = _OF_TOKEN & found.keys() and _OF_KEY & found.keys()
    if scheme != "pkcs11" or "?" in rest or len(found) != len(parts) or not names_both:
        raise UsageError(
            "a key in a token is named by pkcs11:token=LABEL;object=LABEL (or serial=, id=) and no more: "
            f"the library stands in {MODULE}, the PIN in {PIN}"
        )
    try:
        # Labels are text, serial numbers and ids are bytes.
        return {
            _NAMES[name]: value.decode() if name in ("token", "object") else value
            for name, value in found.items()
        }
    except UnicodeDecodeError:
        raise UsageError("labels in a pkcs11: URI are UTF-8, percent-encoded") from None


def _library(pkcs11: Any, module: str | None) -> Any:
    try:
        return pkcs11.lib(module) if module else None
    except pkcs11.PKCS11Error:
        return None


def _session(pkcs11: Any, token: Any, pin: str) -> Any:
    try:
        return token.open(user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open()


def _key(pkcs11: Any, session: Any, place: Mapping[str, Any]) -> Any:
    """Return the token's key, or in words why it is not to be used."""
    wanted = {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
        pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
    }
    wanted |= {pkcs11.Attribute[name.upper()]: place[name] for name in ("label", "id") if name in place}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        return _MANY if found else _NO_KEY
    # The library leaves out what the key's attributes do not allow.
    usable = hasattr(found[0], "encrypt") and hasattr(found[0], "decrypt")
    return found[0] if usable else _UNABLE


def _stays(pkcs11: Any, token_key: Any) -> bool:
    return bool(token_key[pkcs11.Attribute.SENSITIVE]) and not token_key[pkcs11.Attribute.EXTRACTABLE]


def _gcm(pkcs11: Any, nonce: bytes, bound: bytes) -> dict[str, Any]:
    return {
        "mechanism": pkcs11.Mechanism.AES_GCM,
        "mechanism_param": pkcs11.GCMParams(nonce=nonce, aad=bound, tag_bits=_TAG_BITS),
    }


__all__ = ["MODULE", "PIN", "Pkcs11Provider"]

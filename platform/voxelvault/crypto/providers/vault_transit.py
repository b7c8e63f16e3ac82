"""A private key that a Transit key of HashiCorp Vault or OpenBao wraps.

The key is named `NAME`, or `MOUNT/NAME` where Transit is mounted elsewhere than at `transit`. Vault
id and slot id go along as `associated_data`, which binds what an AEAD key encrypts, and as
`context`, which a derived key needs and others ignore. The service opens what former versions of
the key made until its `min_decryption_version` is raised.

`VAULT_ADDR`, `VAULT_TOKEN`, `VAULT_NAMESPACE` and `VAULT_CACERT` say where the service is and who
asks; a slot names the key alone, so a record that somebody wrote can't send the token elsewhere.

References
----------
HashiCorp Vault, Transit secrets engine (API): encrypt data, decrypt data
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from voxelvault.crypto.hybrid import PrivateKey
from voxelvault.crypto.providers.key_service import context, not_its_own, unwrapped_key, wrapped_slot
from voxelvault.crypto.vault_record import Slot
from voxelvault.errors import KeyUnavailable, UsageError

TOKEN = "VAULT_TOKEN"  # noqa: S105 - the name of a variable
_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts, of which there is one more."""
_SECONDS = 10
_LONGEST_ANSWER = 1 << 20
_KEY = re.compile(r"(?:((?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+)/)?([A-Za-z0-9_-][A-Za-z0-9_.-]*)")
_BUSY = {429: "is throttling", 500: "failed", 502: "failed", 503: "is sealed or down", 504: "failed"}

_OUTAGE = "was not reached: check the network and VAULT_ADDR, and try again"
_DENIED = "denied it: renew VAULT_TOKEN (`vault login`), or ask for update on transit/decrypt of the key"
_ABSENT = "knows no such key: check its name in `keys list`, and where Transit is mounted"
_RETIRED = "retired the version of the key that wraps it: lower min_decryption_version, or use another key"
_TLS = "has a certificate that is not trusted: give its authority's with VAULT_CACERT"
_ELSEWHERE = "answered with a redirection, which is not followed: set VAULT_ADDR to the active node"
_ODD = "gave an answer that is none of Transit's: check VAULT_ADDR"

Answer = tuple[int, bytes]


class VaultTransitProvider:
    """Private keys wrapped by Transit.

    Parameters
    ----------
    vault_id : str
        32 hexadecimal digits; part of what a wrapped key is bound to.
    environment : mapping, optional
        Instead of the process's own.
    sleep : callable
        Waits between attempts; seconds.
    """

    name = "vault-transit"

    def __init__(
        self,
        vault_id: str,
        environment: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._vault_id = vault_id
        self._environment = os.environ if environment is None else environment
        self._sleep = sleep

    def slot(self, key: str, label: str = "", slot_id: str | None = None) -> Slot:
        """Return a slot whose private key the Transit key `key` wraps.

        Raises
        ------
        UsageError
            No Transit key is called that.
        KeyUnavailable
            The service refused or was not reached.
        """
        if not _KEY.fullmatch(key):
            raise UsageError("a Transit key is named by its NAME, or by MOUNT/NAME")

        def encrypt(seed: bytes, new_slot_id: str) -> bytes:
            plain = base64.b64encode(seed).decode()
            return self._ask("encrypt", key, new_slot_id, {"plaintext": plain}, "ciphertext").encode()

        return wrapped_slot(self.name, key, label, slot_id, encrypt)

    def unlock(self, slot: Slot) -> PrivateKey | None:
        """Return the private key of `slot` if it is one that Transit wraps.

        Raises
        ------
        KeyUnavailable
            The service refused or was not reached, or the slot is another vault's.
        """
        if slot.provider != self.name:
            return None

        def decrypt(key: str, wrapped: bytes) -> bytes:
            body = {"ciphertext": wrapped.decode("ascii", "replace")}
            return _decoded(self._ask("decrypt", key, slot.slot_id, body, "plaintext"))

        return unwrapped_key(slot, decrypt)

    def _ask(self, operation: str, key: str, slot_id: str, body: dict[str, str], wanted: str) -> str:
        named = _KEY.fullmatch(key)
        if named is None:
            raise not_its_own(slot_id)
        bound = json.dumps(context(self._vault_id, slot_id), sort_keys=True, separators=(",", ":"))
        encoded = base64.b64encode(bound.encode()).decode()
        path = f"/v1/{named[1] or 'transit'}/{operation}/{named[2]}"
        payload = json.dumps(body | {"associated_data": encoded, "context": encoded}).encode()
        answer = self._answer(path, payload, slot_id)
        found = _wanted(answer, wanted, slot_id)
        if isinstance(found, KeyUnavailable):
            raise found
        return found

    def _answer(self, path: str, payload: bytes, slot_id: str) -> Answer | KeyUnavailable:
        server = self._server()
        if isinstance(server, KeyUnavailable):
            return server
        for pause in (*_PAUSES, None):
            answer = _post(server, path, payload, self._headers())
            passing = answer is None or (isinstance(answer, tuple) and answer[0] in _BUSY)
            if pause is None or not passing:
                break
            self._sleep(pause)
        if answer is None or isinstance(answer, str):
            return _unavailable(slot_id, answer or _OUTAGE)
        return answer

    def _headers(self) -> dict[str, str]:
        headers = {
            "X-Vault-Token": self._environment.get(TOKEN, "").strip(),
            "X-Vault-Request": "true",
            "Content-Type": "application/json",
        }
        if namespace := self._environment.get("VAULT_NAMESPACE"):
            headers["X-Vault-Namespace"] = namespace
        return headers

    def _server(self) -> http.client.HTTPConnection | KeyUnavailable:
        if not self._environment.get(TOKEN, "").strip():
            return KeyUnavailable("VAULT_TOKEN is not set: sign in to the Vault server, and set it")
        address = self._environment.get("VAULT_ADDR", "").strip()
        try:
            place = urlsplit(address)
            host, port = place.hostname, place.port
        except ValueError:
            host = port = None
        if not host or place.scheme not in ("http", "https") or place.path.strip("/"):
            return KeyUnavailable("VAULT_ADDR is not set, or no address: https://HOST:PORT")
        if place.scheme == "http":
            if not _is_loopback(host):
                return KeyUnavailable("VAULT_ADDR has no TLS: the token and the key would be read on the way")
            return http.client.HTTPConnection(host, port, timeout=_SECONDS)
        try:
            trusted = ssl.create_default_context(cafile=self._environment.get("VAULT_CACERT") or None)
        except (OSError, ssl.SSLError):
            return KeyUnavailable("VAULT_CACERT names no readable certificate: correct or unset it")
        return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=trusted)


def _post(
    server: http.client.HTTPConnection, path: str, payload: bytes, headers: Mapping[str, str]
) -> Answer | str | None:
    """Return status and body, or what is wrong for good, or None if another attempt may help."""
    try:
        server.request("POST", path, payload, dict(headers))
        response = server.getresponse()
        return response.status, response.read(_LONGEST_ANSWER)
    except ssl.SSLCertVerificationError:
        return _TLS
    except ValueError:
        # http.client refuses header values with line ends.
        return "can't be asked with this VAULT_TOKEN or VAULT_NAMESPACE: set it to one line"
    except (OSError, http.client.HTTPException):
        return None
    finally:
        server.close()


def _wanted(answer: Answer | KeyUnavailable, wanted: str, slot_id: str) -> str | KeyUnavailable:
    if isinstance(answer, KeyUnavailable):
        return answer
    status, body = answer
    if status in _BUSY:
        return _unavailable(slot_id, f"{_BUSY[status]}: wait a minute and try again")
    if status == 403:
        return _unavailable(slot_id, _DENIED)
    if status == 404:
        return _unavailable(slot_id, _ABSENT)
    if 300 <= status < 400:
        return _unavailable(slot_id, _ELSEWHERE)
    if status == 400:
        return _refused(body, slot_id)
    try:
        found: Any = json.loads(body)["data"][wanted]
        if status == 200 and isinstance(found, str):
            return found
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return _unavailable(slot_id, _ODD)


def _refused(body: bytes, slot_id: str) -> KeyUnavailable:
    # Transit tells these apart only in words, which are not passed on.
    if b"encryption key not found" in body:
        return _unavailable(slot_id, _ABSENT)
    if b"too old" in body or b"disallowed by policy" in body:
        return _unavailable(slot_id, _RETIRED)
    if b"message authentication failed" in body or b"invalid ciphertext" in body:
        return not_its_own(slot_id)
    return _unavailable(
        slot_id, "refused the request: the key must be one for encryption, such as aes256-gcm96"
    )


def _unavailable(slot_id: str, why: str) -> KeyUnavailable:
    return KeyUnavailable(f"slot {slot_id}: the Transit service {why}")


def _decoded(plaintext: str) -> bytes:
    try:
        return base64.b64decode(plaintext, validate=True)
    except ValueError:
        return b""  # refused as of the wrong length


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


__all__ = ["TOKEN", "VaultTransitProvider"]

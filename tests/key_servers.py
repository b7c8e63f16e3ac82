"""Servers for tests of key services, a fake of Transit, and a search for what an error drags along."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.a-token-of-the-tests"


@dataclass
class Answers:
    """What a server does with a request; tests change it."""

    handle: Callable[[str, Mapping[str, str], bytes], tuple[int, bytes]]
    script: list[tuple[int, bytes]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(answers: Answers, tls: ssl.SSLContext | None = None) -> Iterator[Answers]:
    """Serve scripted answers first, then what `handle` makes of a request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = dict(self.headers.items())
            answers.seen.append((self.path, headers, body))
            status, said = (
                answers.script.pop(0) if answers.script else answers.handle(self.path, headers, body)
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(said)))
            if 300 <= status < 400:
                self.send_header("Location", f"{answers.url}/elsewhere")
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    answers.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()


def dragged_along(error: BaseException) -> str:
    """Return the error's words and every local variable of the frames that hang on it, tests' apart."""
    found: list[str] = []
    todo: list[BaseException | None] = [error]
    known: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        todo += [one.__cause__, one.__context__]
        found += [str(one), repr(one.args)]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                found += [repr(value) for value in frame.f_locals.values()]
    return "\n".join(found)


class FakeTransit:
    """A fake of Transit's HTTP API: it speaks the documented requests and answers, no more.

    It wraps by AES-GCM under `associated_data`, as an aes256-gcm96 key does, or under a key derived
    by `context`; it answers refusals with the words that HashiCorp Vault has for them. Keys stand by
    mount and name, each with its versions.
    """

    def __init__(self) -> None:
        self.keys = {("transit", "vault"): [os.urandom(32)], ("kms/eu", "vault"): [os.urandom(32)]}
        self.derived = False
        self.oldest = 1

    def __call__(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        if headers.get("X-Vault-Token") != TOKEN:
            return transit_errors(403, "permission denied")
        mount, operation, name = path.removeprefix("/v1/").rsplit("/", 2)
        versions = self.keys.get((mount, name))
        if versions is None:
            return transit_errors(400, "encryption key not found")
        try:
            return 200, json.dumps({"data": getattr(self, operation)(versions, json.loads(body))}).encode()
        except InvalidTag:
            return transit_errors(400, "cipher: message authentication failed")
        except ValueError as error:
            return transit_errors(400, str(error))

    def encrypt(self, versions: list[bytes], asked: dict[str, str]) -> dict[str, Any]:
        nonce = os.urandom(12)
        cipher, bound = self._cipher(versions[-1], asked)
        sealed = nonce + cipher.encrypt(nonce, base64.b64decode(asked["plaintext"]), bound)
        return {"ciphertext": f"vault:v{len(versions)}:{base64.b64encode(sealed).decode()}"}

    def decrypt(self, versions: list[bytes], asked: dict[str, str]) -> dict[str, Any]:
        if not asked["ciphertext"].startswith("vault:v"):
            raise ValueError("invalid ciphertext: no prefix")
        _, version, text = asked["ciphertext"].split(":")
        if (number := int(version[1:])) < self.oldest:
            raise ValueError("ciphertext or signature version is disallowed by policy (too old)")
        sealed = base64.b64decode(text)
        cipher, bound = self._cipher(versions[number - 1], asked)
        plain = cipher.decrypt(sealed[:12], sealed[12:], bound)
        return {"plaintext": base64.b64encode(plain).decode()}

    def _cipher(self, key: bytes, asked: dict[str, str]) -> tuple[AESGCM, bytes | None]:
        if self.derived:
            key = hashlib.sha256(key + base64.b64decode(asked["context"])).digest()
            return AESGCM(key), None
        return AESGCM(key), base64.b64decode(asked["associated_data"])


def transit_errors(status: int, words: str) -> tuple[int, bytes]:
    return status, json.dumps({"errors": [words]}).encode()

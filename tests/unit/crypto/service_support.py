"""A small HTTP server for tests of key services, and a search for secrets in what an error drags along."""

from __future__ import annotations

import ssl
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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

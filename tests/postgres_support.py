"""A private PostgreSQL server, and a proxy that loses its answers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest


def programs() -> Path:
    """Return the folder of PostgreSQL's programs; without it CI fails, a laptop skips."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    other = shutil.which("postgres")
    if found or other:
        return (found[-1] if found else Path(str(other)).resolve()).parent
    message = "PostgreSQL is not installed: apt-get install postgresql"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Cluster:
    """One private server in a folder of its own, on a free port of this machine.

    Parameters
    ----------
    durable : bool
        Whether it calls fsync.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = programs()
        # Not below pytest's folder, which another user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="voxelvault-postgres-"))
        self.data = self.folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "vault", "--no-sync", "-E", "UTF8")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{self.folder}'\nfsync = {'on' if durable else 'off'}\n"
                # All that a server may write down, so that a search has something to find.
                "log_statement = 'all'\nlogging_collector = off\nshared_buffers = '16MB'\n"
            )
        self.start()

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://vault@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def make_database(self, name: str) -> str:
        """Make an empty database and return its address."""
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, text: str, database: str = "postgres") -> str:
        return self._run("psql", "-X", "-A", "-t", "-q", *self._where(database), "-c", text)

    def dump(self, database: str) -> str:
        return self._run("pg_dump", *self._where(database))

    def _where(self, database: str) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "vault", "-d", database]

    def remove(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> str:
        # A file and not a pipe: the server that pg_ctl starts would hold a pipe open.
        with tempfile.TemporaryFile() as out:
            subprocess.run(
                [str(self._programs / program), *arguments],
                stdout=out, stderr=subprocess.STDOUT, check=True, user=self._user, cwd="/",
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
            out.seek(0)
            return out.read().decode(errors="replace")


class LosingProxy:
    """Forwards to a server until a client's bytes satisfy a test; forwards those, and cuts the line.

    Parameters
    ----------
    port : int
        Of the server, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self.cut_after: Callable[[bytes], bool] | None = None
        self.pause = 0.3
        """Seconds between forwarding and cutting, in which the server does what it was told."""
        self.drop = False
        """Whether those bytes are lost as well."""
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server)) as server:
            back = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
            back.start()
            self._pump(client, server, True)
            back.join()

    def _pump(self, one: socket.socket, other: socket.socket, watched: bool) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if watched and self.cut_after is not None and self.cut_after(data):
                    self.cut_after = None
                    self.cuts += 1
                    # The client is cut off first: it must not hear the answer.
                    one.shutdown(socket.SHUT_RDWR)
                    if not self.drop:
                        other.sendall(data)
                        time.sleep(self.pause)
                    break
                other.sendall(data)
        for line in (one, other):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

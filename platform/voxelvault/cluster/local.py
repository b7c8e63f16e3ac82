"""A cluster of our own on this machine, for the time of one verb or of a `with` statement.

Scheduler and workers run in processes that know no key of the vault: they speak TLS under a
certificate made for them, listen on the loopback address alone, never spill, and have a private
folder and a scrubbed environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from voxelvault.cluster.host import security_of
from voxelvault.dicom.decode_pool import processors
from voxelvault.errors import MissingExtra, WorkerDied

KEPT = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX")
PREFIXES = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "SSL_CERT_")
CLOUD = ("AWS_", "GOOGLE_", "AZURE_")
"""What a vault in object storage is opened with; passed on for such a vault alone."""


class LocalWorkers(AbstractContextManager["LocalWorkers"]):
    """Worker processes of this machine; use it as `client=` of several verbs.

    Parameters
    ----------
    workers : int, optional
        Worker processes of one thread each; by default one a core.
    memory : str or int
        Most memory of each, such as ``"2GiB"``; by default an even share.
    cloud : bool
        Pass on what opens a vault in object storage from the environment.

    Examples
    --------
    >>> with LocalWorkers(2) as workers:                    # doctest: +SKIP
    ...     vault.ingest("/data/dicom", client=workers)
    ...     vault.verify(client=workers)
    """

    def __init__(
        self, workers: int | None = None, memory: str | int = "auto", *, cloud: bool = False
    ) -> None:
        try:
            from distributed import Client, Security
        except ImportError:
            raise MissingExtra("workers need Dask: pip install 'voxelvault[cluster]'") from None

        self.folder = Path(tempfile.mkdtemp(prefix="voxelvault-workers-"))
        self._process: subprocess.Popen[str] | None = None
        self._client: Any = None
        made: Any = Security.temporary()  # type: ignore[no-untyped-call]
        asked = {
            "workers": workers or processors(),
            "memory": memory,
            "folder": str(self.folder),
            "certificate": made.tls_ca_file,
            "key": made.tls_client_key,
        }
        try:
            told = self._start(asked, cloud)
            self.dashboard: str = told["dashboard"]
            security = security_of(asked["certificate"], asked["key"])
            self._client = Client(told["address"], security=security, set_as_default=False, timeout=60)  # type: ignore[no-untyped-call]
        except BaseException:
            self.close()
            raise

    def _start(self, asked: dict[str, Any], cloud: bool) -> dict[str, Any]:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "voxelvault.cluster.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(cloud),
                cwd=self.folder,
                text=True,
                # Ctrl-C is for the verb, which finishes what is under way.
                start_new_session=True,
            )
        answer = ""
        if self._process.stdin and self._process.stdout:
            with suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(asked) + "\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise WorkerDied("the workers did not start: see that memory and loopback ports are free")
        told: dict[str, Any] = json.loads(answer)
        return told

    @property
    def client(self) -> Any:
        """The Dask client of these workers."""
        return self._client

    @property
    def log(self) -> Path:
        """Where scheduler and workers write what they have to say; goes with them."""
        return self.folder / "log.txt"

    def __repr__(self) -> str:
        return "<LocalWorkers>"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes and remove their folder."""
        client, self._client = self._client, None
        process, self._process = self._process, None
        try:
            if client is not None:
                client.close()
        finally:
            if process is not None:
                self._end(process)
            shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(cloud: bool = False) -> dict[str, str]:
    """Return the environment of worker processes: nothing of it opens a vault."""
    prefixes = PREFIXES + (CLOUD if cloud else ())
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(prefixes)}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


__all__ = ["LocalWorkers", "environment"]

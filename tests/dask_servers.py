"""A Dask cluster as an administrator runs one: scheduler and workers are processes, and speak TLS."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from voxelvault.cluster.local import environment

SAFE = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
}


@dataclass
class Cluster:
    """Folder of a running cluster: its certificates, logs, and the workers' folders."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    @property
    def local(self) -> Path:
        """Where the workers may write."""
        return self.folder / "local"

    def start(self, name: str, *arguments: str, **more: str) -> None:
        """Start a scheduler or a worker; it says a lot."""
        module = "dask_scheduler" if name == "scheduler" else "dask_worker"
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *self._common(), *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**environment(), "DASK_LOGGING__DISTRIBUTED": "debug", **more},
                start_new_session=True,
            )

    def worker(self, name: str, *arguments: str, safe: bool = True) -> None:
        """Start a worker of one thread, and no nanny to bring it back."""
        place = ("--local-directory", str(self.local), "--name", name)
        self.start(name, *place, "--no-nanny", "--nthreads", "1", *arguments, **(SAFE if safe else {}))

    def kill(self, name: str) -> None:
        """End it as power does."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def client(self, workers: int) -> Any:
        """Return a client that sees so many workers."""
        from distributed import Client, Security

        roles = {f"tls_client_{part}": str(self.folder / f"{part}.pem") for part in ("cert", "key")}
        security = Security(  # type: ignore[no-untyped-call]
            tls_ca_file=str(self.folder / "cert.pem"), require_encryption=True, **roles
        )
        client: Any = Client(  # type: ignore[no-untyped-call]
            scheduler_file=str(self.folder / "scheduler.json"),
            security=security,
            set_as_default=False,
            timeout=120,
        )
        client.wait_for_workers(workers, timeout=120)
        return client

    def _common(self) -> list[str]:
        keys = ["--tls-ca-file", "cert.pem", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]
        return [*keys, "--scheduler-file", "scheduler.json", "--host", "127.0.0.1", "--no-dashboard"]


@contextmanager
def dask_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a scheduler in an empty folder, and whatever workers the caller starts."""
    certify(folder)
    (folder / "local").mkdir()
    made = Cluster(folder)
    try:
        made.start("scheduler", "--port", "0", "--protocol", "tls")
        until = time.monotonic() + 120
        while not (folder / "scheduler.json").exists() and time.monotonic() < until:
            if made.processes["scheduler"].poll() is not None:
                raise RuntimeError(made.log("scheduler").read_text()[-2000:])
            time.sleep(0.1)
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
        for process in made.processes.values():
            process.wait()


def certify(folder: Path) -> None:
    """Write a self-signed certificate for this machine, cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    with open(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, form, plain))


def memory_of(pid: int) -> bytes:
    """Return what a process has written to its memory: every private mapping that can be read."""
    found = []
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in lines:
            span, access, *_ = line.split()
            if not access.startswith("rw") or "[v" in line:
                continue
            start, stop = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                found.append(memory.read(stop - start))
            except (OSError, OverflowError):
                continue
    return b"\0".join(found)

"""Ingest of CT files, against Orthanc (Debian's package with its defaults) that gets them over REST.

Both sides run on the same cores, Orthanc together with what uploads to it. Ours compresses, verifies,
seals and logs; Orthanc stores files as they are. Left out, with a word on stderr, where Orthanc is not
installed.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import mkdtemp

import voxelvault as vv
from benchmarks.measure import Measured, Place, seconds

GOAL = 3.0
PATIENCE = 60.0
"""Seconds that Orthanc may take to start."""


def measure(place: Place) -> list[Measured]:
    """Instances a second."""
    program = shutil.which("Orthanc")
    if program is None:
        print("Orthanc is not installed: its comparison is left out", file=sys.stderr)
        return []
    files = place.heads.files
    pairs = []
    for turn in range(place.repeats + 1):
        taken = _ours(place), _theirs(program, place, files)
        if turn:  # the first one loads libraries
            pairs.append(taken)
    own, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    return [
        Measured(
            "ingest of CT, instances / Orthanc, REST",
            median(b / a for a, b in pairs),
            GOAL,
            f"{len(files) / own:.0f}/s",
            f"{len(files) / other:.0f}/s",
        )
    ]


def _ours(place: Place) -> float:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        with vv.create(folder / "vault") as vault:
            vault.options.threads = place.cores
            return seconds(lambda: vault.ingest(place.heads.folder, progress=False))
    finally:
        shutil.rmtree(folder)


def _theirs(program: str, place: Place, files: Sequence[Path]) -> float:
    """Upload every file, by as many connections as there are cores."""
    with _running(program, place) as port:

        def upload(part: Sequence[Path]) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            for path in part:
                connection.request("POST", "/instances", path.read_bytes())
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"Orthanc refused a file: {answer.status}")
            connection.close()

        def work() -> None:
            with ThreadPoolExecutor(place.cores) as threads:
                list(threads.map(upload, [files[number :: place.cores] for number in range(place.cores)]))

        return seconds(work)


@contextmanager
def _running(program: str, place: Place) -> Iterator[int]:
    """Start Orthanc on an empty folder, and yield its port."""
    folder = Path(mkdtemp(dir=place.folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    own = {"StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": port}
    quiet = {"DicomServerEnabled": False, "RemoteAccessAllowed": False, "Plugins": []}
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(own | quiet))
    process = subprocess.Popen([program, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _wait(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError("Orthanc did not start: run it by hand to see why") from None
            time.sleep(0.05)

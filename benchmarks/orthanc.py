"""Ingest of CT files, against Orthanc (Debian's package with its defaults) that gets them over HTTP.

Both sides run on the same cores, Orthanc together with what uploads to it, by as many connections as
there are cores, each kept alive and without Nagle's delay. Ours compresses, verifies, seals and logs;
Orthanc stores files as they are. Left out, with a word on stderr, where Orthanc is not installed.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import mkdtemp

import numpy as np

import voxelvault as vv
from benchmarks.heads import pixels_of
from benchmarks.measure import Measured, Place, milliseconds
from voxelvault.storage.codecs import codec_named

GOAL = 3.0
ROOM = 2e-3
"""CPU seconds an instance that an ingest may take beside its codec's own."""
PATIENCE = 60.0
"""Seconds that Orthanc may take to start."""
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CODECS = ("htj2k", "fast")

Request = tuple[str, bytes, dict[str, str]]
Way = Callable[[Sequence[Path]], Iterator[Request]]


@dataclass(frozen=True, slots=True)
class Taken:
    """Wall and CPU seconds an instance; for Orthanc, CPU is that of the server alone."""

    wall: float
    cpu: float


def measure(place: Place) -> list[Measured]:
    """Instances a second, and CPU an instance."""
    program = shutil.which("Orthanc")
    if program is None:
        print("Orthanc is not installed: its comparison is left out", file=sys.stderr)
        return []
    ways: dict[str, Way] = {"REST": _rest}
    if DICOMWEB.exists():
        ways |= {"STOW": _stow(1), "STOW, 10 a request": _stow(10)}
    taken: dict[str, list[Taken]] = {name: [] for name in (*CODECS, *ways)}
    for turn in range(place.repeats + 1):
        round_ = {codec: _ours(place, codec) for codec in CODECS}
        round_ |= {name: _theirs(program, place, way) for name, way in ways.items()}
        for name, found in round_.items():
            taken[name] += [found] if turn else []  # the first one loads libraries
    rows = [_rates(taken, "htj2k", name) for name in ways] + [_rates(taken, "fast", "REST")]
    rows += [_cpu(place, taken, codec) for codec in CODECS]
    return rows + [_explaining(f"CPU an instance, Orthanc, {name}", taken[name]) for name in ways]


def _rates(taken: dict[str, list[Taken]], codec: str, way: str) -> Measured:
    ours, theirs = taken[codec], taken[way]
    ratio = median(b.wall / a.wall for a, b in zip(ours, theirs, strict=True))
    own, other = (f"{1 / median(one.wall for one in side):.0f}/s" for side in (ours, theirs))
    return Measured(f"ingest of CT, {codec}, instances / Orthanc, {way}", ratio, GOAL, own, other)


def _cpu(place: Place, taken: dict[str, list[Taken]], codec: str) -> Measured:
    own = median(one.cpu for one in taken[codec])
    most = _bare(place, codec) + ROOM
    claim = f"CPU an instance, {codec} / its encode + decode + 2 ms"
    return Measured(claim, own / most, 1.0, milliseconds(own), milliseconds(most), at_most=True)


def _explaining(claim: str, taken: list[Taken]) -> Measured:
    return Measured(claim, 0.0, None, milliseconds(median(one.cpu for one in taken)), "")


def _bare(place: Place, codec: str) -> float:
    """Return the CPU seconds a frame of encoding it and decoding it again."""
    coder, frames = codec_named(codec), pixels_of(place.heads.files[::8])
    spent = []
    for _ in range(place.repeats):
        start = time.process_time()
        for frame in frames:
            coder.decode_into(coder.encode(frame), np.empty_like(frame))
        spent.append(time.process_time() - start)
    return median(spent) / len(frames)


def _ours(place: Place, codec: str) -> Taken:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        with vv.create(folder / "vault", codec=codec) as vault:
            vault.options.threads = place.cores
            wall, cpu = time.perf_counter(), time.process_time()
            stored = vault.ingest(place.heads.folder, progress=False).stored
            return Taken((time.perf_counter() - wall) / stored, (time.process_time() - cpu) / stored)
    finally:
        shutil.rmtree(folder)


def _rest(part: Sequence[Path]) -> Iterator[Request]:
    for path in part:
        yield "/instances", path.read_bytes(), {}


def _stow(batch: int) -> Way:
    """Return the way of DICOMweb: so many files a request, as parts of its body (PS3.18 10.5)."""
    headers = {
        "Content-Type": 'multipart/related; type="application/dicom"; boundary=part',
        "Accept": "application/dicom+json",
    }

    def requests(part: Sequence[Path]) -> Iterator[Request]:
        for first in range(0, len(part), batch):
            files = [path.read_bytes() for path in part[first : first + batch]]
            head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
            body = b"".join(piece for data in files for piece in (head, data, b"\r\n"))
            yield "/dicom-web/studies", body + b"--part--\r\n", headers

    return requests


def _theirs(program: str, place: Place, way: Way) -> Taken:
    files = place.heads.files
    with _running(program, place) as (port, process_id):

        def upload(part: Sequence[Path]) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            for where, body, headers in way(part):
                connection.request("POST", where, body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"Orthanc refused a file: {answer.status}")
            connection.close()

        wall, cpu = time.perf_counter(), _cpu_of(process_id)
        with ThreadPoolExecutor(place.cores) as threads:
            list(threads.map(upload, [files[number :: place.cores] for number in range(place.cores)]))
        wall, cpu = time.perf_counter() - wall, _cpu_of(process_id) - cpu
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/statistics") as answer:
            if json.load(answer)["CountInstances"] != len(files):
                raise RuntimeError("the files did not all come in")
        return Taken(wall / len(files), cpu / len(files))


def _cpu_of(process_id: int) -> float:
    """Return the CPU seconds of another process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(program: str, place: Place) -> Iterator[tuple[int, int]]:
    """Start Orthanc on an empty folder, and yield its port and its process."""
    folder = Path(mkdtemp(dir=place.folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    own = {"StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": port}
    fair = {"KeepAlive": True, "TcpNoDelay": True}
    plugins = [str(DICOMWEB)] if DICOMWEB.exists() else []
    quiet = {"DicomServerEnabled": False, "RemoteAccessAllowed": False, "Plugins": plugins}
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(own | fair | quiet))
    process = subprocess.Popen([program, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield port, process.pid
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

"""A catalog of one and of ten million instances: look-ups and pages as a user types them, by `vault.sql`.

The rows are synthetic: 100 instances a study in two series, each with a header of some 500 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import perf_counter

import numpy as np
import pyarrow as pa

import voxelvault as vv
from benchmarks.measure import Measured, Place
from voxelvault.catalog.catalog import Change

GOAL = 50.0
STUDIES = (10_000, 100_000)
"""The goal holds for the first; the other is for the record."""
SERIES_A_STUDY, INSTANCES_A_SERIES = 2, 50
STUDIES_A_COMMIT = 1_000

QUERIES = {
    "study look-up": (
        "select s.*, p.PatientID, (select count(*) from series r where r.study_id = s.study_id) series"
        " from studies s join patients p using (subject_id) where s.StudyInstanceUID = ?"
    ),
    "filtered page of 25": (
        "select r.*, s.StudyDate from series r join studies s using (study_id)"
        " where r.Modality = 'CT' and s.StudyDate >= ? order by s.StudyDate, r.series_id limit 25 offset 25"
    ),
}


def measure(place: Place, sizes: Sequence[int] = STUDIES) -> list[Measured]:
    """95th percentile of each query, in milliseconds; the log's entry of each is in it."""
    goals = [GOAL, *[None] * (len(sizes) - 1)]
    return [row for pair in zip(sizes, goals, strict=True) for row in _catalog(place, *pair)]


def _catalog(place: Place, studies: int, goal: float | None) -> list[Measured]:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        with vv.create(folder / "vault") as vault:
            for changes in _rows(studies):
                vault.resources.catalog.commit(changes)
            vault.resources.catalog.maintain(grace=0.0)
            return [_measured(vault, name, studies, 20 * place.repeats, goal) for name in QUERIES]
    finally:
        rmtree(folder)


def _measured(vault: vv.Vault, name: str, studies: int, turns: int, goal: float | None) -> Measured:
    random = np.random.default_rng(0)
    times = []
    for turn in range(turns + 3):
        number = int(random.integers(studies))
        value: object = _uid(number) if "look-up" in name else _day(number)
        start = perf_counter()
        found = vault.sql(QUERIES[name], [value]).arrow()
        if turn >= 3:  # the first ones load libraries
            times.append(1e3 * (perf_counter() - start))
        if "look-up" in name and found.num_rows != 1:
            raise RuntimeError("a study was not found")
    p95, middle = np.percentile(times, [95, 50])
    instances = studies * SERIES_A_STUDY * INSTANCES_A_SERIES
    return Measured(
        f"{name}, {instances:,} instances, p95, milliseconds",
        float(p95),
        goal,
        f"{p95:.0f} ms, median {middle:.0f}",
        "",
        at_most=True,
    )


def _uid(number: int, *below: int) -> str:
    return ".".join(["1.2.826.0.1.3680043.10.511", *map(str, (number, *below))])


def _day(number: int) -> date:
    return date(2015, 1, 1) + timedelta(days=number * 7 % 3650)


def _id(*parts: int) -> str:
    return "".join(f"{part:08x}" for part in parts).rjust(32, "0")


def _rows(studies: int) -> Iterator[list[Change]]:
    """Yield what one commit brings in, parents first."""
    created = datetime(2026, 1, 1)
    for first in range(0, studies, STUDIES_A_COMMIT):
        numbers = range(first, min(first + STUDIES_A_COMMIT, studies))
        series = [(n, s) for n in numbers for s in range(SERIES_A_STUDY)]
        header = json.dumps({f"{group:08X}": {"vr": "LO", "Value": ["0" * 12]} for group in range(12)})
        yield [
            _insert(
                "patients",
                [
                    {"subject_id": _id(1, n), "key_id": _id(2, n), "PatientID": f"P{n}", "PatientSex": "O"}
                    for n in numbers
                ],
            ),
            _insert(
                "studies",
                [
                    {
                        "study_id": _id(3, n),
                        "subject_id": _id(1, n),
                        "key_id": _id(4, n),
                        "StudyInstanceUID": _uid(n),
                        "StudyDate": _day(n),
                        "StudyDescription": "HEAD",
                    }
                    for n in numbers
                ],
            ),
            _insert(
                "series",
                [
                    {
                        "series_id": _id(5, n, s),
                        "study_id": _id(3, n),
                        "subject_id": _id(1, n),
                        "SeriesInstanceUID": _uid(n, s),
                        "Modality": "CT" if s == 0 else "MR",
                    }
                    for n, s in series
                ],
            ),
            _insert(
                "instances",
                [
                    {
                        "instance_id": _id(7, n, s, i),
                        "pack_id": _id(6, n, s),
                        "series_id": _id(5, n, s),
                        "study_id": _id(3, n),
                        "subject_id": _id(1, n),
                        "version": 1,
                        "superseded": False,
                        "sha256": _id(8, n, s, i) * 2,
                        "length": 526_000,
                        "header": header,
                        "received": created,
                        "SOPInstanceUID": _uid(n, s, i),
                        "InstanceNumber": i,
                    }
                    for n, s in series
                    for i in range(INSTANCES_A_SERIES)
                ],
            ),
        ]


def _insert(table: str, rows: list[dict[str, object]]) -> Change:
    return Change(table, pa.Table.from_pylist(rows), "insert")

"""Arrivals as they were measured: a column of a CSV file, or the times that a vault knows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from voxelvault import Vault
from voxelvault.errors import UsageError

Times = npt.NDArray[np.datetime64]

RECEIVED = """
    select min(received) as at from instances join series using (series_id)
    where Modality = 'CT' group by instances.study_id
"""
"""When the first image of each CT study came into the vault, UTC."""

ACQUIRED = """
    select distinct StudyDate + StudyTime as at, study_id from studies join series using (study_id)
    where Modality = 'CT'
"""
"""When each CT study began, by its header, in the scanner's clock."""

_SOURCES = {"received": RECEIVED, "acquired": ACQUIRED}


def from_vault(vault: Vault, which: str) -> Times:
    """Return when studies came, (study,) datetime64 in seconds; those without a time are left out.

    Parameters
    ----------
    vault : Vault
        The query is an entry in its log.
    which : str
        ``received`` by the vault, or ``acquired`` by the header.
    """
    rows = vault.sql(_SOURCES[which]).fetchall()
    return _times([row[0] for row in rows if row[0] is not None])


def from_csv(text: str) -> Times:
    """Return the times of a CSV file with one line a study, (study,) datetime64 in seconds.

    The column is called ``arrived``, or it is the only one; times are ISO 8601 in the department's
    clock, such as ``2026-03-01T08:15``. A time zone is dropped, not converted.

    Raises
    ------
    UsageError
        There is no such column, or a value in it is no time.
    """
    lines = [row for row in csv.reader(io.StringIO(text)) if row]
    if not lines:
        raise UsageError("the file of arrivals is empty; write a line a study, under the head `arrived`")
    head = [name.strip().lower() for name in lines[0]]
    if "arrived" not in head and len(head) > 1:
        raise UsageError("the file of arrivals has several columns; call the one with the times `arrived`")
    at = head.index("arrived") if "arrived" in head else 0
    return _times([_time(row, at, number) for number, row in enumerate(lines[1:], 2)])


def _time(row: Sequence[str], at: int, line: int) -> datetime:
    try:
        text = row[at].strip()
        if ":" not in text and "T" not in text:
            raise ValueError("a date alone would be a midnight")
        return datetime.fromisoformat(text)
    except (ValueError, IndexError):
        raise UsageError(f"line {line} of the arrivals holds no ISO 8601 time; mend or remove it") from None


def _times(values: Sequence[Any]) -> Times:
    return np.array([value.replace(tzinfo=None) for value in values], "datetime64[s]")

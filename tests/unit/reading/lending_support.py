"""What worker processes of the lending tests run; light, since every one of them imports it."""

from __future__ import annotations

import os
import sys
from typing import Any

from voxelvault.reading.lending import Loan


def read_stack(loan: Loan, pack_id: str, size: tuple[int, ...], dtype: str) -> Any:
    """Return the stored frames of a pack's first stack."""
    import numpy as np

    out = np.empty(size, dtype)
    return loan.open().packs.reader(pack_id).read(0, range(size[0]), out)


def failure(loan: Loan) -> str:
    """Return the error that opening raises."""
    try:
        loan.open()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def secrets_left(loan: Loan) -> list[str]:
    """Return the variables that open vaults, after opening the loan."""
    loan.open()
    return [name for name, value in os.environ.items() if value == "planted"]


def modules(loan: Loan) -> list[str]:
    """Return what a worker has imported that it has no use for."""
    loan.open()
    return sorted({"duckdb", "pyarrow", "pandas", "pydicom", "dask"} & set(sys.modules))


def use_series(series: Any) -> dict[str, Any]:
    """Return what a worker sees of a series."""
    try:
        series._resources
        catalog = ""
    except Exception as error:
        catalog = f"{type(error).__name__}: {error}"
    return {
        "load": series.load(),
        "frame": series.frame(1),
        "volume": series.volume().compute(scheduler="synchronous"),
        "affine": series.affine_ras,
        "members": series.members(),
        "repr": repr(series),
        "header": [series.header(index).get("SOPInstanceUID") for index in range(len(series))],
        "unit": series.unit(),
        "uid": series.uid,
        "catalog": catalog,
        "pid": os.getpid(),
        "heavy": sorted({"duckdb", "torch"} & set(sys.modules)),
    }


def suv(series: Any) -> Any:
    """Return SUV, which needs the header."""
    return series.load(units="suvbw")


def returned(series: Any) -> Any:
    """Send a series back."""
    return series

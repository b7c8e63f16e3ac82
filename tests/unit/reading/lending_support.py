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
    return [name for name in os.environ if name in ("VOXELVAULT_KEY", "VOXELVAULT_PASSPHRASE")]


def modules(loan: Loan) -> list[str]:
    """Return what a worker has imported that it has no use for."""
    loan.open()
    return sorted({"duckdb", "pyarrow", "pandas", "pydicom", "dask"} & set(sys.modules))

"""What worker processes of these tests run; light, since every one of them imports it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from typing import Any


def samples(packed: bytes, indexes: Iterable[int]) -> list[Any]:
    """Return samples of a pickled data set."""
    dataset = pickle.loads(packed)
    return [dataset[index] for index in indexes]


def modules(packed: bytes) -> list[str]:
    """Return what a worker has imported that it has no use for, after reading."""
    samples(packed, [0])
    return sorted({"torch", "monai", "duckdb", "pyarrow", "pandas", "dask"} & set(sys.modules))

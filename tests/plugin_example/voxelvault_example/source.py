"""An ingest source: synthetic CT slices, `example:4` for four of them."""

from __future__ import annotations

from collections.abc import Iterator

from voxelvault.testing.synthetic import ct_series


def find(where: str) -> Iterator[tuple[str, int]]:
    """Yield name and size of each slice."""
    for number, data in enumerate(ct_series(int(where), 16, 16)):
        yield f"{where}/{number}", len(data)


def read(name: str) -> bytes:
    """Return one slice."""
    count, number = map(int, name.split("/"))
    return ct_series(count, 16, 16)[number]

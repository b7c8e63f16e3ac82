from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from voxelvault_fl.consortium import Consortium, consortium_of
from voxelvault_fl.provisioning.authority import Authority, found


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
def consortium() -> Consortium:
    said = {"id": "heads", "name": "Heads", "server": {"host": "localhost"}, "sites": ["north", "south"]}
    return consortium_of(said)


@pytest.fixture
def authority(consortium: Consortium, tmp_path: Path, now: datetime) -> Authority:
    return found(consortium, tmp_path / "authority", now)

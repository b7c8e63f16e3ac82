from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_support import Running, gate_before_an_echo


@pytest.fixture(scope="module")
def one_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gate_before_an_echo(tmp_path_factory.mktemp("gate")) as made:
        yield made


@pytest.fixture
def running(one_gate: Running) -> Running:
    one_gate.arrived.clear()
    return one_gate


@pytest.fixture
def own_gate(tmp_path: Path) -> Iterator[Running]:
    """Give a gate of the test's own, to revoke at."""
    with gate_before_an_echo(tmp_path) as made:
        yield made

from __future__ import annotations

from collections.abc import Iterator

import pytest
from federation import Federation, federation


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Give a server and three sites that run."""
    with federation(tmp_path_factory.mktemp("f")) as made:
        yield made

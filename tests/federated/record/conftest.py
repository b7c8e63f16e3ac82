"""A run that is over, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from whole_consortium import Whole


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(folder / "configuration"))
        made = Whole(folder)
        yield made
        for party in made.parties.values():
            party.vault.close()

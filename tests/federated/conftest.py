"""The vault of three scanners, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hospitals import hospital_vault

from voxelvault_fl.training.examples import SiteData


@pytest.fixture(scope="session")
def three_scanners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteData]:
    """Give 35 people of three scanners, and their labels."""
    vault, labels = hospital_vault(tmp_path_factory.mktemp("hospitals"))
    with vault:
        yield SiteData(vault, labels)

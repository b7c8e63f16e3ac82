"""An empty vault, open, and a client of pretended workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_support import FakeClient

import voxelvault as vv
from voxelvault.cluster import running


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vv.Vault]:
    place = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(place / "configuration"))
        with vv.create(place / "vault", codec="fast") as made:
            yield made


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(running, "LOOK", 0.05)
    return FakeClient({"tls://a:1": 1, "tls://b:1": 1})

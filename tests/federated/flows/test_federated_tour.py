"""The tour that `make demo-federated` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxelvault_fl.demo import ROUNDS, SITES


@pytest.mark.timeout(600)
def test_hospitals_train_together_and_the_model_proves_itself(
    run: Any, tmp_path: Path, configuration: Path
) -> None:
    found = run("federated", "demo", "--out", tmp_path / "out", "--json")
    assert found.code == 0, found.err
    told = found.json
    assert (told["status"], told["round"], told["calls_elsewhere"]) == ("finished", ROUNDS, 0)
    for name in SITES:
        assert f"{name}: rounds 1 to 3" in found.err
    # Nothing of the tour reaches the user's own configuration.
    assert not configuration.exists()

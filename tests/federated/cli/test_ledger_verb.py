"""A site makes its ledger once, and sees what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxelvault_fl.protection import ledger_in


def test_a_ledger_is_made_once_and_shown(tmp_path: Path, run: Any) -> None:
    state = ("--state", tmp_path)
    assert ledger_in(tmp_path) is None
    typo = tmp_path / "typo"
    for budget in ((), ("--epsilon", "8", "--delta", "1e-5")):
        assert run("federated", "ledger", "--state", typo, *budget).code == 2
    assert not typo.exists()
    assert run("federated", "ledger", *state).code == 1
    assert ledger_in(tmp_path) is None
    assert run("federated", "ledger", *state, "--epsilon", "8").code == 2
    made = run("federated", "ledger", *state, "--epsilon", "8", "--delta", "1e-5")
    assert made.code == 0
    assert "spent: 0.0" in made.out
    assert run("federated", "ledger", *state, "--epsilon", "80", "--delta", "1e-5").code == 2
    assert "epsilon: 8.0" in run("federated", "ledger", *state).out
    found = ledger_in(tmp_path)
    assert found is not None
    assert found.read().epsilon == 8

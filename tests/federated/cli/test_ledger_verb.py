"""A site makes its ledger, and sees what is left."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxelvault_fl.privacy.accounting import Noise, Terms
from voxelvault_fl.protection import ledger_in


def test_a_ledger_is_made_and_shown_and_stays_once_charged(tmp_path: Path, run: Any) -> None:
    state = ("--state", tmp_path)
    assert ledger_in(tmp_path) is None
    typo = tmp_path / "typo"
    for budget in ((), ("--epsilon", "8", "--delta", "1e-5")):
        assert run("federated", "ledger", "--state", typo, *budget).code == 2
    assert not typo.exists()
    none = run("federated", "ledger", *state)
    assert (none.code, "--epsilon and --delta make one" in none.err) == (2, True)
    assert ledger_in(tmp_path) is None
    assert run("federated", "ledger", *state, "--epsilon", "8").code == 2
    made = run("federated", "ledger", *state, "--epsilon", "8", "--delta", "1e-5")
    assert made.code == 0
    assert "budget: epsilon 8 at delta 1e-05; unit: subject; RDP, Opacus" in made.out
    assert "spent: epsilon 0 at" in made.out
    assert run("federated", "ledger", *state, "--epsilon", "6", "--delta", "0.5").code == 2
    assert run("federated", "ledger", *state, "--epsilon", "6", "--delta", "1e-5").code == 0
    found = ledger_in(tmp_path)
    assert found is not None
    assert found.read().epsilon == 6
    terms = Terms(3.0, 1e-5, 1.0, Noise(2.0, 0.1, 5), 0.5, 50)
    found.charge("a" * 64, 1, terms, datetime(2026, 1, 2, tzinfo=UTC))
    assert run("federated", "ledger", *state, "--epsilon", "80", "--delta", "1e-5").code == 2
    spent = found.read().spent.epsilon
    assert spent > 0
    shown = run("federated", "ledger", *state).out
    assert f"spent: epsilon {spent:.4g} at delta 1e-05" in shown
    assert f"left: epsilon {6 - spent:.4g} at delta 1e-05" in shown
    assert "job aaaaaaaaaaaa: 1 rounds charged" in shown

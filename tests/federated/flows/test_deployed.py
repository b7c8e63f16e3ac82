"""Hospitals with real vaults: a run proves itself, is what its simulation is, and spends a ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment import HOSPITALS, Deployed, deployed_job, deployment

from voxelvault.audit.events import Kind
from voxelvault_fl.privacy.accounting import account, terms_of
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.record.desk import desk
from voxelvault_fl.simulation.simulate import simulate

ALL = set(HOSPITALS)
NUMBERS = {
    "epsilon": 6.0, "delta": 1e-3, "clip": 1.0, "rate": 0.5, "steps": 5, "learning_rate": 0.5, "batch": 4,
}  # fmt: skip
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    path = tmp_path_factory.mktemp("d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELVAULT_CONFIG_HOME", str(path / "configuration"))
        with deployment(path) as made:
            yield made


def kinds_in_the_log(hospitals: Deployed, name: str) -> list[str]:
    kit = read_kit(hospitals.running.path / "kits" / name)
    with desk(hospitals.running.state(name) / "record", kit, "") as own:
        log = own.office.log
        return [one.kind for one in log.entries(0, log.size)]


def test_a_site_opens_its_vault_once(hospitals: Deployed) -> None:
    for name, data in hospitals.data.items():
        kinds = [one.kind for one in data.vault.resources.log.entries()]
        assert kinds.count(Kind.VAULT_OPENED) == 1, name


def test_a_run_proves_itself_and_gives_what_its_simulation_gives(hospitals: Deployed, tmp_path: Path) -> None:
    job = deployed_job("plain", evaluate_every=2)
    outcome, proved = hospitals.run(job)
    assert (outcome["status"], outcome["proved"]) == ("finished", True)
    assert proved.whole
    assert {name: site.rounds for name, site in proved.sites.items()} == dict.fromkeys(ALL, (1, 2))
    assert proved.server is not None
    parties = {"server": proved.server, **{name: site.attested for name, site in proved.sites.items()}}
    for name, said in parties.items():
        assert said is not None
        assert set(said.cosigned) == {"server", *ALL} - {name}
        assert said.app == job.app_digest
    done = simulate(job, hospitals.data, tmp_path)
    assert not any(done.errors.values())
    recorded = hospitals.running.records(job.digest)
    assert [(one.kind, one.aggregate) for one in done.record] == [
        (one.kind, one.aggregate) for one in recorded
    ]
    # Figures are weighed by counts, which each policy rounds in its own way.
    for here, there in zip(done.record, recorded, strict=True):
        assert dict(here.metrics) == pytest.approx(dict(there.metrics), rel=1e-6)


def test_a_private_job_is_charged_and_trained_with_noise(hospitals: Deployed, capsys: Any) -> None:
    job = deployed_job(
        "private",
        privacy={"mode": "dp-sgd", "numbers": NUMBERS},
        evaluate_every=0,
        compression="int8",
        rounds=1,
    )
    outcome, proved = hospitals.run(job)
    assert outcome["decisions"] == dict.fromkeys(ALL, "approved")
    assert proved.whole
    cost = account([terms_of(NUMBERS, 1).noise], 1e-3).epsilon
    for name in ALL:
        assert proved.sites[name].spent["epsilon"] == pytest.approx(cost)
        shown = ledger(hospitals, name, capsys)
        assert shown["jobs"] == {job.digest: 1}
        assert shown["spent"] == pytest.approx(cost)
        assert kinds_in_the_log(hospitals, name).count(Kind.FEDERATED_CHARGED) == 1
    weights = hospitals.running.model(job.digest)
    assert all(np.isfinite(one).all() and one.any() for one in weights.values())


def ledger(hospitals: Deployed, name: str, capsys: Any) -> dict[str, Any]:
    from voxelvault.interfaces.cli.app import main

    capsys.readouterr()
    assert main(["federated", "ledger", "--state", str(hospitals.running.state(name)), "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_nobody_called_elsewhere(hospitals: Deployed) -> None:
    assert len(list(hospitals.running.path.glob("states/*/log/calls-elsewhere"))) == 1 + len(ALL)
    assert hospitals.running.calls_elsewhere() == []

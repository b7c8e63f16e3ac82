"""The lead submits, a site looks and approves, anybody simulates: by the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from voxelvault.errors import VoxelVaultError
from voxelvault.interfaces.cli.command import Session
from voxelvault_fl.cli import federated
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.rounds.shelf import put
from voxelvault_fl.training.examples import SiteData

JOB = """
consortium = "heads"
id = "heads-1"
rounds = 2
min_sites = 2
max_sites = 5
purpose = "IRB-1"
lawful_basis = "consent"
[model]
task = "numpy-logistic"
[cohort]
column = "Modality"
op = "="
value = "CT"
[labels]
source = "table"
column = "hemorrhage"
"""


def call(session: Session, *arguments: str) -> dict[str, object]:
    made = CliRunner().invoke(federated, [*arguments, "--json"], obj=session, catch_exceptions=True)
    if isinstance(made.exception, VoxelVaultError | click.ClickException):
        raise made.exception
    assert made.exit_code == 0, made.output
    return dict(json.loads(made.stdout))


def submit(place: Path, kit: str = "lead") -> dict[str, object]:
    where = ["--kit", str(place / kit), "--state", str(place)]
    return call(Session(), "submit", str(place / "job.toml"), *where)


def approve(place: Path, state: Path, job: str, *more: str) -> dict[str, object]:
    where = ["--kit", str(place / "north"), "--state", str(state), "--policy", str(place / "policy.toml")]
    return call(Session(), "approve", job, *where, *more)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "policy.toml").write_text(
        f'consortium = "heads"\napp_digests = ["{app_digest()}"]\npurposes = ["IRB-1"]\n'
        'lawful_bases = ["consent"]\n'
    )
    said = {"id": "heads", "name": "Heads", "server": {"host": "localhost"}, "sites": ["north", "south"]}
    provision(consortium_of(said), tmp_path, datetime.now(UTC))
    return tmp_path


def test_a_job_is_submitted_looked_at_approved_and_stopped(place: Path) -> None:
    told = submit(place)
    assert told["code"] == app_digest()
    assert "reveal images" in str(told["warning"])
    job = str(told["job"])
    assert (place / "jobs" / job / "first.safetensors").exists()
    # The site keeps a job as it was offered.
    state = place / "st"
    put(state / "jobs" / job / "job.json", (place / "jobs" / job / "job.json").read_bytes())
    seen = approve(place, state, job[:8])
    assert (seen["approved"], seen["stopped"], seen["rule"]) == (False, False, "")
    assert "one update of the model a round" in str(seen["leaves"])
    assert approve(place, state, job[:8], "--yes")["approved"] is True
    assert approve(place, state, job[:8], "--stop")["stopped"] is True


def test_only_the_lead_signs(place: Path) -> None:
    with pytest.raises(VoxelVaultError, match="not the lead's"):
        submit(place, "north")


def test_a_job_that_the_policy_refuses_is_not_approved_by_hand(place: Path) -> None:
    (place / "job.toml").write_text(JOB.replace("IRB-1", "marketing"))
    seen = approve(place, place, str(submit(place)["job"]), "--yes")
    assert (seen["rule"], seen["approved"]) == ("purpose", False)


def test_a_job_is_simulated_and_compared(
    place: Path, three_scanners: SiteData, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open:
        def __enter__(self) -> object:
            return three_scanners.vault

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(Session, "open", lambda self: Open())
    labels = ["--labels", str(three_scanners.table), "--out", str(place / "run"), "--compare"]
    told = call(Session(), "simulate", str(place / "job.toml"), *labels)
    assert (told["status"], told["rounds"]) == ("finished", 2)
    compared = told["compared"]
    assert isinstance(compared, dict)
    assert set(compared) == {"alone", "federated", "pooled"}
    assert set(compared["pooled"]) == {"site-1", "site-2", "site-3"}

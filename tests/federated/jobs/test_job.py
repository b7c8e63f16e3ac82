"""A job is data: strict, canonical, signed by the lead."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job, Labels, Model, Privacy, SignedJob, Strategy, read_job, sign

LEAD = Ed25519PrivateKey.generate()


def job(**more: Any) -> Job:
    return Job(
        **{
            "consortium": "heads",
            "id": "heads-1",
            "expires": datetime(2030, 1, 1, tzinfo=UTC),
            "app_digest": "a" * 64,
            "initial_weights": "b" * 64,
            "model": Model("numpy-logistic", {"rate": 0.1}),
            "cohort": {"column": "Modality", "op": "=", "value": "CT"},
            "labels": Labels("table", "hemorrhage"),
            "rounds": 3,
            "min_sites": 2,
            "max_sites": 5,
            "purpose": "IRB-1",
            "lawful_basis": "consent",
            **more,
        }
    )


def test_a_signed_job_comes_back_as_it_was() -> None:
    signed = sign(job(), LEAD)
    assert SignedJob.loads(signed.dumps(), LEAD.public_key()) == signed
    assert len(signed.job.digest) == 64


@pytest.mark.parametrize("value", ["much", None, True, [1], float("nan"), 10**400])
@pytest.mark.parametrize("part", [Strategy, Privacy])
def test_numbers_of_a_job_are_numbers(part: Any, value: object) -> None:
    name, field = ("krum", "strategy") if part is Strategy else ("none", "privacy")
    with pytest.raises(JobRefused) as refused:
        job(**{field: part(name, numbers={"byzantine": value})})
    assert refused.value.rule == "malformed"


@pytest.mark.parametrize("text", ["IRB\x1b[2J", "IRB\n1", "IRB\u202e1", "IRB\x07"])
@pytest.mark.parametrize("part", ["purpose", "lawful_basis"])
def test_what_a_terminal_would_obey_is_in_no_job(part: str, text: str) -> None:
    with pytest.raises(JobRefused) as refused:
        job(**{part: text})
    assert refused.value.rule == "malformed"


@pytest.mark.parametrize("numbers", [{"beta1": 1}, {"beta2": 1.5}, {"beta1": -0.1}, {"tau": 0}, {"rate": 0}])
def test_fedadam_has_numbers_with_which_it_ends_somewhere(numbers: dict[str, float]) -> None:
    job(strategy=Strategy("fedadam"))
    with pytest.raises(JobRefused, match="strategy"):
        job(strategy=Strategy("fedadam", numbers=numbers))


def test_another_key_is_not_the_lead() -> None:
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(JobRefused, match="signature"):
        SignedJob.loads(sign(job(), stranger).dumps(), LEAD.public_key())


def test_a_changed_job_is_not_what_was_signed() -> None:
    said = json.loads(sign(job(), LEAD).dumps())
    said["job"]["rounds"] = 300
    with pytest.raises(JobRefused) as refused:
        SignedJob.loads(json.dumps(said).encode(), LEAD.public_key())
    assert refused.value.rule == "signature"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"id": "../etc"}, "malformed"),
        ({"app_digest": "short"}, "malformed"),
        ({"strategy": Strategy("best")}, "strategy"),
        ({"strategy": Strategy("fedavg", "loudest")}, "strategy"),
        ({"privacy": Privacy("hope")}, "privacy"),
        ({"privacy": Privacy("secagg")}, "secagg"),
        ({"privacy": Privacy("secagg+")}, "secagg"),
        ({"privacy": Privacy("dp-sgd")}, "privacy"),
        ({"labels": Labels("guess")}, "labels"),
        ({"rounds": 0}, "rounds"),
        ({"min_sites": 6}, "sites"),
        ({"update_norm": float("inf")}, "update-norm"),
        ({"purpose": ""}, "purpose"),
        ({"patience": -1}, "malformed"),
    ],
)
def test_a_job_that_can_not_be(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(JobRefused) as refused:
        job(**changed)
    assert refused.value.rule == rule


def test_a_job_without_protection_says_so() -> None:
    assert "reveal images" in job().warning
    assert not job(privacy=Privacy("dp-sgd"), evaluate_every=0).warning


def test_the_lead_writes_toml(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        'consortium = "heads"\nid = "heads-1"\nexpires = 2030-01-01T00:00:00Z\nrounds = 3\nmin_sites = 2\n'
        'max_sites = 5\npurpose = "IRB-1"\nlawful_basis = "consent"\nupdate_norm = 10\n'
        '[model]\ntask = "numpy-logistic"\nconfig = {rate = 0.1}\n'
        '[cohort]\ncolumn = "Modality"\nop = "="\nvalue = "CT"\n'
        '[labels]\nsource = "table"\ncolumn = "hemorrhage"\n'
    )
    fill = lambda _: {"app_digest": "a" * 64, "initial_weights": "b" * 64}  # noqa: E731
    assert read_job(path, fill) == job()
    path.write_text(path.read_text() + "positives = 1\n")
    with pytest.raises(JobRefused, match="no key 'positives'"):
        read_job(path, fill)

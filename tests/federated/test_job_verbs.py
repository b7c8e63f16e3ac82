"""The lead submits, a site looks and approves, anybody simulates: by the command line."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from toy_consortium import make_job

from voxelvault.errors import VoxelVaultError
from voxelvault.interfaces.cli.command import Session
from voxelvault_fl.cli import federated
from voxelvault_fl.consortium import consortium_of
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.filling import filling
from voxelvault_fl.jobs.job import read_job, sign
from voxelvault_fl.jobs.policy import read_policy
from voxelvault_fl.jobs.terms import require_runnable
from voxelvault_fl.privacy.accounting import terms_of
from voxelvault_fl.protection import ledger_at
from voxelvault_fl.provisioning.kit import read_kit
from voxelvault_fl.provisioning.trial import provision
from voxelvault_fl.rounds.records import Record
from voxelvault_fl.rounds.shelf import put
from voxelvault_fl.rounds.site_state import SiteState
from voxelvault_fl.training.examples import SiteData
from voxelvault_fl.training.tasks import first_weights

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
PRIVATE = f"""evaluate_every = 0
{JOB}
[privacy]
mode = "dp-sgd"
[privacy.numbers]
epsilon = 3.0
delta = 1e-5
clip = 1.0
rate = 0.1
steps = 5
learning_rate = 0.5
batch = 50
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


def approve(place: Path, state: Path, *more: str, kit: str = "north") -> dict[str, object]:
    put(state / "status.json", b'{"role": "site", "consortium": "heads", "site": "north"}')
    where = ["--kit", str(place / kit), "--state", str(state), "--policy", str(place / "policy.toml")]
    return call(Session(), "approve", *more, *where)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "policy.toml").write_text(
        f'consortium = "heads"\napp_digests = ["{app_digest()}"]\npurposes = ["IRB-1"]\n'
        'lawful_bases = ["consent"]\n'
    )
    said = {"id": "heads", "name": "Heads", "server": {"host": "localhost"}, "sites": ["north", "south"]}
    said["terms"] = {"purposes": ["IRB-1"], "minimum_cohort": 30, "maximum_rounds": 5, "site_metrics": False}
    provision(consortium_of(said), tmp_path, datetime.now(UTC))
    return tmp_path


def test_a_job_is_submitted_looked_at_approved_and_stopped(place: Path) -> None:
    told = submit(place)
    assert told["code"] == app_digest()
    assert "reveal images" in str(told["warning"])
    job = str(told["job"])
    assert told["folder"] == str(place / "jobs" / job)
    assert (place / "jobs" / job / "first.safetensors").exists()
    # The site keeps a job as it was offered.
    state = place / "st"
    put(state / "jobs" / job / "job.json", (place / "jobs" / job / "job.json").read_bytes())
    assert approve(place, state)[job] == {"id": "heads-1", "status": "offered"}
    seen = approve(place, state, job[:8])
    assert (seen["approved"], seen["stopped"], seen["rule"]) == (False, False, "")
    assert "one update of the model a round" in str(seen["leaves"])
    assert approve(place, state, job[:8], "--yes")["approved"] is True
    for kit, why in (("lead", "not a site's"), ("server", "not a site's"), ("south", "whose kit this is")):
        for done in ("--yes", "--stop"):
            with pytest.raises(VoxelVaultError, match=why):
                approve(place, state, job[:8], done, kit=kit)
    stopped = approve(place, state, job[:8], "--stop")
    assert (stopped["stopped"], stopped["approved"]) == (True, False)
    assert approve(place, state)[job] == {"id": "heads-1", "status": "stopped"}


def test_the_same_job_again_is_there_already_and_another_with_its_id_is_not_signed(place: Path) -> None:
    told = submit(place)
    signed = place / "jobs" / str(told["job"]) / "job.json"
    expires = json.loads(signed.read_bytes())["job"]["expires"]
    assert (told["already"], told["expires"]) == (False, expires)
    # As if submitted a day before: what is filled in now would expire later.
    earlier = datetime.fromisoformat(expires) - timedelta(days=1)
    (place / "job.toml").write_text(JOB.replace("rounds", f"expires = {earlier.isoformat()}\nrounds", 1))
    with pytest.raises(VoxelVaultError, match=r"give it a new one \[job-id\]"):
        submit(place)
    shutil.rmtree(place / "jobs")
    first = submit(place)["job"]
    (place / "job.toml").write_text(JOB)
    again = submit(place)
    assert (again["already"], again["job"]) == (True, first)
    (place / "job.toml").write_text(JOB.replace("rounds = 2", "rounds = 3"))
    with pytest.raises(VoxelVaultError, match="job-id"):
        submit(place)
    assert [one.name for one in (place / "jobs").iterdir()] == [first]
    (place / "job.toml").write_text(JOB.replace("heads-1", "heads-2"))
    assert submit(place)["already"] is False


def test_a_finished_job_is_not_stopped_any_more(place: Path) -> None:
    job = str(submit(place)["job"])
    mine = SiteState(place / "jobs" / job, job)
    start = Record("start", job, 0, "", "a" * 64)
    mine.follow([start, Record("end", job, 0, start.digest, "a" * 64)])
    for done in ("--yes", "--stop"):
        with pytest.raises(VoxelVaultError, match="job is finished"):
            approve(place, place, job, done)
    assert approve(place, place)[job] == {"id": "heads-1", "status": "finished", "round": 0}


def test_what_a_private_job_costs_is_shown_before_it_is_approved(place: Path) -> None:
    (place / "job.toml").write_text(PRIVATE)
    job = str(submit(place)["job"])
    assert approve(place, place, job)["rule"] == "no-ledger"
    ledger_at(place).create(4.0, 1e-5)
    seen = approve(place, place, job)
    assert (seen["rule"], seen["rounds"], seen["labels"]) == ("", 2, {
        "source": "table", "column": "hemorrhage", "positive": [],
    })  # fmt: skip
    assert seen["cohort"] == {"column": "Modality", "op": "=", "value": "CT"}
    told = r"epsilon [23][.\d]* at delta 1e-05; unit: subject; RDP, Opacus; the job allows epsilon 3"
    assert re.fullmatch(told, str(seen["cost"]))
    assert str(seen["ledger"]).startswith("of epsilon 4 at delta 1e-05, 0 spent; ")
    # Nothing was charged: it can be made anew.
    ledger_at(place).create(2.0, 1e-5)
    assert approve(place, place, job)["rule"] == "budget"
    with pytest.raises(VoxelVaultError, match=r"or the ledger \[budget\]"):
        approve(place, place, job, "--yes")


@pytest.mark.parametrize(
    ("was", "now"),
    [("delta = 1e-5\n", ""), ("delta = 1e-5", "delta = 0.5"), ("delta = 1e-5", "delta = 1e-5\nnoise = 0.1")],
)
def test_a_job_whose_privacy_cannot_hold_is_not_signed(place: Path, was: str, now: str) -> None:
    (place / "job.toml").write_text(PRIVATE.replace(was, now))
    with pytest.raises(VoxelVaultError, match=r"\[privacy\]$"):
        submit(place)
    assert not (place / "jobs").exists()


def test_a_policy_to_begin_with_lets_in_what_the_terms_allow(place: Path) -> None:
    made = CliRunner().invoke(federated, ["policy", "--kit", str(place / "north")], catch_exceptions=False)
    (place / "policy.toml").write_text(made.output)
    policy = read_policy(place / "policy.toml")
    assert (policy.app_digests, policy.purposes, policy.min_cohort) == ((app_digest(),), ("IRB-1",), 30)
    assert policy.privacy == ("dp-sgd",)


def test_only_the_lead_signs(place: Path) -> None:
    with pytest.raises(VoxelVaultError, match="not the lead's"):
        submit(place, "north")


@pytest.mark.parametrize(
    ("was", "now", "rule"),
    [
        ('purpose = "IRB-1"', 'purpose = "marketing"', "purpose"),
        ("rounds = 2", "rounds = 6", "rounds"),
        ("min_sites = 2", "min_sites = 1", "sites"),
        ('consortium = "heads"', 'consortium = "others"', "consortium"),
    ],
)
def test_a_job_outside_of_the_terms_is_not_signed(place: Path, was: str, now: str, rule: str) -> None:
    (place / "job.toml").write_text(JOB.replace(was, now))
    with pytest.raises(VoxelVaultError, match=rf"consortium's terms, which .*\[{rule}\]$"):
        submit(place)
    assert not (place / "jobs").exists()


def test_the_job_of_the_guide_is_one_also_with_the_privacy_of_its_page(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide"
    job = re.findall(r"```toml\n(# job.toml.*?)```", (guide / "federated-jobs.md").read_text("utf-8"), re.S)[
        0
    ]
    private = re.findall(
        r"```toml\n(evaluate.*?)```", (guide / "federated-privacy.md").read_text("utf-8"), re.S
    )
    quiet, terms = private[0].split("\n[privacy]\n")
    now = datetime.now(UTC)
    for text in (job, f"{quiet}\n{job}\n[privacy]\n{terms}"):
        (tmp_path / "job.toml").write_text(text)
        found = read_job(tmp_path / "job.toml", filling(first_weights, now))
        require_runnable(found, now)
    assert terms_of(found.privacy.numbers, found.rounds).epsilon == 3


@pytest.mark.parametrize(
    ("was", "now", "rule"),
    [
        ('column = "Modality"', 'column = "PatientName"', "filter-column"),
        ('op = "="', 'op = "like"', "filter"),
        ("rounds = 2", "rounds = 2\nexpires = 2020-01-01T00:00:00Z", "expired"),
        ("rounds = 2", 'rounds = 2\nmetric = "accuracy"', "metric"),
    ],
)
def test_a_job_that_no_site_could_run_is_not_signed(place: Path, was: str, now: str, rule: str) -> None:
    (place / "job.toml").write_text(JOB.replace(was, now))
    with pytest.raises(VoxelVaultError, match=rf"\[{rule}\]$"):
        submit(place)
    assert not (place / "jobs").exists()


def test_a_folder_that_is_not_there_gets_no_job(place: Path) -> None:
    where = ["--kit", str(place / "lead"), "--state", str(place / "typo")]
    with pytest.raises(AssertionError, match="typo' does not exist"):
        call(Session(), "submit", str(place / "job.toml"), *where)
    assert not (place / "typo").exists()


def test_a_job_that_the_policy_refuses_is_not_approved_by_hand(place: Path) -> None:
    (place / "job.toml").write_text(JOB.replace("consent", "contract"))
    job = str(submit(place)["job"])
    with pytest.raises(VoxelVaultError, match=r"not approved.*\[lawful-basis\]"):
        approve(place, place, job, "--yes")
    seen = approve(place, place, job)
    assert (seen["rule"], seen["approved"]) == ("lawful-basis", False)


def test_a_job_that_the_policy_approves_is_approved_until_it_is_stopped(place: Path) -> None:
    with (place / "policy.toml").open("a") as policy:
        policy.write('approval = "by-policy"\n')
    job = str(submit(place)["job"])
    seen = approve(place, place, job)
    assert (seen["approval"], seen["approved"]) == ("by-policy", True)
    approve(place, place, job, "--stop")
    with pytest.raises(VoxelVaultError, match="stopped here for good"):
        approve(place, place, job, "--yes")


def test_a_job_stops_even_where_the_policy_can_not_be_read(place: Path) -> None:
    job = str(submit(place)["job"])
    (place / "policy.toml").write_text("purposes = [")
    with pytest.raises(VoxelVaultError, match="policy"):
        approve(place, place, job, "--stop")
    assert SiteState(place / "jobs" / job, job).stopped


def test_what_was_signed_by_other_code_is_shown_without_what_a_terminal_obeys(place: Path) -> None:
    from voxelvault_fl.cli.approve import _lines

    head = _lines({"purpose": "IRB\x1b[2J\x07-1", "leaves": [], "terms": []})[0]
    assert head.isprintable()
    assert head.startswith("purpose: IRB")


def test_what_privacy_cost_is_told_with_what_it_means() -> None:
    from voxelvault_fl.cli.verify import _spent

    told = {"epsilon": 2.9759662, "delta": 1e-5, "unit": "subject", "accountant": "RDP, Opacus"}
    assert _spent(told) == "; epsilon 2.976 at delta 1e-05; unit: subject; RDP, Opacus"
    # A site that signs something else is shown, not believed.
    assert _spent({"epsilon": "\x1b[2J"}).isprintable()
    assert _spent({}) == ""


def test_a_policy_that_lets_more_in_than_the_terms_does_not(place: Path) -> None:
    """The lead's own hand signed it all the same; the site has the terms from its roster."""
    policy = (place / "policy.toml").read_text().replace('["IRB-1"]', '["IRB-1", "marketing"]')
    (place / "policy.toml").write_text(policy)
    soon = datetime.now(UTC) + timedelta(days=1)
    job = make_job(purpose="marketing", app_digest=app_digest(), expires=soon)
    signed = sign(job, read_kit(place / "lead").keys.signing).dumps()
    put(place / "jobs" / job.digest / "job.json", signed)
    with pytest.raises(VoxelVaultError, match="not approved"):
        approve(place, place, job.digest, "--yes")
    seen = approve(place, place, job.digest)
    assert (seen["rule"], seen["approved"]) == ("purpose", False)
    assert "purposes: IRB-1" in str(seen["terms"])
    assert "metrics are recorded pooled only" in str(seen["terms"])
    # The least cohort is the larger of both.
    assert "at least 30" in str(seen["leaves"])


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

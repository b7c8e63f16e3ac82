"""A refused job names the rule, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from toy_consortium import make_job

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Model, Privacy, Strategy
from voxelvault_fl.jobs.policy import (
    Approved,
    PolicyFile,
    Refused,
    Seen,
    SitePolicy,
    Waiting,
    decide,
    read_policy,
    what_leaves,
)

NOW = datetime(2026, 12, 1, tzinfo=UTC)
SEEN = Seen(43, 40, "c" * 64, "a" * 64)


def policy(**more: Any) -> SitePolicy:
    base = {"consortium": "heads", "app_digests": ("a" * 64,), "purposes": ("IRB-1",)}
    return SitePolicy(**{**base, "lawful_bases": ("consent",), "approval": "by-policy", **more})


def test_a_job_within_the_policy_is_approved_and_its_count_is_the_rounded_one() -> None:
    assert decide(make_job(), policy(), SEEN, NOW) == Approved(40, "c" * 64)


@pytest.mark.parametrize(
    ("job", "mine", "rule"),
    [
        ({}, {"consortium": "others"}, "consortium"),
        ({"expires": NOW}, {}, "expired"),
        ({"expires": NOW + timedelta(days=500)}, {}, "expires-late"),
        ({"app_digest": "f" * 64}, {}, "app-digest"),
        ({"model": Model("other")}, {}, "task"),
        ({"purpose": "marketing"}, {}, "purpose"),
        ({"lawful_basis": "none"}, {}, "lawful-basis"),
        ({"deid_profile": "strict"}, {}, "deid-profile"),
        ({"cohort": {"column": "PatientName", "op": "=", "value": "x"}}, {}, "filter-column"),
        ({"cohort": {"column": "KVP", "op": "=", "value": 120}}, {"columns": ("Modality",)}, "filter-column"),
        ({"cohort": {"sql": "1 = 1"}}, {}, "filter"),
        ({"rounds": 500}, {}, "rounds"),
        ({"min_sites": 1}, {}, "sites"),
        ({"update_norm": 1000.0}, {}, "update-norm"),
        ({}, {"privacy": ("dp-sgd",)}, "privacy"),
        ({"privacy": Privacy("dp-sgd", {"epsilon": 9}), "evaluate_every": 0}, {}, "epsilon"),
        ({"privacy": Privacy("dp-sgd"), "evaluate_every": 0}, {}, "epsilon"),
        ({"strategy": Strategy("median")}, {"strategies": ("fedavg",)}, "strategy"),
        ({"compression": "int8"}, {"compression": ("none",)}, "compression"),
        ({"personalise": 3}, {"personalise": False}, "personalise"),
    ],
)
def test_a_refused_job_names_the_rule(job: dict[str, Any], mine: dict[str, Any], rule: str) -> None:
    assert decide(make_job(**job), policy(**mine), SEEN, NOW) == Refused(rule)


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        (Seen(9, 10, "c" * 64, "a" * 64), "cohort-size"),
        (Seen(43, 40, "c" * 64, "b" * 64), "app-running"),
        (Seen(43, 40, "c" * 64, "a" * 64, stopped=True), "stopped"),
        (Seen(43, 40, "c" * 64, "a" * 64, other_job=True), "job-id"),
    ],
)
def test_what_the_site_knows_counts(seen: Seen, rule: str) -> None:
    assert decide(make_job(), policy(), seen, NOW) == Refused(rule)


def test_by_hand_waits_for_somebody() -> None:
    by_hand = policy(approval="by-hand")
    assert decide(make_job(), by_hand, SEEN, NOW) == Waiting()
    assert isinstance(decide(make_job(), by_hand, Seen(43, 40, "", "a" * 64, approved=True), NOW), Approved)
    # A hand's approval opens no rule of the policy.
    seen = Seen(43, 40, "", "a" * 64, approved=True)
    assert decide(make_job(purpose="marketing"), by_hand, seen, NOW) == Refused("purpose")


def test_what_leaves_is_said_with_its_warning() -> None:
    lines = what_leaves(make_job(), policy())
    assert any("reveal images" in line for line in lines)
    assert any("loss, auc" in line for line in lines)
    private = make_job(privacy=Privacy("dp-sgd", {"epsilon": 1}), evaluate_every=0)
    assert not any("reveal" in line or "auc" in line for line in what_leaves(private, policy()))


def test_a_policy_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    text = f'consortium = "heads"\napp_digests = ["{"a" * 64}"]\npurposes = ["P"]\nlawful_bases = []\n'
    path.write_text(text)
    file = PolicyFile(path)
    assert file() is file()
    path.write_text(text + "min_cohort = 77\n")
    assert file().min_cohort == 77
    path.unlink()
    for _ in range(2):
        with pytest.raises(JobRefused) as refused:
            file()
        assert refused.value.rule == "policy"


def test_what_leaves_says_that_metrics_are_pooled_where_the_terms_want_it() -> None:
    assert any("pooled" in line for line in what_leaves(make_job(), policy(), site_metrics=False))
    quiet = what_leaves(make_job(evaluate_every=0), policy(), site_metrics=False)
    assert not any("loss" in line for line in quiet)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("tasks", "tasks knows no 'other'; it knows numpy-logistic, hemorrhage"),
        ("metrics", "metrics knows no 'other'; it knows loss, auc"),
        ("privacy", "privacy knows no 'other'; it knows none, dp-sgd"),
        ("columns", "columns knows no 'other'; it knows Modality, "),
    ],
)
def test_an_unknown_word_is_named_with_those_that_are_known(key: str, said: str) -> None:
    with pytest.raises(JobRefused, match=said):
        policy(**{key: ("other",)})


def test_a_policy_is_a_strict_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    text = (
        f'consortium = "heads"\napp_digests = ["{"a" * 64}"]\npurposes = ["IRB-1"]\n'
        'lawful_bases = ["consent"]\napproval = "by-policy"\n'
    )
    path.write_text(text)
    assert read_policy(path) == policy()
    for wrong in (
        "min_cohrt = 3\n",
        'min_cohort = "3"\n',
        "min_cohort = 0\n",
        'columns = ["PatientName"]\n',
        'tasks = ["numpy-logistic", "hemmorhage"]\n',
        'metrics = ["loss", "AUC"]\n',
        'privacy = ["none", "dpsgd"]\n',
        'strategies = ["fedavrg"]\n',
        'compression = ["int4"]\n',
        "==",
    ):
        path.write_text(text + wrong)
        with pytest.raises(JobRefused) as refused:
            read_policy(path)
    # The last one is no TOML, and where is said.
    assert "no TOML at line 6, column 1; see docs/reference/federated-jobs.md" in str(refused.value)

"""What would fail in a process that nobody watches is said before a site takes part."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxelvault.errors import UsageError
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.site.ready import policy_warnings, require_labels

POLICY = 'consortium = "heads"\npurposes = []\nlawful_bases = []\napp_digests = ["{}"]\n'


def _policy(place: Path, text: str) -> Path:
    path = place / "policy.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("consortium = ", "no TOML"),
        (POLICY.format("9f2c…"), "64 hexadecimal digits"),
        (POLICY.format("a" * 64).replace("heads", "tails"), "of 'tails', the kit of heads"),
    ],
)
def test_a_policy_that_lets_nothing_in_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(JobRefused, match=said):
        policy_warnings(_policy(tmp_path, text), "heads")


def test_a_policy_without_the_code_of_here_is_warned_of(tmp_path: Path) -> None:
    (warned,) = policy_warnings(_policy(tmp_path, POLICY.format("a" * 64)), "heads")
    assert app_digest() in warned
    assert policy_warnings(_policy(tmp_path, POLICY.format(app_digest())), "heads") == ()


def test_a_table_without_its_key_is_said(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("study,hemorrhage\n1.2,1\n")
    with pytest.raises(UsageError, match="no column"):
        require_labels(table, "StudyInstanceUID")
    table.write_text("StudyInstanceUID,hemorrhage\n1.2,1\n")
    require_labels(table, "StudyInstanceUID")

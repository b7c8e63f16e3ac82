"""The faults of `test_real_processes`, ten times each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import test_real_processes as once
from federation import Federation, federation

FAULTS: list[Callable[[Federation], None]] = [
    once.test_what_a_site_does_wrong_is_set_aside_and_the_run_goes_on,
    once.test_a_run_in_which_every_site_fails_is_not_told_as_a_success,
    once.test_a_server_that_is_killed_goes_on_from_its_last_round,
    once.test_a_site_stops_at_any_time_and_comes_back,
    once.test_an_outsider_with_the_authoritys_certificate_gets_no_answer,
    once.test_what_the_server_did_not_sign_is_not_answered,
]

ALONE: list[Callable[[Federation], None]] = [
    once.test_a_supernode_that_is_killed_comes_back_after_its_lease_and_rounds_go_on,
    once.test_a_revoked_site_is_out_within_a_second_in_the_middle_of_a_run,
]
"""What leaves a consortium other than it was: out for good, or waiting longer with each kill."""


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.removeprefix("test_"))
def test_again(heads: Federation, fault: Callable[[Federation], None], turn: int) -> None:
    fault(heads)
    assert heads.calls_elsewhere() == []


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: fault.__name__.removeprefix("test_"))
def test_again_in_a_consortium_of_its_own(
    tmp_path: Path, fault: Callable[[Federation], None], turn: int
) -> None:
    with federation(tmp_path) as heads:
        fault(heads)
        assert heads.calls_elsewhere() == []

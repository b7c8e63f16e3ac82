"""The server carries letters, and doesn't wait twice for who doesn't answer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from whole_consortium import Whole

from voxelvault_fl.record.hub import LONGEST, Hub
from voxelvault_fl.record.office import Letter
from voxelvault_fl.rounds.transport import Fault


class Slow:
    """One site is there, and its answer never is."""

    def __init__(self) -> None:
        self.asked = 0

    def ready(self) -> tuple[str, ...]:
        return ("east",)

    def ask(self, round: int, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        self.asked += len(requests)
        return {name: Fault("timeout") for name in requests}


def _letter(sender: str, to: str, kind: str, body: str = "x") -> Letter:
    return Letter(sender, to, kind, body)


def test_a_box_holds_the_newest_letter_of_each_sender_and_kind(whole: Whole) -> None:
    hub = Hub(whole.parties["server"].office, Slow())
    for number in range(5000):
        hub._sort("east", [_letter("east", "west", "request", str(number)), _letter("east", "west", "key")])
    assert [(one.kind, one.body) for one in hub._boxes["west"].values()] == [
        ("request", "4999"),
        ("key", "x"),
    ]


@pytest.mark.parametrize(
    "letter",
    [
        _letter("east", "nobody", "request"),
        _letter("east", "lead", "request"),
        _letter("east", "west", "attestation"),
        _letter("north", "west", "request"),
        _letter("east", "west", "request", "x" * (LONGEST + 1)),
    ],
)
def test_what_is_not_passed_on_fills_no_box(whole: Whole, letter: Letter) -> None:
    hub = Hub(whole.parties["server"].office, Slow())
    hub._sort("east", [letter])
    assert hub._boxes == {}


def test_a_slow_site_costs_one_wait_an_exchange(whole: Whole) -> None:
    sites = Slow()
    hub = Hub(whole.parties["server"].office, sites)
    hub.exchange(job=whole.job.digest)
    assert sites.asked == 1
    hub.exchange(job=whole.job.digest)
    assert sites.asked == 2
    assert hub.attestations == {}

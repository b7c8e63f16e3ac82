"""The server carries letters, and doesn't wait twice for who doesn't answer."""

from __future__ import annotations

from collections.abc import Mapping

from whole_consortium import Whole

from voxelvault_fl.record.hub import Hub
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


def test_a_slow_site_costs_one_wait_an_exchange(whole: Whole) -> None:
    sites = Slow()
    hub = Hub(whole.parties["server"].office, sites)
    hub.exchange(job=whole.job.digest)
    assert sites.asked == 1
    hub.exchange(job=whole.job.digest)
    assert sites.asked == 2
    assert hub.attestations == {}

from __future__ import annotations

from pathlib import Path

from toy_consortium import Toy

from voxelvault_fl.rounds.transport import Fault


def test_why_an_offer_came_to_nothing_is_said_and_it_is_made_again(tmp_path: Path) -> None:
    toy, offered = Toy(tmp_path), list[str]()

    def lost(round: int, site: str, data: bytes) -> bytes | Fault:
        offered.append(site)
        return Fault("policy") if site == "west" else data

    toy.to_site = lost
    assert toy.run().go().decisions["west"] == "policy"
    # One at the start, and one before each round.
    assert offered.count("west") == 1 + toy.job.rounds

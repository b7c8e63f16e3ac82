from __future__ import annotations

from voxelvault_fl.processes.pace import LEAST, Pace


def test_rests_grow_with_the_wait_and_are_short_again_once_something_came() -> None:
    now, rests = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        now[0] += seconds

    pace = Pace(0.5, lambda: now[0], sleep)
    pace.rest()
    while now[0] < 20:
        pace.rest()
    assert rests[0] == LEAST
    assert rests == sorted(rests)
    assert rests[-1] == 0.5
    # Nothing is found later than a tenth of the time that it took to come.
    assert len(rests) < 20 / 0.5 * 2.5
    pace.came()
    pace.rest()
    assert rests[-1] == LEAST

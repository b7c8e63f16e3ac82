"""Ctrl-C is heeded by whoever does the whole, not by a step of it."""

from __future__ import annotations

import os
import signal

import pytest

from voxelvault.intake.interrupt import interruptible


@pytest.fixture(autouse=True)
def heard() -> object:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_is_a_wish_and_the_second_insists() -> None:
    with interruptible() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_step_of_something_larger_is_done_whole_and_the_larger_one_stops() -> None:
    with interruptible() as whole:
        with interruptible() as step:
            os.kill(os.getpid(), signal.SIGINT)
            assert not step.is_set()
        assert whole.is_set()
    with interruptible() as later:
        os.kill(os.getpid(), signal.SIGINT)
        assert later.is_set()

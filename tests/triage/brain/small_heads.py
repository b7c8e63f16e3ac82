"""Synthetic heads that are made in a moment: thick slices, coarse pixels, the analytic anatomy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from voxelvault_triage.phantom.atlas import Atlas, analytic
from voxelvault_triage.phantom.bleeds import Kind
from voxelvault_triage.phantom.planning import Lesions
from voxelvault_triage.phantom.scanner import Scanners
from voxelvault_triage.phantom.study import USUAL, Phantom, Recipe, phantom

COARSE = Scanners(thickness=(7.0,), mixed=0, pixel=(1.6, 1.6), tilt=(12, 12), motion=0, metal=0)


@cache
def head() -> Atlas:
    return analytic()


def recipe(kind: Kind | None = None) -> Recipe:
    lesions = Lesions(shares={kind: 1.0}, second=0) if kind else Lesions()
    return replace(USUAL, lesions=lesions, scanners=COARSE)


@cache
def study(seed: int, kind: Kind | None = None) -> Phantom:
    """One small study; negative without a kind."""
    return phantom(seed, head(), recipe(kind), bleeding=kind is not None)

"""How rounds reach sites, and how what they carry is made smaller: seams, no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from voxelvault_fl.jobs.task import Weights


@dataclass(frozen=True, slots=True)
class Fault:
    """No answer: `rule` is a fixed word such as ``timeout``, ``disconnected``, ``failed``."""

    rule: str


class Sites(Protocol):
    """The sites that can be reached now. Messages are opaque bytes, signed inside."""

    def ready(self) -> tuple[str, ...]:
        """Return the names of the sites that are connected and not revoked, in order."""
        ...

    def ask(self, round: int, requests: Mapping[str, bytes]) -> Mapping[str, bytes | Fault]:
        """Send each site its request and return what came back in time; a site may be missing."""
        ...


class Compression(Protocol):
    """Makes updates smaller, and whole again; one for a job and a side.

    Parameters
    ----------
    lost : mapping of str to array
        What the last one lost: it goes into the next.
    """

    lost: Weights

    @property
    def lossy(self) -> bool:
        """Whether anything can be lost."""
        ...

    def encode(self, update: Weights) -> Weights:
        """Return what is sent instead of an update."""
        ...

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return the update; names, shapes and dtypes as `like` has them."""
        ...


class Plain:
    """No compression."""

    lossy = False

    def __init__(self) -> None:
        self.lost: Weights = {}

    def encode(self, update: Weights) -> Weights:
        """Return the update."""
        return update

    def decode(self, sent: Weights, like: Weights) -> Weights:
        """Return what was sent."""
        return sent


__all__ = ["Compression", "Fault", "Plain", "Sites"]

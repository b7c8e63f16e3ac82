"""An open series on its way to a worker: what its readers pickle as, and become again there."""

from __future__ import annotations

import pickle
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from voxelvault.reading.lending import LIFETIME, Loan, lend
from voxelvault.reading.sources import SeriesSource

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxelvault.reading.handles import Handle
    from voxelvault.reading.volumes import LazyFrames, VolumeReader
    from voxelvault.resources import Resources


class Lender(Protocol):
    """Whatever lends one series."""

    source: SeriesSource

    def loan(self) -> Loan:
        """Return a loan of the series, good for a while."""


class SeriesLender:
    """Lends one series of an open handle; a loan is used again for half of its time.

    Parameters
    ----------
    resources : Resources
        The open vault.
    handle : Handle
        That covers the series.
    source : SeriesSource
        Travels along, sealed.
    """

    def __init__(self, resources: Resources, handle: Handle, source: SeriesSource) -> None:
        self._resources, self._handle, self.source = resources, handle, source
        self._lock = threading.Lock()
        self._loan: Loan | None = None

    def loan(self) -> Loan:
        """Return a loan of the series.

        Raises
        ------
        PolicyDenied
            The handle is closed.
        """
        self._handle.check()
        with self._lock:
            if self._loan is None or self._loan.expires < time.time() + LIFETIME / 2:
                payload = pickle.dumps(self.source)
                self._loan = lend(self._resources, self._handle, self.source.packs, payload)
            return self._loan


class Borrowed:
    """What a worker hands on: the loan that it got itself.

    Parameters
    ----------
    loan : Loan
        As it arrived.
    source : SeriesSource
        Of its payload.
    """

    def __init__(self, loan: Loan, source: SeriesSource) -> None:
        self._loan, self.source = loan, source

    def loan(self) -> Loan:
        """Return the loan."""
        return self._loan


def lent_source(loan: Loan) -> SeriesSource:
    """Return the series that a loan carries; one object a process.

    Raises
    ------
    GrantExpired, KeyUnavailable, ForkedProcess
        As `Loan.open`.
    """
    # Safe: whoever could change the payload could change the pickle that it came in.
    found: SeriesSource = loan.open().once("source", lambda opened: pickle.loads(opened.payload))  # noqa: S301
    return found


def lent_reader(loan: Loan) -> VolumeReader:
    """Return a reader of the series that a loan carries, decoding in one thread; raises as `lent_source`."""
    source = lent_source(loan)
    return loan.open().once(
        "reader",
        lambda opened: source.reader(opened.packs, opened, threads=1, lender=Borrowed(loan, source)),
    )


class LentFrames:
    """A volume as a block of a dask graph sees it; opened by the first who reads it.

    A scheduler unpickles the graphs that it passes on, and is lent nothing.

    Parameters
    ----------
    loan : Loan
        Of the series.
    stack : int
        Number of the stack.
    units : str or None
        As of `VolumeReader.read`.
    """

    def __init__(self, loan: Loan, stack: int, units: str | None) -> None:
        self._loan, self._stack, self._units = loan, stack, units
        self._frames: LazyFrames | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return LentFrames, (self._loan, self._stack, self._units)

    def __repr__(self) -> str:
        return "<LentFrames>"

    def __getitem__(self, key: tuple[slice | int, ...]) -> npt.NDArray[Any]:
        if self._frames is None:
            self._frames = lent_frames(self._loan, self._stack, self._units)
        return self._frames[key]


def lent_frames(loan: Loan, stack: int, units: str | None) -> LazyFrames:
    """Return a volume's frames as they are read in this process; raises as `lent_source`."""
    from voxelvault.reading.volumes import LazyFrames

    return LazyFrames(lent_reader(loan), lent_source(loan).stacks[stack], units)


__all__ = ["Borrowed", "Lender", "LentFrames", "SeriesLender", "lent_frames", "lent_reader", "lent_source"]

"""How the model of a round reaches sites: not at all where they hold it, else by what changed, else whole.

A job that compresses sends what changed since the model before, with loss, and what comes of that *is* the
round's model: the server keeps it, the record names its digest, and all sites hold the same bytes. What was
lost of the aggregate goes into the next round's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxelvault_fl.errors import MessageRefused
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.rounds.bounds import difference, moved
from voxelvault_fl.rounds.messages import Message
from voxelvault_fl.rounds.transport import Compression

LACKS = "not-held"
"""The rule of a site that no longer holds the model that the server counts on."""
_SINCE = "since"


class Broadcast:
    """The server's side: who holds which model.

    Parameters
    ----------
    small : Compression
        What makes models smaller, as the job asks.
    """

    def __init__(self, small: Compression) -> None:
        self._small = small
        self._held: dict[str, int] = {}
        self._step: tuple[int, Weights] | None = None

    def model(self, round: int, before: Weights, exact: Weights, lost: Weights) -> tuple[Weights, Weights]:
        """Return a round's model as sites will hold it, and what it lacks of what was aggregated.

        Parameters
        ----------
        round : int
            The round.
        before, exact : mapping of str to array
            The model before, and the aggregate.
        lost : mapping of str to array
            What the model before lacks.
        """
        if not self._small.lossy:
            return exact, {}
        self._small.lost = lost
        sent = self._small.encode(difference(exact, before))
        self._step = round, sent
        return moved(before, self._small.decode(sent, before)), self._small.lost

    def parcel(self, site: str, round: int, weights: Weights) -> tuple[Mapping[str, Any], Weights]:
        """Return what a message says of the model of a round that it brings, and what it carries of it."""
        held = self._held.get(site)
        if not weights or held is None:
            return {}, weights
        if held == round:
            return {_SINCE: held}, {}
        if self._step is not None and (held, self._step[0]) == (round - 1, round):
            return {_SINCE: held}, self._step[1]
        return {}, weights

    def arrived(self, site: str, round: int) -> None:
        """Note that a site answered a message that brought the model of a round."""
        self._held[site] = round

    def forget(self, site: str) -> None:
        """Count on nothing that a site holds."""
        self._held.pop(site, None)


def received(came: Message, held: tuple[int, Weights] | None, round: int, small: Compression) -> Weights:
    """Return the model that a message brings to a site; it is still to be checked against the record.

    Parameters
    ----------
    came : Message
        The message.
    held : (int, mapping), optional
        Round and weights of the model that the site holds.
    round : int
        Whose model it brings.
    small : Compression
        As the job asks.

    Raises
    ------
    MessageRefused
        The rule is `LACKS`: the site holds another model than the one that the message builds on.
    SetAside
        What it carries isn't compressed as the job asks.
    """
    since = came.said.get(_SINCE)
    if since is None:
        return came.weights
    if held is None or held[0] != since:
        raise MessageRefused(LACKS, "the message builds on a model that isn't held here any more")
    return held[1] if since == round else moved(held[1], small.decode(came.weights, held[1]))


__all__ = ["LACKS", "Broadcast", "received"]

"""Ingest in the vault's own process: a file is read once, by threads; the hands of `ingest` by default."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol

from voxelvault.dicom.json_model import Repeated
from voxelvault.dicom.sources import Source
from voxelvault.intake.candidates import Arrival, Candidate, examine
from voxelvault.intake.commit import Draft, discard, log_intent
from voxelvault.intake.packing import Press, draft_of, press
from voxelvault.intake.quarantine import Refused
from voxelvault.model import new_id
from voxelvault.resources import Resources


class Hands(Protocol):
    """What examines files and writes packs."""

    @property
    def batches(self) -> int:
        """How many batches' worth of files are taken at once."""

    def examine(
        self, files: Sequence[tuple[Source, str]], stop: threading.Event
    ) -> Iterable[Arrival | Refused | None]:
        """Yield what each file is, with the issuer for it; fewer after Ctrl-C."""

    def write(
        self,
        action: str,
        groups: Sequence[list[Any]],
        late: list[Refused],
        go_on: Callable[[Sequence[Any]], bool],
        refused: list[str],
    ) -> tuple[list[Draft], bool]:
        """Write a pack for each group, until `go_on` says no; say whether nothing is left to do."""


class Here:
    """Threads of this process: a file is read once; see `Hands`.

    Parameters
    ----------
    resources : Resources
        The open vault.
    codec : str
        Preferred codec.
    executor : ThreadPoolExecutor
        Who does it.
    ahead : int
        Files that are examined before they are asked for.
    """

    batches = 1

    def __init__(self, resources: Resources, codec: str, executor: ThreadPoolExecutor, ahead: int) -> None:
        self._resources, self._codec, self._executor, self._ahead = resources, codec, executor, ahead

    def examine(
        self, files: Sequence[tuple[Source, str]], stop: threading.Event
    ) -> Iterator[Candidate | Refused | None]:
        """Yield what each file is, until Ctrl-C; few are read ahead, since what they are lies in memory."""
        repeated = Repeated()
        waiting = iter(files)
        ahead: deque[Future[Candidate | Refused | None]] = deque()
        try:
            while True:
                more = islice(waiting, self._ahead - len(ahead))
                ahead += [self._executor.submit(examine, *file, repeated) for file in more]
                if not ahead:
                    return
                yield ahead.popleft().result()
                if stop.is_set():
                    return
        finally:
            for future in ahead:
                future.cancel()

    def write(
        self,
        action: str,
        groups: Sequence[list[Candidate]],
        late: list[Refused],
        go_on: Callable[[Sequence[Candidate]], bool],
        _refused: list[str],
    ) -> tuple[list[Draft], bool]:
        """Write a pack for each group; say whether all were."""
        drafts = write_packs(self._resources, action, groups, self._codec, self._executor, late, go_on)
        return drafts, len(drafts) == len(groups)


def write_packs(
    resources: Resources,
    action: str,
    groups: Sequence[list[Candidate]],
    codec: str,
    executor: ThreadPoolExecutor,
    aside: list[Refused],
    go_on: Callable[[Sequence[Candidate]], bool] = lambda group: True,
) -> list[Draft]:
    """Enter the intent and write a pack for each group, until `go_on` says no after one.

    A group is emptied once it is written: its files' bytes are not needed any more.
    """
    tools = Press(resources.sealed, resources.pool, codec, executor, resources.tags)
    pack_ids = [new_id() for _ in groups]
    log_intent(resources, action, "pack", pack_ids)
    drafts: list[Draft] = []
    try:
        for pack_id, group in zip(pack_ids, groups, strict=True):
            drafts.append(write_pack(tools, pack_id, group, aside))
            more = go_on(group)
            group.clear()
            if not more:
                break
    except BaseException:
        # A full disk is no fuller for what will never be committed.
        for draft in drafts:
            discard(resources, draft.writer)
        raise
    return drafts


def write_pack(tools: Press, pack_id: str, group: Sequence[Candidate], aside: list[Refused]) -> Draft:
    """Encode, verify and seal one series' files; what can't be stored joins those kept aside."""
    dek = secrets.token_bytes(32)
    pressed = press(tools, pack_id, dek, group)
    aside += pressed.aside
    return draft_of(pack_id, dek, group[0], tools.codec, pressed)


__all__ = ["Hands", "Here", "write_pack", "write_packs"]

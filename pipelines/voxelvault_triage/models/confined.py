"""A session in a child process that can reach nothing: for networks that others made."""

from __future__ import annotations

import json
import time
import weakref
from dataclasses import dataclass
from threading import Lock

from voxelvault.confining.child import SLOW, ConfinedChild
from voxelvault.errors import ChildDied, VoxelVaultError
from voxelvault_triage.models.confined_child import (
    DONE,
    EXHAUSTED,
    LOAD,
    MESSAGE,
    RUN,
    RUNTIMES,
    packed,
    unpacked,
)
from voxelvault_triage.models.sessions import Network
from voxelvault_triage.pipeline import Arrays

_CHILD = "voxelvault_triage.models.confined_child"
_MOST_HEAD = 1 << 16

_NO_START = "the process that runs models doesn't start; reinstall voxelvault with its extra for triage"
_REFUSED = "the model can't be loaded or run; ask its maker for a copy for this runtime"
_EXHAUSTED = "the model ran out of the memory that it may use; raise the limit, or ask for a smaller one"
_DIED = "the model killed the process that ran it; remove it, and tell its maker"
_HUNG = "the model took longer than it may; raise the limit, or ask its maker for a faster one"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a model may use.

    Parameters
    ----------
    memory : int
        Bytes of address space, beyond what the runtime takes to start and the network's own size.
    load_seconds, run_seconds : float
        Of loading, and of one run.
    answer : int
        Bytes of one answer.
    """

    memory: int = 4 << 30
    load_seconds: float = 120.0
    run_seconds: float = 120.0
    answer: int = 1 << 30


class ConfinedSession:
    """A session of a child process; started and loaded at once, started again after it died.

    Parameters
    ----------
    network : Network
        What to run.
    runtime : str
        ``onnxruntime``, ``openvino`` or ``torch``; on the processor.
    threads : int
        Of the runtime.
    bounds : Bounds
        What it may use.

    Raises
    ------
    VoxelVaultError
        The child doesn't start, or the network can't be loaded.
    ChildDied
        It died or hung while it loaded.
    """

    def __init__(
        self, network: Network, runtime: str, threads: int = 1, bounds: Bounds | None = None
    ) -> None:
        self._network, self._runtime, self._threads = network, runtime, threads
        self._bounds = bounds or Bounds()
        self._lock = Lock()
        self._child: ConfinedChild | None = None
        with self._lock:
            self._started()

    @property
    def confined(self) -> str:
        """What confines the child, for people: ``seccomp, limits``."""
        with self._lock:
            return self._started().confined

    def run(self, inputs: Arrays) -> Arrays:
        """Return outputs by name for inputs by name.

        Raises
        ------
        VoxelVaultError
            The model refuses the input, or wants more memory than it may have.
        ChildDied
            It died or hung on it; the next run starts another.
        """
        head, parts = packed(inputs)
        with self._lock:
            child = self._started()
            return self._asked(child, RUN, head, parts, self._bounds.run_seconds)

    def close(self) -> None:
        """End the child; a later run starts another."""
        with self._lock:
            self._ended()

    def _started(self) -> ConfinedChild:
        if self._child is not None and self._child.alive():
            return self._child
        packages = (
            "voxelvault",
            "voxelvault_triage",
            "numpy",
            *(one.partition(".")[0] for one in RUNTIMES[self._runtime]),
        )
        try:
            child = ConfinedChild(_CHILD, packages, self._spare(), self._runtime)
        except ChildDied as error:
            raise VoxelVaultError(SLOW if error.hung else _NO_START) from None
        self._child = child
        weakref.finalize(self, child.kill)
        network = self._network
        head = {
            "form": network.form,
            "definition": dict(network.definition),
            "inputs": network.inputs,
            "outputs": network.outputs,
            "threads": self._threads,
        }
        data = [memoryview(network.data)]
        self._asked(child, LOAD, json.dumps(head).encode(), data, self._bounds.load_seconds)
        return child

    def _spare(self) -> int:
        return self._bounds.memory + 4 * len(self._network.data)

    def _asked(
        self, child: ConfinedChild, what: int, head: bytes, parts: list[memoryview], seconds: float
    ) -> Arrays:
        """Send a message and return its answer; a child that fails is ended."""
        healthy = False
        try:
            child.bound(self._spare(), seconds * max(1, self._threads))
            found = self._exchanged(child, what, head, parts, time.monotonic() + seconds)
            healthy = True
            return found
        except ChildDied as error:
            raise ChildDied(_HUNG if error.hung else _DIED, hung=error.hung) from None
        finally:
            if not healthy:
                self._ended()

    def _exchanged(
        self, child: ConfinedChild, what: int, head: bytes, parts: list[memoryview], deadline: float
    ) -> Arrays:
        child.write(
            memoryview(MESSAGE.pack(what, len(head), sum(part.nbytes for part in parts)) + head), deadline
        )
        for part in parts:
            child.write(part, deadline)
        start = _read(child, MESSAGE.size, deadline)
        status, described, held = MESSAGE.unpack(start)
        if status != DONE:
            raise VoxelVaultError(_EXHAUSTED if status == EXHAUSTED else _REFUSED)
        if described > _MOST_HEAD or held > self._bounds.answer:  # a child taken over may answer anything
            raise ChildDied
        said, data = _read(child, described, deadline), _read(child, held, deadline)
        try:
            return unpacked(json.loads(bytes(said)) if said else [], data)
        except (ValueError, TypeError, RecursionError):
            raise ChildDied from None

    def _ended(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child = None


def _read(child: ConfinedChild, length: int, deadline: float) -> bytearray:
    data = bytearray(length)
    child.read(memoryview(data), deadline)
    return data


__all__ = ["Bounds", "ConfinedSession"]

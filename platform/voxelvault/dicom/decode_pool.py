"""Foreign codestreams are decoded in child processes that hold no keys and may die."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import TracebackType

import numpy as np

from voxelvault.confining.child import SLOW, ConfinedChild
from voxelvault.dicom.decode_child import (
    ANSWER,
    DONE,
    EXHAUSTED,
    REFUSED,
    REQUEST,
    UNSUPPORTED,
)
from voxelvault.dicom.decoders import check_frame
from voxelvault.dicom.native import Pixels, frame_nbytes, frame_shape, native_dtype
from voxelvault.errors import ChildDied, DecodeError, DecoderCrashed, UsageError, VoxelVaultError
from voxelvault.model import Buffer, FrameSpec

SPARE = 256 << 20
"""Address space in bytes that a decoder may use beside what grows with the frame."""

FRAMES = 12
"""Frames' worth of memory that a decoder may use: OpenJPEG works in 32 bits, twice over."""

_REFUSALS = {
    REFUSED: "the codestream does not decode; export the original file and ask its sender for another copy",
    EXHAUSTED: "decoding ran out of memory; export the original file and read it elsewhere",
    UNSUPPORTED: "no decoder for this transfer syntax; export the original file and read it elsewhere",
}
_DIED = "the codestream killed its decoder; export the original file and treat it with care"
_NO_START = "the decoder process does not start; reinstall voxelvault with numpy and imagecodecs"
_HUNG = "decoding took too long; export the original file and read it elsewhere"


class DecoderPool:
    """Child processes that decode; started when first needed, replaced when they die.

    Thread-safe. A forked child of this process starts decoders of its own.

    Parameters
    ----------
    workers : int, optional
        How many children at most; the number of processors by default.
    seconds : float
        Time limit for one frame.
    module : str
        What the children run; tests put decoders there that misbehave.

    Raises
    ------
    UsageError
        `workers` is less than 1.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        seconds: float = 30.0,
        module: str = "voxelvault.dicom.decode_child",
    ) -> None:
        self.workers = processors() if workers is None else workers
        if self.workers < 1:
            raise UsageError("a DecoderPool needs at least one worker")
        self.seconds = seconds
        self._module = module
        self._children = _Children(self.workers)
        weakref.finalize(self, _Children.close_all, self._children)

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise UsageError("a DecoderPool does not travel between processes; make one there")

    def sandbox(self) -> str:
        """Start a child if none is there, and say what confines it: ``seccomp, limits``.

        Raises
        ------
        VoxelVaultError
            No child starts.
        """
        with self._lent() as child:
            return child.confined

    def close(self) -> None:
        """End the children; the pool starts others when used again.

        Raises
        ------
        OSError
            A child could not be waited for.
        """
        self._children.close_all()

    def decode(
        self, transfer_syntax: str, codestream: Buffer, spec: FrameSpec, out: Pixels | None = None
    ) -> Pixels:
        """Decode one frame in a child.

        Parameters
        ----------
        transfer_syntax : str
            Transfer syntax UID.
        codestream : bytes-like
            One frame's fragments, joined.
        spec : FrameSpec
            What the header says of each frame.
        out : numpy.ndarray, optional
            C-contiguous (row, column[, sample]) of `native_dtype`; undefined after an error.

        Returns
        -------
        numpy.ndarray
            `out`, or a new array: stored values as `decode_frame` returns them.

        Raises
        ------
        DecodeError
            The codestream does not decode, or wants too much memory.
        DecoderCrashed
            Its decoder died or hung.
        UsageError
            `out` has another shape, dtype or layout.
        """
        frame = _destination(out, frame_shape(spec), spec)
        self._one(transfer_syntax, codestream, spec, frame)
        return frame

    def decode_many(
        self, transfer_syntax: str, codestreams: Sequence[Buffer], spec: FrameSpec, out: Pixels | None = None
    ) -> Pixels:
        """Decode frames, as many at a time as there are workers.

        Parameters
        ----------
        transfer_syntax : str
            Transfer syntax UID.
        codestreams : sequence of bytes-like
            One for each frame.
        spec : FrameSpec
            What the header says of each frame.
        out : numpy.ndarray, optional
            C-contiguous (frame, row, column[, sample]) of `native_dtype`; undefined after an error.

        Returns
        -------
        numpy.ndarray
            `out`, or a new array.

        Raises
        ------
        DecodeError
            A frame does not decode; frames not yet begun are left.
        DecoderCrashed
            A frame's decoder died or hung.
        UsageError
            `out` has another shape, dtype or layout.
        """
        for codestream in codestreams:  # before memory is taken for what they claim
            check_frame(codestream, spec)
        frames = _destination(out, (len(codestreams), *frame_shape(spec)), spec)
        if min(self.workers, len(codestreams)) < 2:
            for codestream, frame in zip(codestreams, frames, strict=True):
                self._one(transfer_syntax, codestream, spec, frame)
            return frames
        # Threads live for this call only: an executor inherited through fork would hang.
        executor = ThreadPoolExecutor(min(self.workers, len(codestreams)))
        try:
            jobs = [
                executor.submit(self._one, transfer_syntax, codestream, spec, frame)
                for codestream, frame in zip(codestreams, frames, strict=True)
            ]
            for job in jobs:
                job.result()
        finally:
            executor.shutdown(cancel_futures=True)
        return frames

    def _one(self, transfer_syntax: str, codestream: Buffer, spec: FrameSpec, frame: Pixels) -> None:
        """Borrow a child for one frame; a child that failed is not given back."""
        check_frame(codestream, spec)
        with self._lent() as child:
            refusal = child.decode(transfer_syntax, codestream, spec, frame, self.seconds)
        if refusal is not None:
            raise DecodeError(refusal)

    @contextlib.contextmanager
    def _lent(self) -> Iterator[_Child]:
        """Lend a living child; one that failed meanwhile is ended."""
        child = self._children.borrow()
        healthy = False
        try:
            if child is None or not child.alive():
                child = _Child(self._module)
            yield child
            healthy = True
        finally:
            if not healthy and child is not None:
                child.kill()
            self._children.give_back(child if healthy else None)


class _Children:
    """Idle children, last used first; None stands for one not started."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._idle: queue.LifoQueue[_Child | None] = _slots(workers)
        _after_fork.add(self)

    def borrow(self) -> _Child | None:
        return self._idle.get()

    def give_back(self, child: _Child | None) -> None:
        self._idle.put(child)

    def close_all(self) -> None:
        """End the idle children; their places stay."""
        idle: list[_Child | None] = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for child in idle:
            if child is not None:
                child.kill()
            self._idle.put(None)

    def forget(self) -> None:
        """After fork: the children are the parent's."""
        self._idle = _slots(self._workers)


def _slots(workers: int) -> queue.LifoQueue[_Child | None]:
    slots: queue.LifoQueue[_Child | None] = queue.LifoQueue()
    for _ in range(workers):
        slots.put(None)
    return slots


_after_fork: weakref.WeakSet[_Children] = weakref.WeakSet()


def _forget_children() -> None:
    for inherited in list(_after_fork):
        inherited.forget()


os.register_at_fork(after_in_child=_forget_children)


class _Child(ConfinedChild):
    """One decoding process."""

    def __init__(self, module: str) -> None:
        try:
            super().__init__(module, ("voxelvault", "numpy", "imagecodecs"), SPARE)
        except ChildDied as error:
            raise VoxelVaultError(SLOW if error.hung else _NO_START) from None

    def decode(
        self, transfer_syntax: str, codestream: Buffer, spec: FrameSpec, frame: Pixels, seconds: float
    ) -> str | None:
        """Fill `frame`; return why the child refused, None if it did not."""
        try:
            return self._decode(transfer_syntax, codestream, spec, frame, seconds)
        except ChildDied as error:
            raise DecoderCrashed(_HUNG if error.hung else _DIED) from None

    def _decode(
        self, transfer_syntax: str, codestream: Buffer, spec: FrameSpec, frame: Pixels, seconds: float
    ) -> str | None:
        deadline = time.monotonic() + seconds
        head = json.dumps({"transfer_syntax": transfer_syntax, "spec": asdict(spec)}).encode()
        data = memoryview(codestream).cast("B")
        self.bound(SPARE + FRAMES * frame_nbytes(spec) + 2 * data.nbytes, seconds)
        self.write(memoryview(REQUEST.pack(len(head), data.nbytes) + head), deadline)
        self.write(data, deadline)
        answer = bytearray(ANSWER.size)
        self.read(memoryview(answer), deadline)
        status, length = ANSWER.unpack(answer)
        if status in _REFUSALS:
            return _REFUSALS[status]
        if status != DONE or length != frame_nbytes(spec):  # a child taken over may answer anything
            raise ChildDied
        self.read(frame.reshape(-1).view(np.uint8).data, deadline)
        return None


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _destination(out: Pixels | None, shape: tuple[int, ...], spec: FrameSpec) -> Pixels:
    """Return `out` if it can take the frames, or new memory."""
    dtype = native_dtype(spec)
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise UsageError(f"out must be a writeable C-contiguous array of shape {shape} and dtype {dtype}")
    return out


__all__ = ["DecoderPool", "processors"]

"""The child that runs strangers' networks: no keys, no files, no network, one pipe in and one out.

::

    message   u8 what | u32 length of head | u64 length of data | head (JSON) | data
    load      head: runtime, form, definition, names, threads; data: the network
    run       head: names and shapes; data: float32, C order, one after another
    answer    as `run`; or what was refused, without head or data

It imports its runtime, gives up what it can, and only then reads the first message. Run by
`voxelvault_triage.models.confined`, never by hand.
"""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

from voxelvault.confining.inside import give_up, own_pipes, read, write
from voxelvault_triage.models.sessions import LOADERS, Network, Session
from voxelvault_triage.pipeline import Arrays

MESSAGE = struct.Struct(">BIQ")
LOAD, RUN, DONE, REFUSED, EXHAUSTED = range(5)
RUNTIMES = {"onnxruntime": ("onnxruntime",), "torch": ("torch", "monai.networks.nets")}
"""What is imported before anything is given up. OpenVINO makes code as it runs, which memory that can't be
made executable doesn't allow."""


def packed(arrays: Arrays) -> tuple[bytes, list[memoryview]]:
    """Return head and data of a message that carries arrays."""
    whole = {name: np.ascontiguousarray(value, np.float32) for name, value in arrays.items()}
    head = json.dumps([[name, list(value.shape)] for name, value in whole.items()]).encode()
    return head, [value.reshape(-1).view(np.uint8).data for value in whole.values()]


def unpacked(head: Sequence[Any], data: bytearray) -> Arrays:
    """Return the arrays of a message; `ValueError` where head and data don't agree."""
    arrays, at = {}, 0
    for name, shape in head:
        if not isinstance(name, str) or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError
        count = prod(shape)
        if at + 4 * count > len(data):
            raise ValueError
        arrays[name] = np.frombuffer(data, np.float32, count, at).reshape(shape)
        at += 4 * count
    if at != len(data):
        raise ValueError
    return arrays


def main(runtime: str) -> None:
    """Answer messages until standard input ends.

    Parameters
    ----------
    runtime : str
        A name of `LOADERS`.

    Raises
    ------
    OSError
        The pipe broke.
    """
    source, sink = own_pipes()
    for module in RUNTIMES[runtime]:
        import_module(module)
    if runtime == "torch":
        _warm_up_torch()
    give_up(sink, threads=True)
    session: Session | None = None
    while start := read(source, MESSAGE.size):
        what, described, held = MESSAGE.unpack(start)
        head, data = json.loads(bytes(read(source, described))), read(source, held)
        if what == LOAD:
            session = _guarded(sink, lambda head=head, data=data: _loaded(runtime, head, data))  # type: ignore[misc]
            if session is not None:
                write(sink, MESSAGE.pack(DONE, 0, 0))
        elif session is not None:
            _answer(sink, session, unpacked(head, data))


def _warm_up_torch() -> None:
    """Load what torch imports at first use, and leave oneDNN out: it makes code as it runs."""
    torch: Any = import_module("torch")
    torch.backends.mkldnn.enabled = False
    made = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, made)
    torch.load(io.BytesIO(made.getvalue()), weights_only=True)
    torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))


def _loaded(runtime: str, head: dict[str, Any], data: bytearray) -> Session:
    names = {name: tuple(head[name]) for name in ("inputs", "outputs")}
    network = Network(head["form"], bytes(data), head["definition"], **names)
    return LOADERS[runtime](network, head["threads"], "cpu")


def _answer(sink: int, session: Session, inputs: Arrays) -> None:
    found = _guarded(sink, lambda: packed(session.run(inputs)))
    if found is None:
        return
    head, parts = found
    write(sink, MESSAGE.pack(DONE, len(head), sum(part.nbytes for part in parts)))
    write(sink, head)
    for part in parts:
        write(sink, part)


def _guarded(sink: int, step: Callable[[], Any]) -> Any:
    """Return what a step gives; None, said to the parent, where a library fails: its words stay here."""
    try:
        return step()
    except MemoryError:
        write(sink, MESSAGE.pack(EXHAUSTED, 0, 0))
    except Exception as error:
        memory = "alloc" in str(error).lower()
        write(sink, MESSAGE.pack(EXHAUSTED if memory else REFUSED, 0, 0))
    return None


if __name__ == "__main__":
    main(sys.argv[1])

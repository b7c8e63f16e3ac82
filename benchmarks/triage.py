"""Triage against its own network run bare, and against the script that one would write without it.

All three analyse the same studies with the same weights. The bare network gets arrays that are prepared
already, and its answers are dropped. The script reads files with pydicom, prepares them with the same
function, runs the network in PyTorch eagerly, one study after another, and keeps the score: no gate, no
objects, no list, no log. The pipeline starts from a vault and ends with the place on the list; at one
core its process does the work itself, at two there are two workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from itertools import count
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pydicom
import torch
from onnx import numpy_helper

from benchmarks.measure import Measured, Place, Work, seconds
from benchmarks.triage_studies import analyse_all, make_studies, vault_with
from voxelvault.cluster.local import LocalWorkers
from voxelvault_triage.hemorrhage.network import HemorrhageNet
from voxelvault_triage.hemorrhage.preprocess import Prepared, Values, channels, prepare_volume
from voxelvault_triage.hemorrhage.scoring import BATCH, INPUT, OUTPUT, infer_volume
from voxelvault_triage.pipeline import Arrays
from voxelvault_triage.planes import Planes
from voxelvault_triage.running.session import HERE, Hands

OVERHEAD, THROUGHPUT = 1.25, 3.0

STUDIES = 20

Run = Callable[[Arrays], Arrays]

Taken = tuple[float, tuple[float, ...]]
"""Wall seconds, and CPU seconds of each process."""


def measure(place: Place) -> list[Measured]:
    """Run all three in turn."""
    folders = make_studies(place, STUDIES)
    graph = files("voxelvault_triage").joinpath("hemorrhage/bundle/models/model.onnx").read_bytes()
    network, prepared = torch_run(graph), [prepare_volume(*read(folder)) for folder in folders]
    inputs = [channels(one.hu) for one in prepared]
    sessions = [onnx_run(graph) for _ in range(place.cores)]
    require_same(prepared[1], network, sessions[0])
    taken: dict[str, list[Taken]] = {"ours": [], "bare": [], "script": []}
    with hands_of(place.cores) as (hands, processes):
        for turn in range(1 + place.repeats):
            with vault_with(place.folder, folders) as vault:
                ours = spent(partial(analyse_all, vault, hands, STUDIES), processes)
            bare = spent(lambda: bare_model(inputs, sessions))
            script = spent(lambda: [script_score(folder, network) for folder in folders])
            if turn:  # the first one loads libraries
                for name, found in zip(taken, (ours, bare, script), strict=True):
                    taken[name].append(found)
    return _rows(taken, place.cores)


def _own() -> tuple[float, ...]:
    return (process_time(),)


def spent(work: Work, processes: Callable[[], tuple[float, ...]] = _own) -> Taken:
    """Return how long it takes, and the CPU seconds of each process."""
    before = processes()
    wall = seconds(work)
    return wall, tuple(b - a for a, b in zip(before, processes(), strict=True))


def _rows(taken: dict[str, list[Taken]], cores: int) -> list[Measured]:
    wall = {name: [each[0] for each in turns] for name, turns in taken.items()}
    over = median(a / b for a, b in zip(wall["ours"], wall["bare"], strict=True))
    more = median(b / a for a, b in zip(wall["ours"], wall["script"], strict=True))
    ours, bare, script = (median(wall[name]) for name in ("ours", "bare", "script"))
    own, other = (f"{60 * STUDIES / each:.0f}/min" for each in (ours, script))
    parts = [_cpu(taken[name]) for name in ("ours", "bare", "script")]
    several = "vault's process + scheduler + workers" if cores > 1 else "the vault's process"
    claim = "triage, studies a minute / plain script"
    return [
        Measured("triage, time / bare network", over, OVERHEAD, _each(ours), _each(bare), at_most=True),
        Measured(claim, more, THROUGHPUT, own, other)
        if cores > 1
        else Measured(f"{claim}, 1 core", more, None, f"{more:.2f} ({own} : {other})", ""),
        Measured(f"CPU seconds a study: {several}; bare network; script", 0, None, "; ".join(parts), ""),
    ]


def _cpu(turns: list[Taken]) -> str:
    parts = zip(*(cpu for _, cpu in turns), strict=True)
    return " + ".join(f"{median(part) / STUDIES:.2f}" for part in parts)


def _each(taken: float) -> str:
    return f"{taken / STUDIES:.2f} s"


@contextmanager
def hands_of(cores: int) -> Iterator[tuple[Hands, Callable[[], tuple[float, ...]]]]:
    """Hold who does the work, and what tells the CPU seconds of each process."""
    if cores == 1:
        yield Hands(HERE), _own
        return
    with LocalWorkers(cores) as workers:
        client = workers.client

        def cpu() -> tuple[float, ...]:
            crew = sum(client.run(process_time).values())
            return process_time(), client.run_on_scheduler(process_time), crew

        yield Hands(workers), cpu


def bare_model(inputs: list[Values], sessions: list[Run]) -> None:
    """Run the network on prepared arrays, a thread a session."""
    if len(sessions) == 1:
        for one in inputs:
            in_batches(one, sessions[0])
        return
    turn = count()
    with ThreadPoolExecutor(len(sessions)) as executor:
        list(executor.map(lambda one: in_batches(one, sessions[next(turn) % len(sessions)]), inputs))


def in_batches(image: Values, run: Run) -> None:
    """Run the network on one study."""
    for at in range(0, len(image), BATCH):
        run({INPUT: image[at : at + BATCH]})


def onnx_run(graph: bytes) -> Run:
    """Return the network in ONNX Runtime, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda inputs: {OUTPUT: session.run([OUTPUT], dict(inputs))[0]}


def torch_run(graph: bytes) -> Run:
    """Return the network in PyTorch, with the weights that the bundle has as ONNX."""
    network = HemorrhageNet().eval()
    network.load_state_dict(weights_of(graph, network))

    def run(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            return {OUTPUT: network(torch.from_numpy(inputs[INPUT])).numpy()}

    return run


def weights_of(graph: bytes, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a state dictionary; the exporter keeps convolutions' names, and those of norms not."""
    stored = {
        one.name: numpy_helper.to_array(one).copy() for one in onnx.load_from_string(graph).graph.initializer
    }
    state = network.state_dict()
    unnamed = {
        kind: iter([value for name, value in stored.items() if f"::{operation}_" in name])
        for kind, operation in (("weight", "Mul"), ("bias", "Add"))
    }
    found = {}
    for name, held in state.items():
        value = stored[name] if name in stored else next(unnamed[name.rpartition(".")[2]])
        found[name] = torch.from_numpy(value).reshape(held.shape)
    return found


def require_same(prepared: Prepared, *runs: Run) -> None:
    """Make sure that all run the same network."""
    scores = [infer_volume(prepared, run).score for run in runs]
    if np.ptp(scores) > 1e-3:
        raise RuntimeError(f"the networks don't agree: {scores}")


def read(folder: Path) -> tuple[Values, Planes]:
    """Read a series with pydicom: Hounsfield units, and where the slices lie."""
    found: list[Any] = [pydicom.dcmread(path) for path in folder.iterdir()]
    found.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    first = found[0]
    hu = np.stack([one.pixel_array for one in found]).astype(np.float32)
    hu = hu * np.float32(first.RescaleSlope) + np.float32(first.RescaleIntercept)
    along = np.asarray(first.ImageOrientationPatient, float)
    places = np.array([one.ImagePositionPatient for one in found], float)
    rows, columns = map(float, first.PixelSpacing)
    return hu, Planes(places, along[:3], along[3:], (rows, columns))


def script_score(folder: Path, run: Run) -> float:
    """Score a study as a script does."""
    return infer_volume(prepare_volume(*read(folder)), run).score

"""`hemorrhage`: the triage pipeline's network, trained on outlines of blood that the site's vault holds.

Normalised by groups, so that nothing of a site's statistics travels or has to. Heads are read when a round
needs them first, and stay in memory on the network's grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights
from voxelvault_fl.training.examples import Example, SiteData, read, subjects
from voxelvault_fl.training.figures import auc, log_loss
from voxelvault_triage.hemorrhage.network import FEATURES, HemorrhageNet
from voxelvault_triage.hemorrhage.preprocess import AIR, prepare_labels, prepare_volume
from voxelvault_triage.hemorrhage.scoring import INPUT, OUTPUT, evidence, logits
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.planes import Planes
from voxelvault_triage.training.dataset import Sample
from voxelvault_triage.training.examples import batch, pool
from voxelvault_triage.training.train import Loss

if TYPE_CHECKING:
    from voxelvault.series import Series

Load = Callable[[Sequence[Example]], list[Sample]]


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a round at a site: steps of the optimiser, planes in each, its rate; and the network's widths."""

    steps: int = 20
    planes: int = 12
    rate: float = 1e-3
    features: tuple[int, ...] = FEATURES


class Hemorrhage:
    """The task.

    Parameters
    ----------
    config : mapping
        Keys of `Settings`.
    load : callable
        Gives the prepared heads of some examples, in their order.
    found : sequence of Example
        Of the job at this site.

    Raises
    ------
    JobRefused
        The configuration has a key or value that can't be.
    """

    def __init__(self, config: Mapping[str, Any], load: Load, found: Sequence[Example]) -> None:
        self._settings, self._load, self._found = settings(config), load, found
        self._seen: dict[str, tuple[list[Sample], list[Example]]] = {}

    def init(self, seed: int) -> Weights:
        """Return weights drawn with the seed; the process's own draws aren't touched."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _weights(HemorrhageNet(self._settings.features))

    def train(self, weights: Weights, turn: Turn) -> Trained:
        """Train on planes drawn evenly over types; a proximal term holds the weights near those that came."""
        samples, mine = self._part("train")
        net, given = self._net(weights), pool(samples)
        start = [one.detach().clone() for one in net.parameters()]
        optimiser = torch.optim.AdamW(net.parameters(), lr=self._settings.rate, weight_decay=1e-3)
        loss, total, steps = Loss(), 0.0, turn.steps if turn.steps is not None else self._settings.steps
        net.train()
        for step in range(steps):
            rng = np.random.default_rng([turn.seed, step])
            drawn = batch(given, rng, self._settings.planes)
            found = sum(loss(net(drawn.images), drawn.targets).values(), torch.zeros(()))
            optimiser.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            _hold(net, start, self._settings.rate * turn.proximal)
            total += float(found.detach())
        return Trained(_weights(net), subjects(mine), {"loss": total / max(steps, 1)})

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        """Measure studies by the network's own evidence, as the pipeline scores them."""
        samples, mine = self._part(part)
        net = self._net(weights).eval()

        def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
            with torch.no_grad():
                return {OUTPUT: net(torch.from_numpy(inputs[INPUT])).numpy()}

        scores = [evidence(logits(s.hu.astype(np.float32), run), s.plane_ml).study for s in samples]
        truth = [one.positive for one in mine]
        return Measured(subjects(mine), {"loss": log_loss(scores, truth), "auc": auc(scores, truth)})

    def _net(self, weights: Weights) -> HemorrhageNet:
        net = HemorrhageNet(self._settings.features)
        net.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in weights.items()})
        return net

    def _part(self, name: str) -> tuple[list[Sample], list[Example]]:
        if name not in self._seen:
            mine = [one for one in self._found if one.part == name]
            self._seen[name] = self._load(mine), mine
        return self._seen[name]


def _hold(net: nn.Module, start: Sequence[torch.Tensor], hold: float) -> None:
    """Take the proximal step: solved, not descended, so it can't overshoot."""
    if hold:
        with torch.no_grad():
            for one, first in zip(net.parameters(), start, strict=True):
                one.add_(first, alpha=hold).div_(1 + hold)


def _weights(net: nn.Module) -> Weights:
    return {name: one.detach().numpy().copy() for name, one in net.state_dict().items()}


def settings(config: Mapping[str, Any]) -> Settings:
    """Return the settings of a job's model.

    Raises
    ------
    JobRefused
        A key is unknown, or a number out of range.
    """
    found = made(Settings, dict(config), "model.config")
    wide = len(found.features) == 6 and all(4 <= one <= 512 and one % 4 == 0 for one in found.features)
    if not (wide and 1 <= found.steps <= 100_000 and 2 <= found.planes <= 256 and 0 < found.rate <= 1):
        raise JobRefused("model", "six features, multiples of 4 up to 512; at least 1 step of 2 planes")
    return found


def reader(data: SiteData, job: Job) -> Load:
    """Return what reads and prepares heads of a site's vault.

    Raises
    ------
    JobRefused
        The rule is ``labels``: the job takes no outlines, which this network is trained on.
    """
    if job.labels.source != "SEG":
        raise JobRefused("labels", "this network is trained on outlines: set labels.source to SEG")
    return lambda found: read(data, found, head, threads=2)


def head(series: Series) -> Sample:
    """Return a series as the network takes it, with its outlines by type.

    Raises
    ------
    JobRefused
        The rule is ``labels``: an outline is of no type that the network knows.
    """
    hu = series.load(dtype=np.float32)
    hu[np.isnan(hu)] = AIR
    group: Any = series.geometry()
    across, down = np.asarray(group.orientation[:3]), np.asarray(group.orientation[3:])
    prepared = prepare_volume(hu, Planes(group.positions, across, down, group.pixel_spacing))
    labels = prepare_labels(outlines(series, hu.shape), prepared)
    return Sample(np.rint(prepared.hu).astype(np.int16), labels, prepared.plane_ml, {"volumes": {}})


def outlines(series: Series, shape: tuple[int, ...]) -> Any:
    """Return (slice, row, column) uint8: 0, or 1 + the index of the type of blood that is outlined there."""
    made = np.zeros(shape, np.uint8)
    kinds = [str(kind) for kind in KINDS]
    for name in {str(one.label) for one in series.segmentations}:
        if name not in kinds:
            raise JobRefused("labels", f"outlines are of {', '.join(kinds)}")
        made[series.mask(name).astype(bool)] = 1 + kinds.index(name)
    return made


__all__ = ["Hemorrhage", "Settings", "head", "reader", "settings"]

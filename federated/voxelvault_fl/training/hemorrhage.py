"""`hemorrhage`: the triage pipeline's network, trained on outlines of blood that the site's vault holds.

Normalised by groups, so that nothing of a site's statistics travels or has to. Heads are read when a round
needs them first; see `voxelvault_fl.training.heads` for where they stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from voxelvault.errors import MissingExtra
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.job import Job
from voxelvault_fl.jobs.strict import made
from voxelvault_fl.jobs.task import Measured, Trained, Turn, Weights
from voxelvault_fl.training.examples import Example, SiteData, read, subjects
from voxelvault_fl.training.figures import auc, log_loss
from voxelvault_fl.training.heads import Heads, Load
from voxelvault_fl.training.singles import owners
from voxelvault_triage.hemorrhage.network import FEATURES, HemorrhageNet
from voxelvault_triage.hemorrhage.preprocess import AIR, prepare_labels, prepare_volume
from voxelvault_triage.hemorrhage.scoring import INPUT, OUTPUT, evidence, logits
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.planes import Planes
from voxelvault_triage.training.dataset import Sample
from voxelvault_triage.training.examples import Pool, batch, pool
from voxelvault_triage.training.train import Loss

if TYPE_CHECKING:
    from voxelvault.series import Series
    from voxelvault_fl.privacy.dpsgd import Flat, Gradients
    from voxelvault_fl.training.single_heads import SingleHeads


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a round at a site: steps of the optimiser, planes in each, its rate; and the network's widths.

    `decay` is what each round leaves of the rate: sites that end in small steps differ less, and what is
    averaged of them loses less against one model trained on all.
    """

    steps: int = 20
    planes: int = 12
    rate: float = 1e-3
    decay: float = 1.0
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
        self._seen: dict[str, tuple[Heads, list[Example]]] = {}
        self._planes: Pool | None = None

    def init(self, seed: int) -> Weights:
        """Return weights drawn with the seed; the process's own draws aren't touched."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _weights(HemorrhageNet(self._settings.features))

    def train(self, weights: Weights, turn: Turn) -> Trained:
        """Train on planes drawn evenly over types; a proximal term holds the weights near those that came."""
        _, mine = self._part("train")
        net, given = self._net(weights), self._pool()
        start = [one.detach().clone() for one in net.parameters()]
        rate = self._settings.rate * self._settings.decay ** (turn.round - 1)
        optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
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
            _hold(net, start, rate * turn.proximal)
            total += float(found.detach())
        return Trained(_weights(net), subjects(mine), {"loss": total / max(steps, 1)})

    def evaluate(self, weights: Weights, part: str = "validate") -> Measured:
        """Measure studies by the network's own evidence, as the pipeline scores them."""
        _, mine = self._part(part)
        scores, truth = self.scores(weights, part), [one.positive for one in mine]
        return Measured(subjects(mine), {"loss": log_loss(scores, truth), "auc": auc(scores, truth)})

    def scores(self, weights: Weights, part: str) -> npt.NDArray[np.float64]:
        """Return the network's evidence of each study of a part, (study) float64: a logit."""
        net = self._net(weights).eval()

        def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
            with torch.no_grad():
                return {OUTPUT: net(torch.from_numpy(inputs[INPUT])).numpy()}

        heads, _ = self._part(part)
        found = [evidence(logits(one.hu.astype(np.float32), run), one.plane_ml).study for one in heads]
        return np.array(found, float)

    def by_subject(self) -> tuple[int, Gradients]:
        """Return the number of people of the training part, and their gradients; see `SingleHeads`.

        Raises
        ------
        MissingExtra
            Opacus isn't installed.
        """
        found = self._singles()
        return found.count, found.gradients()

    def losses_by_subject(self, flat: Flat) -> Flat:
        """Return the loss of each of these people, (subject) float64."""
        return self._singles().losses(flat)

    def _singles(self) -> SingleHeads:
        try:
            from voxelvault_fl.training.single_heads import SingleHeads
        except ImportError:
            raise MissingExtra("dp-sgd needs Opacus: pip install 'voxelvault[federated]'") from None
        heads, mine = self._part("train")
        net = HemorrhageNet(self._settings.features)
        return SingleHeads(net, heads, owners([one.member.subject_id for one in mine]))

    def _net(self, weights: Weights) -> HemorrhageNet:
        return _filled(HemorrhageNet(self._settings.features), weights)

    def _part(self, name: str) -> tuple[Heads, list[Example]]:
        if name not in self._seen:
            mine = [one for one in self._found if one.part == name]
            self._seen[name] = Heads(mine, self._load), mine
        return self._seen[name]

    def _pool(self) -> Pool:
        """Return the planes to train on, none of them suspected yet: a round knows nothing of another."""
        if self._planes is None:
            self._planes = pool(self._part("train")[0])
        return replace(self._planes, suspicion=np.full_like(self._planes.suspicion, 0.5))


def _hold(net: nn.Module, start: Sequence[torch.Tensor], hold: float) -> None:
    """Take the proximal step: solved, not descended, so it can't overshoot."""
    if hold:
        with torch.no_grad():
            for one, first in zip(net.parameters(), start, strict=True):
                one.add_(first, alpha=hold).div_(1 + hold)


def network(config: Mapping[str, Any], weights: Weights) -> HemorrhageNet:
    """Return the network of a job's model with its weights.

    Raises
    ------
    JobRefused
        The configuration can't be.
    RuntimeError
        The weights are of another network.
    """
    return _filled(HemorrhageNet(settings(config).features), weights)


def _filled(net: HemorrhageNet, weights: Weights) -> HemorrhageNet:
    net.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in weights.items()})
    return net


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
    rates = 0 < found.rate <= 1 and 0 < found.decay <= 1
    if not (wide and 1 <= found.steps <= 100_000 and 2 <= found.planes <= 256 and rates):
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


__all__ = ["Hemorrhage", "Settings", "head", "network", "reader", "settings"]

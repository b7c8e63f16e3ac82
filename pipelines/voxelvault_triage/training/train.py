"""The training loop: same seed and data, same weights; goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from voxelvault.errors import UsageError
from voxelvault_triage.hemorrhage.network import FEATURES, HemorrhageNet
from voxelvault_triage.hemorrhage.scoring import TOP
from voxelvault_triage.training.dataset import Sample
from voxelvault_triage.training.examples import Batch, Pool, batch, pool

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the weights, besides the data.

    Parameters
    ----------
    steps, planes : int
        Steps of the optimiser, and planes in each.
    rate : float
        Highest learning rate.
    seed : int
        Of initial weights and of the draw of examples.
    average : float
        Decay of the moving average of the weights, which is what is kept.
    features : tuple of int
        Widths of the U-Net.
    half : bool
        Calculate in bfloat16 where that is safe.
    keep_every : int
        Steps between checkpoints.
    """

    steps: int = 2000
    planes: int = 12
    rate: float = 2e-3
    seed: int = 1
    average: float = 0.995
    features: tuple[int, ...] = FEATURES
    half: bool = True
    keep_every: int = 100


@dataclass(slots=True, eq=False)
class _State:
    net: nn.Module
    mean: AveragedModel
    optimiser: torch.optim.Optimizer
    planes: Pool
    step: int = 0
    seconds: float = 0.0

    def kept(self, settings: Settings) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "suspicion": torch.from_numpy(self.planes.suspicion),
            "step": self.step,
            "seconds": self.seconds,
            "settings": asdict(settings),
        }

    def restore(self, kept: dict[str, Any]) -> None:
        self.net.load_state_dict(kept["net"])
        self.mean.load_state_dict(kept["mean"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.planes.suspicion[:] = kept["suspicion"].numpy()
        self.step, self.seconds = int(kept["step"]), float(kept["seconds"])


def train(
    samples: Sequence[Sample], settings: Settings, folder: Path, report: Report, start: Path | None = None
) -> tuple[nn.Module, float]:
    """Train a network, or go on with one; return it with averaged weights, and the seconds it took in all.

    Parameters
    ----------
    samples : sequence of Sample
        Studies on the network's grid, both classes.
    settings : Settings
        What decides the weights.
    folder : Path
        Where `checkpoint.pt` is kept; training goes on from it if it is there.
    report : callable
        Told the step and the losses after each step.
    start : Path, optional
        Folder of an earlier run, whose averaged weights are the first ones here, or of a bundle.

    Raises
    ------
    UsageError
        The checkpoint there was made with other settings, or `start` holds no weights.
    """
    # The seed of the process isn't touched for longer than it takes to draw the first weights.
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = HemorrhageNet(settings.features)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spent = _begin(net, start) if start else 0.0
    mean = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(settings.average))  # type: ignore[no-untyped-call]
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.rate, weight_decay=1e-3)
    state = _State(net, mean, optimiser, pool(samples), seconds=spent)
    folder.mkdir(parents=True, exist_ok=True)
    _resume(state, settings, folder / "checkpoint.pt")
    loss = Loss()
    net.train()
    while state.step < settings.steps:
        began = time.monotonic()
        losses = _step(state, settings, loss)
        state.seconds += time.monotonic() - began
        report(state.step, losses)
        if state.step % settings.keep_every == 0 or state.step == settings.steps:
            _keep(state, settings, folder / "checkpoint.pt")
    made: nn.Module = state.mean.module
    return made.eval(), state.seconds


def _step(state: _State, settings: Settings, loss: Loss) -> dict[str, float]:
    # Each step draws from its own seed: a run that was stopped goes on with the same examples.
    rng = np.random.default_rng([settings.seed, state.step])
    drawn = batch(state.planes, rng, settings.planes)
    for group in state.optimiser.param_groups:
        group["lr"] = settings.rate * schedule(state.step / settings.steps)
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.half):
        logits = state.net(drawn.images.to(memory_format=torch.channels_last))
    parts = loss(logits.float(), drawn.targets)
    _remember(state.planes, drawn, logits.detach().float())
    state.optimiser.zero_grad()
    sum(parts.values()).backward()  # type: ignore[union-attr]
    nn.utils.clip_grad_norm_(state.net.parameters(), 2.0)
    state.optimiser.step()
    state.mean.update_parameters(state.net)
    state.step += 1
    return {name: float(value.detach()) for name, value in parts.items()}


def _remember(planes: Pool, drawn: Batch, logits: torch.Tensor) -> None:
    """Keep how suspicious the clear planes of a step looked."""
    clear = drawn.clear >= 0
    planes.suspicion[drawn.clear[clear]] = torch.sigmoid(top(logits)[:, 0]).numpy()[clear]


def top(logits: torch.Tensor) -> torch.Tensor:
    """Return the evidence of each plane and output, from logits (plane, output, row, column)."""
    return logits.flatten(2).topk(TOP, dim=2).values.mean(2)


def schedule(done: float) -> float:
    """Return the share of the highest learning rate: up over the first twentieth, then down a cosine."""
    if done < 0.05:
        return max(done / 0.05, 0.02)
    return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * (done - 0.05) / 0.95)))


class Loss:
    """Pixels (cross-entropy and overlap) and planes (their best evidence), each on any blood and on types."""

    def __init__(self) -> None:
        self.overlap = DiceLoss(sigmoid=True, batch=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
        self.weights = torch.tensor([1.0, 0.3, 0.3, 0.3, 0.3, 0.3])

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the parts of the loss by name; logits and targets (plane, output, row, column)."""
        pixel = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(
            (0, 2, 3)
        )
        overlap = self.overlap(logits, targets).flatten()
        shown = (targets.flatten(2).sum(2) >= TOP / 4).float()
        plane = nn.functional.binary_cross_entropy_with_logits(top(logits), shown, reduction="none").mean(0)
        return {
            "pixel": 20 * (pixel * self.weights).sum(),
            "overlap": (overlap * self.weights).sum(),
            "plane": (plane * self.weights).sum(),
        }


def _keep(state: _State, settings: Settings, path: Path) -> None:
    partial = path.with_suffix(".part")
    torch.save(state.kept(settings), partial)
    partial.replace(path)


def _begin(net: nn.Module, start: Path) -> float:
    """Take over a bundle's weights, or the averaged ones of an earlier run; return the seconds it took."""
    checkpoint, bundle = start / "checkpoint.pt", bundle_of(start)
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        mean = {name.removeprefix("module."): value for name, value in kept["mean"].items() if "." in name}
        net.load_state_dict(mean)
        return float(kept["seconds"])
    if not (bundle / "models/model.pt").exists():
        raise UsageError(
            "there are no weights in the folder to start from; give a bundle, or the --out of an earlier run"
        )
    net.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    said = json.loads((bundle / "configs/metadata.json").read_bytes())
    return float(said["voxelvault"]["training"]["seconds"])


def bundle_of(start: Path) -> Path:
    """Return the bundle in a folder to start from: the folder itself, or what a run left in it."""
    return start if (start / "configs/metadata.json").exists() else start / "bundle"


def _resume(state: _State, settings: Settings, path: Path) -> None:
    if not path.exists():
        return
    kept = torch.load(path, weights_only=True)
    if kept["settings"] != asdict(settings):
        raise UsageError(
            "the folder holds a training run with other settings; give another folder or the same settings"
        )
    state.restore(kept)

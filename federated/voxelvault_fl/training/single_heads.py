"""What single subjects add to the hemorrhage network: for differential privacy, and for attacks that test it.

A subject is in a step with one plane, drawn from all of its heads: one contribution, however often somebody
was scanned. The draw isn't a job's: who knew it would know more than an accountant counts on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.privacy.dpsgd import Flat, Gradients, Indexes, unpredictable
from voxelvault_fl.privacy.private import shaped
from voxelvault_fl.privacy.torch_gradients import torch_gradients
from voxelvault_triage.hemorrhage.preprocess import channels
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.training.dataset import Sample
from voxelvault_triage.training.examples import SEEN, example
from voxelvault_triage.training.train import Loss

AT_ONCE = 8
"""Planes whose gradients are calculated together: bounds memory."""


class SingleHeads:
    """Heads and whose they are.

    Parameters
    ----------
    net : module
        The network; its parameters change.
    heads : sequence of Sample
        The heads.
    owner : array
        (head) int, from 0: whose it is.
    rng : Generator, optional
        For tests; `unpredictable` otherwise.
    """

    def __init__(
        self, net: nn.Module, heads: Sequence[Sample], owner: Indexes, rng: np.random.Generator | None = None
    ) -> None:
        self._net, self._heads, self._owner = net, heads, owner
        self._rng = rng or unpredictable()
        self._like: Weights = {name: one.detach().numpy() for name, one in net.named_parameters()}

    @property
    def count(self) -> int:
        """How many subjects there are."""
        return int(self._owner.max(initial=-1)) + 1

    def gradients(self) -> Gradients:
        """Return what gives gradients, (subject, parameter) float64: arrays in the order of their names."""
        inner = torch_gradients(self._net, self._drawn, by_plane)
        places = {name: np.arange(one.size).reshape(one.shape) for name, one in self._like.items()}
        starts = np.cumsum([0, *(one.size for one in self._like.values())])
        # The network counts its parameters in the order in which it was built.
        built = dict(zip(self._like, starts[:-1], strict=True))
        order = np.concatenate([places[name].ravel() + built[name] for name in sorted(self._like)])

        def gradients(flat: Flat, chosen: Indexes) -> Flat:
            own = np.empty_like(flat)
            own[order] = flat
            parts = [chosen[at : at + AT_ONCE] for at in range(0, len(chosen), AT_ONCE)]
            return np.concatenate([inner(own, part)[:, order] for part in parts])

        return gradients

    def losses(self, flat: Flat) -> Flat:
        """Return the mean loss of each subject's planes as they were scanned, (subject) float64."""
        values = shaped(flat, self._like)
        self._net.load_state_dict({name: torch.from_numpy(one) for name, one in values.items()})
        sums, counts = np.zeros(self.count), np.bincount(self._owner, minlength=self.count)
        for head, owner in zip(self._heads, self._owner, strict=True):
            sums[owner] += self._loss(head)
        return np.asarray(sums / counts)

    def _loss(self, head: Sample) -> float:
        images = torch.from_numpy(channels(head.hu.astype(np.float32)))
        kinds = [head.labels > 0, *(head.labels == 1 + kind for kind in range(len(KINDS)))]
        targets = torch.from_numpy(np.stack(kinds, axis=1).astype(np.float32))
        with torch.no_grad():
            parts = [
                by_plane(self._net(images[at : at + AT_ONCE]), targets[at : at + AT_ONCE])
                for at in range(0, len(images), AT_ONCE)
            ]
        return float(torch.cat(parts).mean())

    def _drawn(self, chosen: Indexes) -> tuple[Tensor, Tensor]:
        """Draw a plane of each subject: every second one shows blood, where a subject has any."""
        made = [self._plane(np.flatnonzero(self._owner == one)) for one in chosen]
        images, targets = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        # Opacus' hooks run over what has a gradient.
        return images.requires_grad_(), targets

    def _plane(self, heads: Indexes) -> tuple[npt.NDArray[np.float32], ...]:
        head = self._heads[int(self._rng.choice(heads))]
        bloody = (head.labels > 0).sum(axis=(1, 2)) >= SEEN
        wanted = self._rng.random() < 0.5
        places = np.flatnonzero(bloody == wanted) if (bloody == wanted).any() else np.arange(len(bloody))
        return example(head, int(self._rng.choice(places)), self._rng)


_LOSS = Loss()


def by_plane(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each plane by itself, (plane): none knows of another."""
    each = (_LOSS(one[None], wanted[None]) for one, wanted in zip(logits, targets, strict=True))
    return torch.stack([torch.stack(list(parts.values())).sum() for parts in each])


__all__ = ["AT_ONCE", "SingleHeads", "by_plane"]

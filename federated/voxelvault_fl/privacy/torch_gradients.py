"""A subject's gradients of a PyTorch network, by Opacus' GradSampleModule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.privacy.dpsgd import Flat, Gradients, Indexes

Contributions = Callable[[Indexes], tuple[Tensor, Tensor]]
"""From subjects to inputs and targets, one sample for each: its one contribution to a step."""


def flat_of(net: nn.Module) -> Flat:
    """Return the trained parameters of a network in order, (parameter) float64."""
    parts = [one.detach().cpu().numpy().ravel() for one in net.parameters() if one.requires_grad]
    return np.concatenate(parts).astype(np.float64)


def put_flat(net: nn.Module, flat: Flat) -> None:
    """Put parameters back into a network."""
    at = 0
    with torch.no_grad():
        for one in net.parameters():
            if one.requires_grad:
                part = flat[at : at + one.numel()].reshape(tuple(one.shape))
                one.copy_(torch.from_numpy(np.asarray(part)).to(one.dtype))
                at += one.numel()


def torch_gradients(
    net: nn.Module, contributions: Contributions, loss: Callable[[Tensor, Tensor], Tensor]
) -> Gradients:
    """Return gradients for `dp_sgd`.

    Parameters
    ----------
    net : module
        Without layers that mix samples: GroupNorm instead of BatchNorm.
    contributions : callable
        Gives each subject's one sample, drawn anew at each call if a subject has several.
    loss : callable
        Of outputs and targets, a value for each sample: (subject).

    Raises
    ------
    JobRefused
        The rule is ``privacy``: a layer of the network mixes subjects.
    """
    if ModuleValidator.validate(net, strict=False):
        raise JobRefused("privacy", "a layer mixes subjects, as BatchNorm does; use GroupNorm under dp-sgd")
    wrapped = GradSampleModule(net)

    def gradients(flat: Flat, chosen: Indexes) -> Flat:
        put_flat(net, flat)
        wrapped.zero_grad(set_to_none=True)
        inputs, targets = contributions(chosen)
        losses = loss(wrapped(inputs), targets)
        if losses.shape != (len(chosen),):
            raise JobRefused("privacy", "under dp-sgd a loss has one value for each subject")
        # The mean, since Opacus multiplies by the number of samples again.
        losses.mean().backward()  # type: ignore[no-untyped-call]
        rows = [
            one.grad_sample.detach().cpu().reshape(len(chosen), -1)
            for one in wrapped.parameters()
            if one.requires_grad
        ]
        return torch.cat(rows, dim=1).numpy().astype(np.float64)

    return gradients


__all__ = ["Contributions", "flat_of", "put_flat", "torch_gradients"]

"""The network: a 2.5D U-Net that marks blood by type in one plane with its neighbours.

Normalised by groups, never by instance: instance normalisation erases how bright blood is.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.basic_unet import BasicUNet
from torch import nn

from voxelvault_triage.hemorrhage.preprocess import CHANNELS

OUTPUTS = 6
"""Any blood, then the five types."""
FEATURES = (32, 32, 64, 96, 128, 32)


class HemorrhageNet(nn.Module):
    """A U-Net at half resolution that loses nothing: four pixels become four channels, and back.

    Takes (plane, channel, row, column) float32 of `channels`, gives logits (plane, output, row, column).
    """

    def __init__(self, features: tuple[int, ...] = FEATURES) -> None:
        super().__init__()
        group: Any = ("group", {"num_groups": 4})
        self.fold = nn.PixelUnshuffle(2)
        self.unet = BasicUNet(2, CHANNELS * 4, OUTPUTS * 4, features, norm=group, act="relu")
        self.unfold = nn.PixelShuffle(2)
        # Blood is rare: start from that, so that the first steps aren't spent on it.
        nn.init.constant_(self.unet.final_conv.bias, -3.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits of any blood and of each type."""
        logits: torch.Tensor = self.unfold(self.unet(self.fold(image)))
        return logits

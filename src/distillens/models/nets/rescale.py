"""The last step of a regression network: from standardised values back to the user's units."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rescale(nn.Module):
    """value · scale + mean, with both as buffers, so that they are stored and exported with the network."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))

    def forward(self, standardised: Tensor) -> Tensor:
        return standardised * self.scale + self.mean

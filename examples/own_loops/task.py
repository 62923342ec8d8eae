"""What the loops in this folder share: a teacher, a student, the batches, and the distillation itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distillens.objectives import KD, FitNet
from distillens.transfer.training.transfer import Transfer

EPOCHS, ROWS, BATCH, RATE = 3, 96, 32, 1e-2


class Block(nn.Module):
    """A hidden layer; `"auto"` taps pair blocks of both networks."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x))


def network(width: int, *, seed: int) -> nn.Sequential:
    """Two hidden layers, three classes; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(Block(10, width), Block(width, width), nn.Linear(width, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch, in order. A real loop shuffles; here all loops are to see the same."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 10, generator=draw)
    y = torch.randint(3, (ROWS,), generator=draw)
    return list(zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True))


def distillation() -> Transfer:
    """Labels, softened probabilities, and a pair of hidden layers that is chosen on the first batch."""
    teacher, student = network(32, seed=0), network(8, seed=1)
    return Transfer(teacher, student, [KD(weight=0.5), FitNet(weight=0.1)], task_weight=0.5, example=batches()[0][0])


def optimizer_of(transfer: Transfer) -> torch.optim.Optimizer:
    """Over the student and the projectors that train beside it."""
    return torch.optim.SGD(transfer.trainable_parameters(), lr=RATE, momentum=0.9)

"""`Schedule`: how long, how fast and in what precision a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distillens.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["float32", "bf16", "fp16"]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    epochs: at most. learning_rate: at its highest. decay: over the epochs: "cosine" (half a cosine down to nearly 0),
    "constant", or "step" (times `factor` at each of `milestones`, in epochs). batch_size: rows a step, over all processes.
    weight_decay: of weights, not of biases and normalisation. patience: epochs without a better validation loss before
    stopping. optimizer: "adamw", or "sgd" with Nesterov `momentum`. warmup: epochs, may be a fraction, over which the rate
    rises linearly from 0. micro_batch: rows that go through the networks at once, where a batch does not fit; the gradient is
    that of the whole batch, also when the last part is smaller (losses that compare rows see the rows of a part).
    clip: largest norm of the gradient. ema: decay a step of an average of the weights, which is then validated and kept.
    precision: of the forward passes; losses are always computed in float32. compile: through torch.compile.
    channels_last: memory order of images. keep: weights of the "best" epoch on validation, or of the "last".
    """

    epochs: int
    learning_rate: float
    decay: Literal["cosine", "constant", "step"] = "cosine"
    batch_size: int = 128
    weight_decay: float = 0.0
    patience: int = 10**9
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    warmup: float = 0.0
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    micro_batch: int | None = None
    clip: float | None = None
    ema: float | None = None
    precision: Precision = "float32"
    compile: bool = False
    channels_last: bool = False
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        """Raises InputError, naming the option."""
        for name in ("epochs", "batch_size", "patience"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} is a whole number of at least 1, got {value!r}.")
        if self.micro_batch is not None and not self.micro_batch >= 1:
            raise InputError(f"micro_batch is a whole number of at least 1, got {self.micro_batch!r}.")
        positive = {"learning_rate": self.learning_rate, "factor": self.factor}
        positive |= {"clip": self.clip} if self.clip is not None else {}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise InputError(f"{name} is a number above 0, got {value!r}.")
        for name, value in {"weight_decay": self.weight_decay, "warmup": self.warmup}.items():
            if not 0 <= value < math.inf:
                raise InputError(f"{name} is a number of at least 0, got {value!r}.")
        for name, value in {"momentum": self.momentum, "ema": 0.0 if self.ema is None else self.ema}.items():
            if not 0 <= value < 1:
                raise InputError(f"{name} is a number of at least 0 and below 1, got {value!r}.")
        choices = {"decay": ("cosine", "constant", "step"), "optimizer": ("adamw", "sgd"), "keep": ("best", "last"),
                   "precision": ("float32", "bf16", "fp16")}  # fmt: skip
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if bool(self.milestones) != (self.decay == "step"):
            raise InputError("milestones are the epochs at which decay: step lowers the rate; give both or neither.")

    def rate(self, epoch: int, share: float) -> float:
        """The learning rate in an epoch (from 0), of which `share` in [0, 1) is done."""
        rising = min(1.0, (epoch + share) / self.warmup) if self.warmup else 1.0
        if self.decay == "cosine":
            falling = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        elif self.decay == "step":
            falling = self.factor ** sum(epoch >= milestone for milestone in self.milestones)
        else:
            falling = 1.0
        return self.learning_rate * rising * falling

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """AdamW (Loshchilov and Hutter 2019) or SGD with Nesterov momentum over the module's trainable parameters."""
        import torch

        # Biases and scales are not decayed: shrinking them towards 0 would prefer one class over another, not a smoother function.
        trained = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if self.optimizer == "sgd":
            nesterov = self.momentum > 0
            return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=nesterov, fused=True)
        return torch.optim.AdamW(groups, lr=self.learning_rate, fused=True)

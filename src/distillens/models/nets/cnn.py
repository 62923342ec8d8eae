"""A plain convolutional network: a 3×3 convolution, a norm and an activation for every entry, global average pooling, a linear classifier.

The smallest network here, for small images and many runs. The first layers halve the picture (stride 2) while it has at least six pixels
a side. `activation: softplus` or `gelu` has second derivatives everywhere, which matching input gradients needs.

Taps: `layers.0`, `layers.1`, … after their activations, `pool`, `classifier`; the pooled features are `classifier:input`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from distillens.errors import InputError
from distillens.models.nets.base import Shape, initialise_convolutions, whole

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "softplus": nn.Softplus}
SMALLEST = 6  # a side below which no layer halves the picture


class CNN(nn.Module):
    """(B, C, H, W) → (B, outputs). channels: of each layer; strides: 1 or 2, of each layer."""

    def __init__(
        self, inputs: int, channels: tuple[int, ...], strides: tuple[int, ...], outputs: int, activation: str
    ) -> None:
        super().__init__()
        layers, before = [], inputs
        for width, stride in zip(channels, strides, strict=True):
            convolution = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), ACTIVATIONS[activation]()))
            before = width
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before, outputs)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.pool(self.layers(x)).flatten(1))
        return out


@dataclass(frozen=True)
class CNNSettings:
    """`{kind: cnn, channels: [16, 32, 64], activation: relu}` of a recipe: one layer for each number of channels."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["cnn"] = "cnn"
    channels: tuple[int, ...] = (16, 32, 64)
    activation: Literal["relu", "gelu", "softplus"] = "relu"

    def __post_init__(self) -> None:
        given: object = self.channels  # a recipe may have written anything
        if not isinstance(given, (list, tuple)) or not given:
            raise InputError(f"channels is a list of whole numbers, one a layer, got {given!r}.")
        for width in given:
            whole(width, name="channels")
        object.__setattr__(self, "channels", tuple(given))
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation is one of {', '.join(ACTIVATIONS)}, got {self.activation!r}.")

    def build(self, shape: Shape, outputs: int) -> CNN:
        strides, side = [], min(shape[1:])
        for _ in self.channels:
            strides.append(2 if side >= SMALLEST else 1)
            side = -(-side // strides[-1])
        return CNN(shape[0], self.channels, tuple(strides), outputs, self.activation)

    def to_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

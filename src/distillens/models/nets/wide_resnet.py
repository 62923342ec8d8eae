"""Wide residual networks for small images (Zagoruyko and Komodakis 2016, "Wide Residual Networks"): WRN-d-k.

Depth 6n + 4, with norm and ReLU before each convolution; width k has 16k, 32k, 64k channels after a stem of 16. Where the number of
channels changes, the 1×1 shortcut takes the activated input, as in the authors' code.

Taps: `stem`, `stages.0` … `stages.2`, their blocks `stages.2.0`, `norm`, `act`, `pool`, `classifier`. A stage ends with a sum that
is not activated yet; the maps that attention transfer and its like use are `stages.2:output` as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from distillens.errors import InputError
from distillens.models.nets.base import Shape, initialise_convolutions, whole


class PreactivationBlock(nn.Module):
    """conv(relu(norm(conv(relu(norm(x)))))) + shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.act1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.norm1(x))
        h = self.conv2(self.act2(self.norm2(self.conv1(active))))
        out: Tensor = h + (x if self.shortcut is None else self.shortcut(active))
        return out


class WideResNet(nn.Module):
    """(B, C, H, W) → (B, outputs). widths: channels of the stem and of each stage; blocks: in each stage."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        stages = []
        for i, (before, width) in enumerate(pairwise(widths)):
            first = PreactivationBlock(before, width, 1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(PreactivationBlock(width, width, 1) for _ in range(blocks - 1))))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], outputs)
        initialise_convolutions(self)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.norm(self.stages(self.stem(x))))
        out: Tensor = self.classifier(self.pool(h).flatten(1))
        return out


@dataclass(frozen=True)
class WideResNetSettings:
    """`{kind: wide_resnet, depth: 40, width: 2}` of a recipe: WRN-40-2. depth: 10, 16, 22, 28, 40 (6n + 4). width: times 16, 32, 64."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["wide_resnet"] = "wide_resnet"
    depth: int = 16
    width: int = 2

    def __post_init__(self) -> None:
        whole(self.depth, name="depth", at_least=10)
        whole(self.width, name="width")
        if (self.depth - 4) % 6:
            near = self.depth - (self.depth - 4) % 6
            raise InputError(f"A wide ResNet has depth 6n + 4, such as {near} or {near + 6}, got {self.depth}.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stem and of the three stages."""
        return (16, 16 * self.width, 32 * self.width, 64 * self.width)

    def build(self, shape: Shape, outputs: int) -> WideResNet:
        return WideResNet(shape[0], self.widths, (self.depth - 4) // 6, outputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

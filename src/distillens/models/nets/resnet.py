"""Residual networks for small images (He et al. 2016, "Deep Residual Learning", section 4.2), as distillation papers use them.

Depth 6n + 2: a 3×3 convolution, three stages of n blocks of two convolutions, global average pooling, a linear classifier. Where
the shape changes the shortcut is a 1×1 convolution with a norm, as in the literature on distillation (the paper's CIFAR networks pad with
zeros). Width 4 has 64, 128, 256 channels after a stem of 32: "ResNet-8×4", "ResNet-32×4" of Tian et al. 2020 (contrastive distillation).

Taps: `stem`, `stages.0` … `stages.2`, their blocks `stages.2.0`, `pool`, `classifier`; the sum before the last ReLU of a stage is
`stages.2.0.act2:input` (of its last block), the pooled features `classifier:input`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from distillens.errors import InputError
from distillens.models.nets.base import Shape, initialise_convolutions, whole


class Block(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)); every activation is a module of its own, so that it can be tapped."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.act1(self.norm1(self.conv1(x)))
        out: Tensor = self.act2(self.norm2(self.conv2(h)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """(B, C, H, W) → (B, outputs). widths: channels of the stem and of each stage; blocks: in each stage."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        stages = []
        for i, (before, width) in enumerate(pairwise(widths)):
            first = Block(before, width, 1 if i == 0 else 2)
            stages.append(nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1))))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], outputs)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.pool(self.stages(self.stem(x))).flatten(1))
        return out


@dataclass(frozen=True)
class ResNetSettings:
    """`{kind: resnet, depth: 20, width: 1}` of a recipe. depth: 8, 14, 20, 32, 44, 56, 110 (6n + 2). width: times 16, 32, 64 channels."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["resnet"] = "resnet"
    depth: int = 20
    width: int = 1

    def __post_init__(self) -> None:
        whole(self.depth, name="depth", at_least=8)
        whole(self.width, name="width")
        if (self.depth - 2) % 6:
            near = self.depth - (self.depth - 2) % 6
            raise InputError(f"A ResNet has depth 6n + 2, such as {near} or {near + 6}, got {self.depth}.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stem and of the three stages; the stem has 16, or 8 · width where that is more."""
        return (max(16, 8 * self.width), 16 * self.width, 32 * self.width, 64 * self.width)

    def build(self, shape: Shape, outputs: int) -> ResNet:
        return ResNet(shape[0], self.widths, (self.depth - 2) // 6, outputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

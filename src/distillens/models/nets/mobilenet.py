"""MobileNetV2 for small images (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks").

The variant that distillation papers train on CIFAR-100 (Tian et al. 2020): the stem and stages 2, 3 and 5 halve the size, stage 1
does not; ReLU and not ReLU6; the first block expands by 1 but keeps its 1×1 convolution; channels are int(c · width), not
rounded to multiples of 8; the last convolution has 1280 channels, or 1280 · width where width is more than 1.

Taps: `stem`, `stages.0` … `stages.6`, their blocks `stages.2.0`, `head`, `pool`, `classifier`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from distillens.errors import InputError
from distillens.models.nets.base import Shape, initialise_convolutions, whole

# channels, blocks and stride of each stage; the first expands by 1, the others by `expansion`
STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; plus the input where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Sequential(*_convolution(inputs, inner, 1), nn.ReLU())
        self.filter = nn.Sequential(*_convolution(inner, inner, 3, stride, inner), nn.ReLU())
        self.project = nn.Sequential(*_convolution(inner, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.project(self.filter(self.expand(x)))
        return x + h if self.residual else h


class MobileNetV2(nn.Module):
    """(B, C, H, W) → (B, outputs)."""

    def __init__(self, channels: int, width: float, expansion: int, outputs: int) -> None:
        super().__init__()
        before = int(32 * width)
        self.stem = nn.Sequential(*_convolution(channels, before, 3, 2), nn.ReLU())
        stages = []
        for i, (base, blocks, stride) in enumerate(STAGES):
            stage = []
            for j in range(blocks):
                block = InvertedResidual(before, int(base * width), stride if j == 0 else 1, 1 if i == 0 else expansion)
                stage.append(block)
                before = int(base * width)
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        last = int(1280 * max(1.0, width))
        self.head = nn.Sequential(*_convolution(before, last, 1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, outputs)
        initialise_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.pool(self.head(self.stages(self.stem(x)))).flatten(1))
        return out


@dataclass(frozen=True)
class MobileNetV2Settings:
    """`{kind: mobilenet_v2, width: 0.5, expansion: 6}` of a recipe. width: times the paper's channels, at least 1/16."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: float = 1.0
    expansion: int = 6

    def __post_init__(self) -> None:
        whole(self.expansion, name="expansion")
        width: object = self.width  # a recipe may have written anything
        if (
            isinstance(width, bool)
            or not isinstance(width, (int, float))
            or not (math.isfinite(width) and width >= 1 / 16)
        ):
            raise InputError(
                f"width is a number of at least 1/16 = 0.0625 (one channel in the first stage), got {self.width!r}."
            )

    def build(self, shape: Shape, outputs: int) -> MobileNetV2:
        return MobileNetV2(shape[0], self.width, self.expansion, outputs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

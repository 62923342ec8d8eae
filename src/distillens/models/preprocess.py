"""From stored pixels to what a network takes: scale to [0, 1], channels, size, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from distillens.errors import InputError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """`{size: [32, 32], mean: [0.5], std: [0.25], channels: 1}`: a model's own way of looking at an image.

    channels: 1 or 3 for grey and colour, or what the pixels have. Grey pixels are repeated for a colour network; colour pixels are
    made grey by 0.299 R + 0.587 G + 0.114 B for a grey one (ITU-R BT.601). size: (height, width); images of another size are
    resized bilinearly with antialiasing, the whole image and not a crop. mean, std: on [0, 1], one number or one a channel.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: int = 3

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std"):
            value: object = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(
                isinstance(v, (int, float)) and not isinstance(v, bool) for v in value
            ):
                raise InputError(f"{name} is a list of numbers, got {value!r}.")
        size: tuple[object, ...] = self.size
        if len(size) != 2 or not all(isinstance(v, int) and v > 0 for v in size):
            raise InputError(f"size is [height, width] in pixels, got {self.size!r}.")
        if type(self.channels) is not int or self.channels < 1:
            raise InputError(f"channels is a whole number of at least 1, got {self.channels!r}.")
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise InputError(
                    f"{name} has one number or one for each of {self.channels} channels, got {getattr(self, name)!r}."
                )
        if not all(0 < v < float("inf") for v in self.std) or not all(abs(v) < float("inf") for v in self.mean):
            raise InputError(f"mean is finite and std is above 0, got mean {self.mean!r} and std {self.std!r}.")
        object.__setattr__(self, "size", (self.size[0], self.size[1]))
        for name in ("mean", "std"):
            values = tuple(float(v) for v in getattr(self, name))
            object.__setattr__(self, name, values * self.channels if len(values) == 1 else values)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the network takes."""
        return (self.channels, *self.size)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(n, C, H, W) uint8 → (n, channels, height, width) float32. ModelError when the channels do not fit."""
        import numpy as np
        import torch

        images = torch.from_numpy(np.array(pixels, dtype=np.uint8)).to(torch.float32) / 255
        given = images.shape[1]
        if given != self.channels:
            if given == 1:
                images = images.expand(-1, self.channels, -1, -1)
            elif given == 3 and self.channels == 1:
                images = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
            else:
                raise ModelError(
                    f"The network takes {self.channels} channels and the images have {given}; only grey and colour (1 and 3) are converted."
                )
        if tuple(images.shape[2:]) != self.size:
            images = torch.nn.functional.interpolate(
                images, self.size, mode="bilinear", antialias=True, align_corners=False
            )
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return ((images - mean) / std).contiguous()

    def to_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Preprocess:
        size = (int(record["size"][0]), int(record["size"][1]))
        return cls(size, tuple(record["mean"]), tuple(record["std"]), int(record["channels"]))

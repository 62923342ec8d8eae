"""Augmentation as a function: the view of a row depends on (seed, row id, view id) and on nothing else.

So a teacher's stored answer always belongs to exactly the picture the student sees, whatever the batch, the order of the
rows, the number of processes or a restart in between; and teacher and student see the same picture, each after its own
preprocessing.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.errors import InputError
from distillens.store import content_hash

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints
    from distillens.data.images import Pixels

_VERSION = 1  # of what the functions below compute; stored answers of another version are not used
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Augmentation:
    """`{crop: 4, flip: true, colour: 0.2, erase: 0.25}`: what may happen to a training image. Nothing by default.

    crop: pixels of black border that are added before a window of the old size is cut out at random. flip: left and right
    change places in half of the views. colour: brightness and contrast are multiplied by numbers between 1 − colour
    and 1 + colour. erase: probability that a rectangle of 2 to 20 % of the area, of proportions between 1:3 and 3:1, is filled with
    the image's mean colour (Zhong et al. 2020, "Random Erasing", who fill with noise).
    views: how many views of a row there are, counted from 0; epoch e uses view e mod views; 0: a new one every epoch.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    crop: int = 0
    flip: bool = False
    colour: float = 0.0
    erase: float = 0.0
    views: int = 0

    def __post_init__(self) -> None:
        for name in ("crop", "views"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InputError(f"{name} is a whole number of at least 0, got {value!r}.")
        for name in ("colour", "erase"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise InputError(f"{name} is a number from 0 to 1, got {value!r}.")

    @property
    def changes(self) -> bool:
        """Whether views differ from the image as it is stored."""
        return bool(self.crop or self.flip or self.colour or self.erase)

    def fingerprint(self, seed: int) -> str:
        """Hash of what a view shows. How many views there are changes none of them."""
        settings = {name: value for name, value in asdict(self).items() if name != "views"}
        return content_hash({"augmentation": settings, "seed": seed if self.changes else None, "version": _VERSION})

    def view_of(self, epoch: int) -> int:
        """The view that an epoch (from 0) shows."""
        return epoch % self.views if self.views else epoch if self.changes else 0

    def __call__(self, pixels: Pixels, row_ids: Ints, *, view: int, seed: int) -> Pixels:
        """(B, C, H, W) uint8 pixels of rows as this view of them shows them."""
        if not self.changes:
            return pixels
        draw = uniforms(seed, row_ids, view, 9)
        if self.crop:
            pixels = _cropped(pixels, self.crop, draw[:, 0], draw[:, 1])
        if self.flip:
            flipped = draw[:, 2] < 0.5
            pixels = np.where(flipped[:, None, None, None], pixels[..., ::-1], pixels)
        if self.colour:
            pixels = _recoloured(pixels, 1 + self.colour * (2 * draw[:, 3] - 1), 1 + self.colour * (2 * draw[:, 4] - 1))
        if self.erase:
            pixels = _erased(
                pixels,
                draw[:, 5] < self.erase,
                draw[:, 6],
                draw[:, 7],
                draw[:, 8],
                uniforms(seed, row_ids, view, 1, first=9)[:, 0],
            )
        return np.ascontiguousarray(pixels)


def uniforms(seed: int, row_ids: Ints, view: int, count: int, *, first: int = 0) -> Floats:
    """(B, count) numbers in [0, 1): number j of a row is a hash of (seed, row id, view, first + j), whatever else is in the batch.

    The hash is the output function of SplitMix64 (Steele, Lea and Flood 2014), applied after each ingredient.
    """
    with np.errstate(over="ignore"):
        state = _mixed(np.uint64(seed % 2**64) + _GOLDEN)
        state = _mixed(state + np.asarray(row_ids, dtype=np.int64).astype(np.uint64) * _GOLDEN)
        state = _mixed(state + np.uint64(view % 2**64) * _GOLDEN)
        numbers = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GOLDEN
        bits = _mixed(state[:, None] + numbers[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(z: Any) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def _cropped(pixels: Pixels, border: int, down: Floats, right: Floats) -> Pixels:
    """A window of the old size out of each image with a black border, `down` and `right` in [0, 1) of the way."""
    n, _, height, width = pixels.shape
    framed = np.pad(pixels, ((0, 0), (0, 0), (border, border), (border, border)))
    top = (down * (2 * border + 1)).astype(np.int64)
    left = (right * (2 * border + 1)).astype(np.int64)
    cut = np.empty_like(pixels)
    for i in range(n):  # one slice an image is faster than one gather over all
        cut[i] = framed[i, :, top[i] : top[i] + height, left[i] : left[i] + width]
    return cut


def _recoloured(pixels: Pixels, brightness: Floats, contrast: Floats) -> Pixels:
    """Brightness times a factor, then contrast around the image's mean grey times another; clipped to 0 … 255."""
    wide = pixels.astype(np.float32) * brightness[:, None, None, None].astype(np.float32)
    grey = wide.mean(axis=(1, 2, 3), keepdims=True)
    wide = grey + (wide - grey) * contrast[:, None, None, None].astype(np.float32)
    clipped: Pixels = np.clip(np.rint(wide), 0, 255).astype(np.uint8)
    return clipped


def _erased(
    pixels: Pixels, chosen: NDArray[np.bool_], area: Floats, proportion: Floats, down: Floats, right: Floats
) -> Pixels:
    height, width = pixels.shape[2:]
    changed = pixels.copy()
    for i in np.flatnonzero(chosen):
        size = (0.02 + 0.18 * area[i]) * height * width
        shape = math.exp(math.log(3) * (2 * proportion[i] - 1))
        tall = min(height, max(1, round(math.sqrt(size * shape))))
        wide = min(width, max(1, round(math.sqrt(size / shape))))
        top, left = int(down[i] * (height - tall + 1)), int(right[i] * (width - wide + 1))
        mean = pixels[i].mean(axis=(1, 2), keepdims=True)
        changed[i, :, top : top + tall, left : left + wide] = np.rint(mean).astype(np.uint8)
    return changed

"""One common size: the largest centred part of a picture with the proportions asked for, bilinear with antialiasing.

What is cut off are edges, equally on both sides; nothing is squeezed, so that shapes stay what they are. Where a picture has the proportions
asked for nothing is cut. Pillow averages over all pixels that become one, so that fine lines do not vanish when pictures shrink.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.base import Finding
from distillens.errors import MissingExtraError

if TYPE_CHECKING:
    from distillens.data.images import Pixels
    from distillens.data.pictures.source import Size


def pillow() -> Any:
    """Pillow's `Image`. MissingExtraError when it is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "vision", "Reading and resizing pictures") from error
    return Image


def fitted(picture: Any, size: Size) -> Any:
    """A Pillow picture as one of (height, width)."""
    height, width = size
    if picture.size == (width, height):
        return picture
    scale = min(picture.width / width, picture.height / height)
    across, down = width * scale, height * scale
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    box = (left, top, left + across, top + down)
    return picture.resize((width, height), pillow().Resampling.BILINEAR, box=box)


def cut(have: Size, size: Size) -> bool:
    """Whether bringing a picture to this size cuts edges off: more than rounding to whole pixels would explain."""
    scale = min(have[0] / size[0], have[1] / size[1])
    return have[0] - size[0] * scale >= 1 or have[1] - size[1] * scale >= 1


def resized(pixels: Pixels, size: Size) -> Pixels:
    """(n, C, H, W) pixels in another size."""
    image = pillow()
    made = np.empty((*pixels.shape[:2], *size), dtype=np.uint8)
    for i, picture in enumerate(pixels):
        for c, channel in enumerate(picture):  # channels are resized alike, so one by one is the same as together
            made[i, c] = np.asarray(fitted(image.fromarray(np.ascontiguousarray(channel)), size))
    return made


def resized_finding(rows: int, cropped: int, n: int, size: Size) -> Finding:
    """How many pictures were brought to the common size, and how many lost edges."""
    text = (
        f"{rows:,} of {n:,} images had another size and were brought to {size[0]}×{size[1]} (bilinear, antialiased); "
        f"{cropped:,} of them have other proportions and lost edges."
    )
    values = {"rows": rows, "n": n, "height": size[0], "width": size[1], "cropped": cropped}
    return Finding("resized", None, text, "warning" if cropped else "info", values)

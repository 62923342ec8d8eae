"""A contact sheet: a strip of a few training images of each class, as PNG files small enough to stand in a page."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.images import Images

if TYPE_CHECKING:
    from distillens.data.base import Dataset
    from distillens.data.images import Pixels

PER_CLASS = 8
MOST_CLASSES = 12
MOST_SIDE = 48  # pixels of an image on the sheet; larger ones are averaged down by whole factors
GAP = 2


def contact_sheet(dataset: Dataset) -> list[dict[str, Any]]:
    """[{class, count, png}] of the first classes: the first training images of each by row id, png as base64."""
    inputs = dataset.train.inputs
    if not isinstance(inputs, Images):
        return []
    labels = np.asarray(dataset.train.labels)
    order = np.argsort(inputs.row_ids, kind="stable")
    strips = []
    for k, name in enumerate(dataset.classes[:MOST_CLASSES]):
        index = order[labels[order] == k][:PER_CLASS]
        image = base64.b64encode(png(_strip(averaged(inputs.pixels[index], side=MOST_SIDE)))).decode()
        strips.append({"class": name, "count": len(index), "png": image})
    return strips


def averaged(pixels: Pixels, *, side: int) -> Pixels:
    """(n, C, h, w): means of squares of f×f pixels, f the least factor that brings both sides to `side`; the rest at the edges is cut."""
    n, channels, height, width = pixels.shape
    f = -(-max(height, width) // side)
    if f == 1:
        return pixels
    h, w = max(1, height // f), max(1, width // f)
    block = pixels[:, :, : h * f, : w * f].reshape(n, channels, h, min(f, height), w, min(f, width))
    small: Pixels = np.rint(block.mean(axis=(3, 5))).astype(np.uint8)
    return small


def _strip(pixels: Pixels) -> Pixels:
    """(C, H, W') images side by side with white gaps."""
    n, channels, height, width = pixels.shape
    strip = np.full((channels, height, n * (width + GAP) - GAP), 255, dtype=np.uint8)
    for i, picture in enumerate(pixels):
        strip[:, :, i * (width + GAP) : i * (width + GAP) + width] = picture
    return strip


def png(picture: Pixels) -> bytes:
    """A PNG file of one (C, H, W) uint8 picture, C = 1 (grey) or 3 (RGB): ISO/IEC 15948, one IDAT chunk, no filters."""
    channels, height, width = picture.shape
    rows = picture.transpose(1, 2, 0).reshape(height, width * channels)
    body = np.concatenate([np.zeros((height, 1), dtype=np.uint8), rows], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(body, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )

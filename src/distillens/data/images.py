"""`Images`: rows that are pictures. Pixels as they are stored; sizes and normalisation are the models' own business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.errors import DataError

if TYPE_CHECKING:
    from distillens.data.base import Bools, Column, Ints

Pixels = NDArray[np.uint8]
PATCHES = 7  # in a row, where nothing else is asked for


@dataclass(frozen=True, eq=False)
class Images:
    """n pictures of one size.

    pixels: (n, C, H, W) uint8, with C = 1 (grey) or 3 (red, green, blue) channels. row_ids: (n,) int64, stable over splits,
    subsets and runs. Raises DataError when the shapes do not fit.
    """

    pixels: Pixels
    row_ids: Ints

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] not in (1, 3):
            raise DataError(
                "Images need pixels of type uint8 and shape (n, 1 or 3, height, width), "
                f"got {self.pixels.dtype} of shape {self.pixels.shape}."
            )
        if self.row_ids.shape != (len(self.pixels),):
            raise DataError(f"{len(self.pixels)} images need as many row ids, got {self.row_ids.shape}.")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def text(self) -> str:
        """`28×28 pixels, 1 channel`."""
        channels, height, width = self.shape
        return f"{height}×{width} pixels, {channels} channel{'s' if channels > 1 else ''}"

    @property
    def patch(self) -> int:
        """Side in pixels of the square patches that are explained: about seven of them in a row."""
        return -(-max(self.shape[1:]) // PATCHES)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What gets an attribution: patches, row by row, called `row 1 column 1` and so on."""
        from distillens.data.base import Column

        _, height, width = self.shape
        down, right = -(-height // self.patch), -(-width // self.patch)
        return tuple(Column(f"row {i + 1} column {j + 1}") for i in range(down) for j in range(right))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the patches."""
        return tuple(column.name for column in self.columns)

    @property
    def patch_of_pixel(self) -> Ints:
        """(H, W) int64 the position of each pixel's patch in `columns`."""
        _, height, width = self.shape
        across = -(-width // self.patch)
        return np.add.outer(np.arange(height) // self.patch * across, np.arange(width) // self.patch).astype(np.int64)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is written to disk: pixels and row_ids."""
        return {"pixels": self.pixels, "row_ids": self.row_ids}

    def take(self, indices: Sequence[int] | Ints | Bools) -> Images:
        """The images at `indices` (positions or a mask; an empty list gives none), with their row ids."""
        from distillens.data.base import positions

        index = positions(indices)
        return Images(self.pixels[index], self.row_ids[index])

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """(n,) a hash of every image's pixels: equal pictures have equal hashes, whatever their place or row id."""
        import hashlib

        digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in self.pixels)
        return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)

"""An image model seen as a model of patches, so that every method that mixes rows of a table can explain it.

Explaining by coalitions means asking about mixtures: the row's own value here, another row's there. For images the parts are patches,
and a mixture is a picture put together from patches of several pictures. Here a "table" has a column a patch, and a cell says from
which picture the patch is taken; `PatchModel` puts the picture together and asks the image model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distillens.data.base import Table
from distillens.data.images import Images
from distillens.errors import DataError
from distillens.store import content_hash

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints
    from distillens.data.images import Pixels
    from distillens.models.base import Model, Output

ROWS = 2048  # pictures put together at once


@dataclass(frozen=True, eq=False)
class PatchModel:
    """`model` asked about pictures that are put together from patches of `pictures`.

    pictures: (N, C, H, W) uint8. patch_of_pixel: (H, W) the column that says where a pixel comes from.
    """

    model: Model
    pictures: Pixels
    patch_of_pixel: Ints

    @property
    def label(self) -> str:
        return self.model.label

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def output(self) -> Output:
        return self.model.output

    @property
    def fingerprint(self) -> str | None:
        """Of the model and the pictures: cells mean nothing without them."""
        if self.model.fingerprint is None:
            return None
        return content_hash(
            {"model": self.model.fingerprint}, {"pictures": self.pictures, "patches": self.patch_of_pixel}
        )

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) outputs for (n, patches) cells, each the position of the picture that a patch is taken from."""
        _, channels, height, width = self.pictures.shape
        by_pixel = self.pictures.transpose(0, 2, 3, 1).reshape(len(self.pictures), height * width, channels)
        where, patch = np.arange(height * width), self.patch_of_pixel.reshape(-1)
        answered = []
        for start in range(0, max(len(inputs), 1), ROWS):
            cells = inputs.values[start : start + ROWS].astype(np.int64)
            mixed = by_pixel[cells[:, patch], where].reshape(len(cells), height, width, channels)
            pixels = np.ascontiguousarray(mixed.transpose(0, 3, 1, 2))
            answered.append(self.model(Images(pixels, np.full(len(cells), -1, dtype=np.int64))))
        return np.concatenate(answered)


def as_patches(model: Model, inputs: Images, background: Images | None) -> tuple[PatchModel, Table, Table | None]:
    """The model, the rows and the background as tables of patches. DataError when the background's images have another shape."""
    if background is not None and background.shape != inputs.shape:
        raise DataError(
            f"The images explained are {inputs.shape} and those of the background {background.shape}; they need one shape."
        )
    pictures = inputs.pixels if background is None else np.concatenate([inputs.pixels, background.pixels])
    patched = PatchModel(model, pictures, inputs.patch_of_pixel)

    def table(images: Images, first: int) -> Table:
        own = np.arange(first, first + len(images), dtype=np.float64)
        return Table(np.repeat(own[:, None], len(inputs.columns), axis=1), inputs.columns, images.row_ids)

    return patched, table(inputs, 0), None if background is None else table(background, len(inputs))

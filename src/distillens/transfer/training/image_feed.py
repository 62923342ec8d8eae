"""`ImageFeed`: views of training images, with a teacher's answers from a cache or with what a live teacher takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.transfer.training.feed import Fed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from distillens.transfer.answers.cache import TeacherCache


@dataclass(frozen=True, eq=False)
class ImageFeed:
    """Training images, each epoch as the augmentation shows them.

    student: pixels to what the student takes, its own preprocessing. teacher: the same for a teacher whose inputs are needed (a live
    one, or one whose maps are compared); None: none are needed, or they are the student's. cache: its answers; None: none or live.
    asked: the images that the teacher is asked about in place of `images`, one for one (permuted answers); None: the same.
    labels, weights: see `Feed`.
    """

    images: Images
    labels: Tensor
    weights: Tensor
    student: Callable[[Images], Tensor]
    teacher: Callable[[Images], Tensor] | None = None
    cache: TeacherCache | None = None
    asked: Images | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    ahead: int = 2
    _positions: NDArray[np.int64] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises ArtefactError when the cache is not of these images."""
        if self.cache is not None:
            object.__setattr__(
                self, "_positions", self.cache.positions(self.images if self.asked is None else self.asked)
            )

    @property
    def teaches(self) -> bool:
        return self.cache is not None

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        shown = self.shown(self.images, rows, epoch=epoch)
        inputs = self.student(shown)
        theirs = None
        if self.teacher is not None:
            theirs = self.teacher(shown if self.asked is None else self.shown(self.asked, rows, epoch=epoch))
        if self.cache is None or self._positions is None:
            return Fed(inputs, theirs)
        view = self.augmentation.view_of(epoch)
        known = self.cache.answers(
            self._positions[rows.numpy()], view=view, inputs=inputs if theirs is None else theirs
        )
        return Fed(inputs, theirs, known)

    def shown(self, images: Images, rows: Tensor, *, epoch: int) -> Images:
        """What an epoch shows of some of `images`."""
        part = images.take(rows.numpy())
        view = self.augmentation.view_of(epoch)
        return Images(self.augmentation(part.pixels, part.row_ids, view=view, seed=self.seed), part.row_ids)

"""`WithAnswers`: a teacher network that knows a folder where its answers may be kept (see transfer/answers/cache.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.data.base import Floats
    from distillens.data.images import Images
    from distillens.data.views import Augmentation
    from distillens.models.base import Output
    from distillens.transfer.answers.cache import TeacherCache

VIEWS = 0  # seed of the views: the same for all students, so that they see the same pictures and share the teacher's answers


@dataclass(frozen=True, eq=False)
class WithAnswers:
    """The same model in everything. answers_folder: caches of its answers lie below it, one for every set of views."""

    model: Any
    answers_folder: Path

    @property
    def label(self) -> str:
        return str(self.model.label)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.model.classes)

    @property
    def output(self) -> Output:
        output: Output = self.model.output
        return output

    @property
    def fingerprint(self) -> str:
        return str(self.model.fingerprint)

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.model.module
        return module

    @property
    def preprocess(self) -> Any:
        return self.model.preprocess

    def to_tensor(self, inputs: Any) -> Tensor:
        tensor: Tensor = self.model.to_tensor(inputs)
        return tensor

    def __call__(self, inputs: Any) -> Floats:
        answers: Floats = self.model(inputs)
        return answers


def kept_answers(teacher: Any, images: Images, augment: Augmentation) -> TeacherCache | None:
    """The teacher's answers to every view, in the folder that `teacher` brings; None when it brings none or views are endless."""
    folder: Path | None = getattr(teacher, "answers_folder", None)
    if folder is None or (augment.changes and augment.views == 0):
        return None
    import numpy as np

    from distillens.store import content_hash
    from distillens.transfer.answers.build import build_cache

    identity = content_hash({"teacher": teacher.fingerprint, "augment": augment.fingerprint(VIEWS), "views": augment.views,
                             "images": content_hash({}, {"ids": np.sort(images.row_ids)})})  # fmt: skip
    ordered = images.take(np.argsort(images.row_ids, kind="stable"))  # one cache for all orders of the same rows
    return build_cache(teacher, ordered, Path(folder) / identity[:16], augmentation=augment, seed=VIEWS, device="auto")

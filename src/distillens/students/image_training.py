"""A network student (or teacher) for images: what students/network.py does once it has seen that the rows are pictures.

The teacher's answers. Without augmentation they are the targets' own. With it, a student that sees a changed picture is to hear what the
teacher says about that picture: a teacher that is a network of ours is asked live, or once for every view and kept on disk where
there is a folder for it and the number of views is limited (transfer/answers/cache.py); any other model is asked about each batch. Answers made out
of fold belong to the unchanged picture and are used for all its views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.images import Images
from distillens.errors import DataError, InputError, ModelError
from distillens.models.base import TorchModel, as_logits, evaluate
from distillens.models.image_network import ImageNetwork
from distillens.models.preprocess import Preprocess
from distillens.store import content_hash, write_json
from distillens.students.inheritance import ASKED, inheriting_from, some, take_over
from distillens.students.live_teacher import live_teacher
from distillens.transfer.answers.kept import VIEWS, kept_answers
from distillens.transfer.layers.inherit import fold_classifier
from distillens.transfer.objectives.base import View
from distillens.transfer.objectives.kd import kd_loss
from distillens.transfer.training.feed import Fed
from distillens.transfer.training.image_feed import ImageFeed
from distillens.transfer.training.loop import fit
from distillens.transfer.training.transfer import task_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.students.network import NetworkStudent
    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.targets import Targets


def fit_images(
    student: NetworkStudent, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None
) -> ImageNetwork:
    """Train on images; raises what `NetworkStudent.fit` raises, and InputError where the teacher cannot show what an objective asks for."""

    images = _images(targets.inputs)
    classes = targets.classes
    if not classes:
        raise InputError("Networks for images tell classes apart; regression on images is not available.")
    taught = targets.origin != "labels"
    objectives = student.objectives_for(classes) if taught else ()
    parent = inheriting_from(student.inherit, teacher, out=out)
    looks = _preprocess(student, images, parent)
    net = ImageNetwork.fresh(student.image_net, looks, classes, seed=seed, label=student.label)
    if parent is not None and student.inherit is not None:
        seen, fresh = (_images(some(*part)) for part in ((images, student.inherit.rows), (validation.inputs, ASKED)))
        take_over(
            student.inherit, net.module, parent.module, seed=seed, out=out,
            rows=(net.to_tensor(seen), parent.to_tensor(seen)), fresh_rows=(net.to_tensor(fresh), parent.to_tensor(fresh)),
        )  # fmt: skip
    labels = np.full(len(targets), np.nan) if targets.labels is None else targets.labels
    feed, live, identity = _feed(
        student, targets, images, objectives, teacher if taught else None, net, _tensor(labels)
    )
    history = fit(
        net.module, feed, objectives=objectives, task_weight=student.task_weight if taught else 1.0,
        schedule=student.schedule(len(targets)), validate=_validation(validation, teacher, net, classes), seed=seed,
        label=student.label, teacher=live, folder=out, threads="all", device="auto",
        identity=content_hash({"targets": targets.fingerprint, "teacher": identity, "augment": student.augment.fingerprint(VIEWS),
                               "net": student.image_net.to_json(),
                               "inherit": None if parent is None or student.inherit is None else student.inherit.to_json()}),
        out=out,
    )  # fmt: skip
    if parent is not None and student.inherit is not None and student.inherit.how == "reuse_classifier":
        fold_classifier(net.module)
    if out is not None:
        write_json(Path(out) / "history.json", list(history))
        (Path(out) / "training.safetensors").unlink(missing_ok=True)
    return ImageNetwork(net.preprocess, net.module, net.net, classes, student.label, history)


def _feed(
    student: NetworkStudent, targets: Targets, images: Images, objectives: tuple[Objective, ...], teacher: Model | None,
    net: ImageNetwork, labels: Tensor,
) -> tuple[Any, nn.Module | None, str | None]:  # fmt: skip
    """The rows, a live teacher where one is asked in every step, and what identifies the teacher."""
    weights = _tensor(targets.weights)
    augment = student.augment
    shared: dict[str, Any] = {"augmentation": augment, "seed": VIEWS}
    deeper = live_teacher(objectives, targets, teacher) is not None
    asked = images if targets.asked is None else _images(targets.asked)
    by_view = teacher is not None and augment.changes and targets.origin == "in_sample"
    if not objectives:
        return ImageFeed(images, labels, weights, net.to_tensor, **shared), None, None
    if not by_view and not deeper:  # the targets say it all
        answers = _tensor(targets.logits)
        return Known(ImageFeed(images, labels, weights, net.to_tensor, **shared), answers), None, None
    assert teacher is not None  # only a teacher answers by view or looks deeper
    if not isinstance(teacher, TorchModel):
        return (
            Asked(ImageFeed(images, labels, weights, net.to_tensor, **shared), teacher, asked),
            None,
            teacher.fingerprint,
        )
    if tuple(teacher.classes) != targets.classes:
        raise ModelError(
            f"The teacher's classes {list(teacher.classes)} are not the student's {list(targets.classes)}."
        )
    cache = None if deeper else kept_answers(teacher, asked, augment)
    if cache is not None:
        return (
            ImageFeed(images, labels, weights, net.to_tensor, cache=cache, asked=asked, **shared),
            None,
            teacher.fingerprint,
        )
    same = getattr(teacher, "preprocess", None) == net.preprocess and targets.asked is None
    theirs = None if same else teacher.to_tensor
    return (
        ImageFeed(images, labels, weights, net.to_tensor, theirs, asked=asked, **shared),
        teacher.module,
        teacher.fingerprint,
    )


@dataclass(frozen=True, eq=False)
class Known:
    """A feed whose teacher's answers are the same for all views of a row: (n, K) logits."""

    feed: ImageFeed
    answers: Tensor

    @property
    def labels(self) -> Tensor:
        return self.feed.labels

    @property
    def weights(self) -> Tensor:
        return self.feed.weights

    @property
    def ahead(self) -> int:
        return self.feed.ahead

    @property
    def teaches(self) -> bool:
        return True

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        fed = self.feed.fetch(rows, epoch=epoch)
        return Fed(fed.inputs, None, View(self.answers[rows], fed.inputs))


@dataclass(frozen=True, eq=False)
class Asked:
    """A feed whose teacher, any model that can be asked about images, is asked about every view. asked: the images it is asked about."""

    feed: ImageFeed
    teacher: Model
    asked: Images

    @property
    def labels(self) -> Tensor:
        return self.feed.labels

    @property
    def weights(self) -> Tensor:
        return self.feed.weights

    @property
    def ahead(self) -> int:
        return self.feed.ahead

    @property
    def teaches(self) -> bool:
        return True

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        fed = self.feed.fetch(rows, epoch=epoch)
        shown = self.feed.shown(self.asked, rows, epoch=epoch)
        answers = _tensor(as_logits(evaluate(self.teacher, shown), self.teacher.output))
        return Fed(fed.inputs, None, View(answers, fed.inputs))


def _preprocess(student: NetworkStudent, images: Images, parent: Any) -> Preprocess:
    """The student's own: size and channels of the data and their mean and standard deviation, where the settings say nothing else.

    A student that starts from its teacher's first layer looks at pixels as the teacher does.
    """
    given = student.preprocess
    theirs = getattr(parent, "preprocess", None)
    if student.inherit is not None and student.inherit.same_inputs and isinstance(theirs, Preprocess):
        named = {name: value for name, value in vars(given).items() if value is not None}
        return replace(theirs, **named)
    channels, height, width = images.shape
    channels = channels if given.channels is None else given.channels
    seen = Preprocess((height, width), channels=channels)(images.pixels[:: max(1, len(images) // 2000)])
    mean, std = ([round(float(v), 4) for v in of(dim=(0, 2, 3))] for of in (seen.mean, seen.std))
    return Preprocess(
        (height, width) if given.size is None else given.size,
        tuple(mean) if given.mean is None else given.mean,
        tuple(max(v, 1e-3) for v in std) if given.std is None else given.std,
        channels,
    )


def _validation(
    split: Split, teacher: Model | None, net: ImageNetwork, classes: tuple[str, ...]
) -> Callable[[nn.Module], float]:
    """The weighted mean validation loss of the module: KL(teacher ‖ student) in nats, or the cross-entropy of the labels."""
    import torch

    if len(split) == 0:
        raise DataError("Validation has no rows; a network needs some to choose its epoch.")
    images = _images(split.inputs)
    weights = _tensor(np.ones(len(split)) if split.weights is None else split.weights)
    logits = labels = None
    if teacher is None:
        if split.labels is None:
            raise DataError(
                "Validation rows have no labels and no teacher was given; one of the two is needed to choose the epoch."
            )
        labels = _tensor(split.labels)
        weights = weights.where(~labels.isnan(), 0.0)
        labels = labels.nan_to_num()
    else:
        if tuple(teacher.classes) != classes:
            raise ModelError(f"The teacher's classes {list(teacher.classes)} are not the student's {list(classes)}.")
        logits = _tensor(as_logits(evaluate(teacher, images), teacher.output))
    weights = weights / weights.sum()

    def loss(module: nn.Module) -> float:
        device = next(module.parameters()).device
        total = 0.0
        for part in torch.split(torch.arange(len(images)), 512):
            outputs = module(net.preprocess(images.pixels[part.numpy()]).to(device)).float().cpu()
            if logits is not None:
                rows = kd_loss(outputs, logits[part], temperature=1.0)
            else:
                assert labels is not None
                rows = task_loss(outputs, labels[part])
            total += float((weights[part] * rows).sum())
        return total

    return loss


def _images(inputs: object) -> Images:
    if not isinstance(inputs, Images):
        raise DataError(f"A network for images was given a {type(inputs).__name__}.")
    return inputs


def _tensor(array: Floats | np.ndarray[Any, Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

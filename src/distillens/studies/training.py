"""One training of a study: a mechanism with one configuration and one seed, and nothing that another mechanism would do differently.

Paired: the student's initial weights, the order of its batches and (in studies with few labels) the labelled rows are functions of the seed
alone, so that they are the same for every mechanism. What an objective draws besides comes from generators of its own.

In a study with few labels, a mechanism without objectives learns nothing from unlabelled rows. It is trained on the labelled ones alone, with as many
steps as the others: batches that are mostly unlabelled would make a weak baseline of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.models.image_network import ImageNetwork
from distillens.models.preprocess import Preprocess
from distillens.run import stage_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from distillens.data.base import Dataset, Ints, Split
    from distillens.models.nets.base import ImageNet
    from distillens.studies.grid import Configuration
    from distillens.transfer.objectives.base import Objective, Tap
    from distillens.transfer.training.feed import Fed
    from distillens.transfer.training.schedule import Schedule

STORED = 1 << 30  # bytes of the teacher's layers that are kept in memory instead of being computed in every epoch


@dataclass(frozen=True, eq=False)
class Ground:
    """What all trainings of a study share. seed: of the study. labelled_per_class: None: every training row has its label."""

    dataset: Dataset
    preprocess: Preprocess
    net: ImageNet
    teacher: ImageNetwork
    seed: int
    labelled_per_class: int | None = None
    trust_code: bool = False


@dataclass(frozen=True, eq=False)
class Trained:
    """The student after its last epoch, how it went, and how long it took."""

    model: ImageNetwork
    history: tuple[dict[str, float], ...]
    seconds: float
    steps: int


@dataclass(frozen=True, eq=False)
class Told:
    """Training rows in memory with what the teacher said about them, layers included.

    inputs: (n, …). outputs: (n, K) the teacher's logits, None: it is asked live. layers: (n, …) by tap. labels: NaN where hidden.
    """

    inputs: Tensor
    outputs: Tensor | None
    layers: dict[Tap, Tensor]
    labels: Tensor
    weights: Tensor
    classifier: Tensor | None = None

    @property
    def ahead(self) -> int:
        return 0

    @property
    def teaches(self) -> bool:
        return self.outputs is not None

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:  # noqa: ARG002 (the same rows in every epoch)
        from distillens.transfer.objectives.base import View
        from distillens.transfer.training.feed import Fed

        inputs = self.inputs[rows]
        if self.outputs is None:
            return Fed(inputs)
        layers = {tap: values[rows] for tap, values in self.layers.items()}
        return Fed(inputs, None, View(self.outputs[rows], inputs, layers, classifier=self.classifier))


def preprocessing(dataset: Dataset) -> Preprocess:
    """Mean and deviation of the training pixels, a channel."""
    pixels: Any = dataset.train.inputs
    scaled = pixels.pixels.astype(np.float64) / 255
    mean, std = scaled.mean(axis=(0, 2, 3)), scaled.std(axis=(0, 2, 3))
    channels, height, width = pixels.shape
    return Preprocess((height, width), tuple(round(float(m), 4) for m in mean),
                      tuple(round(float(s), 4) if s > 1e-4 else 1.0 for s in std), channels)  # fmt: skip


def labelled_rows(labels: Ints, per_class: int, *, seed: int) -> Ints:
    """Positions of `per_class` rows of every class (all where there are fewer), ascending; a function of the seed."""
    rng = np.random.default_rng([seed, 20])
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def train_teacher(dataset: Dataset, preprocess: Preprocess, net: ImageNet, schedule: Schedule, *, seed: int) -> Trained:
    """The teacher, on the labels of all training rows; its last epoch."""
    fresh = ImageNetwork.fresh(net, preprocess, dataset.classes, seed=stage_seed(seed, "teacher"), label="teacher")
    feed = _feed(fresh.to_tensor(_images(dataset.train)), dataset.train.labels)
    return _fitted(fresh, feed, (), 1.0, schedule, dataset, None, seed=stage_seed(seed, "teacher", "order"))


def initial_student(ground: Ground, *, seed: int) -> ImageNetwork:
    """The student before any training: the same for every mechanism of one seed."""
    return ImageNetwork.fresh(
        ground.net, ground.preprocess, ground.dataset.classes, seed=stage_seed(seed, "student"), label="student"
    )


def train_student(
    ground: Ground, configuration: Configuration, schedule: Schedule, *, seed: int, label: str = "student"
) -> Trained:
    """Train one student with one configuration. seed: of this repetition; everything that is paired follows from it."""
    from distillens.studies.study import built_objectives
    from distillens.transfer.layers.matching import pair_auto

    train = ground.dataset.train
    student = initial_student(ground, seed=seed)
    objectives = [o for o in built_objectives(configuration.objectives, trust_code=ground.trust_code) if o.weight > 0]
    labels = np.asarray(train.labels, dtype=np.float64)
    images = _images(train)
    if ground.labelled_per_class is not None:
        known = labelled_rows(np.asarray(train.labels), ground.labelled_per_class, seed=seed)
        if objectives:
            hidden = np.full(len(labels), np.nan)
            hidden[known] = labels[known]
            labels = hidden
        else:
            schedule = _as_many_steps(schedule, len(labels), len(known))
            images, labels = images.take(known), labels[known]
    inputs = student.to_tensor(images)
    if not objectives:
        feed = _feed(inputs, labels)
        return _fitted(student, feed, (), configuration.task_weight, schedule, ground.dataset, None, seed=seed, label=label)  # fmt: skip
    apart = slice(None, None, max(1, len(inputs) // 512))
    shown = ground.teacher.to_tensor(images.take(np.arange(len(images))[apart]))
    paired = pair_auto(objectives, student.module, ground.teacher.module, inputs[apart], shown)[0]
    feed = _feed(
        inputs, labels, teacher=ground.teacher, taps=_answerable(paired, ground.teacher, inputs), images=images
    )
    live = ground.teacher.module
    return _fitted(student, feed, paired, configuration.task_weight, schedule, ground.dataset, live, seed=seed, label=label)  # fmt: skip


def _images(split: Split) -> Any:
    return split.inputs


def _as_many_steps(schedule: Schedule, rows: int, labelled: int) -> Schedule:
    """The schedule whose epochs over fewer rows have as many steps, to the next whole epoch."""
    steps = schedule.epochs * -(-rows // schedule.batch_size)
    return replace(schedule, epochs=max(1, round(steps / -(-labelled // schedule.batch_size))))


def _answerable(objectives: tuple[Objective, ...], teacher: ImageNetwork, inputs: Tensor) -> tuple[Tap, ...] | None:
    """The teacher's layers that its stored answers must have; None where it must be asked live: gradients, questions, or too much to keep."""
    from distillens.models.capture import dry_run

    if any(o.needs_gradient or getattr(o, "asks", False) for o in objectives):
        return None
    taps = tuple(dict.fromkeys(tap for o in objectives for tap in o.teacher_taps))
    shapes = dry_run(teacher.module, inputs[:2], list(taps)) if taps else {}
    size = 4 * len(inputs) * sum(int(np.prod(shape)) for shape in shapes.values())
    return taps if size <= STORED else None


def _feed(
    inputs: Tensor, labels: Any, *, teacher: ImageNetwork | None = None, taps: tuple[Tap, ...] | None = None, images: Any = None
) -> Told:  # fmt: skip
    import torch

    known = torch.from_numpy(np.asarray(labels, dtype=np.float32))
    weights = torch.ones(len(known))
    if teacher is None or taps is None:
        return Told(inputs, None, {}, known, weights)
    from distillens.models.capture import Tapped
    from distillens.models.torch_module import evaluating

    run, outputs, layers = Tapped(teacher.module, taps), [], {tap: [] for tap in taps}  # type: ignore[var-annotated]
    with evaluating(teacher.module), torch.no_grad():
        for start in range(0, len(images), 512):
            answered, seen = run(teacher.to_tensor(images.take(range(start, min(start + 512, len(images))))))
            outputs.append(answered)
            for tap in taps:
                layers[tap].append(seen[tap])
    linear = [m for m in teacher.module.modules() if isinstance(m, torch.nn.Linear)]
    classifier = linear[-1].weight.detach() if linear and linear[-1].out_features == outputs[0].shape[1] else None
    return Told(
        inputs, torch.cat(outputs), {tap: torch.cat(v) for tap, v in layers.items()}, known, weights, classifier
    )


def _fitted(
    model: ImageNetwork, feed: Told, objectives: Any, task_weight: float, schedule: Schedule, dataset: Dataset,
    teacher: nn.Module | None, *, seed: int, label: str = "teacher",
) -> Trained:  # fmt: skip
    from distillens.transfer.training import loop

    started = time.perf_counter()
    history = loop.fit(
        model.module, feed, objectives=objectives, task_weight=task_weight, schedule=schedule, teacher=teacher,
        validate=_validation(model, dataset.validation), seed=stage_seed(seed, "training"), label=label,
    )  # fmt: skip
    steps = schedule.epochs * -(-len(feed.labels) // schedule.batch_size)
    return Trained(replace(model, history=history, label=label), history, time.perf_counter() - started, steps)


def _validation(model: ImageNetwork, split: Split) -> Callable[[nn.Module], float]:
    """Cross-entropy on validation rows, for the history; nothing is chosen by it."""
    import torch

    from distillens.transfer.training.transfer import task_loss

    inputs = model.to_tensor(_images(split))
    labels = torch.from_numpy(np.asarray(split.labels, dtype=np.int64))
    return lambda module: float(task_loss(module(inputs), labels).mean())

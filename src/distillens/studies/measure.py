"""What is measured of a student on test rows, one number a row, so that every difference can be looked at row by row.

    accuracy    1 where the decision is the label
    agreement   1 where the decision is the teacher's
    saliency    cosine of both models' input gradients for the log-odds of the teacher's top class
    explainer   cosine of both models' attributions of patches for that class, by a method that no objective here optimises

The first two are of all test rows, the others of the first rows only; NaN elsewhere. Where a teacher's map is all zeros there is nothing
to agree with, and the row is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Dataset, Floats
    from distillens.models.image_network import ImageNetwork
    from distillens.studies.study import MeasurePart

MEASURES = ("accuracy", "agreement", "saliency", "explainer")


@dataclass(frozen=True, eq=False)
class Asked:
    """The teacher on test rows. outputs: (n, K) logits. saliency: (m, pixels) and attributions: (k, patches), of the first rows."""

    outputs: Floats
    saliency: Floats
    attributions: Floats

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"outputs": self.outputs, "saliency": self.saliency, "attributions": self.attributions}


def ask(model: ImageNetwork, dataset: Dataset, settings: MeasurePart, *, target: Any = None, seed: int) -> Asked:
    """A model's answers, gradients and attributions. target: (n,) class explained in each row; None: the model's own top class."""
    test: Any = dataset.test.inputs
    outputs = model(test)
    target = outputs.argmax(axis=1) if target is None else target
    rows = min(settings.saliency_rows, len(test))
    few = min(settings.explained_rows, len(test))
    return Asked(outputs, saliency(model, test.take(range(rows)), target[:rows]),
                 _attributions(model, dataset, few, target[:few], settings, seed=seed))  # fmt: skip


def saliency(model: ImageNetwork, images: Any, target: Any) -> Floats:
    """(n, pixels) gradient of the log-odds of class `target` by the preprocessed pixels, in eval mode."""
    import torch

    from distillens.models.torch_module import evaluating
    from distillens.transfer.objectives.input_gradients import class_scores

    found = [np.zeros((0, int(np.prod(images.shape))))]
    with evaluating(model.module), torch.enable_grad():
        for start in range(0, len(images), 256):
            part = range(start, min(start + 256, len(images)))
            inputs = model.to_tensor(images.take(part)).requires_grad_()
            scores = class_scores(
                model.module(inputs), torch.from_numpy(np.asarray(target[start : part.stop], dtype=np.int64))
            )
            (gradient,) = torch.autograd.grad(scores.sum(), inputs)
            found.append(gradient.flatten(1).double().numpy())
    return np.concatenate(found)


def _attributions(
    model: ImageNetwork, dataset: Dataset, rows: int, target: Any, settings: MeasurePart, *, seed: int
) -> Floats:
    from distillens.explainers.explain import explain

    test: Any = dataset.test.inputs
    if not rows:
        return np.zeros((0, len(test.columns)))
    train: Any = dataset.train.inputs
    drawn = np.random.default_rng([seed, 7]).permutation(len(train))[: settings.background]
    made = explain(model, test.take(range(rows)), method=settings.explainer, target=np.asarray(target, dtype=np.int64),
                   background=train.take(np.sort(drawn)), budget=settings.budget, seed=seed)  # fmt: skip
    return made.values.reshape(rows, -1)


def per_row(dataset: Dataset, teacher: Asked, student: Asked) -> pd.DataFrame:
    """One line a test row: row_id, label, the decisions and probabilities of both, and the four measures."""
    import pandas as pd

    labels = np.asarray(dataset.test.labels, dtype=np.int64)
    ours, theirs = student.outputs.argmax(axis=1), teacher.outputs.argmax(axis=1)
    n = len(labels)
    return pd.DataFrame(
        {
            "row_id": dataset.test.inputs.row_ids,
            "label": labels,
            "teacher_decision": theirs,
            "teacher_probability": _top(teacher.outputs),
            "student_decision": ours,
            "student_probability": _top(student.outputs),
            "accuracy": (ours == labels).astype(np.float64),
            "agreement": (ours == theirs).astype(np.float64),
            "saliency": _filled(cosines(teacher.saliency, student.saliency), n),
            "explainer": _filled(cosines(teacher.attributions, student.attributions), n),
        }
    )


def cosines(reference: Floats, other: Floats) -> Floats:
    """(n,) cosine of rows; NaN where the reference is zero, 0 where only the other is: a map of nothing agrees with none."""
    lengths, others = np.linalg.norm(reference, axis=1), np.linalg.norm(other, axis=1)
    inner = (reference * other).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(others > 0, inner / (lengths * others), 0.0)
    return np.where(lengths > 0, np.clip(found, -1.0, 1.0), np.nan)


def _filled(values: Floats, n: int) -> Floats:
    return np.concatenate([values, np.full(n - len(values), np.nan)])


def _top(logits: Floats) -> Floats:
    """(n,) probability of the decision."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1))

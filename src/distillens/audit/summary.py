"""A few numbers of one model on a validation split: for choosing a student, for terminal lines and model records.

Point values only: nothing here is a finding. Findings come from the audit, on the test split, with intervals.
"""

from __future__ import annotations

import numpy as np

from distillens.data.base import Split
from distillens.metrics.performance import log_loss, roc_auc
from distillens.metrics.prediction import agrees, r2_to_teacher, rmse
from distillens.models.base import Decision, Model, as_probabilities, evaluate, log_odds, log_probabilities
from distillens.similarity import kl_divergence


def validation_summary(
    model: Model, teacher: Model | None, split: Split, decision: Decision | None
) -> dict[str, float]:
    """Numbers of `model` on a split, beside the teacher where one is given.

    Classification: agreement, kl (teacher‖model, nats) with the teacher; accuracy, log_loss and, for two classes, auc
    with the labels. Regression: rmse_to_teacher, r2_to_teacher; rmse, r2. What cannot be known (no labels, one class) is left out.
    """
    outputs = evaluate(model, split.inputs)
    weights = (
        np.ones((1, len(split))) if split.weights is None else np.asarray(split.weights, dtype=np.float64)[None, :]
    )

    def mean(per_row: np.ndarray) -> float:
        return float((weights[0] * per_row).sum() / weights[0].sum())

    found: dict[str, float] = {}
    if model.output == "values":
        if teacher is not None:
            reference = evaluate(teacher, split.inputs)[:, 0]
            found["rmse_to_teacher"] = float(rmse(reference, outputs[:, 0], weights)[0])
            found["r2_to_teacher"] = float(r2_to_teacher(reference, outputs[:, 0], weights)[0])
        if split.labels is not None:
            labels = np.asarray(split.labels, dtype=np.float64)
            found["rmse"] = float(rmse(labels, outputs[:, 0], weights)[0])
            found["r2"] = float(r2_to_teacher(labels, outputs[:, 0], weights)[0])
        return {name: value for name, value in found.items() if np.isfinite(value)}

    decide = decision or Decision()
    decided = decide(as_probabilities(outputs, model.output))
    logs = log_probabilities(outputs, model.output)
    if teacher is not None:
        answers = evaluate(teacher, split.inputs)
        found["agreement"] = mean(agrees(decide(as_probabilities(answers, teacher.output)), decided))
        found["kl"] = mean(kl_divergence(log_probabilities(answers, teacher.output), logs))
    if split.labels is not None:
        truth = np.asarray(split.labels, dtype=np.int64)
        found["accuracy"] = mean(agrees(truth, decided))
        found["log_loss"] = mean(log_loss(logs, truth))
        if outputs.shape[1] == 2:
            score = log_odds(outputs, output=model.output, target=decide.adverse)
            found["auc"] = float(roc_auc(score, truth == decide.adverse)(weights)[0])
    return {name: value for name, value in found.items() if np.isfinite(value)}

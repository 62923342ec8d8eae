"""Every metric of the dictionary turns up in the audit of a task it says it is for, and of no other task."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.audit.audit import audit
from distillens.data.base import Column, Table
from distillens.metrics.base import METRICS
from distillens.models.callable import CallableModel

TASKS = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_is_computed_where_it_applies(task: str) -> None:
    classes = TASKS[task]
    rng = np.random.default_rng(0)
    rows = Table(rng.normal(size=(160, 4)), tuple(Column(f"x{j}") for j in range(4)), np.arange(160))
    background = rows.take(np.arange(10))
    width = len(classes) or 1
    truth = rng.normal(size=(4, width))

    def model(label: str, noise: float) -> CallableModel:
        weights = truth + noise * np.random.default_rng(1).normal(size=truth.shape)
        return CallableModel(lambda t: t.values @ weights, classes, "logits" if classes else "values", label)

    scores = rows.values @ truth + rng.normal(size=(160, width))
    labels = scores.argmax(axis=1) if classes else scores[:, 0]
    made = audit(
        model("teacher", 0.0), model("student", 0.3), rows, labels, background=background, reference=background, seed=0
    ).to_json()
    found = {m["name"] for m in made["metrics"]}
    assert {name for name, metric in METRICS.items() if task in metric.tasks} - found == set()
    known = {m["name"]: m for m in made["metrics"] if m["name"] in METRICS}
    assert all(task in METRICS[name].tasks for name in known)

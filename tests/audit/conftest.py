"""Models whose reasons are known exactly, and the rows to audit them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from distillens.audit.audit import audit
from distillens.audit.result import Audit
from distillens.data.base import Column, Table
from distillens.explainers.base import Explanation
from distillens.models.base import from_log_odds


@dataclass(frozen=True, eq=False)
class Linear:
    """Log-odds x·w + b (two classes), or the value itself (no classes)."""

    label: str
    w: np.ndarray
    b: float = 0.0
    classes: tuple[str, ...] = ("good", "bad")
    output: str = "logits"
    fingerprint: str | None = None

    def score(self, inputs: Table) -> np.ndarray:
        return inputs.values @ self.w + self.b

    def __call__(self, inputs: Table) -> np.ndarray:
        score = self.score(inputs)
        return from_log_odds(score) if self.classes else score[:, None]


@dataclass(frozen=True, eq=False)
class Softmax:
    """Several classes: logits x·W."""

    label: str
    w: np.ndarray
    classes: tuple[str, ...] = ("a", "b", "c")
    output: str = "logits"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> np.ndarray:
        return inputs.values @ self.w


def explanation(model: Linear, inputs: Table, *, centre: float = 0.0, method: str = "exact") -> Explanation:
    """w (x − centre): the exact Shapley values of a linear model whose background has this mean."""
    values = (inputs.values - centre) * model.w
    score, n = model.score(inputs), len(inputs)
    base = score - values.sum(axis=1)
    return Explanation(
        values=values, base=base, output=score, residual=np.zeros(n), stderr=None, units=inputs.names,
        target=np.full(n, 1 if model.classes else 0), scale="log_odds" if model.classes else "value", method=method, exact=True,
        row_ids=inputs.row_ids, background_ids=np.zeros(0, dtype=np.int64), budget=0, seed=0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class World:
    """Rows, labels drawn from the teacher, the teacher, its seed twin and the controls."""

    inputs: Table
    labels: np.ndarray
    background: Table
    teacher: Linear
    controls: Mapping[str, Any] = field(default_factory=dict)

    def explained(self, student: Linear, rows: np.ndarray | None = None) -> dict[str, dict[str, Explanation]]:
        inputs = self.inputs if rows is None else self.inputs.take(rows)
        models = {"teacher": self.teacher, "student": student, **self.controls}
        roles = {role: explanation(model, inputs) for role, model in models.items()}
        roles |= {f"{role}.repeat": explanation(models[role], inputs, centre=0.05) for role in ("teacher", "student")}
        return {"exact": roles}

    def audit(self, student: Any, **options: Any) -> Audit:
        """An audit with everything known, unless an option says otherwise."""
        known: dict[str, Any] = {"controls": self.controls, "background": self.background, "draws": 200}
        if isinstance(student, Linear) and "explanations" not in options:
            known["explanations"] = self.explained(student)
        return audit(self.teacher, student, self.inputs, options.pop("labels", self.labels), **(known | options))


@pytest.fixture(scope="session")
def softmax() -> type[Softmax]:
    """The model of several classes."""
    return Softmax


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    """A maker of worlds: rows, seed, how far the twin is from the teacher, classification or regression."""

    def make(n: int = 400, *, seed: int = 0, twin: float = 0.05, regression: bool = False, features: int = 6) -> World:
        rng = np.random.default_rng(seed)
        columns = tuple(Column(f"x{j}") for j in range(features))
        inputs = Table(rng.normal(size=(n, features)), columns, np.arange(n, dtype=np.int64) * 3 + 7)
        background = Table(rng.normal(size=(60, features)), columns, np.arange(60, dtype=np.int64) + 10**6)
        w = 3.0 * 0.7 ** np.arange(features) * np.where(np.arange(features) % 2, -1, 1)
        classes = () if regression else ("good", "bad")
        output = "values" if regression else "logits"

        def model(label: str, weights: np.ndarray) -> Linear:
            return Linear(label, weights, 0.0, classes, output)

        teacher = model("teacher", w)
        score = teacher.score(inputs)
        labels = (
            score + rng.normal(size=n) if regression else (rng.random(n) < 1 / (1 + np.exp(-score))).astype(np.int64)
        )
        controls = {
            "twin": model("twin", w + twin * rng.normal(size=features)),
            "undistilled": model("undistilled", w + 0.4 * rng.normal(size=features)),
            "random_teacher": model("random_teacher", rng.normal(size=features)),
        }
        return World(inputs, labels, background, teacher, controls)

    return make

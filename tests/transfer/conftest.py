"""Small synthetic tasks with a known truth, and families that are quick to fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distillens.data.base import Column, Split, Table
from distillens.models.base import Model, Output
from distillens.transfer.targets import Targets


def make_split(n: int, *, seed: int, classes: int, features: int = 4, noise: float = 1.0) -> Split:
    """Rows of standard normals; the first two features decide, noisily. classes = 0: regression."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    score = 2.0 * x[:, 0] - x[:, 1] + noise * rng.logistic(size=n)
    labels: NDArray[Any] = (
        score if classes == 0 else np.digitize(score, np.linspace(-2, 2, classes + 1)[1:-1]).astype(np.int64)
    )
    columns = tuple(Column(f"x{j}") for j in range(features))
    return Split(Table(x, columns, np.arange(n) + 1000 * seed), labels)


@pytest.fixture
def splits() -> Any:
    return make_split


@dataclass(frozen=True, eq=False)
class FunctionModel:
    """A model from a plain function of the values."""

    function: Any
    classes: tuple[str, ...] = ("no", "yes")
    output: Output = "probabilities"
    label: str = "function"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> NDArray[np.float64]:
        return np.asarray(self.function(inputs.values), dtype=np.float64)


@pytest.fixture
def model_of() -> type[FunctionModel]:
    return FunctionModel


def truth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities from which `make_split` draws two classes."""
    p = 1 / (1 + np.exp(-(2.0 * values[:, 0] - values[:, 1])))
    return np.stack([1 - p, p], axis=1)


@pytest.fixture
def honest() -> FunctionModel:
    return FunctionModel(truth, label="honest")


@dataclass(frozen=True)
class Memory:
    """A family that knows its training rows by heart and answers all others with the class shares (or the mean)."""

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> FunctionModel:
        known = {row.tobytes(): answer for row, answer in zip(targets.inputs.values, targets.outputs, strict=True)}
        usual = targets.outputs.mean(axis=0)
        return FunctionModel(
            lambda values: np.stack([known.get(row.tobytes(), usual) for row in np.ascontiguousarray(values)]),
            targets.classes, targets.output, "memory",
        )  # fmt: skip


@pytest.fixture
def memory() -> Memory:
    return Memory()


@dataclass(frozen=True)
class LeastSquares:
    """A linear fit of the targets' log-odds (or values): the quickest student there is."""

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> FunctionModel:
        design = np.column_stack([np.ones(len(targets)), targets.inputs.values])
        answers = targets.log_odds(1) if targets.classes else targets.outputs[:, 0]
        root = np.sqrt(targets.weights)
        coefficients = np.linalg.lstsq(design * root[:, None], answers * root, rcond=None)[0]
        if out is not None:
            (out / "history.json").write_text(str(len(targets)))

        def answer(values: NDArray[np.float64]) -> NDArray[np.float64]:
            score = coefficients[0] + values @ coefficients[1:]
            return np.stack([-score / 2, score / 2], axis=1) if targets.classes else score[:, None]

        return FunctionModel(answer, targets.classes, "logits" if targets.classes else "values", "least squares")


@pytest.fixture
def least_squares() -> LeastSquares:
    return LeastSquares()

"""Several teachers as one: what the mean and the confidence of members say, written out, and a student that learns from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.errors import InputError, ModelError
from distillens.exporters.onnx import OnnxExport
from distillens.models.base import Output
from distillens.models.ensemble import EnsembleModel
from distillens.models.onnx import OnnxModel
from distillens.models.store import load_model, save_model
from distillens.students.ensemble import EnsembleFamily
from distillens.transfer.targets import Targets


@dataclass
class Says:
    """The same answer for every row."""

    p: Any
    classes: tuple[str, ...] = ("a", "b", "c")
    label: str = "says"
    output: Output = "probabilities"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> Any:
        return np.repeat(np.array([self.p], dtype=float), len(inputs), axis=0)


ROWS = Table(np.zeros((2, 1)), (Column("x"),), np.arange(2))


def test_the_mean_and_its_weights() -> None:
    first, second = Says((0.7, 0.2, 0.1)), Says((0.1, 0.1, 0.8))
    np.testing.assert_allclose(EnsembleModel((first, second), (0.25, 0.75))(ROWS)[0], [0.25, 0.125, 0.625])
    values = EnsembleModel((Says((2.0,), (), output="values"), Says((4.0,), (), output="values")), (0.5, 0.5))
    np.testing.assert_allclose(values(ROWS), [[3.0], [3.0]])


def test_confidence_listens_to_whoever_is_sure() -> None:
    sure, undecided = Says((1.0, 0.0, 0.0)), Says((1 / 3, 1 / 3, 1 / 3))
    np.testing.assert_allclose(
        EnsembleModel((sure, undecided), (0.5, 0.5), "confidence")(ROWS)[0], [1, 0, 0], atol=1e-12
    )
    np.testing.assert_allclose(EnsembleModel((undecided, undecided), (0.5, 0.5), "confidence")(ROWS)[0], [1 / 3] * 3)
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6])
    sureness = [1 + (v * np.log(v)).sum() / np.log(3) for v in (p, q)]
    expected = (sureness[0] * p + sureness[1] * q) / sum(sureness)
    np.testing.assert_allclose(EnsembleModel((Says(p), Says(q)), (0.5, 0.5), "confidence")(ROWS)[0], expected)


def test_classes_in_another_order_are_put_in_order() -> None:
    swapped = Says((0.8, 0.1, 0.1), ("c", "b", "a"))
    np.testing.assert_allclose(EnsembleModel((Says((0.7, 0.2, 0.1)), swapped), (0.5, 0.5))(ROWS)[0], [0.4, 0.15, 0.45])
    with pytest.raises(ModelError):
        EnsembleModel((Says((0.7, 0.3), ("a", "b")), Says((0.7, 0.2, 0.1))), (0.5, 0.5))
    with pytest.raises(ModelError, match="at least two"):
        EnsembleModel((Says((0.7, 0.2, 0.1)),), (1.0,))


def data(n: int = 200) -> tuple[Split, Split]:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 3))
    labels = (values[:, 0] + values[:, 1] ** 2 > 0.5).astype(np.int64)
    columns = tuple(Column(name) for name in "abc")
    half = n // 2
    return tuple(  # type: ignore[return-value]
        Split(Table(values[s], columns, np.arange(n)[s]), labels[s]) for s in (slice(0, half), slice(half, n))
    )


@pytest.mark.parametrize("combine", ["mean", "confidence"])
def test_fitted_stored_exported(tmp_path: Path, combine: Any) -> None:
    train, validation = data()
    net = {"kind": "network", "epochs": 5, "model": {"kind": "mlp", "hidden": [4]}}
    family = EnsembleFamily(({"kind": "tree", "max_leaves": 5}, net, net), combine, weights=(1, 2, 1))
    model = family.fit(
        Targets.from_labels(train, ("no", "yes")), validation=validation, teacher=None, seed=0, out=tmp_path
    )
    assert (tmp_path / "member-1" / "history.json").exists()
    assert model.weights == (0.25, 0.5, 0.25)
    assert not np.allclose(
        model.members[1](validation.inputs), model.members[2](validation.inputs)
    )  # seeds of their own
    answers = model(validation.inputs)
    np.testing.assert_allclose(answers.sum(axis=1), 1)
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert np.array_equal(again(validation.inputs), answers)
    assert again.fingerprint == model.fingerprint
    OnnxExport()(model, tmp_path / "model.onnx")
    np.testing.assert_allclose(OnnxModel.load(tmp_path / "model.onnx")(validation.inputs), answers, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": ({"kind": "tree"},)}, "at least two"),
        ({"members": ({"kind": "tree"}, {"kind": "forest"})}, "no teacher 'forest'"),
        ({"members": ({"kind": "tree"}, {"kind": "tree", "max_leafs": 3})}, "max_leafs"),
        ({"weights": (1.0,)}, "one positive number for each"),
        ({"combine": "vote"}, "mean or confidence"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EnsembleFamily(**options)

"""The file answers as the model does: every family, every task, with missing, unseen and hostile everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distillens.data.base import Table
from distillens.exporters.onnx import OnnxExport
from distillens.exporters.parity import parity
from distillens.models.base import Decision, as_probabilities
from distillens.models.onnx import OnnxModel

# Own emitters compute in double precision, networks in float32.
EXACT = {"linear": 1e-12, "tree": 0.0, "additive": 1e-12, "network": 1e-6, "boosted_trees": 1e-12}
DECISIONS = {"binary": Decision(1, 0.3), "multiclass": Decision(2), "regression": None}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("family", ["linear", "tree", "additive", "network"])
def test_the_file_answers_as_the_model(family: str, task: str, models, table: Table, tmp_path: Path) -> None:
    model, decision = models(family, task), DECISIONS[task]
    OnnxExport()(model, tmp_path / "m.onnx", decision=decision)
    exported = OnnxModel.load(tmp_path / "m.onnx")
    assert (exported.classes, exported.output, exported.columns) == (model.classes, model.output, table.columns)
    found = parity(model, exported, table, decision=decision)
    scale = max(1.0, float(np.abs(model(table)).max())) if task == "regression" else 1.0
    assert found["max_abs_difference"] <= EXACT[family] * scale
    assert found["rows"] == len(table)
    assert found["flips"] == found["flips_beyond_tolerance"] == 0
    np.testing.assert_array_equal(exported(table), exported.as_whole_file()(table))
    tolerance = 2e-5 if family == "network" else 1e-11
    np.testing.assert_allclose(exported(table), model(table), rtol=tolerance, atol=tolerance)
    if decision is not None:
        expected = decision(as_probabilities(model(table), model.output))
        np.testing.assert_array_equal(exported.decide(table), expected)
        np.testing.assert_array_equal(exported.as_whole_file().decide(table), expected)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_boosted_trees(task: str, table: Table, tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    from distillens.data.base import Column
    from distillens.models.boosted import BoostedTrees, Preparation

    generator = np.random.default_rng(0)
    values = table.values  # in float64: thresholds are numbers that occur, and float32 cannot hold them
    many = generator.integers(-1, 300, len(table)).astype(np.float64)  # more categories than the trees can hold
    columns = (*table.columns, Column("many", "categorical", tuple(f"c{i}" for i in range(300))))
    rows = Table(np.column_stack([values, many]), columns, table.row_ids)
    prepared = Preparation.fit(rows)
    score = (
        np.nan_to_num(values[:, 0]) / 20
        + np.nan_to_num(values[:, 1], nan=2)
        + (many % 3)
        + generator.normal(size=len(rows))
    )
    settings = {
        "max_iter": 10,
        "max_leaf_nodes": 15,
        "categorical_features": prepared.categorical,
        "random_state": 0,
        "early_stopping": False,
    }
    classes = {"binary": ("a", "b"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    edges = np.quantile(score, np.arange(1, len(classes)) / max(len(classes), 1))
    labels = np.searchsorted(edges, score) if classes else score
    estimator = (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(**settings)
    with threadpool_limits(1):
        estimator.fit(prepared(rows.values), labels)
    model = BoostedTrees.from_sklearn(estimator, prepared, classes=classes, label="boosted")
    OnnxExport()(model, tmp_path / "m.onnx")
    exported = OnnxModel.load(tmp_path / "m.onnx")
    assert any(model.fields["is_categorical"])
    with threadpool_limits(1):
        np.testing.assert_allclose(exported(rows), model(rows), rtol=1e-12, atol=1e-12)
        assert parity(model, exported, rows, decision=None)["max_abs_difference"] <= 1e-12


def test_parity_counts_flips_and_tells_near_ties_from_clear_ones(table: Table) -> None:
    class Fixed:
        label, classes, output, fingerprint = "fixed", ("no", "yes"), "probabilities", None

        def __init__(self, yes: list[float]) -> None:
            self.yes = np.array(yes)

        def __call__(self, inputs: Table) -> np.ndarray:
            return np.stack([1 - self.yes, self.yes], axis=1)

    rows = table.take([0, 1, 2, 3])
    own, other = Fixed([0.1, 0.3, 0.300001, 0.6]), Fixed([0.1, 0.299999, 0.31, 0.2])
    found = parity(own, other, rows, decision=Decision(1, 0.3), tolerance=1e-5)
    assert found == {
        "rows": 4,
        "max_abs_difference": pytest.approx(0.4),
        "flips": 2,
        "flips_beyond_tolerance": 1,
        "tolerance": 1e-5,
    }


def test_a_leaf_exactly_at_the_threshold_is_decided_as_before(models, table: Table, tmp_path: Path) -> None:
    """7 in 10 is 0.7 in double precision, but 0.699999988 in float32."""
    from dataclasses import replace

    model = models("tree", "binary")
    model = replace(model, value=np.tile([1 - 0.7, 0.7], (len(model.value), 1)))
    OnnxExport()(model, tmp_path / "m.onnx", decision=Decision(1, 0.7))
    exported = OnnxModel.load(tmp_path / "m.onnx")
    assert (exported.decide(table) == 1).all()
    assert parity(model, exported, table, decision=Decision(1, 0.7))["flips"] == 0


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_models_that_ask_nothing(task: str, models, table: Table, tmp_path: Path) -> None:
    """A tree of one leaf, an additive model without terms."""
    from dataclasses import replace

    stump = models("tree", task)
    leaf = {
        name: getattr(stump, name)[-1:] for name in ("feature", "threshold", "left", "right", "missing_left", "value")
    }
    for number, model in enumerate((replace(stump, **leaf), replace(models("additive", task), terms=()))):
        path = tmp_path / f"{number}.onnx"
        OnnxExport()(model, path)
        np.testing.assert_allclose(OnnxModel.load(path)(table), model(table), rtol=1e-15)


def test_one_row_no_row_and_more_rows_than_a_batch(models, table: Table, tmp_path: Path) -> None:
    big = table.take(np.arange(40_000) % len(table))
    for family in ("linear", "tree", "additive"):
        model = models(family, "binary")
        OnnxExport()(model, tmp_path / "m.onnx")
        exported = OnnxModel.load(tmp_path / "m.onnx", threads=1)
        expected = exported(table)
        np.testing.assert_allclose(exported(big), expected[np.arange(40_000) % len(table)], rtol=0, atol=1e-12)
        np.testing.assert_allclose(exported(table.take([5])), expected[5:6], rtol=0, atol=1e-12)
        assert exported(table.take(np.arange(0))).shape == (0, 2)

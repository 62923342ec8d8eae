"""A rule list as a file: the same rule fires for every row, values at the thresholds, missing and unseen ones included."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.exporters.onnx import OnnxExport
from distillens.exporters.parity import parity
from distillens.models.base import Decision
from distillens.models.encoding import Encoding
from distillens.models.onnx import OnnxModel
from distillens.models.rules import RuleListModel
from distillens.models.tree import float32_floor

CLASSES = {"binary": ("no", "<i>yes</i>"), "multiclass": ("a", "b", "ç 类"), "regression": ()}


def rules(task, table, count=25, seed=7):
    """Random rules with thresholds at values that occur."""
    generator = np.random.default_rng(seed)
    encoding = Encoding.fit(table, standardize=False, fill_missing=False)
    encoded = encoding(table.values)
    rule = np.repeat(np.arange(count), generator.integers(2, 5, count))
    feature = generator.integers(encoding.width, size=len(rule))
    threshold = []
    for d in feature:
        seen = encoded[~np.isnan(encoded[:, d]), d]
        threshold.append(generator.choice(seen) if len(np.unique(seen)) > 2 else 0.5)
    k = len(CLASSES[task]) or 1
    value = generator.dirichlet(np.ones(k), count + 1) if CLASSES[task] else generator.normal(0, 1e4, (count + 1, 1))
    return RuleListModel(
        table.columns, CLASSES[task], "rules", encoding, rule, feature, float32_floor(np.array(threshold)),
        generator.random(len(rule)) < 0.5, value, np.full(count + 1, 1 / (count + 1)),
    )  # fmt: skip


@pytest.mark.parametrize("task", list(CLASSES))
def test_the_file_fires_the_same_rules(task, table, tmp_path):
    model = rules(task, table)
    assert len(np.unique(model.fires(table))) > 8
    decision = Decision(1, 0.3) if task == "binary" else None
    OnnxExport()(model, tmp_path / "m.onnx", decision=decision)
    exported = OnnxModel.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(exported(table), model(table))
    assert parity(model, exported, table, decision=decision)["flips"] == 0


def test_a_list_without_rules(table, tmp_path):
    model = rules("binary", table, count=0)
    OnnxExport()(model, tmp_path / "m.onnx")
    np.testing.assert_array_equal(OnnxModel.load(tmp_path / "m.onnx")(table), model(table))

"""A scorecard as a file: the same points, decisions and probabilities, for hostile, missing and unseen values."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.data.base import Split
from distillens.exporters.onnx import OnnxExport
from distillens.exporters.parity import parity
from distillens.models.base import Decision
from distillens.models.onnx import OnnxModel
from distillens.students.scorecard import ScorecardStudent
from distillens.transfer.targets import Targets


@pytest.mark.parametrize("integer", [True, False])
def test_the_file_answers_as_the_card(integer, table, tmp_path):
    generator = np.random.default_rng(0)
    score = (
        np.nan_to_num(table.values[:, 0] - 40) / 10
        + np.nan_to_num(table.values[:, 2])
        + generator.normal(size=len(table))
    )
    targets = Targets.from_outputs(
        Split(table), np.column_stack([-score, score]) / 2, output="logits", classes=("no", "<i>yes</i>")
    )
    model = ScorecardStudent(integer=integer, min_iv=0).fit(targets, validation=Split(table), teacher=None, seed=0)
    assert len(model.characteristics) >= 3
    decision = Decision(1, 0.3)
    OnnxExport()(model, tmp_path / "m.onnx", decision=decision)
    exported = OnnxModel.load(tmp_path / "m.onnx")
    found = parity(model, exported, table, decision=decision)
    assert found["max_abs_difference"] <= 1e-12
    assert found["flips"] == 0
    logits = exported(table)
    np.testing.assert_allclose(
        model.offset + model.factor * (logits[:, 0] - logits[:, 1]), model.points(table), atol=1e-8
    )

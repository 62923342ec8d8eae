"""SHAP dependence as data: values, attributions, bins and rank correlations, against NumPy written out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from distillens.data.base import Column, Table
from distillens.errors import DataError, InputError
from distillens.explainers.dependence import dependence
from distillens.explainers.explain import explain
from distillens.explainers.shapley import KernelShap


@pytest.fixture
def case(rng, table, linear):
    x, b = table(rng.normal(size=(40, 3)), first_id=100), table(rng.normal(size=(9, 3)))
    weights = (np.array([[2.0], [-1.0], [0.5]]), np.array([[-2.0], [-1.0], [0.5]]))
    made = {
        name: explain(linear(w, np.zeros(1)), x, background=b, method="exact_shapley")
        for name, w in zip(("teacher", "student"), weights, strict=True)
    }
    return x, b, made


def test_a_linear_model_has_a_straight_line(case):
    x, b, made = case
    found = dependence(made, x.take(np.arange(40)[::-1]), "x0")
    np.testing.assert_array_equal(found.row_ids, x.row_ids)
    np.testing.assert_array_equal(found.values, x.values[:, 0])
    centred = x.values[:, 0] - b.values[:, 0].mean()
    np.testing.assert_allclose(found.attributions["teacher"], 2 * centred, atol=1e-10)
    np.testing.assert_allclose(found.attributions["student"], -2 * centred, atol=1e-10)
    assert found.rank_correlation() == {"teacher": pytest.approx(1), "student": pytest.approx(-1)}
    assert found.stderr == {"teacher": None, "student": None}
    assert dependence(made["teacher"], x, "x1").rank_correlation() == {"linear": pytest.approx(-1)}


def test_bins_hold_every_row_once_and_their_own_means(case):
    x, _, made = case
    found = dependence(made, x, "x2")
    summary = found.summary(bins=5)
    assert sum(line["rows"] for line in summary) == 40
    assert all(7 <= line["rows"] <= 9 for line in summary)  # a quantile may fall on either of two rows
    order, at = np.argsort(x.values[:, 2]), 0
    for line in summary:
        here = found.attributions["student"][order[at : at + line["rows"]]]
        at += line["rows"]
        assert line["mean"]["student"] == pytest.approx(here.mean())
        assert line["spread"]["student"] == pytest.approx(here.std())
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert record["feature"] == "x2"
    assert record["attributions"]["teacher"] == found.attributions["teacher"].tolist()
    frame = found.to_frame()
    assert list(frame.columns) == ["row_id", "x2", "code", "teacher", "teacher stderr", "student", "student stderr"]
    assert len(frame) == 40


def test_missing_values_and_categories_have_lines_of_their_own(rng, formula):
    columns = (Column("number"), Column("colour", "categorical", ("red", "blue")))
    values = np.column_stack([rng.normal(size=12), rng.integers(0, 2, 12).astype(float)])
    values[3] = np.nan
    x = Table(values, columns, np.arange(12))
    model = formula(lambda v: np.nan_to_num(v[:, 0], nan=4.0) + np.nan_to_num(v[:, 1], nan=-3.0))
    made = explain(model, x, background=x.take([0, 1, 2]))
    number = dependence(made, x, "number")
    assert number.summary(bins=3)[-1]["label"] == "missing"
    assert number.summary(bins=3)[-1]["rows"] == 1
    known = ~np.isnan(values[:, 0])
    expected = spearmanr(values[known, 0], number.attributions["formula"][known]).statistic
    assert number.rank_correlation()["formula"] == pytest.approx(expected)
    json.dumps(number.to_json(), allow_nan=False)
    colour = dependence(made, x, "colour")
    assert [line["label"] for line in colour.summary()] == ["red", "blue", "missing"]
    assert [line["rows"] for line in colour.summary()] == [
        int((values[:, 1] == 0).sum()),
        int((values[:, 1] == 1).sum()),
        1,
    ]
    assert colour.rank_correlation() == {"formula": None}
    constant = Table(np.column_stack([np.ones(12), values[:, 1]]), columns, x.row_ids)
    (only,) = dependence(explain(model, constant, background=x), constant, "number").summary()
    assert only["label"] == "1"
    assert only["rows"] == 12


def test_what_cannot_be_laid_side_by_side_is_refused(case, linear):
    x, b, made = case
    with pytest.raises(DataError, match="Did you mean 'x0'"):
        dependence(made, x, "x00")
    with pytest.raises(InputError, match="does not hold the explained row 139"):
        dependence(made, x.take(np.arange(39)), "x0")
    with pytest.raises(InputError, match="not of the same rows"):
        dependence({"teacher": made["teacher"], "student": made["student"].take(np.arange(5))}, x, "x0")
    with pytest.raises(InputError, match="different scale"):
        dependence(made | {"student": replace(made["student"], scale="probability")}, x, "x0")
    with pytest.raises(InputError, match="different classes"):
        dependence(made | {"student": replace(made["student"], target=made["student"].target + 1)}, x, "x0")
    with pytest.raises(InputError, match="at least one explanation"):
        dependence({}, x, "x0")
    with pytest.raises(InputError, match="at least one bin"):
        dependence(made, x, "x0").summary(bins=0)
    grouped = explain(
        linear(np.ones((3, 1)), np.zeros(1)), x, background=b, method=KernelShap(groups={"both": ["x0", "x1"]})
    )
    with pytest.raises(InputError, match="part of a group"):
        dependence(grouped, x, "x0")

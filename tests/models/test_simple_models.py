"""Constant models, callables, class order, monotone checks."""

import dataclasses

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import DataError, ModelError
from distillens.models.base import Model
from distillens.models.callable import CallableModel, align_classes
from distillens.models.constant import ConstantModel
from distillens.models.monotone import signs, violations
from distillens.models.store import load_model, save_model

TABLE = Table(
    np.array([[0.0, 0, 1], [1.0, 1, 0], [2.0, 2, 1], [np.nan, 0, 0]]),
    (Column("x"), Column("c", "categorical", ("u", "v", "w")), Column("b", "boolean", ("no", "yes"))),
    np.arange(4),
)


def linear(table):
    s = np.nan_to_num(table.values[:, 0])
    return np.column_stack([-s, s])


def test_constant_frequencies_and_mean(tmp_path):
    model = ConstantModel.from_labels(np.array([0, 1, 1, 2]), ("a", "b", "c"), weights=np.array([1.0, 1, 1, 5]))
    np.testing.assert_allclose(model(TABLE), np.tile([1 / 8, 2 / 8, 5 / 8], (4, 1)))
    save_model(model, tmp_path / "c.safetensors")
    back = load_model(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(back(TABLE), model(TABLE))
    assert back.fingerprint == model.fingerprint
    value = ConstantModel.from_labels(np.array([1.0, np.nan, 4.0]), ())
    np.testing.assert_array_equal(value(TABLE), np.full((4, 1), 2.5))
    assert value.output == "values"


def test_constant_refuses_nonsense():
    with pytest.raises(DataError, match="at least one label"):
        ConstantModel.from_labels(np.array([np.nan]), ())
    with pytest.raises(ModelError, match="sum to 1"):
        ConstantModel(("a", "b"), np.array([0.5, 0.6]))
    with pytest.raises(ModelError, match="needs 2 finite"):
        ConstantModel(("a", "b"), np.array([1.0]))


def test_callable_is_a_checked_model():
    model = CallableModel(linear, ("n", "y"), "logits", "mine", version="7")
    assert isinstance(model, Model)
    assert model.fingerprint is None
    np.testing.assert_array_equal(model(TABLE), linear(TABLE))
    one = CallableModel(lambda t: np.ones(len(t)), (), "values", "flat")
    assert one(TABLE).shape == (4, 1)
    for function, message in (
        (lambda t: np.ones((len(t), 3)), "shape"),
        (lambda t: np.full((len(t), 2), np.nan), "NaN"),
    ):
        with pytest.raises(ModelError, match=message):
            CallableModel(function, ("n", "y"), "logits", "bad")(TABLE)
    with pytest.raises(ModelError, match="classes and returns"):
        CallableModel(linear, ("n", "y"), "values", "bad")
    with pytest.raises(ModelError, match="one class only"):
        CallableModel(linear, ("n",), "logits", "bad")


def test_classes_in_another_order():
    model = CallableModel(linear, ("n", "y"), "logits", "mine", fingerprint="abc")
    assert align_classes(model, ("n", "y")) is model
    turned = align_classes(model, ("y", "n"))
    np.testing.assert_array_equal(turned(TABLE), linear(TABLE)[:, ::-1])
    assert turned.classes == ("y", "n")
    assert turned.fingerprint not in (None, "abc")
    assert align_classes(dataclasses.replace(model, fingerprint=None), ("y", "n")).fingerprint is None


@pytest.mark.parametrize(
    ("own", "classes", "message"),
    [
        (("good", "bad"), ("good", "badd"), "Did you mean 'badd'"),
        (("a", "b"), ("a", "b", "c"), "no output for 'c'"),
        (("a", "b"), (), "regression"),
        ((), ("a", "b"), "regression"),
    ],
)
def test_other_classes_are_an_error(own, classes, message):
    model = CallableModel(linear, own, "logits" if own else "values", "mine")
    with pytest.raises(ModelError, match=message):
        align_classes(model, classes)


def test_violations_count_steps_against_the_sign():
    up = CallableModel(linear, ("n", "y"), "logits", "up")
    assert violations(up, TABLE, "x", 1) == 0.0
    assert violations(up, TABLE, "x", -1) == 1.0
    assert violations(up, TABLE, "x", 1, target=0) == 1.0

    def bump(table):  # falls between 1 and 2 only, for two rows of four
        x = table.values[:, 0]
        return np.where(table.values[:, 1] == 0, x, np.where(x > 1, 0.0, x))

    grid_of_two_steps = violations(CallableModel(bump, (), "values", "bump"), TABLE, "x", 1, steps=2)
    assert grid_of_two_steps == pytest.approx(2 / 8)


def test_violations_refuse_what_has_no_order():
    model = CallableModel(linear, ("n", "y"), "logits", "up")
    with pytest.raises(DataError, match="categorical"):
        violations(model, TABLE, "c", 1)
    with pytest.raises(DataError, match="-1 or \\+1"):
        violations(model, TABLE, "x", 0)
    with pytest.raises(DataError, match="no feature"):
        violations(model, TABLE, "y", 1)
    flat = TABLE.with_values(np.zeros((3, 3)))
    with pytest.raises(DataError, match="fewer than two"):
        violations(model, flat, "x", 1)


def test_signs():
    np.testing.assert_array_equal(signs({"b": -1, "x": 1, "c": 0}, TABLE), [1, 0, -1])
    for wrong in (True, 2, "1"):
        with pytest.raises(DataError, match="must be -1, 0 or"):
            signs({"x": wrong}, TABLE)


def test_listed_violations_name_the_rows_and_steps():
    """A model that falls between 0 and 1 where the other feature is above 1, and rises elsewhere."""
    from distillens.models.monotone import listed, moves

    table = Table(
        np.column_stack([[0.0, 1.0, 2.0, 1.0], [0.0, 0.0, 2.0, 3.0]]), (Column("x"), Column("z")), np.arange(10, 14)
    )

    def dips(inputs):
        x, z = inputs.values.T
        return (x - np.where((x == 1) & (z > 1), z, 0.0))[:, None]

    model = CallableModel(dips, (), "values", "dips")
    up = CallableModel(lambda t: t.values[:, :1], (), "values", "up")
    (entry,) = listed({"student": model, "teacher": up}, table, {"x": 1, "z": 0}, steps=2)
    assert (entry["feature"], entry["sign"], entry["rows"], entry["steps"]) == ("x", 1, 4, 2)
    changes, grid = moves(model, table, "x", 1, steps=2)
    np.testing.assert_array_equal(grid, [0, 1, 2])
    np.testing.assert_array_equal(changes, [[1, 1], [1, 1], [-1, 3], [-2, 4]])
    assert entry["models"]["teacher"] == {"share": 0.0, "rows": 0.0, "worst": []}
    found = entry["models"]["student"]
    assert found["share"] == 2 / 8 == violations(model, table, "x", 1, steps=2)
    assert found["rows"] == 0.5
    assert [(r["row_id"], r["low"], r["high"], r["change"]) for r in found["worst"]] == [
        (13, "0", "1", -2.0),
        (12, "0", "1", -1.0),
    ]
    (flat,) = listed({"student": up}, table.take([0, 1]), {"z": -1})  # one value of z: nothing to check
    assert (flat["steps"], flat["models"]) == (0, {})
    assert listed({"student": model}, table, {"x": 1}, most=1, rows=2)[0]["rows"] == 2

"""float32 must not flip a row: numbers next to thresholds and cuts go the same way in the model and in the file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from distillens.data.base import Column, Table
from distillens.exporters.onnx import OnnxExport
from distillens.models.additive import AdditiveModel, Term
from distillens.models.encoding import Encoding
from distillens.models.onnx import OnnxModel
from distillens.models.tree import TreeModel

COLUMN = (Column("x"),)
DOUBLES = st.floats(allow_nan=False, width=64)


def around(number: float) -> list[float]:
    """The number, its neighbours among doubles and among float32 numbers, two steps each way."""
    found = [number]
    with np.errstate(over="ignore"):
        for kind in (np.float64, np.float32):
            for towards in (-np.inf, np.inf):
                step = kind(number)
                for _ in range(2):
                    step = np.nextafter(step, kind(towards))
                    found.append(float(step))
        return [*found, float(np.float32(number))]


def rows_of(numbers: list[float]) -> Table:
    values = np.array([x for number in numbers for x in around(number)] + [np.nan, np.inf, -np.inf, 0.0, -0.0])
    return Table(values[:, None], COLUMN, np.arange(len(values)))


def exported(model: TreeModel | AdditiveModel) -> OnnxModel:
    with tempfile.TemporaryDirectory() as folder:
        OnnxExport()(model, Path(folder) / "m.onnx")
        return OnnxModel.load(Path(folder) / "m.onnx", threads=1)


@settings(max_examples=60, deadline=None)
@given(thresholds=st.lists(DOUBLES, min_size=1, max_size=6), missing=st.booleans())
def test_no_row_changes_its_leaf(thresholds: list[float], missing: bool) -> None:
    """A chain of questions whose thresholds are any doubles: the model compares in double, the file in float32."""
    count = len(thresholds)
    feature = np.array([0] * count + [-1] * (count + 1))
    left = np.array([count + i for i in range(count)] + [-1] * (count + 1))
    right = np.array([i + 1 for i in range(count - 1)] + [2 * count] + [-1] * (count + 1))
    table = rows_of(thresholds)
    encoding = Encoding.fit(
        Table(np.zeros((1, 1)), COLUMN, np.zeros(1, dtype=np.int64)), standardize=False, fill_missing=False
    )
    model = TreeModel(
        COLUMN, (), "chain", encoding, feature, np.array([*thresholds, *[0.0] * (count + 1)]), left, right,
        np.full(2 * count + 1, missing), np.arange(2 * count + 1, dtype=np.float64)[:, None],
    )  # fmt: skip
    np.testing.assert_array_equal(exported(model)(table), model(table))


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(DOUBLES, min_size=0, max_size=20, unique=True))
def test_no_row_changes_its_bin(cuts: list[float]) -> None:
    ordered = np.sort(np.array(cuts, dtype=np.float64))
    scores = np.arange(len(cuts) + 3, dtype=np.float64)[:, None]
    model = AdditiveModel(COLUMN, (), "bins", np.zeros(1), (Term((0,), (ordered,), scores),))
    table = rows_of(cuts)
    np.testing.assert_array_equal(exported(model)(table), model(table))


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 70), other=st.integers(0, 70), seed=st.integers(0, 2**32 - 1))
def test_features_with_different_numbers_of_cuts_do_not_disturb_each_other(count: int, other: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    columns = (Column("x"), Column("y"))
    cuts = tuple(np.unique(generator.normal(size=c).astype(np.float32)).astype(np.float64) for c in (count, other))
    pair = generator.normal(size=(len(cuts[0]) + 3, len(cuts[1]) + 3, 1))
    model = AdditiveModel(columns, (), "pair", np.zeros(1), (Term((0, 1), cuts, pair),))
    values = np.concatenate(
        [generator.normal(size=(50, 2)), generator.choice([*cuts[0], np.nan, np.inf, -np.inf], (50, 2))]
    )
    table = Table(values, columns, np.arange(100))
    np.testing.assert_array_equal(exported(model)(table), model(table))

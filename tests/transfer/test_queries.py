"""Query rows: where their values come from, what they weigh, and how many are chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import DataError, InputError, ModelError
from distillens.transfer.rows.choose import choose_queries
from distillens.transfer.rows.queries import distance_to_teacher, smear, with_queries
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")


def numbered(n: int, features: int = 6) -> Table:
    """Every cell tells its row: value = row + feature / 100."""
    values = np.arange(n)[:, None] + np.arange(features) / 100
    return Table(values, tuple(Column(f"x{j}") for j in range(features)), np.arange(n))


def test_every_value_stays_in_its_column_and_is_swapped_as_often_as_asked() -> None:
    table = numbered(50)
    queries = smear(table, rows=2000, seed=0, swap=0.3)
    assert queries.values.shape == (2000, 6)
    assert (queries.row_ids == -1).all()
    for j in range(6):
        assert set(queries.values[:, j]) <= set(table.values[:, j])
    row = np.floor(queries.values + 1e-9)
    base = np.array([np.bincount(r.astype(int)).argmax() for r in row])
    assert (row != base[:, None]).mean() == pytest.approx(0.3, abs=0.03)


def test_columns_keep_their_distribution_and_lose_their_dependence() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1))
    table = Table(np.hstack([x, x]), (Column("a"), Column("b")), np.arange(500))
    queries = smear(table, rows=5000, seed=1, swap=0.5)
    np.testing.assert_allclose(queries.values.mean(axis=0), table.values.mean(axis=0), atol=0.08)
    np.testing.assert_allclose(queries.values.std(axis=0), table.values.std(axis=0), rtol=0.08)
    # Both coordinates stay with probability 1/4; otherwise they come from different rows.
    assert np.corrcoef(queries.values.T)[0, 1] == pytest.approx(0.25, abs=0.06)


def test_all_swapped_means_no_coordinate_of_the_row_itself() -> None:
    table = numbered(9)
    queries = smear(table, rows=9, seed=3, swap=1.0)
    assert len(queries) == 9
    assert sorted(np.floor(smear(table, rows=18, seed=0, swap=1e-12).values[:, 0] + 1e-9)) == sorted([*range(9)] * 2)


def test_missing_values_and_codes_travel() -> None:
    values = np.array([[np.nan, 0.0], [1.0, -1.0], [2.0, 2.0]])
    table = Table(values, (Column("a"), Column("c", "categorical", ("x", "y", "z"))), np.arange(3))
    queries = smear(table, rows=300, seed=0)
    assert np.isnan(queries.values[:, 0]).mean() == pytest.approx(1 / 3, abs=0.08)
    assert set(queries.values[:, 1]) == {0.0, -1.0, 2.0}


def test_smearing_is_a_function_of_the_seed() -> None:
    first, again, other = (smear(numbered(20), rows=40, seed=s).values for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(smear(numbered(20), rows=0, seed=0)) == 0


def test_impossible_smears_say_why() -> None:
    with pytest.raises(DataError, match="at least two rows"):
        smear(numbered(1), rows=5, seed=0)
    for options in ({"rows": 5, "swap": 0.0}, {"rows": 5, "swap": 1.5}, {"rows": -1}):
        with pytest.raises(InputError, match="Smearing needs"):
            smear(numbered(5), seed=0, **options)


def test_queries_are_labelled_by_the_teacher_and_weigh_as_much_as_the_rows(splits: Any, honest: Any) -> None:
    train = replace(splits(30, seed=1, classes=2), weights=np.linspace(1, 3, 30))
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)
    for per_row in (1, 4):
        more = with_queries(targets, honest, per_row=per_row, seed=0)
        assert len(more) == 30 * (1 + per_row)
        np.testing.assert_array_equal(more.is_query, np.arange(len(more)) >= 30)
        np.testing.assert_array_equal(more.inputs.row_ids[:30], train.inputs.row_ids)
        np.testing.assert_allclose(more.outputs, honest(more.inputs))
        assert more.labels is not None
        assert np.isnan(more.labels[30:]).all()
        np.testing.assert_array_equal(more.labels[:30], train.labels)
        assert more.weights[30:].sum() == pytest.approx(train.weights.sum())
        assert more.origin == targets.origin
    assert with_queries(targets, honest, per_row=0, seed=0) is targets
    assert with_queries(targets, honest, per_row=2, seed=0, share=0.5).weights[30:].sum() == pytest.approx(30.0)


def test_answers_are_of_the_kind_the_targets_hold(splits: Any, honest: Any, model_of: Any) -> None:
    train = splits(20, seed=1, classes=2)
    in_logits = model_of(lambda v: np.log(honest.function(v)), CLASSES, "logits")
    as_probabilities = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)
    as_logits = Targets.from_outputs(train, in_logits(train.inputs), output="logits", classes=CLASSES)
    for targets, teacher in ((as_probabilities, in_logits), (as_logits, honest)):
        more = with_queries(targets, teacher, per_row=1, seed=0)
        assert more.output == targets.output
        np.testing.assert_allclose(more.probabilities, honest(more.inputs), rtol=1e-6)


def test_queries_for_nobody_are_errors(splits: Any, honest: Any, model_of: Any) -> None:
    train = splits(20, seed=1, classes=2)
    with pytest.raises(DataError, match="nobody to label"):
        with_queries(Targets.from_labels(train, CLASSES), honest, per_row=1, seed=0)
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)
    with pytest.raises(ModelError, match="classes"):
        with_queries(targets, model_of(honest.function, ("yes", "no")), per_row=1, seed=0)
    with pytest.raises(InputError, match="per_row"):
        with_queries(targets, honest, per_row=-1, seed=0)


@dataclass(frozen=True)
class ByNumber:
    """A family whose distance from the teacher is fixed by the number of rows it was given."""

    distances: dict[int, float]
    model: Any

    def fit(self, targets: Targets, *, out: Path | None = None, **rest: Any) -> Any:
        shift = self.distances[len(targets)]
        if out is not None:
            (out / "history.json").write_text(str(len(targets)))
        return self.model(
            lambda v: np.tile([0.0, shift], (len(v), 1)),
            CLASSES,
            "logits",
        )


@pytest.mark.parametrize(
    ("distances", "best"),
    [({20: 3.0, 40: 1.0, 100: 2.0}, 1), ({20: 1.0, 40: 1.0, 100: 1.0}, 0), ({20: 3.0, 40: 2.0, 100: 0.0}, 4)],
)
def test_the_number_with_the_closest_student_is_chosen(
    splits: Any, model_of: Any, distances: dict[int, float], best: int, tmp_path: Path
) -> None:
    train, validation = splits(20, seed=1, classes=2), splits(10, seed=2, classes=2)
    even = model_of(lambda v: np.full((len(v), 2), 0.5), CLASSES)
    targets = Targets.from_outputs(train, even(train.inputs), output="probabilities", classes=CLASSES)
    found = choose_queries(ByNumber(distances, model_of), targets, even, validation, seed=0, out=tmp_path)
    chosen, tried, model = found.targets, found.tried, found.model
    assert int(chosen.is_query.sum()) == 20 * best
    assert [t["per_row"] for t in tried] == [0, 1, 4]
    p = 1 / (1 + np.exp(-distances[20]))
    assert tried[0]["validation_kl"] == pytest.approx(-0.5 * np.log(4 * p * (1 - p)), abs=1e-9)
    assert tried[0]["validation_rmse"] is None
    assert distance_to_teacher(model, even, validation) == min(t["validation_kl"] for t in tried)
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
    assert (tmp_path / "history.json").read_text() == str(20 * (1 + best))


def test_regression_is_chosen_by_rmse(splits: Any, model_of: Any, least_squares: Any) -> None:
    train, validation = splits(60, seed=1, classes=0), splits(30, seed=2, classes=0)
    teacher = model_of(lambda v: v[:, :1] * 3 + 7, (), "values")
    targets = Targets.from_outputs(train, teacher(train.inputs), output="values", classes=())
    found = choose_queries(least_squares, targets, teacher, validation, candidates=(0, 2), seed=0)
    tried, model = found.tried, found.model
    assert [t["validation_kl"] for t in tried] == [None, None]
    assert tried[0]["validation_rmse"] == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(model(validation.inputs), teacher(validation.inputs), atol=1e-8)


def test_no_candidates_is_an_error(splits: Any, honest: Any, least_squares: Any) -> None:
    train = splits(20, seed=1, classes=2)
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)
    with pytest.raises(InputError, match="no number of query rows"):
        choose_queries(least_squares, targets, honest, train, candidates=(), seed=0)

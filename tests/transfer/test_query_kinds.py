"""Noise, interpolation and disagreement queries, and how usual a made-up row is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError, InputError
from distillens.students.tree import TreeStudent
from distillens.transfer.rows.disagreement import by_disagreement, disagreement, disputed
from distillens.transfer.rows.interpolation import interpolated
from distillens.transfer.rows.manifold import Manifold, nearest
from distillens.transfer.rows.noise import noisy
from distillens.transfer.rows.queries import add_queries, smear
from distillens.transfer.targets import Targets

COLUMNS = (Column("size"), Column("count"), Column("colour", "categorical", ("r", "g", "b")))


def mixed(n: int = 60, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.normal(10, 2, n), rng.integers(0, 9, n), rng.integers(0, 3, n)]).astype(float)
    values[0, 0] = np.nan
    values[1, 2] = np.nan
    return Table(values, COLUMNS, np.arange(n))


def line(n: int) -> Table:
    """Two columns that are equal: the manifold is a line."""
    x = np.random.default_rng(1).uniform(size=(n, 1))
    return Table(np.hstack([x, x]), (Column("a"), Column("b")), np.arange(n))


# ── noise ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_noise_has_the_size_asked_for() -> None:
    x = np.random.default_rng(0).normal(5, 3, size=(400, 1))
    x[:2] = [[-1e3], [1e3]]  # so wide a range that nothing is clipped
    table = Table(x, (Column("x"),), np.arange(400))
    big = noisy(table, rows=40_000, seed=0, scale=0.3).values[:, 0]
    inside = np.abs(big) < 900  # the two far rows are clipped
    # 100 copies of every row: the variances add up.
    core = x[2:, 0]
    assert big[inside].var() == pytest.approx(core.var() + (0.3 * x.std()) ** 2, rel=0.05)


def test_noise_keeps_ranges_whole_numbers_codes_and_gaps() -> None:
    table = mixed()
    moved = noisy(table, rows=3000, seed=0, scale=1.0, swap=0.5).values
    assert (noisy(table, rows=10, seed=0).row_ids == -1).all()
    assert np.nanmin(moved[:, 0]) >= np.nanmin(table.values[:, 0])
    assert np.nanmax(moved[:, 0]) <= np.nanmax(table.values[:, 0])
    assert set(moved[:, 1]) == set(range(9))
    assert set(moved[~np.isnan(moved[:, 2]), 2]) == {0.0, 1.0, 2.0}
    assert np.isnan(moved[:, 0]).sum() == 50  # 3,000 / 60 copies of the one row without a size
    still = noisy(table, rows=60, seed=0, swap=0.0).values
    assert sorted(still[~np.isnan(still[:, 2]), 2]) == sorted(table.values[~np.isnan(table.values[:, 2]), 2])


# ── interpolation ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_interpolated_rows_stay_on_a_line_and_between() -> None:
    table = line(40)
    made = interpolated(table, rows=400, seed=0).values
    np.testing.assert_allclose(made[:, 0], made[:, 1], atol=1e-12)
    assert made.min() >= table.values.min()
    assert made.max() <= table.values.max()
    assert len(set(made[:, 0]) & set(table.values[:, 0])) == 0  # strictly between two rows
    shuffled = smear(table, rows=400, seed=0).values
    assert np.abs(shuffled[:, 0] - shuffled[:, 1]).mean() > 0.05  # smearing leaves the line


def test_interpolation_of_whole_numbers_categories_and_gaps() -> None:
    table = mixed()
    made = interpolated(table, rows=600, seed=3).values
    assert set(made[:, 1]) <= set(range(9))
    assert set(made[~np.isnan(made[:, 2]), 2]) <= {0.0, 1.0, 2.0}
    assert 0 < np.isnan(made[:, 0]).sum() < 60  # its copies, as often as the other row is not taken
    assert len(interpolated(table.take([0, 1, 2]), rows=7, seed=0)) == 7


# ── manifold ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_gowers_distance_by_hand() -> None:
    columns = (Column("x"), Column("c", "categorical", ("r", "g")), Column("y"))
    train = Table(np.array([[0.0, 0.0, 1.0], [10.0, 1.0, np.nan]]), columns, np.arange(2))
    rows = Table(np.array([[4.0, 1.0, np.nan], [2.0, 0.0, 1.0], [30.0, 0.0, 1.0]]), columns, np.arange(3))
    position, distance = nearest(rows, train)
    assert position.tolist() == [1, 0, 0]
    # 6/10 + 0 + 0;  2/10 + 0 + 0;  30/10 counts as 1
    assert distance == pytest.approx([0.6 / 3, 0.2 / 3, 1 / 3])
    assert nearest(train, train)[1].tolist() == [0.0, 0.0]
    assert nearest(train, train, skip_self=True)[1] == pytest.approx([1.0, 1.0])
    with pytest.raises(DataError, match="same columns"):
        nearest(line(3), train)


def test_distances_agree_with_sklearn_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    columns = tuple(Column(f"x{j}") for j in range(5))
    train = Table(rng.uniform(size=(80, 5)), columns, np.arange(80))
    rows = Table(rng.uniform(0.1, 0.9, size=(30, 5)), columns, np.arange(30))
    scaled = train.values / np.ptp(train.values, axis=0)
    peer = NearestNeighbors(n_neighbors=1, metric="manhattan").fit(scaled)
    expected, index = peer.kneighbors(rows.values / np.ptp(train.values, axis=0))
    position, distance = nearest(rows, train)
    assert position.tolist() == index[:, 0].tolist()
    np.testing.assert_allclose(distance, expected[:, 0] / 5)
    monkeypatch.setattr("distillens.transfer.rows.manifold.CELLS", 200)
    np.testing.assert_array_equal(nearest(rows, train)[1], distance)


def test_fresh_rows_score_below_alpha_in_about_alpha_of_cases() -> None:
    rng = np.random.default_rng(0)
    columns = tuple(Column(f"x{j}") for j in range(3))
    below = []
    for _ in range(30):
        train = Table(rng.normal(size=(100, 3)), columns, np.arange(100))
        fresh = Table(rng.normal(size=(100, 3)), columns, np.arange(100))
        below.append((Manifold.of(train).score(fresh) <= 0.1).mean())
    assert np.mean(below) == pytest.approx(0.1, abs=0.02)


def test_what_left_the_manifold_scores_low_and_is_not_kept() -> None:
    table = line(100)
    manifold = Manifold.of(table)
    between, off = interpolated(table, rows=200, seed=0), smear(table, rows=200, seed=0)
    assert np.median(manifold.score(between)) > 0.2
    left = np.abs(off.values[:, 0] - off.values[:, 1]) > 0.2
    assert manifold.score(off)[left].max() < 0.05
    assert manifold.ratio(off)[left].min() > 3 > np.median(manifold.ratio(between))
    kept = manifold.keep(off, least=0.05)
    assert 0 < len(kept) < 200
    assert np.abs(kept.values[:, 0] - kept.values[:, 1]).max() < 0.2
    assert len(manifold.keep(off, least=0.0)) == 200
    assert manifold.score(table).min() == 1.0  # a training row is as usual as can be


# ── disagreement ────────────────────────────────────────────────────────────────────────────────────────────────────
def half(value: float) -> Any:
    return lambda x: np.tile([1 - value, value], (len(x), 1))


def test_disagreement_is_the_divergence(model_of: Any) -> None:
    rows = line(3)
    found = disagreement(model_of(half(0.5)), model_of(half(0.9)), rows)
    assert found == pytest.approx([0.9 * np.log(1.8) + 0.1 * np.log(0.2)] * 3)
    assert disagreement(model_of(half(0.9)), model_of(half(0.9)), rows).tolist() == [0, 0, 0]
    values = {"classes": (), "output": "values"}
    low, high = model_of(lambda x: x[:, :1], **values), model_of(lambda x: x[:, :1] + 2, **values)
    assert disagreement(low, high, rows) == pytest.approx([2, 2, 2])


def test_disputed_rows_are_drawn_where_the_two_differ(model_of: Any) -> None:
    rows = line(200)
    teacher = model_of(lambda x: np.column_stack([1 - 0.8 * (x[:, 0] > 0.7), 0.8 * (x[:, 0] > 0.7)]) * 0.98 + 0.01)
    student = model_of(lambda x: np.column_stack([np.full(len(x), 0.99), np.full(len(x), 0.01)]))
    drawn = disputed(student, teacher, rows, rows=20, seed=0)
    assert len(drawn) == len(set(drawn.row_ids)) == 20
    assert (drawn.values[:, 0] > 0.7).all()
    assert len(disputed(teacher, teacher, rows, rows=20, seed=0)) == 0


@dataclass
class Scripted:
    """A family whose students are as far from the teacher as a script says, one entry a fit."""

    model_of: Any
    script: list[float]
    seen: list[Targets] = field(default_factory=list)

    def fit(self, targets: Targets, *, validation: Split, teacher: Any, seed: int, out: Path | None = None) -> Any:
        self.seen.append(targets)
        return self.model_of(half(self.script[len(self.seen) - 1]))


def test_rounds_aggregate_stop_and_keep_the_best(splits: Any, model_of: Any) -> None:
    train, validation = splits(50, seed=0, classes=2), splits(30, seed=1, classes=2)
    teacher = model_of(half(0.5))
    targets = Targets.from_outputs(train, teacher(train.inputs), output="probabilities", classes=("no", "yes"))
    family = Scripted(model_of, [0.1, 0.3, 0.4, 0.3, 0.2, 0.5])
    found = by_disagreement(family, targets, teacher, validation, rounds=5, patience=2, per_round=0.5, seed=0)
    assert [t["queries"] for t in found.tried] == [0, 25, 50, 75, 100]  # the fifth round is never reached
    assert found.best == 2
    assert found.targets is family.seen[2]
    assert [len(t) for t in family.seen] == [50, 75, 100, 125, 150]
    assert found.tried[2]["validation"] == min(t["validation"] for t in found.tried)
    assert found.targets.weights[found.targets.is_query].sum() == pytest.approx(50)
    earlier = family.seen[1].inputs.values
    np.testing.assert_array_equal(family.seen[2].inputs.values[: len(earlier)], earlier)


def test_a_student_that_agrees_everywhere_asks_nothing(splits: Any, model_of: Any) -> None:
    train = splits(50, seed=0, classes=2)
    teacher = model_of(half(0.3))
    targets = Targets.from_outputs(train, teacher(train.inputs), output="probabilities", classes=("no", "yes"))
    found = by_disagreement(Scripted(model_of, [0.3]), targets, teacher, train, seed=0)
    assert len(found.tried) == 1


def test_a_tree_comes_closer_to_its_teacher(splits: Any, honest: Any) -> None:
    """On rows that chose nothing; the same number of fits on the training rows alone would change nothing."""
    train, validation, test = (splits(n, seed=s, classes=2) for n, s in ((80, 0), (200, 1), (1000, 2)))
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=("no", "yes"))
    student = TreeStudent(max_leaves=12, min_rows=2)
    plain = student.fit(targets, validation=validation, teacher=honest, seed=0)
    found = by_disagreement(student, targets, honest, validation, per_round=2.0, seed=0)
    again = by_disagreement(student, targets, honest, validation, per_round=2.0, seed=0)
    assert found.tried == again.tried
    assert found.best > 0
    assert disagreement(found.model, honest, test.inputs).mean() < disagreement(plain, honest, test.inputs).mean()


def test_impossible_numbers_are_named(splits: Any, honest: Any) -> None:
    one = line(1)
    for make in (noisy, interpolated):
        with pytest.raises(DataError, match="rows"):
            make(one, rows=3, seed=0)
        with pytest.raises(InputError, match="rows ≥ 0"):
            make(line(5), rows=-1, seed=0)
    with pytest.raises(InputError, match="scale"):
        noisy(line(5), rows=1, seed=0, scale=0.0)
    with pytest.raises(DataError, match="two rows"):
        Manifold.of(one)
    with pytest.raises(InputError, match="between 0 and 1"):
        Manifold.of(line(5)).keep(one, least=2)
    train = splits(20, seed=0, classes=2)
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=("no", "yes"))
    with pytest.raises(InputError, match="pool"):
        by_disagreement(TreeStudent(), targets, honest, train, pool=0.5, seed=0)
    with pytest.raises(DataError, match="nobody to label"):
        add_queries(Targets.from_labels(train, ("no", "yes")), honest, train.inputs)

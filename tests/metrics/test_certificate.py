"""Certificates against brute force: every cell of small grids, a hundred thousand points in certified boxes, planted disagreement."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distillens.data.base import Column, Split, Table
from distillens.errors import ModelError
from distillens.metrics.certificate import OUTCOMES, _Question, _Space, certificate, regions
from distillens.models.base import Decision, as_probabilities, evaluate
from distillens.models.constant import ConstantModel
from distillens.models.pieces import cut_of
from distillens.models.piecewise import Grid, edge, float32_cut
from distillens.students.additive import AdditiveStudent
from distillens.students.boosted import BoostedTreesFamily
from distillens.students.linear import LinearStudent
from distillens.students.rules import RulesStudent
from distillens.students.scorecard import ScorecardStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")
COLUMNS = (
    Column("n"),
    Column("flag", "boolean", ("False", "True")),
    Column("kind", "categorical", ("a", "b", "c")),
    Column("m"),
)


def table(
    n: int, seed: int, *, columns: tuple[Column, ...] = COLUMNS, missing: bool = True, whole: bool = False
) -> Table:
    rng = np.random.default_rng(seed)
    values = []
    for column in columns:
        if column.kind == "categorical":
            x = rng.integers(-1 if missing else 0, len(column.categories), n).astype(float)
        elif column.kind == "boolean":
            x = rng.integers(-1 if missing else 0, 2, n).astype(float)
        else:
            x = rng.integers(-3, 4, n).astype(float) if whole else rng.normal(size=n)
        if missing:
            x[rng.random(n) < 0.1] = np.nan
        values.append(x)
    return Table(np.column_stack(values), columns, np.arange(n))


def score(rows: Table) -> NDArray[np.float64]:
    v = np.nan_to_num(rows.values)
    total = v[:, 0] - (v[:, 1] if v.shape[1] > 1 else 0) + (1.2 * (v[:, 2] == 1) if v.shape[1] > 2 else 0)
    return np.asarray(total + (np.sin(2 * v[:, 3]) if v.shape[1] > 3 else 0), dtype=np.float64)


def split(rows: Table, seed: int = 0, *, regression: bool = False) -> Split:
    noisy = score(rows) + 0.5 * np.random.default_rng(seed).normal(size=len(rows))
    return Split(rows, noisy if regression else (noisy > 0.3).astype(np.int64))


def pair(rows: Table, family: Any, *, rounds: int = 12, regression: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """Boosted trees of labels, and a student of them."""
    part, classes = split(rows, regression=regression), () if regression else CLASSES
    empty = Split(rows.take(np.empty(0, dtype=np.int64)), None)
    grown = BoostedTreesFamily(max_rounds=rounds, max_leaves=6, min_rows=5, tune=False)
    teacher = grown.fit(Targets.from_labels(part, classes), validation=empty, teacher=None, seed=seed)
    taught = Targets.from_outputs(part, teacher(rows), output=teacher.output, classes=classes)
    return teacher, family.fit(taught, validation=part, teacher=teacher, seed=seed)


STUDENTS = {
    "tree": TreeStudent(max_leaves=8), "rules": RulesStudent(), "scorecard": ScorecardStudent(),
    "additive": AdditiveStudent(outer_bags=1, interactions=1, max_bins=16, max_rounds=200),
}  # fmt: skip


def decided(model: Any, rows: Table, decision: Decision) -> Any:
    return decision(as_probabilities(evaluate(model, rows), model.output))


# ── cuts ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("strict", [False, True])
def test_the_float64_side_of_a_float32_cut(strict: bool) -> None:
    rng = np.random.default_rng(0)
    t = np.concatenate(
        [
            rng.normal(size=300) * 10.0 ** rng.integers(-20, 20, 300),
            rng.normal(size=300).astype(np.float32),
            [0.0, -0.0, 1.0, 0.5],
        ]
    )
    cut = float32_cut(t, strict=strict)
    above = np.nextafter(cut, np.inf)

    def left(x: Any) -> Any:
        small = x.astype(np.float32).astype(np.float64)
        return small < t if strict else small <= t

    assert left(cut).all()
    assert not left(above).any()


# ── small grids: all of it ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("adverse", [0, 1])
def test_exact_shares_and_bounds_equal_brute_force(name: str, adverse: int) -> None:
    rows = table(250, 1, whole=True)
    teacher, student = pair(rows, STUDENTS[name])
    decision = Decision(adverse, 0.35)
    found = certificate(teacher, student, rows, decision=decision)
    assert found["kind"] == "exact"
    assert found["agree"] == pytest.approx(
        (decided(teacher, rows, decision) == decided(student, rows, decision)).mean()
    )
    # Independently: the product of the columns' own values is the same distribution as cells weighted by their frequencies.
    values = [np.unique(rows.values[:, j], return_counts=True) for j in range(4)]
    points = np.array(list(itertools.product(*(v for v, _ in values))))
    weight = np.prod(np.array(list(itertools.product(*(c / len(rows) for _, c in values)))), axis=1)
    everywhere = rows.with_values(points)
    same = decided(teacher, everywhere, decision) == decided(student, everywhere, decision)
    assert found["cells"]["agree"] == pytest.approx(weight[same].sum(), abs=1e-12)
    assert found["cells"]["disagree"] == pytest.approx(weight[~same].sum(), abs=1e-12)
    bounded = certificate(teacher, student, rows, decision=decision, cells=0, budget=100_000)
    assert bounded["kind"] == "bound"
    for where, other in ((found, bounded), (found["cells"], bounded["cells"])):
        for outcome in OUTCOMES:
            assert other[outcome] == pytest.approx(where[outcome], abs=1e-9)


def test_values_are_certified_within_a_tolerance() -> None:
    rows = table(250, 2, whole=True)
    teacher, student = pair(rows, TreeStudent(max_leaves=8), regression=True)
    for tolerance in (0.1, 0.5, 2.0):
        found = certificate(teacher, student, rows, tolerance=tolerance)
        gap = np.abs(teacher(rows)[:, 0] - student(rows)[:, 0])
        assert found["agree"] == pytest.approx((gap <= tolerance).mean())
        assert found["about"] == "tolerance"
        bounded = certificate(teacher, student, rows, tolerance=tolerance, cells=0, budget=100_000)
        assert bounded["agree"] == pytest.approx(found["agree"])
        assert bounded["cells"]["disagree"] == pytest.approx(found["cells"]["disagree"], abs=1e-9)


# ── large grids: soundness ──────────────────────────────────────────────────────────────────────────────────────────────
def points_of(grid: Grid, box: Any, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random points of a box, half of them on its edges: the last float64 of a bin and the first of the next."""
    out = np.empty((n, len(grid.columns)))
    for j, column in enumerate(grid.columns):
        allowed = np.flatnonzero(grid.mask(box, j))
        bins = rng.choice(allowed, n)
        if column.kind == "categorical":
            out[:, j] = grid.representatives(j)[bins]
            continue
        edges = np.concatenate([[-50.0], grid.cuts[j], [50.0]])
        inner = np.minimum(bins, len(edges) - 2)
        low, high = np.nextafter(edges[inner], np.inf), edges[inner + 1]
        u = rng.random(n)
        x = np.where(u < 0.25, low, np.where(u < 0.5, high, low + rng.random(n) * (high - low)))
        out[:, j] = np.where(bins == grid.count(j) - 1, np.nan, np.clip(x, low, high))
    return out


@pytest.mark.parametrize("name", STUDENTS)
def test_a_hundred_thousand_points_of_certified_boxes_agree_with_what_is_said(name: str) -> None:
    columns = (Column("n"), Column("f"), Column("kind", "categorical", ("a", "b", "c")), Column("m"))
    rows, rng = table(400, 3, columns=columns), np.random.default_rng(0)
    teacher, student = pair(rows, STUDENTS[name], rounds=40)
    decision = Decision(1, 0.4)
    cuts = [cut_of(model, columns, 1) for model in (teacher, student)]
    grid = Grid.of(columns, [cut.cuts for cut in cuts])
    space = _Space(grid, grid.bins(rows.values), np.ones(len(rows)))
    found, used = regions((cuts[0].on(grid), cuts[1].on(grid)), space, _Question(decision, 0.0), 400)
    assert used == 400
    assert sorted(np.concatenate([r.rows for r in found])) == list(range(len(rows)))
    assert sum(r.mass for r in found) == pytest.approx(1.0)
    certified = [r for r in found if r.outcome != "undecided"]
    assert {r.outcome for r in certified} == {"agree", "disagree"}
    each = 100_000 // len(certified)
    points = np.concatenate([points_of(grid, r.box, each, rng) for r in certified])
    same = decided(teacher, Table(points, columns, np.arange(len(points))), decision) == decided(
        student, Table(points, columns, np.arange(len(points))), decision
    )
    said = np.repeat([r.outcome == "agree" for r in certified], each)
    assert (same == said).all()


def test_a_planted_region_of_disagreement_is_found_and_named() -> None:
    rows = table(300, 4, columns=(Column("n"), Column("f"), Column("m")), missing=False)
    teacher, student = pair(rows, TreeStudent(max_leaves=10), rounds=60)
    teacher_tree = TreeStudent(max_leaves=10).fit(
        Targets.from_outputs(split(rows), teacher(rows), output=teacher.output, classes=CLASSES),
        validation=split(rows), teacher=None, seed=0,
    )  # fmt: skip
    assert certificate(teacher_tree, student, rows, decision=Decision())["agree"] == 1.0
    from dataclasses import replace

    leaf = int(student.apply(rows)[0])
    value = student.value.copy()
    value[leaf] = value[leaf][::-1]
    planted = replace(student, value=value)
    inside = student.apply(rows) == leaf
    for cells in (0, 50_000):
        found = certificate(teacher_tree, planted, rows, decision=Decision(), cells=cells)
        assert found["disagree"] == pytest.approx(inside.mean())
        assert found["undecided"] == 0
    bounded = certificate(teacher_tree, planted, rows, decision=Decision(), cells=0)
    shown = bounded["disagreements"][0]
    assert 0 < shown["rows"] <= inside.sum()  # in parts, where another question crosses it
    assert shown["where"]
    assert all(any(c.name in text for c in rows.columns) for text in shown["where"])


def test_a_small_budget_leaves_more_undecided_and_never_less_true() -> None:
    rows = table(300, 5, columns=(Column("n"), Column("f"), Column("m")))
    teacher, student = pair(rows, TreeStudent(), rounds=60)
    shares = [
        certificate(teacher, student, rows, decision=Decision(), cells=0, budget=b) for b in (1, 30, 300, 100_000)
    ]
    empirical = (decided(teacher, rows, Decision()) == decided(student, rows, Decision())).mean()
    assert shares[0]["undecided"] == 1.0
    assert [s["undecided"] for s in shares] == sorted((s["undecided"] for s in shares), reverse=True)
    for s in shares:
        assert s["agree"] <= empirical + 1e-12
        assert s["disagree"] <= 1 - empirical + 1e-12
        assert s["used"] <= s["budget"]
    assert shares[-1]["agree"] == pytest.approx(empirical)
    weights = np.random.default_rng(0).random(len(rows))
    weighted = certificate(teacher, student, rows, decision=Decision(), weights=weights)
    same = decided(teacher, rows, Decision()) == decided(student, rows, Decision())
    assert weighted["agree"] == pytest.approx(np.average(same, weights=weights))


# ── models of other libraries ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("regression", [False, True])
def test_boosters_from_files_fall_into_the_pieces_they_are_made_of(
    tmp_path: Path, library: str, missing: bool, regression: bool
) -> None:
    from distillens.models.files import load_model_file

    module = pytest.importorskip(library)
    columns = (Column("n"), Column("f"), Column("m"))
    rows = table(400, 6, columns=columns, missing=missing)
    part, classes = split(rows, regression=regression), () if regression else CLASSES
    if library == "xgboost":
        path, objective = tmp_path / "m.json", "reg:squarederror" if regression else "binary:logistic"
        matrix = module.DMatrix(rows.values, label=part.labels)
        module.train({"objective": objective, "max_depth": 3, "nthread": 1}, matrix, 25).save_model(path)
    else:
        path, objective = tmp_path / "m.txt", "regression" if regression else "binary"
        options = {
            "objective": objective,
            "num_leaves": 6,
            "num_threads": 1,
            "verbose": -1,
            "min_data_in_leaf": 5,
            "deterministic": True,
        }
        module.train(options, module.Dataset(rows.values, label=part.labels), 25).save_model(path)
    teacher = load_model_file(path, columns=columns, classes=classes)
    cut = cut_of(teacher, columns, 1 if classes else 0)
    grid = Grid.of(columns, [cut.cuts])
    pieces, rng = cut.on(grid), np.random.default_rng(1)
    points = points_of(grid, grid.whole(grid.bins(rows.values)), 3000, rng)
    if missing:
        points[rng.random(points.shape) < 0.1] = np.nan
    answers = teacher(Table(points, columns, np.arange(len(points))))
    own = answers[:, 1] - answers[:, 0] if classes else answers[:, 0]
    for row, said in zip(grid.bins(points), own, strict=True):
        low, high, _ = pieces.over(grid.whole(row[None]))
        assert low <= said <= high
        assert high - low < 1e-3
    taught = Targets.from_outputs(part, teacher(rows), output=teacher.output, classes=classes)
    student = TreeStudent().fit(taught, validation=part, teacher=teacher, seed=0)
    found = certificate(teacher, student, rows, decision=Decision(), tolerance=0.5, budget=20_000, cells=0)
    if classes:
        same = decided(teacher, rows, Decision()) == decided(student, rows, Decision())
    else:
        same = np.abs(teacher(rows) - student(rows))[:, 0] <= 0.5
    assert found["agree"] + found["undecided"] >= same.mean() - 1e-12
    assert found["agree"] <= same.mean() + 1e-12
    assert found["agree"] > 0.5


def test_a_booster_of_incomes_is_taken_apart_and_its_regions_hold_at_the_numbers_they_name(tmp_path: Path) -> None:
    """Thresholds in the ten thousands are no values of leaves; and rows written with few digits lie on the edges of regions."""
    from distillens.models.files import load_model_file

    xgboost = pytest.importorskip("xgboost")
    columns = (Column("income"), Column("ratio"))
    rng = np.random.default_rng(4)
    values = np.column_stack([np.round(rng.lognormal(10, 0.6, 400), -3), np.round(rng.random(400), 1)])
    rows = Table(values, columns, np.arange(400))
    labels = (values[:, 0] / 40_000 + values[:, 1] + rng.normal(size=400) / 3 > 1.1).astype(np.int64)
    path = tmp_path / "m.json"
    matrix = xgboost.DMatrix(values, label=labels)
    xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, matrix, 20).save_model(path)
    teacher = load_model_file(path, columns=columns, classes=CLASSES)
    part = Split(rows, labels)
    taught = Targets.from_outputs(part, teacher(rows), output=teacher.output, classes=CLASSES)
    student = TreeStudent(max_leaves=4).fit(taught, validation=part, teacher=teacher, seed=0)
    found = certificate(teacher, student, rows, decision=Decision(), cells=0)
    assert found["kind"] == "bound"
    assert found["agree"] > 0.5
    assert found["disagreements"]
    for region in found["disagreements"]:
        inside = np.ones(400, dtype=bool)
        for text in region["where"]:
            inside &= np.array([_holds(text, columns, row) for row in values])
        assert inside.any()
        within = rows.take(np.flatnonzero(inside))
        assert (decided(teacher, within, Decision()) != decided(student, within, Decision())).all()


def _holds(text: str, columns: tuple[Column, ...], row: NDArray[np.float64]) -> bool:
    """`0.2 < ratio ≤ 0.5` of one row, read as a person does."""
    parts = text.split(" ")
    place = next(i for i, part in enumerate(parts) if part in {c.name for c in columns})
    x = float(row[[c.name for c in columns].index(parts[place])])
    compare = {"<": lambda a, b: a < b, "≤": lambda a, b: a <= b}
    low = compare[parts[1]](float(parts[0]), x) if place else True
    return low and (compare[parts[place + 1]](x, float(parts[place + 2])) if len(parts) > place + 1 else True)


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (float32_cut(np.array([0.107]), strict=True)[0], ("0.107", False)),
        (float32_cut(np.array([0.25]))[0], ("0.25", True)),
        (17260.65, ("17260.65", True)), (0.0, ("0", True)), (-3.5, ("-3.5", True)),
    ],
)  # fmt: skip
def test_an_edge_says_on_which_side_the_number_itself_is(cut: float, said: tuple[str, bool]) -> None:
    assert edge(float(cut)) == said


# ── where there is none ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_has_no_pieces_says_so() -> None:
    rows = table(120, 7)
    teacher, student = pair(rows, LinearStudent())
    for a, b, said in (
        (teacher, student, "linear is no tree, rule list"),
        (ConstantModel(CLASSES, np.array([0.5, 0.5])), student, "constant is no tree"),
    ):
        found = certificate(a, b, rows, decision=Decision())
        assert found["kind"] == "not_available"
        assert said in found["why"]
        assert found["agree"] is None
        json.dumps(found, allow_nan=False)
    pictures: Any = [1, 2]
    assert "about tables" in certificate(teacher, student, pictures, decision=Decision())["why"]
    three = ConstantModel(("a", "b", "c"), np.ones(3) / 3)
    assert "more classes" in certificate(three, three, rows, decision=Decision())["why"]
    many = (Column("k", "categorical", tuple(f"c{i}" for i in range(80))),)
    with pytest.raises(ModelError, match="80 categories"):
        Grid.of(many, [[np.empty(0)]])


def test_a_model_that_is_not_its_pieces_gets_no_certificate() -> None:
    rows = table(200, 8, columns=(Column("n"), Column("f")))
    teacher, student = pair(rows, TreeStudent())

    class Liar:
        label, classes, output, fingerprint = "liar", CLASSES, "logits", None

        def __call__(self, inputs: Table) -> Any:
            return teacher(inputs) + np.array([0.0, 0.1])

        def pieces(self, columns: Any, adverse: int) -> Any:
            return cut_of(teacher, columns, adverse)

    found = certificate(Liar(), student, rows, decision=Decision())
    assert found["kind"] == "not_available"
    assert "does not give back its own answers" in found["why"]

"""The scorecard student: bins, weights of evidence, the regression, and the points that follow from them."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError
from distillens.models.base import IntrinsicModel, StorableModel, evaluate
from distillens.models.monotone import violations
from distillens.models.store import load_model, save_model
from distillens.students.base import STUDENTS, Student
from distillens.students.binning import (
    group_levels,
    information_value,
    merged,
    pooled,
    short_number,
    weight_of_evidence,
    weighted_cuts,
)
from distillens.students.scorecard import ScorecardStudent
from distillens.transfer.targets import Targets


def fitted(student, case, targets="soft"):
    return student.fit(getattr(case, targets), validation=case.validation, teacher=None, seed=0)


# ── weights of evidence ─────────────────────────────────────────────────────────────────────────────────────────────
def test_woe_and_iv_by_hand():
    # 100 good and 50 adverse in three bins: ln((50/100)/(10/50)), ln((30/100)/(15/50)), ln((20/100)/(25/50))
    good, adverse = np.array([50.0, 30.0, 20.0]), np.array([10.0, 15.0, 25.0])
    woe = weight_of_evidence(good, adverse, (100.0, 50.0), smoothing=0)
    np.testing.assert_allclose(woe, [0.9162907, 0.0, -0.9162907], atol=1e-7)
    # (0.5 − 0.2)·0.9162907 + 0 + (0.2 − 0.5)·(−0.9162907)
    assert information_value(good, adverse, woe, (100.0, 50.0)) == pytest.approx(0.5497744, abs=1e-7)


def test_smoothing_adds_average_rows():
    totals = (100.0, 50.0)
    woe = weight_of_evidence(np.array([0.0, 5.0]), np.array([0.0, 0.0]), totals, smoothing=3.0)
    assert woe[0] == pytest.approx(0.0, abs=1e-12)  # an empty bin is average
    assert woe[1] == pytest.approx(np.log((5 + 2) / (0 + 1)) - np.log(2))  # 3 rows: 2 good, 1 adverse
    with pytest.raises(DataError, match="smoothing above zero"):
        weight_of_evidence(np.array([5.0]), np.array([0.0]), totals, smoothing=0)
    with pytest.raises(DataError, match="both classes"):
        weight_of_evidence(np.array([5.0]), np.array([0.0]), (5.0, 0.0), smoothing=1)


# ── merging ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("direction", [0, 1, -1])
@pytest.mark.parametrize("seed", range(4))
def test_merging_finds_the_best_of_all_ways_to_merge(direction, seed):
    rng = np.random.default_rng(seed)
    good, adverse = rng.integers(1, 40, 9).astype(float), rng.integers(1, 25, 9).astype(float)
    totals = (good.sum(), adverse.sum())
    settings = {"min_weight": 25.0, "min_gain": 0.004, "smoothing": 0.5}
    starts = merged(good, adverse, totals, max_bins=4, direction=direction, **settings)

    def worth(chosen):
        g, a = np.add.reduceat(good, chosen), np.add.reduceat(adverse, chosen)
        woe = weight_of_evidence(g, a, totals, smoothing=0.5)
        if ((g + a) < 25).any() or (direction and (direction * np.diff(woe) < 0).any()):
            return -np.inf
        return information_value(g, a, woe, totals) - 0.004 * len(chosen)

    every = [(0, *rest) for k in range(4) for rest in itertools.combinations(range(1, 9), k)]
    assert worth(list(starts)) == pytest.approx(max(worth(list(c)) for c in every), abs=1e-12)


def test_too_few_rows_for_two_bins_give_one():
    assert merged(np.ones(3), np.ones(3), (3.0, 3.0), max_bins=3, min_weight=100.0, min_gain=0.0, smoothing=0.5).tolist() == [0]  # fmt: skip


def test_pooling_keeps_the_order_asked_for():
    good, adverse = np.array([9.0, 2.0, 8.0, 5.0, 1.0]), np.array([1.0, 8.0, 2.0, 5.0, 9.0])
    starts = pooled(good, adverse, min_weight=0, direction=-1)
    share = np.add.reduceat(good, starts) / np.add.reduceat(good + adverse, starts)
    assert (np.diff(share) <= 0).all()
    from sklearn.isotonic import isotonic_regression

    expected = isotonic_regression(good / 10, sample_weight=np.full(5, 10.0), increasing=False)
    np.testing.assert_allclose(np.repeat(share, np.diff([*starts, 5])), expected)
    assert pooled(good, adverse, min_weight=15.0).tolist() == [0, 2]


def test_levels_are_grouped_in_the_order_of_woe():
    good, adverse = np.array([10.0, 50.0, 11.0, 0.0, 49.0]), np.array([40.0, 10.0, 39.0, 0.0, 11.0])
    groups = group_levels(good, adverse, (120.0, 100.0), max_bins=4, min_weight=5.0, min_gain=0.01, smoothing=0.5)
    assert groups.tolist() == [0, 1, 0, -1, 1]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (23.0, 24.0, 24.0), (998.0, 1003.0, 1000.0), (0.3748, 0.3811, 0.38), (-5.2, -3.7, -4.0), (-1.0, 1.0, 1.0), (-1.0, 0.0, 0.0),
        (1234.0, 1299.0, 1290.0), (4e-7, 6e-7, 6e-7),
    ],
)  # fmt: skip
def test_cuts_are_short_numbers_between_the_values(low, high, expected):
    assert short_number(low, high) == pytest.approx(expected)
    assert low < short_number(low, high) <= high


def test_quantile_cuts_hold_equal_weight():
    x = np.arange(1000.0)
    cuts = weighted_cuts(x, np.ones(1000), bins=5)
    np.testing.assert_allclose(np.histogram(x, [-1, *cuts, 2000])[0], 200, atol=2)
    heavy = np.where(x < 500, 3.0, 1.0)
    place = np.searchsorted(weighted_cuts(x, heavy, bins=4), x, side="right")
    np.testing.assert_allclose(np.bincount(place, weights=heavy), 500, atol=6)


# ── the card ────────────────────────────────────────────────────────────────────────────────────────────────────────
STUDENTS_TRIED = {
    "default": ScorecardStudent(adverse="bad"),
    "exact": ScorecardStudent(adverse="bad", integer=False, min_iv=0.0),
    "quantile": ScorecardStudent(adverse="good", binning="quantile", base_score=500, base_odds=20, pdo=40),
}
tried = pytest.mark.parametrize("name", list(STUDENTS_TRIED))


@tried
def test_points_and_log_odds_are_one_thing(name, binary):
    student = STUDENTS_TRIED[name]
    model = fitted(student, binary)
    factor = student.pdo / np.log(2)
    offset = student.base_score - factor * np.log(student.base_odds)
    good = 1 - model.classes.index(student.adverse)
    for table in (binary.table, binary.odd):
        logits, points = model(table), model.points(table)
        np.testing.assert_allclose(offset + factor * (logits[:, good] - logits[:, 1 - good]), points, atol=1e-9)
    if student.integer:
        assert (points == np.rint(points)).all()
    low, high = model.score_range()
    assert low <= points.min() <= points.max() <= high
    # base points mean base odds, and `pdo` points more double them
    assert np.exp((student.base_score - model.offset) / model.factor) == pytest.approx(student.base_odds)
    assert np.exp((student.base_score + student.pdo - model.offset) / model.factor) == pytest.approx(
        2 * student.base_odds
    )


def test_the_card_is_a_logistic_regression_on_weights_of_evidence(binary):
    """Re-derived with scikit-learn on the WoE of the points table, each row once as good and once as adverse."""
    from sklearn.linear_model import LogisticRegression

    model = fitted(ScorecardStudent(adverse="bad", integer=False, l2=1e-3), binary)
    from distillens.models.additive import bins_of

    x = np.column_stack([c.by_code(c.woe)[bins_of(binary.table.values[:, c.feature], binary.table.columns[c.feature], c.cuts)]
                         for c in model.characteristics])  # fmt: skip
    p = binary.soft.probabilities[:, 0]
    n = len(x)
    machine = LogisticRegression(C=1 / (1e-3 * n), tol=1e-12, max_iter=10_000)
    machine.fit(np.vstack([x, x]), np.repeat([1, 0], n), sample_weight=np.concatenate([p, 1 - p]))
    np.testing.assert_allclose([c.coefficient for c in model.characteristics], machine.coef_[0], atol=1e-4)
    assert model.intercept == pytest.approx(float(machine.intercept_[0]), abs=1e-4)
    for c in model.characteristics:
        np.testing.assert_allclose(c.points, 20 / np.log(2) * c.coefficient * c.woe)


def test_counts_are_the_teachers_probabilities(binary):
    model = fitted(ScorecardStudent(adverse="bad"), binary)
    bad = binary.soft.probabilities[:, 1]
    for c in model.characteristics:
        assert c.adverse.sum() == pytest.approx(bad.sum())
        assert c.good.sum() == pytest.approx((1 - bad).sum())
    age = next(c for c in model.characteristics if c.feature == 0)
    missing = np.isnan(binary.table.values[:, 0])
    assert age.adverse[0] == pytest.approx(bad[missing].sum())
    assert age.woe[0] != 0  # missing has a bin of its own


def test_what_training_never_had_is_average(binary):
    clean = binary.targets(binary.clean, binary.soft.outputs, "logits")
    model = ScorecardStudent(adverse="bad").fit(clean, validation=binary.validation, teacher=None, seed=0)
    purpose = next(c for c in model.characteristics if c.feature == 2)
    assert purpose.woe[0] == purpose.woe[-1] == purpose.points[0] == purpose.points[-1] == 0


@tried
def test_it_is_a_model_that_explains_itself(name, binary, tmp_path):
    model = fitted(STUDENTS_TRIED[name], binary)
    assert isinstance(model, IntrinsicModel)
    assert isinstance(model, StorableModel)
    for table in (binary.table, binary.odd):
        parts, base = model.contributions(table)
        np.testing.assert_allclose(base + parts.sum(axis=1), evaluate(model, table), atol=1e-10)
    parts, _ = model.contributions(binary.table)
    np.testing.assert_allclose(parts.mean(axis=0), 0, atol=1e-10)  # deviations from the average row
    save_model(model, tmp_path / "m.safetensors")
    back = load_model(tmp_path / "m.safetensors")
    assert back.fingerprint == model.fingerprint
    assert back.describe() == model.describe()
    np.testing.assert_array_equal(back(binary.odd), model(binary.odd))
    assert json.loads(json.dumps(model.describe(), allow_nan=False))["form"] == "scorecard"


def test_it_learns_what_the_teacher_says(binary):
    model = fitted(ScorecardStudent(), binary)
    assert isinstance(ScorecardStudent(), Student)
    assert "scorecard" in STUDENTS
    assert np.corrcoef(model(binary.table)[:, 1], binary.soft.outputs[:, 1])[0, 1] > 0.9
    flipped = replace(binary.soft, outputs=-binary.soft.outputs)
    other = ScorecardStudent().fit(flipped, validation=binary.validation, teacher=None, seed=0)
    assert np.corrcoef(other(binary.table)[:, 1], binary.soft.outputs[:, 1])[0, 1] < -0.9
    assert (fitted(ScorecardStudent(), binary, "from_labels")(binary.table).std(axis=0) > 0.05).all()


def test_naming_the_other_class_adverse_mirrors_the_card(binary):
    one, other = (fitted(ScorecardStudent(adverse=a, integer=False), binary) for a in ("bad", "good"))
    np.testing.assert_allclose(one(binary.table), other(binary.table), atol=1e-5)
    assert one.describe()["good"] == "good"
    assert other.describe()["good"] == "bad"
    assert np.corrcoef(one.points(binary.table), other.points(binary.table))[0, 1] == pytest.approx(-1)


@pytest.mark.parametrize("binning", ["optimal", "quantile"])
def test_whole_number_weights_are_repetitions(binning, binary):
    student = ScorecardStudent(integer=False, binning=binning)
    repeat = np.repeat(np.arange(len(binary.table)), binary.weights.astype(int))
    weighted = student.fit(
        binary.targets(binary.table, binary.soft.outputs, "logits", binary.weights), validation=binary.validation, teacher=None, seed=0
    )  # fmt: skip
    repeated = student.fit(
        binary.targets(binary.table.take(repeat), binary.soft.outputs[repeat], "logits"), validation=binary.validation, teacher=None, seed=0
    )  # fmt: skip
    for a, b in zip(weighted.characteristics, repeated.characteristics, strict=True):
        np.testing.assert_array_equal(a.cuts, b.cuts)
        np.testing.assert_array_equal(a.groups, b.groups)
        np.testing.assert_allclose(a.woe, b.woe, atol=1e-10)
    np.testing.assert_allclose(weighted(binary.table), repeated(binary.table), atol=1e-5)


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize("binning", ["optimal", "quantile"])
@pytest.mark.parametrize("adverse", ["good", "bad"])
def test_monotone_holds_on_a_grid(integer, binning, adverse, binary):
    noisy = replace(
        binary.soft, outputs=binary.soft.outputs + np.sin(binary.clean.values[:, :1] / 3) * np.array([[2.0, -2.0]])
    )

    def fit(**more):
        student = ScorecardStudent(integer=integer, binning=binning, adverse=adverse, min_iv=0, **more)
        return student.fit(noisy, validation=binary.validation, teacher=None, seed=0)

    assert violations(fit(), binary.table, "age in years", 1) > 0.02
    bound = fit(monotone={"age in years": 1, "owns 'phone'": -1})
    assert violations(bound, binary.table, "age in years", 1) == 0
    assert violations(bound, binary.table, "owns 'phone'", -1) == 0
    shaped = fit(shapes="monotone")
    assert min(violations(shaped, binary.table, "age in years", s) for s in (1, -1)) == 0


def test_monotone_refuses_what_has_no_order(binary):
    with pytest.raises(DataError, match="categorical"):
        fitted(ScorecardStudent(monotone={"目的": 1}), binary)
    with pytest.raises(DataError, match="Did you mean 'age in years'"):
        fitted(ScorecardStudent(monotone={"age in year": 1}), binary)


def test_rounding_is_stated_and_bounds_every_row(binary):
    rounded, exact = (fitted(ScorecardStudent(adverse="bad", integer=i, pdo=5), binary) for i in (True, False))
    change = np.abs((rounded(binary.table) - exact(binary.table)) @ [-1.0, 1.0])
    stated = rounded.describe()["rounding"]
    assert stated["mean"] == pytest.approx(change.mean())
    assert stated["largest"] == pytest.approx(change.max())
    assert 0 < change.max() <= stated["bound"]
    odd = np.abs((rounded(binary.odd) - exact(binary.odd)) @ [-1.0, 1.0])
    assert odd.max() <= stated["bound"] + 1e-12
    assert exact.describe()["rounding"] is None


def test_the_table_adds_up_to_the_score_and_is_safe_to_open():
    rng = np.random.default_rng(0)
    columns = (Column("=cmd|'/c calc'!A1"), Column("kind", "categorical", ("@a", "b, c", "d")))
    values = np.column_stack([rng.normal(size=400), rng.integers(0, 3, 400).astype(float)])
    table = Table(values, columns, np.arange(400))
    score = 2 * values[:, 0] + np.array([1.0, -1.0, 0.0])[values[:, 1].astype(int)]
    targets = Targets.from_outputs(
        Split(table), np.column_stack([-score, score]) / 2, output="logits", classes=("yes", "no")
    )
    model = ScorecardStudent(adverse="no").fit(targets, validation=Split(table), teacher=None, seed=0)
    frame = model.points_table()
    assert frame["points"].dtype == np.int64
    for i in range(20):
        total = int(frame["points"][0])
        numeric = frame[frame["feature"] == columns[0].name]
        known = numeric.dropna(subset=["lower"])
        total += int(known[(known["lower"] <= values[i, 0]) & (values[i, 0] < known["upper"])]["points"].iloc[0])
        level = columns[1].categories[int(values[i, 1])]
        of_kind = frame[frame["feature"] == "kind"]
        total += int(of_kind[[level in text.split("; ") for text in of_kind["bin"]]]["points"].iloc[0])
        assert total == model.points(table)[i]
    rows = list(csv.DictReader(io.StringIO(model.points_csv())))
    assert len(rows) == len(frame)
    assert not any(row[key].startswith(("=", "+", "-", "@")) for row in rows for key in ("feature", "bin"))
    assert sum(float(r["share"]) for r in rows if r["feature"] == "kind") == pytest.approx(1)


def test_the_card_is_written_beside_the_model(binary, tmp_path):
    ScorecardStudent().fit(binary.soft, validation=binary.validation, teacher=None, seed=0, out=tmp_path)
    assert (tmp_path / "points.csv").read_text(encoding="utf-8").startswith("feature,bin,lower")


def test_a_feature_that_tells_nothing_is_left_off(binary):
    values = binary.clean.values.copy()
    rng = np.random.default_rng(5)
    values[:, 3] = rng.integers(0, 2, len(values))
    targets = binary.targets(binary.clean.with_values(values), binary.soft.outputs, "logits")
    model = ScorecardStudent().fit(targets, validation=binary.validation, teacher=None, seed=0)
    assert [x["name"] for x in model.describe()["left_out"]] == ["owns 'phone'"]
    parts, _ = model.contributions(binary.table)
    assert (parts[:, 3] == 0).all()
    everything = ScorecardStudent(min_iv=100).fit(targets, validation=binary.validation, teacher=None, seed=0)
    assert everything.complexity()["characteristics"] == 0
    p = everything(binary.table)
    assert (p == p[0]).all()


def test_tasks_that_are_not_binary_are_refused(multiclass, regression):
    with pytest.raises(DataError, match="3 classes"):
        fitted(ScorecardStudent(), multiclass)
    with pytest.raises(DataError, match="a number to predict"):
        fitted(ScorecardStudent(), regression)


@pytest.mark.parametrize(
    "options",
    [{"pdo": 0}, {"base_odds": -1}, {"max_bins": 1}, {"min_share": 0.6}, {"smoothing": -1}, {"binning": "best"}, {"shapes": "any"}],
)  # fmt: skip
def test_settings_out_of_range(options):
    with pytest.raises(DataError, match=next(iter(options))):
        ScorecardStudent(**options)


def test_an_unknown_adverse_class(binary):
    with pytest.raises(DataError, match="Did you mean 'bad'"):
        fitted(ScorecardStudent(adverse="bd"), binary)

"""The additive student against interpret's own predictions and against an additive truth."""

import time

import numpy as np
import pytest
from scipy.special import softmax

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError
from distillens.models.additive import AdditiveModel, bins_of, float32_ceiling
from distillens.students.additive import AdditiveStudent, isotonic, prepared, quiet_interpret
from distillens.transfer.targets import Targets


def machines(monkeypatch):
    """The interpret models that a student fits, in order."""
    kept = []
    original = AdditiveStudent._fit

    def spy(self, *args, **options):
        kept.append(original(self, *args, **options))
        return kept[-1]

    monkeypatch.setattr(AdditiveStudent, "_fit", spy)
    return kept


@pytest.mark.parametrize("targets", ["soft", "from_labels"])
def test_predicts_what_interpret_predicts(case, targets, monkeypatch):
    kept = machines(monkeypatch)
    student = AdditiveStudent(outer_bags=2, interactions=3, max_bins=64)
    model = student.fit(getattr(case, targets), validation=case.validation, teacher=None, seed=0)
    assert model.complexity()["pairs"] >= 3
    rows = prepared(case.odd)
    as_text = rows.astype(object)
    as_text[:, 2] = [None if np.isnan(x) else str(int(x)) for x in rows[:, 2]]
    as_text[:, [0, 1, 3]] = rows[:, [0, 1, 3]]
    for table, x in ((case.table, prepared(case.table)), (case.odd, as_text)):
        with quiet_interpret():
            if targets == "from_labels" and case.classes:
                expected = kept[0].decision_function(x).reshape(len(table), -1)
            else:
                expected = np.column_stack([machine.predict(x) for machine in kept])
        np.testing.assert_allclose(model.scores(table), expected, atol=1e-9)


def test_scores_are_centred_on_the_training_rows(case):
    model = AdditiveStudent(outer_bags=1, interactions=2).fit(
        case.soft, validation=case.validation, teacher=None, seed=0
    )
    for term in model.terms:
        index = tuple(
            bins_of(case.table.values[:, j], case.table.columns[j], cuts)
            for j, cuts in zip(term.features, term.cuts, strict=True)
        )
        per_row = term.scores[index]
        np.testing.assert_allclose(per_row.mean(axis=0), 0, atol=1e-6)
        assert np.abs(per_row).mean() == pytest.approx(term.importance, abs=1e-6)


def test_an_additive_truth_is_found(regression):
    truth = regression.soft.outputs[:, 0]
    model = AdditiveStudent(outer_bags=2, interactions=0).fit(
        regression.soft, validation=regression.validation, teacher=None, seed=0
    )
    assert np.corrcoef(model(regression.clean)[:, 0], truth)[0, 1] > 0.97


def test_an_additive_teacher_is_followed(binary):
    student = AdditiveStudent(outer_bags=2, interactions=0)
    teacher = student.fit(binary.soft, validation=binary.validation, teacher=None, seed=0)
    copy = student.fit(
        binary.targets(binary.table, teacher(binary.table), "logits"),
        validation=binary.validation,
        teacher=teacher,
        seed=1,
    )
    assert (copy(binary.table).argmax(1) == teacher(binary.table).argmax(1)).mean() > 0.95


def test_log_odds_are_clipped(binary):
    wild = binary.targets(binary.table, binary.soft.outputs * 1000, "logits")
    model = AdditiveStudent(outer_bags=1, interactions=0, max_log_odds=3.0).fit(
        wild, validation=binary.validation, teacher=None, seed=0
    )
    aims = AdditiveStudent(max_log_odds=3.0)._aims(wild)
    assert np.abs(aims).max() == 3.0
    assert np.abs(model.scores(binary.table)).max() < 6


def test_weights_matter(binary):
    heavy = np.where(binary.soft.outputs[:, 1] > 0, 20.0, 1.0)
    student = AdditiveStudent(outer_bags=1, interactions=0)
    plain = student.fit(binary.from_labels, validation=binary.validation, teacher=None, seed=0)
    tilted = student.fit(
        Targets.from_labels(Split(binary.table, binary.train.labels, heavy), binary.classes),
        validation=binary.validation,
        teacher=None,
        seed=0,
    )
    assert tilted.scores(binary.table).mean() > plain.scores(binary.table).mean() + 0.3


def test_pairs_are_split_in_halves():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (400, 2)).astype(float)
    table = Table(values, (Column("a"), Column("b")), np.arange(400))
    xor = np.where(values[:, 0] == values[:, 1], 1.0, -1.0)[:, None]
    targets = Targets.from_outputs(Split(table), xor, output="values", classes=())
    model = AdditiveStudent(outer_bags=1, interactions=1).fit(targets, validation=Split(table), teacher=None, seed=0)
    pair = next(term for term in model.terms if len(term.features) == 2)
    only = AdditiveModel(model.columns, (), "pair", model.intercepts, (pair,))
    parts, _ = only.contributions(table)
    np.testing.assert_array_equal(parts[:, 0], parts[:, 1])
    assert np.corrcoef(only(table)[:, 0], xor[:, 0])[0, 1] > 0.99


def test_a_class_without_rows_is_improbable(multiclass):
    labels = np.where(multiclass.soft.outputs[:, 0] < 0, 2, 0)
    targets = Targets.from_labels(Split(multiclass.table, labels), multiclass.classes)
    model = AdditiveStudent(outer_bags=1, interactions=0).fit(
        targets, validation=multiclass.validation, teacher=None, seed=0
    )
    outputs = model(multiclass.table)
    assert (outputs.argmax(axis=1) == labels).mean() > 0.9
    assert softmax(outputs, axis=1)[:, 1].max() < 1e-4
    alone = Targets.from_labels(multiclass.train.take(multiclass.train.labels == 1), multiclass.classes)
    with pytest.raises(DataError, match="at least two classes"):
        AdditiveStudent().fit(alone, validation=multiclass.validation, teacher=None, seed=0)


def test_constant_and_wholly_missing_columns(regression):
    values = np.column_stack(
        [regression.clean.values[:, 0], np.full(len(regression.clean), 7.0), np.full(len(regression.clean), np.nan)]
    )
    table = Table(values, (Column("a"), Column("constant"), Column("empty")), np.arange(len(values)))
    targets = Targets.from_outputs(Split(table), regression.soft.outputs, output="values", classes=())
    model = AdditiveStudent(outer_bags=1, interactions=1).fit(targets, validation=Split(table), teacher=None, seed=0)
    assert np.isfinite(model(table)).all()
    parts, _ = model.contributions(table)
    assert np.abs(parts[:, 0]).max() > 0.1


def test_rounded_cuts_flip_no_row():
    rng = np.random.default_rng(2)
    cuts = np.concatenate([rng.normal(size=500), rng.normal(size=500).astype(np.float32).astype(float)])
    ceilings = float32_ceiling(cuts)
    np.testing.assert_array_equal(ceilings, ceilings.astype(np.float32))
    for x in (
        cuts.astype(np.float32),
        np.nextafter(cuts.astype(np.float32), np.float32(9)),
        np.nextafter(cuts.astype(np.float32), np.float32(-9)),
    ):
        np.testing.assert_array_equal(cuts <= x.astype(float), ceilings <= x.astype(float))


def test_bins_are_as_pinned():
    cuts = np.array([1.0, 2.0])
    np.testing.assert_array_equal(
        bins_of(np.array([np.nan, 0.5, 1.0, 1.5, 2.0, 9.0]), Column("n"), cuts), [0, 1, 2, 2, 3, 3]
    )
    category = Column("c", "categorical", ("x", "y"))
    np.testing.assert_array_equal(bins_of(np.array([np.nan, 0, 1, -1, 2]), category, np.empty(0)), [0, 1, 2, 3, 3])
    flag = Column("b", "boolean", ("no", "yes"))
    np.testing.assert_array_equal(bins_of(np.array([np.nan, 0, 1, -1]), flag, np.array([1.0])), [0, 1, 2, 0])


def test_isotonic_projection_leaves_missing_and_unknown_alone():
    scores = np.array([[9.0], [1.0], [3.0], [2.0], [4.0], [-9.0]])
    out = isotonic(scores, np.array([1.0, 1, 1, 3, 1, 0]), 1)
    np.testing.assert_allclose(out[:, 0], [9, 1, 2.25, 2.25, 4, -9])


def test_small_fits_are_fast():
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    table = Table(x, tuple(Column(f"x{j}") for j in range(30)), np.arange(len(x)))
    score = np.clip((y - 0.5) * 6 + (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), -6, 6)
    targets = Targets.from_outputs(
        Split(table), np.column_stack([-score, score]) / 2, output="logits", classes=("m", "b")
    )
    start = time.process_time()
    AdditiveStudent(outer_bags=2, interactions=0).fit(targets, validation=Split(table), teacher=None, seed=0)
    assert time.process_time() - start < 5  # about half a second of work; the rest is a busy machine


def test_student_describes_its_bins(binary):
    model = AdditiveStudent(outer_bags=1, interactions=1).fit(
        binary.soft, validation=binary.validation, teacher=None, seed=0
    )
    described = model.describe()
    assert described["outputs"] == ["bad"]
    assert [t["importance"] for t in described["terms"]] == sorted(
        (t["importance"] for t in described["terms"]), reverse=True
    )
    for term in described["terms"]:
        assert np.array(term["scores"]).shape[:-1] == tuple(len(f["bins"]) for f in term["features"])
    flag = next(
        f for t in described["terms"] if len(t["features"]) == 1 for f in t["features"] if f["kind"] == "boolean"
    )
    assert flag["bins"] == ["(missing)", "no", "yes", "(unknown)"]


def test_the_terms_that_matter_are_kept_and_the_others_are_not_there():
    rng = np.random.default_rng(0)
    columns = tuple(Column(f"x{j}") for j in range(5))
    table = Table(rng.normal(size=(500, 5)), columns, np.arange(500))
    truth = 2 * table.values[:, 1] - np.abs(table.values[:, 3]) + 0.1 * table.values[:, 0]
    split = Split(table)
    targets = Targets.from_outputs(split, truth[:, None], output="values", classes=())
    model = AdditiveStudent(outer_bags=2, interactions=0, max_terms=2).fit(
        targets, validation=split, teacher=None, seed=0
    )
    assert {term.features for term in model.terms} == {(1,), (3,)}
    assert model.complexity()["terms"] == 2
    # fitted without the others, the two follow their own sum; nothing of the third is left
    moved = table.values.copy()
    moved[:, [0, 2, 4]] += 100
    np.testing.assert_array_equal(model(table), model(table.with_values(moved)))
    assert np.corrcoef(model(table)[:, 0], truth)[0, 1] > 0.98
    with pytest.raises(DataError, match="max_terms must be at least 1"):
        AdditiveStudent(max_terms=0)


def test_a_pair_that_is_kept_needs_no_curves_of_its_own():
    rng = np.random.default_rng(1)
    columns = tuple(Column(f"x{j}") for j in range(3))
    table = Table(rng.uniform(-1, 1, size=(800, 3)), columns, np.arange(800))
    truth = np.sign(table.values[:, 0]) * np.sign(table.values[:, 2])
    split = Split(table)
    targets = Targets.from_outputs(split, truth[:, None], output="values", classes=())
    model = AdditiveStudent(outer_bags=1, interactions=1, max_terms=1).fit(
        targets, validation=split, teacher=None, seed=0
    )
    assert [term.features for term in model.terms] == [(0, 2)]
    assert np.corrcoef(model(table)[:, 0], truth)[0, 1] > 0.9

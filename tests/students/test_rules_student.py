"""The rule list student: what a rule covers, the order of rules, and what each answers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError
from distillens.models.base import IntrinsicModel, StorableModel, evaluate
from distillens.models.encoding import Encoding
from distillens.models.store import load_model, save_model
from distillens.students.base import STUDENTS, Student
from distillens.students.rules import RulesStudent, conditions, spread
from distillens.transfer.targets import Targets


def fitted(student, case, targets="soft"):
    return student.fit(getattr(case, targets), validation=case.validation, teacher=None, seed=0)


def by_the_text(model, table):
    """(n,) the rule that fires, read off the description alone, in plain Python."""
    d = model.describe()
    frame = table.to_frame()

    def holds(text, row):
        for column in sorted(model.columns, key=lambda c: -len(c.name)):
            if text.startswith(column.name + " "):
                rest = text[len(column.name) + 1 :]
                value = row[column.name]
                missing = value is None or value != value
                if rest.startswith("is "):
                    return missing == (rest == "is missing")
                sign, operand = rest.split(" ", 1)
                if column.kind == "numeric":
                    return not missing and (np.float32(value) <= float(operand)) == (sign == "≤")
                same = not missing and value == operand
                if column.kind == "boolean":
                    return same
                return same if sign == "=" else not same
        raise AssertionError(text)

    fired = []
    for _, row in frame.iterrows():
        fired.append(next((i for i, rule in enumerate(d["rules"]) if all(holds(c, row) for c in rule["conditions"])), len(d["rules"])))  # fmt: skip
    return np.array(fired)


@pytest.mark.parametrize("targets", ["soft", "from_labels"])
def test_the_list_reads_as_it_answers(targets, case):
    whole = replace(getattr(case, targets), inputs=case.table.with_values(np.round(case.table.values, 3)))
    model = RulesStudent(min_share=0.04).fit(whole, validation=case.validation, teacher=None, seed=0)
    d = json.loads(json.dumps(model.describe(), allow_nan=False))
    assert len(d["rules"]) >= 2
    for table in (whole.inputs, case.odd.with_values(np.round(case.odd.values, 3))):
        fired = by_the_text(model, table)
        np.testing.assert_array_equal(model.fires(table), fired)
        answers = np.array([*(r["value"] for r in d["rules"]), d["otherwise"]["value"]])
        np.testing.assert_array_equal(model(table), answers[fired])


def test_answers_are_means_and_coverage_counts_rows(case):
    targets = case.targets(case.table, case.soft.outputs, case.soft.output, case.weights)
    model = RulesStudent().fit(targets, validation=case.validation, teacher=None, seed=0)
    y = targets.probabilities if targets.classes else targets.outputs
    fired = model.fires(case.table)
    for r in range(model.rules + 1):
        rows = fired == r
        np.testing.assert_allclose(model.value[r], np.average(y[rows], axis=0, weights=case.weights[rows]))
        assert model.coverage[r] == pytest.approx(case.weights[rows].sum() / case.weights.sum())
    assert model.coverage.min() >= 0.02 - 1e-9
    assert np.bincount(model.rule, minlength=model.rules).max() <= 2
    assert model.complexity()["rules"] == model.rules <= 10


def test_the_first_rule_of_one_condition_is_the_best_of_all(case):
    """Every condition tried by brute force: S(R) − S(C) − S(rest) − purity · S(C)."""
    student = RulesStudent(max_rules=1, max_conditions=1, purity=0.7, min_share=0.05)
    model = fitted(student, case)
    y = case.soft.probabilities if case.classes else case.soft.outputs
    y = y[:, 1:] if len(case.classes) == 2 else y
    encoding = Encoding.fit(case.table, standardize=False, fill_missing=False)
    found = conditions(encoding(case.table.values), np.ones(len(y)), encoding)

    def score(holds):
        if min(holds.sum(), (~holds).sum()) < 0.05 * len(y):
            return -np.inf
        ones = np.ones(len(y))
        parts = [spread(y[rows], ones[rows]) for rows in (holds, ~holds)]
        return spread(y, ones) - sum(parts) - 0.7 * parts[0]

    best = max(score(h) for h in found.holds.T)
    assert score(model.fires(case.table) == 0) == pytest.approx(best)


def test_it_recovers_a_rule_list():
    rng = np.random.default_rng(0)
    columns = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y", "z")))
    values = np.column_stack([rng.integers(0, 10, 2000), rng.integers(0, 10, 2000), rng.integers(0, 3, 2000)]).astype(
        float
    )
    table = Table(values, columns, np.arange(2000))
    p = np.where((values[:, 0] > 6) & (values[:, 2] == 1), 0.95, np.where(values[:, 1] <= 2, 0.1, 0.5))
    targets = Targets.from_outputs(
        Split(table), np.column_stack([1 - p, p]), output="probabilities", classes=("no", "yes")
    )
    model = RulesStudent().fit(targets, validation=Split(table), teacher=None, seed=0)
    np.testing.assert_allclose(model(table)[:, 1], p, atol=1e-12)
    texts = {frozenset(r["conditions"]) for r in model.describe()["rules"]}
    assert frozenset({"a > 6", "c = y"}) in texts


def test_a_list_of_one_condition_rules_is_shorter_to_read(binary):
    model = fitted(RulesStudent(max_conditions=1, max_rules=4), binary)
    assert all(len(r["conditions"]) == 1 for r in model.describe()["rules"])
    assert model.rules <= 4


def test_stored_to_the_bit(case, tmp_path):
    model = fitted(RulesStudent(), case)
    assert isinstance(RulesStudent(), Student)
    assert "rules" in STUDENTS
    assert isinstance(model, StorableModel)
    assert not isinstance(model, IntrinsicModel)
    save_model(model, tmp_path / "m.safetensors")
    back = load_model(tmp_path / "m.safetensors")
    assert back.fingerprint == model.fingerprint == fitted(RulesStudent(), case).fingerprint
    assert back.describe() == model.describe()
    for table in (case.table, case.odd):
        np.testing.assert_array_equal(back(table), model(table))
        evaluate(model, table)


def test_whole_number_weights_are_repetitions(case):
    repeat = np.repeat(np.arange(len(case.table)), case.weights.astype(int))
    weighted = RulesStudent().fit(
        case.targets(case.table, case.soft.outputs, case.soft.output, case.weights), validation=case.validation, teacher=None, seed=0
    )  # fmt: skip
    repeated = RulesStudent().fit(
        case.targets(case.table.take(repeat), case.soft.outputs[repeat], case.soft.output), validation=case.validation, teacher=None, seed=0
    )  # fmt: skip
    assert [r["conditions"] for r in weighted.describe()["rules"]] == [
        r["conditions"] for r in repeated.describe()["rules"]
    ]
    np.testing.assert_allclose(weighted(case.table), repeated(case.table), atol=1e-10)


def test_it_learns_soft_targets_not_labels(binary):
    flipped = replace(binary.soft, outputs=-binary.soft.outputs)
    model = RulesStudent().fit(flipped, validation=binary.validation, teacher=None, seed=0)
    assert (model(binary.table).argmax(axis=1) == (-binary.soft.outputs).argmax(axis=1)).mean() > 0.8


def test_equal_answers_need_no_rule(binary):
    same = replace(binary.soft, outputs=np.tile([0.3, -0.3], (len(binary.table), 1)))
    model = RulesStudent().fit(same, validation=binary.validation, teacher=None, seed=0)
    assert model.rules == 0
    np.testing.assert_allclose(model(binary.odd), np.tile(same.probabilities[0], (len(binary.odd), 1)))


@pytest.mark.parametrize(
    "options", [{"max_rules": 0}, {"max_conditions": 0}, {"min_share": 0}, {"min_gain": -1}, {"purity": -1}]
)
def test_settings_out_of_range(options):
    with pytest.raises(DataError, match=next(iter(options))):
        RulesStudent(**options)

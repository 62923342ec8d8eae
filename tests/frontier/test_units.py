"""Pieces counted row by row and line by line, as a person would, against the counts from the fitted arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.errors import InputError
from distillens.frontier.units import steps, units
from distillens.models.additive import AdditiveModel, Term
from distillens.students.additive import AdditiveStudent
from distillens.students.linear import LinearStudent
from distillens.students.network import NetworkStudent
from distillens.students.rules import RulesStudent
from distillens.students.scorecard import ScorecardStudent
from distillens.students.soft_tree import SoftTreeStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

COLUMNS = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y", "z")))


def rows(n: int = 200, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.normal(size=n), rng.normal(size=n), rng.integers(0, 3, n).astype(float)])
    values[:7, 0] = np.nan
    return Table(values, COLUMNS, np.arange(n))


def fitted(student: Any, classes: tuple[str, ...] = ("no", "yes")) -> tuple[Any, Table]:
    table = rows()
    x = np.nan_to_num(table.values)
    score = 1.5 * x[:, 0] + (x[:, 2] == 1) - np.abs(x[:, 1])
    if classes:
        logits = np.column_stack([-score, score, x[:, 1]][: len(classes)])
        outputs, output = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), "probabilities"
    else:
        outputs, output = score[:, None], "values"
    labels = outputs.argmax(axis=1) if classes else score
    split = Split(table, labels)
    targets = Targets.from_outputs(split, outputs, output=output, classes=classes)
    return student.fit(targets, validation=split, teacher=None, seed=0), rows(90, 5)


def test_a_tree_by_walking_it() -> None:
    model, table = fitted(TreeStudent(max_leaves=7))
    walked = []
    for row in range(len(table)):
        node, read = model.describe()["root"], 0
        leaf = int(model.apply(table.take([row]))[0])
        path = _path(node, leaf)
        read = len(path)
        walked.append(read + 1)
    found = units(model, table)
    assert found.decision == pytest.approx(np.mean(walked))
    assert found.whole == 7 + 6


def _path(node: dict[str, Any], leaf: int) -> list[str] | None:
    if "condition" not in node:
        return [] if node["node"] == leaf else None
    for side in ("yes", "no"):
        below = _path(node[side], leaf)
        if below is not None:
            return [node["condition"], *below]
    return None


def test_rules_by_reading_them_aloud() -> None:
    model, table = fitted(RulesStudent(max_rules=5, max_conditions=3))
    read = []
    for values in table.values:
        count = 0
        for r in range(model.rules):
            for c in np.flatnonzero(model.rule == r):
                count += 1
                x = model.encoding(values[None, :])[0, model.feature[c]]
                if not (x <= model.threshold[c] if model.below[c] else x > model.threshold[c]):
                    break
            else:
                break
        read.append(count + 1)
    found = units(model, table)
    assert found.decision == pytest.approx(np.mean(read))
    described = model.describe()["rules"]
    assert found.whole == sum(len(rule["conditions"]) + 1 for rule in described) + 1


def test_a_scorecard_is_its_lines_and_a_sum() -> None:
    model, table = fitted(ScorecardStudent())
    card = len(model.points_table())  # the base points are its first line
    assert units(model, table) == (card, 2 * len(model.characteristics) + 1)


@pytest.mark.parametrize(("classes", "scores"), [(("no", "yes"), 1), ((), 1), (("a", "b", "c"), 3)])
def test_a_linear_model_is_a_product_and_a_sum_a_feature(classes: tuple[str, ...], scores: int) -> None:
    model, table = fitted(LinearStudent(), classes)
    found = units(model, table)
    assert found.decision == scores * (3 * 2 + 1)
    assert found.whole == np.count_nonzero(model.coefficients) + scores


def additive(scores: np.ndarray, *features: int) -> AdditiveModel:
    cuts = tuple(np.arange(scores.shape[i] - 3.0) if j < 2 else np.empty(0) for i, j in enumerate(features))
    return AdditiveModel(COLUMNS, ("no", "yes"), "additive", np.zeros(1), (Term(features, cuts, scores[..., None]),))


def test_a_curve_has_as_many_lines_as_it_has_steps() -> None:
    #        missing  bins                     unknown
    curve = np.array([0, 1, 1, 1, 2, 2, 1, 3, 0], dtype=float)
    assert steps(curve[:, None], [False]) == 4
    assert units(additive(curve, 0), rows()) == (4 + 1, 1 + 1 + 1)
    said = curve.copy()
    said[0] = 0.5  # a missing value says something: one line more
    assert units(additive(said, 0), rows()).whole == 6
    levels = np.array([0, 1, 2, 1, 0], dtype=float)  # x and z share a line
    assert units(additive(levels, 2), rows()).whole == 2 + 1
    # a pair is a table: distinct lines times distinct columns
    pair = np.outer(curve, levels)
    assert steps(pair[..., None], [False, True]) == 4 * 2
    assert units(additive(pair, 0, 2), rows()) == (8 + 1, 2 + 1 + 1)


def test_finer_bins_that_change_nothing_cost_nothing() -> None:
    coarse, fine = np.array([0, 1, 2, 0.0]), np.array([0, 1, 1, 1, 2, 2, 0.0])
    assert units(additive(coarse, 1), rows()) == units(additive(fine, 1), rows())


def test_a_fitted_additive_model_has_no_more_lines_than_entries() -> None:
    model, table = fitted(AdditiveStudent(outer_bags=1, interactions=1, max_rounds=40), ("a", "b", "c"))
    found = units(model, table)
    assert found.decision == sum(len(t.features) + 3 for t in model.terms) + 3
    assert found.whole <= model.complexity()["parameters"]


def test_a_network_by_writing_out_its_sums() -> None:
    student = NetworkStudent(model={"kind": "mlp", "hidden": [4, 3]}, epochs=2)
    model, table = fitted(student)
    width = model.encoding.width
    operations = 4 * 2 * width + 3 * 2 * 4 + 2 * 2 * 3 + (4 + 3)  # products and sums with the bias, then activations
    assert units(model, table) == (model.complexity()["parameters"], operations)


def test_a_soft_tree_weighs_every_feature_at_every_node() -> None:
    for path, asked, rest in (("hard", 2, 1), ("soft", 3, 2 * 4 + 1)):
        model, table = fitted(SoftTreeStudent(depth=2, epochs=2, path=path))
        assert units(model, table).decision == asked * (2 * model.encoding.width + 1) + rest
        assert units(model, table).whole == model.complexity()["parameters"]


@dataclass(frozen=True)
class Silent:
    classes: tuple[str, ...] = ()
    output: Any = "values"
    label: str = "a wall"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> Any:
        return np.zeros((len(inputs), 1))


def test_who_does_not_say_how_large_it_is_is_asked() -> None:
    with pytest.raises(InputError, match="'a wall' does not say how large"):
        units(Silent(), rows())
    with pytest.raises(InputError, match="there are none"):
        units(Silent(), rows().take([]))

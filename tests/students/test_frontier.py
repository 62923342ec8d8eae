"""The frontier of fidelity against complexity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.errors import InputError
from distillens.models.tree import TreeModel
from distillens.students.additive import AdditiveStudent
from distillens.students.frontier import frontier, units
from distillens.students.linear import LinearStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")


def rows(n: int, seed: int) -> Split:
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return Split(Table(x, tuple(Column(f"x{j}") for j in range(3)), np.arange(n)))


@dataclass(frozen=True)
class Steps:
    """A teacher that is a staircase of the first column: trees can copy it, a linear model cannot."""

    classes: tuple[str, ...] = CLASSES
    output: Any = "probabilities"
    label: str = "steps"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> Any:
        p = np.array([0.1, 0.8, 0.3, 0.95])[np.digitize(inputs.values[:, 0], [-0.7, 0.0, 0.7])]
        return np.column_stack([1 - p, p]) if self.classes else p[:, None]


def taught(teacher: Steps) -> Targets:
    train = rows(400, 0)
    return Targets.from_outputs(train, teacher(train.inputs), output=teacher.output, classes=teacher.classes)


def test_larger_trees_are_closer_and_what_is_dominated_is_said() -> None:
    teacher = Steps()
    students: dict[str, Any] = {
        "tree 2": TreeStudent(max_leaves=2),
        "tree 4": TreeStudent(max_leaves=4),
        "linear": LinearStudent(),
    }
    records = frontier(students, taught(teacher), teacher, validation=rows(100, 1), test=rows(500, 2), seeds=(0, 1))
    assert json.loads(json.dumps(records)) == records
    assert [(r["student"], r["seed"]) for r in records] == [(s, seed) for seed in (0, 1) for s in students]
    small, large, linear = records[:3]
    assert (small["units"], large["units"]) == (3, 7)
    assert large["settings"]["max_leaves"] == 4
    assert large["divergence"]["value"] < 0.01 < small["divergence"]["value"] < linear["divergence"]["value"]
    assert large["agreement"]["value"] > 0.98 > small["agreement"]["value"]
    assert large["dominated"] == small["dominated"] == {"parameters": [], "units": []}
    # three questions and four answers hold no more than the linear model's numbers, and are far closer
    assert linear["complexity"]["parameters"] >= small["complexity"]["parameters"]
    assert linear["dominated"]["parameters"] == ["tree 2"]


def test_equally_close_students_do_not_dominate_each_other() -> None:
    teacher = Steps()
    students = {"a": TreeStudent(max_leaves=4), "b": TreeStudent(max_leaves=4)}
    for record in frontier(students, taught(teacher), teacher, validation=rows(50, 1), test=rows(200, 2)):
        assert record["dominated"] == {"parameters": [], "units": []}


def test_regression_has_no_agreement() -> None:
    teacher = Steps(classes=(), output="values")
    record = frontier(
        {"tree": TreeStudent(max_leaves=4)}, taught(teacher), teacher, validation=rows(50, 1), test=rows(200, 2)
    )[0]
    assert record["agreement"] is None
    model = TreeStudent(max_leaves=4).fit(taught(teacher), validation=rows(50, 1), teacher=teacher, seed=0)
    test = rows(200, 2)
    expected = np.abs(model(test.inputs) - teacher(test.inputs)).mean()
    assert record["divergence"]["value"] == pytest.approx(expected)


def test_units_count_what_is_read() -> None:
    teacher = Steps()
    fit = {"validation": rows(50, 1), "teacher": teacher, "seed": 0}
    tree = TreeStudent(max_leaves=5).fit(taught(teacher), **fit)
    assert isinstance(tree, TreeModel)
    assert units(tree) == int((tree.feature >= 0).sum()) + tree.complexity()["leaves"]
    additive = AdditiveStudent(outer_bags=1, interactions=1, max_rounds=20).fit(taught(teacher), **fit)
    assert units(additive) == sum(len(term.features) for term in additive.terms)
    with pytest.raises(InputError, match="how large"):
        units(teacher)
    with pytest.raises(InputError, match="at least one student"):
        frontier({}, taught(teacher), teacher, validation=rows(9, 1), test=rows(9, 2))

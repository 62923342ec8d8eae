"""Pairs of an additive student: the teacher's own by the H-statistic, named ones, and those that boosting finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError
from distillens.models.callable import CallableModel
from distillens.students.additive import AdditiveStudent
from distillens.students.teacher_pairs import interaction_strengths
from distillens.transfer.targets import Targets

COLUMNS = tuple(Column(name) for name in "abcd")


def table_of(values: Any) -> Table:
    return Table(np.asarray(values, dtype=np.float64), COLUMNS, np.arange(len(values)))


def teacher_of(function: Any) -> CallableModel:
    return CallableModel(lambda t: function(t.values)[:, None], (), "values", "formula")


def targets_of(teacher: CallableModel, table: Table) -> Targets:
    return Targets.from_outputs(Split(table), teacher(table), output="values", classes=())


def pairs_in(model: Any) -> list[tuple[int, ...]]:
    return sorted(term.features for term in model.terms if len(term.features) == 2)


def test_the_statistic_on_paper() -> None:
    """Of f = 2ab + c the partial dependences are products of means, so that H_ab = 2 · rms((a − ā)(b − b̄)) up to its mean."""
    table = table_of(np.random.default_rng(0).normal(size=(25, 4)))
    found = interaction_strengths(teacher_of(lambda v: 2 * v[:, 0] * v[:, 1] + v[:, 2]), table, seed=0, limit=6.0)
    a, b = (table.values[:, j] - table.values[:, j].mean() for j in (0, 1))
    product = 2 * a * b
    assert next(iter(found)) == (0, 1)
    assert found[0, 1] == pytest.approx(np.sqrt(((product - product.mean()) ** 2).mean()))
    assert max(strength for pair, strength in found.items() if pair != (0, 1)) < 1e-12
    assert list(found) == sorted(found, key=lambda pair: (-found[pair], pair))


def test_an_additive_teacher_has_no_pairs_and_classes_are_asked_on_log_odds() -> None:
    table = table_of(np.random.default_rng(0).normal(size=(60, 4)))
    z = table.values[:, 0] - table.values[:, 1]
    assert np.abs(z).max() < 6  # nothing is clipped, which would be an interaction
    logits = CallableModel(
        lambda t: np.stack([1 - expit(t.values[:, 0] - t.values[:, 1]), expit(t.values[:, 0] - t.values[:, 1])], axis=1),
        ("no", "yes"), "probabilities", "logistic",
    )  # fmt: skip
    found = interaction_strengths(logits, table, seed=0, limit=30.0)
    assert max(found.values()) < 1e-9
    assert (0, 1) not in interaction_strengths(logits, table, seed=0, limit=30.0, leave_out=frozenset({0}))
    three = CallableModel(
        lambda t: np.stack([t.values[:, 0] * t.values[:, 1], t.values[:, 2], t.values[:, 3]], axis=1),
        tuple("xyz"),
        "logits",
        "three",
    )
    strongest = next(iter(interaction_strengths(three, table, seed=0, limit=30.0)))
    assert strongest == (0, 1)


def test_the_teachers_pair_is_taken_though_the_rows_hide_it() -> None:
    """c copies a, so that on the rows the pair (a, b) could as well be (c, b): only asking the teacher tells."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 4))
    values[:, 2] = values[:, 0]
    table, teacher = table_of(values), teacher_of(lambda v: 3 * v[:, 2] * v[:, 1] + v[:, 0])
    options: dict[str, Any] = {"outer_bags": 1, "interactions": 1, "max_rounds": 200}
    taught = targets_of(teacher, table)

    def fitted(student: AdditiveStudent, of: Any = teacher) -> Any:
        return student.fit(taught, validation=Split(table), teacher=of, seed=0)

    assert pairs_in(fitted(AdditiveStudent(pairs="teacher", **options))) == [(1, 2)]
    found = pairs_in(fitted(AdditiveStudent(**options)))
    assert len(found) == 1
    assert found[0] in {(0, 1), (1, 2)}
    assert pairs_in(fitted(AdditiveStudent(pairs="teacher", **options), of=None)) == found  # nobody to ask
    assert pairs_in(fitted(AdditiveStudent(pairs=(("d", "a"), ("b", "c")), **options))) == [(0, 3), (1, 2)]
    assert (1, 2) not in pairs_in(fitted(AdditiveStudent(pairs="teacher", monotone={"c": 1}, **options)))
    few = fitted(AdditiveStudent(pairs=(("d", "a"), ("b", "c")), max_terms=2, **options))
    assert len(few.terms) <= 2
    for pairs, said in (
        ((("a", "a"),), "with itself"),
        ((("a", "x"),), "'x'"),
    ):
        with pytest.raises(DataError, match=said):
            fitted(AdditiveStudent(pairs=pairs, **options))
    with pytest.raises(DataError, match="is monotone"):
        fitted(AdditiveStudent(pairs=(("a", "b"),), monotone={"b": 1}, **options))


def test_pairs_in_a_recipe() -> None:
    from distillens.errors import RecipeError
    from distillens.recipe import Recipe

    def student(pairs: Any) -> Any:
        students = {"ebm": {"kind": "additive", "pairs": pairs}}
        return Recipe.load({"data": {"source": "wine"}, "students": students}).build_student("ebm").pairs

    assert student("teacher") == "teacher"
    assert student([["a", "b"]]) == (("a", "b"),)
    from distillens.recipe.check import check

    wrong = {"kind": "additive", "pairs": [["alcohol", "ash"], ["ash", "alcool"]]}
    problems = check({"data": {"source": "wine"}, "students": {"ebm": wrong}}).problems
    assert [p for p in problems if "pairs" in p] == [
        "students.ebm.pairs.1: there is no feature 'alcool'. Did you mean 'alcohol'?"
    ]
    with pytest.raises(RecipeError, match="students.ebm.pairs"):
        student("teecher")

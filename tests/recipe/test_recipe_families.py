"""What a recipe tells a family: the adverse class of the task, and the tasks that a family is for."""

from __future__ import annotations

import pytest

from distillens.recipe.base import Recipe
from distillens.recipe.check import check


def test_points_are_against_the_adverse_class_of_the_task() -> None:
    cards = ("students={plain: {kind: scorecard}, named: {kind: scorecard, adverse: good}, tree: {kind: tree}}",)
    recipe = Recipe.load("german-credit", overrides=cards)
    assert recipe.task.adverse == "bad"
    assert recipe.build_student("plain").adverse == "bad"
    assert recipe.build_student("named").adverse == "good"
    assert not hasattr(recipe.build_student("tree"), "adverse")
    assert Recipe.load("german-credit", overrides=("teacher={kind: scorecard}",)).build_teacher().adverse == "bad"


@pytest.mark.parametrize("kind", ["scorecard", "soft_tree"])
def test_a_family_that_is_not_for_the_task_is_found_before_training(kind: str) -> None:
    found = check("diabetes", overrides=[f"students={{s: {{kind: {kind}}}}}"])
    assert any(p.startswith("students.s:") and kind in p and "a regression task" in p for p in found.problems)
    assert not any("task" in p for p in check("diabetes", overrides=["students={s: {kind: rules}}"]).problems)

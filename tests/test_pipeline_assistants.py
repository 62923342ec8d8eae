"""A run with several teachers as one and a student that is taught by another student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import distillens
from distillens.errors import RecipeError
from distillens.models.store import load_model
from distillens.recipe import Recipe
from distillens.store import read_json


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "name": "assistants",
        "data": {"target": "y", "split": {"test": 0.3, "validation": 0.2}},
        "teacher": {"kind": "ensemble", "combine": "confidence", "members": [{"kind": "linear"}, {"kind": "boosted_trees", "tune": False, "max_rounds": 30}]},
        "targets": {"queries": "off"},
        "students": {
            "small": {"kind": "tree", "max_leaves": 3},
            "medium": {"kind": "tree", "max_leaves": 12},
        },
        "assistants": {"small": "medium"},
        "explain": [{"kind": "kernel_shap", "rows": 10, "budget": 32, "background": {"from": "train", "rows": 10}}],
        "audit": {"draws": 100},
        "controls": "none",
        "export": [],
        "report": {"languages": ["en", "zh"]},
    } | changes  # fmt: skip


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(260, 3))
    y = np.where(x[:, 0] + np.sin(3 * x[:, 1]) + rng.normal(scale=0.3, size=260) > 0, "yes", "no")
    return pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y)


def test_a_student_learns_from_its_assistant_and_is_audited_against_the_teacher(tmp_path: Path) -> None:
    run = distillens.run(recipe(), data=frame(), out=tmp_path / "run")
    home = run.directory
    teacher, medium, small = (
        load_model(home / name / "model.safetensors") for name in ("teacher", "students/medium", "students/small")
    )
    assert teacher.label.startswith("ensemble of ")
    record = read_json(home / "students" / "small" / "student.json")
    assert record["assistant"] == "medium"
    assert read_json(home / "students" / "medium" / "student.json")["assistant"] is None
    audit = read_json(home / "students" / "small" / "audit.json")
    assert audit["models"]["teacher"]["fingerprint"] == teacher.fingerprint
    # Without an assistant the tree of three leaves is another one: it was really the assistant's answers that it learned.
    other = distillens.run(recipe(assistants={}), data=frame(), out=tmp_path / "other")
    alone = load_model(other.directory / "students" / "small" / "model.safetensors")
    assert alone.fingerprint != small.fingerprint
    assert (other.directory / "passport.html").is_file()
    again = distillens.run(recipe(), data=frame(), out=tmp_path / "run", resume=True)
    assert load_model(again.directory / "students" / "small" / "model.safetensors").fingerprint == small.fingerprint
    assert medium.fingerprint != small.fingerprint


def test_assistants_come_first_and_circles_are_refused() -> None:
    known = {name: {"kind": "tree"} for name in "abc"}
    chain = Recipe.load(recipe(students=known, assistants={"a": "b", "b": "c"}))
    assert chain.teaching_order() == ("c", "b", "a")
    with pytest.raises(RecipeError, match="a is taught by b is taught by a; somebody has to be taught by the teacher"):
        Recipe.load(recipe(students=known, assistants={"a": "b", "b": "a"}))
    with pytest.raises(RecipeError, match=r"assistants.a: there is no student 'd'"):
        Recipe.load(recipe(students=known, assistants={"a": "d"}))
    with pytest.raises(RecipeError, match=r"assistants: there is no student 'smal' in this recipe. Did you mean"):
        Recipe.load(recipe(assistants={"smal": "medium"}))

"""Recipes: defaults written out, every problem at once with its path, nothing but Recipe or RecipeError."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillens.errors import RecipeError, UntrustedCodeError
from distillens.explainers.base import EXPLAINERS
from distillens.named import load_object
from distillens.recipe import Recipe, builtin_recipes
from distillens.recipe.entries import read_entry
from distillens.recipe.text import parse_yaml, read_yaml
from distillens.students.base import STUDENTS, TEACHERS

SMALL: dict[str, Any] = {"data": {"source": "wine"}, "students": {"tree": {"kind": "tree"}}}


def with_(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(SMALL) | changes


def problems_of(recipe: Any, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(recipe, overrides=overrides)
    return caught.value.problems


def test_the_built_in_recipes_are_these() -> None:
    assert list(builtin_recipes()) == ["breast-cancer", "diabetes", "digits", "fashion-mnist", "german-credit", "wine"]


@pytest.mark.parametrize("name", list(builtin_recipes()))
def test_built_in_recipes_load_build_and_read_back(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert builtin_recipes()[name].read_text(encoding="utf-8").startswith(f"# distillens run {name}\n")
    assert hasattr(recipe.build_teacher(), "fit")
    assert all(hasattr(recipe.build_student(student), "fit") for student in recipe.students)
    assert list(recipe.build_explainers()) == ["kernel_shap"]
    again = Recipe.load(parse_yaml(recipe.to_yaml(), what="again"))
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()
    jsonschema.validate(parse_yaml(recipe.to_yaml(), what="again"), Recipe.json_schema())
    jsonschema.validate(read_yaml(builtin_recipes()[name]), Recipe.json_schema())


def test_defaults_are_written_out_and_built_in_data_bring_theirs() -> None:
    recipe = Recipe.load({"data": {"source": "german-credit"}, "students": {"tree": {"kind": "tree"}}})
    assert recipe.data.target == "creditability"
    assert recipe.data.roles == {"audit_only": ("age_in_years", "personal_status_and_sex", "foreign_worker")}
    assert recipe.task.adverse == "bad"
    assert recipe.students["tree"]["max_leaves"] == load_object(STUDENTS["tree"])().max_leaves
    assert recipe.teacher["kind"] == "boosted_trees"
    assert recipe.query_candidates() == (0, 1, 4)


def test_a_role_given_to_the_built_in_target_does_not_clash() -> None:
    recipe = Recipe.load(
        {"data": {"source": "german-credit", "target": "foreign_worker"}, "students": {"tree": {"kind": "tree"}}}
    )
    assert recipe.data.roles == {"audit_only": ("age_in_years", "personal_status_and_sex")}
    assert recipe.task.adverse is None


@pytest.mark.parametrize(
    ("queries", "expected"),
    [("none", (0,)), (3, (3,)), ({"candidates": [0, 2]}, (0, 2)), ("auto", (0, 1, 4)), ("off", (0,)), (0.25, (0.25,))],
)
def test_query_candidates(queries: Any, expected: tuple[int, ...]) -> None:
    assert Recipe.load(with_(targets={"queries": queries})).query_candidates() == expected


def test_every_problem_at_once_with_its_path() -> None:
    broken = {
        "sed": 1, "seed": -1, "controls": "ful", "chosen": "x", "export": ["onnx"], "report": {"languages": ["de"], "ownr": "me"},
        "data": {"source": "german-credit", "roles": {"audit_onl": ["a"]}, "split": {"test": 2, "valid": 0.3}},
        "task": {"kind": "binry", "adverse": True, "threshold": 2},
        "teacher": {"kind": "boosted_tree"},
        "students": {
            "tree": {"kind": "tree", "max_leavs": 3, "max_leaves": "a", "monotone": {"x": 2}},
            "net": {"kind": "network", "model": {"hiden": [1]}, "objectives": [{"kind": "kdd"}, {"kind": "kd", "temperatur": 3}]},
            "a.b": {"kind": "linear"},
        },
        "explain": [{"kind": "kernel_shap", "budget": -5}, {"kind": "x"}, 3],
        "audit": {"level": 1, "draws": 2.5},
        "targets": {"queries": "some", "folds": True},
    }  # fmt: skip
    problems = problems_of(broken)
    for start, said in {
        "sed:": "Did you mean 'seed'", "seed:": "at least 0", "controls:": "Did you mean 'full'", "report.languages.0:": '"de" is not known',
        "report.ownr:": "Did you mean 'owner'", "data.roles.audit_onl:": "Did you mean 'audit_only'", "data.split.test:": "below 1",
        "data.split.valid:": "Did you mean 'validation'", "task.kind:": "Did you mean 'binary'", "task.adverse:": "in quotes",
        "task.threshold:": "below 1", "teacher.kind:": "Did you mean 'boosted_trees'", "students.tree.max_leavs:": "Did you mean 'max_leaves'",
        "students.tree.max_leaves:": "whole number", "students.tree.monotone.x:": "+1", "students.net.model.hiden:": "Did you mean 'hidden'",
        "students.net.objectives.0.kind:": "Did you mean 'kd'", "students.net.objectives.1.temperatur:": "Did you mean 'temperature'",
        'students."a.b":': "file name", "explain.0:": "budget", "explain.1.kind:": "no explainer 'x'", "explain.2:": "mapping", "audit.level:": "below 1",
        "audit.draws:": "whole number", "targets.queries:": "'auto'", "targets.folds:": "whole number",
    }.items():  # fmt: skip
        assert any(p.startswith(start) and said in p for p in problems), (start, said, problems)
    assert not any("pydantic" in p or "http" in p or "Input should" in p or "\n" in p for p in problems)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"students": {}}, "students: expected at least one entry"),
        ({"students": {"tree": {}}}, "students.tree.kind: is required"),
        ({"students": {"T": {"kind": "tree"}, "t": {"kind": "tree"}}}, "but for capitals"),
        ({"students": {"twin": {"kind": "tree"}}}, "students.twin: a student's name"),
        ({"chosen": "tre"}, "chosen: there is no student 'tre' in this recipe. Did you mean 'tree'?"),
        ({"export": ["onx"]}, "export.0: there is no exporter 'onx'. Did you mean 'onnx'?"),
        ({"export": ["onnx", "onnx"]}, "export.1: onnx is listed twice"),
        ({"audit": {"gates": "high_stake"}}, "Did you mean 'high_stakes'"),
        ({"audit": {"gates": {"agreemen": {"min": 0.9}}}}, "Did you mean 'agreement'"),
        ({"targets": {"kind": "smeer"}}, "targets.kind: \"smeer\" is not known. Did you mean 'smear'"),
        ({"targets": {"kind": ["noise", "smeer"]}}, "Did you mean 'smear'"),
        ({"targets": {"kind": []}}, "targets.kind: expected"),
        ({"targets": {"stop": "never"}}, "targets.stop: \"never\" is not known. Known: 'none', 'validation'"),
        ({"targets": {"near_threshold": {"weigts": "flat"}}}, "Did you mean 'weights'"),
        ({"targets": {"origin": "labels", "queries": 2}}, "there is no teacher to label query rows"),
        ({"task": {"costs": {"false_positive": 1}}}, "task.costs.false_negative: this key is required"),
        ({"task": {"costs": {"false_positive": 1, "false_negative": 0}}}, "a number above 0"),
        (
            {"task": {"threshold": 0.5, "costs": {"false_positive": 1, "false_negative": 5}}},
            "= 0.167; keep one of the two",
        ),
        (
            {"task": {"kind": "multiclass", "costs": {"false_positive": 1, "false_negative": 5}}},
            "task.costs: a multiclass task",
        ),
        ({"teacher": {"use": "nocolon"}}, "teacher.use: expected package.module:factory"),
        ({"teacher": {"use": "a.b:c", "kind": "tree"}}, "teacher.kind: unknown key beside use"),
        ({"name": "a/b"}, "cannot name a folder"),
        ({"name": ".."}, "cannot name a folder"),
        ({"data": {"source": "x.csv"}}, "data.target: this key is required"),
        (
            {"data": {"source": "x.csv", "target": "y", "roles": {"id": ["a"], "weight": "a"}}},
            "the column 'a' has two roles, id and weight",
        ),
        (
            {"data": {"source": "x.csv", "target": "y", "roles": {"id": "y"}}},
            "the column 'y' has two roles, target and id",
        ),
        ({"data": {"source": "wine", "split": {"time": "a", "group": "b"}}}, "a split goes by one thing"),
        ({"data": {"source": "wine", "split": {"test_from": "2020"}}}, "needs time"),
        ({"task": {"kind": "regression", "adverse": "x"}}, "a regression has no classes"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"seed": "1"}, 'seed: expected a whole number, got "1"'),
        ({"audit": {"level": float("nan")}}, "finite"),
        ({"explain": [{"kind": "kernel_shap", "background": {"from": "tset"}}]}, "explain.0"),
    ],
)
def test_one_problem_each(changes: dict[str, Any], said: str) -> None:
    problems = problems_of(with_(**changes))
    assert len(problems) == 1
    assert said in problems[0]


def test_the_source_of_a_recipe() -> None:
    assert "neither a file nor built in. Did you mean 'wine'?" in problems_of("wina")[0]
    assert "no such file" in problems_of("nowhere/wine.yaml")[0]
    assert "not a int" in problems_of(3)[0]
    assert "expected a mapping" in problems_of(Path(__file__).parents[2] / "src" / "distillens" / "py.typed")[0]


def test_files_name_the_run_and_anchor_relative_paths(tmp_path: Path) -> None:
    file = tmp_path / "my recipe.v2.yaml"
    file.write_text(
        "data: {source: sub/x.csv, target: 2020}\nstudents: {t: {kind: tree}}\ntargets:\n", encoding="utf-8"
    )
    recipe = Recipe.load(file, overrides=["students.t.max_leaves=4"])
    assert recipe.name == "my-recipe.v2"
    assert recipe.title == recipe.name
    assert recipe.data.target == "2020"
    assert recipe.data_path() == tmp_path / "sub" / "x.csv"
    assert recipe.model_copy(update={"seed": 3}).data_path() == recipe.data_path()
    assert recipe.build_student("t").max_leaves == 4


def test_a_recipe_cannot_be_edited() -> None:
    recipe = Recipe.load(SMALL)
    with pytest.raises(pydantic.ValidationError):
        recipe.seed = 3  # type: ignore[misc]
    before = copy.deepcopy(SMALL)
    Recipe.load(SMALL, overrides=["students.tree.max_leaves=3"])
    assert before == SMALL


def test_stage_parts_change_only_where_the_recipe_changed() -> None:
    base = Recipe.load("german-credit").stage_parts()

    def moved(*overrides: str) -> set[str]:
        parts = Recipe.load("german-credit", overrides=overrides).stage_parts()
        return {name for name, part in parts.items() if part != base[name]}

    assert moved() == set()
    assert moved("students.tree.max_leaves=4") == {"students", "frontier"}  # which has members of its families
    assert moved("seed=1") == {"data"}  # from which everything descends
    assert moved("teacher.max_rounds=10") == {"teacher"}
    assert moved("explain.0.budget=64") == {"explain"}
    assert moved("report.owner=me") == {"report"}
    assert moved("students.tree.min_rows=5") == set()  # the default, written out


def test_code_needs_trust() -> None:
    recipe = Recipe.load(
        with_(
            students={"own": {"kind": "package.module:Name", "anything": 1}},
            teacher={"use": "sklearn.dummy:DummyClassifier"},
        )
    )
    with pytest.raises(UntrustedCodeError, match="trust-code"):
        recipe.build_student("own")
    with pytest.raises(UntrustedCodeError, match="trust-code"):
        recipe.build_teacher()
    with pytest.raises(RecipeError, match="cannot be imported"):
        recipe.build_student("own", trust_code=True)
    assert hasattr(recipe.build_teacher(trust_code=True), "fit")


def test_trusted_code_is_an_entry_like_any_other() -> None:
    path = "distillens.students.tree:TreeStudent"
    recipe = Recipe.load(with_(students={"own": {"kind": path, "max_leaves": 5}}))
    assert recipe.build_student("own", trust_code=True).max_leaves == 5
    wrong = Recipe.load(with_(students={"own": {"kind": path, "leaves": 5}}))
    with pytest.raises(RecipeError, match="unknown key"):
        wrong.build_student("own", trust_code=True)


def test_explainers_of_one_kind_get_numbers() -> None:
    entry = {"kind": "kernel_shap"}
    recipe = Recipe.load(with_(explain=[entry, {"kind": "intrinsic"}, entry | {"budget": 64}]))
    assert list(recipe.build_explainers()) == ["kernel_shap", "intrinsic", "kernel_shap_2"]


@pytest.mark.parametrize(
    ("known", "name"), [(known, name) for known in (STUDENTS, TEACHERS, EXPLAINERS) for name in known]
)
def test_every_member_of_an_open_set_is_a_recipe_entry(known: dict[str, str], name: str) -> None:
    built, problems = read_entry({"kind": name}, known, what="member", path="x")
    assert problems == []
    assert dataclasses.is_dataclass(built)
    assert built.kind == name
    for field in dataclasses.fields(built):
        if field.name != "kind":
            _, wrong = read_entry({"kind": name, field.name: {"no": {"such": "value"}}}, known, what="member", path="x")
            assert len(wrong) == 1, field.name
            assert wrong[0].startswith("x")


# ── mutated recipes ─────────────────────────────────────────────────────────────────────────────────────────────────────
BASES = [parse_yaml(Recipe.load(name).to_yaml(), what="base") for name in builtin_recipes()]
junk = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=8), st.just([]), st.just({}), st.just([[]]),
    st.just({"kind": "tree"}), st.just({"kind": 3}), st.just("a.b:c"), st.just("network"), st.just(b"x"), st.just(object()), st.just({1: 2}),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


@given(data=st.data())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_recipes_load_or_say_why(data: st.DataObject) -> None:
    raw = copy.deepcopy(data.draw(st.sampled_from(BASES)))
    for _ in range(data.draw(st.integers(1, 4))):
        options = places(raw)
        if not options:
            break
        *parents, last = data.draw(st.sampled_from(options))
        holder = raw
        for key in parents:
            holder = holder[key]
        action = data.draw(st.sampled_from(["replace", "drop", "rename"]))
        if action == "replace":
            holder[last] = copy.deepcopy(data.draw(junk))  # or the next example would get this one's changes
        elif action == "rename" and isinstance(holder, dict):
            holder[data.draw(st.text(max_size=6))] = holder.pop(last)
        else:
            del holder[last]
    recipe, problems = None, ()
    try:
        recipe = Recipe.load(raw)
    except RecipeError as error:
        problems = error.problems
    assert (recipe is None) == bool(problems)
    assert all(problem and "\n" not in problem and "pydantic" not in problem for problem in problems)
    if recipe is not None:
        assert Recipe.load(parse_yaml(recipe.to_yaml(), what="again")).to_yaml() == recipe.to_yaml()

"""Study files: what is filled in, what is tried, and every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillens.errors import RecipeError
from distillens.recipe.text import parse_yaml
from distillens.studies.study import Study, is_study

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "studies").glob("*.yaml"))


def problems(entry: Any) -> str:
    with pytest.raises(RecipeError) as raised:
        Study.load(entry)
    return "\n".join(raised.value.problems)


def test_labels_are_always_there_and_every_mechanism_has_as_many_tries(entry: dict[str, Any]) -> None:
    study = Study.load(entry)
    assert [m.name for m in study.mechanisms] == ["labels", "kd", "attention", "gradient", "queries"]
    tried = [study.configurations(m) for m in study.mechanisms]
    assert [len(t) for t in tried] == [2] * 5
    assert [c.learning_rate for c in tried[0]] == [0.02, 0.04]
    assert [c.objectives[0]["weight"] for c in tried[1]] == [1.0, 3.0]
    assert [c.objectives[0]["weight"] for c in tried[2]] == [100.0, 300.0]
    assert Study.load(parse_yaml(study.to_yaml(), what="study")) == study


def test_a_grid_of_ones_own_is_combined_and_sampled_by_the_seed(entry: dict[str, Any]) -> None:
    entry["mechanisms"][0]["grid"] = {
        "kd.temperature": [1, 2, 4],
        "task_weight": [0, 0.5],
        "learning_rate": [0.01, 0.02],
    }
    entry["tune"]["budget"] = 2
    study = Study.load(entry)
    first, second = study.configurations(study.mechanism("kd"))
    assert (first.objectives[0]["temperature"], first.task_weight, first.learning_rate) == (1, 0, 0.01)
    assert first != second
    assert study.configurations(study.mechanism("kd")) == (first, second)
    others = {
        Study.load(entry | {"seed": s}).configurations(study.mechanism("kd"))[1].changed.values().__repr__()
        for s in range(8)
    }
    assert len(others) > 1
    entry["tune"]["budget"] = 1
    (only,) = Study.load(entry).configurations(study.mechanism("kd"))
    assert only.changed == {}


def test_the_last_epoch_is_kept(entry: dict[str, Any]) -> None:
    study = Study.load(entry)
    assert study.built_schedule().keep == "last"
    assert study.teacher_schedule().keep == "last"
    assert study.teacher_schedule().epochs == 12
    entry["schedule"]["keep"] = "best"
    assert "schedule.keep: a study always keeps the last epoch" in problems(entry)


def test_every_problem_at_once(entry: dict[str, Any]) -> None:
    entry |= {"sedes": 3, "student": {"kind": "cmn"}, "labelled_per_class": 0}
    entry["schedule"]["epochs"] = 0
    entry["teacher"]["model"]["chanels"] = [3]
    entry["mechanisms"][0]["objectives"][0]["temprature"] = 2
    entry["mechanisms"][1]["name"] = "a|b/../c"
    entry["mechanisms"][2]["objectives"][0]["kind"] = "gradient_machting"
    text = problems(entry)
    for part in (
        "sedes: unknown key. Did you mean 'seeds'?", "student: There is no network for images 'cmn'. Did you mean 'cnn'?",
        "labelled_per_class: expected a number of at least 1, got 0", "schedule: epochs is a whole number of at least 1",
        "no option 'chanels'. Did you mean 'channels'?", "temprature: unknown key. Did you mean 'temperature'?",
        'name: "a|b/../c" cannot name a folder', "no objective 'gradient_machting'. Did you mean 'gradient_matching'?",
    ):  # fmt: skip
        assert part in text, text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanisms": []}, "only 'labels' is left to compare"),
        ({"mechanisms": [{"name": "kd", "objectives": [{"kind": "kd"}]}, {"name": "KD", "objectives": [{"kind": "kd"}]}]}, "cannot tell capitals apart"),
        ({"mechanisms": [{"name": "labels", "objectives": [{"kind": "kd"}]}]}, "name this one differently"),
        ({"mechanisms": [{"name": "nothing"}]}, "what does 'nothing' learn from the teacher"),
        ({"mechanisms": [{"name": "kd", "objectives": [{"kind": "kd"}], "grid": {"weigths": [1, 2]}}]}, "Did you mean 'weights'"),
        ({"mechanisms": [{"name": "kd", "objectives": [{"kind": "kd"}], "grid": {"weights": [1]}}]}, "1 combination for a budget of 2"),
        ({"mechanisms": [{"name": "kd", "objectives": [{"kind": "kd"}], "grid": {"weights": [1, 1]}}]}, "listed twice"),
        ({"mechanisms": [{"name": "kd", "objectives": [{"kind": "kd"}], "grid": {"kd.temperature": [0, 1]}}]}, "temperature is a number above 0"),
        ({"mechanisms": [{"name": "kd", "objectives": [{"kind": "kd"}], "grid": {"kd.heat": [1, 2]}}]}, "heat: unknown key"),
        ({"mechanisms": "kd"}, "mechanisms: expected a list"),
        ({"mechanisms": [7]}, "mechanisms"),
        ({"teacher": {}}, "teacher: give its model"),
        ({"teacher": {"model": {"kind": "cnn"}, "file": "t.safetensors"}}, "keep one of the two"),
        ({"measure": {"explainer": "kernel_shapp"}}, "Did you mean 'kernel_shap'"),
        ({"schedule": {"epochs": 3}}, "learning_rate: this key is required"),
        ({"student": "mlp"}, "is for tables"),
        ({"name": "../up"}, "cannot name a folder"),
        ({"tune": {"budget": 0}}, "tune.budget"),
        ({"level": 1.0}, "level"),
        ({"seed": float("nan")}, "seed: expected a finite number"),
        ({"data": {"source": "digits", "limit": {"trian": 3}}}, "Did you mean 'train'"),
    ],
)  # fmt: skip
def test_what_cannot_be_studied_is_said(entry: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Study.load(entry | change)


def test_which_files_are_studies(tmp_path: Path) -> None:
    for name, text, expected in (
        ("a.yaml", "study: x", True), ("b.yml", "mechanisms: []", True), ("c.yaml", "students: {}", False), ("d.json", "study: x", False),
        ("e.yaml", "- study", False),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert is_study(tmp_path / name) is expected
    assert not is_study(tmp_path / "nowhere.yaml")
    assert not is_study(tmp_path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_studies(path: Path) -> None:
    study = Study.load(path)
    assert is_study(path)
    assert path.read_text(encoding="utf-8").startswith(f"# distillens compare examples/studies/{path.name}\n")
    assert study.seeds == 5
    assert study.tune.budget == 3


def test_the_study_on_the_page_is_a_study() -> None:
    page = (Path(__file__).parents[2] / "docs" / "which-mechanism.md").read_text(encoding="utf-8")
    text = page.partition("```yaml\n")[2].partition("```")[0]
    study = Study.load(parse_yaml(text, what="docs/which-mechanism.md"))
    assert [m.name for m in study.mechanisms] == ["labels", "kd", "gradient"]

"""Every member of every open set: it resolves, fits its protocol, says where it comes from, and is used once for real."""

from __future__ import annotations

import importlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch  # noqa: F401 (loaded first, so that the checks watch its global state)

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError, InputError
from distillens.explainers.base import EXPLAINERS
from distillens.exporters.base import EXPORTERS
from distillens.exporters.parity import parity
from distillens.metrics.base import METRICS
from distillens.models.base import Decision, Model
from distillens.models.onnx import OnnxModel
from distillens.named import load_object
from distillens.recipe.entries import read_entry, resolved
from distillens.students.base import STUDENTS, TEACHERS, Student
from distillens.testing import (
    check_explainer,
    check_metric,
    check_model,
    check_objective,
    check_student,
    untouched,
)
from distillens.transfer.objectives.base import OBJECTIVES, as_objective
from distillens.transfer.targets import Targets

TASKS = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}
COLUMNS = (
    Column("age"),
    Column("income <b>"),
    Column("colour", "categorical", ("red", "green", "blue")),
    Column("owns", "boolean", ("no", "yes")),
)
FAMILIES = {kind: load_object(path) for kind, path in sorted((TEACHERS | STUDENTS).items())}
LEARNS = {kind: getattr(family, "tasks", tuple(TASKS)) for kind, family in FAMILIES.items()}
PAIRS = [(kind, task) for kind in FAMILIES for task in LEARNS[kind]]
LEFT_OUT = [(kind, task) for kind in FAMILIES for task in TASKS if task not in LEARNS[kind]]
EXPLAINED = {
    "intrinsic": ("linear", "tree", "additive"),
    "tree_shap": ("tree", "boosted_trees"),
}  # of what others cannot
LAYERS: tuple[Any, ...] = (((6,), (6,)), ((6,), (9,)), ((5, 4, 4), (5, 4, 4)), ((5, 4, 4), (7, 2, 2)))
QUICK: dict[str, dict[str, Any]] = {
    "network": {"epochs": 4, "model": {"kind": "mlp", "hidden": [8]}},
    "additive": {"outer_bags": 1, "interactions": 1, "max_rounds": 20},
    "boosted_trees": {"max_rounds": 12},
    "ensemble": {"members": ({"kind": "linear"}, {"kind": "tree"})},
}


def table(rows: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.normal(size=(rows, 2)), rng.integers(-1, 3, rows), rng.integers(-1, 2, rows)]).astype(
        float
    )
    values[rng.random(values.shape) < 0.05] = np.nan
    return Table(values, COLUMNS, np.arange(rows) + 1000 * seed)


@cache
def task_data(task: str) -> tuple[Targets, Split]:
    classes = TASKS[task]

    def answers(rows: Table) -> Any:
        x = np.nan_to_num(rows.values, nan=0.3)
        scores = np.column_stack([x[:, 0] + x[:, 3], np.sin(2 * x[:, 1]) - x[:, 2], x[:, 0] * x[:, 1]])
        return scores[:, : len(classes) or 1]

    def split(rows: int, seed: int) -> Split:
        inputs = table(rows, seed)
        noisy = answers(inputs) + np.random.default_rng(seed).normal(scale=0.5, size=(rows, len(classes) or 1))
        return Split(inputs, noisy.argmax(axis=1) if classes else noisy[:, 0])

    train = split(160, 1)
    output: Any = "logits" if classes else "values"
    return Targets.from_outputs(train, answers(train.inputs), output=output, classes=classes), split(40, 2)


@cache
def fitted(kind: str, task: str) -> Model:
    family = load_object((STUDENTS | TEACHERS)[kind])(**QUICK.get(kind, {}))
    targets, validation = task_data(task)
    model: Model = family.fit(targets, validation=validation, teacher=None, seed=0)
    return model


@pytest.mark.parametrize(
    "path",
    sorted({*STUDENTS.values(), *TEACHERS.values(), *EXPLAINERS.values(), *OBJECTIVES.values(), *EXPORTERS.values()}),
)
def test_every_member_resolves_and_is_documented(path: str) -> None:
    cls = load_object(path)
    assert cls.__module__ == path.partition(":")[0]
    assert (cls.__doc__ or "").strip()
    assert not cls.__doc__.startswith(f"{cls.__name__}(")  # what a dataclass writes by itself
    assert (importlib.import_module(cls.__module__).__doc__ or "").strip()


@pytest.mark.parametrize("members", [STUDENTS, TEACHERS, EXPLAINERS, OBJECTIVES, EXPORTERS])
def test_names_are_the_kinds(members: dict[str, str]) -> None:
    assert {name: load_object(path)().kind for name, path in members.items()} == {name: name for name in members}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_names_its_paper(name: str) -> None:
    module = importlib.import_module(load_object(OBJECTIVES[name]).__module__)
    assert re.search(r"\b(19|20)\d\d\b", module.__doc__ or "")


@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_every_family_keeps_the_contract(kind: str, task: str) -> None:
    family = load_object((STUDENTS | TEACHERS)[kind])(**QUICK.get(kind, {}))
    assert isinstance(family, Student)
    targets, validation = task_data(task)
    model = check_student(family, targets, validation=validation, seed=0)
    assert hasattr(model, "describe") == family.readable  # what people read
    check_model(model, table(30, 3))


@pytest.mark.parametrize(("kind", "task"), LEFT_OUT)
def test_a_task_that_a_family_does_not_learn_is_one_sentence(kind: str, task: str) -> None:
    targets, validation = task_data(task)
    with pytest.raises(DataError, match="two classes|for regression"):
        FAMILIES[kind]().fit(targets, validation=validation, teacher=None, seed=0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", EXPLAINERS)
def test_every_explainer_keeps_the_contract(kind: str, task: str) -> None:
    explainer = load_object(EXPLAINERS[kind])()
    targets = np.arange(6) % (len(TASKS[task]) or 1)
    for family in EXPLAINED.get(kind, ("linear", "network")):
        check_explainer(explainer, fitted(family, task), table(6, 4), target=targets, background=table(5, 5))


def test_a_sampling_explainer_keeps_the_contract() -> None:
    wide = Table(np.random.default_rng(0).normal(size=(12, 9)), tuple(Column(f"x{j}") for j in range(9)), np.arange(12))
    targets = Targets.from_outputs(
        Split(wide, None), np.sin(wide.values).sum(axis=1, keepdims=True), output="values", classes=()
    )
    model = load_object(STUDENTS["linear"])().fit(targets, validation=Split(wide, None), teacher=None, seed=0)
    explainer = load_object(EXPLAINERS["kernel_shap"])(budget=100)
    made = check_explainer(
        explainer, model, wide.take([0, 1]), target=np.zeros(2, dtype=np.int64), background=wide.take(np.arange(4, 9))
    )
    assert made.stderr is not None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_objective_keeps_the_contract(kind: str, task: str) -> None:
    objective, outputs = load_object(OBJECTIVES[kind])(weight=0.7), len(TASKS[task]) or 1
    if task not in getattr(objective, "tasks", TASKS):
        with pytest.raises(InputError, match=f"'{kind}' .*regression|{kind}.*two"):
            check_objective(objective, outputs=outputs)
        return
    looks = bool(objective.student_taps)
    fitting = 0
    for layer, teacher_layer in LAYERS if looks else LAYERS[:1]:
        try:
            check_objective(objective, outputs=outputs, layer=layer, teacher_layer=teacher_layer)
            fitting += 1
        except InputError as error:  # not for vectors, or not for maps
            assert looks and str(error)  # noqa: PT017, PT018
    assert fitting


@pytest.mark.parametrize(
    ("entry", "outputs"),
    [
        ({"kind": "kd", "standardize": True}, 3),
        ({"kind": "jsd", "beta": 0.0}, 3),
        ({"kind": "jsd", "beta": 1.0}, 2),
        ({"kind": "rkd", "angle": 0.0}, 2),
        ({"kind": "rkd", "distance": 0.0}, 1),
        ({"kind": "crd", "negatives_from": "rows", "negatives": 3}, 1),
        ({"kind": "sp", "student_taps": ("a", "b"), "teacher_taps": ("c", "d")}, 3),
        ({"kind": "cka", "student_taps": "auto", "teacher_taps": "auto"}, 3),
    ],
    ids=str,
)
def test_variants_of_objectives_keep_the_contract(entry: dict[str, Any], outputs: int) -> None:
    check_objective(as_objective(entry), outputs=outputs)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_objective_is_a_recipe_entry(kind: str) -> None:
    objective = load_object(OBJECTIVES[kind])(weight=0.25)
    entry = resolved({"kind": kind}, objective)  # every default written out
    read, problems = read_entry(json.loads(json.dumps(entry)), OBJECTIVES, what="objective", path="objectives.0")
    assert problems == []
    assert read == objective
    _, problems = read_entry({"kind": kind, "weight": -1}, OBJECTIVES, what="objective", path="objectives.0")
    assert problems == ["objectives.0: weight is a number of at least 0, got -1.0."]
    wrong = {**entry, "wieght": 1}
    assert "Did you mean 'weight'" in read_entry(wrong, OBJECTIVES, what="objective", path="")[1][0]


@pytest.mark.parametrize(("family", "task"), PAIRS)
@pytest.mark.parametrize("kind", EXPORTERS)
def test_every_exporter_writes_every_family(kind: str, family: str, task: str, tmp_path: Path) -> None:
    model, decision = fitted(family, task), Decision(1) if TASKS[task] else None
    with untouched(model):
        result = load_object(EXPORTERS[kind])()(model, tmp_path / "model.onnx", decision=decision)
    assert result.bytes == (tmp_path / "model.onnx").stat().st_size
    exported = OnnxModel.load(tmp_path / "model.onnx")
    check_model(exported, table(30, 6))
    same = parity(model, exported, table(200, 7), decision=decision)
    assert same["max_abs_difference"] < 1e-4
    assert same["flips_beyond_tolerance"] == 0


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_the_contract(name: str) -> None:
    assert METRICS[name].name == name
    check_metric(METRICS[name])

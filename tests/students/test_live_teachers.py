"""Networks on tables that learn from the inside of a teacher network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distillens.data.base import Column, Split, Table
from distillens.errors import InputError
from distillens.models.base import as_probabilities
from distillens.models.callable import CallableModel
from distillens.models.torch_module import TabularNetwork
from distillens.students.base import Student
from distillens.students.network import NetworkStudent
from distillens.students.table_training import _answering
from distillens.transfer.influence import influence, permuted
from distillens.transfer.layers.matching import Matching
from distillens.transfer.rows.queries import add_queries, smear
from distillens.transfer.targets import Targets

COLUMNS = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y")))
CLASSES = ("no", "yes")
AUTO = {"student_taps": "auto", "teacher_taps": "auto"}


def rows(n: int, *, seed: int, values: bool = False) -> Split:
    rng = np.random.default_rng(seed)
    table = np.column_stack([rng.normal(size=(n, 2)), rng.integers(0, 2, n)])
    table[::9, 0] = np.nan
    score = 2 * np.nan_to_num(table[:, 0]) - table[:, 1] + table[:, 2]
    labels: Any = 1000 + 50 * score if values else (score > 0.5).astype(np.int64)
    return Split(Table(table, COLUMNS, np.arange(n)), labels)


def taught_by(teacher: TabularNetwork, train: Split) -> Targets:
    return Targets.from_outputs(train, teacher(train.inputs), output=teacher.output, classes=teacher.classes)  # type: ignore[arg-type]


def fit(targets: Targets, teacher: Any, *objectives: dict[str, Any], out: Path | None = None, **options: Any) -> Any:
    given = {"model": {"kind": "mlp", "hidden": [12, 12]}, "epochs": 8, "task_weight": 0.0} | options
    student = NetworkStudent(**given, objectives=objectives)
    assert isinstance(student, Student)
    return student.fit(
        targets, validation=rows(80, seed=2, values=not targets.classes), teacher=teacher, seed=0, out=out
    )


@pytest.fixture(scope="module")
def teacher() -> Any:
    family = NetworkStudent({"kind": "mlp", "hidden": [24, 24, 24]}, epochs=20)
    return family.fit(
        Targets.from_labels(rows(300, seed=1), CLASSES), validation=rows(80, seed=2), teacher=None, seed=0
    )


@pytest.fixture(scope="module")
def targets(teacher: Any) -> Targets:
    return taught_by(teacher, rows(300, seed=1))


def test_layers_gradients_and_further_questions_teach_and_leave_nothing_in_the_student(
    teacher: Any, targets: Targets, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in teacher.module.state_dict().items()}
    student = fit(
        targets, teacher, {"kind": "kd"}, {"kind": "fitnet", **AUTO}, {"kind": "rkd", "weight": 0.1},
        {"kind": "gradient_matching"}, {"kind": "noise_queries"}, out=tmp_path,
    )  # fmt: skip
    first, last = student.history[0], student.history[-1]
    for kind in ("kd", "fitnet", "rkd", "gradient_matching", "noise_queries"):
        assert last[kind] < first[kind], kind
    assert all(torch.equal(before[n], v) for n, v in teacher.module.state_dict().items())
    assert [n for n in student.to_record()[1] if n.startswith("module.")] == [
        f"module.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")
    ]
    assert student.encoding is teacher.encoding  # gradients are by the same inputs
    matching = Matching.from_json(json.loads((tmp_path / "matching.json").read_text()))
    assert matching.student_taps == ("1:output", "3:output")
    assert set(matching.teacher_taps) < {"1:output", "3:output", "5:output"}


def test_layers_alone_leave_the_student_its_own_encoding(teacher: Any, targets: Targets) -> None:
    fresh = rows(300, seed=3).inputs
    student = fit(targets, teacher, {"kind": "kd"}, {"kind": "rkd"}, epochs=20)
    assert student.encoding is not teacher.encoding
    assert (student(fresh).argmax(1) == teacher(fresh).argmax(1)).mean() > 0.93


def test_the_teacher_sees_its_own_encoding_of_the_rows_queries_included(teacher: Any, targets: Targets) -> None:
    """A projector-free objective between equal networks is 0 from the first step exactly when the teacher sees what it was trained on."""
    extended = add_queries(targets, teacher, smear(targets.table, rows=150, seed=3))
    student = fit(
        extended, teacher, {"kind": "gradient_matching"}, model={"kind": "mlp", "hidden": [24, 24, 24]}, epochs=1,
        learning_rate=1e-12, weight_decay=0.0, inherit={"how": "prefix"}, keep="last",
    )  # fmt: skip
    assert student.history[0]["gradient_matching"] < 1e-6
    np.testing.assert_allclose(student(extended.table), teacher(extended.table), atol=1e-5)


def test_permuted_answers_mislead_a_live_teachers_student(teacher: Any, targets: Targets) -> None:
    objectives = ({"kind": "kd"}, {"kind": "fitnet", **AUTO})
    student = fit(targets, teacher, *objectives, epochs=20)
    misled = fit(permuted(targets, 0), teacher, *objectives, epochs=20)
    assert influence(student, misled, teacher, rows(200, seed=3).inputs, None).relative > 0.3


def test_values_are_taught_in_the_students_units_and_layers_keep_their_names() -> None:
    train, fresh = rows(300, seed=1, values=True), rows(200, seed=3, values=True).inputs
    family = NetworkStudent({"kind": "mlp", "hidden": [24, 24]}, epochs=60)
    teacher = family.fit(Targets.from_labels(train, ()), validation=rows(80, seed=2, values=True), teacher=None, seed=0)
    assert isinstance(teacher, TabularNetwork)
    targets = taught_by(teacher, train)
    answering = _answering(teacher, 7.0, 3.0)
    encoded = teacher.to_tensor(train.inputs)  # type: ignore[arg-type]
    with torch.no_grad():
        np.testing.assert_allclose(
            answering(encoded).numpy(),
            (teacher(train.inputs) - 7.0) / 3.0,
            rtol=1e-5,  # type: ignore[arg-type]
        )
    assert [name for name, _ in answering.named_modules()] == [name for name, _ in teacher.module.named_modules()]
    student = fit(targets, teacher, {"kind": "mse"}, {"kind": "fitnet", **AUTO}, {"kind": "jacobian"}, epochs=30)
    assert np.sqrt(np.mean((student(fresh) - teacher(fresh)) ** 2)) < 0.2 * teacher(fresh).std()  # type: ignore[arg-type]


def test_what_a_teacher_cannot_show_is_said(teacher: Any, targets: Targets) -> None:
    black_box = CallableModel(teacher, CLASSES, "logits", "a function")
    with pytest.raises(
        InputError, match="'fitnet' looks inside its teacher, which has to be a network of ours; 'a function'"
    ):
        fit(targets, black_box, {"kind": "fitnet", **AUTO})
    with pytest.raises(InputError, match="'noise_queries' looks inside"):
        fit(targets, None, {"kind": "noise_queries"})
    with pytest.raises(InputError, match="out-of-fold answers come from other models"):
        fit(replace(targets, origin="out_of_fold"), teacher, {"kind": "rkd"})
    with pytest.raises(InputError, match="whose encoding of columns"):
        fit(targets, _Stranger(teacher), {"kind": "gradient_matching"})


def test_any_network_over_tables_can_show_its_layers(teacher: Any, targets: Targets) -> None:
    student = fit(targets, _Stranger(teacher), {"kind": "kd"}, {"kind": "fitnet", **AUTO}, epochs=20)
    fresh = rows(200, seed=3).inputs
    distance = np.abs(as_probabilities(student(fresh), "logits") - as_probabilities(teacher(fresh), "logits")).mean()
    assert distance < 0.1


class _Stranger:
    """A network over tables that is not one of ours: a module, and what it takes."""

    label, output, fingerprint = "stranger", "logits", None

    def __init__(self, model: TabularNetwork) -> None:
        self.module, self.classes, self._model = model.module, model.classes, model

    def to_tensor(self, inputs: Any) -> torch.Tensor:
        return self._model.to_tensor(inputs)

    def __call__(self, inputs: Any) -> Any:
        return self._model(inputs)

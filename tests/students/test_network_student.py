"""Network students and teachers: what they learn from, what they record, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError, InputError, ModelError
from distillens.models.base import Model, as_probabilities
from distillens.models.nets.mlp import MLPSettings
from distillens.models.store import load_model, save_model
from distillens.objectives import KD, MSE
from distillens.store import read_json
from distillens.students.base import STUDENTS, TEACHERS, Student
from distillens.students.network import NetworkStudent
from distillens.transfer.targets import Targets

COLUMNS = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y")))
CLASSES = ("no", "yes")
QUICK = NetworkStudent(MLPSettings(hidden=(16,)), epochs=40)


def rows(n: int, *, seed: int, classes: int = 2) -> Split:
    """Noise-free rows: 2a − b (+ 1 for category y) decides."""
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.normal(size=(n, 2)), rng.integers(0, 2, n)])
    values[::9, 0] = np.nan
    score = 2 * np.nan_to_num(values[:, 0]) - values[:, 1] + values[:, 2]
    labels: Any = (
        1000 + 50 * score
        if classes == 0
        else np.digitize(score, np.linspace(-1.5, 2.5, classes + 1)[1:-1]).astype(np.int64)
    )
    return Split(Table(values, COLUMNS, np.arange(n)), labels)


def accuracy(model: Model, split: Split) -> float:
    return float((model(split.inputs).argmax(axis=1) == split.labels).mean())


@pytest.fixture(scope="module")
def teacher() -> Any:
    return NetworkStudent(MLPSettings(hidden=(32,)), epochs=60).fit(
        Targets.from_labels(rows(300, seed=1), CLASSES), validation=rows(80, seed=2), teacher=None, seed=0
    )


@pytest.fixture(scope="module")
def taught(teacher: Any) -> Targets:
    train = rows(300, seed=1)
    return Targets.from_outputs(train, teacher(train.inputs), output="logits", classes=CLASSES)


def test_is_a_student_and_a_teacher() -> None:
    assert isinstance(QUICK, Student)
    path = "distillens.students.network:NetworkStudent"
    assert STUDENTS["network"] == TEACHERS["network"] == path


def test_learns_from_labels(teacher: Any) -> None:
    assert accuracy(teacher, rows(300, seed=3)) > 0.9
    assert (teacher.output, teacher.classes, teacher.label) == ("logits", CLASSES, "network 32")


def test_learns_from_a_teacher(teacher: Any, taught: Targets) -> None:
    fresh = rows(300, seed=3).inputs
    student = QUICK.fit(taught, validation=rows(80, seed=2), teacher=teacher, seed=0)
    assert (student(fresh).argmax(axis=1) == teacher(fresh).argmax(axis=1)).mean() > 0.95
    distance = np.abs(as_probabilities(student(fresh), "logits") - as_probabilities(teacher(fresh), "logits")).mean()
    assert distance < 0.05


def test_follows_the_teacher_and_not_the_labels_where_they_part(teacher: Any, taught: Targets) -> None:
    assert taught.labels is not None
    lying = replace(taught, labels=1 - taught.labels)
    fresh = rows(300, seed=3)
    validation = rows(80, seed=2)
    by_teacher = replace(QUICK, task_weight=0.0).fit(lying, validation=validation, teacher=teacher, seed=0)
    assert accuracy(by_teacher, fresh) > 0.9
    against = replace(validation, labels=1 - validation.labels)  # type: ignore[operator]
    by_labels = replace(QUICK, objectives=({"kind": "kd", "weight": 0.0},)).fit(
        lying, validation=against, teacher=None, seed=0
    )
    assert accuracy(by_labels, fresh) < 0.1


def test_rows_without_labels_get_the_objectives_only(teacher: Any, taught: Targets) -> None:
    assert taught.labels is not None
    few = replace(taught, labels=np.where(np.arange(300) < 5, taught.labels, np.nan))
    student = QUICK.fit(few, validation=rows(80, seed=2), teacher=teacher, seed=0)
    assert accuracy(student, rows(300, seed=3)) > 0.9
    with pytest.raises(DataError, match="task_weight: 0"):
        QUICK.fit(replace(taught, labels=None), validation=rows(80, seed=2), teacher=teacher, seed=0)


def test_probabilities_teach_like_logits(teacher: Any, taught: Targets) -> None:
    soft = 0.9 * taught.probabilities + 0.05  # clear of the floor of log-probabilities
    log = np.log(soft)
    as_logits, as_shares = (replace(taught, outputs=o, output=k) for o, k in ((log, "logits"), (soft, "probabilities")))
    fits = [
        QUICK.fit(t, validation=rows(80, seed=2), teacher=teacher, seed=0)(rows(20, seed=4).inputs)
        for t in (as_logits, as_shares)
    ]
    np.testing.assert_allclose(as_probabilities(fits[0], "logits"), as_probabilities(fits[1], "logits"), atol=0.02)


def test_sample_weights_count(teacher: Any) -> None:
    """Two halves with opposite labels: the heavy one wins, whichever it is."""
    train = rows(200, seed=1)
    twice = Split(train.inputs.take(np.tile(np.arange(200), 2)), np.concatenate([train.labels, 1 - train.labels]))  # type: ignore[operator, list-item]
    for heavy, right in (((1.0, 0.01), True), ((0.01, 1.0), False)):
        labels = Targets.from_labels(replace(twice, weights=np.repeat(heavy, 200)), CLASSES)
        model = QUICK.fit(
            labels, validation=train if right else replace(train, labels=1 - train.labels), teacher=None, seed=0
        )  # type: ignore[operator]
        assert (accuracy(model, rows(200, seed=3)) > 0.85) == right


def test_many_classes() -> None:
    names = ("low", "middle", "high")
    model = QUICK.fit(
        Targets.from_labels(rows(400, seed=1, classes=3), names),
        validation=rows(80, seed=2, classes=3),
        teacher=None,
        seed=0,
    )
    assert accuracy(model, rows(200, seed=3, classes=3)) > 0.85


def test_regression_in_the_users_units_from_labels_and_from_a_teacher() -> None:
    train, validation, fresh = (rows(n, seed=s, classes=0) for n, s in ((400, 1), (80, 2), (200, 3)))
    assert fresh.labels is not None
    family = replace(QUICK, epochs=100)
    teacher = family.fit(Targets.from_labels(train, ()), validation=validation, teacher=None, seed=0)
    spread = fresh.labels.std()
    assert np.sqrt(np.mean((teacher(fresh.inputs)[:, 0] - fresh.labels) ** 2)) < 0.2 * spread

    taught = Targets.from_outputs(train, teacher(train.inputs), output="values", classes=())
    student = replace(family, task_weight=0.0).fit(
        replace(taught, labels=None), validation=replace(validation, labels=None), teacher=teacher, seed=1
    )
    assert np.sqrt(np.mean((student(fresh.inputs) - teacher(fresh.inputs)) ** 2)) < 0.15 * spread
    with pytest.raises(InputError, match="kind: mse"):
        replace(family, objectives=(KD(),)).fit(taught, validation=validation, teacher=teacher, seed=0)


def test_a_constant_target_is_learned_without_dividing_by_zero() -> None:
    train = rows(40, seed=1, classes=0)
    train = replace(train, labels=np.full(40, 7.0))
    model = replace(QUICK, epochs=30).fit(Targets.from_labels(train, ()), validation=train, teacher=None, seed=0)
    np.testing.assert_allclose(model(train.inputs), 7.0, atol=0.3)


def test_same_seed_same_network_and_the_global_state_is_untouched(teacher: Any, taught: Targets) -> None:
    family = replace(QUICK, model=MLPSettings(hidden=(16,), dropout=0.2), epochs=5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = (family.fit(taught, validation=rows(80, seed=2), teacher=teacher, seed=s) for s in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_history_is_written_and_the_model_survives_the_disk(teacher: Any, taught: Targets, tmp_path: Path) -> None:
    model = QUICK.fit(taught, validation=rows(80, seed=2), teacher=teacher, seed=0, out=tmp_path)
    history = read_json(tmp_path / "history.json")
    assert [set(h) for h in history] == [{"epoch", "train", "validation", "task", "kd"}] * len(history)
    assert history == list(model.history)
    save_model(model, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        load_model(tmp_path / "model.safetensors")(rows(9, seed=5).inputs), model(rows(9, seed=5).inputs)
    )


def test_validation_loss_is_the_divergence_from_the_teacher(teacher: Any, taught: Targets) -> None:
    from scipy.special import rel_entr

    validation = replace(rows(80, seed=2), weights=np.linspace(0.1, 2, 80))
    model = QUICK.fit(taught, validation=validation, teacher=teacher, seed=0)
    p_t, p_s = (as_probabilities(m(validation.inputs), "logits") for m in (teacher, model))
    expected = np.average(rel_entr(p_t, p_s).sum(axis=1), weights=validation.weights)
    assert min(h["validation"] for h in model.history) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_validation_that_cannot_choose_says_why(teacher: Any, taught: Targets) -> None:
    validation = rows(80, seed=2)
    with pytest.raises(DataError, match="no labels and no teacher"):
        QUICK.fit(taught, validation=replace(validation, labels=None), teacher=None, seed=0)
    with pytest.raises(DataError, match="no rows"):
        QUICK.fit(taught, validation=validation.take(np.arange(0)), teacher=teacher, seed=0)
    with pytest.raises(ModelError, match="classes"):
        QUICK.fit(replace(taught, classes=("yes", "no")), validation=validation, teacher=teacher, seed=0)


def test_a_recipe_entry_becomes_a_student() -> None:
    entry = {
        "model": {"kind": "mlp", "hidden": [64, 32], "activation": "gelu"}, "task_weight": 0.25, "epochs": 3,
        "objectives": [{"kind": "kd", "weight": 0.5, "temperature": 2}, {"kind": "mse"}],
    }  # fmt: skip
    student = pydantic.TypeAdapter(NetworkStudent).validate_python(entry)
    expected = NetworkStudent(
        model=MLPSettings(hidden=(64, 32), activation="gelu"),
        task_weight=0.25,
        epochs=3,
        objectives=(KD(weight=0.5, temperature=2), MSE()),
    )
    assert student == expected
    assert NetworkStudent(**entry) == expected
    again = pydantic.TypeAdapter(NetworkStudent).validate_python(
        pydantic.TypeAdapter(NetworkStudent).dump_python(student)
    )
    assert again == expected


def test_objectives_of_a_task_are_chosen_when_nothing_is_said() -> None:
    assert NetworkStudent().objectives_for(CLASSES) == (KD(temperature=4.0),)
    assert NetworkStudent().objectives_for(()) == (MSE(),)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"objectives": [{"kind": "mes"}]}, "Did you mean 'mse'"),
        ({"objectives": [{"kind": "kd", "temprature": 4}]}, "Did you mean 'temperature'"),
        ({"objectives": "kd"}, "list such as"),
        ({"objectives": {"kind": "kd"}}, "list such as"),
        ({"objectives": [], "task_weight": 0}, "nothing to learn from"),
        ({"task_weight": -1}, "at least 0"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"epochs": 0}, "epochs is a whole number"),
        ({"batch_size": -5}, "batch_size is a whole number"),
        ({"decay": "linear"}, "decay is one of cosine, constant, step"),
        ({"model": {"kind": "mlp", "hiden": [3]}}, "Did you mean 'hidden'"),
        ({"monotone": {"a": 1}}, "cannot be held monotone"),
    ],
)
def test_settings_that_cannot_be_used_say_why(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        NetworkStudent(**entry)


def test_an_unknown_option_of_a_recipe_entry_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="epoch"):
        pydantic.TypeAdapter(NetworkStudent).validate_python({"epoch": 3})
    with pytest.raises(InputError, match="no option 'hiden'"):
        pydantic.TypeAdapter(NetworkStudent).validate_python({"model": {"hiden": [3]}})


def test_recipes_are_checked_without_torch() -> None:
    code = (
        "import sys; from distillens.students.network import NetworkStudent; import distillens.objectives;"
        "NetworkStudent(objectives=({'kind': 'kd'},)).objectives_for(('a', 'b'));"
        "assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

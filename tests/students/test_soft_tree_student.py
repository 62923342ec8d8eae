"""The soft tree student: path probabilities, the loss and penalty of the paper, what is learnt, stored and exported."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError, ModelError
from distillens.exporters.onnx import OnnxExport
from distillens.exporters.parity import parity
from distillens.models.base import Decision, StorableModel, evaluate
from distillens.models.encoding import Encoding
from distillens.models.onnx import OnnxModel
from distillens.models.soft_tree import SoftTreeModel
from distillens.models.store import load_model, save_model
from distillens.students.base import STUDENTS, Student
from distillens.students.soft_tree import SoftTreeStudent, objective
from distillens.transfer.targets import Targets

QUICK = SoftTreeStudent(depth=2, epochs=40)
_fitted: dict[tuple[str, SoftTreeStudent], SoftTreeModel] = {}


def fitted(student, case):
    key = (case.task, student)
    if key not in _fitted:
        _fitted[key] = student.fit(case.soft, validation=case.validation, teacher=None, seed=0)
    return _fitted[key]


def random_tree(table, classes, *, depth, path="soft", beta=1.0, seed=0):
    rng = np.random.default_rng(seed)
    encoding = Encoding.fit(table)
    inner = 2**depth - 1
    return SoftTreeModel(
        classes, "soft tree", encoding, rng.normal(size=(inner, encoding.width)), rng.normal(size=inner),
        2 * rng.normal(size=(inner + 1, len(classes))), beta, path, np.ones(encoding.width), np.ones(2 * inner + 1),
    )  # fmt: skip


def walked(model, table, row):
    """Probability of each leaf by walking every path in plain Python."""
    z = model.scores(table)[row]
    out = []
    for leaf in range(len(model.leaves)):
        node, p = leaf + len(model.weights), 1.0
        while node:
            parent, is_right = (node - 1) // 2, node % 2 == 0
            s = 1 / (1 + np.exp(-model.beta * z[parent]))
            p, node = p * (s if is_right else 1 - s), parent
        out.append(p)
    return out


@pytest.mark.parametrize("depth", [1, 3])
def test_the_mixture_is_over_all_paths(depth, binary):
    model = random_tree(binary.table, ("a", "b", "c"), depth=depth, beta=0.7)
    p = model.path_probabilities(binary.odd)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    for row in range(5):
        np.testing.assert_allclose(p[row], walked(model, binary.odd, row), atol=1e-12)
    np.testing.assert_allclose(evaluate(model, binary.odd), p @ model.distributions)
    np.testing.assert_allclose(model(binary.odd).sum(axis=1), 1, atol=1e-12)


def test_the_hard_path_takes_the_likelier_branch_each_time(binary):
    model = random_tree(binary.table, ("a", "b"), depth=3, path="hard")
    z, answers = model.scores(binary.table), model(binary.table)
    for row in range(50):
        node = 0
        while node < len(model.weights):
            node = 2 * node + (2 if z[row, node] > 0 else 1)
        np.testing.assert_array_equal(answers[row], model.distributions[node - len(model.weights)])
    sharp = replace(model, path="soft", beta=1e6)
    np.testing.assert_allclose(sharp(binary.table), answers, atol=1e-9)


def terms(model, table, t, w):
    """Loss and penalty from the formulas, node by node, with NumPy."""
    reach_leaf = np.array([walked(model, table, i) for i in range(len(table))])
    loss = sum(w[i] * sum(reach_leaf[i, leaf] * -(t[i] * np.log(model.distributions[leaf])).sum() for leaf in range(len(model.leaves)))
               for i in range(len(table))) / w.sum()  # fmt: skip
    s = 1 / (1 + np.exp(-model.beta * model.scores(table)))
    penalty = 0.0
    for i in range(len(model.weights)):
        through, node, depth = np.ones(len(table)), i, 0
        while node:
            parent = (node - 1) // 2
            through = through * (s[:, parent] if node % 2 == 0 else 1 - s[:, parent])
            node, depth = parent, depth + 1
        alpha = (w * through * s[:, i]).sum() / (w * through).sum()
        penalty -= 2.0**-depth * 0.5 * (np.log(alpha) + np.log(1 - alpha))
    return loss, penalty


def tensors(model, table, t, w):
    arrays = (model.encoding(table.values), t, w, model.weights, model.biases, model.leaves)
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


def test_loss_and_penalty_are_those_of_the_paper(multiclass):
    table = multiclass.table.take(np.arange(30))
    model = random_tree(table, multiclass.classes, depth=3, beta=1.3)
    t, w = multiclass.soft.probabilities[:30], multiclass.weights[:30]
    loss, penalty = objective(*tensors(model, table, t, w), beta=1.3)
    expected = terms(model, table, t, w)
    assert float(loss) == pytest.approx(expected[0])
    assert float(penalty) == pytest.approx(expected[1])
    mixture = -(t * np.log(model(table))).sum(axis=1) @ w / w.sum()
    assert float(loss) >= mixture  # Jensen


def test_gradients(binary):
    table = binary.table.take(np.arange(12))
    model = random_tree(table, binary.classes, depth=2)
    rows, t, w, *parameters = tensors(model, table, binary.soft.probabilities[:12], binary.weights[:12])
    for p in parameters:
        p.requires_grad_()
    assert torch.autograd.gradcheck(lambda *p: sum(objective(rows, t, w, *p, beta=0.8)), parameters)


def test_an_even_split_has_the_least_penalty(binary):
    model = random_tree(binary.table, binary.classes, depth=1)
    even = replace(model, weights=np.zeros_like(model.weights), biases=np.zeros(1))
    ones = np.ones(len(binary.table))
    least = float(objective(*tensors(even, binary.table, binary.soft.probabilities, ones), beta=1.0)[1])
    assert least == pytest.approx(np.log(2))
    assert float(objective(*tensors(model, binary.table, binary.soft.probabilities, ones), beta=1.0)[1]) > least


@pytest.mark.parametrize("path", ["hard", "soft"])
def test_it_learns_a_tree_that_it_can_be(path):
    rng = np.random.default_rng(3)
    table = Table(rng.normal(size=(1500, 3)), tuple(Column(n) for n in "abc"), np.arange(1500))
    truth = random_tree(table, ("x", "y", "z"), depth=2, path=path, beta=3.0, seed=1)
    truth = replace(truth, weights=2 * truth.weights, biases=np.array([0.0, 0.3, -0.3]))
    targets = Targets.from_outputs(Split(table), truth(table), output="probabilities", classes=truth.classes)
    student = SoftTreeStudent(depth=2, path=path, beta=3.0, penalty=0.0, weight_decay=0.0, epochs=150, patience=150)
    model = student.fit(targets, validation=Split(table), teacher=truth, seed=0)
    error = ((model(table) - truth(table)) ** 2).sum() / ((truth(table) - truth(table).mean(axis=0)) ** 2).sum()
    assert error < 0.12


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_what_every_student_does(task, request, tmp_path):
    case = request.getfixturevalue(task)
    model = fitted(QUICK, case)
    assert isinstance(QUICK, Student)
    assert "soft_tree" in STUDENTS
    assert isinstance(model, StorableModel)
    assert model.fingerprint == QUICK.fit(case.soft, validation=case.validation, teacher=None, seed=0).fingerprint
    save_model(model, tmp_path / "m.safetensors")
    back = load_model(tmp_path / "m.safetensors")
    assert back.fingerprint == model.fingerprint
    for table in (case.table, case.odd):
        np.testing.assert_array_equal(back(table), model(table))
    d = json.loads(json.dumps(model.describe(), allow_nan=False))
    assert back.describe() == model.describe()
    assert {f["name"] for f in d["root"]["features"]} == {c.name for c in case.table.columns}
    assert d["root"]["coverage"] == pytest.approx(1)
    assert d["root"]["yes"]["coverage"] + d["root"]["no"]["coverage"] == pytest.approx(1)
    agreement = (model(case.table).argmax(axis=1) == case.soft.outputs.argmax(axis=1)).mean()
    assert agreement > 0.75


def test_the_strongest_feature_is_named_first(binary):
    """A teacher that asks one feature: the root does, too."""
    score = 4 * binary.clean.values[:, 1]
    targets = binary.targets(binary.clean, np.column_stack([-score, score]) / 2, "logits")
    validation = Split(binary.clean, (score > 0).astype(np.int64))
    model = SoftTreeStudent(depth=1, epochs=60).fit(targets, validation=validation, teacher=None, seed=0)
    assert model.describe()["root"]["features"][0]["name"] == binary.clean.columns[1].name
    assert binary.clean.columns[1].name in model.describe()["root"]["condition"]


@pytest.mark.parametrize("path", ["hard", "soft"])
def test_the_file_answers_as_the_tree(path, multiclass, binary, tmp_path):
    for case, decision in ((multiclass, None), (binary, Decision(1, 0.3))):
        model = random_tree(case.table, case.classes, depth=3, path=path, beta=0.9)
        OnnxExport()(model, tmp_path / f"{case.task}.onnx", decision=decision)
        exported = OnnxModel.load(tmp_path / f"{case.task}.onnx")
        for table in (case.table, case.odd):
            np.testing.assert_allclose(exported(table), model(table), atol=1e-12)
            assert parity(model, exported, table, decision=decision)["flips"] == 0


def test_values_are_refused(regression, binary):
    with pytest.raises(DataError, match="use tree for regression"):
        QUICK.fit(regression.soft, validation=regression.validation, teacher=None, seed=0)
    with pytest.raises(ModelError, match="cannot predict values"):
        random_tree(binary.table, (), depth=1)
    with pytest.raises(DataError, match="Validation has no rows"):
        QUICK.fit(binary.soft, validation=binary.validation.take(np.arange(0)), teacher=None, seed=0)


@pytest.mark.parametrize(
    "options",
    [{"depth": 0}, {"depth": 9}, {"beta": 0}, {"penalty": -1}, {"path": "any"}, {"epochs": 0}, {"batch_size": 0}],
)
def test_settings_out_of_range(options):
    with pytest.raises(DataError, match=next(iter(options))):
        SoftTreeStudent(**options)

"""CRD against the paper's equations in float64 NumPy, its memory step by step, and the negatives it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from distillens.errors import InputError
from distillens.objectives import CRD, Batch, Shapes, View, crd_loss
from distillens.transfer.objectives import contrast
from distillens.transfer.objectives.base import as_objective, term_of

RNG = np.random.default_rng(0)
N, B = 12, 5
NAN = float("nan")


def term(objective: CRD, *, rows: int = N, seed: int = 0) -> Any:
    return term_of(objective, Shapes({"features": (4,)}, {"features": (2, 3)}, 3, 3, rows), seed=seed)


def view(features: np.ndarray) -> View:
    z = torch.zeros(len(features), 3)
    return View(z, z, {"features": torch.from_numpy(features).float()})


def step(seed: int, rows: list[int], labels: list[float]) -> tuple[View, View, Batch]:
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=(len(rows), 4)), rng.normal(size=(len(rows), 2, 3))
    batch = Batch(torch.ones(len(rows)), torch.tensor(labels), rows=torch.tensor(rows))
    return view(s), view(t), batch


def test_loss_is_the_papers() -> None:
    """Equation 18: E_T log h + N E_M log(1 − h) with h = g / (g + N / M), their N our K and their M our n."""
    positive, negatives = RNG.normal(size=B), RNG.normal(size=(B, 7))
    expected = []
    for a, others in zip(np.exp(positive), np.exp(negatives), strict=True):
        first = np.log(a / (a + 7 / 100))
        expected.append(-first - sum(np.log(1 - b / (b + 7 / 100)) for b in others))
    got = crd_loss(torch.from_numpy(positive), torch.from_numpy(negatives), rows=100)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)
    p, q = (torch.from_numpy(x).requires_grad_() for x in (positive, negatives))
    assert torch.autograd.gradcheck(lambda a, b: crd_loss(a, b, rows=100), (p, q))


@pytest.mark.parametrize("products", [0, 32])  # copies of the memories, or all products
@pytest.mark.parametrize("negatives", [3, 200])
def test_two_steps_by_hand(negatives: int, products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings, Z of the first batch, both anchors, and the memories after each step."""
    monkeypatch.setattr(contrast, "ALL_PRODUCTS", products)
    objective = CRD(dim=8, negatives=negatives, negatives_from="rows", momentum=0.25, temperature=0.3)
    crd = term(objective, rows=40)
    k = min(negatives, 39)
    banks = [m.double().numpy().copy() for m in (crd.memory_teacher, crd.memory_student)]
    maps = [(e.weight.detach().double().numpy(), e.bias.detach().double().numpy()) for e in (crd.embed_student, crd.embed_teacher)]  # fmt: skip
    z = None
    for seed, rows in ((1, [3, 0, 7]), (2, [3, 9, 1])):
        student, teacher, batch = step(seed, rows, [NAN] * 3)
        drawn = crd.negatives(batch.rows, torch.Generator().manual_seed(seed)).numpy()
        batch = Batch(batch.weights, batch.labels, rows=batch.rows, draw=torch.Generator().manual_seed(seed))
        features = [v.layers["features"].double().numpy().reshape(3, -1) for v in (student, teacher)]
        v = [x @ w.T + b for x, (w, b) in zip(features, maps, strict=True)]
        v = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in v]
        assert drawn.shape == (3, k)
        g = [np.exp(np.array([[v[side][i] @ banks[side][j] for j in (rows[i], *drawn[i])] for i in range(3)]) / 0.3) for side in (0, 1)]  # fmt: skip
        z = z or [40 * side.mean() for side in g]
        h = [side / constant for side, constant in zip(g, z, strict=True)]
        c = k / 40
        expected = sum(-np.log(side[:, 0] / (side[:, 0] + c)) - np.log(c / (side[:, 1:] + c)).sum(axis=1) for side in h)
        loss = crd(student, teacher, batch)
        np.testing.assert_allclose(loss.per_example.detach().numpy(), expected, rtol=1e-4)
        assert float(loss.value.detach()) == pytest.approx(float(np.mean(expected)), rel=1e-4)
        for bank, new in ((banks[0], v[1]), (banks[1], v[0])):
            mixed = 0.25 * bank[rows] + 0.75 * new
            bank[rows] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        np.testing.assert_allclose(crd.memory_teacher.numpy(), banks[0], atol=1e-6)
        np.testing.assert_allclose(crd.memory_student.numpy(), banks[1], atol=1e-6)


def test_negatives_are_uniform_over_all_other_rows() -> None:
    crd = term(CRD(negatives=5, negatives_from="rows"), rows=6)
    drawn = torch.cat([crd.negatives(torch.arange(6)) for _ in range(2000)], dim=1)
    counts = torch.stack([row.bincount(minlength=6) for row in drawn])
    assert counts.diagonal().tolist() == [0] * 6
    off = counts[~torch.eye(6, dtype=torch.bool)].double()
    assert float(((off - 2000) ** 2 / 2000).sum()) < 60  # chi square, 24 degrees of freedom


def test_negatives_are_uniform_over_rows_of_other_classes() -> None:
    crd = term(CRD(negatives=3), rows=6)
    crd.classes.copy_(torch.tensor([2, 0, 2, 1, -1, 0]))  # row 4 has not been met
    drawn = torch.cat([crd.negatives(torch.tensor([0, 1, 3])) for _ in range(3000)], dim=1)
    counts = torch.stack([row.bincount(minlength=6) for row in drawn])
    expected = torch.tensor([[0, 1 / 4, 0, 1 / 4, 1 / 4, 1 / 4], [1 / 4, 0, 1 / 4, 1 / 4, 1 / 4, 0], [1 / 5, 1 / 5, 1 / 5, 0, 1 / 5, 1 / 5]])  # fmt: skip
    assert torch.equal(counts == 0, expected == 0)
    torch.testing.assert_close(counts / 9000, expected, atol=0.02, rtol=0)


def test_classes_are_learned_as_rows_come_and_unknown_rows_are_left_out() -> None:
    crd = term(CRD(dim=8))
    student, teacher, batch = step(1, [4, 2, 6], [1.0, NAN, 0.0])
    for v in (student, teacher):
        v.layers["features"].requires_grad_()
    loss = crd(student, teacher, batch)
    assert crd.classes.tolist() == [-1, -1, -1, -1, 1, -1, 0, -1, -1, -1, -1, -1]
    each = loss.per_example
    assert float(loss.value.detach()) == pytest.approx(float((each[0] + each[2]).detach() / 3), rel=1e-5)
    loss.value.backward()
    grad = student.layers["features"].grad
    assert grad is not None
    assert bool(torch.isfinite(grad).all())
    assert float(grad[1].abs().max()) == 0.0
    assert teacher.layers["features"].grad is None


def test_rows_without_labels_alone_cost_nothing() -> None:
    loss = term(CRD(dim=8))(*step(1, [0, 1], [NAN, NAN]))
    assert float(loss.value.detach()) == 0.0
    assert bool(torch.isfinite(loss.per_example).all())


def test_all_rows_of_one_class_are_an_error_that_says_what_to_do() -> None:
    crd = term(CRD(), rows=3)
    with pytest.raises(InputError, match="negatives_from: rows"):
        crd(*step(1, [0, 1, 2], [1.0, 1.0, 1.0]))


def test_a_restored_state_goes_on_exactly_and_evaluation_remembers_nothing() -> None:
    first = term(CRD(dim=8, negatives=6))
    first(*step(1, [0, 1, 2, 3], [0.0, 1.0, 2.0, 0.0]))
    second = term(CRD(dim=8, negatives=6), seed=9)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for seed in (2, 3):
        batch = step(seed, [5, 1, 8], [0.0, 1.0, 2.0])
        assert torch.equal(first(*batch).per_example, second(*batch).per_example)
    assert torch.equal(first.memory_student, second.memory_student)
    before = {name: value.clone() for name, value in first.state_dict().items() if name.startswith("memory")}
    first.eval()
    first(*step(4, [5, 1, 8], [0.0, 1.0, 2.0]))
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in before.items())


def test_embeddings_that_agree_score_lower_than_ones_that_do_not() -> None:
    """Trained on its own embeddings alone, CRD brings both models' views of a row together."""
    objective = CRD(dim=8, negatives=11, negatives_from="rows")
    crd = term(objective)
    rng = np.random.default_rng(5)
    s = rng.normal(size=(N, 4))
    t = (s @ rng.normal(size=(4, 6))).reshape(N, 2, 3)
    batch = Batch(torch.ones(N), torch.full((N,), NAN), rows=torch.arange(N))
    optimizer = torch.optim.Adam(crd.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        loss = crd(view(s), view(t), batch).value
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.5 * losses[0]
    own = (crd.memory_student @ crd.memory_teacher.T).argmax(dim=1)
    assert float((own == torch.arange(N)).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "crd", "dim": 0}, "dim is a whole number"),
        ({"kind": "crd", "negatives": 1.5}, "negatives is a whole number"),
        ({"kind": "crd", "negatives_from": "class"}, "classes or rows"),
        ({"kind": "crd", "momentum": 1}, "below 1"),
        ({"kind": "crd", "temperature": 0}, "temperature"),
        ({"kind": "crd", "student_taps": ["a", "b"], "teacher_taps": ["a", "b"]}, "one layer of each model"),
    ],
)
def test_options_out_of_range_say_why(entry: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_objective(entry)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would remember its own rows only, and the memories of all but the first would be lost."""
    crd = term(CRD())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(InputError, match="one process"):
        crd(*step(1, [0, 1], [0.0, 1.0]))


def test_what_cannot_be_contrasted_says_so() -> None:
    with pytest.raises(InputError, match="there are 1"):
        term(CRD(), rows=1)
    student, teacher, batch = step(1, [0, 1], [0.0, 1.0])
    with pytest.raises(InputError, match=r"Batch\.rows"):
        term(CRD())(student, teacher, Batch(batch.weights, batch.labels))
    assert CRD().tasks == ("binary", "multiclass")
    assert "regression" in CRD(negatives_from="rows").tasks

"""The training loop on plain tensors: what it minimises, when it stops, and what it leaves alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from distillens.errors import DataError, NonFiniteLossError, TransferError
from distillens.models.nets.mlp import mlp
from distillens.objectives import KD, Batch, Loss, View, kd_loss
from distillens.progress import listening
from distillens.transfer.training.feed import Rows
from distillens.transfer.training.loop import fit
from distillens.transfer.training.schedule import Schedule
from distillens.transfer.training.transfer import task_loss

SCHEDULE = Schedule(epochs=5, learning_rate=1e-2, decay="constant", batch_size=16, weight_decay=0.0, patience=5)


def rows(n: int = 64, *, known: float = 1.0, teacher: bool = True, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 3, generator=generator)
    labels = (inputs[:, 0] > 0).float()
    labels[torch.rand(n, generator=generator) >= known] = torch.nan
    logits = torch.stack([-2 * inputs[:, 0], 2 * inputs[:, 0]], dim=1)
    return Rows(inputs, logits if teacher else None, labels, torch.ones(n))


def network(*, dropout: float = 0.0, outputs: int = 2) -> torch.nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return mlp(3, [8], outputs, dropout=dropout)


def train(module: torch.nn.Module, data: Rows, **changes: Any) -> tuple[dict[str, float], ...]:
    options: dict[str, Any] = {
        "task_weight": 0.5, "objectives": (KD(),), "schedule": SCHEDULE, "seed": 0,
        "validate": lambda m: float(task_loss(m(data.inputs), torch.nan_to_num(data.labels)).mean()),
    }  # fmt: skip
    return fit(module, data, **(options | changes))


def test_loss_falls_and_history_tells() -> None:
    module, data = network(), rows()
    history = train(module, data, schedule=Schedule(30, 1e-2, "cosine", 16, 1e-2, 30))
    assert [h["epoch"] for h in history] == list(range(1, len(history) + 1))
    assert history[-1]["train"] < 0.5 * history[0]["train"]
    assert history[-1]["validation"] < 0.5 * history[0]["validation"]


def test_one_full_batch_step_is_the_gradient_of_the_weighted_sum() -> None:
    """Two terms, row weights, unknown labels: the first step of AdamW is −rate · sign(gradient) of the loss written out."""
    data = rows(known=0.5)
    weights = torch.linspace(0.5, 2.0, 64)
    data = Rows(data.inputs, data.teacher, data.labels, weights)
    module = network()
    twin = copy.deepcopy(module)
    one_step = Schedule(epochs=1, learning_rate=1e-3, decay="constant", batch_size=64, weight_decay=0.0, patience=1)
    history = train(module, data, task_weight=0.3, objectives=(KD(weight=0.7, temperature=2.0),), schedule=one_step)

    known = ~torch.isnan(data.labels)
    z, t = twin(data.inputs), data.teacher
    assert t is not None
    cross_entropy = torch.nn.functional.cross_entropy(z[known], data.labels[known].long(), reduction="none")
    p_t = torch.softmax(t / 2, dim=1)
    divergence = (p_t * (torch.log_softmax(t / 2, dim=1) - torch.log_softmax(z / 2, dim=1))).sum(dim=1)
    loss = (
        0.3 * (weights[known] * cross_entropy).sum() / weights[known].sum()
        + 0.7 * 4 * (weights * divergence).sum() / weights.sum()
    )
    loss.backward()
    assert history[0]["train"] == pytest.approx(float(loss.detach()), rel=1e-5)
    for before, after in zip(twin.parameters(), module.parameters(), strict=True):
        assert before.grad is not None
        clear = before.grad.abs() > 1e-5
        torch.testing.assert_close((after - before)[clear], -1e-3 * before.grad[clear].sign(), rtol=5e-3, atol=1e-7)


def test_weights_are_decayed_and_biases_are_not() -> None:
    data, plain, decayed = rows(), network(), network()
    for module, decay in ((plain, 0.0), (decayed, 0.5)):
        schedule = Schedule(
            epochs=1, learning_rate=1e-2, decay="constant", batch_size=64, weight_decay=decay, patience=1
        )
        train(module, data, schedule=schedule)
    start = network()
    for first, a, b in zip(start.parameters(), plain.parameters(), decayed.parameters(), strict=True):
        # AdamW: the same step, and rate · decay of the weight besides
        torch.testing.assert_close(b, a - (1e-2 * 0.5 * first if first.ndim > 1 else 0.0), rtol=1e-5, atol=1e-7)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    results = []
    for seed in (3, 3, 4):
        module = network(dropout=0.3)
        train(module, rows(), seed=seed)
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_global_generators_and_threads_are_untouched() -> None:
    torch_state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (the global one is what must not move)
    train(network(dropout=0.3), rows())
    assert torch.equal(torch.get_rng_state(), torch_state)
    now = np.random.get_state(legacy=False)  # noqa: NPY002
    assert np.array_equal(now["state"]["key"], numpy_state["state"]["key"])
    assert torch.get_num_threads() == threads


def test_global_generator_comes_back_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(NonFiniteLossError):
        train(network(dropout=0.3), rows(), validate=lambda m: float("nan"))
    assert torch.equal(torch.get_rng_state(), state)


def test_stops_when_patience_runs_out_and_keeps_the_best_epoch() -> None:
    module, seen = network(), []
    losses = iter([5.0, 3.0, 4.0, 3.5, 3.0, 2.0])

    def validate(m: torch.nn.Module) -> float:
        assert not m.training
        seen.append(torch.cat([p.detach().clone().flatten() for p in m.parameters()]))
        return next(losses)

    history = train(module, rows(), validate=validate, schedule=Schedule(50, 1e-2, "constant", 16, 0.0, patience=3))
    assert [h["validation"] for h in history] == [5.0, 3.0, 4.0, 3.5, 3.0]
    final = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert torch.equal(final, seen[1])
    assert not torch.equal(final, seen[-1])
    assert not module.training


def test_non_finite_loss_names_the_step_and_the_term() -> None:
    data = rows()
    data.inputs[:] = torch.inf
    with pytest.raises(NonFiniteLossError, match="task loss became .* at step 0"):
        train(network(), data)


@dataclass(frozen=True)
class Odd:
    """An objective that returns what the test wants."""

    student_taps: ClassVar[tuple[str, ...]] = ()
    teacher_taps: ClassVar[tuple[str, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    value: float = 0.0
    kind: str = "odd"
    weight: float = 1.0

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        return Loss.pointwise(0.0 * student.outputs.sum(dim=1) + self.value, batch)


def test_non_finite_objective_is_named() -> None:
    with pytest.raises(NonFiniteLossError, match="objective 'odd' became inf at step 0"):
        train(network(), rows(), objectives=(KD(), Odd(value=float("inf"))))


def test_an_objective_that_teaches_nothing_is_an_error() -> None:
    with pytest.raises(TransferError, match="'odd' was exactly 0"):
        train(network(), rows(), objectives=(KD(), Odd()))


def test_an_objective_is_not_blamed_when_student_and_teacher_are_equal() -> None:
    module, data = network(), rows()
    with torch.no_grad():
        equal = Rows(data.inputs, module(data.inputs), data.labels, data.weights)
    history = train(module, equal, task_weight=0.0, schedule=Schedule(1, 1e-9, "constant", 64, 0.0, 1))
    assert history[0]["train"] == pytest.approx(0.0, abs=1e-9)


def test_an_objective_of_weight_zero_is_not_even_asked() -> None:
    with_zero, without = network(), network()
    train(with_zero, rows(), objectives=(KD(weight=0.0), Odd(value=float("nan"), weight=0.0)))
    train(without, rows(teacher=False), objectives=())
    for a, b in zip(with_zero.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("data", "changes", "words"),
    [
        (rows(known=0.0), {}, "No training row has a label"),
        (rows(teacher=False), {}, "need a teacher's answers"),
    ],
)
def test_a_term_without_rows_is_an_error(data: Rows, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        train(network(), data, **changes)


def test_rows_without_labels_still_learn_from_the_teacher() -> None:
    module, data = network(), rows(known=0.0)
    teacher = data.teacher
    assert teacher is not None
    schedule = Schedule(40, 1e-2, "constant", 16, 0.0, 40)
    train(
        module,
        data,
        task_weight=0.0,
        schedule=schedule,
        validate=lambda m: float(kd_loss(m(data.inputs), teacher, temperature=1.0).mean()),
    )
    with torch.no_grad():
        agreement = (module(data.inputs).argmax(1) == teacher.argmax(1)).float().mean()
    assert float(agreement) > 0.95


def test_a_row_of_weight_zero_teaches_nothing() -> None:
    data = rows()
    assert data.teacher is not None
    lying = data.teacher.clone()
    lying[32:] *= -1
    weights = torch.cat([torch.ones(32), torch.zeros(32)])
    honest, fooled = network(), network()
    train(honest, Rows(data.inputs, data.teacher, data.labels, weights))
    train(
        fooled,
        Rows(data.inputs, lying, 1 - data.labels + torch.cat([2 * data.labels[:32] - 1, torch.zeros(32)]), weights),
        validate=lambda m: 0.0,
    )
    train(again := network(), Rows(data.inputs, data.teacher, data.labels, weights), validate=lambda m: 0.0)
    for a, b in zip(fooled.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_progress_is_reported_by_epoch() -> None:
    class Listener:
        seen: ClassVar[list[Any]] = []

        def start(self, label: str, total: int | None, unit: str) -> str:
            self.seen.append((label, total, unit))
            return "key"

        def advance(self, key: Any, amount: int) -> None:
            self.seen.append(amount)

        def stop(self, key: Any) -> None:
            self.seen.append("stop")

    with listening(Listener()):
        train(network(), rows())
    assert Listener.seen == [("training network", 5, "epochs"), 1, 1, 1, 1, 1, "stop"]

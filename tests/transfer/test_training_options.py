"""Micro-batches, clipping, averaging, precision, memory order and rates of the training loop, each against the step written out."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distillens.errors import InputError
from distillens.objectives import KD
from distillens.transfer.training.feed import Rows, in_background
from distillens.transfer.training.loop import fit
from distillens.transfer.training.schedule import Schedule

N = 46


def rows() -> Rows:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, 3, 8, 8, generator=draw)
    labels = torch.randint(3, (N,), generator=draw).float()
    labels[::7] = torch.nan
    return Rows(x, 2 * torch.randn(N, 3, generator=draw), labels, torch.rand(N, generator=draw) + 0.5)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def train(module: nn.Module, *, epochs: int = 2, validate: Any = None, **changes: Any) -> tuple[dict[str, float], ...]:
    options = {"decay": "constant", "batch_size": 16, "optimizer": "sgd", "momentum": 0.0, "keep": "last"} | changes
    return fit(
        module, rows(), task_weight=0.5, objectives=(KD(),), schedule=Schedule(epochs, 0.05, **options), seed=3,
        validate=validate or (lambda m: 1.0),
    )  # fmt: skip


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("micro", [16, 7, 5, 3])
def test_micro_batches_of_unequal_size_give_the_step_of_the_whole_batch(micro: int) -> None:
    whole, parts = network(), network()
    first, second = train(whole), train(parts, micro_batch=micro)
    torch.testing.assert_close(flat(parts), flat(whole), rtol=1e-5, atol=1e-6)
    assert second[-1]["train"] == pytest.approx(first[-1]["train"], rel=1e-5)
    assert second[-1]["kd"] == pytest.approx(first[-1]["kd"], rel=1e-5)


def test_history_holds_every_term_and_their_weighted_sum() -> None:
    for record in train(network(), epochs=3):
        assert set(record) == {"epoch", "train", "validation", "task", "kd"}
        assert record["train"] == pytest.approx(0.5 * record["task"] + record["kd"], rel=1e-5)


def test_a_gradient_is_clipped_to_its_norm() -> None:
    start, free, clipped = network(), network(), network()
    train(free, epochs=1, batch_size=N)
    train(clipped, epochs=1, batch_size=N, clip=0.01)
    step, short = flat(free) - flat(start), flat(clipped) - flat(start)
    assert float(short.norm()) == pytest.approx(0.05 * 0.01, rel=1e-3)
    torch.testing.assert_close(short / short.norm(), step / step.norm(), rtol=1e-3, atol=1e-4)


def test_the_average_of_weights_is_validated_and_kept() -> None:
    """Polyak-style average with decay d: a ← d·a + (1 − d)·w after every step; the first step sets a = w."""
    seen: list[Tensor] = []
    averaged = network()
    train(averaged, epochs=3, batch_size=N, ema=0.8, validate=lambda m: seen.append(flat(m)) or 1.0)
    weights = []
    for epochs in (1, 2, 3):
        plain = network()
        train(plain, epochs=epochs, batch_size=N)
        weights.append(flat(plain))
    expected = weights[0]
    for now in weights[1:]:
        expected = 0.8 * expected + 0.2 * now
    torch.testing.assert_close(flat(averaged), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen[-1], expected, rtol=1e-5, atol=1e-6)


def test_bf16_trains_float32_weights_to_nearly_the_same_place() -> None:
    exact, half = network(), network()
    train(exact, epochs=4)
    train(half, epochs=4, precision="bf16")
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert not torch.equal(flat(exact), flat(half))
    torch.testing.assert_close(flat(half), flat(exact), rtol=0.05, atol=0.02)


def test_channels_last_changes_nothing_but_the_order_in_memory() -> None:
    seen: list[bool] = []

    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.is_contiguous(memory_format=torch.channels_last))
            return x

    plain, ordered = network(), nn.Sequential(Looks(), *network())
    train(plain)
    train(ordered, channels_last=True)
    torch.testing.assert_close(flat(ordered), flat(plain), rtol=1e-4, atol=1e-5)
    assert all(seen[1:])  # the dry run comes before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_compiled_it_learns_the_same() -> None:
    plain, compiled = network(), network()
    train(plain)
    train(compiled, compile=True)
    torch.testing.assert_close(flat(compiled), flat(plain), rtol=1e-4, atol=1e-5)


def test_rates_follow_the_schedule() -> None:
    cosine = Schedule(10, 1.0, "cosine")
    assert [cosine.rate(e, 0.5) for e in (0, 5)] == [1.0, pytest.approx(0.5)]
    warm = Schedule(10, 2.0, "constant", warmup=2)
    assert [warm.rate(0, 0.0), warm.rate(0, 0.5), warm.rate(1, 0.5), warm.rate(2, 0.0)] == [0.0, 0.5, 1.5, 2.0]
    steps = Schedule(10, 1.0, "step", milestones=(3, 6), factor=0.1)
    assert [round(steps.rate(e, 0.9), 9) for e in (2, 3, 6)] == [1.0, 0.1, 0.01]
    frozen = network()
    start = copy.deepcopy(frozen)
    train(frozen, epochs=1, batch_size=N, warmup=1)  # the first step of a warm-up has rate 0
    assert torch.equal(flat(frozen), flat(start))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs is a whole number"),
        ({"learning_rate": math.nan}, "learning_rate is a number above 0"),
        ({"decay": "linear"}, "decay is one of"),
        ({"decay": "step"}, "milestones"),
        ({"milestones": (3,)}, "milestones"),
        ({"ema": 1.0}, "ema is a number of at least 0 and below 1"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"precision": "int8"}, "precision is one of"),
        ({"clip": 0.0}, "clip is a number above 0"),
    ],
)  # fmt: skip
def test_schedules_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Schedule(**({"epochs": 3, "learning_rate": 0.1} | changes))


def test_work_in_the_background_keeps_its_order_and_its_errors() -> None:
    def piece(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return number

    work = [lambda number=number: piece(number) for number in range(9)]
    seen: list[int] = []
    with pytest.raises(ValueError, match="seven"):
        seen.extend(in_background(work, ahead=2))
    assert list(in_background(work[:7], ahead=2)) == list(range(7))
    early = in_background(work, ahead=2)
    assert next(early) == 0
    early.close()


def test_an_accelerator_of_the_caller_is_left_as_it_was() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # whatever another test has left on the class
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    train(network(), epochs=1)
    assert mine.mixed_precision == "bf16"
    assert mine.device.type == "cpu"
    assert Accelerator(cpu=True).mixed_precision == "bf16"


def test_weights_and_temperatures_move_with_the_training() -> None:
    """Two epochs of one step each: KD warms up over two epochs, so that it counts nothing in the first and half in the second."""
    warm, alone = network(), network()
    entry = KD(weight=0.8, warmup=2.0, temperature=4.0, final_temperature=2.0)
    schedule = Schedule(1, 0.05, "constant", N, optimizer="sgd", momentum=0.0, keep="last")
    for module, objectives in ((warm, (entry,)), (alone, ())):
        fit(module, rows(), task_weight=0.5, objectives=objectives, schedule=schedule, seed=3, validate=lambda m: 1.0)
    torch.testing.assert_close(flat(warm), flat(alone))
    both = fit(
        network(), rows(), task_weight=0.5, objectives=(entry,), schedule=replace(schedule, epochs=2), seed=3, validate=lambda m: 1.0
    )  # fmt: skip
    assert both[0]["train"] == pytest.approx(0.5 * both[0]["task"], rel=1e-5)
    assert both[1]["train"] == pytest.approx(0.5 * both[1]["task"] + 0.4 * both[1]["kd"], rel=1e-5)

"""Networks that teach one another: the first step written out, what weight 0 means, and that they come to agree."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from distillens.errors import DataError, InputError
from distillens.models.nets.mlp import mlp
from distillens.transfer.training.feed import Rows
from distillens.transfer.training.mutual import mutual_fit
from distillens.transfer.training.schedule import Schedule

SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "decay": "constant", "keep": "last"}


def rows(n: int = 60, *, known: bool = True) -> Rows:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=draw)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).float()
    if not known:
        y[:] = torch.nan
    y[:6] = torch.nan
    return Rows(x, None, y, torch.rand(n, generator=draw) + 0.5)


def networks(count: int = 2, *, dropout: float = 0.0) -> list[nn.Module]:
    made = []
    with torch.random.fork_rng(devices=[]):
        for seed in range(count):
            torch.manual_seed(seed)
            made.append(mlp(4, [8], 2, dropout=dropout))
    return made


def fit(modules: list[nn.Module], data: Rows | None = None, *, epochs: int = 1, **changes: Any) -> Any:
    schedule = Schedule(epochs, 0.1, batch_size=changes.pop("batch_size", 60), **(SGD | changes.pop("schedule", {})))
    return mutual_fit(modules, data or rows(), schedule=schedule, validate=lambda m: 1.0, seed=0, **changes)


def test_one_step_is_the_paper_s_algorithm_written_out() -> None:
    data, modules = rows(), networks(3)
    twins = copy.deepcopy(modules)
    fit(modules, data, weight=0.7, temperature=2.0)
    w, known = data.weights / data.weights.mean(), ~data.labels.isnan()
    for k, own in enumerate(twins):
        z = own(data.inputs)
        entropy = nn.functional.cross_entropy(z[known], data.labels[known].long(), reduction="none")
        loss = (data.weights[known] * entropy).sum() / data.weights[known].sum()
        for other in (twin for j, twin in enumerate(twins) if j != k):
            p = torch.softmax(other(data.inputs).detach() / 2, 1)
            divergence = 4 * (p * (p.log() - torch.log_softmax(z / 2, 1))).sum(1)
            loss = loss + 0.7 * (w * divergence).mean() / 2
        gradients = torch.autograd.grad(loss, list(own.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(own.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
        for a, b in zip(own.parameters(), modules[k].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_without_weight_each_learns_alone_and_with_it_they_agree() -> None:
    data = rows()
    alone, together = networks(), networks()
    histories = fit(alone, data, epochs=60, weight=0.0)
    fit(together, data, epochs=60, weight=5.0)
    pair = networks()
    fit([pair[0], networks(3)[2]], data, epochs=60, weight=0.0)
    for a, b in zip(pair[0].parameters(), alone[0].parameters(), strict=True):
        assert torch.equal(a, b)  # whoever learns beside it
    assert histories[0][-1]["train"] < histories[0][0]["train"]

    def distance(modules: list[nn.Module]) -> float:
        p, q = (torch.softmax(m(data.inputs), 1).detach() for m in modules)
        return float((p - q).abs().mean())

    assert distance(together) < 0.5 * distance(alone)


def test_seeds_generators_and_modes() -> None:
    state = torch.get_rng_state()
    first, second, other = (networks(dropout=0.3) for _ in range(3))
    fit(first, epochs=2, batch_size=16)
    fit(second, epochs=2, batch_size=16)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first[1].parameters(), second[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert not any(m.training for m in first)
    schedule = Schedule(2, 0.1, batch_size=16, **SGD)
    mutual_fit(other, rows(), schedule=schedule, validate=lambda m: 1.0, seed=1)
    assert not torch.equal(next(first[0].parameters()), next(other[0].parameters()))


def test_each_keeps_its_own_best_epoch_and_patience_is_shared() -> None:
    modules, seen = networks(), []
    losses = iter([3.0, 1.0, 2.0, 5.0, 4.0, 5.0, 4.0, 5.0])  # the first network is best in epoch 2, the second in 1

    def validate(module: nn.Module) -> float:
        seen.append(torch.cat([p.detach().clone().flatten() for p in module.parameters()]))
        return next(losses)

    schedule = Schedule(50, 0.1, batch_size=30, patience=2, **(SGD | {"keep": "best"}))
    histories = mutual_fit(modules, rows(), schedule=schedule, validate=validate, seed=0)
    assert [len(history) for history in histories] == [4, 4]
    final = [torch.cat([p.detach().flatten() for p in module.parameters()]) for module in modules]
    assert torch.equal(final[0], seen[2])
    assert torch.equal(final[1], seen[1])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"modules": networks(1)}, InputError, "at least two"),
        ({"data": rows(known=False)}, DataError, "needs labels"),
        ({"weight": -1.0}, InputError, "weight"),
        ({"temperature": 0.0}, InputError, "temperature"),
        ({"schedule": {"ema": 0.9}}, InputError, "no micro_batch, ema"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, Any], error: type[Exception], words: str) -> None:
    modules, data = change.pop("modules", networks()), change.pop("data", rows())
    with pytest.raises(error, match=words):
        fit(modules, data, **change)

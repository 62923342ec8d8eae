"""Deep mutual learning: several networks teach one another while they learn, and none of them is the teacher.

Zhang, Xiang, Hospedales and Lu 2018, "Deep Mutual Learning", equations 4, 7 and 8: network k of K minimises

    L_k = cross-entropy + weight · 1 / (K − 1) · Σ_{l ≠ k} KL(p_l ‖ p_k)

and in every step the networks are updated one after the other, each against what the others say after their own update
(their algorithm 1). temperature softens both sides, times T² as everywhere here; the paper has T = 1. Answers of the others are constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distillens.errors import DataError, InputError, NonFiniteLossError
from distillens.progress import task
from distillens.transfer.objectives.base import Batch, check_number
from distillens.transfer.objectives.kd import kd_loss
from distillens.transfer.training.draws import generator, generators_restored, seed_global
from distillens.transfer.training.transfer import labelled_task_loss

if TYPE_CHECKING:
    from distillens.transfer.training.feed import Feed
    from distillens.transfer.training.schedule import Schedule

Epoch = dict[str, float]  # {epoch, train, task, mutual, validation}


def mutual_fit(
    modules: Sequence[nn.Module],
    feed: Feed,
    *,
    schedule: Schedule,
    validate: Callable[[nn.Module], float],
    seed: int,
    weight: float = 1.0,
    temperature: float = 1.0,
    label: str = "networks",
) -> tuple[tuple[Epoch, ...], ...]:
    """Train the networks in place; each ends in eval mode with the weights of its own best epoch (or the last). Returns their histories.

    Of the schedule everything but micro-batches, averages, precision and compilation counts; asking for those is an InputError.
    Patience runs out when no network has got better. On a CPU the same seed gives the same weights; generators are as they were.
    Raises InputError for fewer than two networks, DataError without labels, NonFiniteLossError with step and network.
    """
    if len(modules) < 2 or len({id(module) for module in modules}) < len(modules):
        raise InputError(f"Mutual learning takes at least two different networks, got {len(modules)}.")
    check_number(weight, name="weight", at_least=0)
    check_number(temperature, name="temperature", above=0)
    if (
        schedule.micro_batch is not None
        or schedule.ema is not None
        or schedule.precision != "float32"
        or schedule.compile
    ):
        raise InputError(
            "Mutual learning has no micro_batch, ema, precision or compile; leave them out of its schedule."
        )
    known = ~feed.labels.isnan()
    total = float((feed.weights * known).sum())
    if not total > 0:
        raise DataError("Mutual learning needs labels, and no training row has one with a weight above 0.")
    n = len(feed.labels)
    weights = (feed.weights / feed.weights.double().mean()).float()
    label_scale = float(feed.weights.sum()) / total
    optimizers = [schedule.make_optimizer(module) for module in modules]
    best: list[tuple[float, dict[str, Tensor]]] = [(math.inf, {}) for _ in modules]
    histories: list[list[Epoch]] = [[] for _ in modules]
    waited, step = 0, 0
    with generators_restored(), task(f"training {label} together", total=schedule.epochs, unit="epochs") as advance:
        for epoch in range(schedule.epochs):
            batches = torch.split(torch.randperm(n, generator=generator(seed, "order", epoch)), schedule.batch_size)
            sums = [[0.0, 0.0] for _ in modules]
            for module in modules:
                module.train()
            for number, rows in enumerate(batches):
                inputs = feed.fetch(rows, epoch=epoch).inputs
                about = Batch(weights[rows], feed.labels[rows], label_scale)
                seed_global(seed, "draw", step)
                with torch.no_grad():
                    said = [module(inputs) for module in modules]
                for k, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
                    for group in optimizer.param_groups:
                        group["lr"] = schedule.rate(epoch, number / len(batches))
                    own = module(inputs)
                    task_term = labelled_task_loss(own, about)
                    others = [
                        kd_loss(own, answers, temperature=temperature)
                        for other, answers in enumerate(said)
                        if other != k
                    ]
                    mutual = (about.weights * torch.stack(others).mean(dim=0)).mean()
                    loss = task_term + weight * mutual
                    if not math.isfinite(float(loss.detach())):
                        raise NonFiniteLossError(
                            f"The loss of network {k + 1} became {float(loss.detach())} at step {step}; lower the learning rate."
                        )
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    if schedule.clip is not None:
                        nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
                    optimizer.step()
                    if k + 1 < len(modules):  # the next ones hear what it says now
                        with torch.no_grad():
                            said[k] = module(inputs)
                    for j, term in enumerate((task_term, mutual)):
                        sums[k][j] += float(term.detach()) * len(rows) / n
                step += 1
            waited += 1
            for k, module in enumerate(modules):
                module.eval()
                with torch.inference_mode():
                    found = validate(module)
                if not math.isfinite(found):
                    raise NonFiniteLossError(
                        f"The validation loss of network {k + 1} became {found} after epoch {epoch + 1}."
                    )
                own_task, own_mutual = sums[k]
                histories[k].append(
                    {
                        "epoch": epoch + 1,
                        "train": own_task + weight * own_mutual,
                        "task": own_task,
                        "mutual": own_mutual,
                        "validation": found,
                    }
                )
                if found < best[k][0]:
                    best[k], waited = (
                        (found, {name: value.detach().clone() for name, value in module.state_dict().items()}),
                        0,
                    )
            advance(1)
            if waited >= schedule.patience:
                break
    for (_, kept), module in zip(best, modules, strict=True):
        if schedule.keep == "best":
            module.load_state_dict(kept)
        module.eval()
    return tuple(tuple(history) for history in histories)

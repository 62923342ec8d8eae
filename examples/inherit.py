"""Does a student learn faster when it starts from pieces of its teacher? Digits, five seeds, with and without.

    python examples/inherit.py                # both pairs: a few minutes
    python examples/inherit.py --quick        # one pair, two seeds, few epochs

For every pair of networks: how far the student agrees with its teacher on 400 held-out images before any training, after one epoch, and how
many epochs it takes to agree on 95 % and on 98 % of them. The student learns from the teacher's answers alone (`kd`, temperature 4). Means over seeds
of the student, with 95 % t intervals; the teacher is one and the same, so they say nothing about other teachers.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t
from sklearn.datasets import load_digits
from torch import Tensor, nn

from distillens.models.nets.base import as_image_net, initialised
from distillens.objectives import KD
from distillens.transfer.layers.inherit import Inheritance, copy_layers, select_weights
from distillens.transfer.layers.subclone import subclone
from distillens.transfer.training.transfer import Transfer

SHAPE, CLASSES, BATCH = (1, 8, 8), 10, 32


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """900 images to train on and 400 others, (n, 1, 8, 8) standardised, with their labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))[:1300]
    images = torch.from_numpy((data.images[order, None] / 16 - 0.3) / 0.37).float()
    labels = torch.from_numpy(data.target[order])
    return images[:900], labels[:900], images[900:], labels[900:]


def train(
    module: nn.Module, teacher: nn.Module | None, images: Tensor, labels: Tensor, *, epochs: int, rate: float, seed: int, watch: Any = None
) -> None:  # fmt: skip
    """AdamW with a cosine schedule; on labels without a teacher, on its answers alone with one. watch: called after every epoch."""
    objectives = [] if teacher is None else [KD(weight=1.0, temperature=4.0)]
    transfer = Transfer(teacher, module, objectives, task_weight=1.0 if teacher is None else 0.0)
    steps = epochs * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(transfer.trainable_parameters(), rate, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        transfer.train()
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = transfer(images[rows], labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        module.eval()
        if watch is not None:
            watch()
    module.eval()


def agreement(module: nn.Module, teacher: nn.Module, images: Tensor) -> float:
    module.eval()
    with torch.no_grad():
        return float((module(images).argmax(1) == teacher(images).argmax(1)).float().mean())


def curve(
    entry: dict[str, Any], teacher: nn.Module, take: str, data: tuple[Tensor, ...], *, epochs: int, rate: float, seed: int
) -> list[float]:  # fmt: skip
    """Agreement with the teacher on held-out images before training and after every epoch."""
    images, labels, held_out, _ = data
    module = initialised(as_image_net(entry), SHAPE, CLASSES, seed=seed)
    fill(take, module, teacher, images)
    seen = [agreement(module, teacher, held_out)]
    train(
        module, teacher, images, labels, epochs=epochs, rate=rate, seed=seed,
        watch=lambda: seen.append(agreement(module, teacher, held_out)),
    )  # fmt: skip
    return seen


def around(values: list[float]) -> str:
    """Mean and 95 % t interval."""
    mean, n = float(np.mean(values)), len(values)
    half = float(student_t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return f"{mean:.3g} ({mean - half:.3g} to {mean + half:.3g})"


def reached(curves: list[list[float]], level: float) -> str:
    """Mean number of epochs to a level, over the seeds that got there."""
    first = [next((epoch for epoch, value in enumerate(seen) if value >= level), None) for seen in curves]
    there = [float(epoch) for epoch in first if epoch is not None]
    if len(there) == len(first):
        return around(there)
    return f"{len(there)} of {len(first)} seeds" + (f", mean {np.mean(there):.3g}" if there else "")


def _blocks(student: nn.Module, teacher: nn.Module) -> Inheritance:
    """Every other transformer block, and what lies around them."""
    select_weights(student, teacher)  # the widths are the same, so that these are whole tensors
    return copy_layers(student.get_submodule("blocks"), teacher.get_submodule("blocks"))


def fill(take: str, student: nn.Module, teacher: nn.Module, images: Tensor) -> None:
    """What the student starts from, in place."""
    if take == "select_weights":
        select_weights(student, teacher)
    elif take == "subclone":
        subclone(student, teacher, images[:512])
    elif take == "copy_layers":
        _blocks(student, teacher)


VIT = {"kind": "vit", "patch": 4, "width": 64, "heads": 4}
PAIRS: dict[str, dict[str, Any]] = {
    "ResNet-14×4 → ResNet-8×3": {
        "teacher": {"kind": "resnet", "depth": 14, "width": 4}, "student": {"kind": "resnet", "depth": 8, "width": 3},
        "epochs": 12, "rate": 3e-3, "take": ("nothing", "select_weights", "subclone"),
    },
    "ViT of 4 blocks → ViT of 2 blocks": {
        "teacher": VIT | {"depth": 4}, "student": VIT | {"depth": 2},
        "epochs": 25, "rate": 2e-3, "take": ("nothing", "copy_layers"),
    },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair, two seeds, few epochs")
    quick = parser.parse_args().quick
    data = digits()
    for name, pair in list(PAIRS.items())[1:2] if quick else PAIRS.items():
        epochs = 6 if quick else pair["epochs"]
        teacher = initialised(as_image_net(pair["teacher"]), SHAPE, CLASSES, seed=100)
        train(teacher, None, data[0], data[1], epochs=epochs, rate=pair["rate"], seed=100)
        with torch.no_grad():
            right = float((teacher(data[2]).argmax(1) == data[3]).float().mean())
        print(f"\n{name}: the teacher is right on {right:.1%} of held-out images")
        print(
            f"{'taken over':<16}{'before training':<26}{'after 1 epoch':<26}{'epochs to 95 %':<26}{'to 98 %':<26}at the end"
        )
        for take in pair["take"]:
            curves = [
                curve(pair["student"], teacher, take, data, epochs=epochs, rate=pair["rate"], seed=seed)
                for seed in range(2 if quick else 5)
            ]
            cells = [
                around([c[0] for c in curves]),
                around([c[1] for c in curves]),
                reached(curves, 0.95),
                reached(curves, 0.98),
            ]
            print(
                f"{take:<16}" + "".join(f"{cell:<26}" for cell in cells) + around([c[-1] for c in curves]), flush=True
            )


if __name__ == "__main__":
    main()

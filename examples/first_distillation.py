"""A first distillation, done right: a network 10→20→3 teaches networks 10→20→3 and 10→5→3.

    python examples/first_distillation.py [--seeds 8]

1. The teacher is trained first, on labels, with an optimiser of its own. Then it is frozen, and that is checked.
2. Students learn from the teacher's probabilities (Hinton, Vinyals and Dean 2015), from labels, or from both.
3. Some students start from the teacher's parameters: whole layers where the shapes are equal, selected units where not.
4. Every part is held against the same student trained on labels only: same rows, same initial weights, same optimiser,
   and for all of them the step with the lowest cross-entropy on the same 200 labelled validation rows. Each seed draws another
   task, other rows and other weights, so that seeds are independent and a paired t interval over them is right.
   Smoothed labels stand beside it: they are soft too, but nobody's knowledge.

Two situations: the student has all 1,000 labelled rows that the teacher had, or only 100 of them (where it says "on all rows",
the teacher then answers the other 900 for it as well; their labels are not used).
docs/first-distillation.md explains the steps one by one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ttest_1samp
from torch import Tensor, nn

from distillens.models.nets.mlp import mlp
from distillens.models.threads import one_thread
from distillens.objectives import kd_loss
from distillens.transfer.layers.inherit import copy_layers, select_weights

ROWS, FEW, VALIDATION, TEST = 1000, 100, 200, 4000
TEMPERATURE, STEPS, LEARNING_RATE = 2.0, 100, 0.02
HIDDEN = {"10→20→3": 20, "10→5→3": 5}
MEASURES = {"accuracy": "{:+.3f}", "log-loss": "{:+.3f}", "agreement": "{:+.3f}"}


@dataclass(frozen=True)
class Arm:
    """What one student learns from. labels, teacher: weights of the two losses. smoothing: of labels.
    inherited: starts from the teacher's parameters. all_rows: the teacher also answers rows whose labels the student does not have."""

    name: str
    labels: float
    teacher: float
    smoothing: float = 0.0
    inherited: bool = False
    all_rows: bool = False


ARMS = (
    Arm("labels only", 1.0, 0.0),
    Arm("smoothed labels, no teacher", 1.0, 0.0, smoothing=0.1),
    Arm("+ teacher's probabilities", 0.5, 0.5),
    Arm("teacher's probabilities, no labels", 0.0, 1.0),
    Arm("+ parameters taken over", 1.0, 0.0, inherited=True),
    Arm("+ probabilities + parameters", 0.5, 0.5, inherited=True),
    Arm("+ probabilities on all rows", 0.5, 0.5, all_rows=True),
)


@dataclass(frozen=True)
class Rows:
    """x: (n, 10). labels: (n,) class indices."""

    x: Tensor
    labels: Tensor


def task(seed: int) -> tuple[Rows, Rows, Rows]:
    """Rows to learn from, to choose the step with, and to test on: 10 features, 3 classes, noisy labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS + VALIDATION + TEST, 10, generator=generator)
    inner, outer = torch.randn(10, 6, generator=generator), torch.randn(6, 3, generator=generator)
    scores = 1.5 * torch.tanh(x @ inner / 2) @ outer
    labels = torch.multinomial(torch.softmax(scores, dim=1), 1, generator=generator)[:, 0]
    sizes = (ROWS, VALIDATION, TEST)
    train, validation, test = (Rows(a, b) for a, b in zip(x.split(sizes), labels.split(sizes), strict=True))
    return train, validation, test


def network(hidden: int, seed: int) -> nn.Sequential:
    """10→hidden→3 with weights drawn from `seed`; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mlp(10, (hidden,), 3)


def fit(module: nn.Sequential, loss: Callable[[nn.Module], Tensor], validation: Rows) -> nn.Sequential:
    """Minimise `loss(module)` with an optimiser that knows this module only; ends in eval mode at its best step."""
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, weight_decay=1e-3, fused=True)
    lowest, best = float("inf"), module.state_dict()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(module).backward()
        optimizer.step()
        if step % 5 == 4:
            with torch.no_grad():
                reached = float(nn.functional.cross_entropy(module(validation.x), validation.labels))
            if reached < lowest:
                lowest, best = reached, {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(best)
    return module.eval()


def train_teacher(train: Rows, validation: Rows, seed: int) -> nn.Sequential:
    """Trained first, alone, on labels; returned frozen."""

    def loss(module: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(module(train.x), train.labels)

    return fit(network(20, seed), loss, validation).requires_grad_(False)


def train_student(student: nn.Sequential, train: Rows, answers: Tensor, arm: Arm, validation: Rows) -> nn.Sequential:
    """train: labels belong to its first rows. answers: (len(x), 3) the teacher's logits, computed once, before."""

    def loss(module: nn.Module) -> Tensor:
        logits = module(train.x)
        total = logits.new_zeros(())
        if arm.labels:
            known = logits[: len(train.labels)]
            task_loss = nn.functional.cross_entropy(known, train.labels, label_smoothing=arm.smoothing)
            total = total + arm.labels * task_loss
        if arm.teacher:
            total = total + arm.teacher * kd_loss(logits, answers, temperature=TEMPERATURE).mean()
        return total

    return fit(student, loss, validation)


@contextmanager
def unchanged(teacher: nn.Module) -> Iterator[None]:
    """Nothing inside the block may train the teacher: frozen when it begins, the same weights when it ends."""
    if teacher.training or any(p.requires_grad for p in teacher.parameters()):
        raise RuntimeError("The teacher is not frozen: call teacher.eval().requires_grad_(False) first.")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    yield
    for name, value in teacher.state_dict().items():
        if not torch.equal(value, before[name]):
            raise RuntimeError(f"The teacher's {name} has changed while its student was trained.")


def measured(student: nn.Module, teacher: nn.Module, test: Rows) -> dict[str, float]:
    with torch.inference_mode():
        logits, taught = student(test.x), teacher(test.x)
    return {
        "accuracy": float((logits.argmax(1) == test.labels).double().mean()),
        "log-loss": float(nn.functional.cross_entropy(logits, test.labels)),
        "agreement": float((logits.argmax(1) == taught.argmax(1)).double().mean()),
    }


Results = dict[tuple[int, str, str], dict[str, float]]  # (labelled rows, student, arm) → measures


def one_seed(seed: int) -> tuple[dict[str, float], Results]:
    """The teacher's measures and those of every student of one task."""
    train, validation, test = task(seed)
    teacher = train_teacher(train, validation, seed=1000 + seed)
    with torch.no_grad():
        answers = teacher(train.x)
    found: Results = {}
    with unchanged(teacher):
        for labelled in (ROWS, FEW):
            for size, hidden in HIDDEN.items():
                for arm in ARMS:
                    if arm.all_rows and labelled == ROWS:
                        continue  # it has them all already
                    student = network(hidden, seed=2000 + seed)
                    if arm.inherited:
                        (copy_layers if hidden == 20 else select_weights)(student, teacher)
                    seen = ROWS if arm.all_rows else labelled
                    rows = Rows(train.x[:seen], train.labels[:labelled])
                    train_student(student, rows, answers[:seen], arm, validation)
                    found[labelled, size, arm.name] = measured(student, teacher, test)
    return measured(teacher, teacher, test), found


def table(results: list[Results]) -> str:
    """Means of the students of labels, and differences from them: mean and paired 95 % t interval over the seeds."""
    lines: list[str] = []
    for labelled, size in dict.fromkeys(key[:2] for key in results[0]):
        lines += ["", f"{size}, {labelled:,} labelled rows"]
        lines.append(f"  {'learns from':36}" + "".join(f"{name:27}" for name in MEASURES))
        base = {m: np.array([r[labelled, size, ARMS[0].name][m] for r in results]) for m in MEASURES}
        lines.append(f"  {ARMS[0].name:36}" + "".join(f"{base[m].mean():<27.3f}" for m in MEASURES))
        for arm in ARMS[1:]:
            if (labelled, size, arm.name) not in results[0]:
                continue
            cells = []
            for measure, form in MEASURES.items():
                d = np.array([r[labelled, size, arm.name][measure] for r in results]) - base[measure]
                low, high = ttest_1samp(d, 0.0).confidence_interval()
                cells.append(f"{form.format(d.mean())} [{form.format(low)}, {form.format(high)}]")
            lines.append(f"  {arm.name:36}" + "".join(f"{cell:27}" for cell in cells).rstrip())
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help="tasks to average over, at least 2")
    seeds = parser.parse_args().seeds
    if seeds < 2:
        parser.error("an interval needs at least 2 seeds")
    started = time.perf_counter()
    with one_thread():  # networks this small are done before a second core has woken up
        teachers, results = zip(*(one_seed(seed) for seed in range(seeds)), strict=True)
    shown = ", ".join(f"{m} {np.mean([t[m] for t in teachers]):.3f}" for m in ("accuracy", "log-loss"))
    print(f"Teacher 10→20→3, {ROWS:,} labelled rows: {shown} on {TEST:,} test rows, mean of {seeds} seeds.")
    print("Below: the student of labels, and how much every other student differs from it [95 % interval over seeds].")
    print(table(list(results)))
    print(f"\n{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()

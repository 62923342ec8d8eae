"""What the training loop costs: beside a loop written by hand, beside torchdistill, and with the teacher's answers from disk.

    python benchmarks/distill_loop.py [--threads 2] [--clock wall|cpu] [--repeats 7] [--quick] [--out FILE.json]

Named before the run
--------------------
Images of 32×32×3 (random pixels: the arithmetic is the same), batches of 64, 10 classes, SGD with Nesterov momentum, loss
½ cross-entropy + ½ KD at temperature 4. Teacher: ResNet-32×4 (7.4 M parameters). Students: ResNet-8×4 (1.2 M), ResNet-8 (0.08 M).

    bare KD        a loop by hand: teacher in eval mode without gradients, then the student (this order is the faster one), loss,
                   backward, step; float tensors in memory
    torchdistill   its DistillationBox: forward_process and post_forward_process on the same tensors in memory, no data loader
    labels         the bare loop without a teacher: cross-entropy alone
    live           ours, asking the teacher in every step; pixels in memory as uint8, preprocessed in every step
    cached         ours, with the teacher's answers from disk
    augmented      cached, with random crops and flips besides (ahead: batches are made by a second thread, or not)
    table          a perceptron 60 → 64 → 2 on a table, answers in memory, by hand and ours: what is left when networks cost nothing
    teacher        the teacher's forward passes alone;  build: making the cache of the same images

Goals: live ÷ bare KD ≤ 1.05, live ÷ torchdistill ≤ 1, cached ÷ labels ≤ 1.05, build ÷ teacher ≤ 1.1. The speed-up live ÷ cached stands
beside its ceiling, (teacher + labels) ÷ labels of the same repeat. Every repeat runs all arms in a new random order; a row is the median
of the ratios within repeats with their range, so that a machine that is busy for a while slows both sides of a ratio. On a shared
machine use --clock cpu: the processor time of the process, all threads together. A busy neighbour shows there less, not nothing.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.models.image_network import ImageNetwork
from distillens.models.nets.base import initialised
from distillens.models.nets.mlp import MLPSettings
from distillens.models.nets.resnet import ResNetSettings
from distillens.models.preprocess import Preprocess
from distillens.models.threads import one_thread
from distillens.models.torch_module import assemble
from distillens.objectives import KD
from distillens.transfer.answers.build import build_cache
from distillens.transfer.answers.cache import TeacherCache
from distillens.transfer.training.feed import Fed, Rows
from distillens.transfer.training.image_feed import ImageFeed
from distillens.transfer.training.loop import fit
from distillens.transfer.training.schedule import Schedule

CLASSES, SHAPE, TEMPERATURE, RATE = 10, (3, 32, 32), 4.0, 0.01
TEACHER = ResNetSettings(depth=32, width=4)
STUDENTS = {"ResNet-8×4": ResNetSettings(depth=8, width=4), "ResNet-8": ResNetSettings(depth=8, width=1)}
PREPROCESS = Preprocess((32, 32), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
VIEWS = Augmentation(crop=4, flip=True, views=2)
AHEAD, TABLE_STEPS = 0, 200
GOALS = {"live ÷ bare KD": 1.05, "live ÷ torchdistill": 1.0, "cached ÷ labels": 1.05, "build ÷ teacher": 1.1}


@dataclass(frozen=True, eq=False)
class Work:
    """The same rows for every arm."""

    images: Images
    inputs: Tensor
    labels: Tensor
    batch: int
    teacher: ImageNetwork
    clock: Callable[[], float]

    @property
    def steps(self) -> int:
        return len(self.images) // self.batch


def prepared(*, rows: int, batch: int, clock: str) -> Work:
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (rows, *SHAPE), dtype=np.uint8), np.arange(rows))
    labels = torch.from_numpy(rng.integers(0, CLASSES, rows))
    teacher = ImageNetwork.fresh(TEACHER, PREPROCESS, tuple(map(str, range(CLASSES))), label="ResNet-32×4")
    now = time.process_time if clock == "cpu" else time.perf_counter
    return Work(images, PREPROCESS(images.pixels), labels, batch, teacher, now)


def student_of(name: str) -> nn.Module:
    return initialised(STUDENTS[name], SHAPE, CLASSES, seed=1)


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9, nesterov=True, fused=True)


def kd(student: Tensor, teacher: Tensor) -> Tensor:
    log_s, p_t = torch.log_softmax(student / TEMPERATURE, 1), torch.softmax(teacher / TEMPERATURE, 1)
    return TEMPERATURE**2 * nn.functional.kl_div(log_s, p_t, reduction="batchmean")


def by_hand(work: Work, name: str, *, distilled: bool) -> float:
    """Seconds of an epoch of the bare loop."""
    student, teacher = student_of(name).train(), work.teacher.module.eval()
    optimizer = sgd(student)
    began = work.clock()
    for rows in torch.split(torch.randperm(len(work.labels)), work.batch):
        x, y = work.inputs[rows], work.labels[rows]
        if distilled:
            with torch.no_grad():
                answers = teacher(x)
        outputs = student(x)
        loss = nn.functional.cross_entropy(outputs, y)
        if distilled:
            loss = 0.5 * loss + 0.5 * kd(outputs, answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return work.clock() - began


def answered(work: Work) -> float:
    """Seconds of the teacher's forward passes."""
    teacher = work.teacher.module.eval()
    began = work.clock()
    with torch.inference_mode():
        for x in torch.split(work.inputs, work.batch):
            teacher(x)
    return work.clock() - began


def built(work: Work, folder: Path) -> float:
    began = work.clock()
    build_cache(work.teacher, work.images, folder, batch_size=work.batch)
    return work.clock() - began


class Timed:
    """A feed that notes when the first batch of the training is asked for; the one before is the dry run's."""

    def __init__(self, feed: ImageFeed | Rows, clock: Callable[[], float]) -> None:
        self.feed, self.clock, self.asked, self.began = feed, clock, 0, 0.0
        self.labels, self.weights, self.ahead, self.teaches = feed.labels, feed.weights, feed.ahead, feed.teaches

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        if self.asked == 1:
            self.began = self.clock()
        self.asked += 1
        return self.feed.fetch(rows, epoch=epoch)


def ours(
    work: Work,
    name: str,
    *,
    cache: TeacherCache | None = None,
    augmentation: Augmentation | None = None,
    ahead: int = AHEAD,
) -> float:
    """Seconds of an epoch of our loop, from asking for the first batch to validation."""
    feed = ImageFeed(
        work.images, work.labels.float(), torch.ones(len(work.labels)), work.teacher.to_tensor, cache=cache,
        augmentation=augmentation or Augmentation(), ahead=ahead,
    )  # fmt: skip
    timed, ended = Timed(feed, work.clock), []

    def validate(_: nn.Module) -> float:
        ended.append(work.clock())
        return 0.0

    fit(
        student_of(name), timed, objectives=(KD(weight=0.5, temperature=TEMPERATURE),), task_weight=0.5,
        schedule=Schedule(1, RATE, "constant", work.batch, optimizer="sgd", keep="last"), validate=validate, seed=0,
        teacher=None if cache else work.teacher.module, threads="all",
    )  # fmt: skip
    return ended[0] - timed.began


def table(work: Work, *, by_hand: bool) -> float:
    """Seconds of as many batches of a perceptron 60 → 64 → 2 as the images have, with answers in memory, on one thread."""
    draw = torch.Generator().manual_seed(0)
    x, answers = torch.randn(64 * TABLE_STEPS, 60, generator=draw), torch.randn(64 * TABLE_STEPS, 2, generator=draw)
    labels, ended = (x[:, 0] > 0).float(), []
    module = assemble(MLPSettings(hidden=(64,)), 60, ("no", "yes")).train()
    if not by_hand:
        rows = Rows(x, answers, labels, torch.ones(len(x)))
        timed = Timed(rows, work.clock)

        def validate(_: nn.Module) -> float:
            ended.append(work.clock())
            return 0.0

        fit(module, timed, objectives=(KD(weight=0.5),), task_weight=0.5, schedule=Schedule(1, 1e-3, batch_size=64), validate=validate, seed=0)  # fmt: skip
        return (ended[0] - timed.began) * work.steps / TABLE_STEPS
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    with one_thread():
        began = work.clock()
        for rows_of_batch in torch.split(torch.randperm(len(x)), 64):
            outputs = module(x[rows_of_batch])
            loss = nn.functional.cross_entropy(outputs, labels[rows_of_batch].long())
            loss = 0.5 * loss + 0.5 * kd(outputs, answers[rows_of_batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return (work.clock() - began) * work.steps / TABLE_STEPS


def torchdistill(work: Work, name: str) -> float:
    """Seconds of an epoch of torchdistill's documented training step."""
    from torchdistill.core.distillation import DistillationBox

    part = {"forward_proc": "forward_batch_only", "sequential": [], "forward_hook": {"input": [], "output": []}}
    loss = {"student_module_path": ".", "student_module_io": "output", "teacher_module_path": ".", "teacher_module_io": "output",
            "temperature": TEMPERATURE, "alpha": 0.5, "beta": 0.5}  # fmt: skip
    config = {
        "num_epochs": 1,
        "teacher": part | {"requires_grad": False},
        "student": part | {"requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": {"lr": RATE, "momentum": 0.9, "nesterov": True, "fused": True}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"weight": 1.0, "criterion": {"key": "KDLoss", "kwargs": loss}}}},
        },
    }
    teacher = copy.deepcopy(work.teacher.module).eval()
    box = DistillationBox(teacher, student_of(name), {}, config, torch.device("cpu"), None, False, 1.0)
    box.pre_epoch_process(epoch=0)
    began = work.clock()
    for rows in torch.split(torch.randperm(len(work.labels)), work.batch):
        step = box.forward_process(work.inputs[rows], work.labels[rows], None)
        box.post_forward_process(loss=step)
        step.item()
    took = work.clock() - began
    box.clean_modules()
    return took


def peer() -> str | None:
    """Why torchdistill cannot run here; None when it can."""
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # built for another torch: two operators of detection are missing, which nothing here uses
            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            importlib.import_module("torchvision")
            DECLARED.append(library)
        importlib.import_module("torchdistill.core.distillation")
        importlib.import_module("torchdistill.losses.mid_level")
    except (ImportError, RuntimeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


DECLARED: list[Any] = []


def measured(work: Work, *, repeats: int, with_peer: bool) -> dict[str, list[float]]:
    """Seconds of every arm, by name, one a repeat."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        plain = build_cache(work.teacher, work.images, Path(scratch) / "plain", batch_size=work.batch)
        views = build_cache(
            work.teacher, work.images, Path(scratch) / "views", batch_size=work.batch, augmentation=VIEWS
        )
        arms: dict[str, Callable[[], float]] = {"teacher": lambda: answered(work)}
        arms["build"] = lambda: built(work, Path(tempfile.mkdtemp(dir=scratch)))
        arms["table, by hand"] = partial(table, work, by_hand=True)
        arms["table, ours"] = partial(table, work, by_hand=False)
        for name in STUDENTS:
            arms[f"labels {name}"] = partial(by_hand, work, name, distilled=False)
            arms[f"bare KD {name}"] = partial(by_hand, work, name, distilled=True)
            if with_peer:
                arms[f"torchdistill {name}"] = partial(torchdistill, work, name)
            arms[f"live {name}"] = partial(ours, work, name)
            arms[f"cached {name}"] = partial(ours, work, name, cache=plain)
            arms[f"cached, ahead 2 {name}"] = partial(ours, work, name, cache=plain, ahead=2)
            for ahead in (0, 2):
                arms[f"augmented, ahead {ahead} {name}"] = partial(
                    ours, work, name, cache=views, augmentation=VIEWS, ahead=ahead
                )
        draw = random.Random(0)
        for repeat in range(repeats + 1):
            for arm in draw.sample(sorted(arms), len(arms)):
                took = arms[arm]()
                if repeat:  # the first one warms caches up
                    seconds.setdefault(arm, []).append(took)
            print(f"repeat {repeat} of {repeats}", flush=True)
    return seconds


def ratios(above: list[float], below: list[float]) -> dict[str, float]:
    found = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def report(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One record a row of the table."""
    rows: list[dict[str, Any]] = []
    pairs = [("live", "bare KD"), ("live", "torchdistill"), ("cached", "labels"), ("cached, ahead 2", "cached"),
             ("augmented, ahead 0", "labels"), ("augmented, ahead 2", "augmented, ahead 0"), ("live", "cached")]  # fmt: skip
    for name in STUDENTS:
        for above, below in pairs:
            if f"{below} {name}" in seconds:
                row = {"what": f"{above} ÷ {below}", "student": name}
                rows.append(row | ratios(seconds[f"{above} {name}"], seconds[f"{below} {name}"]))
        labels = seconds[f"labels {name}"]
        both = [t + s for t, s in zip(seconds["teacher"], labels, strict=True)]
        rows.append({"what": "(teacher + labels) ÷ labels: the ceiling", "student": name} | ratios(both, labels))
    rows.append({"what": "build ÷ teacher", "student": ""} | ratios(seconds["build"], seconds["teacher"]))
    rows.append(
        {"what": "table, ours ÷ by hand", "student": "60→64→2"}
        | ratios(seconds["table, ours"], seconds["table, by hand"])
    )
    for row in rows:
        row["goal"] = GOALS.get(row["what"])
    return rows


def printed(rows: list[dict[str, Any]], seconds: dict[str, list[float]], work: Work) -> str:
    lines = ["| ratio | student | median | range | goal | |", "|---|---|---:|---:|---:|---|"]
    for row in rows:
        goal = "" if row["goal"] is None else f"≤ {row['goal']:g}"
        met = "" if row["goal"] is None else "met" if row["median"] <= row["goal"] else "missed"
        spread = f"{row['low']:.2f} … {row['high']:.2f}"
        lines.append(f"| {row['what']} | {row['student']} | {row['median']:.3f} | {spread} | {goal} | {met} |")
    lines += ["", "| arm | ms a batch, median |", "|---|---:|"]
    lines += [f"| {arm} | {1e3 * statistics.median(took) / work.steps:.3g} |" for arm, took in sorted(seconds.items())]
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--rows", type=int, default=128, help="images")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--quick", action="store_true", help="three repeats of one batch of 32, in about a minute")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    if given.quick:
        given.repeats, given.rows, given.batch = 3, 32, 32
    torch.set_num_threads(given.threads)
    work = prepared(rows=given.rows, batch=given.batch, clock=given.clock)
    why_not = peer()
    began = time.perf_counter()
    seconds = measured(work, repeats=given.repeats, with_peer=why_not is None)
    rows = report(seconds)
    machine = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "threads": given.threads,
        "clock": given.clock, "repeats": given.repeats, "rows": given.rows, "batch": given.batch,
        "versions": {name: version(name) for name in ("torch", "accelerate", "numpy")} | {"python": platform.python_version()},
        "torchdistill": version("torchdistill") if why_not is None else f"cannot run: {why_not}",
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }  # fmt: skip
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), printed(rows, seconds, work), sep="\n\n")
    if given.out is not None:
        given.out.write_text(
            json.dumps(machine | {"rows": rows, "seconds": seconds}, indent=1, ensure_ascii=False) + "\n"
        )


if __name__ == "__main__":
    main()

"""The training loop: mini-batches, early stop and choice of the epoch on validation rows, on any device Accelerate knows.

    loss = task_weight · task loss + Σ_i weight_i · objective_i

Every draw is a function of (seed, epoch, step): shuffles, dropout, masks and negatives. So a training that was killed goes on from
its checkpoint to the same weights, bit for bit on a CPU, and nothing global is changed. Started by `torchrun` or `accelerate launch`,
every process works on its part of each batch; rows, order and the sum of the gradients are those of one process.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from distillens.errors import DataError, NonFiniteLossError
from distillens.models.threads import one_thread
from distillens.progress import task
from distillens.store import content_hash, write_json
from distillens.transfer.layers.matching import ROWS
from distillens.transfer.objectives.schedule import Progress
from distillens.transfer.training import checkpoint
from distillens.transfer.training.draws import generator, generators_restored, seed_global
from distillens.transfer.training.feed import Fed, Feed, in_background
from distillens.transfer.training.ledger import Ledger, SilentObjectives
from distillens.transfer.training.transfer import Step, Transfer

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.training.schedule import Schedule

Epoch = dict[str, float]  # {epoch, train, validation, and the mean of each term by its name}
CHECKPOINT_SECONDS = 60.0
PAIRS = "matching.json"


def fit(
    module: nn.Module,
    feed: Feed,
    *,
    objectives: Sequence[Objective],
    task_weight: float,
    schedule: Schedule,
    validate: Callable[[nn.Module], float],
    seed: int,
    label: str = "network",
    teacher: nn.Module | None = None,
    folder: Path | None = None,
    identity: str = "",
    device: Literal["cpu", "auto"] = "cpu",
    threads: Literal["one", "all"] = "one",
    every: float = CHECKPOINT_SECONDS,
    out: Path | None = None,
) -> tuple[Epoch, ...]:
    """Train `module` in place; it ends in eval mode, on the CPU, with the weights that `schedule.keep` names. Returns the history.

    validate: the validation loss of the module (or of its average) in eval mode, called after every epoch without gradients.
    teacher: a live teacher, asked where `feed` does not hold its answers. folder: where a checkpoint is written, `every` so many
    seconds at most, and read when there is one; identity: hash of what else the training depends on (teacher, data), so that
    the checkpoint of another training is not taken for this one's. device: "auto" takes a GPU where there is one. threads:
    "one" for small networks (models/threads.py). out: where `matching.json` is written (None: in `folder`), the layers that taps
    "auto" became: they are paired on up to 2,000 training rows before the first step (matching.py).

    Raises NonFiniteLossError with the step and the term; TransferError when an objective cannot teach; DataError when a term
    has no rows; RunError for a checkpoint that belongs to another training.
    """
    weights = _mean_one(feed.weights, "weight")
    labelled = float(torch.where(torch.isnan(feed.labels), 0.0, weights).double().mean())
    if task_weight > 0 and not labelled > 0:
        raise DataError(_EMPTY.format("label"))
    label_scale = 1.0 / labelled if labelled > 0 else 1.0
    active = [objective for objective in objectives if objective.weight > 0]
    if active and not feed.teaches and teacher is None:
        raise DataError("Objectives need a teacher's answers, and these rows have none.")
    pairing = any("auto" in (objective.student_taps, objective.teacher_taps) for objective in active)
    shown = torch.randperm(len(weights), generator=generator(seed, "pairs"))[:ROWS] if pairing else torch.arange(2)
    quiet = one_thread() if threads == "one" else contextlib.nullcontext()
    with quiet, generators_restored(), _accelerator(schedule, device) as accelerator:
        module.to(accelerator.device)
        first = feed.fetch(shown[: len(weights)], epoch=0).to(accelerator.device, torch.preserve_format)
        transfer = Transfer(
            teacher, module, active, task_weight=task_weight, example=first.inputs, teacher_example=first.teacher_inputs,
            teacher_answers=first.teacher, rows=len(weights), seed=seed, compile=schedule.compile,
        )  # fmt: skip
        written = folder if out is None else out
        if transfer.matching is not None and written is not None and accelerator.is_main_process:
            write_json(Path(written) / PAIRS, transfer.matching.to_json())
        told = [repr(objective) for objective in transfer.objectives.values()]
        settings = {"given": identity, "schedule": repr(schedule), "objectives": told, "seed": seed,
                    "task_weight": task_weight, "rows": len(weights), "processes": accelerator.num_processes}  # fmt: skip
        training = _Training(
            transfer, feed, schedule, accelerator, seed=seed, weights=weights, label_scale=label_scale, folder=folder,
            every=every, identity=content_hash(settings),
        )  # fmt: skip
        return training.run(validate, label)


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows that go through the networks at once. number: from 0 in its batch; last: of it. share: of the batch's mean that is
    theirs, times the number of processes (over which gradients are averaged)."""

    number: int
    fed: Fed
    rows: Tensor
    share: float
    last: bool


class _Worker(nn.Module):
    """What Accelerate wraps: a module whose forward is a whole step. It moves nothing, so that it can be wrapped again and again."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__()
        self.transfer = transfer

    def forward(self, part: _Part, options: dict[str, Any]) -> Step:
        fed = part.fed
        return self.transfer.step(fed.inputs, teacher_inputs=fed.teacher_inputs, teacher=fed.teacher, **options)


class _Training:
    """One training under way: what it works with, and where it stands."""

    def __init__(
        self, transfer: Transfer, feed: Feed, schedule: Schedule, accelerator: Accelerator, *, seed: int, weights: Tensor,
        label_scale: float, folder: Path | None, every: float, identity: str,
    ) -> None:  # fmt: skip
        self.transfer, self.feed, self.schedule, self.accelerator = transfer, feed, schedule, accelerator
        self.seed, self.weights, self.label_scale = seed, weights, label_scale
        self.folder, self.every, self.identity = folder, every, identity
        self.layout = torch.channels_last if schedule.channels_last else torch.preserve_format
        transfer.student.to(memory_format=self.layout)  # type: ignore[call-overload]
        transfer.to(accelerator.device)
        self.average = None
        if schedule.ema is not None:
            averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(schedule.ema)  # type: ignore[no-untyped-call]
            self.average = torch.optim.swa_utils.AveragedModel(
                transfer.student, multi_avg_fn=averaging, use_buffers=True
            )
        self.optimizer = schedule.make_optimizer(transfer)
        self.worker, self.stepper = accelerator.prepare(_Worker(transfer), self.optimizer)
        # Where there is nothing for it to do, Accelerate's optimizer takes longer than a step of a small network: it looks for a
        # package on disk, twice a step.
        self.plain = accelerator.scaler is None and accelerator.distributed_type.value in (
            "NO",
            "MULTI_CPU",
            "MULTI_GPU",
        )
        if self.plain:
            self.stepper = self.optimizer
        self.watch = SilentObjectives(transfer.objectives)
        self.best: dict[str, Tensor] = {}
        self.at = checkpoint.Position()
        self.batches = 1  # of the epoch
        self.saved = time.monotonic()
        self.ledger = Ledger(("loss", *transfer.names), accelerator)
        self._resume()

    @property
    def kept(self) -> nn.Module:
        """What is validated and kept: the student, or the average of its weights."""
        if self.average is None:
            return self.transfer.student
        averaged: nn.Module = self.average.module
        return averaged

    def run(self, validate: Callable[[nn.Module], float], label: str) -> tuple[Epoch, ...]:
        at = self.at
        with task(f"training {label}", total=self.schedule.epochs, unit="epochs") as advance:
            if at.epoch:
                advance(at.epoch)
            while at.epoch < self.schedule.epochs and not at.stopped:
                self._epoch()
                self._judge(validate)
                advance(1)
                self._save()
        student = self.transfer.student
        student.load_state_dict(self.best if self.schedule.keep == "best" else _weights_of(self.kept))
        student.to("cpu").eval()
        return tuple(at.history)

    def _epoch(self) -> None:
        """What is left of the epoch that the training stands in."""
        at, processes = self.at, self.accelerator.num_processes
        order = torch.randperm(len(self.weights), generator=generator(self.seed, "order", at.epoch))
        batches = _pieces(order, self.schedule.batch_size, least=2 * processes)
        self.batches = len(batches)
        self.transfer.train()
        with contextlib.closing(in_background(self._parts(batches[at.batch :]), ahead=self.feed.ahead)) as parts:
            for part in parts:
                self._backward(part)
                if part.last:
                    self._update(at.batch / self.batches)
                    at.batch, at.step = at.batch + 1, at.step + 1
                    if at.batch < self.batches:
                        self._save()
        self.ledger.flush(at)
        self.watch.judge()

    def _parts(self, batches: Sequence[Tensor]) -> Iterator[Callable[[], _Part]]:
        """This process's part of every batch, in as many pieces as go through the networks at once."""
        processes, epoch = self.accelerator.num_processes, self.at.epoch
        for batch in batches:
            mine = torch.tensor_split(batch, processes)[self.accelerator.process_index]
            pieces = _pieces(mine, self.schedule.micro_batch or len(mine), least=2)
            for number, rows in enumerate(pieces):
                share = processes * len(rows) / len(batch)
                yield partial(self._fetch, rows, number, share=share, last=number == len(pieces) - 1, epoch=epoch)

    def _fetch(self, rows: Tensor, number: int, *, share: float, last: bool, epoch: int) -> _Part:
        fed = self.feed.fetch(rows, epoch=epoch).to(self.accelerator.device, self.layout)
        return _Part(number, fed, rows, share, last)

    def _backward(self, part: _Part) -> None:
        """Add the gradient of a part of a batch."""
        at, device = self.at, self.accelerator.device
        draw = seed_global(self.seed, "draw", at.step, part.number, self.accelerator.process_index)
        options = {
            "labels": self.feed.labels[part.rows].to(device), "weights": self.weights[part.rows].to(device),
            "rows": part.rows.to(device), "label_scale": self.label_scale,
            "draw": draw, "progress": Progress(at.epoch + at.batch / self.batches, self.schedule.epochs),
        }  # fmt: skip
        waits = contextlib.nullcontext() if part.last else self.accelerator.no_sync(self.worker)
        with waits:
            step: Step = self.worker(part, options)
            self.ledger.add(at, step, rows=len(part.rows) / len(self.weights))
            self.watch.see(step)
            loss = step.loss if part.share == 1.0 else part.share * step.loss
            loss.backward() if self.plain else self.accelerator.backward(loss)  # type: ignore[no-untyped-call]

    def _update(self, share: float) -> None:
        """One step of the optimizer, at the rate of this moment of the epoch."""
        self.ledger.step_done(self.at)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.at.epoch, share)
        if self.schedule.clip is not None:
            self.accelerator.clip_grad_norm_(self.transfer.trainable_parameters(), self.schedule.clip)
        self.stepper.step()
        self.stepper.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.transfer.student)

    def _judge(self, validate: Callable[[nn.Module], float]) -> None:
        """Close the epoch: validate, remember the best, and see whether it is time to stop."""
        at, kept = self.at, self.kept
        kept.eval()
        with torch.inference_mode():
            loss = validate(kept)
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"The validation loss became {loss} after epoch {at.epoch + 1}; lower the learning rate.{self._last_good()}"
            )
        train = at.sums.pop("loss")
        at.history.append({"epoch": at.epoch + 1, "train": train, "validation": loss, **at.sums})
        # A loss that never changed says nothing about epochs: then the last one is kept. Otherwise of equally good ones the first.
        if loss < at.best_loss or all(record["validation"] == loss for record in at.history):
            self.best = _weights_of(kept)
        if loss < at.best_loss:
            at.best_loss, at.waited = loss, 0
        else:
            at.waited += 1
            at.stopped = at.waited >= self.schedule.patience
        at.epoch, at.batch, at.sums = at.epoch + 1, 0, {}

    def _save(self) -> None:
        if self.folder is None or time.monotonic() - self.saved < self.every:
            return
        self.ledger.flush(self.at)  # nothing that is not finite goes on disk
        if self.accelerator.is_main_process:
            states = {"transfer": self.transfer.state_dict(), "best": self.best}
            if self.average is not None:
                states["average"] = self.average.state_dict()
            scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
            checkpoint.save(
                self.folder, self.at, identity=self.identity, states=states, optimizer=self.optimizer, scaler=scaler
            )
        self.accelerator.wait_for_everyone()
        self.saved = time.monotonic()

    def _resume(self) -> None:
        if self.folder is None:
            return
        found = checkpoint.load(self.folder, identity=self.identity, optimizer=self.optimizer)
        if found is None:
            return
        self.at, states, scaler = found
        self.transfer.load_state_dict(states["transfer"])
        self.best = states["best"]
        if self.average is not None:
            self.average.load_state_dict(states["average"])
        if self.accelerator.scaler is not None and scaler is not None:
            self.accelerator.scaler.load_state_dict(scaler)

    def _last_good(self) -> str:
        if self.folder is None or not (self.folder / checkpoint.NAME).exists():
            return ""
        return f" The last good state is in {self.folder / checkpoint.NAME}."


_EMPTY = "No training row has a {}: the loss would be empty. With task_weight: 0 no labels are needed."


def _mean_one(weights: Tensor, what: str) -> Tensor:
    """Weights scaled to mean 1 over all rows, so that a batch mean estimates the weighted mean over the rows that have one."""
    mean = float(weights.double().mean())
    if not mean > 0:
        raise DataError(_EMPTY.format(what))
    return (weights / mean).float()


def _pieces(rows: Tensor, size: int, *, least: int) -> list[Tensor]:
    """Rows in pieces of `size`; a last piece of fewer than `least` joins the one before (normalisation over a batch needs two)."""
    pieces = list(torch.split(rows, size))
    if len(pieces) > 1 and len(pieces[-1]) < min(least, size):
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def _weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@contextlib.contextmanager
def _accelerator(schedule: Schedule, device: Literal["cpu", "auto"]) -> Iterator[Accelerator]:
    """An Accelerator of our own; one that the caller has made is afterwards as it was (Accelerate keeps its state on classes)."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    shared = [AcceleratorState._shared_state, PartialState._shared_state]
    before = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        precision = {"float32": "no"}.get(schedule.precision, schedule.precision)
        accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu")
        accelerator.gradient_accumulation_steps = (
            1  # whatever a launcher's settings say: batches are cut into parts here
        )
        yield accelerator
    finally:
        if not started and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # ours; left open, its threads can abort the process at its end
        for state, values in zip(shared, before, strict=True):
            state.clear()
            state.update(values)

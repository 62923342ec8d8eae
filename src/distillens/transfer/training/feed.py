"""`Feed`: training rows, a batch at a time, with what the teacher says about them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from distillens.transfer.objectives.base import View

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Fed:
    """B rows. inputs: what the student takes. teacher: its answers where they are known already, otherwise
    teacher_inputs: what the teacher takes (None: the same as the student)."""

    inputs: Tensor
    teacher_inputs: Tensor | None = None
    teacher: View | None = None

    def to(self, device: torch.device, layout: torch.memory_format) -> Fed:
        """The same rows on a device, images in this memory order."""
        import torch

        def moved(tensor: Tensor) -> Tensor:
            ordered = layout if tensor.ndim == 4 else torch.preserve_format
            return tensor.to(device, non_blocking=True, memory_format=ordered)

        if device.type == "cpu" and layout == torch.preserve_format:
            return self
        known = self.teacher
        if known is not None:
            known = View(
                moved(known.outputs),
                moved(known.inputs),
                {tap: moved(tensor) for tap, tensor in known.layers.items()},
                None if known.explanations is None else moved(known.explanations),
            )
        return Fed(moved(self.inputs), None if self.teacher_inputs is None else moved(self.teacher_inputs), known)


class Feed(Protocol):
    """Training rows.

    labels: (n,) class indices or standardised values as floats, NaN where unknown. weights: (n,) ≥ 0, not all 0.
    ahead: batches to make in the background while the networks work on one; 0 where making them costs nothing.
    """

    @property
    def labels(self) -> Tensor: ...
    @property
    def weights(self) -> Tensor: ...
    @property
    def ahead(self) -> int: ...
    @property
    def teaches(self) -> bool:
        """Whether it holds the teacher's answers; otherwise a live teacher is needed for objectives."""
        ...

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        """The rows at positions `rows` as they look in this epoch (from 0). The same arguments give the same rows."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in memory, the same in every epoch.

    inputs: (n, …) float32, what the student takes. teacher: (n, K) logits or standardised values; None without a teacher's
    answers. labels, weights: see `Feed`. teacher_inputs: (n, …) what a live teacher takes; None: the same as the student.
    """

    inputs: Tensor
    teacher: Tensor | None
    labels: Tensor
    weights: Tensor
    teacher_inputs: Tensor | None = None

    @property
    def ahead(self) -> int:
        return 0

    @property
    def teaches(self) -> bool:
        return self.teacher is not None

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:  # noqa: ARG002 (the same rows in every epoch)
        inputs = self.inputs[rows]
        known = None if self.teacher is None else View(self.teacher[rows], inputs)
        return Fed(inputs, None if self.teacher_inputs is None else self.teacher_inputs[rows], known)


def in_background(work: Iterable[Callable[[], T]], *, ahead: int) -> Generator[T, None, None]:
    """The results of `work`, in order, made by one thread that is at most `ahead` pieces in front of who takes them.

    An exception of the work is raised where its result would have come. The thread ends when the iterator is closed.
    """
    if ahead == 0:
        for piece in work:
            yield piece()
        return
    done: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def give(kind: str, result: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                done.put((kind, result), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for piece in work:
                if not give("result", piece()):
                    return
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits for the result)
            give("error", error)
        else:
            give("end", None)

    thread = threading.Thread(target=make, name="distillens-feed", daemon=True)
    thread.start()
    try:
        while True:
            kind, result = done.get()
            if kind == "end":
                return
            if isinstance(result, BaseException):
                raise result
            yield result  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()

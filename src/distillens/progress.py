"""Progress of anything that takes longer than two seconds, without the code that works knowing who watches.

    with task("kernel SHAP", total=300, unit="rows") as advance:
        for chunk in chunks:
            ...
            advance(len(chunk))

The command line installs a listener; without one a bar with the time left appears on a terminal's standard error
after two seconds, and nothing at all elsewhere (logs, notebooks without a terminal, tests).
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from distillens.errors import DistillensWarning
from distillens.plain import duration, number

Advance = Callable[[int], None]


class Listener(Protocol):
    """Somebody who watches tasks."""

    def start(self, label: str, total: int | None, unit: str) -> Any: ...
    def advance(self, key: Any, amount: int) -> None: ...
    def stop(self, key: Any) -> None: ...


class Observer(Protocol):
    """Somebody who watches a whole run, stage by stage.

    estimated: once, after the data were read and before anything is trained: seconds the run should take, seconds of them
    for the controls, fits at most.
    """

    def estimated(self, seconds: float, controls: float, fits: int) -> None: ...
    def stage_started(self, name: str) -> None: ...
    def stage_done(self, name: str, summary: str, seconds: float, reused: bool) -> None: ...
    def warning(self, text: str) -> None: ...
    def finished(self, run: Any) -> None: ...


class Silent:
    """An observer who watches and says nothing, except that warnings stay Python warnings."""

    def estimated(self, seconds: float, controls: float, fits: int) -> None: ...
    def stage_started(self, name: str) -> None: ...
    def stage_done(self, name: str, summary: str, seconds: float, reused: bool) -> None: ...
    def finished(self, run: Any) -> None: ...

    def warning(self, text: str) -> None:
        warnings.warn(text, DistillensWarning, stacklevel=2)


_listener: ContextVar[Listener | None] = ContextVar("distillens_progress", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every task inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def task(label: str, *, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """A piece of work of `total` units; call the yielded function with how many are done since the last call."""
    listener = _listener.get() or _PatientBar()
    key = listener.start(label, total, unit)
    try:
        yield partial(listener.advance, key)
    finally:
        listener.stop(key)


@contextlib.contextmanager
def shared(advance: Advance, amount: int) -> Iterator[None]:
    """Inside the block a piece of `amount` units of an outer task is done: inner tasks move its bar by their share instead of having
    bars of their own, and at the end all of it is done."""
    part = _Part(advance, amount)
    with listening(part):
        yield
    part.reach(amount)


class _Part:
    """Listens to inner tasks on behalf of an outer one."""

    def __init__(self, advance: Advance, amount: int) -> None:
        self.outer, self.amount, self.reached = advance, amount, 0

    def start(self, label: str, total: int | None, unit: str) -> list[int]:
        del label, unit
        return [0, total or 0]

    def advance(self, key: list[int], amount: int) -> None:
        key[0] += amount
        if key[1] > 0:
            self.reach(min(self.amount, self.amount * key[0] // key[1]))

    def stop(self, key: list[int]) -> None: ...

    def reach(self, amount: int) -> None:
        if amount > self.reached:
            self.outer(amount - self.reached)
            self.reached = amount


def time_left(total: float | None, done: float, at: float, elapsed: float, unit: str) -> str:
    """`3/16 settings · 12 s left`: from the pace up to the last step, reached `at` seconds; before it, the time it took so far.

    Of rows also how many a second: `40/1,000 rows · 8 a second · 2 min 00 s left`.
    """
    if total is None:
        return f"{duration(elapsed)} so far"
    far = f"{done:,.0f}/{total:,.0f} {unit}".rstrip()
    if unit.startswith("rows") and done and at > 0:
        far += f" · {number(done / at)} a second"
    left = at / done * total - elapsed if done else 0.0
    return f"{far} · {duration(left)} left" if left > 0 else f"{far} · {duration(elapsed)} so far"


class _PatientBar:
    """A Rich bar on standard error that appears only after two seconds, and only on a terminal."""

    patience = 2.0

    def start(self, label: str, total: int | None, unit: str) -> dict[str, Any]:
        return {"label": label, "total": total, "unit": unit, "done": 0, "since": time.monotonic(), "bar": None}

    def advance(self, key: dict[str, Any], amount: int) -> None:
        key["done"] += amount
        elapsed = time.monotonic() - key["since"]
        if key["bar"] is None:
            if elapsed < self.patience or not sys.stderr.isatty():
                return
            key["bar"] = self._open(key)
        bar, number_of = key["bar"]
        bar.update(number_of, completed=key["done"], at=elapsed)

    def stop(self, key: dict[str, Any]) -> None:
        if key["bar"] is not None:
            key["bar"][0].stop()

    @staticmethod
    def _open(key: dict[str, Any]) -> tuple[Any, Any]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        class Left(ProgressColumn):
            max_refresh = None

            def render(self, task: Any) -> Text:
                elapsed = time.monotonic() - key["since"]
                return Text(time_left(task.total, task.completed, task.fields["at"], elapsed, key["unit"]))

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            Left(),
            console=Console(stderr=True),
            transient=True,
        )
        bar.start()
        return bar, bar.add_task(key["label"], total=key["total"], at=0.0)

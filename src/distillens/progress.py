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


class _PatientBar:
    """A Rich bar on standard error that appears only after two seconds, and only on a terminal."""

    patience = 2.0

    def start(self, label: str, total: int | None, unit: str) -> dict[str, Any]:
        return {"label": label, "total": total, "unit": unit, "done": 0, "since": time.monotonic(), "bar": None}

    def advance(self, key: dict[str, Any], amount: int) -> None:
        key["done"] += amount
        if key["bar"] is None:
            if time.monotonic() - key["since"] < self.patience or not sys.stderr.isatty():
                return
            key["bar"] = self._open(key)
        bar, number = key["bar"]
        bar.update(number, completed=key["done"])

    def stop(self, key: dict[str, Any]) -> None:
        if key["bar"] is not None:
            key["bar"][0].stop()

    @staticmethod
    def _open(key: dict[str, Any]) -> tuple[Any, Any]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(key["unit"]),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        bar.start()
        return bar, bar.add_task(key["label"], total=key["total"])

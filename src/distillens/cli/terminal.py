"""What a run says on the terminal: one line a stage and bars on standard error, the verdict on standard output.

Text from recipes and data is printed as text: no markup of Rich is read in it, and control characters are not passed on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from distillens.plain import clean, duration, interval, number
from distillens.progress import time_left
from distillens.store import read_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from distillens.run import Run

COLOURS = {"pass": "green", "review": "yellow", "fail": "red"}
MARKS = {"pass": "✓", "review": "?", "fail": "✗"}


def console(stream: TextIO) -> Console:
    """A console that colours only on a terminal and only without NO_COLOR."""
    from rich.console import Console

    terminal = stream.isatty()
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=not terminal, width=None if terminal else 200,
                   no_color=True if os.environ.get("NO_COLOR") else None)  # fmt: skip


class Quiet:
    """Watches runs and tasks and says nothing."""

    def estimated(self, seconds: float, controls: float, fits: int) -> None: ...
    def stage_started(self, name: str) -> None: ...
    def stage_done(self, name: str, summary: str, seconds: float, reused: bool) -> None: ...
    def warning(self, text: str) -> None: ...
    def finished(self, run: Any) -> None: ...
    def start(self, label: str, total: int | None, unit: str) -> None: ...
    def advance(self, key: Any, amount: int) -> None: ...
    def stop(self, key: Any) -> None: ...


class Lines:
    """One line a stage, with what it found and how long it took; warnings below as one sentence each.

    Also the listener of `distillens.progress`. On a terminal the stage at work shows how long it has been at it, and
    tasks inside it how far they are and the time left.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.console = console(sys.stderr if stream is None else stream)
        self.progress: Any = None
        self.running = 0
        self.stage: Any = None  # key of the stage's own row

    # a run, stage by stage
    def estimated(self, seconds: float, controls: float, fits: int) -> None:
        self._line("takes about", cost_words(seconds, controls, fits), "")

    def stage_started(self, name: str) -> None:
        self._end_stage()
        self.stage = self.start(label_of(name), None, "")

    def stage_done(self, name: str, summary: str, seconds: float, reused: bool) -> None:
        self._end_stage()
        self._line(label_of(name), summary, "kept" if reused else duration(seconds))

    def warning(self, text: str) -> None:
        self._line("warning", text, "", style="yellow")

    def finished(self, run: Any) -> None:
        """The verdict is printed by the command, on standard output."""

    # tasks inside a stage
    def start(self, label: str, total: int | None, unit: str) -> Any:
        if not self.console.is_terminal:
            return None
        if self.progress is None:
            self.progress = self._bars()
            self.progress.start()
        self.running += 1
        return self.progress.add_task(clean(label), total=total, unit=clean(unit), at=0.0)

    def advance(self, key: Any, amount: int) -> None:
        if key is not None and self.progress is not None:
            elapsed = next((row.elapsed or 0.0 for row in self.progress.tasks if row.id == key), 0.0)
            self.progress.update(key, advance=amount, at=elapsed)

    def stop(self, key: Any) -> None:
        if key is None or self.progress is None:
            return
        self.progress.remove_task(key)
        self.running -= 1
        if self.running == 0:
            self.close()

    def close(self) -> None:
        """Take away what an error left behind."""
        if self.progress is not None:
            self.progress.stop()
        self.progress, self.running, self.stage = None, 0, None

    def _end_stage(self) -> None:
        key, self.stage = self.stage, None
        self.stop(key)

    def _bars(self) -> Any:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.text import Text

        class Left(ProgressColumn):
            max_refresh = None

            def render(self, task: Any) -> Text:
                return Text(time_left(task.total, task.completed, task.fields["at"], task.elapsed or 0.0, task.fields["unit"]), style="dim")  # fmt: skip

        return Progress(
            TextColumn("  {task.description:<19}", markup=False), BarColumn(max(6, min(40, self.console.width - 64))), Left(),
            console=self.console, transient=True,
        )  # fmt: skip

    def _line(self, label: str, text: str, end: str, *, style: str = "bold") -> None:
        """Label, text and time; on a terminal a long text goes on below itself."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        out = self.console if self.progress is None else self.progress.console
        if not self.console.is_terminal:
            out.print(Text.assemble("  ", (label.ljust(19), style), clean(text), ("  " + end if end else "", "dim")))
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(min_width=16, max_width=24, style=style, overflow="fold")
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True, style="dim")
        table.add_row(Text(label), Text(clean(text)), Text(end))
        out.print(Padding(table, (0, 0, 0, 2), expand=False))


def cost_words(seconds: float, controls: float, fits: int) -> str:
    """What a run is expected to take, in words."""
    of_that = f"{duration(controls)} of that for the controls" if controls else "without controls"
    return f"{duration(seconds)} on two quiet cores · up to {fits} fits · {of_that}"


def label_of(stage: str) -> str:
    """`explain/ebm.kernel_shap` → `explain ebm`: the summary names the method."""
    place, _, detail = clean(stage).partition("/")
    if place == "explain":
        detail = detail.partition(".")[0]
    return f"{place} {detail}".strip()


# ── the end of a run ────────────────────────────────────────────────────────────────────────────────────────────────────
def read_verdict(directory: Path) -> tuple[str, dict[str, Any]]:
    """The student the verdict is about, and its audit."""
    chosen = str(read_json(directory / "students" / "chosen.json")["chosen"])
    return chosen, read_json(directory / "students" / chosen / "audit.json")


def verdict_line(run: Run) -> str:
    """`REVIEW   agreement 0.887 (0.845–0.920)  twin 0.930   top_k_overlap 0.81  shuffled 0.44  repeat 0.92`."""
    _, audit = read_verdict(run.directory)
    metrics = audit["metrics"]
    shown = [run.verdict.upper().ljust(6)]
    for name in ("agreement", "r2_to_teacher", "top_k_overlap"):
        metric = next((m for m in metrics if m["name"] == name and m["estimate"]["value"] is not None), None)
        if metric is None or (name == "r2_to_teacher" and "agreement" in " ".join(shown)):
            continue
        controls = metric.get("controls") or {}
        references = [
            ("twin", controls.get("twin")),
            ("shuffled", metric.get("chance")),
            ("repeat", (metric.get("repeatability") or {}).get("teacher")),
        ]
        if name != "top_k_overlap":
            references = references[:1]
        shown.append("  ".join([f"{'reasons' if name == 'top_k_overlap' else name.replace('_', ' ')} {interval(metric['estimate'])}",
                                *(f"{word} {number(e['value'])}" for word, e in references if e and e["value"] is not None)]))  # fmt: skip
    return "   ".join(shown)


def gate_table(audit: Mapping[str, Any]) -> Table:
    """Every gate: metric (less its reference, where the gate is relative), estimate with interval, limit, outcome."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("gate", "estimate", "limit", "outcome"):
        table.add_column(name, overflow="fold", no_wrap=name in {"limit", "outcome"})
    for gate in audit["gates"]:
        outcome = gate["outcome"]
        limit = f"{'≥' if gate['direction'] == '>=' else '≤'} {number(gate['limit'])}"
        less = f" − {clean(gate['relative_to'])}'s" if gate.get("relative_to") else ""
        table.add_row(Text(clean(gate["metric"]).replace("_", " ") + less), Text(interval(gate["bound"])), Text(limit),
                      Text(f"{MARKS.get(outcome, '')} {outcome}", style=COLOURS.get(outcome, "")))  # fmt: skip
    return table


def show_verdict(run: Run, stream: TextIO | None = None) -> None:
    """The gates, the verdict line and where everything lies."""
    from rich.text import Text

    out = console(sys.stdout if stream is None else stream)
    chosen, audit = read_verdict(run.directory)
    word, _, rest = verdict_line(run).partition(" ")
    rest = clean(rest).strip()
    if out.is_terminal and len(word) + len(rest) + 16 > out.width:
        rest = "\n" + rest.replace("   ", "\n")  # a line for each part rather than a break in the middle of one
    out.print()
    out.print(gate_table(audit))
    out.print()
    verdict = Text.assemble((word, COLOURS.get(run.verdict, "") + " bold"), "  " + rest if rest[:1] != "\n" else rest)
    places = [(label, Text(clean(relative(path)))) for label, path in result_paths(run.directory, chosen)]
    _pairs(out, [("verdict", verdict), ("of", Text(f"{clean(chosen)}, the chosen student")), *places])


def result_paths(directory: Path, chosen: str) -> list[tuple[str, Path]]:
    """What a run leaves for people: the passports, their JSON twin, the exported student."""
    pages = sorted(directory.glob("passport*.html"), key=lambda p: (len(p.name), p.name))
    exported = sorted((directory / "students" / chosen / "export").glob("model.*"))
    found = [
        *(("passport", p) for p in pages),
        ("json", directory / "passport.json"),
        *(("student", p) for p in exported),
    ]
    return [(label, path) for label, path in found if path.is_file()]


def relative(path: Path) -> str:
    """The path from here when it lies below, otherwise the whole path."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def print_pairs(pairs: Sequence[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Two columns of text; on a terminal the second wraps under itself, elsewhere every pair stays on its line."""
    from rich.text import Text

    out = console(sys.stdout if stream is None else stream)
    _pairs(out, [(left, Text(clean(right))) for left, right in pairs])


def _pairs(out: Console, pairs: Sequence[tuple[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not pairs:
        return
    if not out.is_terminal:
        width = max(len(clean(left)) for left, _ in pairs)
        for left, right in pairs:
            out.print(Text.assemble("  ", clean(left).ljust(width), "  ", right))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for left, right in pairs:
        table.add_row(Text("  " + clean(left)), right)
    out.print(table)

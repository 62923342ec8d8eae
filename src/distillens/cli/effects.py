"""`distillens explain … --effect pdp|ice|ale|dependence --feature NAME` on a terminal: a table with a bar a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from distillens.plain import clean, number

if TYPE_CHECKING:
    from distillens.explainers.dependence import Dependence
    from distillens.verbs.effects import Effects

WIDTH = 16  # characters of a bar
TITLES = {
    "pdp": "partial dependence: the mean score with every row's {feature} set to the value",
    "ice": "individual conditional expectations: their mean, and where the middle 80 % of the rows lie",
    "ale": "accumulated local effects: the score's rise over the rows inside each bin, zero on average",
}


def show_effects(found: Effects, *, quiet: bool) -> None:
    """A line a grid point: value, rows, then for every model the effect, its standard error (ICE: the middle 80 %), and a bar."""
    import numpy as np

    if not quiet:
        of = "" if found.target is None else f" of {clean(found.target)}"
        title = TITLES[found.method].format(feature=clean(found.feature))
        typer.echo(f"{title}; {found.scale.replace('_', '-')}{of}, {len(found.row_ids):,} rows\n")
    first = next(iter(found.models.values()))
    lines = [[label, f"{int(count):,}"] for label, count in zip(first.labels, first.count, strict=True)]
    every = np.concatenate([effect.values for effect in found.models.values()])
    low, high = float(every.min()), float(every.max())
    for effect in found.models.values():
        for k, line in enumerate(lines):
            value = float(effect.values[k])
            if effect.curves is None:
                beside = f"± {effect.stderr[k]:.2g}"
            else:
                inner = np.quantile(effect.curves[:, k], [0.1, 0.9])
                beside = f"({number(inner[0])} to {number(inner[1])})"
            line.append(f"{value:+.3g} {beside}".replace("-", "−").ljust(24) + bar(value, low, high))
    _table([found.feature, "rows", *found.models], lines)


def show_dependence(found: Dependence, *, quiet: bool) -> None:
    """A line a bin of the feature: rows, then for every model the mean attribution, its spread over the rows, and a bar."""
    if not quiet:
        typer.echo(
            f"attribution of {clean(found.feature)} by {found.method} against its value; {found.scale.replace('_', '-')}, "
            f"{len(found.row_ids):,} rows, mean and spread over the rows\n"
        )
    summary = found.summary()
    means = [value for line in summary for value in line["mean"].values()]
    lines = [
        [line["label"], f"{line['rows']:,}"]
        + [
            f"{mean:+.3g} (±{line['spread'][model]:.2g})".replace("-", "−").ljust(24)
            + bar(mean, min(means), max(means))
            for model, mean in line["mean"].items()
        ]
        for line in summary
    ]
    _table([found.feature, "rows", *found.attributions], lines)
    if not quiet:
        for model, value in found.rank_correlation().items():
            if value is not None:
                typer.echo(
                    f"  {clean(model)}: rank correlation of value and attribution {value:+.2f}".replace("-", "−")
                )


def bar(value: float, low: float, high: float) -> str:
    """`value` on a scale from `low` to `high`, `WIDTH` characters at most; at least one, so that the lowest is seen."""
    share = 1.0 if high <= low else (value - low) / (high - low)
    return "█" * max(1, round(share * WIDTH))


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    shown = [[clean(cell) for cell in line] for line in (header, *lines)]
    widths = [max(len(line[j]) for line in shown) for j in range(len(header))]
    for line in shown:
        typer.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

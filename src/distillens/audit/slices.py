"""Agreement within slices: declared columns, the teacher's decisions, and rows near the decision threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distillens.audit.answers import Case
from distillens.audit.result import SliceKind, SliceResult
from distillens.data.base import Bools, Floats
from distillens.errors import InputError, did_you_mean
from distillens.estimate import Estimate
from distillens.intervals import Quantity

if TYPE_CHECKING:
    import pandas as pd

Slices = Literal["auto"] | Sequence[str]

DECISION, BOUNDARY = "teacher's decision", "decision boundary"
BAND = 0.1
LEVELS = 20  # levels of one categorical column shown by themselves; the rarer ones are pooled


@dataclass(frozen=True, eq=False)
class Slice:
    """Rows of one level of one column."""

    column: str
    level: str
    rows: Bools
    kind: SliceKind


def _numeric_levels(values: Floats) -> list[tuple[str, Bools]]:
    """Terciles, labelled with their values; columns of up to three values by value."""
    known = values[~np.isnan(values)]
    unique = np.unique(known)
    if len(unique) <= 3:
        return [(f"{v:.6g}", values == v) for v in unique]
    low, high = np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf")
    parts = [(f"up to {low:.6g}", values <= low), (f"above {low:.6g}, up to {high:.6g}", (values > low) & (values <= high)),
             (f"above {high:.6g}", values > high)]  # fmt: skip
    return [(label, rows) for label, rows in parts if rows.any()]


def _column_levels(column: pd.Series[Any]) -> list[tuple[str, Bools]]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    missing = column.isna().to_numpy(dtype=np.bool_)
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        levels = _numeric_levels(column.to_numpy(dtype=np.float64, na_value=np.nan))
    else:
        texts = np.array([None if m else str(v) for v, m in zip(column, missing, strict=True)], dtype=object)
        names, counts = np.unique(texts[~missing].astype(str), return_counts=True)
        kept = names[np.argsort(-counts, kind="stable")][:LEVELS] if len(names) > LEVELS else names
        levels = [(str(name), texts == name) for name in sorted(kept)]
        if len(kept) < len(names):
            pooled = ~missing & ~np.isin(texts.astype(str), kept)
            levels.append((f"({len(names) - len(kept)} rarer levels)", pooled))
    return [*levels, *([("(missing)", missing)] if missing.any() else [])]


def find_slices(case: Case, audit_only: pd.DataFrame | None, slices: Slices) -> list[Slice]:
    """The slices to look at: "auto" is every column of `audit_only`, the teacher's decisions and the boundary band.

    A sequence names some of them. InputError with a suggestion for a name that is not there.
    """
    columns = [] if audit_only is None else [str(c) for c in audit_only.columns]
    builtin = ([DECISION] if case.classes else []) + ([BOUNDARY] if case.task == "binary" else [])
    if isinstance(slices, str) and slices != "auto":
        raise InputError(f'slices must be "auto" or a list of column names; got {slices!r}.')
    wanted = [*columns, *builtin] if slices == "auto" else list(slices)
    found: list[Slice] = []
    for name in wanted:
        if name == DECISION and case.classes:
            decided = case.teacher.decided
            found += [Slice(DECISION, case.classes[c], decided == c, "decision") for c in np.unique(decided)]
        elif name == BOUNDARY and case.task == "binary":
            threshold = case.decision.threshold
            near = np.abs(case.teacher.p[:, case.decision.adverse] - threshold) <= BAND
            found.append(Slice(BOUNDARY, f"teacher's probability within {BAND} of {threshold:g}", near, "boundary"))
        elif name in columns and audit_only is not None:
            place = columns.index(name)
            found += [Slice(name, level, rows, "column") for level, rows in _column_levels(audit_only.iloc[:, place])]
        else:
            raise InputError(f"There is no column {name!r} to slice by.{did_you_mean(name, [*columns, *builtin])}")
    return found


def false_discovery(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which hypotheses are rejected at a false discovery rate (Benjamini and Hochberg 1995)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= rate * np.arange(1, len(p) + 1) / max(len(p), 1))
    rejected = np.zeros(len(p), dtype=np.bool_)
    rejected[order[: below[-1] + 1 if below.size else 0]] = True
    return [bool(r) for r in rejected]


def _fisher(inside: Floats, outside: Floats) -> float:
    from scipy.stats import fisher_exact

    table = [
        [int(inside.sum()), int(len(inside) - inside.sum())],
        [int(outside.sum()), int(len(outside) - outside.sum())],
    ]
    return float(fisher_exact(np.array(table)).pvalue)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(estimate: Estimate) -> str:
    return f"{100 * estimate.low:.1f} to {_percent(estimate.high)}"


def measure_slices(
    case: Case, agreement: Quantity, found: Sequence[Slice], *, metric: str, minimum: int, level: float
) -> list[SliceResult]:
    """Agreement in each slice with an exact interval, Fisher's exact test against the rest, Benjamini-Hochberg flags.

    A slice is flagged when it is significantly *worse* than the rest at false discovery rate 1 − level. Tests count rows
    once each, without row weights or clusters.
    """
    outcomes = agreement.outcomes
    if outcomes is None:
        return []
    results: list[SliceResult] = []
    tests: list[tuple[int, float]] = []
    of_what = (
        "the student decides as the teacher" if case.classes else "the student is within the tolerance of the teacher"
    )
    for part in found:
        known = part.rows & ~np.isnan(outcomes)
        n = int(known.sum())
        where = f"{part.column} = {part.level}"
        if n < minimum:
            estimate = Estimate.missing("insufficient", f"{n} rows; at least {minimum} are needed", n=n)
            text = f"{where}: not assessed, {n} rows where at least {minimum} are needed."
            results.append(SliceResult(part.column, part.level, n, metric, estimate, None, "not_assessed", text, None, False,
                                       part.kind, minimum))  # fmt: skip
            continue
        estimate = case.resamples.proportion(np.where(part.rows, outcomes, np.nan), missing=0).estimate(level)
        others = ~part.rows & ~np.isnan(outcomes)
        rest, p_value = None, None
        text = f"{where}: {of_what} for {_percent(estimate.value)} of {n:,} rows ({_interval(estimate)})"
        if others.any():
            rest = case.resamples.proportion(np.where(part.rows, np.nan, outcomes), missing=0).estimate(level)
            p_value = _fisher(outcomes[known], outcomes[others])
            tests.append((len(results), p_value))
            text += f"; elsewhere for {_percent(rest.value)} of {int(others.sum()):,} ({_interval(rest)})"
        results.append(SliceResult(part.column, part.level, n, metric, estimate, rest, "assessed", text + ".", p_value, False,
                                   part.kind))  # fmt: skip
    for (index, _), rejected in zip(tests, false_discovery([p for _, p in tests], 1 - level), strict=True):
        slice_ = results[index]
        worse = slice_.rest is not None and slice_.estimate.value < slice_.rest.value
        results[index] = replace(slice_, flagged=rejected and worse)
    return results

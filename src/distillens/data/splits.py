"""Training, validation and test rows: stratified, by group, by time, or as a column says. Deterministic in the seed.

`test` is the share of all rows; `validation` is the share of the rows that are not test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.kinds import read_cells, rows_text
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints
    from distillens.data.target import Target

NAMES = ("train", "validation", "test")
OPTIONS = ("test", "validation", "time", "test_from", "group", "column")
FEWEST_ROWS = 10
FEWEST_PER_CLASS = 4  # two to train on, one to choose with, one to test


@dataclass(frozen=True)
class SplitPlan:
    """How to split. test: share of all rows. validation: share of the rest. At most one of time, group, column."""

    test: float = 0.3
    validation: float = 0.3
    time: str | None = None
    test_from: Any = None
    group: str | None = None
    column: str | None = None

    @classmethod
    def read(cls, split: Mapping[str, Any] | None) -> SplitPlan:
        """From a recipe's mapping; an option that is None counts as not given. DataError for anything that does not fit."""
        given = {str(k): v for k, v in (split or {}).items() if v is not None}
        for name in given:
            if name not in OPTIONS:
                raise DataError(f"There is no split option {name!r}.{did_you_mean(name, OPTIONS)}")
        for name in ("test", "validation"):
            share = given.get(name, 0.3)
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
                raise DataError(f"The split's {name} is a share between 0 and 1 such as 0.3, not {share!r}.")
        kinds = [k for k in ("time", "group", "column") if k in given]
        if len(kinds) > 1:
            raise DataError(f"A split goes by one thing, but {' and '.join(kinds)} were given; keep one of them.")
        for kind in kinds:
            given[kind] = str(given[kind])
        if "test_from" in given and "time" not in given:
            raise DataError(
                "The split's test_from says from when on rows are test rows, so it needs time: COLUMN beside it."
            )
        return cls(**given)


def require_rows(n: int) -> None:
    """DataError when there are too few rows to split at all."""
    if n < FEWEST_ROWS:
        raise DataError(
            f"The data have {n} row{'s' if n > 1 else ''}; training, validation and test need at least {FEWEST_ROWS} together."
        )


def make_split(frame: pd.DataFrame, target: Target, plan: SplitPlan, *, seed: int = 0) -> dict[str, Ints]:
    """Positions of the training, validation and test rows, each in the order of the source; together all rows, none twice.

    Stratified by class, or by quantile of a regression target. Raises DataError when there are too few rows, groups or
    rows of a class, when the column of the plan is missing or unusable, and when training would lack a class.
    """
    n = len(target.labels)
    require_rows(n)
    rng = np.random.default_rng(seed)
    if plan.column is not None:
        part = _given(frame, target, plan, rng)
    elif plan.time is not None:
        part = _by_time(frame, plan)
    elif plan.group is not None:
        part = _by_group(group_ids(frame, plan.group), target, plan, rng)
    else:
        part = _stratified(target, plan, rng)
    rows = {name: np.flatnonzero(part == k).astype(np.int64) for k, name in enumerate(NAMES)}
    _check(rows, target)
    return rows


def split_by_part(part: Ints | None, target: Target, plan: SplitPlan, *, seed: int = 0) -> dict[str, Ints]:
    """The same without a frame, for rows whose source says what it is for: part is (n,) 0 training, 1 validation, 2 test; None: not said.

    Validation rows are drawn from the training rows where the source names none, everything where it names nothing.
    """
    require_rows(len(target.labels))
    rng = np.random.default_rng(seed)
    chosen = _stratified(target, plan, rng) if part is None else _with_validation(part.copy(), target, plan, rng)
    rows = {name: np.flatnonzero(chosen == k).astype(np.int64) for k, name in enumerate(NAMES)}
    _check(rows, target)
    return rows


def stratified_sample(labels: Ints, total: int, *, seed: int) -> Ints:
    """Positions of `total` rows, ascending, in proportion to the classes and at least one of each (total ≥ classes); all where there are no more."""
    if total >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    present, coded, counts = np.unique(labels, return_inverse=True, return_counts=True)
    share = _allocate(counts, total, low=1, keep=0)
    while share.sum() > total:  # classes that were lifted to one row: the largest gives
        share[int(np.argmax(share))] -= 1
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(coded == g))[: share[g]] for g in range(len(present))]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _check(rows: Mapping[str, Ints], target: Target) -> None:
    for name, index in rows.items():
        if not len(index):
            raise DataError(f"The split leaves no {name} rows; change its shares or its column.")
    if len(rows["train"]) < 2:
        raise DataError("The split leaves one training row; change its shares or its column.")
    trained = set(target.labels[rows["train"]].tolist())
    for k, c in enumerate(target.classes):
        if k not in trained:
            raise DataError(
                f"The split leaves no training row of the class {c!r}; change its shares or its column, or drop that class."
            )


def strata(target: Target) -> Ints:
    """(n,) class indices; for regression up to ten bins of equally many rows each, by the target's rank."""
    if target.classes:
        return np.asarray(target.labels, dtype=np.int64)
    n = len(target.labels)
    bins = max(1, min(10, n // 10))
    order = np.argsort(target.labels, kind="stable")
    bin_of = np.empty(n, dtype=np.int64)
    bin_of[order] = np.arange(n) * bins // n
    return bin_of


def _stratified(target: Target, plan: SplitPlan, rng: np.random.Generator) -> Ints:
    if target.classes:
        for c, count in target.counts.items():
            if count < FEWEST_PER_CLASS:
                rows = "row" if count == 1 else "rows"
                raise DataError(
                    f"The class {c!r} has {count} {rows}; training, validation and test need at least {FEWEST_PER_CLASS}. "
                    "Collect more, merge it with another class, or drop it."
                )
    groups = strata(target)
    counts = np.bincount(groups)
    n = len(groups)
    n_test = min(max(round(n * plan.test), 1), n - 3)
    # every class keeps two rows to train on and one to choose with; bins of a regression target need not
    keep = (3, 1, 1) if target.classes else (0, 0, 0)
    test = _allocate(counts, n_test, low=keep[1], keep=keep[0])
    rest = counts - test
    n_validation = min(max(round(int(rest.sum()) * plan.validation), 1), int(rest.sum()) - 2)
    validation = _allocate(rest, n_validation, low=keep[2], keep=2 if target.classes else 0)
    part = np.zeros(n, dtype=np.int64)
    for g in range(len(counts)):
        members = rng.permutation(np.flatnonzero(groups == g))
        part[members[: test[g]]] = 2
        part[members[test[g] : test[g] + validation[g]]] = 1
    return part


def _allocate(counts: Ints, total: int, *, low: int, keep: int) -> Ints:
    """`total` rows over strata in proportion to their size (largest remainders), each at least `low` and leaving `keep`."""
    exact = counts * total / counts.sum()
    share = np.floor(exact).astype(np.int64)
    for g in np.argsort(-(exact - share), kind="stable")[: total - int(share.sum())]:
        share[g] += 1
    return np.asarray(np.clip(share, low, np.maximum(counts - keep, low)), dtype=np.int64)


def group_ids(frame: pd.DataFrame, column: str) -> Ints:
    """(n,) cluster ids 0, 1, … in order of appearance. DataError when the column is not there or a row has no group."""
    cells = read_cells(_column(frame, column, "group"), column)
    if cells.missing.any():
        raise DataError(f"The group column {column!r} is empty in {rows_text(cells.missing)}; every row needs a group.")
    values = cells.texts if cells.texts is not None else np.asarray(cells.numbers)
    index: dict[Any, int] = {}
    return np.array([index.setdefault(v, len(index)) for v in values.tolist()], dtype=np.int64)


def _by_group(ids: Ints, target: Target, plan: SplitPlan, rng: np.random.Generator) -> Ints:
    """Whole groups, largest first, each to the split that then comes closest to its share of every class."""
    groups = int(ids.max()) + 1
    if groups < 3:
        raise DataError(
            f"A split by the group column {plan.group!r} needs at least 3 groups, but there {'is 1' if groups == 1 else 'are 2'}."
        )
    of = strata(target)
    table = np.zeros((groups, int(of.max()) + 1))
    np.add.at(table, (ids, of), 1)
    totals = table.sum(axis=0)
    shares = np.array([(1 - plan.test) * (1 - plan.validation), (1 - plan.test) * plan.validation, plan.test])
    wanted = shares[:, None] * totals
    have = np.zeros_like(wanted)
    order = rng.permutation(groups)
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    home = np.zeros(groups, dtype=np.int64)
    for position, g in enumerate(order):
        # the squared error changes by Σ (2 (have − wanted) + rows) · rows, scaled by the class's size
        cost = ((2 * (have - wanted) + table[g]) * table[g] / np.maximum(totals, 1)).sum(axis=1)
        empty = have.sum(axis=1) == 0
        if groups - position <= int(empty.sum()):
            cost = np.where(empty, cost, np.inf)
        best = int(np.argmin(cost))
        home[g] = best
        have[best] += table[g]
    return np.asarray(home[ids], dtype=np.int64)


def _by_time(frame: pd.DataFrame, plan: SplitPlan) -> Ints:
    """Test rows from `test_from` on (or the latest share), validation the latest share of the rest; equal times stay together."""
    assert plan.time is not None
    times = read_times(_column(frame, plan.time, "time"), plan.time)
    if plan.test_from is not None:
        is_test = times >= _moment(plan.test_from, frame, plan.time)
    else:
        is_test = times >= _latest(times, plan.test, plan.time)
    if is_test.all() or not is_test.any():
        when = "at or after" if is_test.all() else "before"
        raise DataError(
            f"Every row of the time column {plan.time!r} is {when} test_from {plan.test_from!s}; choose a value inside its range."
        )
    part = np.where(is_test, 2, 0).astype(np.int64)
    rest = times[~is_test]
    part[~is_test & (times >= _latest(rest, plan.validation, plan.time))] = 1
    return part


def _latest(times: Floats, share: float, column: str) -> float:
    """The time from which on about `share` of the rows lie, at a change of value so that equal times stay together."""
    values, counts = np.unique(times, return_counts=True)
    if len(values) < 2:
        raise DataError(
            f"The time column {column!r} has the same value in all the rows to be split; time cannot separate them."
        )
    from_here = counts[::-1].cumsum()[::-1] / counts.sum()
    return float(values[1:][np.argmin(np.abs(from_here[1:] - share))])


def read_times(series: pd.Series[Any], column: str) -> Floats:
    """(n,) times as numbers: numbers as they are, dates as seconds since 1970. DataError for what is neither, or missing."""
    cells = read_cells(series, column)
    if cells.missing.any():
        raise DataError(f"The time column {column!r} is empty in {rows_text(cells.missing)}; every row needs a time.")
    if cells.numbers is not None:
        return cells.numbers
    assert cells.texts is not None
    if cells.kind != "date":
        raise DataError(
            f"The time column {column!r} holds text such as {cells.texts[0][:40]!r}; write dates like 2025-07-31, or numbers."
        )
    return _seconds([str(t) for t in cells.texts], column)


_NUMERIC_DATE = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4}|\d{2})")


def _seconds(texts: list[str], column: str) -> Floats:
    import pandas as pd

    parts = [m for t in set(texts) if (m := _NUMERIC_DATE.fullmatch(t))]
    layout = "ISO8601"
    if parts:
        day_first, month_first = any(int(m[1]) > 12 for m in parts), any(int(m[2]) > 12 for m in parts)
        if day_first == month_first:
            raise DataError(
                f"Whether the dates of {column!r} (such as {texts[0]!r}) begin with the day or the month is not clear; write them like 2025-07-31."
            )
        texts = [re.sub(r"[./]", "-", t) for t in texts]
        year = "%Y" if len(parts[0][3]) == 4 else "%y"
        layout = f"%d-%m-{year}" if day_first else f"%m-%d-{year}"
    else:
        texts = [_padded(t.replace("/", "-")) for t in texts]
    try:
        if all("days" in t for t in texts):
            return np.asarray(pd.to_timedelta(pd.Series(texts)).dt.total_seconds(), dtype=np.float64)
        moments = pd.to_datetime(pd.Series(texts), format=layout, utc=True)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"The time column {column!r} holds dates that cannot be read ({error}); write them like 2025-07-31."
        ) from error
    epoch = pd.Timestamp(0, tz="UTC")
    return np.asarray((moments - epoch).dt.total_seconds(), dtype=np.float64)


def _padded(text: str) -> str:
    """`2025-7-1` as ISO 8601 writes it, `2025-07-01`."""
    return re.sub(r"(?<=-)(\d)(?=-|$|[T ])", r"0\1", text)


def _moment(value: Any, frame: pd.DataFrame, column: str) -> float:
    """`test_from` on the scale of the time column."""
    import pandas as pd

    numeric = read_cells(frame[column], column).numbers is not None
    number = (
        pd.to_numeric(pd.Series([value], dtype=object), errors="coerce").iloc[0]
        if not isinstance(value, bool)
        else np.nan
    )
    if numeric:
        if not np.isfinite(number):
            raise DataError(f"The time column {column!r} holds numbers, so test_from must be a number, not {value!r}.")
        return float(number)
    text = str(value).strip()
    text = f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text
    try:
        return float(_seconds([text], column)[0])
    except DataError:
        raise DataError(f"The split's test_from is {value!r}, which is not a date; write it like 2025-07-01.") from None


def _given(frame: pd.DataFrame, target: Target, plan: SplitPlan, rng: np.random.Generator) -> Ints:
    """As the column says; when it names no validation rows, the validation share of its training rows is drawn, stratified."""
    assert plan.column is not None
    cells = read_cells(_column(frame, plan.column, "split"), plan.column)
    texts = [None] * len(cells) if cells.texts is None else [t if t is None else t.lower() for t in cells.texts]
    wrong = np.array([t not in NAMES for t in texts], dtype=bool)
    if wrong.any():
        raise DataError(
            f"The split column {plan.column!r} must say train, validation or test in every row; {rows_text(wrong)} say something else."
        )
    return _with_validation(np.array([NAMES.index(str(t)) for t in texts], dtype=np.int64), target, plan, rng)


def _with_validation(part: Ints, target: Target, plan: SplitPlan, rng: np.random.Generator) -> Ints:
    """The same parts; without validation rows, the validation share of the training rows is drawn, stratified."""
    if not (part == 1).any():
        training = np.flatnonzero(part == 0)
        of = strata(target)[training]
        chosen = _allocate(np.bincount(of), max(1, round(len(training) * plan.validation)), low=0, keep=1)
        for g, size in enumerate(chosen):
            part[rng.permutation(training[of == g])[:size]] = 1
    return part


def _column(frame: pd.DataFrame, name: str, what: str) -> pd.Series[Any]:
    names = [str(c) for c in frame.columns]
    if name not in names:
        raise DataError(f"There is no {what} column {name!r}.{did_you_mean(name, names)}")
    return frame.iloc[:, names.index(name)]

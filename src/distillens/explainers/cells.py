"""Shapley values cell by cell: every explained row against every background row, each cell with coalitions of its own.

    v_ik(S) = score(model(S ? x_i : background_k)),   φ_i = mean over k of the Shapley values of v_ik

The Shapley value is linear in the game, so the mean over the background may be taken last. A coalition that is evaluated with
one background row costs one answer of the model instead of b; for the answers that m coalitions cost against all b background rows,
every background row gets m of its own, and the errors of b independent estimates average out. What a feature is worth on average
differs from background row to background row, too; that is no noise here, since each cell is solved by itself.

What a cell has that the mean game has not: its ends v(∅) = score(background_k) and v(N) = score(x_i) are known, so its attributions
add up exactly; units in which the two rows agree are worth exactly nothing and are left out, and when the coalitions of the others
fit the budget the cell is exact. Tables of categories are full of such cells.

The coalitions of a cell are those of a plan of as many units (pairs.py), its units renamed at random for every background row: two
models that are compared answer for the same masked rows, and so does a row whatever is explained beside it.

Masked rows are mixed as bit patterns, background ^ (mask & (row ^ background)), which is exact for every number and NaN; the
complement is the same ^ row ^ background. For a `SplitModel` the sums of the first layer are mixed instead of the rows: one product
of the masks and the differences of two rows' parts, the complement by a subtraction.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from distillens.errors import InputError
from distillens.explainers.masking import MEMORY_BYTES, Query, keep_freed_memory, rows_that_fit
from distillens.models.base import SplitModel, checked_outputs, evaluate, on_scale
from distillens.models.threads import one_blas_thread
from distillens.progress import task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.explainers.masking import Parts, Words
    from distillens.explainers.pairs import PairPlan
    from distillens.explainers.units import Units
    from distillens.models.base import Model, Scale

ROWS = 64  # at most so many explained rows share the masks of a background row
SOLVED = 2**17  # half differences that are solved together: a megabyte
TILE = 8  # masked rows that are mixed in one stretch


def cell_shapley(
    model: Model,
    inputs: Table,
    *,
    background: Table,
    units: Units,
    target: int | Ints,
    scale: Scale,
    plan: Callable[[int], PairPlan],
    seed: int,
    memory_bytes: int = MEMORY_BYTES,
    chunk_rows: int | None = None,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Attributions (n, units), their standard errors (n, units), and the (n,) mean scores of no unit and of all.

    target: class index, or (n,) one per row. scale: already resolved. plan: the pairs of coalitions for 2 … units units.
    memory_bytes, chunk_rows: as in `masking.masked_means`. The standard error is that of drawing coalitions, given the background.
    Raises InputError when the columns do not fit or there is no background, ModelError when the model's answers do not fit.
    """
    if background.columns != inputs.columns:
        raise InputError("The background rows should have the same columns as the rows to explain, in the same order.")
    if len(background) == 0:
        raise InputError("The background has no rows; give at least one.")
    keep_freed_memory()
    n, b = len(inputs), len(background)
    targets = np.array(np.broadcast_to(np.asarray(target, dtype=np.int64), (n,)))
    limit = chunk_rows or rows_that_fit(len(inputs.columns), memory_bytes)
    query = Query(model, lambda values: evaluate(model, inputs.with_values(values)), limit)
    theirs = query(background.values)
    low = {int(t): on_scale(theirs, output=model.output, target=int(t), scale=scale) for t in np.unique(targets)}
    empty = np.stack([low[int(t)] for t in targets])  # (n, b)
    grand = on_scale(query(inputs.values), output=model.output, target=targets, scale=scale)
    rng = np.random.default_rng([seed, b])
    renamed = rng.permuted(np.tile(np.arange(len(units)), (b, 1)), axis=1)
    phi, variance = np.zeros((n, len(units))), np.zeros((n, len(units)))
    plans = {len(units): plan(len(units))} if len(units) > 1 else {}
    pairs = max((len(p.masks) for p in plans.values()), default=1)
    together = max(1, min(ROWS, memory_bytes // (32 * pairs)))
    of_background = _first_layer(model, background)
    with task("masked forwards", total=n * b, unit="cells") as advance:
        for begin in range(0, n, together):
            block = np.arange(begin, min(n, begin + together))
            mixer = _mixer(model, inputs.take(block), background, of_background)
            asked = _Asked(mixer, model, targets[block], scale, limit)
            with one_blas_thread() if isinstance(mixer, _Sums) else contextlib.nullcontext():
                waiting: dict[int, list[_Cells]] = {}
                for k in range(b):
                    for members, order in _alike(inputs.values[block], background.values[k], units, renamed[k]):
                        if len(order) == 1:
                            phi[begin + members, order[0]] += grand[begin + members] - empty[begin + members, k]
                        if len(order) < 2:
                            continue
                        size = len(order)
                        if size not in plans:
                            plans[size] = plan(size)
                        place = np.zeros(len(units), dtype=np.int64)
                        place[order] = np.arange(size)
                        half = asked(plans[size].masks, place[units.of_column], members, k)
                        total = grand[begin + members] - empty[begin + members, k]
                        waiting.setdefault(size, []).append(_Cells(begin + members, order, half, total))
                    advance(len(block))
                    kept = sum(c.half.size for cells in waiting.values() for c in cells)
                    if k == b - 1 or kept >= SOLVED or 32 * kept > memory_bytes:
                        asked.finish()
                        for size, cells in waiting.items():
                            _solve(plans[size], cells, phi, variance)
                        waiting = {}
    return phi / b, np.sqrt(variance) / b, empty.mean(axis=1), grand


@dataclass(frozen=True, eq=False)
class _Cells:
    """Some rows' cells with one background row in which the same units are at work.

    rows: (c,). order: (u,) those units as the plan numbers them. half: (c, p) what was asked. total: (c,) v(N) − v(∅).
    """

    rows: Ints
    order: Ints
    half: Floats
    total: Floats


def _alike(x: Floats, other: Floats, units: Units, renamed: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Rows that differ from a background row in the same units, and those units in the background row's own order."""
    with np.errstate(invalid="ignore"):
        differs = (x != other) & ~(np.isnan(x) & np.isnan(other))
    if differs.all():
        yield np.arange(len(x)), renamed
        return
    at_work = np.zeros((len(x), len(units)), dtype=np.bool_)
    for column, unit in enumerate(units.of_column):
        at_work[:, unit] |= differs[:, column]
    patterns, which = np.unique(at_work, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        yield np.flatnonzero(which.reshape(-1) == index), renamed[pattern[renamed]]


def _solve(plan: PairPlan, cells: list[_Cells], phi: Floats, variance: Floats) -> None:
    """Add the attributions of cells with one plan, and their variances, to those of their rows."""
    part, error = plan.solve(np.concatenate([c.half for c in cells]), np.concatenate([c.total for c in cells]))
    at = 0
    for c in cells:
        where, these = np.ix_(c.rows, c.order), slice(at, at + len(c.rows))
        phi[where] += part[these]
        variance[where] += error[these]
        at = these.stop


class _Mixer(Protocol):
    """Makes what a model is asked about out of two rows and masks; `width` numbers of `dtype` for each masked row."""

    width: int
    dtype: type[Any]

    def kept(self, masks: Bools) -> NDArray[Any]:
        """(p, F) masks over columns, in the form in which they are mixed."""
        ...

    def write(self, kept: NDArray[Any], row: int, other: int, first: NDArray[Any], second: NDArray[Any]) -> None:
        """Write the masked rows (p, width) of a row and a background row, and those of the complements."""
        ...

    def ask(self, mixed: NDArray[Any]) -> Floats:
        """(m, K) checked outputs of m masked rows."""
        ...


class _Asked:
    """Collects masked rows until there are enough for a call of the model, and hands the answers back to their cells."""

    def __init__(self, mixer: _Mixer, model: Model, targets: Ints, scale: Scale, limit: int) -> None:
        self.mixer, self.model, self.targets, self.scale = mixer, model, targets, scale
        self.query = Query(model, mixer.ask, limit)
        self.room = max(2, limit)
        self.mixed = np.empty((self.room, mixer.width), dtype=mixer.dtype)
        self.used = 0
        self.jobs: list[tuple[int, Floats]] = []  # row of the block, where its half differences go

    def __call__(self, masks: Bools, place: Ints, rows: Ints, other: int) -> Floats:
        """(rows, p) half differences of the cells of some rows with a background row, filled in by the time of `finish`.

        masks: (p, units of the plan). place: (F,) which of these units a column belongs to.
        """
        half = np.empty((len(rows), len(masks)))
        for at in range(0, len(masks), self.room):
            part = masks[at : at + self.room].take(place, axis=1)  # in C order, unlike masks[:, place]
            kept = self.mixer.kept(part)
            for i, row in enumerate(rows):
                done = 0
                while done < len(kept):
                    p = min(len(kept) - done, (self.room - self.used) // 2)
                    if p == 0:
                        self.finish()
                        continue
                    first, second = (self.mixed[a : a + p] for a in (self.used, self.used + p))
                    self.mixer.write(kept[done : done + p], int(row), other, first, second)
                    del first, second  # `finish` counts who holds on to the memory
                    self.jobs.append((int(row), half[i, at + done : at + done + p]))
                    self.used += 2 * p
                    done += p
        return half

    def finish(self) -> None:
        """Ask the model about what has been collected."""
        if not self.jobs:
            return
        outputs = self.query(self.mixed[: self.used])
        targets = self.targets[[row for row, _ in self.jobs]]
        target = (
            int(targets[0]) if (targets == targets[0]).all() else np.repeat(targets, [2 * len(h) for _, h in self.jobs])
        )
        score = on_scale(outputs, output=self.model.output, target=target, scale=self.scale)
        at = 0
        for _, half in self.jobs:
            p = len(half)
            np.subtract(score[at : at + p], score[at + p : at + 2 * p], out=half)
            half /= 2
            at += 2 * p
        self.jobs, self.used = [], 0
        if (
            sys.getrefcount(self.mixed) > 2
        ):  # the model holds on to what it was given; one is the attribute, one the argument
            self.mixed = np.empty_like(self.mixed)


class _Rows:
    """Masked rows as bit patterns."""

    dtype: type[Any] = np.uint64

    def __init__(self, model: Model, inputs: Table, background: Table) -> None:
        self.model, self.inputs = model, inputs
        self.width = len(inputs.columns)
        self.own, self.theirs = (np.tile(t.values, TILE).view(np.uint64) for t in (inputs, background))

    def kept(self, masks: Bools) -> Words:
        return (-masks.astype(np.int64)).view(np.uint64)  # all ones: the row keeps its own value

    def write(self, kept: Words, row: int, other: int, first: Words, second: Words) -> None:
        apart = self.own[row] ^ self.theirs[other]
        _with_row(np.bitwise_and, kept, apart, out=first)
        _with_row(np.bitwise_xor, first, self.theirs[other], out=first)
        _with_row(np.bitwise_xor, first, apart, out=second)

    def ask(self, mixed: Words) -> Floats:
        return evaluate(self.model, self.inputs.with_values(mixed.view(np.float64)))


class _Sums:
    """Sums of a first layer."""

    dtype: type[Any] = np.float32

    def __init__(self, model: SplitModel, own: Parts, theirs: Parts, bias: Parts) -> None:
        self.model, self.own, self.theirs = model, own, theirs
        self.base = (theirs.sum(axis=1) + bias)[:, None]  # (b, 1, H)
        self.both = np.tile(own.sum(axis=1) + bias, TILE), np.tile(self.base[:, 0], TILE)
        self.width = own.shape[2]

    def kept(self, masks: Bools) -> Parts:
        kept = np.ones(
            (len(masks), masks.shape[1] + 1), dtype=np.float32
        )  # the last column stands for the background's own sums
        kept[:, :-1] = masks
        return kept

    def write(self, kept: Parts, row: int, other: int, first: Parts, second: Parts) -> None:
        np.matmul(kept, np.concatenate([self.own[row] - self.theirs[other], self.base[other]]), out=first)
        _with_row(_from, first, self.both[0][row] + self.both[1][other], out=second)

    def ask(self, mixed: Parts) -> Floats:
        return checked_outputs(self.model, self.model.from_hidden(mixed), len(mixed))


def _with_row(work: Callable[..., Any], array: NDArray[Any], tiled: NDArray[Any], *, out: NDArray[Any]) -> None:
    """`work` on a contiguous (p, w) array and a row, which comes `TILE` times over: numpy is slow where the last axis is short."""
    p, width = array.shape
    whole = p - p % TILE
    work(array[:whole].reshape(-1, width * TILE), tiled, out=out[:whole].reshape(-1, width * TILE))
    work(array[whole:], tiled[:width], out=out[whole:])


def _from(array: NDArray[Any], row: NDArray[Any], *, out: NDArray[Any]) -> None:
    np.subtract(row, array, out=out)


def _first_layer(model: Model, table: Table) -> tuple[Parts, Parts] | None:
    """Parts and bias of a first layer that is a sum; None when there is none, or a part is infinite (∞ − ∞ would be NaN)."""
    parts = model.first_layer(table) if isinstance(model, SplitModel) else None
    return parts if parts is not None and np.isfinite(parts[0]).all() else None


def _mixer(model: Model, inputs: Table, background: Table, of_background: tuple[Parts, Parts] | None) -> _Mixer:
    own = _first_layer(model, inputs) if of_background is not None else None
    if of_background is None or own is None or not isinstance(model, SplitModel):
        return _Rows(model, inputs, background)
    return _Sums(model, own[0], *of_background)

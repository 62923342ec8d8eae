"""A certificate: for which rows do student and teacher decide the same way *everywhere* around them, not only on that row?

Trees, boosted trees, rule lists, scorecards and additive models are constant on boxes (models/piecewise.py). Two such models cut the rows' range into a
common grid; where its cells are few, every one is asked (`exact`). Where they are not, boxes are bounded by interval arithmetic: the smallest and
largest sum of leaves that a box can reach. A box on which both models can decide in one way only is certified; any other is split at a question on
which a model parts, the boxes with most rows first, until the budget is used up (`bound`). What then is not certified is *undecided*, and counted as such.

Statements are about points whose every coordinate lies in the range, and among the categories, that the rows have. Bounds are widened by
what rounding can do to the models' own sums. Before anything is said, each model is held against its own pieces on the rows; if they differ,
or a model cannot be taken apart, the certificate is `not_available` and says why.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distillens.data.base import Table
from distillens.models.base import as_probabilities, evaluate, log_odds
from distillens.models.pieces import cut_of
from distillens.models.piecewise import Box, Grid, NotPiecewiseError, Pieces

if TYPE_CHECKING:
    from distillens.data.base import Floats, Inputs, Ints
    from distillens.models.base import Decision, Model
    from distillens.store import JSON

MOST_CELLS = 50_000  # cells that are all asked
MOST_BOXES = 3_000
OPERATIONS = 3e8  # leaf questions that a budget left to itself may cost: a few seconds
CHECKED = 200  # rows on which a model is held against its pieces
SHOWN = 3  # regions of certified disagreement that are put into words

Outcome = Literal["agree", "disagree", "undecided"]
OUTCOMES: tuple[Outcome, ...] = ("agree", "disagree", "undecided")


@dataclass(frozen=True)
class _Question:
    """What "agree" means. decision: for two classes; tolerance: largest difference of values."""

    decision: Decision | None
    tolerance: float

    def sides(self, low: float, high: float, pieces: Pieces) -> set[bool]:
        """The decisions (adverse or not) that a model whose score lies between low and high can come to."""
        assert self.decision is not None
        t = self.decision.threshold
        if pieces.scale == "probability":
            return {low >= t, high >= t}
        limit, slack = math.log(t / (1 - t)), 1e-12 / (t * (1 - t))  # what rounding does to a probability near t
        return ({False} if low < limit + slack else set()) | ({True} if high >= limit - slack else set())

    def outcome(
        self, teacher: tuple[float, float], student: tuple[float, float], pieces: tuple[Pieces, Pieces]
    ) -> Outcome:
        if self.decision is not None:
            a, b = self.sides(*teacher, pieces[0]), self.sides(*student, pieces[1])
            if len(a) > 1 or len(b) > 1:
                return "undecided"
            return "agree" if a == b else "disagree"
        low, high = teacher[0] - student[1], teacher[1] - student[0]
        slack = 1e-12 * (1 + abs(self.tolerance))
        if high <= self.tolerance - slack and low >= -self.tolerance + slack:
            return "agree"
        return "disagree" if low > self.tolerance + slack or high < -self.tolerance - slack else "undecided"


def certificate(
    teacher: Model,
    student: Model,
    inputs: Inputs,
    *,
    decision: Decision | None = None,
    tolerance: float = 0.0,
    weights: Floats | None = None,
    budget: int | None = None,
    cells: int = MOST_CELLS,
) -> JSON:
    """The record described in docs/run-directory.md, for n rows.

    decision: of two classes; None for regression, where agreement is a difference of at most `tolerance`. weights: of the rows. budget: boxes looked
    at, at most; None: as many as cost a few seconds. cells: grids of at most so many are asked cell by cell.
    """
    question = _Question(decision if teacher.classes else None, tolerance)
    about = "decision" if question.decision is not None else "tolerance"
    adverse = 0 if question.decision is None else question.decision.adverse
    try:
        if not hasattr(inputs, "columns"):  # whatever the annotation says, audits of images come here, too
            raise NotPiecewiseError("it is about tables, and the rows are none")
        if not len(inputs):
            raise NotPiecewiseError("there are no rows")
        if not isinstance(inputs, Table):
            raise NotPiecewiseError("the rows are images, and certificates are for tables")
        if tuple(teacher.classes) != tuple(student.classes):
            raise NotPiecewiseError("the models have other classes")
        cuts = [cut_of(model, inputs.columns, adverse) for model in (teacher, student)]
        grid = Grid.of(inputs.columns, [cut.cuts for cut in cuts])
        bins = grid.bins(inputs.values)
        space = _Space(grid, bins, np.ones(len(inputs)) if weights is None else np.asarray(weights, dtype=np.float64))
        pieces = cuts[0].on(grid), cuts[1].on(grid)
        for model, own in zip((teacher, student), pieces, strict=True):
            _check(model, own, grid, bins, inputs, adverse)
        if space.cells <= cells:
            found = _exact(teacher, student, space, inputs, question)
        else:
            allowed = _budget(pieces) if budget is None else budget
            found = _bound(pieces, space, question, allowed)
    except NotPiecewiseError as reason:
        why = f"No certificate: {reason}."
        return {
            "kind": "not_available", "why": why, "text": why, "about": about, "over": "rows", "n": len(inputs),
            **dict.fromkeys((*OUTCOMES, "cells", "budget", "used", "disagreements")),
        }  # fmt: skip
    return {"why": None, "text": _sentence(found, about), "about": about, "over": "rows", "n": len(inputs)} | found


class _Space:
    """The rows on the grid, and how much of them and of the product of the columns' frequencies a box holds."""

    def __init__(self, grid: Grid, bins: Ints, weights: Floats) -> None:
        self.grid, self.bins = grid, bins
        self.weights = weights / weights.sum()
        self.whole = grid.whole(bins)
        self.marginal = [
            np.bincount(bins[:, j], weights=self.weights, minlength=grid.count(j)) for j in range(bins.shape[1])
        ]
        self.cells = math.prod(int((m > 0).sum()) for m in self.marginal)

    def mass(self, box: Box, j: int) -> float:
        return float(self.marginal[j][self.grid.mask(box, j)].sum())


def _check(model: Model, pieces: Pieces, grid: Grid, bins: Ints, inputs: Table, adverse: int) -> None:
    """NotPiecewiseError when the pieces do not give back the model's own answers."""
    rows = np.unique(np.linspace(0, len(bins) - 1, min(CHECKED, len(bins))).astype(np.int64))
    answers = evaluate(model, inputs.take(rows))
    if pieces.scale == "log_odds":
        own = log_odds(answers, output=model.output, target=adverse)
    else:
        own = answers[:, adverse] if model.classes else answers[:, 0]
    for place, row in enumerate(rows):
        low, high, _ = pieces.over(grid.whole(bins[row : row + 1]))
        slack = 1e-9 * (1 + abs(own[place]))
        if not (low - slack <= own[place] <= high + slack) or high - low > 1e-3 * (1 + abs(own[place])):
            raise NotPiecewiseError(f"the structure of {model.label} does not give back its own answers")


# ── every cell ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _exact(teacher: Model, student: Model, space: _Space, inputs: Table, question: _Question) -> JSON:
    """Ask both models about one point of every cell; inside a cell they cannot differ from it."""
    grid = space.grid
    taken = [np.flatnonzero(m > 0) for m in space.marginal]
    shape = tuple(len(t) for t in taken)
    index = np.indices(shape).reshape(len(shape), -1).T
    values = np.column_stack([grid.representatives(j)[taken[j]][index[:, j]] for j in range(len(shape))])
    mass = np.prod([space.marginal[j][taken[j]][index[:, j]] for j in range(len(shape))], axis=0)
    same = _agreement(teacher, student, inputs.with_values(values), question)
    place = [np.searchsorted(taken[j], space.bins[:, j]) for j in range(len(shape))]
    cell = np.ravel_multi_index(place, shape)
    if (same[cell] != _agreement(teacher, student, inputs, question)).any():
        raise NotPiecewiseError("a model changes its answer inside a cell")
    agree, over = float(space.weights[same[cell]].sum()), float(mass[same].sum())
    held = np.bincount(cell, weights=space.weights, minlength=len(same))
    worst = [i for i in np.lexsort((-mass, -held)) if not same[i]][:SHOWN]
    rows = np.bincount(cell, minlength=len(same))
    return {
        "kind": "exact", **_shares(agree, 1 - agree, 0.0), "cells": {"count": float(space.cells), **_shares(over, 1 - over, 0.0)},
        "budget": len(same), "used": len(same),
        "disagreements": [
            {"rows": int(rows[i]), "share": float(mass[i]), "where": grid.words(grid.whole(_bins_of(taken, index[i])), space.whole)}
            for i in worst
        ],
    }  # fmt: skip


def _bins_of(taken: Sequence[Ints], index: Ints) -> Ints:
    return np.array([[taken[j][i] for j, i in enumerate(index)]], dtype=np.int64)


def _agreement(teacher: Model, student: Model, rows: Table, question: _Question) -> Any:
    """(n,) whether the models agree on rows."""
    a, b = evaluate(teacher, rows), evaluate(student, rows)
    if question.decision is None:
        return np.abs(a[:, 0] - b[:, 0]) <= question.tolerance
    decide = question.decision
    return decide(as_probabilities(a, teacher.output)) == decide(as_probabilities(b, student.output))


# ── branch and bound ────────────────────────────────────────────────────────────────────────────────────────────────────
def _budget(pieces: tuple[Pieces, Pieces]) -> int:
    cost = sum(getattr(p, "lo", np.empty(100)).size + 1_000 for p in pieces)
    return int(min(MOST_BOXES, max(200, OPERATIONS // cost)))


@dataclass(order=True)
class _Open:
    """A box that is not certified yet; the heaviest comes first."""

    key: float
    number: int
    box: Box = field(compare=False)
    rows: Ints = field(compare=False)
    mass: float = field(compare=False)
    live: tuple[Any, Any] = field(compare=False)


@dataclass(frozen=True, eq=False)
class Region:
    """A box with what is known about it. rows: positions of the rows it holds. mass: its weight by the columns' own frequencies."""

    outcome: Outcome
    box: Box
    rows: Ints
    mass: float


def regions(pieces: tuple[Pieces, Pieces], space: _Space, question: _Question, budget: int) -> tuple[list[Region], int]:
    """Disjoint boxes that hold all rows and all mass, and how many boxes were looked at: bound, certify or split, the heaviest first."""
    found: list[Region] = []
    number = itertools.count()
    queue = [_Open(-1.0, next(number), space.whole, np.arange(len(space.bins)), 1.0, (None, None))]
    used = 0
    while queue and used < budget:
        here = heapq.heappop(queue)
        used += 1
        t_low, t_high, t_live = pieces[0].over(here.box, here.live[0])
        s_low, s_high, s_live = pieces[1].over(here.box, here.live[1])
        outcome = question.outcome((t_low, t_high), (s_low, s_high), pieces)
        halves = None
        if outcome == "undecided":
            halves = _divided(pieces, question, here.box, ((t_low, t_high, t_live), (s_low, s_high, s_live)))
        if halves is None:
            found.append(Region(outcome, here.box, here.rows, here.mass))
            continue
        j, left, right = halves
        total = space.mass(here.box, j)
        goes_left = space.grid.mask(left, j)[space.bins[here.rows, j]]
        for box, rows in ((left, here.rows[goes_left]), (right, here.rows[~goes_left])):
            mass = here.mass * space.mass(box, j) / total if total > 0 else 0.0
            if mass > 0 or len(rows):  # a part that holds none of the columns' values is nobody's
                key = -max(float(space.weights[rows].sum()), mass)
                heapq.heappush(queue, _Open(key, next(number), box, rows, mass, (t_live, s_live)))
    return found + [Region("undecided", rest.box, rest.rows, rest.mass) for rest in queue], used


def _bound(pieces: tuple[Pieces, Pieces], space: _Space, question: _Question, budget: int) -> JSON:
    found, used = regions(pieces, space, question, budget)
    row_share, mass_share = dict.fromkeys(OUTCOMES, 0.0), dict.fromkeys(OUTCOMES, 0.0)
    for region in found:
        row_share[region.outcome] += float(space.weights[region.rows].sum())
        mass_share[region.outcome] += region.mass
    worst = [region for region in found if region.outcome == "disagree"]
    worst.sort(key=lambda region: (-float(space.weights[region.rows].sum()), -region.mass))
    return {
        "kind": "bound", **_shares(*(row_share[o] for o in OUTCOMES)),
        "cells": {"count": float(space.cells), **_shares(*(mass_share[o] for o in OUTCOMES))}, "budget": budget, "used": used,
        "disagreements": [
            {"rows": len(region.rows), "share": region.mass, "where": space.grid.words(region.box, space.whole)} for region in worst[:SHOWN]
        ],
    }  # fmt: skip


def _divided(
    pieces: tuple[Pieces, Pieces],
    question: _Question,
    box: Box,
    bounds: tuple[tuple[float, float, Any], tuple[float, float, Any]],
) -> tuple[int, Box, Box] | None:
    """The box in two, at a question of the model that is open: the student's first, which has fewer; None when neither can be split."""
    (t_low, t_high, _), (s_low, s_high, _) = bounds
    if question.decision is None:
        teacher_first = t_high - t_low > s_high - s_low
    else:
        teacher_first = len(question.sides(s_low, s_high, pieces[1])) == 1
    for which in (0, 1) if teacher_first else (1, 0):
        halves = pieces[which].divide(box, bounds[which][2])
        if halves is not None:
            left, right = halves
            changed = (left.lo != box.lo) | (left.hi != box.hi) | (left.bits != box.bits)
            return int(np.flatnonzero(changed)[0]), left, right
    return None


def _shares(agree: float, disagree: float, undecided: float) -> dict[str, float]:
    """Shares as they are stored: sums of many small numbers can leave [0, 1] by a hair."""
    return {name: min(1.0, max(0.0, value)) for name, value in zip(OUTCOMES, (agree, disagree, undecided), strict=True)}


def _sentence(found: JSON, about: str) -> str:
    same = "the same decision" if about == "decision" else "values within the tolerance"
    cells = found["cells"]
    if found["kind"] == "exact":
        return (
            f"Every cell was asked: {same} throughout the cells of {found['agree']:.1%} of the rows, and in {cells['agree']:.1%} of all {cells['count']:,.0f} "
            "cells, weighted by the columns' own frequencies."
        )
    return (
        f"Certified for whole regions: {same} around {found['agree']:.1%} of the rows, not around {found['disagree']:.1%}, undecided around "
        f"{found['undecided']:.1%} after {found['used']:,} boxes; of all {cells['count']:.3g} cells, weighted by the columns' own frequencies, "
        f"{cells['agree']:.1%}, {cells['disagree']:.1%} and {cells['undecided']:.1%}."
    )

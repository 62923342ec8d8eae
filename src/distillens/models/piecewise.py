"""Models that are constant on boxes: trees and sums of trees, rule lists, sums of shape functions. For statements about *every* point of a region.

Every raw feature is cut into bins such that no model changes its answer inside a bin. Numbers and booleans: bins between ascending cuts, bin
i holding cuts[i−1] < x ≤ cuts[i], and one more for missing. Categories: one bin each, one for missing, one for unseen. Cuts are float64
numbers, also those of models that round to float32 first: `float32_cut` finds the last float64 on the left side of such a cut.

A box takes some bins of every feature: an interval lo … hi of the bins between cuts, and a set of the others as bits. `Pieces.over(box)` gives lower
and upper bounds of the model's score that hold at every point of the box, rounding of the model's own sum included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import UNSEEN, Column
from distillens.errors import ModelError

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints

MOST_CATEGORIES = 62  # with missing and unseen they fit 64 bits

Score = Literal["log_odds", "probability", "value"]


class NotPiecewiseError(ModelError):
    """Why a model has no boxes, in one sentence."""


@dataclass(frozen=True, eq=False)
class Box:
    """lo, hi: (F,) first and last bin between cuts, empty where lo > hi. bits: (F,) uint64, the bins beyond: missing (bit 0) of a number, every
    bin of a category."""

    lo: Ints
    hi: Ints
    bits: NDArray[np.uint64]

    def with_feature(self, j: int, *, lo: int, hi: int, bits: int) -> Box:
        new = Box(self.lo.copy(), self.hi.copy(), self.bits.copy())
        new.lo[j], new.hi[j], new.bits[j] = lo, hi, bits
        return new

    def split(self, j: int, *, last: int | None = None, bits: int = 0) -> tuple[Box, Box]:
        """Two boxes that are this one together. Left: bins up to `last` (None: none of the interval) and those of `bits`."""
        lo, hi, own = int(self.lo[j]), int(self.hi[j]), int(self.bits[j])
        if last is None:
            last = lo - 1
        return (
            self.with_feature(j, lo=lo, hi=min(hi, last), bits=own & bits),
            self.with_feature(j, lo=max(lo, last + 1), hi=hi, bits=own & ~bits),
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """columns: F raw features. cuts: ascending per feature; empty for categories."""

    columns: tuple[Column, ...]
    cuts: tuple[Floats, ...]

    @classmethod
    def of(cls, columns: tuple[Column, ...], cuts: Sequence[Sequence[Floats]]) -> Grid:
        """The common grid of models, from each one's cuts per feature. NotPiecewiseError for too many categories."""
        merged = []
        for j, column in enumerate(columns):
            if column.kind == "categorical" and len(column.categories) > MOST_CATEGORIES:
                raise NotPiecewiseError(
                    f"the column {column.name!r} has {len(column.categories)} categories; {MOST_CATEGORIES} are the most"
                )
            every = np.concatenate([np.asarray(c[j], dtype=np.float64) for c in cuts])
            merged.append(np.unique(every[np.isfinite(every)]))
        return cls(columns, tuple(merged))

    def count(self, j: int) -> int:
        """Bins of a feature, missing and unseen included."""
        column = self.columns[j]
        return len(column.categories) + 2 if column.kind == "categorical" else len(self.cuts[j]) + 2

    def bins(self, values: Floats) -> Ints:
        """(n, F) the bin of every raw code."""
        out = np.empty(values.shape, dtype=np.int64)
        for j, column in enumerate(self.columns):
            x = values[:, j]
            missing = np.isnan(x)
            if column.kind == "categorical":
                size = len(column.categories)
                code = np.where(missing, 0, x).astype(np.int64)
                known = (code >= 0) & (code < size)
                out[:, j] = np.where(missing, size, np.where(known, code, size + 1))
            else:
                if column.kind == "boolean":
                    missing = missing | (x < 0)
                out[:, j] = np.where(missing, len(self.cuts[j]) + 1, np.searchsorted(self.cuts[j], x, side="left"))
        return out

    def representatives(self, j: int) -> Floats:
        """(bins,) one raw code in every bin of a feature."""
        column = self.columns[j]
        if column.kind == "categorical":
            return np.array([*range(len(column.categories)), np.nan, UNSEEN], dtype=np.float64)
        cuts = self.cuts[j]
        last = cuts[-1] + max(1.0, abs(cuts[-1])) if len(cuts) else 0.0
        return np.array([*cuts, last, np.nan])

    def probes(self, j: int) -> Floats:
        """(bins, F) rows of raw codes that run through the bins of feature j; the other features are missing."""
        rows = np.full((self.count(j), len(self.columns)), np.nan)
        rows[:, j] = self.representatives(j)
        return rows

    def sides(self, j: int, mask: Bools) -> tuple[int, int, int]:
        """A set of bins of one feature as (lo, hi, bits). NotPiecewiseError when its bins between cuts are no interval."""
        if self.columns[j].kind == "categorical":
            return 1, 0, sum(1 << int(b) for b in np.flatnonzero(mask))
        inner = np.flatnonzero(mask[:-1])
        missing = int(mask[-1])
        if not len(inner):
            return 1, 0, missing
        lo, hi = int(inner[0]), int(inner[-1])
        if hi - lo + 1 != len(inner):
            raise NotPiecewiseError(f"its questions about {self.columns[j].name!r} are not in the order of its numbers")
        return lo, hi, missing

    def whole(self, bins: Ints) -> Box:
        """The smallest box that holds (n, F) bins."""
        f = len(self.columns)
        lo, hi, bits = np.ones(f, dtype=np.int64), np.zeros(f, dtype=np.int64), np.zeros(f, dtype=np.uint64)
        for j in range(f):
            seen = np.zeros(self.count(j), dtype=np.bool_)
            seen[np.unique(bins[:, j])] = True
            if self.columns[j].kind != "categorical" and seen[:-1].any():
                inner = np.flatnonzero(seen[:-1])
                seen[inner[0] : inner[-1] + 1] = True
            lo[j], hi[j], bits[j] = self.sides(j, seen)
        return Box(lo, hi, bits)

    def mask(self, box: Box, j: int) -> Bools:
        """(bins,) which bins of a feature a box takes."""
        out = np.zeros(self.count(j), dtype=np.bool_)
        if self.columns[j].kind == "categorical":
            out[:] = (int(box.bits[j]) >> np.arange(len(out))) & 1
        else:
            out[max(0, int(box.lo[j])) : int(box.hi[j]) + 1] = True
            out[-1] = bool(int(box.bits[j]) & 1)
        return out

    def inside(self, box: Box, bins: Ints) -> Bools:
        """(n,) which rows, by their (n, F) bins, lie in a box."""
        held = np.ones(len(bins), dtype=np.bool_)
        for j in range(len(self.columns)):
            held &= self.mask(box, j)[bins[:, j]]
        return held

    def words(self, box: Box, whole: Box) -> list[str]:
        """What the box asks beyond the whole, in the user's names."""
        said = []
        for j, column in enumerate(self.columns):
            mask, every = self.mask(box, j), self.mask(whole, j)
            if (mask == every).all():
                continue
            if column.kind == "categorical":
                names = [*column.categories, "missing", "unseen"]
                said.append(f"{column.name} in {', '.join(names[b] for b in np.flatnonzero(mask))}")
                continue
            parts = []
            if box.lo[j] <= box.hi[j]:
                low, high = "", ""
                if box.lo[j] > whole.lo[j]:
                    text, below = edge(float(self.cuts[j][box.lo[j] - 1]))
                    low = f"{text} {'<' if below else '≤'} "
                if box.hi[j] < whole.hi[j]:
                    text, below = edge(float(self.cuts[j][box.hi[j]]))
                    high = f" {'≤' if below else '<'} {text}"
                parts.append(f"{low}{column.name}{high}" if low or high else f"{column.name} known")
            if mask[-1]:
                parts.append(f"{column.name} missing")
            said.append(" or ".join(parts))
        return said


class Pieces(Protocol):
    """A model on a grid. scale: of its scores, for the adverse class or the value."""

    @property
    def scale(self) -> Score: ...

    def over(self, box: Box, live: Any = None) -> tuple[float, float, Any]:
        """Bounds of the score over a box, and what the same question about a smaller box can start from (`live`)."""
        ...

    def divide(self, box: Box, live: Any) -> tuple[Box, Box] | None:
        """Two boxes that are this one together, between which the model differs; None when it is constant on the box."""
        ...


def edge(cut: float) -> tuple[str, bool]:
    """A cut in as few digits as models that read float32 tell apart, and whether the number as written is still on the lower side.

    XGBoost parts at values that rows have, and sends these upwards: its 0.107 is a cut just below 0.107, which is not to be read as ≤ 0.107.
    """
    text = next(t for t in (f"{cut:.{digits}g}" for digits in range(6, 18)) if abs(float(t) - cut) <= 1e-7 * abs(cut))
    return text, float(text) <= cut


def float32_cut(thresholds: Floats, *, strict: bool = False) -> Floats:
    """(n,) the last float64 x for which float32(x) ≤ threshold (strict: <), rounding half to even as hardware does."""
    t = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):
        below = t.astype(np.float32)
    too_high = below.astype(np.float64) > t if not strict else below.astype(np.float64) >= t
    below = np.where(too_high, np.nextafter(below, np.float32(-np.inf)), below).astype(np.float32)
    middle = (below.astype(np.float64) + np.nextafter(below, np.float32(np.inf)).astype(np.float64)) / 2
    with np.errstate(over="ignore"):
        stays = middle.astype(np.float32) <= below
    return np.where(stays, middle, np.nextafter(middle, -np.inf))


@dataclass(frozen=True, eq=False)
class TreeSum:
    """base + the sum of one leaf of each tree.

    tree: (L,) which tree each leaf belongs to, ascending. value: (L,). lo, hi, bits: (L, U) each leaf's box on the features `used`.
    rounding: what the model's own sum may differ from the exact one.
    """

    scale: Score
    base: float
    tree: Ints
    value: Floats
    used: Ints
    lo: Ints
    hi: Ints
    bits: NDArray[np.uint64]
    rounding: float = 0.0

    def over(self, box: Box, live: Any = None) -> tuple[float, float, Any]:
        lo, hi, bits = box.lo[self.used], box.hi[self.used], box.bits[self.used]
        among = np.arange(len(self.tree)) if live is None else live
        met = (np.maximum(self.lo[among], lo) <= np.minimum(self.hi[among], hi)) | ((self.bits[among] & bits) != 0)
        live = among[met.all(axis=1)]
        starts = np.flatnonzero(np.diff(self.tree[live], prepend=-1))
        low = np.minimum.reduceat(self.value[live], starts).sum()
        high = np.maximum.reduceat(self.value[live], starts).sum()
        return self.base + float(low) - self.rounding, self.base + float(high) + self.rounding, live

    def divide(self, box: Box, live: Any) -> tuple[Box, Box] | None:
        starts = np.flatnonzero(np.diff(self.tree[live], prepend=-1))
        value = self.value[live]
        gap = np.maximum.reduceat(value, starts) - np.minimum.reduceat(value, starts)
        widest = int(gap.argmax())
        if gap[widest] <= 0:
            return None
        end = starts[widest + 1] if widest + 1 < len(starts) else len(live)
        own = live[starts[widest] : end]
        a, b = int(own[self.value[own].argmin()]), int(own[self.value[own].argmax()])
        # Two leaves of one tree part at some question, so there is a feature on which their boxes do not meet.
        for place, j in enumerate(self.used):
            low, high, m = int(box.lo[j]), int(box.hi[j]), int(box.bits[j])
            one = max(low, int(self.lo[a, place])), min(high, int(self.hi[a, place])), m & int(self.bits[a, place])
            other = max(low, int(self.lo[b, place])), min(high, int(self.hi[b, place])), m & int(self.bits[b, place])
            apart = max(one[0], other[0]) > min(one[1], other[1]) and not one[2] & other[2]
            if not apart:
                continue
            if one[0] <= one[1] and other[0] <= other[1]:
                left = one if one[1] < other[0] else other
                return box.split(int(j), last=left[1], bits=left[2])
            bits = one[2] if one[0] > one[1] else other[2]
            return box.split(int(j), bits=bits)
        return None


@dataclass(frozen=True, eq=False)
class OrderedBoxes:
    """A rule list: the first box that holds a point answers; the last value is for points in none.

    value: (R + 1,). lo, hi, bits: (R, F).
    """

    scale: Score
    value: Floats
    lo: Ints
    hi: Ints
    bits: NDArray[np.uint64]

    def _meets(self, box: Box) -> tuple[Bools, Bools]:
        """(R, F) whether a rule's bins and the box's meet, and whether the rule takes all of the box's."""
        interval = np.maximum(self.lo, box.lo) <= np.minimum(self.hi, box.hi)
        met = interval | ((self.bits & box.bits) != 0)
        empty = box.lo > box.hi
        holds = (empty | ((self.lo <= box.lo) & (self.hi >= box.hi))) & ((box.bits & ~self.bits) == 0)
        return met, holds

    def _possible(self, box: Box) -> Ints:
        met, holds = self._meets(box)
        certain = np.flatnonzero(holds.all(axis=1))
        last = int(certain[0]) if len(certain) else len(self.value) - 1
        return np.append(np.flatnonzero(met[:last].all(axis=1)), last)

    def over(self, box: Box, live: Any = None) -> tuple[float, float, Any]:
        del live
        value = self.value[self._possible(box)]
        return float(value.min()), float(value.max()), None

    def divide(self, box: Box, live: Any) -> tuple[Box, Box] | None:
        del live
        possible = self._possible(box)
        if len(possible) < 2:
            return None
        rule = int(possible[0])  # it holds for a part of the box, or it would be the only one
        _, holds = self._meets(box)
        j = int(np.flatnonzero(~holds[rule])[0])
        lo, hi, bits = int(self.lo[rule, j]), int(self.hi[rule, j]), int(self.bits[rule, j])
        own_lo, own_hi = int(box.lo[j]), int(box.hi[j])
        met_lo, met_hi = max(lo, own_lo), min(hi, own_hi)
        if met_lo > met_hi:
            return box.split(j, bits=bits)
        if met_lo > own_lo:
            return box.split(j, last=met_lo - 1, bits=~bits & (2**64 - 1))
        return box.split(j, last=met_hi, bits=bits)


@dataclass(frozen=True, eq=False)
class TermSum:
    """base + the sum of terms of one or two features. features: per term. scores: per term (bins,) or (bins, bins) on the grid."""

    scale: Score
    grid: Grid
    base: float
    features: tuple[tuple[int, ...], ...]
    scores: tuple[Floats, ...]
    rounding: float = 0.0

    def _parts(self, box: Box) -> list[Floats]:
        masks: dict[int, Ints] = {}
        for features in self.features:
            for j in features:
                if j not in masks:
                    masks[j] = np.flatnonzero(self.grid.mask(box, j))
        return [
            s[np.ix_(*(masks[j] for j in features))] for features, s in zip(self.features, self.scores, strict=True)
        ]

    def over(self, box: Box, live: Any = None) -> tuple[float, float, Any]:
        del live
        parts = self._parts(box)
        low, high = sum(float(p.min()) for p in parts), sum(float(p.max()) for p in parts)
        return self.base + low - self.rounding, self.base + high + self.rounding, None

    def divide(self, box: Box, live: Any) -> tuple[Box, Box] | None:
        """The term that varies most, halved on the feature with more bins."""
        del live
        parts = self._parts(box)
        for place in np.argsort([-float(np.ptp(p)) for p in parts], kind="stable"):
            if np.ptp(parts[place]) <= 0:
                return None
            counts = [(int(self.grid.mask(box, j).sum()), j) for j in self.features[place]]
            count, j = max(counts, key=lambda c: c[0])
            if count > 1:
                return halved(self.grid, box, j)
        return None


def halved(grid: Grid, box: Box, j: int) -> tuple[Box, Box]:
    """A box with more than one bin of a feature as two."""
    if grid.columns[j].kind == "categorical":
        set_bits = [b for b in range(64) if int(box.bits[j]) >> b & 1]
        return box.split(j, bits=sum(1 << b for b in set_bits[: len(set_bits) // 2]))
    lo, hi = int(box.lo[j]), int(box.hi[j])
    if int(box.bits[j]):  # missing is a world of its own
        return box.split(j, bits=1)
    return box.split(j, last=(lo + hi - 1) // 2 if hi > lo else hi, bits=0)

"""Coalitions in pairs, S and its complement, and the Shapley values of a game of which only such pairs are known.

Every estimate here is linear in the half differences y_S = (v(S) − v(N∖S)) / 2 and in v(N) − v(∅). All effects of two units
(and every even order) cancel in y, so they cost nothing (Covert & Lee 2021, section 4.2).

`KernelPairs`: KernelSHAP's regression, φ = argmin Σ_S w_S (y_S − Σ_j (z_j − ½) φ_j)² subject to Σ φ_j = v(N) − v(∅). The
sizes of S share the budget evenly, as the leverage of a coalition asks for (Musco & Witter 2025, "Provably accurate Shapley
value estimation via leverage score sampling": all sizes alike, pairs, no coalition twice), not in proportion to the kernel, which
draws small sizes again and again; the kernel's weight of a size is shared by the coalitions drawn of it. The paper draws every
coalition by a coin of its own; here the number of each size is fixed, which leaves no noise from the sizes, and a size whose
coalitions are fewer than its share is taken whole. Weights × leverages then hardly vary, and the bias of the regression, of order
(units / pairs), almost vanishes: it matters because the estimates of many background rows are averaged.

`WalkPairs`: orders of the units, walked there and back. The sets passed on the way back are the complements of those passed
on the way there, so a walk is a row of pairs, and unit π_k's share is y after it minus y before it.

Standard errors are those of the drawing. Kernel: each pair's residual over 1 − leverage, in the sandwich (HC3, MacKinnon & White
1985), less for sizes of which a good part was drawn (1 − drawn / all). Walks: the spread over walks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Protocol

import numpy as np

from distillens.errors import InputError
from distillens.explainers.coalitions import of_size, size_distribution

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints

ATTEMPTS = 20  # so often few pairs of many units are drawn anew until they determine every attribution
SMALLEST_SLACK = 1e-3  # 1 − leverage is taken to be at least this


class PairPlan(Protocol):
    """Pairs of coalitions and what is made of them."""

    @property
    def masks(self) -> Bools:
        """(p, units) one of each pair; the other is its complement."""
        ...

    def solve(self, half: Floats, total: Floats) -> tuple[Floats, Floats]:
        """Attributions and their variances, (c, units) both, of c games.

        half: (c, p) (v(S) − v(N∖S)) / 2 of the plan's masks. total: (c,) v(N) − v(∅).
        """
        ...


@dataclass(frozen=True, eq=False)
class KernelPairs:
    """Pairs for KernelSHAP's regression.

    masks: (p, units), no pair twice. design: (p, units) ±½. influence: (p, units) what one unit of y does to each attribution.
    spread: (p, units) what the square of a pair's residual adds to each variance; 0 where all of its size are there.
    """

    masks: Bools
    design: Floats
    influence: Floats
    spread: Floats

    def solve(self, half: Floats, total: Floats) -> tuple[Floats, Floats]:
        """As in `PairPlan`."""
        units = self.masks.shape[1]
        even = (total / units)[:, None]
        phi = even + (half - even * self.design.sum(axis=1)) @ self.influence
        missed = phi @ self.design.T
        np.subtract(half, missed, out=missed)
        np.multiply(missed, missed, out=missed)
        return phi, missed @ self.spread


def kernel_pairs(units: int, budget: int, seed: int) -> KernelPairs:
    """At most `budget` // 2 pairs of coalitions of two or more units; all of them when they are no more.

    Raises InputError when so few pairs do not determine every attribution.
    """
    rng = np.random.default_rng([seed, units])
    sizes = _numbers(units, budget // 2)
    contrast = np.linalg.qr(np.concatenate([np.ones((units, 1)), np.eye(units)[:, 1:]], axis=1))[0][:, 1:]
    for _ in range(ATTEMPTS):
        masks = np.concatenate([_draw(units, size, number, rng) for size, number in sizes])
        weight = np.concatenate([np.full(number, _kernel(units, size) / number) for size, number in sizes])
        design = masks - 0.5
        x = (
            design @ contrast
        )  # (p, units − 1): the directions in which the attributions may move, their sum being known
        gram = x.T @ (x * weight[:, None])
        if np.linalg.matrix_rank(gram, hermitian=True) == units - 1:
            break
    else:
        raise InputError(
            f"{2 * len(masks)} coalitions of {units} units do not determine every attribution; raise the budget of {budget}."
        )
    solved = np.linalg.solve(gram, (x * weight[:, None]).T)  # (units − 1, p)
    leverage = np.einsum("pk,kp->p", x, solved)
    left = np.concatenate([np.full(number, 1.0 - number / _pairs(units, size)) for size, number in sizes])
    influence = (contrast @ solved).T
    spread = (influence / np.maximum(1.0 - leverage, SMALLEST_SLACK)[:, None]) ** 2 * left[:, None]
    return KernelPairs(masks, design, influence, spread)


def _pairs(units: int, size: int) -> int:
    """How many pairs have a member of this size (at most half of the units)."""
    return comb(units, size) // 2 if 2 * size == units else comb(units, size)


def _kernel(units: int, size: int) -> float:
    """The Shapley kernel's weight of all pairs of a size."""
    p = size_distribution(units)
    return float(p[size - 1]) * (1.0 if 2 * size == units else 2.0)


def _numbers(units: int, wanted: int) -> list[tuple[int, int]]:
    """(size, pairs) of every size up to half of the units, for `wanted` pairs in all or as many as there are; at least one each."""
    sizes = list(range(1, units // 2 + 1))
    share = dict.fromkeys(sizes, 2.0) | ({units // 2: 1.0} if units % 2 == 0 else {})
    there = {size: _pairs(units, size) for size in sizes}
    number: dict[int, int] = {}
    left = wanted
    while True:  # a size with fewer pairs than its share is taken whole, and the others share the rest
        scale = left / sum(share[s] for s in sizes) if sizes else 0.0
        whole = [s for s in sizes if there[s] <= scale * share[s]]
        if not whole:
            break
        for s in whole:
            number[s] = there[s]
            left -= there[s]
        sizes = [s for s in sizes if s not in number]
    ends = np.round(np.cumsum([scale * share[s] for s in sizes])).astype(np.int64)
    number |= {s: max(1, int(n)) for s, n in zip(sizes, np.diff(ends, prepend=0), strict=True)}
    return sorted(number.items())


def _draw(units: int, size: int, number: int, rng: np.random.Generator) -> Bools:
    """(number, units) different coalitions of a size, one of each pair."""
    there = _pairs(units, size)
    halved = 2 * size == units  # the complement has the same size: the pair is named by the one that holds unit 0
    if there <= max(4 * number, 64):
        every = of_size(units, size)
        every = every[every[:, 0]] if halved else every
        return every if number == there else every[rng.permutation(there)[:number]]
    drawn = np.empty((0, units), dtype=np.bool_)
    while True:
        rank = rng.random((number, units)).argsort(axis=1)
        batch = np.zeros((number, units), dtype=np.bool_)
        np.put_along_axis(batch, rank[:, :size], True, axis=1)
        drawn = np.concatenate([drawn, batch ^ ~batch[:, :1] if halved else batch])
        packed = np.packbits(drawn, axis=1)
        first = np.sort(np.unique(packed.view(f"V{packed.shape[1]}"), return_index=True)[1])
        if len(first) >= number:
            return drawn[first[:number]]


@dataclass(frozen=True, eq=False)
class WalkPairs:
    """Pairs passed by walks through orders of the units.

    orders: (w, units) permutations. masks: (w · (units − 1), units) the sets passed there, walk by walk.
    """

    orders: Ints
    masks: Bools

    def solve(self, half: Floats, total: Floats) -> tuple[Floats, Floats]:
        """As in `PairPlan`. The variance is that of the mean over walks; two are needed."""
        walks, units = self.orders.shape
        games = len(half)
        path = np.empty((games, walks, units + 1))
        path[:, :, 0], path[:, :, -1] = -total[:, None] / 2, total[:, None] / 2
        path[:, :, 1:-1] = half.reshape(games, walks, units - 1)
        each = np.take_along_axis(np.diff(path, axis=2), self.orders.argsort(axis=1)[None], axis=2)
        return each.mean(axis=1), each.var(axis=1, ddof=1) / walks


def walk_pairs(units: int, budget: int, seed: int) -> WalkPairs | KernelPairs:
    """As many orders, walked there and back, as `budget` coalitions pay for; all coalitions when they are no more.

    Raises InputError when that is fewer than two orders.
    """
    if 2**units - 2 <= budget:
        return kernel_pairs(units, budget, seed)
    number = orders_paid(units, budget)
    rng = np.random.default_rng([seed, units])
    orders = rng.permuted(np.tile(np.arange(units), (number, 1)), axis=1)
    masks = orders.argsort(axis=1)[:, None, :] < np.arange(1, units)[:, None]
    return WalkPairs(orders.astype(np.int64), masks.reshape(-1, units))


def orders_paid(units: int, budget: int) -> int:
    """How many orders of the units `budget` coalitions pay for, there and back; InputError when fewer than two."""
    number = budget // (2 * max(1, units - 1))
    if number < 2:
        raise InputError(
            f"A budget of {budget} coalitions pays for {number} orders of {units} units there and back; it takes at least two "
            f"for a standard error. Raise the budget to {4 * (units - 1)} or more, or group features."
        )
    return number

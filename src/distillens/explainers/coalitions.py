"""Which coalitions of units to evaluate, and with what weight, when not all 2^M fit the budget.

The Shapley kernel (Lundberg & Lee 2017, theorem 2) gives a coalition of size k out of M the weight
(M − 1) / (C(M, k) k (M − k)), so a *size* k gets the weight p(k) ∝ 1 / (k (M − k)): small and large coalitions carry
most of it. A plan

1. enumerates whole sizes from the outside in (1 and M − 1, 2 and M − 2, …) for as long as drawing from the sizes that
   are left would be expected to hit every coalition of the next size anyway;
2. draws the rest in antithetic pairs (S and its complement; Covert & Lee 2021, section 4.2), sizes by p(k), until the
   number of *different* coalitions fills the budget; a pair drawn c times has c times the weight.

A plan depends on the number of units, the budget and the seed, and on nothing else: two models that are compared
answer for the same coalitions, and a row's plan does not change with the rows explained beside it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import InputError

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints

DRAWS_PER_PAIR = 8  # give up looking for new pairs after this many draws for each one wanted


@dataclass(frozen=True, eq=False)
class CoalitionPlan:
    """Distinct coalitions without the empty and the grand one, which every plan evaluates besides.

    masks: (m, units) bool, True = the row's own value. weights: (m,) kernel weights that sum to 1 (empty for one unit).
    enumerated: the first so many masks are whole sizes. The others are pairs: S, complement, S, complement, …
    counts: (pairs,) how often each pair was drawn. exact: all 2^units coalitions are there. budget, seed: as asked for.
    """

    units: int
    masks: Bools
    weights: Floats
    enumerated: int
    counts: Ints
    exact: bool
    budget: int
    seed: int

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def sampled_weight(self) -> float:
        """Share of the kernel's weight that rests on sampled pairs; 0 for an exact plan."""
        return float(self.weights[self.enumerated :].sum())


def fits(units: int, budget: int) -> bool:
    """Whether all coalitions but the empty and the grand one are at most `budget`."""
    return units <= 62 and 2**units - 2 <= budget


def all_coalitions(units: int) -> Bools:
    """(2^units, units) bool; row i holds the binary digits of i, unit j being the digit of 2^j."""
    index = np.arange(2**units, dtype=np.int64)
    return ((index[:, None] >> np.arange(units)) & 1).astype(np.bool_)


def size_distribution(units: int) -> Floats:
    """(units − 1,) p(k) of the sizes k = 1 … units − 1 under the Shapley kernel."""
    size = np.arange(1, units)
    weight = 1.0 / (size * (units - size))
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def coalitions(units: int, budget: int, seed: int) -> CoalitionPlan:
    """The plan for `units` units and at most `budget` coalitions (the empty and the grand one not counted).

    Exact when 2^units − 2 ≤ budget. Raises InputError for fewer than one unit, and for a budget below 2 · units that
    is not exact: it cannot determine an attribution for every unit.
    """
    if units < 1:
        raise InputError("There is nothing to attribute to: a coalition plan needs at least one unit.")
    if fits(units, budget):
        return _exact_plan(units, budget, seed)
    check_budget(units, budget)
    size_weight = size_distribution(units)
    fixed_masks, fixed_weights, next_size = _enumerated(units, budget, size_weight)
    left = budget - len(fixed_masks)
    masks, counts = _sampled_pairs(units, next_size, left // 2, size_weight, np.random.default_rng(seed))
    share = 1.0 - float(fixed_weights.sum())
    weights = np.repeat(share * counts / (2.0 * counts.sum()), 2)
    return CoalitionPlan(
        units=units,
        masks=np.concatenate([fixed_masks, masks]),
        weights=np.concatenate([fixed_weights, weights]),
        enumerated=len(fixed_masks),
        counts=counts,
        exact=False,
        budget=budget,
        seed=seed,
    )


def check_budget(units: int, budget: int) -> None:
    """InputError for a budget below 2 · units."""
    if budget < 2 * units:
        raise InputError(
            f"A budget of {budget} coalitions is too small for {units} units: it takes at least {2 * units}, and 10 per unit "
            "for stable numbers. Raise the budget or group features."
        )


def _exact_plan(units: int, budget: int, seed: int) -> CoalitionPlan:
    masks = all_coalitions(units)[1:-1]
    weights = np.empty(0)
    if len(masks):
        sizes = masks.sum(axis=1)
        each = size_distribution(units) / np.array([comb(units, k) for k in range(1, units)], dtype=np.float64)
        weights = each[sizes - 1]
    return CoalitionPlan(units, masks, weights, len(masks), np.empty(0, dtype=np.int64), True, budget, seed)


def _enumerated(units: int, budget: int, size_weight: Floats) -> tuple[Bools, Floats, int]:
    """Whole sizes from the outside in; masks, their weights, and the smallest size that is left to sampling."""
    masks: list[Bools] = []
    weights: list[Floats] = []
    left, size = budget, 1
    while size <= units // 2:
        sizes = (size,) if 2 * size == units else (size, units - size)
        share = size_weight[size - 1 : units - size].sum()  # kernel weight of the sizes not enumerated yet
        own = sum(size_weight[k - 1] for k in sizes)
        number = sum(comb(units, k) for k in sizes)
        if left * own / share < number or left - number < 4:
            break
        small = of_size(units, size)
        block = small if len(sizes) == 1 else np.concatenate([small, ~small])
        masks.append(block)
        weights.append(np.full(len(block), own / number))
        left -= number
        size += 1
    if not masks:
        return np.empty((0, units), dtype=np.bool_), np.empty(0), size
    return np.concatenate(masks), np.concatenate(weights), size


def of_size(units: int, size: int) -> Bools:
    """All C(units, size) coalitions of a size."""
    members = np.array(list(itertools.combinations(range(units), size)), dtype=np.int64)
    masks = np.zeros((len(members), units), dtype=np.bool_)
    np.put_along_axis(masks, members, True, axis=1)
    return masks


def _sampled_pairs(
    units: int, smallest: int, wanted: int, size_weight: Floats, rng: np.random.Generator
) -> tuple[Bools, Ints]:
    """`wanted` different pairs (or fewer, when they are hard to find) and how often each was drawn."""
    sizes = np.arange(smallest, units - smallest + 1)
    probability = size_weight[sizes - 1] / size_weight[sizes - 1].sum()
    drawn = np.empty((0, units), dtype=np.bool_)
    for _ in range(DRAWS_PER_PAIR):
        size = rng.choice(sizes, size=wanted, p=probability)
        rank = rng.random((wanted, units)).argsort(axis=1).argsort(axis=1)
        batch = rank < size[:, None]
        batch ^= ~batch[:, :1]  # of S and its complement, name the pair by the one that holds unit 0
        drawn = np.concatenate([drawn, batch])
        packed = np.packbits(drawn, axis=1)
        _, first, pair = np.unique(packed, axis=0, return_index=True, return_inverse=True)
        if len(first) >= wanted:
            break
    order = np.sort(first)
    if len(order) > wanted:  # stop at the draw that completed the budget
        drawn, order = drawn[: order[wanted]], order[:wanted]
        pair = pair[: len(drawn)]
    position = {int(pair[at]): p for p, at in enumerate(order)}
    counts = np.bincount([position[int(p)] for p in pair.reshape(-1)], minlength=len(order)).astype(np.int64)
    chosen = drawn[order]
    masks = np.empty((2 * len(chosen), units), dtype=np.bool_)
    masks[0::2], masks[1::2] = chosen, ~chosen
    return masks, counts

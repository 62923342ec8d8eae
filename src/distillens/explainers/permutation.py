"""Shapley values by walking through orders of the units: permutation SHAP.

    φ_j ≈ mean over orders π of v(π's units up to and with j) − v(π's units before j)

(Castro, Gómez & Tejada 2009). Each order is walked forwards and backwards, which cancels all effects of pairs of units: the
estimate is exact for models whose terms hold at most two units, whatever the number of orders (antithetic sampling,
Mitchell, Cooper, Frank & Holmes 2022, section 4.1). The steps of one walk add up to v(N) − v(∅), so the attributions do too.

Pairs of walks are independent draws, so the standard error is the plain one of their mean. The orders depend on the number of
units, the budget and the seed only: two models that are compared walk the same way, and so do all rows. When all 2^M coalitions fit
the budget the values are the exact ones. An order costs 2 (M − 1) coalitions.

`draws="own"`, the default: every background row is walked through orders of its own (cells.py), for the same number of answers with
several times less error. `shared`: the same orders with all background rows; coalitions that several walks pass are evaluated once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from distillens.explainers.coalitions import all_coalitions, fits
from distillens.explainers.pairs import orders_paid, walk_pairs
from distillens.explainers.settings import BackgroundSettings, ScaleName, default_background
from distillens.explainers.shapley import (
    Draws,
    check_draws,
    check_settings,
    exact_shapley,
    explanation_of,
    explanation_of_cells,
    required_background,
)

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.explainers.base import Explanation, Need
    from distillens.models.base import Model


@dataclass(frozen=True, eq=False)
class Walks:
    """Orders of the units and the coalitions they pass.

    orders: (P, units), each a permutation. masks: (m, units) the different coalitions passed, the empty and the grand one included.
    forward, backward: (P, units + 1) which mask each step of an order, or of its reverse, has reached.
    """

    orders: Ints
    masks: Bools
    forward: Ints
    backward: Ints


def walks(units: int, budget: int, seed: int) -> Walks:
    """As many random orders as `budget` coalitions pay for; InputError when that is fewer than two."""
    number = orders_paid(units, budget)
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(units), (number, 1)), axis=1)
    rank = orders.argsort(axis=1)
    step = np.arange(units + 1)[:, None]
    ahead = rank[:, None, :] < step  # (P, units + 1, units): the units that come first
    both = np.concatenate([ahead, rank[:, None, :] >= units - step])
    masks, index = np.unique(both.reshape(-1, units), axis=0, return_inverse=True)
    forward, backward = index.reshape(2, number, units + 1)
    return Walks(orders.astype(np.int64), masks, forward.astype(np.int64), backward.astype(np.int64))


def permutation_shapley(values: Floats, plan: Walks) -> tuple[Floats, Floats]:
    """Shapley values (n, units) and their standard errors (n, units) from the (n, m) values of the plan's masks."""
    rank = plan.orders.argsort(axis=1)
    gained = np.diff(values[:, plan.forward], axis=2)  # (n, P, units): what the unit at each place of the order added
    lost = np.diff(values[:, plan.backward], axis=2)[:, :, ::-1]
    there = np.take_along_axis(gained, rank[None], axis=2)
    pairs = (there + np.take_along_axis(lost, rank[None], axis=2)) / 2
    return pairs.mean(axis=1), pairs.std(axis=1, ddof=1) / np.sqrt(pairs.shape[1])


@dataclass(frozen=True)
class PermutationShap:
    """Shapley values from random orders of the features, each walked there and back, with a standard error.

    budget: coalitions per explained row and background row; 2 · (units − 1) of them are one order. draws: `own` gives every
    background row orders of its own, `shared` walks the same ones with all background rows; as in `KernelShap`. The other options are
    those of `ExactShapley`.
    """

    kind: ClassVar[str] = "permutation_shap"
    differentiable: ClassVar[bool] = False
    mixes_rows: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"call"})

    budget: int = 2048
    draws: Draws = "own"
    background: BackgroundSettings = field(default_factory=default_background)
    rows: int = 100
    scale: ScaleName = "log_odds"
    groups: dict[str, list[str]] | None = None

    def __post_init__(self) -> None:
        check_settings(self.kind, self.budget, self.background, self.rows, self.scale, self.groups)
        check_draws(self.kind, self.draws)

    def __call__(
        self, model: Model, inputs: Table, *, target: Ints, background: Table | None, seed: int
    ) -> Explanation:
        """Explain every row of `inputs` with the orders of (number of units, budget, seed). Raises InputError, ModelError."""
        from distillens.explainers.masking import masked_blocks, resolved_scale
        from distillens.explainers.units import units_of

        background = required_background(background, inputs, self.kind)
        units = units_of(inputs.columns, self.groups)
        scale = resolved_scale(model, self.scale)
        exact = fits(len(units), self.budget)
        if self.draws == "own" and not exact:
            return explanation_of_cells(
                model, inputs, background, units=units, target=target, scale=scale, method=self.kind, budget=self.budget, seed=seed,
                plan=lambda size: walk_pairs(size, self.budget, seed),
            )  # fmt: skip
        plan = None if exact else walks(len(units), self.budget, seed)
        masks = all_coalitions(len(units)) if plan is None else plan.masks
        grand_at, empty_at = int(masks.all(axis=1).argmax()), int((~masks).all(axis=1).argmax())
        empty, grand = np.empty(len(inputs)), np.empty(len(inputs))
        phi = np.empty((len(inputs), len(units)))
        stderr = None if exact else np.empty(phi.shape)
        for rows, means in masked_blocks(
            model, inputs, masks, background=background, target=target, scale=scale, groups=self.groups
        ):
            empty[rows], grand[rows] = means[:, empty_at], means[:, grand_at]
            if plan is None or stderr is None:
                phi[rows] = exact_shapley(means)
            else:
                phi[rows], stderr[rows] = permutation_shapley(means, plan)
        return explanation_of(
            model, inputs, background, values=phi, stderr=stderr, empty=empty, grand=grand, units=units.names,
            target=target, scale=scale, method=self.kind, exact=exact, budget=len(masks) - 2, seed=seed,
        )  # fmt: skip

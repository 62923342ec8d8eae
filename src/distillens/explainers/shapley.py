"""Shapley values of a masked model: exact, and by KernelSHAP (Lundberg & Lee 2017).

The game of a row is v(S) = mean over the background of the model's score with the units in S kept (masking.py): the
interventional Shapley values. φ_j is the mean marginal contribution of unit j over all orders of the units, and
Σ φ_j = v(N) − v(∅).

Exact: φ_j = Σ_{S ∌ j} |S|! (M − |S| − 1)! / M! · (v(S ∪ j) − v(S)) over all 2^M coalitions.

Kernel: φ minimises Σ_S w_S (v(S) − v(∅) − Σ_{j ∈ S} φ_j)² subject to Σ φ_j = v(N) − v(∅), solved with a Lagrange
multiplier. With all coalitions it is exact. Otherwise (`draws`):

`own`, the default: every background row is a game of its own with coalitions of its own, solved by itself, and the values
are averaged (cells.py, pairs.py). For the same number of answers the squared error was 4 to 40 times smaller in what was measured
(docs/explainer-speed.md), because a coalition need not be paid for with a hundred answers.

`shared`, as published: the mean game is asked. The coalitions and weights are those of coalitions.py for every row, so there is one
factorisation for all rows (for those rows in which no unit is idle, see below).

Standard error of `shared`: pairs are independent draws, each enters the estimate through its score (v(S) − v(S^c) − …) / 2, and φ is
a smooth function of their mean. The variance is the delta method's (Covert & Lee 2021, appendix on the regression
estimator's covariance, for the mean over pairs), with each residual divided by 1 − leverage: the delete-one-pair
jackknife in closed form (MacKinnon & White 1985, HC3). Without that factor small budgets look better than they are.
Either way it is the error from sampling coalitions only; that of the background is found by drawing it anew.

Unlike the paper, a unit whose value in every background row equals the row's own gets exactly 0 in sampled plans too: its
φ is 0 in the full game, so it is left out of that row's regression.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from math import comb
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from distillens.errors import BudgetWarning, InputError, did_you_mean
from distillens.explainers.coalitions import CoalitionPlan, all_coalitions, check_budget, coalitions, fits
from distillens.explainers.pairs import kernel_pairs
from distillens.explainers.settings import (
    BackgroundSettings,
    ScaleName,
    check_background,
    check_count,
    check_groups,
    check_scale,
    default_background,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.explainers.base import Explanation, Need
    from distillens.explainers.pairs import PairPlan
    from distillens.explainers.units import Units
    from distillens.models.base import Model

Draws = Literal["own", "shared"]

SAMPLES_PER_UNIT = 10  # fewer sampled coalitions per unit than this, and a warning says so


def exact_shapley(values: Floats) -> Floats:
    """(n, M) Shapley values from the (n, 2^M) values of all coalitions, in the order of `coalitions.all_coalitions`.

    Raises InputError when the number of coalitions is not a power of two.
    """
    number = values.shape[1]
    units = number.bit_length() - 1
    if number != 2**units or units < 1:
        raise InputError(f"Exact Shapley values need all 2^M coalitions of M ≥ 1 units, but {number} came.")
    masks = all_coalitions(units)
    size = masks.sum(axis=1)
    # share[s]: weight of a coalition of size s that lacks the unit, i.e. s! (M − s − 1)! / M! = 1 / (M C(M − 1, s))
    share = np.array([1.0 / (units * comb(units - 1, s)) for s in range(units)])
    joined = share[np.maximum(size - 1, 0)][:, None]
    lacking = share[np.minimum(size, units - 1)][:, None]
    return np.asarray(values @ np.where(masks, joined, -lacking), dtype=np.float64)


def kernel_shapley(
    values: Floats, *, empty: Floats, grand: Floats, plan: CoalitionPlan, idle: Bools | None = None
) -> tuple[Floats, Floats | None]:
    """Shapley values (n, M) and their standard errors (n, M), or None for an exact plan.

    values: (n, m) v(S) for the plan's masks. empty, grand: (n,) v(∅) and v(N). idle: (n, M) units known to contribute
    nothing to a row. Raises InputError when the plan's coalitions do not determine every attribution.
    """
    n, units = len(values), plan.units
    phi = np.zeros((n, units))
    stderr = None if plan.exact else np.zeros((n, units))
    patterns = np.zeros((1, units), dtype=np.bool_) if idle is None else np.unique(idle, axis=0)
    for pattern in patterns:
        rows = np.arange(n) if idle is None else np.flatnonzero((idle == pattern).all(axis=1))
        active = np.flatnonzero(~pattern)
        if len(active) == 0:
            continue
        part, error = _constrained(values[rows], empty[rows], grand[rows], plan, active)
        phi[np.ix_(rows, active)] = part
        if stderr is not None and error is not None:
            stderr[np.ix_(rows, active)] = error
    return phi, stderr


def _constrained(
    values: Floats, empty: Floats, grand: Floats, plan: CoalitionPlan, active: Ints
) -> tuple[Floats, Floats | None]:
    """The constrained weighted least squares for rows that share their active units; one factorisation."""
    total = grand - empty
    if len(active) == 1:
        return total[:, None], None if plan.exact else np.zeros((len(values), 1))
    z = plan.masks[:, active].astype(np.float64)
    gram = z.T @ (z * plan.weights[:, None])
    try:
        inverse = np.linalg.inv(gram)
        determined = bool(np.linalg.cond(gram) < 1e12)
    except np.linalg.LinAlgError:
        determined = False
    if not determined:
        raise InputError(
            f"{len(plan)} coalitions of {plan.units} units do not determine every attribution; raise the budget of {plan.budget}."
        )
    ones = inverse.sum(axis=1)
    # projected: maps weighted scores to φ and keeps Σ φ as it is (A⁻¹ − A⁻¹ 1 1ᵀ A⁻¹ / 1ᵀ A⁻¹ 1)
    projected = inverse - np.outer(ones, ones) / ones.sum()
    gain = values - empty[:, None]
    phi = (gain * plan.weights) @ z @ projected + np.outer(total, ones / ones.sum())
    if plan.exact:
        return phi, None
    return phi, _standard_error(gain - phi @ z.T, z, projected, plan)


def _standard_error(residual: Floats, z: Floats, projected: Floats, plan: CoalitionPlan) -> Floats:
    """(n, M) from the (n, m) residuals; see the module's docstring."""
    first = z[plan.enumerated :: 2]  # one of each pair; projected @ its complement is minus projected @ itself
    draws = int(plan.counts.sum())
    if draws < 2:
        raise InputError(f"A budget of {plan.budget} leaves fewer than two sampled pairs; raise it.")
    influence = plan.sampled_weight * (first @ projected)  # (pairs, M)
    leverage = np.einsum("pj,pj->p", influence, first) / draws
    half = (residual[:, plan.enumerated :: 2] - residual[:, plan.enumerated + 1 :: 2]) / 2
    half = half / np.maximum(1.0 - leverage, 1e-3)
    mean = (half * plan.counts) @ influence / draws
    square = (half**2 * plan.counts) @ influence**2 / draws
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0.0) / (draws - 1)), dtype=np.float64)


@dataclass(frozen=True)
class ExactShapley:
    """Shapley values from all 2^M coalitions of M units.

    budget: most coalitions to evaluate, the empty and the grand one not counted; more units than fit are an error.
    background, rows: which rows stand for "unknown" and how many test rows to explain; a pipeline resolves both, a call
    explains the rows it gets against the background it gets. scale: log_odds (for regression: the value), probability,
    logit or value. groups: unit name → features masked together.
    """

    kind: ClassVar[str] = "exact_shapley"
    differentiable: ClassVar[bool] = False
    mixes_rows: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"call"})

    budget: int = 4096
    background: BackgroundSettings = field(default_factory=default_background)
    rows: int = 100
    scale: ScaleName = "log_odds"
    groups: dict[str, list[str]] | None = None

    def __post_init__(self) -> None:
        check_settings(self.kind, self.budget, self.background, self.rows, self.scale, self.groups)

    def __call__(
        self, model: Model, inputs: Table, *, target: Ints, background: Table | None, seed: int
    ) -> Explanation:
        """Explain every row of `inputs`. The seed is recorded and not used. Raises InputError, ModelError."""
        from distillens.explainers.masking import masked_means, resolved_scale
        from distillens.explainers.units import units_of

        background = required_background(background, inputs, self.kind)
        units = units_of(inputs.columns, self.groups)
        if not fits(len(units), self.budget):
            raise InputError(
                f"Exact Shapley values of {len(units)} units take 2^{len(units)} coalitions, more than the budget of {self.budget}. "
                "Group features, raise the budget or use kernel_shap."
            )
        scale = resolved_scale(model, self.scale)
        values = masked_means(
            model,
            inputs,
            all_coalitions(len(units)),
            background=background,
            target=target,
            scale=scale,
            groups=self.groups,
        )
        return explanation_of(
            model, inputs, background, values=exact_shapley(values), stderr=None, empty=values[:, 0], grand=values[:, -1],
            units=units.names, target=target, scale=scale, method=self.kind, exact=True, budget=2 ** len(units) - 2, seed=seed,
        )  # fmt: skip


@dataclass(frozen=True)
class KernelShap:
    """Shapley values by KernelSHAP, with a standard error; exact when all coalitions fit the budget.

    budget: coalitions per explained row and background row, the empty and the grand one not counted: a row costs about budget ×
    background rows answers of the model, whatever `draws` is. draws: `own` gives every background row coalitions of its own
    (cells.py); `shared` evaluates the same ones with all background rows, as the paper does, with several times the error
    for the same work. The other options are those of `ExactShapley`.
    """

    kind: ClassVar[str] = "kernel_shap"
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
        """Explain every row of `inputs` with the coalitions of (number of units, budget, seed).

        Warns BudgetWarning under 10 sampled coalitions per unit. Raises InputError, ModelError.
        """
        from distillens.explainers.masking import masked_blocks, resolved_scale
        from distillens.explainers.units import units_of

        background = required_background(background, inputs, self.kind)
        units = units_of(inputs.columns, self.groups)
        exact = fits(len(units), self.budget)
        if not exact:
            check_budget(len(units), self.budget)
        if not exact and self.budget < SAMPLES_PER_UNIT * len(units):
            warnings.warn(
                f"{self.budget} coalitions for {len(units)} units are fewer than {SAMPLES_PER_UNIT} per unit; the attributions will be "
                f"unstable. Raise the budget to {SAMPLES_PER_UNIT * len(units)} or more, or group features.",
                BudgetWarning,
                stacklevel=2,
            )
        scale = resolved_scale(model, self.scale)
        if self.draws == "own" and not exact:
            return explanation_of_cells(
                model, inputs, background, units=units, target=target, scale=scale, method=self.kind, budget=self.budget, seed=seed,
                plan=lambda size: kernel_pairs(size, self.budget, seed),
            )  # fmt: skip
        plan = coalitions(len(units), self.budget, seed)
        ends = np.array([[False] * len(units), [True] * len(units)])
        idle = _idle(inputs.values, background.values, units.of_column, len(units))
        empty, grand = np.empty(len(inputs)), np.empty(len(inputs))
        phi = np.empty((len(inputs), len(units)))
        stderr = None if plan.exact else np.empty(phi.shape)
        for rows, means in masked_blocks(  # so that memory does not grow with rows × coalitions
            model,
            inputs,
            np.concatenate([ends, plan.masks]),
            background=background,
            target=target,
            scale=scale,
            groups=self.groups,
        ):
            empty[rows], grand[rows] = means[:, 0], means[:, 1]
            phi[rows], error = kernel_shapley(
                means[:, 2:], empty=means[:, 0], grand=means[:, 1], plan=plan, idle=idle[rows]
            )
            if stderr is not None and error is not None:
                stderr[rows] = error
        return explanation_of(
            model, inputs, background, values=phi, stderr=stderr, empty=empty, grand=grand, units=units.names,
            target=target, scale=scale, method=self.kind, exact=plan.exact, budget=len(plan), seed=seed,
        )  # fmt: skip


def check_draws(kind: str, draws: object) -> None:
    """InputError unless it is `own` or `shared`."""
    if draws not in get_args(Draws):
        raise InputError(
            f"{kind}: draws should be own or shared, but is {draws!r}.{did_you_mean(str(draws), get_args(Draws))}"
        )


def check_settings(kind: str, budget: object, background: object, rows: object, scale: object, groups: object) -> None:
    """InputError for options of a Shapley explainer that make no sense."""
    check_count(f"{kind}: budget", budget, least=2)
    check_background(kind, background)
    check_count(f"{kind}: rows", rows, least=1)
    check_scale(kind, scale)
    check_groups(kind, groups)


def required_background(background: Table | None, inputs: Table, kind: str) -> Table:
    """The background, or InputError when there is none or there are no rows to explain."""
    if background is None:
        raise InputError(
            f"{kind} needs background rows that stand for 'unknown'; pass background=, for example 100 training rows."
        )
    if len(inputs) == 0:
        raise InputError("There are no rows to explain.")
    return background


def _idle(x: Floats, background: Floats, of_column: Ints, units: int) -> Bools:
    """(n, units) whether a unit's columns equal the row's own in every background row (missing equals missing)."""
    low, high = background.min(axis=0), background.max(axis=0)  # NaN where any background value is missing
    same = (x == low) & (x == high)
    same |= np.isnan(x) & np.isnan(background).all(axis=0)
    idle = np.ones((len(x), units), dtype=np.bool_)
    for j, unit in enumerate(of_column):
        idle[:, unit] &= same[:, j]
    return idle


def explanation_of(
    model: Model, inputs: Table, background: Table, *, values: Floats, stderr: Floats | None, empty: Floats, grand: Floats,
    units: tuple[str, ...], target: Ints, scale: ScaleName, method: str, exact: bool, budget: int, seed: int,
) -> Explanation:  # fmt: skip
    """The record of (n, units) attributions of games with the (n,) worths `empty` and `grand` of no unit and of all."""
    from distillens.explainers.base import Explanation, library_versions

    return Explanation(
        values=values, base=empty, output=grand, residual=grand - empty - values.sum(axis=1), stderr=stderr, units=units,
        target=np.asarray(np.broadcast_to(target, (len(inputs),)), dtype=np.int64), scale=scale, method=method, exact=exact,
        row_ids=inputs.row_ids, background_ids=background.row_ids, budget=budget, seed=seed, model_label=model.label,
        model_fingerprint=model.fingerprint, versions=library_versions("numpy"),
    )  # fmt: skip


def explanation_of_cells(
    model: Model, inputs: Table, background: Table, *, units: Units, target: Ints, scale: ScaleName, method: str, budget: int,
    seed: int, plan: Callable[[int], PairPlan],
) -> Explanation:  # fmt: skip
    """The record of attributions found cell by cell; `plan` gives the pairs of coalitions for so many units."""
    from distillens.explainers.cells import cell_shapley

    phi, stderr, empty, grand = cell_shapley(
        model, inputs, background=background, units=units, target=target, scale=scale, plan=plan, seed=seed
    )
    return explanation_of(
        model, inputs, background, values=phi, stderr=stderr, empty=empty, grand=grand, units=units.names, target=target,
        scale=scale, method=method, exact=False, budget=budget, seed=seed,
    )  # fmt: skip

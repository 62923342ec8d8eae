"""`explain`: one call for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import InputError, did_you_mean
from distillens.explainers.base import EXPLAINERS, Explainer, Explanation
from distillens.explainers.blocks import explain_rows
from distillens.explainers.coalitions import fits
from distillens.named import resolve

if TYPE_CHECKING:
    from distillens.data.base import Inputs, Ints
    from distillens.models.base import Model, Scale

AUTO_BUDGET = 2048


def explain(
    model: Model,
    inputs: Inputs,
    *,
    method: str | Explainer = "auto",
    target: int | str | Sequence[int] | Ints | None = None,
    background: Inputs | None = None,
    budget: int | None = None,
    seed: int = 0,
    scale: Scale | None = None,
    keep: Path | None = None,
) -> Explanation:
    """Attributions of every row of `inputs`: of the features of a table, or of the patches of images.

    method: a name of `EXPLAINERS`, an explainer with its options, or "auto": exact Shapley values when all coalitions
    of the features fit the budget (2,048 unless given), KernelSHAP otherwise.
    target: a class index, one per row, a class name, or "predicted" (each row's top class). Default: class 1 of two, the
    predicted class of several; regression has none. background: rows that stand for "unknown", needed by Shapley methods.
    budget: coalitions per row and background row. scale: log_odds (for regression: the value) unless given; a glass-box model's own for `intrinsic`.
    keep: a folder where finished blocks of rows are kept, and found again when the same call is made after an interruption; remove it
    when the explanation is safe. Models without a fingerprint keep none (see explainers/blocks.py).
    Raises InputError (with "did you mean"), ModelError. Warns BudgetWarning when the budget is small.
    """
    explainer = chosen_explainer(method, len(inputs.columns), budget=budget, scale=scale)
    targets = resolve_target(model, inputs, target)
    return explain_rows(explainer, model, inputs, target=targets, background=background, seed=seed, keep=keep)


def resolve_target(model: Model, inputs: Inputs, target: int | str | Sequence[int] | Ints | None = None) -> Ints:
    """(n,) class index per row; zeros for regression, which has no classes. Raises InputError.

    A class that is called "predicted" wins over the word.
    """
    from distillens.models.base import evaluate

    n, classes = len(inputs), model.classes
    if not classes:
        return np.zeros(n, dtype=np.int64)
    if target is None:
        target = 1 if len(classes) == 2 else "predicted"
    if isinstance(target, str):
        if target in classes:
            return np.full(n, classes.index(target), dtype=np.int64)
        if target == "predicted":
            return np.asarray(evaluate(model, inputs).argmax(axis=1), dtype=np.int64)
        raise InputError(
            f"The model {model.label!r} has no class {target!r}.{did_you_mean(target, (*classes, 'predicted'))}"
        )
    index = np.asarray(target)
    if index.dtype.kind not in "iu" or index.ndim > 1 or (index.ndim == 1 and len(index) != n):
        raise InputError(
            f"A target should be a class index, a class name, 'predicted' or {n} class indices, but is {target!r}."
        )
    if index.size and (index.min() < 0 or index.max() >= len(classes)):
        raise InputError(
            f"Class indices of the model {model.label!r} run from 0 to {len(classes) - 1}, but {index.min()} to {index.max()} came."
        )
    return np.array(np.broadcast_to(index, (n,)), dtype=np.int64)


def chosen_explainer(method: object, units: int, *, budget: int | None = None, scale: Scale | None = None) -> Explainer:
    """The explainer that `explain` uses for `units` features. Raises InputError."""
    if method == "auto":
        budget = AUTO_BUDGET if budget is None else budget
        method = "exact_shapley" if fits(units, budget) else "kernel_shap"
    explainer: Any = resolve(method, EXPLAINERS, what="explainer")() if isinstance(method, str) else method
    if isinstance(explainer, type) or not callable(explainer) or not hasattr(explainer, "kind"):
        raise InputError(
            f"method should be 'auto', {', '.join(map(repr, EXPLAINERS))} or an explainer, but is {method!r}."
        )
    wanted: dict[str, Any] = {k: v for k, v in (("budget", budget), ("scale", scale)) if v is not None}
    known = {f.name for f in fields(explainer)} if is_dataclass(explainer) else set()
    for name in wanted:
        if name not in known:
            raise InputError(f"The explainer {explainer.kind!r} has no option {name!r}; leave it out.")
    chosen: Explainer = replace(explainer, **wanted) if wanted else explainer
    return chosen

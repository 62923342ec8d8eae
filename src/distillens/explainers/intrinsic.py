"""Contributions of models that explain themselves: linear terms, additive shape functions, tree paths.

Exact, without background rows or sampling: base + Σ_j φ_j is the model's own output. The base is the model's own too (an
intercept, a root's value), so single attributions differ from Shapley values by what each term is centred on.

For two classes the log-odds of class t are z_t − z_other, and so is every contribution: the difference of the two columns.
Log-odds of one class against several others are no sum of terms, so with more classes the scale is the class's own logit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from distillens.errors import InputError, ModelError
from distillens.explainers.settings import ScaleName, check_count, check_scale

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.explainers.base import Explanation, Need
    from distillens.models.base import Model


def target_contributions(
    contributions: Floats, base: Floats, *, available: ScaleName, target: Ints, scale: ScaleName | None
) -> tuple[Floats, Floats, ScaleName]:
    """(n, F) contributions and (n,) base of each row's target, and their scale.

    contributions: (n, F, K), base: (K,), adding up on the scale `available`. scale: the one wanted; None: log_odds for two
    logits, otherwise `available`. Raises InputError for a scale on which the contributions do not add up.
    """
    n, _, k = contributions.shape
    possible: tuple[ScaleName, ...] = ("log_odds", "logit") if available == "logit" and k == 2 else (available,)
    chosen = possible[0] if scale is None else scale
    if chosen not in possible:
        raise InputError(
            f"The contributions of this model add up on the scale {' or '.join(possible)}, not on {chosen!r}; leave the scale out or use a Shapley method."
        )
    if available == "value":
        return contributions[:, :, 0], np.full(n, base[0]), chosen
    rows = np.arange(n)
    own, start = contributions[rows, :, target], base[target]
    if chosen == "log_odds" and available == "logit":
        return own - contributions[rows, :, 1 - target], start - base[1 - target], chosen
    return own, start, chosen


@dataclass(frozen=True)
class Intrinsic:
    """A glass-box model's own contributions of the raw features.

    rows: how many test rows a pipeline explains; a call explains the rows it gets. scale: None = the model's own: log_odds for
    two classes, logit for more, probability for trees, value for regression.
    """

    kind: ClassVar[str] = "intrinsic"
    differentiable: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = frozenset({"structure"})

    rows: int = 100
    scale: ScaleName | None = None

    def __post_init__(self) -> None:
        check_count("intrinsic: rows", self.rows, least=1)
        check_scale(self.kind, self.scale, optional=True)

    def __call__(
        self,
        model: Model,
        inputs: Table,
        *,
        target: Ints,
        background: Table | None = None,  # noqa: ARG002 (every explainer is called alike; the base is the model's own)
        seed: int = 0,
    ) -> Explanation:
        """Explain every row; background and seed are not used.

        Raises ModelError when the model has no contributions or they have the wrong shape, InputError for a scale they do not add up on.
        """
        from distillens.explainers.base import Explanation, library_versions
        from distillens.models.base import IntrinsicModel, evaluate, on_scale

        if not isinstance(model, IntrinsicModel):
            raise ModelError(
                f"The model {model.label!r} ({type(model).__name__}) does not explain itself; linear, tree and additive models do. "
                "Use kernel_shap for this one."
            )
        if len(inputs) == 0:
            raise InputError("There are no rows to explain.")
        raw, base = model.contributions(inputs)
        expected = (len(inputs), len(inputs.columns), len(model.classes) or 1)
        if raw.shape != expected or base.shape != expected[2:]:
            raise ModelError(
                f"The model {model.label!r} should return contributions of shape {expected} and a base of shape {expected[2:]}, "
                f"but returned {raw.shape} and {base.shape}."
            )
        index = np.asarray(np.broadcast_to(target, (len(inputs),)), dtype=np.int64)
        values, start, scale = target_contributions(
            raw, base, available=model.contribution_scale, target=index, scale=self.scale
        )
        output = on_scale(evaluate(model, inputs), output=model.output, target=index, scale=scale)
        return Explanation(
            values=np.ascontiguousarray(values), base=start, output=output, residual=output - start - values.sum(axis=1), stderr=None,
            units=inputs.names, target=index, scale=scale, method=self.kind, exact=True, row_ids=inputs.row_ids,
            background_ids=np.empty(0, dtype=np.int64), budget=0, seed=seed, model_label=model.label,
            model_fingerprint=model.fingerprint, versions=library_versions("numpy"),
        )  # fmt: skip

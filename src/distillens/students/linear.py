"""Linear student: logistic, softmax or ridge regression on soft targets.

    classes: minimise  Σ_i w_i Σ_k −p_ik log softmax(z_i)_k / Σ w  +  l2/2 · ‖coefficients‖²     (the cross-entropy to soft labels)
    values:  minimise  Σ_i w_i (y_i − z_i)² / (2 Σ w)            +  l2/2 · ‖coefficients‖²

Binary tasks have one score, the log-odds of the second class. Numbers are standardised, so `l2` is per standard deviation; intercepts
are not penalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.models.linear import LinearModel
    from distillens.transfer.targets import Targets

MAX_ITERATIONS = 5000


@dataclass(frozen=True)
class LinearStudent:
    """l2: strength of the ridge penalty, on standardised numbers and mean loss.

    monotone: {feature: −1 | 0 | +1} for numeric and boolean features, binary tasks and regression: the sign of the coefficient of the
    log-odds of the second class, or of the value.
    """

    kind: ClassVar[str] = "linear"
    readable: ClassVar[bool] = True

    l2: float = 1e-3
    monotone: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        if not self.l2 >= 0:
            raise DataError(f"l2 must be zero or positive, got {self.l2}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> LinearModel:
        """Convex, so nothing is drawn or chosen: `validation`, `teacher` and `seed` do not matter. Raises DataError."""
        del validation, teacher, seed, out
        import numpy as np

        from distillens.errors import DataError
        from distillens.models.encoding import Encoding
        from distillens.models.linear import LinearModel
        from distillens.models.monotone import signs

        wanted = signs(self.monotone, targets.table)
        if wanted.any() and len(targets.classes) > 2:
            raise DataError(
                "Monotone constraints of a linear student are for binary tasks and regression: with more classes the sign of a "
                "coefficient does not fix the sign of its effect."
            )
        encoding = Encoding.fit(targets.table, weights=targets.weights)
        x = encoding(targets.table.values)
        weights = targets.weights / targets.weights.sum()
        sign = np.array(
            [wanted[j] if part == "value" else 0 for j, part in zip(encoding.feature, encoding.part, strict=True)]
        )
        if not targets.classes:
            coefficients, intercepts = least_squares(x, targets.outputs, weights, l2=self.l2, sign=sign)
        else:
            coefficients, intercepts = soft_cross_entropy(x, targets.probabilities, weights, l2=self.l2, sign=sign)
        return LinearModel(
            targets.table.columns, targets.classes, "linear", encoding, coefficients, intercepts, weights @ x
        )


def soft_cross_entropy(x: Floats, p: Floats, weights: Floats, *, l2: float, sign: Any) -> tuple[Floats, Floats]:
    """Coefficients (K', D) and intercepts (K',) that minimise the cross-entropy to soft labels (n, K) with weights (n,) that sum to 1.

    K = 2 has K' = 1: the loss is −p₁ z + log(1 + e^z). L-BFGS-B in float64; sign: (D,) bounds coefficients by zero, for K' = 1.
    """
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import expit, log_softmax

    from distillens.errors import NonFiniteLossError

    d, k = x.shape[1], 1 if p.shape[1] == 2 else p.shape[1]
    extended = np.column_stack([x, np.ones(len(x))])

    def loss(flat: Floats) -> tuple[float, Floats]:
        theta = flat.reshape(k, d + 1)
        z = extended @ theta.T
        if k == 1:
            value = weights @ (np.logaddexp(0.0, z[:, 0]) - p[:, 1] * z[:, 0])
            error = (expit(z[:, 0]) - p[:, 1])[:, None]
        else:
            logs = log_softmax(z, axis=1)
            value = -(weights @ (p * logs).sum(axis=1))
            error = np.exp(logs) - p
        slope = (weights[:, None] * error).T @ extended
        slope[:, :d] += l2 * theta[:, :d]
        return float(value + l2 / 2 * (theta[:, :d] ** 2).sum()), slope.reshape(-1)

    bounds = [*_bounds(sign), (None, None)] * k
    result = minimize(loss, np.zeros(k * (d + 1)), jac=True, method="L-BFGS-B", bounds=bounds,
                      options={"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30})  # fmt: skip
    if not np.isfinite(result.fun):
        raise NonFiniteLossError(
            "The loss of the linear student is not finite; look for extreme values in the features."
        )
    theta = result.x.reshape(k, d + 1)
    return theta[:, :d].copy(), theta[:, d].copy()


def least_squares(x: Floats, y: Floats, weights: Floats, *, l2: float, sign: Any) -> tuple[Floats, Floats]:
    """Coefficients (1, D) and intercept (1,) of weighted ridge regression on (n, 1) values, with signs where asked for."""
    import numpy as np
    from scipy.optimize import lsq_linear

    mean_x, mean_y = weights @ x, float(weights @ y[:, 0])  # the optimal intercept, so it is not penalised
    root = np.sqrt(weights)[:, None]
    design = np.vstack([root * (x - mean_x), np.sqrt(l2) * np.eye(x.shape[1])])
    aim = np.concatenate([root[:, 0] * (y[:, 0] - mean_y), np.zeros(x.shape[1])])
    if np.any(sign):
        low, high = zip(*_bounds(sign), strict=True)
        bounds = ([-np.inf if b is None else b for b in low], [np.inf if b is None else b for b in high])
        beta = lsq_linear(design, aim, bounds=bounds, method="bvls", tol=1e-12).x
    else:
        beta = np.linalg.lstsq(design, aim, rcond=None)[0]
    return beta[None, :], np.array([mean_y - float(mean_x @ beta)])


def _bounds(sign: Any) -> list[tuple[float | None, float | None]]:
    return [(0.0, None) if s > 0 else (None, 0.0) if s < 0 else (None, None) for s in sign]

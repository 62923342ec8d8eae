"""Soft decision tree student (Frosst & Hinton 2017, "Distilling a Neural Network Into a Soft Decision Tree").

With the path probabilities P_ℓ(x) of `models/soft_tree.py`, the teacher's distribution T(x) and reach P_i(x) of inner node i:

    loss    = mean_x Σ_ℓ P_ℓ(x) · ( −Σ_k T_k(x) log Q_ℓk )
    α_i     = Σ_x P_i(x) p_i(x) / Σ_x P_i(x)                              the share of node i's rows that go right, in a batch
    penalty = −λ Σ_i 2^(−depth of i) · ½ ( log α_i + log(1 − α_i) )       which keeps both branches in use

Equation 2 of the paper prints the loss as −log of a sum of P_ℓ Σ_k T_k log Q_ℓk, the logarithm of a negative number; this is the expected
cross-entropy that its text describes. It is never below the cross-entropy of the mixture (Jensen), and trains every leaf to stand alone,
which is what a hard path needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.models.soft_tree import SoftTreeModel
    from distillens.transfer.targets import Targets

TINY = 1e-6  # α stays this far from 0 and 1, so that the penalty stays finite


@dataclass(frozen=True)
class SoftTreeStudent:
    """depth: questions on a path; 2^depth leaves. path: "hard" answers with one leaf, "soft" with the mixture of all.

    beta: inverse temperature of the branches; larger is sharper. penalty: λ. epochs, batch_size ("auto": about an eighth of the rows,
    32 to 512), learning_rate, weight_decay: of AdamW; the epoch with
    the best validation cross-entropy, answered by `path`, is kept. patience: epochs without a better one after which training stops.
    """

    kind: ClassVar[str] = "soft_tree"
    readable: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")

    depth: int = 3
    path: Literal["hard", "soft"] = "hard"
    beta: float = 1.0
    penalty: float = 0.1
    epochs: int = 200
    batch_size: int | Literal["auto"] = "auto"
    learning_rate: float = 0.02
    weight_decay: float = 1e-3
    patience: int = 30

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        for name, low in (("depth", 1), ("epochs", 1), ("patience", 1)):
            if getattr(self, name) < low:
                raise DataError(f"{name} must be at least {low}, got {getattr(self, name)}.")
        if self.batch_size != "auto" and self.batch_size < 1:
            raise DataError(f"batch_size must be auto or at least 1, got {self.batch_size!r}.")
        if self.depth > 8:
            raise DataError(f"depth must be at most 8 (256 leaves, more than people read), got {self.depth}.")
        for name in ("beta", "learning_rate"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in ("penalty", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} must be zero or positive, got {getattr(self, name)}.")
        if self.path not in ("hard", "soft"):
            raise DataError(f"path must be hard or soft, got {self.path!r}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> SoftTreeModel:
        """`seed` draws the first weights and the batches. Raises DataError, also for regression; NonFiniteLossError."""
        del out
        import numpy as np
        import torch

        from distillens.errors import DataError, NonFiniteLossError
        from distillens.models.base import as_probabilities, evaluate
        from distillens.models.encoding import Encoding
        from distillens.models.soft_tree import SoftTreeModel, reach
        from distillens.models.threads import one_thread
        from distillens.progress import task
        from distillens.transfer.targets import Targets as Aims

        if len(targets.classes) < 2:
            raise DataError(
                "A soft decision tree has distributions over classes at its leaves; use tree for regression."
            )
        if not len(validation):
            raise DataError("Validation has no rows; a soft tree needs some to choose its epoch.")
        encoding = Encoding.fit(targets.table, weights=targets.weights)
        e, t, w = encoding(targets.table.values), targets.probabilities, targets.weights / targets.weights.mean()
        if teacher is None:
            wanted = Aims.from_labels(validation, targets.classes).probabilities
        else:
            wanted = as_probabilities(evaluate(teacher, validation.inputs), teacher.output)
        heaviness = np.ones(len(validation)) if validation.weights is None else validation.weights
        spread = np.sqrt(np.average((e - np.average(e, axis=0, weights=w)) ** 2, axis=0, weights=w))

        def assembled(weights: Tensor, biases: Tensor, leaves: Tensor) -> SoftTreeModel:
            found = [p.detach().numpy().copy() for p in (weights, biases, leaves)]
            scores = e @ found[0].T + found[1]
            visits = np.average(reach((scores > 0).astype(np.float64), self.depth), axis=0, weights=w)
            return SoftTreeModel(
                targets.classes, "soft tree", encoding, found[0], found[1], found[2], float(self.beta), self.path, spread, visits
            )  # fmt: skip

        generator = torch.Generator().manual_seed(seed)
        inner = 2**self.depth - 1
        weights = torch.randn(inner, e.shape[1], generator=generator, dtype=torch.float64) / max(e.shape[1], 1) ** 0.5
        biases = torch.zeros(inner, dtype=torch.float64)
        prior = torch.from_numpy(np.log(np.maximum(np.average(t, axis=0, weights=w), 1e-3)))
        leaves = prior + 0.1 * torch.randn(inner + 1, t.shape[1], generator=generator, dtype=torch.float64)
        parameters = [p.requires_grad_() for p in (weights, biases, leaves)]
        groups = [{"params": parameters[:1], "weight_decay": self.weight_decay}, {"params": parameters[1:], "weight_decay": 0.0}]  # fmt: skip
        rows, soft, heavy = (torch.from_numpy(a) for a in (e, t, w))
        size = min(512, max(32, len(rows) // 8)) if self.batch_size == "auto" else self.batch_size
        best, lowest, waited = assembled(*parameters), float("inf"), 0
        with one_thread(), task("soft tree", total=self.epochs, unit="epochs") as advance:
            optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
            for _ in range(self.epochs):
                for batch in torch.split(torch.randperm(len(rows), generator=generator), size):
                    loss, kept = objective(rows[batch], soft[batch], heavy[batch], *parameters, beta=self.beta)
                    total = loss + self.penalty * kept
                    if not torch.isfinite(total):
                        raise NonFiniteLossError("The loss of the soft tree is not finite; lower the learning rate.")
                    optimizer.zero_grad()
                    total.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                advance(1)
                model = assembled(*parameters)
                found = cross_entropy(model(validation.table), wanted, heaviness)
                if found < lowest:
                    best, lowest, waited = model, found, 0
                else:
                    waited += 1
                    if waited >= self.patience:
                        break
        return best


def objective(
    rows: Tensor, soft: Tensor, heavy: Tensor, weights: Tensor, biases: Tensor, leaves: Tensor, *, beta: float
) -> tuple[Tensor, Tensor]:
    """Loss and penalty (for λ = 1), as at the top of this file; rows: (B, D), soft: (B, K) targets, heavy: (B,) row weights."""
    import torch

    depth = len(leaves).bit_length() - 1
    right = torch.sigmoid(beta * (rows @ weights.T + biases))
    through = [torch.ones(len(rows), 1, dtype=rows.dtype)]
    penalty = torch.zeros((), dtype=rows.dtype)
    for d in range(depth):
        p = right[:, 2**d - 1 : 2 ** (d + 1) - 1]
        here = heavy[:, None] * through[-1]
        alpha = ((here * p).sum(dim=0) / here.sum(dim=0).clamp_min(1e-300)).clamp(TINY, 1 - TINY)
        penalty = penalty - 2.0**-d * 0.5 * (torch.log(alpha) + torch.log1p(-alpha)).sum()
        through.append(torch.stack([through[-1] * (1 - p), through[-1] * p], dim=2).flatten(1))
    each = -soft @ torch.log_softmax(leaves, dim=1).T  # (B, leaves) cross-entropy to every leaf
    return (heavy * (through[-1] * each).sum(dim=1)).sum() / heavy.sum(), penalty


def cross_entropy(probabilities: Floats, wanted: Floats, weights: Floats) -> float:
    """Weighted mean −Σ_k wanted_k log p_k of (n, K) distributions, p floored at 1e-12."""
    import numpy as np

    return float(np.average(-(wanted * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1), weights=weights))

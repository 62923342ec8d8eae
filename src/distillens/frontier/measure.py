"""From the answers of fits to numbers: fidelity to the teacher and performance on the labels, on shared resamples of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.intervals import Quantity, Resamples, Statistic
from distillens.metrics.performance import log_loss, roc_auc
from distillens.metrics.prediction import agrees, r2_to_teacher, rmse
from distillens.models.base import Decision, as_probabilities, evaluate, log_odds, log_probabilities
from distillens.similarity import Floats, kl_divergence

if TYPE_CHECKING:
    from distillens.data.base import Split
    from distillens.models.base import Model, Output

SHARES = ("agreement", "accuracy")


@dataclass(frozen=True, eq=False)
class Scale:
    """Rows with the teacher's answers to them (n, K), their labels if known, and resamples that every metric and model shares."""

    resamples: Resamples
    answers: Floats
    output: Output
    labels: NDArray[Any] | None
    decide: Decision

    @classmethod
    def of(cls, rows: Split, teacher: Model, *, decision: Decision | None, draws: int, seed: int) -> Scale:
        resamples = Resamples(len(rows), clusters=rows.groups, weights=rows.weights, draws=draws, seed=seed)
        labels = None if rows.labels is None else np.asarray(rows.labels)
        return cls(resamples, evaluate(teacher, rows.inputs), teacher.output, labels, decision or Decision())

    @property
    def fidelity_metric(self) -> str:
        """What the front is about: higher is closer to the teacher."""
        return "r2_to_teacher" if self.output == "values" else "agreement"

    @property
    def performance_metric(self) -> str | None:
        """What performance is about; None without labels."""
        if self.labels is None:
            return None
        return "r2" if self.output == "values" else "roc_auc" if self.answers.shape[1] == 2 else "accuracy"

    def fidelity(self, outputs: Floats, output: Output) -> dict[str, Quantity]:
        """From (S, n, K) answers of S fits of one student: each metric's mean over the fits."""
        if output == "values":
            return {
                "r2_to_teacher": self._mean_of([partial(r2_to_teacher, self.answers[:, 0], o[:, 0]) for o in outputs]),
                "rmse_to_teacher": self._mean_of([partial(rmse, self.answers[:, 0], o[:, 0]) for o in outputs]),
            }
        own = log_probabilities(self.answers, self.output)
        apart = np.mean([kl_divergence(own, log_probabilities(o, output)) for o in outputs], axis=0)
        return {
            "agreement": self._share(self._agreeing(outputs, output).mean(axis=0)),
            "kl": self.resamples.mean(apart),
        }

    def performance(self, outputs: Floats, output: Output) -> dict[str, Quantity]:
        """The same against the labels; empty without any."""
        if self.labels is None:
            return {}
        if output == "values":
            truth = self.labels.astype(np.float64)
            return {
                "r2": self._mean_of([partial(r2_to_teacher, truth, o[:, 0]) for o in outputs]),
                "rmse": self._mean_of([partial(rmse, truth, o[:, 0]) for o in outputs]),
            }
        labels = self.labels.astype(np.int64)
        right = np.mean([agrees(labels, self.decide(as_probabilities(o, output))) for o in outputs], axis=0)
        loss = np.mean([log_loss(log_probabilities(o, output), labels) for o in outputs], axis=0)
        found = {"accuracy": self._share(right), "log_loss": self.resamples.mean(loss)}
        if outputs.shape[2] == 2:
            adverse = self.decide.adverse
            scores = [log_odds(o, output=output, target=adverse) for o in outputs]
            found["roc_auc"] = self._mean_of([roc_auc(score, labels == adverse) for score in scores])
        return found

    def spread(self, outputs: Floats, output: Output) -> dict[str, float | int] | None:
        """The fidelity metric of each of S fits: how many, mean, standard deviation, smallest, largest. None for fewer than two."""
        weights = self.resamples.base[None, :]
        if output == "values":
            values = np.array([float(r2_to_teacher(self.answers[:, 0], o[:, 0], weights)[0]) for o in outputs])
        else:
            values = self._agreeing(outputs, output) @ weights[0] / weights.sum()
        if len(values) < 2 or not np.isfinite(values).all():
            return None
        sd = float(values.std(ddof=1)) if np.ptp(values) > 1e-12 else 0.0  # rounding is no variation
        return {"fits": len(values), "value": float(values.mean()), "sd": sd, "low": float(values.min()),
                "high": float(values.max())}  # fmt: skip

    def _agreeing(self, outputs: Floats, output: Output) -> Floats:
        """(S, n) whether each fit decides as the teacher."""
        decided = self.decide(as_probabilities(self.answers, self.output))
        return np.stack([agrees(decided, self.decide(as_probabilities(o, output))) for o in outputs])

    def _share(self, per_row: Floats) -> Quantity:
        """A share: with an exact interval where all fits say the same of every row, else as a mean of shares."""
        same = bool(((per_row == 0) | (per_row == 1)).all())
        return self.resamples.proportion(per_row) if same else self.resamples.mean(per_row)

    def _mean_of(self, statistics: Sequence[Statistic | Callable[[Floats], Floats]]) -> Quantity:
        return self.resamples.statistic(lambda w: np.asarray(np.mean([of(w) for of in statistics], axis=0)))

"""`Metric`: what a number is called, what it means and which way is better; `METRICS`: all of them by name.

This module imports nothing heavy: listing the metrics and checking a recipe's gates must stay quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["prediction", "performance", "calibration", "reasons", "behaviour", "faithfulness"]
Unit = Literal["share", "value", "nats", "log_odds", "features"]
Task = Literal["binary", "multiclass", "regression"]

EVERY: frozenset[Task] = frozenset(("binary", "multiclass", "regression"))
CLASSES: frozenset[Task] = frozenset(("binary", "multiclass"))
BINARY: frozenset[Task] = frozenset(("binary",))
SCORED: frozenset[Task] = frozenset(("binary", "regression"))
NUMBERS: frozenset[Task] = frozenset(("regression",))


@dataclass(frozen=True)
class Metric:
    """One metric.

    name: as in recipes and the audit. scope: the section it belongs to. unit: how to print it.
    higher_is_better: True, False, or None where neither direction is good in itself.
    text: what it measures, in one sentence without the numbers. path: the pure function, "module:function".
    tasks: where it applies. needs: what beside the two models: labels, explanations, background, reference (rows they were developed on).
    of: "pair" compares student and teacher; "model" is computed for each model by itself.
    """

    name: str
    scope: Scope
    unit: Unit
    higher_is_better: bool | None
    text: str
    path: str
    tasks: frozenset[Task] = EVERY
    needs: frozenset[str] = frozenset()
    of: Literal["pair", "model"] = "pair"


_LABELS = frozenset(("labels",))
_EXPLANATIONS = frozenset(("explanations",))
_P, _Q, _S, _C, _R, _B = (f"distillens.metrics.{m}:" for m in ("prediction", "performance", "stability", "calibration", "reasons", "behaviour"))  # fmt: skip

_ALL = (
    # prediction: the student against the teacher
    Metric("agreement", "prediction", "share", True,
           "share of rows where the student decides as the teacher", _P + "agrees", CLASSES),
    Metric("agreement_adverse", "prediction", "share", True,
           "the same among rows that the teacher decides adversely", _P + "agrees", BINARY),
    Metric("agreement_favourable", "prediction", "share", True,
           "the same among rows that the teacher decides favourably", _P + "agrees", BINARY),
    Metric("cohen_kappa", "prediction", "value", True,
           "agreement beyond what the two models' decision rates give by chance (1 perfect, 0 chance)",
           _P + "cohen_kappa", CLASSES),
    Metric("kl", "prediction", "nats", False,
           "mean Kullback-Leibler divergence of the student's from the teacher's probabilities",
           "distillens.similarity:kl_divergence", CLASSES),
    Metric("js", "prediction", "nats", False, "mean Jensen-Shannon divergence of the two models' probabilities",
           "distillens.similarity:js_divergence", CLASSES),
    Metric("total_variation", "prediction", "share", False,
           "mean probability mass that has to move from the teacher's to the student's answer",
           "distillens.similarity:total_variation", CLASSES),
    Metric("log_odds_r2", "prediction", "value", True,
           "share of the teacher's variance in log-odds that the student's log-odds reproduce (1 perfect, may be negative)",
           _P + "r2_to_teacher", CLASSES),
    Metric("log_odds_spearman", "prediction", "value", True, "rank correlation of the two models' log-odds",
           "distillens.similarity:weighted_spearman", CLASSES),
    Metric("good_flips", "prediction", "share", None, "share of rows where the teacher is wrong and the student right",
           _P + "flips", CLASSES, _LABELS),
    Metric("bad_flips", "prediction", "share", False, "share of rows where the teacher is right and the student wrong",
           _P + "flips", CLASSES, _LABELS),
    Metric("agreement_teacher_right", "prediction", "share", True, "agreement among rows where the teacher is right",
           _P + "agrees", CLASSES, _LABELS),
    Metric("agreement_teacher_wrong", "prediction", "share", None,
           "agreement among rows where the teacher is wrong: errors handed down", _P + "agrees", CLASSES, _LABELS),
    Metric("error_copy_ratio", "prediction", "value", None,
           "how many times more often the student errs where the teacher errs than it errs overall (1: independent)",
           _P + "error_copy_ratio", CLASSES, _LABELS),
    Metric("score_psi", "prediction", "value", False,
           "population stability index of the student's score against the teacher's (below 0.1 is commonly called stable)",
           _S + "score_psi", BINARY),
    Metric("r2_to_teacher", "prediction", "value", True,
           "share of the variance of the teacher's values that the student reproduces", _P + "r2_to_teacher", NUMBERS),
    Metric("rmse_to_teacher", "prediction", "value", False, "root mean squared difference of the two models' values",
           _P + "rmse", NUMBERS),
    Metric("spearman_to_teacher", "prediction", "value", True, "rank correlation of the two models' values",
           "distillens.similarity:weighted_spearman", NUMBERS),
    Metric("within_tolerance", "prediction", "share", True,
           "share of rows where the student's value is within the tolerance of the teacher's", _P + "within", NUMBERS),
    # performance: each model against the labels
    Metric("accuracy", "performance", "share", True, "share of rows decided as labelled", _P + "agrees", CLASSES,
           _LABELS, "model"),
    Metric("roc_auc", "performance", "value", True,
           "area under the ROC curve: chance that a random adverse row scores above a random favourable one",
           _Q + "roc_auc", BINARY, _LABELS, "model"),
    Metric("pr_auc", "performance", "value", True, "average precision of the adverse class", _Q + "average_precision",
           BINARY, _LABELS, "model"),
    Metric("ks", "performance", "value", True, "largest distance between the score distributions of the two classes",
           _Q + "kolmogorov_smirnov", BINARY, _LABELS, "model"),
    Metric("gini", "performance", "value", True, "2 × ROC-AUC − 1", _Q + "gini", BINARY, _LABELS, "model"),
    Metric("population_psi", "performance", "value", False,
           "population stability index of the model's score between its development rows and these (below 0.1 is commonly called stable)",
           _S + "psi", SCORED, frozenset(("reference",)), "model"),
    Metric("log_loss", "performance", "nats", False, "mean negative log-probability of the true class",
           _Q + "log_loss", CLASSES, _LABELS, "model"),
    Metric("rmse", "performance", "value", False, "root mean squared error", _P + "rmse", NUMBERS, _LABELS, "model"),
    Metric("r2", "performance", "value", True, "share of the variance of the labels that is explained",
           _P + "r2_to_teacher", NUMBERS, _LABELS, "model"),
    Metric("spearman", "performance", "value", True, "rank correlation with the labels",
           "distillens.similarity:weighted_spearman", NUMBERS, _LABELS, "model"),
    # calibration
    Metric("brier", "calibration", "value", False, "mean squared error of the probabilities", _C + "brier", CLASSES,
           _LABELS, "model"),
    Metric("calibration_slope", "calibration", "value", None,
           "slope of the labels' log-odds on the model's (1 ideal; below 1: too extreme)", _C + "calibration_slope",
           BINARY, _LABELS, "model"),
    Metric("calibration_intercept", "calibration", "log_odds", None,
           "log-odds by which the model is too low on average (0 ideal)", _C + "calibration_intercept", BINARY, _LABELS,
           "model"),
    Metric("net_benefit", "calibration", "value", True,
           "true adverse decisions minus false ones weighted by the odds of the threshold, per row", _C + "net_benefit",
           BINARY, _LABELS, "model"),
    Metric("ece", "calibration", "value", False,
           "root mean squared gap between probability and frequency over equal-mass bins, debiased; shown, never gated",
           _C + "ece", CLASSES, _LABELS, "model"),
    # reasons: the two explanations of each row
    Metric("top_k_overlap", "reasons", "share", True, "share of the k main reasons that are the same",
           _R + "top_k_overlap", EVERY, _EXPLANATIONS),
    Metric("sign_agreement", "reasons", "share", True,
           "share of the k main reasons that are the same and point the same way", _R + "sign_agreement", EVERY,
           _EXPLANATIONS),
    Metric("rank_agreement", "reasons", "share", True,
           "share of the k main reasons that are the same at the same place of the ranking", _R + "rank_agreement",
           EVERY, _EXPLANATIONS),
    Metric("signed_rank_agreement", "reasons", "share", True,
           "share of the k main reasons that are the same, at the same place, pointing the same way",
           _R + "signed_rank_agreement", EVERY, _EXPLANATIONS),
    Metric("reason_spearman", "reasons", "value", True, "mean Spearman correlation of the contributions of each row",
           "distillens.similarity:spearman", EVERY, _EXPLANATIONS),
    Metric("reason_kendall", "reasons", "value", True, "mean Kendall tau-b of the contributions of each row",
           "distillens.similarity:kendall_tau_b", EVERY, _EXPLANATIONS),
    Metric("reason_rbo", "reasons", "share", True, "mean rank-biased overlap (p = 0.8) of the rankings by importance",
           _R + "rank_biased_overlap", EVERY, _EXPLANATIONS),
    Metric("reason_cosine", "reasons", "value", True, "mean cosine of the contributions of each row",
           "distillens.similarity:cosine", EVERY, _EXPLANATIONS),
    Metric("mass_overlap", "reasons", "share", True, "share of the absolute contribution that both models place alike",
           _R + "mass_overlap", EVERY, _EXPLANATIONS),
    # behaviour: the two models' outputs under the same masks
    Metric("mask_correlation", "behaviour", "value", True,
           "mean correlation of the two models' output changes under the same masks", _B + "mask_correlation", EVERY,
           frozenset(("background",))),
    Metric("deletion_fall", "behaviour", "log_odds", None,
           "how far the output falls when the teacher's k main reasons are removed", _B + "aligned_fall", EVERY,
           frozenset(("background", "explanations"))),
    Metric("deletion_ratio", "behaviour", "value", None,
           "the student's fall divided by the teacher's when the teacher's k main reasons are removed (1: the same)",
           _B + "fall_ratio", EVERY, frozenset(("background", "explanations"))),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

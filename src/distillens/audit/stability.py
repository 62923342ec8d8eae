"""Do the audited rows come from the population that the models were developed on? Stability indices with intervals, for scores and features."""

from __future__ import annotations

import numpy as np

from distillens.audit.answers import Case, answers_of
from distillens.audit.measured import Measured
from distillens.data.base import Column, Floats, Ints, Table, as_table
from distillens.intervals import Quantity, Resamples
from distillens.metrics.base import METRICS
from distillens.metrics.stability import members, one_hot, psi, reference_cuts, unshifted
from distillens.store import JSON

MOST_REFERENCE = 10_000  # development rows used at most, drawn at random
NOTE = "both samples are resampled, which adds noise to every bin: the upper end is cautious"


class Stability:
    """Compares the rows of a case with reference rows, resampling both; the models' scores are asked for once."""

    def __init__(self, case: Case, reference: Table, weights: Floats | None) -> None:
        rng = np.random.default_rng([case.seed, 1])
        if len(reference) > MOST_REFERENCE:
            kept = np.sort(rng.choice(len(reference), MOST_REFERENCE, replace=False))
            reference, weights = reference.take(kept), None if weights is None else weights[kept]
        self.case, self.reference = case, reference
        self.then = Resamples(
            len(reference), weights=weights, draws=case.resamples.draws, seed=int(rng.integers(2**31))
        )
        self.sizes = (_effective(self.then.base), _effective(case.resamples.base))

    def compare(self, then: Ints, now: Ints, bins: int) -> tuple[Quantity, int]:
        """The index of two samples whose rows are in these bins, and how many bins hold a row."""
        samples = [(resamples, one_hot(of, bins)) for resamples, of in ((self.then, then), (self.case.resamples, now))]
        (point_p, draws_p), (point_q, draws_q) = (resamples.masses(inside) for resamples, inside in samples)
        used = (point_p > 0) | (point_q > 0)
        rows = [resamples.base.sum() / resamples.n for resamples, _ in samples]
        point = psi(point_p[None], point_q[None], expected_row=rows[0], actual_row=rows[1])[0]
        # an average row of a resample weighs what its rows weigh
        drawn = [
            draws.sum(axis=1) / resamples.n for draws, (resamples, _) in zip((draws_p, draws_q), samples, strict=True)
        ]
        index = psi(draws_p[:, used], draws_q[:, used], expected_row=drawn[0], actual_row=drawn[1])
        now_n = len(self.case)
        clusters = self.case.resamples.clusters
        units = now_n if clusters is None else len(np.unique(clusters))
        made = Quantity(float(point), index, now_n, 0, None if clusters is None else units, float(units), self.sizes[1],
                        seed=self.case.resamples.seed, note=NOTE)  # fmt: skip
        return made, int(used.sum())

    def score(self, role: str) -> tuple[Quantity, int]:
        """The index of one model's score: the log-odds of the explained class, or the value."""
        case, model = self.case, self.case.models[role]
        target = np.full(len(self.reference), case.target[0], dtype=np.int64)
        then = answers_of(model, self.reference, decision=case.decision, target=target).score
        cuts = reference_cuts(then, self.then.base)
        return self.compare(members(then, cuts), members(case.answers[role].score, cuts), len(cuts) + 2)

    def feature(self, j: int) -> tuple[Quantity, int]:
        """The index of one feature."""
        column, then, now = (
            self.reference.columns[j],
            self.reference.values[:, j],
            as_table(self.case.inputs).values[:, j],
        )
        if column.kind == "numeric":
            known = ~np.isnan(then)
            cuts = reference_cuts(then[known], self.then.base[known])
            return self.compare(members(then, cuts), members(now, cuts), len(cuts) + 2)
        return self.compare(_levels(column, then), _levels(column, now), len(column.categories) + 2)

    def noise(self, bins: int, level: float) -> float:
        """What the index stays below with probability `level` although nothing shifted."""
        return unshifted(bins, *self.sizes, level=level)


def measure_stability(
    case: Case, reference: Table, weights: Floats | None, *, level: float
) -> tuple[list[Measured], JSON]:
    """The index of every model's score as a metric, and a record with each feature's."""
    found = Stability(case, reference, weights)
    metric, measured, scores = METRICS["population_psi"], [], {}
    if case.task in metric.tasks:
        of = {role: found.score(role) for role in case.models}
        controls = {role: of[role][0] for role in case.controls}
        measured = [Measured(metric, of["student"][0], teacher=of["teacher"][0], controls=controls)]
        scores = {role: _entry(found, *of[role], level) for role in ("teacher", "student")}
    features = [
        {"name": column.name} | _entry(found, *found.feature(j), level)
        for j, column in enumerate(found.reference.columns)
    ]
    record = {"reference_rows": len(found.reference), "rows": len(case), "scores": scores, "features": features}
    return measured, record


def _entry(found: Stability, index: Quantity, bins: int, level: float) -> JSON:
    return {"psi": index.estimate(level).to_json(), "bins": bins, "unshifted": found.noise(bins, level)}


def _levels(column: Column, codes: Floats) -> Ints:
    """(n,) bin of each code: its own, then unseen, then missing."""
    count = len(column.categories)
    filled = np.where(np.isnan(codes), count + 1, np.where(codes < 0, count, codes))
    return filled.astype(np.int64)


def _effective(weights: Floats) -> float:
    """Kish's effective number of rows."""
    return float(weights.sum() ** 2 / (weights**2).sum())

"""Disagreement queries: ask the teacher where the current student is wrong about it, fit again, and so on.

After DAgger (Ross, Gordon and Bagnell 2011, "A Reduction of Imitation Learning and Structured Prediction to No-Regret
Online Learning"), as Bastani et al. 2018 (VIPER) use it for trees: every round adds rows chosen by what the last student
did, and the next one is fitted on everything so far. Here the rows are drawn from made-up candidates in proportion to the
disagreement: taking only the worst would collect the candidates that are furthest from any data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.base import Table
from distillens.errors import InputError
from distillens.models.base import evaluate, log_probabilities
from distillens.transfer.rows.manifold import Manifold
from distillens.transfer.rows.queries import add_queries, distance_to_teacher, smear

if TYPE_CHECKING:
    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.transfer.targets import Family, Targets

Propose = Callable[[Table, int, int], Table]  # (training rows, number, seed) → candidate rows
Heard = Callable[..., None]  # (round, queries so far, targets, model, validation distance, its folder)


@dataclass(frozen=True, eq=False)
class Rounds:
    """targets, model: of the best round. tried: {round, queries, validation} of every round, `validation` as in
    `distance_to_teacher`. best: its index in `tried`."""

    targets: Targets
    model: Model
    tried: tuple[dict[str, Any], ...]
    best: int


def disagreement(student: Model, teacher: Model, rows: Table) -> Floats:
    """(n,) KL(teacher ‖ student) in nats, or the absolute difference of the values for regression."""
    said, taught = evaluate(student, rows), evaluate(teacher, rows)
    if not teacher.classes:
        return np.asarray(np.abs(said[:, 0] - taught[:, 0]), dtype=np.float64)
    log_t, log_s = log_probabilities(taught, teacher.output), log_probabilities(said, student.output)
    # Rounding and the floor of probabilities can leave a divergence a hair below 0.
    return np.asarray(np.maximum((np.exp(log_t) * (log_t - log_s)).sum(axis=1), 0.0), dtype=np.float64)


def disputed(student: Model, teacher: Model, candidates: Table, *, rows: int, seed: int) -> Table:
    """At most `rows` of the candidates, without repetition, drawn with probability in proportion to the disagreement.

    Candidates on which the two agree exactly are never drawn, so that there may be fewer, or none.
    """
    weight = disagreement(student, teacher, candidates)
    possible = np.flatnonzero(weight > 0)
    count = min(rows, len(possible))
    if count < 1:
        return candidates.take(np.empty(0, dtype=np.int64))
    rng = np.random.default_rng(seed)
    drawn = rng.choice(possible, size=count, replace=False, p=weight[possible] / weight[possible].sum())
    return candidates.take(np.sort(drawn))


def by_disagreement(
    student: Family, targets: Targets, teacher: Model, validation: Split, *,
    per_round: float = 1.0, rounds: int = 5, patience: int = 2, pool: float = 8.0, least: float = 0.05, share: float = 1.0,
    propose: Propose | None = None, start: Model | None = None, heard: Heard | None = None,
    folder: Callable[[], Path | None] | None = None, seed: int,
) -> Rounds:  # fmt: skip
    """Fit, query where student and teacher disagree, fit again; the round closest to the teacher on validation is kept.

    per_round, pool: queries a round and candidates to draw them from, per training row. rounds: after the first fit, at
    most. patience: rounds without a better validation distance before stopping. least: on-manifold score a candidate
    needs (`Manifold.score`; 0 keeps all). share: weight of all queries together relative to all training rows.
    propose: makes the candidates; None: smeared rows. start: a student fitted without queries already, by the same seed. heard: told of
    every round. folder: where a fit writes, asked before each. Because the round is chosen on them, validation rows say too much
    good of the result; test rows do not. Raises InputError, and what a fit raises.
    """
    if not (per_round > 0 and pool >= per_round) or rounds < 1 or patience < 1:
        raise InputError(
            "Disagreement queries need per_round > 0, a pool of at least per_round, and at least one round and patience of one; "
            f"got {per_round!r}, {pool!r}, {rounds!r} and {patience!r}."
        )
    train = targets.table.take(np.flatnonzero(~targets.is_query))
    manifold = Manifold.of(train) if least > 0 else None
    seeds = np.random.default_rng(seed).integers(2**31, size=(rounds, 2))
    queries = train.take(np.empty(0, dtype=np.int64))
    taught = add_queries(targets, teacher, queries, share=share)
    place = folder() if folder is not None and start is None else None
    model = start
    if model is None:
        model = student.fit(taught, validation=validation, teacher=teacher, seed=seed, out=place)
    best = (distance_to_teacher(model, teacher, validation), taught, model)
    if heard is not None:
        heard(0, queries, taught, model, best[0], place)
    tried: list[dict[str, Any]] = [{"round": 0, "queries": 0, "validation": best[0]}]
    chosen = 0
    for number in range(1, rounds + 1):
        made, drawn = (int(x) for x in seeds[number - 1])
        wanted = round(pool * len(train))
        candidates = smear(train, rows=wanted, seed=made) if propose is None else propose(train, wanted, made)
        if manifold is not None:
            candidates = manifold.keep(candidates, least=least)
        fresh = disputed(model, teacher, candidates, rows=max(1, round(per_round * len(train))), seed=drawn)
        if not len(fresh):  # nothing left to dispute
            break
        queries = Table.concatenate([queries, fresh])
        taught = add_queries(targets, teacher, queries, share=share)
        place = None if folder is None else folder()
        model = student.fit(taught, validation=validation, teacher=teacher, seed=seed, out=place)
        distance = distance_to_teacher(model, teacher, validation)
        if heard is not None:
            heard(number, queries, taught, model, distance, place)
        tried.append({"round": number, "queries": len(queries), "validation": distance})
        if distance < best[0]:
            best, chosen = (distance, taught, model), number
        elif number - chosen >= patience:
            break
    return Rounds(best[1], best[2], tuple(tried), chosen)

"""The explanations an audit compares: those it was given, or its own on a sample of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from distillens.audit.answers import Case
from distillens.audit.findings import left_out
from distillens.audit.reasons import Explained, match

if TYPE_CHECKING:
    from distillens.data.base import Inputs, Ints
    from distillens.explainers.base import Explanation
    from distillens.store import JSON


def sample(case: Case, rows: int) -> Ints:
    """Positions of at most `rows` rows, drawn at random."""
    chosen = np.random.default_rng(case.seed).permutation(len(case))[:rows]
    return np.sort(chosen).astype(np.int64)


def explanations_of(
    case: Case,
    explanations: Mapping[str, Mapping[str, Explanation]] | None,
    explainers: Sequence[str],
    background: Inputs | None,
    max_explained: int,
    missing: list[JSON],
    repeatability: bool,
) -> list[Explained]:
    """The explanations given, or made here when there is a background."""
    if explanations is None and background is not None and explainers:
        explanations = dict(_explain(case, name, background, max_explained, repeatability) for name in explainers)
    if not explanations:
        why = "no explanations and no background rows were given" if explainers else "no explainer was asked for"
        missing.append(left_out("reasons", why))
        return []
    matched = [match(case, method, roles) for method, roles in explanations.items()]
    once = [m.method for m in matched if not {"teacher.repeat", "student.repeat"} <= m.maps.keys()]
    missing += [
        left_out(
            f"repeatability of reasons ({name})",
            "the models were not explained a second time",
            "explained_once",
            {"explainer": name},
        )
        for name in once
    ]
    return matched


def _explain(
    case: Case, name: str, background: Inputs, rows: int, repeatability: bool
) -> tuple[str, dict[str, Explanation]]:
    """One method on a sample of rows: every model on one background, teacher and student once more on another."""
    from distillens.explainers.explain import explain

    positions = sample(case, rows)
    inputs, target = case.inputs.take(positions), case.target[positions]
    shuffled = np.random.default_rng(case.seed).permutation(np.argsort(background.row_ids, kind="stable"))
    half = len(shuffled) // 2
    first, second = (
        (background.take(shuffled[:half]), background.take(shuffled[half:])) if half >= 2 else (background, background)
    )
    made = {
        role: explain(model, inputs, method=name, target=target, background=first, seed=case.seed)
        for role, model in case.models.items()
        if role != "constant"
    }
    for role in ("teacher", "student") if repeatability else ():
        again = explain(case.models[role], inputs, method=name, target=target, background=second, seed=case.seed + 1)
        made[f"{role}.repeat"] = again
    return made["teacher"].method, made

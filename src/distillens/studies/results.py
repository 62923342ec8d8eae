"""results.json of a study: means of every mechanism, paired differences to `labels` and to `kd`, what was tried and chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.store import JSON
from distillens.studies.measure import MEASURES
from distillens.studies.statistics import Difference, compare
from distillens.studies.study import BASELINE

if TYPE_CHECKING:
    import pandas as pd

    from distillens.studies.study import Study

REFERENCES = (BASELINE, "kd")  # the second where a mechanism of that name is there


def results_of(
    study: Study, rows: pd.DataFrame, fits: Sequence[Mapping[str, Any]], tunes: Mapping[str, Mapping[str, Any]], teacher: JSON, seeds: Sequence[int]
) -> JSON:  # fmt: skip
    """rows: every test row of every mechanism and seed. fits, tunes: the records of trainings and tries. seeds: those that all have finished."""
    names = [mechanism.name for mechanism in study.mechanisms]
    references = [name for name in REFERENCES if name in names]
    differences: list[Difference] = []
    unavailable: list[str] = []
    for measure in MEASURES:
        tables = {name: _table(rows, name, measure, seeds) for name in names}
        if not np.all([np.isfinite(table).all(axis=0) for table in tables.values()], axis=0).any():
            unavailable.append(measure)
            continue
        for reference in references:
            differences += compare(tables, reference, measure, level=study.level, equivalence=study.equivalence)
    return {
        "schema": 1, "study": study.study, "name": study.name, "seeds": len(seeds), "seeds_planned": study.seeds,
        "level": study.level, "equivalence": study.equivalence, "explainer": study.measure.explainer,
        "labelled_per_class": study.labelled_per_class, "epochs": study.schedule["epochs"], "budget": study.tune.budget, "by": study.tune.by,
        "test_rows": int(rows["row_id"].nunique()), "teacher": teacher, "references": references, "unavailable": unavailable,
        "mechanisms": [_mechanism(name, rows, fits, tunes[name]) for name in names],
        "differences": [difference.to_json() for difference in differences],
    }  # fmt: skip


def _table(rows: pd.DataFrame, name: str, measure: str, seeds: Sequence[int]) -> Any:
    """(S, R) values of a measure, rows in the same order for all."""
    own = rows[rows["mechanism"] == name]
    return np.stack(
        [own[own["seed"] == seed].sort_values("row_id")[measure].to_numpy(dtype=np.float64) for seed in seeds]
    )


def _mechanism(
    name: str, rows: pd.DataFrame, fits: Sequence[Mapping[str, Any]], tune: Mapping[str, Any]
) -> JSON:  # fmt: skip
    own = [fit for fit in fits if fit["mechanism"] == name]
    measures = {}
    for measure in MEASURES:
        values = [fit[measure] for fit in own if fit[measure] is not None]
        column = rows.loc[rows["mechanism"] == name, measure]
        measures[measure] = {
            "mean": float(np.mean(values)) if values else None, "seed_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "rows": int(column.notna().sum() / max(len(own), 1)), "by_seed": values,
        }  # fmt: skip
    configuration = tune["configuration"]
    return {
        "name": name, "objectives": configuration["objectives"], "task_weight": configuration["task_weight"],
        "learning_rate": configuration["learning_rate"], "chosen": configuration["changed"], "tried": tune["tried"],
        "seconds": float(np.mean([fit["seconds"] for fit in own])), "parameters": own[0]["parameters"], "measures": measures,
    }  # fmt: skip

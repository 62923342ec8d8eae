"""The frontier of fidelity against complexity: how much of the teacher is lost for how much to read?

Every student is fitted on the same targets and measured on the same rows with the same resamples, so that differences
are paired. Sizes of different families have no common unit; two are given for every student:

- `parameters`: free numbers in the fitted model;
- `units`: what a person looks at to follow it, stated per family: tree, soft tree: questions and leaves; rules: conditions and
  rules; scorecard: attributes (lines of the points table); linear: coefficients that are not 0; additive: terms, each one
  picture, a pair counting twice; others: parameters. A count, not a measurement of reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from distillens.errors import InputError

if TYPE_CHECKING:
    from distillens.data.base import Split
    from distillens.models.base import Decision, Model
    from distillens.students.base import Student
    from distillens.transfer.targets import Targets

LEAST = ("parameters", "units")  # the sizes for which dominance is told


def units(model: Model) -> int:
    """What a person looks at to follow a fitted model; see the module's text. InputError for a model without a size."""
    complexity: dict[str, int] = model.complexity() if hasattr(model, "complexity") else {}
    kind = str(getattr(model, "kind", ""))
    if kind in {"tree", "soft_tree"}:
        return 2 * complexity["leaves"] - 1
    if kind == "rules":
        return complexity["rules"] + complexity["conditions"]
    if kind == "scorecard":
        return complexity["attributes"]
    if kind == "linear":
        return complexity["nonzero"]
    if kind == "additive":
        return complexity["terms"] + complexity["pairs"]
    if "parameters" not in complexity:
        raise InputError(f"The model {model.label!r} does not say how large it is.")
    return complexity["parameters"]


def frontier(
    students: Mapping[str, Student], targets: Targets, teacher: Model, *,
    validation: Split, test: Split, decision: Decision | None = None, seeds: Sequence[int] = (0,),
) -> list[dict[str, Any]]:  # fmt: skip
    """Fit every student with every seed; one JSON-able record each, in the order given.

    {student, kind, settings, seed, complexity, units, divergence, agreement, dominated{parameters, units}}
    divergence: Estimate of the mean KL(teacher ‖ student) in nats on `test` (regression: mean absolute difference), lower is
    better; agreement: Estimate of the share of equal decisions, None for regression. Intervals are over test rows, the
    models being fixed. dominated: the names of students of the same seed that are no larger and closer to the teacher
    by the whole of a paired 95 % interval, for each size; empty on the frontier.
    Raises InputError without students or seeds, and what a fit raises.
    """
    import numpy as np

    from distillens.intervals import Resamples
    from distillens.models.base import Decision, as_probabilities, evaluate
    from distillens.transfer.disagreement import disagreement

    if not students or not seeds:
        raise InputError("A frontier needs at least one student and one seed.")
    decide = decision or Decision()
    resamples = Resamples(len(test), clusters=test.groups, weights=test.weights, seed=0)
    records: list[dict[str, Any]] = []
    for seed in seeds:
        group: list[tuple[dict[str, Any], Any]] = []
        for name, student in students.items():
            model = student.fit(targets, validation=validation, teacher=teacher, seed=seed)
            apart = resamples.mean(disagreement(model, teacher, test.inputs))
            agreement = None
            if teacher.classes:
                decided = [decide(as_probabilities(evaluate(m, test.inputs), m.output)) for m in (model, teacher)]
                equal = (decided[0] == decided[1]).astype(np.float64)
                agreement = resamples.proportion(equal).estimate().to_json()
            sized: Any = model
            record = {
                "student": name,
                "kind": student.kind,
                "settings": _settings(student),
                "seed": int(seed),
                "complexity": {key: int(value) for key, value in sized.complexity().items()},
                "units": units(model),
                "divergence": apart.estimate().to_json(),
                "agreement": agreement,
            }
            group.append((record, apart))
        for record, apart in group:
            closer = [r for r, other in group if r is not record and apart.difference(other).low > 0]
            record["dominated"] = {
                size: [r["student"] for r in closer if _size(r, size) <= _size(record, size)] for size in LEAST
            }
        records += [record for record, _ in group]
    return records


def _size(record: dict[str, Any], size: str) -> int:
    return int(record["units"] if size == "units" else record["complexity"]["parameters"])


def _settings(student: Student) -> dict[str, Any]:
    """A student's settings as JSON takes them."""
    import json

    given: Any = student
    settings: dict[str, Any] = json.loads(
        json.dumps(asdict(given) if is_dataclass(given) and not isinstance(given, type) else {}, default=str)
    )
    return settings

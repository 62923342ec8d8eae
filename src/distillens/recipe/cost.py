"""How long a run will take, and how much of that the controls cost: a rough count of fits and of model answers.

The constants were measured on two cores of an ordinary server; other machines differ by a factor of two or so, and early
stopping by another. People need the order of magnitude before they start, not a promise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillens.data.base import Dataset
    from distillens.recipe.base import Recipe

START = 6.0  # seconds: importing torch, scikit-learn and the exporters
AUDIT = 1.5  # seconds per audited model: resampling, slices, figures
ANSWERS = {
    "linear": 2.5e6,
    "tree": 2.5e6,
    "additive": 2e6,
    "scorecard": 1e6,
    "rules": 2.5e6,
    "soft_tree": 4e5,
    "boosted_trees": 4e5,
}  # rows a second
EXPORTED = 4e5  # onnxruntime
OTHER = 1e5
TYPICAL_EPOCHS = 80  # at which early stopping tends to end


@dataclass(frozen=True)
class Cost:
    """seconds: of the whole run. controls: the part of them that `controls: none` would save. fits: models to be fitted."""

    seconds: float
    controls: float
    fits: int
    by_stage: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {"seconds": round(self.seconds), "controls_seconds": round(self.controls), "fits": self.fits,
                "by_stage": {name: round(value, 1) for name, value in self.by_stage.items()}}  # fmt: skip


def estimate_cost(recipe: Recipe, dataset: Dataset) -> Cost:
    """Count the fits and the answers that a recipe asks for."""
    if not dataset.is_table:
        from distillens.recipe.image_cost import image_cost

        return image_cost(recipe, dataset)
    n, features, classes = len(dataset.train), len(dataset.columns), max(2, len(dataset.classes))
    with_controls = recipe.controls != "none"
    refitted = "use" not in recipe.teacher and "file" not in recipe.teacher
    teacher = fit_seconds(recipe.teacher, n, features, classes) if "file" not in recipe.teacher else 0.0
    folds = recipe.targets.folds if recipe.targets.origin != "in_sample" and "file" not in recipe.teacher else 0
    stages = {"start": START, "teacher": teacher, "targets": folds * teacher}
    controls, fits = 0.0, folds + ("file" not in recipe.teacher)
    if with_controls and refitted:
        stages["twin"] = teacher
        controls, fits = controls + teacher, fits + 1
    answers = explained_answers(recipe, features)
    again = int(recipe.audit.repeatability)  # teacher and student once more, against other background rows
    once = answers / answers_per_second(recipe.teacher, features, classes)
    stages["explain"] = once * (1 + again + ("twin" in stages))
    controls += once if "twin" in stages else 0.0
    for name, entry in recipe.students.items():
        sizes = query_sizes(recipe, n)
        fitted = [fit_seconds(entry, size, features, classes) for size in sizes]
        stages[f"students/{name}"] = sum(fitted) + fitted[-1]  # and once more with the teacher's answers permuted
        fits += len(sizes) + 1
        once = answers / answers_per_second(entry, features, classes)
        stages["explain"] += (2 + again) * once  # the student, and once the random teacher's
        if with_controls:
            full = recipe.controls == "full"
            undistilled = fit_seconds(entry, n, features, classes) + (fitted[-1] if full else 0.0)
            stages[f"controls/{name}"] = undistilled
            stages["explain"] += once * (2 if full else 1)
            controls, fits = controls + undistilled + once * (2 if full else 1), fits + (2 if full else 1)
        if recipe.export:
            stages["explain"] += answers / EXPORTED
    if recipe.frontier is not None:
        seconds, count = frontier_seconds(recipe, dataset)
        stages["frontier"], fits = seconds, fits + count
    stages["audit"] = AUDIT * len(recipe.students) * (2 if recipe.export else 1)
    return Cost(sum(stages.values()), controls, fits, stages)


def frontier_seconds(recipe: Recipe, dataset: Dataset) -> tuple[float, int]:
    """Seconds and fits of the frontier; families that cannot be listed are left to the check, which says why."""
    from dataclasses import asdict

    from distillens.errors import InputError
    from distillens.recipe.frontier import frontier_members, frontier_queries

    settings, features, classes = recipe.frontier, len(dataset.columns), max(2, len(dataset.classes))
    if settings is None:
        return 0.0, 0
    try:
        points = frontier_members(recipe, dataset.task).chosen
    except InputError:
        return 0.0, 0
    rows = len(dataset.train) * (1 + frontier_queries(recipe))
    seconds = 0.0
    for point in points:
        student: Any = point.student
        once = fit_seconds({"kind": point.family, **asdict(student)}, rows, features, classes)
        seconds += 2 * settings.seeds * once
    return seconds, 2 * settings.seeds * len(points)


def query_sizes(recipe: Recipe, n: int) -> list[int]:
    """Rows of every fit that the choice of query rows takes at most, ascending."""
    numbers = sorted(set(recipe.query_candidates()))
    sizes = [n] if numbers[0] == 0 else []
    for kind in recipe.query_kinds() if numbers[-1] > 0 else ():
        if kind == "disagreement":
            rounds = recipe.targets.rounds
            sizes += [round(n * (1 + numbers[-1] * step / rounds)) for step in range(1, rounds + 1)]
        else:
            sizes += [round(n * (1 + number)) for number in numbers if number > 0]
    return sorted(sizes)


def fit_seconds(entry: Mapping[str, Any], n: int, features: int, classes: int) -> float:
    """Seconds for one fit of a family on n rows."""
    kind = entry.get("kind")
    models = classes if classes > 2 else 1
    if kind == "network":
        weights = network_weights(entry, features, classes)
        batch = entry["batch_size"] if isinstance(entry["batch_size"], int) else min(512, max(32, n / 8))
        steps = min(entry["epochs"], TYPICAL_EPOCHS) * math.ceil(n / batch)
        return float(steps * (8e-4 + 6 * weights * batch / 2e10))
    if kind == "soft_tree":
        size = entry["batch_size"] if isinstance(entry["batch_size"], int) else min(512, max(32, n // 8))
        return float(min(entry["epochs"], TYPICAL_EPOCHS) * math.ceil(n / size) * 2 ** entry["depth"] * 2.5e-4)
    if kind == "scorecard":
        return float((0.02 + 3e-6 * n) * features)
    if kind == "additive":
        return float(models * entry["outer_bags"] * (0.25 + 4e-6 * n * features + 0.05 * entry["interactions"]))
    if kind == "boosted_trees":
        grid = 8 if entry["tune"] else 1
        return float(grid * models * entry["max_rounds"] / 2 * (1.2e-3 + 6e-9 * n * features))
    return 0.02 + 2e-7 * n * features * models


def explained_answers(recipe: Recipe, features: int) -> float:
    """How many rows a model has to answer when every explainer of the recipe explains it once."""
    total = 0.0
    for entry in recipe.explain:
        rows, background = entry.get("rows", 100), (entry.get("background") or {}).get("rows", 100)
        masks = min(entry.get("budget") or 1, 2 ** min(features, 60))
        total += rows if entry.get("kind") == "intrinsic" else rows * masks * background
    return total


def answers_per_second(entry: Mapping[str, Any], features: int, classes: int) -> float:
    """How many rows a second a fitted member of a family answers."""
    if entry.get("kind") == "network":
        return 1.2e6 / (1 + network_weights(entry, features, classes) / 40_000)
    return ANSWERS.get(str(entry.get("kind")), OTHER)


def network_weights(entry: Mapping[str, Any], features: int, classes: int) -> int:
    """Weights of a multilayer perceptron, one-hot columns left out of account."""
    return sum(a * b for a, b in itertools.pairwise([features, *entry["model"]["hidden"], classes]))

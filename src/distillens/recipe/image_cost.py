"""How long a run on images will take: the networks of the recipe are built and timed for a moment, here, on this machine.

No table of constants could know what a network costs: between a small ResNet and a large one lie three orders of magnitude.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from distillens.recipe.cost import AUDIT, START, TYPICAL_EPOCHS, Cost, explained_answers

if TYPE_CHECKING:
    from distillens.data.base import Dataset
    from distillens.recipe.base import Recipe

IMAGES = 32  # timed at once
EXPORT = 4.0  # seconds: torch's exporter


def image_cost(recipe: Recipe, dataset: Dataset) -> Cost:
    """The counterpart of `estimate_cost` for images; families that are no networks cost nothing here."""
    shape = dataset.train.inputs.shape  # type: ignore[union-attr]  # images have one
    n, classes = len(dataset.train), len(dataset.classes)
    patches = len(dataset.train.inputs.columns)

    def seconds(entry: Mapping[str, Any]) -> tuple[float, float]:
        """Of one fit, and of one answer."""
        if entry.get("kind") != "network":
            return 0.0, 0.0
        looks = entry.get("preprocess") or {}  # a network may look at another size, or in colour
        seen = (looks.get("channels") or shape[0], *(looks.get("size") or shape[1:]))
        train, answer = image_speed(json.dumps(entry["model"], sort_keys=True), seen, classes)
        return min(entry["epochs"], TYPICAL_EPOCHS) * n * train, answer

    teacher, teacher_answer = seconds(recipe.teacher)
    own = "use" not in recipe.teacher and "file" not in recipe.teacher
    stages = {"start": START, "teacher": teacher if own else 0.0}
    controls, fits = 0.0, int(own)
    folds = recipe.targets.folds if own and recipe.targets.origin != "in_sample" else 0
    stages["targets"], fits = folds * teacher, fits + folds
    if recipe.controls != "none" and own:
        stages["twin"], controls, fits = teacher, teacher, fits + 1
    answers, again = explained_answers(recipe, patches), int(recipe.audit.repeatability)
    stages["explain"] = answers * teacher_answer * (1 + again + ("twin" in stages))
    for name, entry in recipe.students.items():
        fit, answer = seconds(entry)
        extra = {"none": 0, "standard": 1, "full": 2}[recipe.controls]
        stages[f"students/{name}"] = 2 * fit  # and once more with the teacher's answers permuted
        stages[f"controls/{name}"] = extra * fit
        stages["explain"] += answers * answer * (2 + again + extra + bool(recipe.export))
        controls, fits = controls + extra * (fit + answers * answer), fits + 2 + extra
    stages["audit"] = AUDIT * len(recipe.students) * (2 if recipe.export else 1)
    stages["export"] = EXPORT * len(recipe.students) * bool(recipe.export)
    return Cost(sum(stages.values()), controls, fits, stages)


@lru_cache(maxsize=32)
def image_speed(model: str, shape: tuple[int, int, int], classes: int) -> tuple[float, float]:
    """Seconds an image takes in training (forward, backward) and in answering. model: the recipe entry as JSON.

    The modes and generators of torch are left as they were; nothing is trained. Raises InputError for an unknown network.
    """
    import torch

    from distillens.models.nets.base import as_image_net, initialised

    module = initialised(as_image_net(json.loads(model)), shape, classes)
    images = torch.zeros(IMAGES, *shape)
    best = []
    for training in (True, False):
        module.train(training)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            with torch.set_grad_enabled(training):
                outputs = module(images)
            if training:
                outputs.sum().backward()
            times.append(time.perf_counter() - started)
        best.append(min(times) / IMAGES)
    return best[0], best[1]

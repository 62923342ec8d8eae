"""What a recipe says about its frontier: the points, the query rows they share, the part that its stage depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distillens.frontier.sizes import Members, members
from distillens.recipe.settings import FrontierSettings
from distillens.students.base import STUDENTS

if TYPE_CHECKING:
    from distillens.recipe.base import Recipe


def frontier_members(recipe: Recipe, task: str, *, trust_code: bool = False) -> Members:
    """The points of the frontier. A family that a student of the recipe has shares that student's other options. Raises InputError."""
    settings, given = recipe.frontier or FrontierSettings(), {}
    for name, entry in recipe.students.items():
        if entry["kind"] in STUDENTS and entry["kind"] not in given:
            given[entry["kind"]] = recipe.build_student(name, trust_code=trust_code)
    return members(settings.families, task=task, sizes=settings.sizes, given=given)


def frontier_queries(recipe: Recipe) -> int:
    """Query rows a training row that every point of the frontier is taught with; none where no teacher is asked."""
    settings, candidates = recipe.frontier or FrontierSettings(), sorted(set(recipe.query_candidates()))
    if recipe.targets.origin == "labels":
        return 0
    return round(candidates[len(candidates) // 2]) if settings.queries == "auto" else settings.queries


def frontier_part(recipe: Recipe, whole: Mapping[str, Any]) -> Any:
    """What the stage depends on; None where the recipe asks for no frontier."""
    if recipe.frontier is None:
        return None
    shared = {
        "level": recipe.audit.level,
        "languages": whole["report"]["languages"],
        "queries": frontier_queries(recipe),
    }
    return {"settings": whole["frontier"], "students": whole["students"]} | shared


def with_frontier(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """The same recipe with these options of its frontier, the others as they are (sizes of families that are left go, too).

    Raises RecipeError.
    """
    raw = recipe.model_dump(mode="json")
    block = (raw["frontier"] or {}) | dict(options)
    if options.get("families") is not None and "sizes" not in options:
        block["sizes"] = {f: sizes for f, sizes in (block.get("sizes") or {}).items() if f in options["families"]}
    changed = type(recipe).load(raw | {"frontier": block})
    changed._base_dir = recipe._base_dir
    return changed

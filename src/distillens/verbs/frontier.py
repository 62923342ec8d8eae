"""The frontier of a recipe, or of a finished run with its teacher and targets. The teacher of a run is never fitted again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import RecipeError, RunError
from distillens.store import JSON, read_json

if TYPE_CHECKING:
    from distillens.flow import Flow
    from distillens.progress import Observer
    from distillens.recipe import Recipe

STAGES = ("data", "teacher", "targets")


def frontier_of(
    source: Recipe | str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    trust_code: bool = False,
    observer: Observer | None = None,
) -> tuple[JSON, Path]:
    """The frontier's record (report/frontier.schema.json) and the folder where its files lie.

    source: the folder of a run, whose data, teacher and targets are used; or a recipe, from which these three are made first. options:
    keys of the recipe's `frontier` to be replaced. out: of a recipe, the run directory (default runs/NAME; resume: go on there); of a
    run, a folder for the files instead of RUN/frontier. Points that were fitted before are read again. Raises InputError.
    """
    from distillens.recipe import Recipe
    from distillens.recipe.frontier import with_frontier

    if not isinstance(source, Recipe) and Path(source).is_dir():
        return _of_run(Path(source), options or {}, out, trust_code, observer)
    recipe = source if isinstance(source, Recipe) else Recipe.load(source)
    return _of_recipe(with_frontier(recipe, options or {}), out, resume, trust_code, observer)


def _of_recipe(
    recipe: Recipe, out: str | Path | None, resume: bool, trust_code: bool, observer: Observer | None
) -> tuple[JSON, Path]:
    from distillens import pipeline
    from distillens.flow import manifest
    from distillens.recipe.check import untrusted
    from distillens.recipe.frontier import frontier_members

    if not trust_code and (problems := untrusted(recipe)):
        raise RecipeError(problems)
    flow = pipeline.begin(recipe, out=out, resume=resume, trust_code=trust_code, observer=observer)
    with flow.run.locked():
        flow.run.begin(recipe_yaml=recipe.to_yaml(), manifest=manifest(recipe))
        pipeline.read_data(flow)
        frontier_members(recipe, flow.dataset.task, trust_code=trust_code)  # before the teacher is trained in vain
        pipeline.train_teacher(flow)
        pipeline.ask_teacher(flow)
        pipeline.trade_off(flow)
    return _read(flow.run.directory / "frontier")


def _of_run(
    directory: Path, options: Mapping[str, Any], out: str | Path | None, trust_code: bool, observer: Observer | None
) -> tuple[JSON, Path]:
    from distillens import pipeline
    from distillens.flow import NO_TEACHER
    from distillens.progress import Silent
    from distillens.recipe.frontier import with_frontier
    from distillens.verbs.explain import open_run

    flow = open_run(directory, trust_code=trust_code)
    flow.recipe = with_frontier(flow.recipe, options)
    flow.observer = observer or Silent()
    home = flow.run.directory
    if flow.given_teacher is None and not (home / "teacher" / "model.safetensors").is_file():
        raise RunError(
            f"The teacher of {home} is not there: {NO_TEACHER}; from Python, distillens.frontier.frontier takes any model."
        )
    if not (home / "targets" / "targets.safetensors").is_file():
        raise RunError(f"{home} has no targets: the run did not get that far (--resume goes on with it).")
    _recall(flow)
    if out is None:
        with flow.run.locked():
            pipeline.trade_off(flow)
        return _read(home / "frontier")
    folder = _free(Path(out))
    pipeline.write_trade_off(flow, folder, folder / "points")
    return _read(folder)


def _read(folder: Path) -> tuple[JSON, Path]:
    record: JSON = read_json(folder / "frontier.json")
    return record, folder


def _free(folder: Path) -> Path:
    """A folder that is new, empty, or holds a frontier."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; --out names a folder.")
    if (
        folder.is_dir()
        and any(folder.iterdir())
        and not any((folder / name).exists() for name in ("frontier.json", "points"))
    ):
        raise RunError(f"{folder} is not empty and holds no frontier; choose another --out, nothing in it was touched.")
    return folder


def _recall(flow: Flow) -> None:
    """The keys of the stages that the frontier reads, as the run recorded them."""
    from distillens.run import StageResult

    for name in STAGES:
        record = read_json(flow.run.directory / "stages" / f"{name}.json")
        flow.run.results[name] = StageResult(name, record["key"], record["summary"], float(record["seconds"]), True)

"""A teacher's answers on disk: made for a run, or from a model file and images; looked at and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.errors import ArtefactError, InputError, RecipeError, RunError
from distillens.progress import task
from distillens.store import JSON
from distillens.transfer.answers.cache import TeacherCache, cache_info, open_whole, teacher_cache

if TYPE_CHECKING:
    from distillens.flow import Flow
    from distillens.progress import Observer
    from distillens.recipe import Recipe
    from distillens.transfer.answers.stored import Stored, Teacher


@dataclass(frozen=True, eq=False)
class Checked:
    """A cache that was looked at. asked: images that the teacher was asked about again; difference: the largest of its outputs."""

    info: JSON
    asked: int = 0
    difference: float | None = None


def build_from_files(
    teacher: str | Path,
    images: str,
    out: str | Path,
    *,
    augmentation: Augmentation,
    stored: Stored,
    seed: int = 0,
    precision: Literal["float32", "bf16"] = "float32",
    device: Literal["cpu", "auto"] = "cpu",
) -> JSON:
    """Ask a network from a file about the training images of a folder, an .npz file or built-in data; returns what `cache_info` does.

    Goes on where an earlier build into `out` was stopped. Raises InputError for a teacher that is no network for images, and what
    `build_cache` and the image sources raise.
    """
    from distillens.transfer.answers.build import build_cache

    asked = teacher_from(teacher)
    shown = training_images(images)
    build_cache(
        asked, shown, out, augmentation=augmentation, seed=seed, stored=stored, precision=precision, device=device
    )
    return cache_info(out)


def build_for(
    source: Recipe | str | Path,
    *,
    out: str | Path | None = None,
    trust_code: bool = False,
    observer: Observer | None = None,
) -> list[JSON]:
    """The caches that the students of a run will look for, below RUN/answers: one for every set of views. Returns their info.

    source: the folder of a run whose teacher is fitted, or a recipe: then data and teacher are made first, in `out`. Raises InputError
    when no student sees a limited number of views: nothing of such a teacher is kept.
    """
    from distillens.recipe import Recipe

    is_run = not isinstance(source, Recipe) and Path(source).is_dir()
    if is_run and out is not None:
        raise InputError("--out goes with a recipe; a run keeps its teacher's answers in its own folder.")
    recipe: Recipe | None = None
    if not is_run:
        recipe = source if isinstance(source, Recipe) else Recipe.load(source)
        _require_views(recipe, trust_code=trust_code)
    flow = (
        _prepared(recipe, out, trust_code, observer) if recipe is not None else _opened(Path(str(source)), trust_code)
    )
    from distillens.transfer.answers.kept import kept_answers

    views = _require_views(flow.recipe, trust_code=trust_code)
    images = _images_of(flow)
    teacher: Any = flow.teacher_of(next(iter(views)))
    if not hasattr(teacher, "answers_folder"):
        raise InputError(
            "The teacher of this run is no network for images of ours; its answers are targets, and lie in targets/."
        )
    with flow.run.locked():
        caches = [kept_answers(teacher, images, augment) for augment in dict.fromkeys(views.values())]
    return [cache_info(cache.folder) | {"folder": str(cache.folder)} for cache in caches if cache is not None]


def verify(
    folder: str | Path,
    *,
    run: str | Path | None = None,
    teacher: str | Path | None = None,
    images: str | None = None,
    rows: int = 64,
    trust_code: bool = False,
) -> Checked:
    """Check every byte of a cache, and with the run or the teacher and images it came from, ask the teacher again about some rows.

    Raises ArtefactError that names the file: damaged, of another cache, missing, or of another teacher, images or views.
    """
    cache = open_whole(folder)
    with task(f"checking {Path(folder).name}", total=cache.shards, unit="shards") as advance:
        for number in range(cache.shards):
            cache.check(number)
            advance(1)
    info = cache_info(folder)
    if run is None and teacher is None and images is None:
        return Checked(info)
    if run is not None:
        if teacher is not None or images is not None:
            raise InputError("Give the run, or --teacher with --images, not both.")
        flow = _opened(Path(run), trust_code)
        asked: Any = _teacher_in(flow, str(info["parts"]["teacher"]))
        shown = _images_of(flow)
    elif teacher is None or images is None:
        raise InputError("--teacher FILE and --images DATA go together: the teacher is asked again about these images.")
    else:
        asked, shown = teacher_from(teacher), training_images(images)
    return _asked_again(cache, info, asked, shown, rows)


def _asked_again(cache: TeacherCache, info: JSON, teacher: Teacher, images: Images, rows: int) -> Checked:
    from distillens.transfer.answers.build import verify_cache

    shown = info.get("shown")
    if not isinstance(shown, dict):
        raise ArtefactError(f"{cache.folder} does not say which views it is of; build it again.")
    augmentation, seed = Augmentation(**shown["augmentation"]), int(shown["seed"])
    same = teacher_cache(
        cache.folder, teacher=teacher, augmentation=augmentation, seed=seed, precision=info["parts"]["precision"]
    )
    difference = verify_cache(same, teacher, images, augmentation=augmentation, seed=seed, rows=rows)
    return Checked(info, min(rows, len(images)), difference)


def teacher_from(path: str | Path) -> Any:
    """A network for images from a file that distillens wrote. InputError for any other model."""
    from distillens.models.files import require_file
    from distillens.models.image_network import ImageNetwork
    from distillens.models.store import load_model

    file = Path(path)
    if file.suffix.lower() != ".safetensors":
        raise InputError(
            f"{file.name} is no network for images that distillens wrote (.safetensors); other models are asked while a run makes its targets."
        )
    require_file(file)
    model: Any = load_model(file)
    if not isinstance(model, ImageNetwork):
        raise InputError(f"{file.name} holds a model of kind {model.kind!r}; a cache is of a network for images.")
    return model


def training_images(source: str) -> Images:
    """The training images of a source, with their positions in it as row ids; all of them where it has no parts."""
    from distillens.data.pictures.source import TRAIN, open_images

    opened = open_images(source)
    where = np.arange(len(opened.labels)) if opened.part is None else np.flatnonzero(opened.part == TRAIN)
    if not len(where):
        raise InputError(f"{source} holds no training images.")
    pixels, _ = opened.read(where, None)
    return Images(pixels, where.astype(np.int64))


def _prepared(recipe: Recipe, out: str | Path | None, trust_code: bool, observer: Observer | None) -> Flow:
    """A run with data and teacher and nothing more."""
    from distillens import pipeline
    from distillens.flow import manifest
    from distillens.recipe.check import untrusted

    if not trust_code and (problems := untrusted(recipe)):
        raise RecipeError(problems)
    home = Path(out) if out is not None else Path("runs") / recipe.name
    flow = pipeline.begin(
        recipe, out=home, resume=(home / "manifest.json").exists(), trust_code=trust_code, observer=observer
    )
    with flow.run.locked():
        flow.run.begin(recipe_yaml=flow.recipe.to_yaml(), manifest=manifest(flow.recipe))
        pipeline.read_data(flow)
        _images_of(flow)
        pipeline.train_teacher(flow)
    return flow


def _opened(directory: Path, trust_code: bool) -> Flow:
    from distillens.verbs.explain import open_run

    flow = open_run(directory, trust_code=trust_code)
    if not (flow.run.directory / "teacher" / "model.safetensors").is_file():
        raise RunError(
            f"The teacher of {directory} is not there as a file: it is not fitted yet, or was handed in from Python."
        )
    return flow


def _images_of(flow: Flow) -> Images:
    inputs = flow.dataset.train.inputs
    if not isinstance(inputs, Images):
        raise InputError(
            f"The rows of {flow.recipe.name} are a table, and caches are of teachers of images: its targets hold all answers."
        )
    return inputs


def _teacher_in(flow: Flow, fingerprint: str) -> Any:
    """The teacher, or the assistant that a cache is of; the teacher where it is of neither."""
    for name in sorted(set(flow.recipe.assistants.values())):
        if (flow.run.directory / "students" / name / "model.safetensors").is_file():
            assistant: Any = flow.models[name]
            if assistant.fingerprint == fingerprint:
                return assistant
    return flow.models["teacher"]


def _require_views(recipe: Recipe, *, trust_code: bool) -> dict[str, Augmentation]:
    """What the teacher's own students see, by name."""
    found: dict[str, Augmentation] = {}
    build: Callable[..., Any] = recipe.build_student
    for name in (name for name in recipe.students if name not in recipe.assistants):
        augment = getattr(build(name, trust_code=trust_code), "augment", None)
        if isinstance(augment, Augmentation) and augment.changes and augment.views:
            found[name] = augment
    if not found:
        raise InputError(
            "No student of this recipe sees a limited number of changed views (augment: {crop: 4, flip: true, views: 8}), so there is nothing to "
            "keep: answers to unchanged images are the targets, and endless views are asked about live."
        )
    return found

"""Everything that can be found out about a run without training: `distillens check`.

The recipe, the data and what both say about each other, optional packages, the place to write to, and what it will cost.
Problems are collected, not raised one by one. Nothing here runs code that a recipe names without trust, and nothing imports torch unless
the teacher is a file that needs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import DistillensWarning, InputError, RecipeError, did_you_mean
from distillens.recipe.base import Recipe
from distillens.recipe.cost import Cost, estimate_cost
from distillens.recipe.text import join
from distillens.run import contents, stage_seed
from distillens.students.base import TEACHERS

if TYPE_CHECKING:
    from distillens.data.base import Dataset

NEEDED_SPACE = 200_000_000  # bytes a run may write, with room for temporary files
INSIDE = {  # explainers that look inside models, and the kinds they can read
    "tree_shap": ("tree", "boosted_trees"),
    "intrinsic": ("linear", "tree", "additive", "scorecard"),
}
OF_PATCHES = ("kernel_shap", "permutation_shap", "exact_shapley")  # explainers that take images
PACKAGES = {"network": ("torch",), "boosted_trees": ("sklearn",), "tree": ("sklearn",), "additive": ("interpret",), "linear": ("scipy",),
            "scorecard": ("scipy",), "soft_tree": ("torch",), "onnx": ("onnx", "onnxruntime")}  # fmt: skip
DISTRIBUTIONS = {"sklearn": "scikit-learn", "interpret": "interpret-core"}


@dataclass
class Checked:
    """What a check found. problems keep a run from starting; warnings do not. lines: what the run would use, by topic."""

    name: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)
    cost: Cost | None = None

    def to_json(self) -> dict[str, Any]:
        cost = None if self.cost is None else self.cost.to_json()
        return {
            "recipe": self.name,
            "ok": not self.problems,
            "problems": self.problems,
            "warnings": self.warnings,
            "found": self.lines,
            "estimate": cost,
        }


def check(
    source: str | Path | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    trust_code: bool = False,
    teacher: str | Path | None = None,
) -> Checked:
    """Look at a recipe, its data and its surroundings; never raises for what a user may have got wrong.

    teacher: a model file, or package.module:name, in place of the recipe's teacher.
    """
    checked = Checked(str(source) if isinstance(source, (str, Path)) else "run")
    try:
        recipe = source if isinstance(source, Recipe) else Recipe.load(source, overrides=overrides)
        recipe = recipe if teacher is None else recipe.with_teacher(teacher)
    except RecipeError as error:
        checked.problems += error.problems
        return checked
    checked.name = recipe.name
    checked.problems += untrusted(recipe) if not trust_code else []
    dataset = _data(recipe, checked, trust_code=trust_code)
    _packages(recipe, checked)
    _place(Path(out) if out is not None else Path("runs") / recipe.name, checked, resume=resume)
    _describe(recipe, checked)
    if "file" in recipe.teacher:
        _teacher_file(recipe, dataset, checked)
    if dataset is not None:
        for problem in _together(recipe, dataset, checked, trust_code=trust_code):
            checked.problems.append(problem)
        if dataset.is_table or not checked.problems:  # networks are timed, and a wrong one cannot be
            checked.cost = estimate_cost(recipe, dataset)
    return checked


def with_data(recipe: Recipe, dataset: Dataset, *, trust_code: bool) -> list[str]:
    """What the data show to be wrong with students and backgrounds; asked again when a run has its data, before anything is trained."""
    silent = Checked(recipe.name)
    problems = [problem for path, entry in _families(recipe) for problem in _monotone(path, entry, dataset)]
    students = {name: recipe.build_student(name, trust_code=trust_code) for name in recipe.students}
    problems += [*_tasks(students, dataset), *_slices(recipe, dataset)]
    for position, explainer in enumerate(recipe.build_explainers(trust_code=trust_code).values()):
        problems += _background(f"explain.{position}.background", recipe, explainer, dataset, silent)
    return problems


def _slices(recipe: Recipe, dataset: Dataset) -> list[str]:
    """Named slices that the audit would refuse at the end of the run."""
    from distillens.audit.slices import BOUNDARY, DECISION

    if recipe.audit.slices == "auto" or not dataset.is_table:
        return []
    frame = dataset.test.audit_only
    columns = [] if frame is None else [str(name) for name in frame.columns]
    known = [*columns, *((DECISION,) if dataset.classes else ()), *((BOUNDARY,) if dataset.task == "binary" else ())]
    return [
        f"audit.slices: there is no audit-only column {name!r} to slice by; give it the role audit_only."
        f"{did_you_mean(name, known)}"
        for name in recipe.audit.slices
        if name not in known
    ]


def _tasks(students: Mapping[str, Any], dataset: Dataset) -> list[str]:
    return [
        f"students.{name}: {student.kind} is for {' and '.join(student.tasks)} tasks, and this is a {dataset.task} task."
        for name, student in students.items()
        if dataset.task not in getattr(student, "tasks", (dataset.task,))
    ]


def untrusted(recipe: Recipe) -> list[str]:
    """Every place where the recipe names code, for people who did not say that they trust it."""
    places = {join("students", name): entry.get("kind") for name, entry in recipe.students.items()}
    places |= {f"explain.{i}": entry.get("kind") for i, entry in enumerate(recipe.explain)}
    places |= {f"export.{i}": name for i, name in enumerate(recipe.export)}
    places |= {"teacher": recipe.teacher.get("use") or recipe.teacher.get("kind")}
    if recipe.data.source is not None and recipe.data_path() is None:
        places |= {"data.source": recipe.data.source}
    return [f"{place}: {name} would run code that is not part of distillens; pass --trust-code if you trust it."
            for place, name in places.items() if ":" in str(name)]  # fmt: skip


# ── the data ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _data(recipe: Recipe, checked: Checked, *, trust_code: bool) -> Dataset | None:
    from distillens.data.load import load_dataset
    from distillens.data.pictures.source import is_image_source
    from distillens.data.read import open_source
    from distillens.recipe.decision import decide

    settings = recipe.data
    if settings.source is None:
        checked.problems.append(
            "data.source: this key is required; it names built-in data, a CSV or Parquet file, or a folder of images."
        )
        return None
    if ":" in settings.source and recipe.data_path() is None and not trust_code:
        return None
    with _heard(checked):
        given: Any = settings.source
        if not is_image_source(given, base_dir=recipe.base_dir):
            try:
                given = open_source(settings.source, base_dir=recipe.base_dir, trust_code=trust_code).frame
            except InputError as error:
                checked.problems.append(f"data.source: {error}")
                return None
            missing = [f"{place}: there is no column {name!r} in the data.{did_you_mean(name, given.columns)}"
                       for place, name in _columns_named(recipe) if name not in given.columns]  # fmt: skip
            checked.problems += missing
            if missing:
                return None
        try:
            dataset = load_dataset(
                source=given, target=settings.target, roles=settings.roles, split=settings.split, task=recipe.task.kind,
                name=recipe.name, seed=stage_seed(recipe.seed, "data"), base_dir=recipe.base_dir, size=settings.size,
                limit=None if settings.limit is None else settings.limit.model_dump(),
            )  # fmt: skip
        except InputError as error:
            checked.problems.append(f"data: {error}")
            return None
    try:
        decide(
            dataset, settings.source, adverse=recipe.task.adverse, threshold=recipe.task.threshold, costs=recipe.costs()
        )
    except RecipeError as error:
        checked.problems += error.problems
    if len(dataset.classes) != 2 and recipe.task.threshold is not None:
        checked.problems.append(f"task.threshold: this is a {dataset.task} task, which has no threshold; remove it.")
    checked.warnings += [f.text for f in dataset.findings if f.severity == "warning"]
    sizes = " / ".join(f"{part} {len(getattr(dataset, part)):,}" for part in ("train", "validation", "test"))
    total = sum(len(getattr(dataset, part)) for part in ("train", "validation", "test"))
    task = (
        f"{dataset.task}: {', '.join(dataset.classes[:6])}{', …' if len(dataset.classes) > 6 else ''}"
        if dataset.classes
        else "regression"
    )
    checked.lines["data"] = f"{total:,} rows · {dataset.contents} · {sizes}"
    checked.lines["task"] = f"{task} (target {dataset.target})"
    return dataset


def _columns_named(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Every column that the recipe names outside models: where, and its name."""
    if recipe.data.target is not None:
        yield "data.target", recipe.data.target
    for role, columns in (recipe.data.roles or {}).items():
        for column in columns:
            yield f"data.roles.{role}", column
    for key in ("time", "group", "column"):
        if key in recipe.data.split:
            yield f"data.split.{key}", recipe.data.split[key]
    if recipe.audit.slices != "auto":
        for i, column in enumerate(recipe.audit.slices):
            yield f"audit.slices.{i}", column


def _teacher_file(recipe: Recipe, dataset: Dataset | None, checked: Checked) -> None:
    """Open the teacher's file, which runs no code of its author, and hold its features and classes against the data."""
    from distillens.models.files import open_model_file

    path = recipe.teacher_path()
    assert path is not None
    try:
        opened = open_model_file(path)
        own = recipe.teacher.get("classes")
        if dataset is not None:
            opened.bind(dataset.columns, dataset.classes, own=None if own is None else tuple(own))
    except InputError as error:
        checked.problems.append(f"teacher.file: {error}")
        return
    checked.lines["teacher"] = f"{recipe.teacher['file']} ({opened.kind}); it cannot be refitted"
    if dataset is not None and opened.classes is None and own is None:
        checked.warnings.append(
            f"teacher.file: {path.name} does not name its classes; they are taken to be {', '.join(dataset.classes)}, in this order "
            "(teacher.classes says otherwise)."
        )


# ── recipe and data together ────────────────────────────────────────────────────────────────────────────────────────────
def _together(recipe: Recipe, dataset: Dataset, checked: Checked, *, trust_code: bool) -> Iterator[str]:
    """What each family and explainer says about these data."""
    for path, entry in _families(recipe):
        yield from _monotone(path, entry, dataset)
    if "threshold" in recipe.query_kinds() and any(recipe.query_candidates()) and len(dataset.classes) != 2:
        yield f"targets.kind: query rows near the threshold are for two classes, and this is a {dataset.task} task."
    try:
        students = {name: recipe.build_student(name, trust_code=trust_code) for name in recipe.students}
        explainers = recipe.build_explainers(trust_code=trust_code)
    except InputError:  # code that nobody trusts, reported before
        return
    if not dataset.is_table:
        yield from _of_images(recipe)
    yield from _tasks(students, dataset)
    yield from _slices(recipe, dataset)
    for name, student in students.items():
        if hasattr(student, "objectives_for"):
            try:
                yield from _inside(f"students.{name}", recipe, student, student.objectives_for(dataset.classes))
            except InputError as error:
                yield f"students.{name}: {error}"
    if recipe.frontier is not None and dataset.is_table:
        from distillens.recipe.frontier import frontier_members

        try:
            frontier_members(recipe, dataset.task, trust_code=trust_code)
        except InputError as error:
            yield f"frontier: {error}"
    for position, (kind, explainer) in enumerate(explainers.items()):
        yield from _background(f"explain.{position}.background", recipe, explainer, dataset, checked)
        yield from _explainer(f"explain.{position}", kind, explainer, dataset, checked)
        if explainer.kind in INSIDE:
            yield from _only_kinds(f"explain.{position}", recipe, explainer.kind)


def _inside(path: str, recipe: Recipe, student: Any, objectives: Sequence[Any]) -> Iterator[str]:
    """What a network student wants of its teacher besides answers, and a teacher that is no network does not have."""
    from distillens.students.live_teacher import looking_inside

    inside = looking_inside(objectives)
    kind = recipe.teacher.get("kind", "network")  # of a file or code nobody knows yet
    if inside and kind in TEACHERS and kind != "network":
        yield f"{path}.objectives: {inside[0].kind} looks inside its teacher, which has to be a network, and this one is {kind}; use kd or mse."
    if inside and recipe.targets.origin == "out_of_fold":
        yield f"{path}.objectives: {inside[0].kind} looks inside its teacher, and out-of-fold answers come from others; write targets: {{origin: in_sample}}."
    if getattr(student, "inherit", None) is not None and kind in TEACHERS and kind != "network":
        yield f"{path}.inherit: weights are taken over from a network, and the teacher is {kind}; remove it."


def _of_images(recipe: Recipe) -> Iterator[str]:
    """What reads tables only, in a recipe whose data are images."""
    for path, entry in _families(recipe):
        kind, model = entry.get("kind"), entry.get("model")
        if kind is not None and ":" not in str(kind) and kind not in ("network", "ensemble"):
            yield f"{path}: {kind} reads tables, and the data are images; use {{kind: network, model: {{kind: resnet, depth: 8}}}}."
        elif kind == "network" and isinstance(model, Mapping) and "hidden" in model:
            yield f"{path}.model: a multilayer perceptron reads tables, and the data are images; use {{kind: resnet, depth: 8}}."
    if recipe.frontier is not None:
        yield "frontier: its families read tables, and the data are images; remove it."
    if recipe.audit.slices != "auto":
        yield "audit.slices: images have no columns to slice by; use auto."
    for i, entry in enumerate(recipe.explain):
        if ":" not in str(entry.get("kind")) and entry.get("kind") not in OF_PATCHES:
            yield f"explain.{i}: {entry.get('kind')} explains tables, and the data are images; use {', '.join(OF_PATCHES)}."
        if (entry.get("background") or {}).get("from") == "file":
            yield f"explain.{i}.background: a file holds rows of a table, and the data are images; use train, validation or test."


def _families(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "teacher", recipe.teacher
    for name, entry in recipe.students.items():
        yield join("students", name), entry


def _monotone(path: str, entry: Mapping[str, Any], dataset: Dataset) -> Iterator[str]:
    wanted = {feature: sign for feature, sign in (entry.get("monotone") or {}).items() if sign}
    columns = {column.name: column for column in dataset.columns}
    pairs = entry.get("pairs")
    for number, pair in enumerate(pairs if isinstance(pairs, list) else ()):
        for feature in pair:
            if feature not in columns:
                yield f"{join(join(path, 'pairs'), number)}: there is no feature {feature!r}.{did_you_mean(feature, columns)}"
    for feature in wanted:
        place = join(join(path, "monotone"), feature)
        if feature not in columns:
            role = dataset.roles.get(feature)
            why = (
                f" It is a column with the role {role}, which no model sees."
                if role
                else did_you_mean(feature, columns)
            )
            yield f"{place}: there is no feature {feature!r}.{why}"
        elif columns[feature].kind == "categorical":
            yield f"{place}: the feature is categorical: it has no order, so no model can rise or fall with it."
    if wanted and len(dataset.classes) > 2:
        yield f"{join(path, 'monotone')}: with more than two classes there is no single direction; remove it."


def _only_kinds(path: str, recipe: Recipe, kind: str) -> Iterator[str]:
    """An explainer that looks inside models needs every model that a run explains to be of a kind it can read."""
    others = [
        f"{place} ({entry.get('kind') or 'from elsewhere'})"
        for place, entry in _families(recipe)
        if entry.get("kind") not in INSIDE[kind]
    ]
    if others:
        yield (f"{path}: {kind} explains kinds {', '.join(INSIDE[kind])} only, but a run would also explain {', '.join(others)}; "
               "use kernel_shap, which explains any model.")  # fmt: skip


def _background(path: str, recipe: Recipe, explainer: Any, dataset: Dataset, checked: Checked) -> Iterator[str]:
    """Whether the rows that stand for "unknown" are there, and as many as are asked for."""
    from distillens.data.background import open_background

    settings = getattr(explainer, "background", None)
    if settings is None or (settings.get("from") == "file" and not dataset.is_table):
        return
    source, wanted = settings.get("from", "train"), int(settings.get("rows", 100))
    if source == "file":
        try:
            there = len(open_background((recipe.base_dir or Path()) / str(settings["file"]), dataset.columns))
        except InputError as error:
            yield f"{path}.file: {error}"
            return
    elif source == "rows":
        there = min(len(dataset.test), int(getattr(explainer, "rows", len(dataset.test))))
    else:
        there = len(getattr(dataset, source))
    if there <= wanted:
        only = "all of them are" if there == wanted else f"there are {there:,}, and all are"
        checked.warnings.append(
            f"{path}.rows: of the {wanted:,} rows asked for {only} drawn every time, so drawing them again (audit.repeatability) changes nothing."
        )


def _explainer(path: str, kind: str, explainer: Any, dataset: Dataset, checked: Checked) -> Iterator[str]:
    from distillens.explainers.units import units_of

    try:
        units = len(units_of(dataset.train.inputs.columns, getattr(explainer, "groups", None)))
    except InputError as error:
        yield f"{path}.groups: {error}"
        return
    budget = getattr(explainer, "budget", None)
    if not isinstance(budget, int):
        return
    exact = 2**units - 2 <= budget
    if kind.startswith("exact_shapley") and not exact:
        yield (f"{path}.budget: exact Shapley values of {units} features take {2**units - 2:,} coalitions, more than the budget of {budget:,}; "
               "group features, raise the budget or use kernel_shap.")  # fmt: skip
    elif not exact and budget < 10 * units:
        checked.warnings.append(
            f"{path}.budget: {budget:,} coalitions for {units} features are fewer than 10 per feature and give unstable attributions; use {10 * units:,}."
        )


# ── surroundings ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _packages(recipe: Recipe, checked: Checked) -> None:
    wanted: dict[str, str] = {}
    for place, kind in [(path, str(entry.get("kind"))) for path, entry in _families(recipe)] + [
        ("export", name) for name in recipe.export
    ]:
        for package in PACKAGES.get(kind, ()):
            wanted.setdefault(package, f"{place} ({kind})")
    for package, place in wanted.items():
        if find_spec(package) is None:
            name = DISTRIBUTIONS.get(package, package)
            checked.problems.append(f"{place} needs the package {name}, which is not installed: pip install {name}")


def _place(out: Path, checked: Checked, *, resume: bool) -> None:
    try:
        place = next(p for p in (out.absolute(), *out.absolute().parents) if os.path.lexists(p))
        if not place.is_dir():
            what = f"{out} is a file" if place == out.absolute() else f"{place} is a file and {out} would lie below it"
            checked.problems.append(f"--out: {what}; name a folder.")
            return
        if not os.access(place, os.W_OK | os.X_OK):
            checked.problems.append(f"--out: {place} cannot be written to; choose another place.")
            return
        if place == out.absolute():
            entries = contents(out)
            if "manifest.json" in entries and not resume:
                checked.warnings.append(
                    f"{out} already holds a run; --resume goes on with it, --out chooses another place."
                )
            elif entries and "manifest.json" not in entries:
                checked.problems.append(f"--out: {out} is not empty and not a run; choose another place.")
        free = shutil.disk_usage(place).free
    except OSError as error:
        checked.problems.append(f"--out: {out} cannot be used: {error.strerror or error}.")
        return
    if free < NEEDED_SPACE:
        checked.problems.append(
            f"--out: only {free / 1e6:,.0f} MB are free on the disk of {place}; a run may need {NEEDED_SPACE / 1e6:,.0f} MB."
        )
    checked.lines["writes to"] = f"{out} ({free / 1e9:,.0f} GB free)"


def _describe(recipe: Recipe, checked: Checked) -> None:
    checked.lines.setdefault("teacher", recipe.teacher_kind())
    checked.lines["students"] = " · ".join(f"{name} ({entry.get('kind')})" for name, entry in recipe.students.items())
    checked.lines["explain"] = (
        " · ".join(f"{entry.get('kind')} of {entry.get('rows', 'all')} rows" for entry in recipe.explain) or "nothing"
    )
    checked.lines["gates"] = (
        recipe.audit.gates if isinstance(recipe.audit.gates, str) else ", ".join(recipe.audit.gates)
    )


@contextlib.contextmanager
def _heard(checked: Checked) -> Iterator[None]:
    """Collects the warnings of distillens and passes everyone else's on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DistillensWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, DistillensWarning):
            checked.warnings.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

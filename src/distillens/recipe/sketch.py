"""`distillens init`: a commented recipe for a table (image_sketch.py: for images), with everything that was guessed said to be a guess.

Names come from the data and are anybody's text: every one goes through YAML's own quoting, in comments too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distillens.data.builtin import BUILTIN, BUILTIN_IMAGES
from distillens.errors import DataError, RecipeError, RunError
from distillens.recipe.base import Recipe, folder_name
from distillens.recipe.teacher import outside_entry
from distillens.recipe.text import comment, parse_yaml, scalar_yaml
from distillens.store import write_text

if TYPE_CHECKING:
    from distillens.data.pictures.sketch import ImageSketch
    from distillens.data.sketch import ColumnSketch, Sketch

ROLE_WORDS = {"audit_only": "never enters a model; used to compare groups", "id": "never enters a model",
              "ignore": "left out", "time": "the latest rows become the test", "group": "no group is in two splits",
              "weight": "weight of each row"}  # fmt: skip


def write_recipe(
    data: str, target: str | None = None, *, out: Path, force: bool = False, teacher: str | None = None
) -> Sketch | ImageSketch:
    """Look at a table or at images and write a recipe for them to `out`; the recipe loads. teacher: a model file to distil from.

    target: the column to predict; of images, what to call that which is predicted. Raises DataError for data or a target that cannot be used,
    RunError when `out` exists and `force` is False.
    """
    from distillens.data.pictures.source import is_image_source
    from distillens.data.sketch import sketch

    if out.is_dir():
        raise RunError(f"{out} is a folder; --out names the recipe file to write.")
    if out.exists() and not force:
        raise RunError(f"{out} already exists and was not touched; choose another --out, or replace it with --force.")
    entry = None if teacher is None else outside_entry(teacher, out.resolve().parent)
    if is_image_source(data):
        from distillens.data.pictures.sketch import sketch_images
        from distillens.recipe.image_sketch import image_lines

        images = sketch_images(data, target)
        text = "\n".join(image_lines(images, source_for(data, out), out, entry)) + "\n"
        Recipe.load(_checked(text))
        write_text(out, text)
        return images
    if target is None:
        raise DataError(f"Which column of {data} is to be predicted? Name it: --target COLUMN.")
    seen = sketch(data, target)
    if not any(column.role == "feature" for column in seen.columns):
        others = ", ".join(f"{c.name!r} ({c.reason or c.role})" for c in seen.columns if c.role != "target")
        raise DataError(f"{data} has no column to learn from besides {target!r}{': ' + others if others else ''}.")
    text = recipe_text(seen, source_for(data, out), out=out, teacher=entry)
    Recipe.load(_checked(text))  # a recipe that init writes must load; everything quoted must read back
    write_text(out, text)
    return seen


def source_for(data: str, out: Path) -> str:
    """The data as the recipe at `out` has to name it: relative to the recipe's folder, unless built in."""
    if data in BUILTIN or data in BUILTIN_IMAGES:
        return data
    path = Path(data).resolve()
    try:
        return Path(os.path.relpath(path, out.resolve().parent)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def recipe_text(seen: Sketch, source: str, *, out: Path, teacher: Mapping[str, str] | None = None) -> str:
    """The YAML text."""
    return "\n".join(_lines(seen, source, out, teacher)) + "\n"


def _lines(seen: Sketch, source: str, out: Path, teacher: Mapping[str, str] | None) -> Iterator[str]:
    q = scalar_yaml
    yield f"# distillens run {comment(str(out))}"
    yield "#"
    yield f"# Written by distillens init after a look at {seen.rows:,} rows. Everything below is a suggestion: read it, change it."
    yield f"name: {q(folder_name(Path(source).stem))}  # the run is written to runs/NAME"
    yield "seed: 0"
    yield "data:"
    yield f"  source: {q(source)}"
    yield f"  target: {q(seen.target)}{_task_words(seen)}"
    yield from _columns(seen)
    yield from _roles(seen)
    timed = next((c for c in seen.columns if c.role == "time"), None)
    if timed is not None:
        yield f"  split: {{time: {q(timed.name)}, test: 0.3, validation: 0.3}}  # the latest 30 % of the rows are the test"
    else:
        yield "  split: {test: 0.3, validation: 0.3}  # shares of all rows, and of the rest"
        yield "  # or {group: COLUMN}: no person, house, … in two splits; {time: COLUMN}; {column: COLUMN} with train/validation/test"
    yield from _task(seen)
    if teacher is None:
        yield "teacher: {kind: boosted_trees}  # distillens list teachers; or {file: model.onnx}"
    for key, value in (teacher or {}).items():
        yield f"teacher: {{{key}: {q(value)}}}"
    yield "targets: {origin: auto, queries: auto}  # out of fold where in-sample answers are saturated"
    yield "students:  # the verdict goes to the one closest to the teacher on validation; distillens list students"
    yield "  ebm: {kind: additive, outer_bags: 4, interactions: 5}"
    yield "  tree: {kind: tree, max_leaves: 16}"
    yield "  net: {kind: network, model: {kind: mlp, hidden: [32]}}"
    rising = next((c.name for c in seen.columns if c.role == "feature" and c.kind == "numeric"), None)
    if rising is not None and seen.task != "multiclass":
        yield f"  # an additive, tree or linear student can be held monotone: monotone: {{{comment(q(rising))}: +1}}"
    yield "explain:"
    yield "  - {kind: kernel_shap, budget: 1024, background: {from: train, rows: 50}, rows: 100}"
    yield "controls: standard  # none | standard | full; distillens check says what they cost"
    yield "audit: {gates: relative, slices: auto}  # distillens list gates"
    yield "export: [onnx]"
    yield "report:"
    yield "  languages: [en]  # en, zh"
    yield "  # for the passport, in your words:"
    for key in ("owner", "intended_use", "out_of_scope", "licence"):
        yield f"  # {key}: …"


def _task_words(seen: Sketch) -> str:
    if seen.task == "regression":
        low, high = seen.target_range or (float("nan"), float("nan"))
        return f"  # regression, from {low:g} to {high:g}"
    return (
        f"  # {seen.task}: {', '.join(f'{comment(name)} {count:,}' for name, count in list(seen.classes.items())[:8])}"
    )


def _columns(seen: Sketch) -> Iterator[str]:
    yield "  # columns:"
    for column in seen.columns:
        if column.role != "target":
            yield f"  #   {_about(column)}"
    for finding in seen.findings:
        yield f"  # note: {comment(finding.text)}"


def _about(column: ColumnSketch) -> str:
    examples = ", ".join(comment(example) for example in column.examples[:3])
    missing = f", {column.missing:.0%} missing" if column.missing else ""
    return f"{comment(scalar_yaml(column.name))}: {column.kind}, {column.distinct:,} values{missing}{', e.g. ' + examples if examples else ''}"


def _roles(seen: Sketch) -> Iterator[str]:
    suggested = [c for c in seen.columns if c.role not in {"feature", "target"}]
    if not suggested:
        yield "  roles: {}  # all columns are features; e.g. {audit_only: [COLUMN], id: [COLUMN]}"
        return
    yield "  roles:  # columns without a role are features"
    for role in dict.fromkeys(c.role for c in suggested):
        yield f"    {role}:  # {ROLE_WORDS.get(role, '')}"
        for column in suggested:
            if column.role == role:
                yield f"      - {scalar_yaml(column.name)}{'  # ' + comment(column.reason) if column.reason else ''}"


def _task(seen: Sketch) -> Iterator[str]:
    if seen.task == "regression":
        yield "task: {kind: regression}"
        return
    yield "task:"
    yield f"  kind: {seen.task}"
    if seen.adverse is not None:
        yield f"  adverse: {scalar_yaml(seen.adverse)}  # a guess ({comment(seen.adverse_reason)}): the decision that has to be explained to somebody"
    else:
        yield "  # adverse: CLASS  # the decision that has to be explained to somebody; no class suggested itself"
    if seen.task == "binary":
        yield "  threshold: 0.5  # the adverse class is decided from this probability on"


def _checked(text: str) -> dict[str, object]:
    raw = parse_yaml(text, what="the recipe written by init")
    if not isinstance(raw, dict):
        raise RecipeError("the recipe written by init is not a mapping.")
    return raw

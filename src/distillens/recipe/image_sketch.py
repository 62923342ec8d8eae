"""`distillens init` for images: a commented recipe with a residual network that teaches a smaller one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distillens.recipe.base import folder_name
from distillens.recipe.text import comment, scalar_yaml

if TYPE_CHECKING:
    from distillens.data.pictures.sketch import ImageSketch

LARGE = 64  # pixels of a side from which a smaller size is suggested
MANY = 6_000  # training images from which a limit is suggested
SIDED = ("digits",)  # sets whose images mean something else when mirrored


def image_lines(seen: ImageSketch, source: str, out: Path, teacher: Mapping[str, str] | None) -> Iterator[str]:
    """The YAML, line by line."""
    q = scalar_yaml
    channels, height, width = seen.shape
    yield f"# distillens run {comment(str(out))}"
    yield "#"
    yield f"# Written by distillens init after a look at {seen.rows:,} images. Everything below is a suggestion: read it, change it."
    yield f"name: {q(folder_name(Path(source).stem))}  # the run is written to runs/NAME"
    yield "seed: 0"
    yield "data:"
    kind = "grey" if channels == 1 else "colour"
    mixed = ", and other sizes" if seen.mixed else ""
    yield f"  source: {q(source)}  # {seen.rows:,} images, {kind}, {height}×{width} pixels (height × width){mixed}"
    counts = ", ".join(f"{comment(name)} {count:,}" for name, count in list(seen.classes.items())[:8])
    more = ", …" if len(seen.classes) > 8 else ""
    yield f"  target: {q(seen.target)}  # what to call that which is predicted; {seen.task}: {counts}{more}"
    if max(height, width) > LARGE:
        yield f"  size: {LARGE}  # pixels of a side, bilinear with antialiasing, the middle of what is not square; or [height, width]"
    elif seen.mixed:
        yield f"  size: [{height}, {width}]  # the commonest size; others are resized, and lose edges where their proportions differ"
    else:
        yield "  # size: 32  # one side in pixels, or [height, width], to have all resized"
    if seen.own_test:
        yield "  split: {validation: 0.1}  # of the training images; the test images are the data's own"
    else:
        yield "  split: {test: 0.3, validation: 0.2}  # shares of all images, and of the rest; drawn by class"
    k = len(seen.classes)
    if seen.training > MANY:
        sizes = {"train": max(4000, k), "validation": max(500, k), "test": max(1000, k)}
        limit = ", ".join(f"{part}: {rows}" for part, rows in sizes.items())
        yield f"  limit: {{{limit}}}  # at most so many of each, drawn by class, for a first run; remove it for all"
    else:
        yield "  # limit: {train: 1000}  # at most so many, drawn by class, for a first run"
    for finding in seen.findings:
        yield f"  # note: {comment(finding.text)}"
    yield "task:"
    yield f"  kind: {seen.task}"
    if seen.adverse is not None:
        why = comment(seen.adverse_reason)
        yield f"  adverse: {q(seen.adverse)}  # a guess ({why}): the decision that has to be explained to somebody"
    if seen.task == "binary":
        yield "  threshold: 0.5  # the adverse class is decided from this probability on"
    flip = "false" if seen.name in SIDED else "true"
    crop = 1 if min(height, width) < 16 else 2
    if teacher is None:
        yield "teacher:  # or {file: model.onnx}"
        yield "  kind: network"
        yield "  model: {kind: resnet, depth: 20}  # wide_resnet, mobilenet_v2, vit, timm:NAME, torchvision:NAME"
        yield f"  augment: {{crop: {crop}, flip: {flip}}}"
        yield "  epochs: 12"
        yield "  learning_rate: 0.003"
        yield "  batch_size: 64"
    for key, value in (teacher or {}).items():
        yield f"teacher: {{{key}: {q(value)}}}"
    yield "targets: {origin: in_sample, queries: none}  # the student hears what the teacher says of every view that it sees"
    yield "students:"
    yield "  small:"
    yield "    kind: network"
    yield "    model: {kind: resnet, depth: 8}"
    yield "    task_weight: 0.5"
    yield "    objectives: [{kind: kd, weight: 0.5, temperature: 4}]  # distillens list objectives"
    yield f"    augment: {{crop: {crop}, flip: {flip}, views: 4}}  # flip: false where left and right matter, as in digits and letters"
    yield "    epochs: 15"
    yield "    learning_rate: 0.003"
    yield "    batch_size: 64"
    yield "explain:  # patches, about seven in a row"
    yield "  - {kind: kernel_shap, budget: 512, background: {from: train, rows: 2}, rows: 20}"
    yield "controls: standard  # none | standard | full; distillens check says what they cost"
    yield "audit: {gates: relative}  # distillens list gates"
    yield "export: [onnx]"
    yield "report:"
    yield "  languages: [en]  # en, zh; the passport shows a few training images of each class"
    yield "  # for the passport, in your words:"
    for key in ("owner", "intended_use", "out_of_scope", "licence"):
        yield f"  # {key}: …"

"""`load_images`: from a folder, IDX files, arrays or a torch data set to three splits of `Images`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.base import Dataset, Split
from distillens.data.images import Images
from distillens.data.pictures.checks import check_images
from distillens.data.pictures.source import TEST, ImageSource, open_images
from distillens.data.splits import NAMES, SplitPlan, split_by_part, stratified_sample
from distillens.data.target import Target
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from distillens.data.base import Ints, TaskKind
    from distillens.data.pictures.source import Size

TARGET = "class"  # what is predicted, where it has no other name
MOST_SIDE = 4096


def load_images(
    source: Any,
    *,
    test: Any = None,
    classes: Sequence[str] | None = None,
    size: int | Sequence[int] | None = None,
    limit: Mapping[str, int | None] | None = None,
    split: Mapping[str, Any] | None = None,
    task: str = "auto",
    target: str | None = None,
    name: str | None = None,
    seed: int = 0,
    base_dir: Path | None = None,
) -> Dataset:
    """Read, split and check images.

    source: `digits`, `fashion-mnist`, a folder (relative to base_dir) with a folder a class or with IDX files, an .npz file, (pixels, labels), or a
    torch data set. test, classes: test images in the same form, and names in label order, for the last two.
    size: one common side in pixels, or (height, width); None: the pictures' own, of mixed ones the commonest (`resize.py` says how).
    limit: {train, validation, test} → how many rows of a split are kept, drawn in proportion to its classes.
    split: {test, validation}, shares as in `load_dataset`; where the source has its own test set, that is the test and the share is left out.
    target: what to call that which is predicted. Row ids are positions in the source, whatever split and limit.
    Raises DataError in one sentence for what cannot be used, and for images without a label; MissingExtraError without Pillow where it is needed.
    """
    wanted, kept = read_size(size), read_limit(limit)
    plan = _plan(split)
    opened = open_images(source, test=test, classes=classes, base_dir=base_dir)
    kind = task_of(opened.classes, task)
    own_test = opened.part is not None and bool((opened.part == TEST).any())
    if own_test and (split or {}).get("test") is not None:
        raise DataError(
            "These images come with a test set of their own, so there is no share of test rows to draw; leave out split.test."
        )
    if opened.part is not None and not own_test:
        raise DataError(
            "The source says which images are for training, but none are for the test; it should say so too."
        )
    rows = split_by_part(opened.part, Target(kind, opened.classes, opened.labels), plan, seed=seed)
    words = []
    for part, most in kept.items():
        if most < len(opened.classes):
            raise DataError(
                f"limit.{part} of {most} is less than one row for each of the {len(opened.classes)} classes."
            )
        if most < len(rows[part]):
            words.append(f"{most:,} of {len(rows[part]):,} {part} rows")
            rows[part] = rows[part][stratified_sample(opened.labels[rows[part]], most, seed=seed)]
    return _dataset(opened, rows, wanted, kind, target or TARGET, name, words)


def _dataset(
    opened: ImageSource,
    rows: Mapping[str, Ints],
    size: Size | None,
    task: TaskKind,
    target: str,
    name: str | None,
    words: list[str],
) -> Dataset:
    chosen = np.concatenate([rows[part] for part in NAMES])
    pixels, found = opened.read(chosen, size)
    whole = Split(Images(pixels, chosen), opened.labels[chosen])
    ends = np.cumsum([0, *(len(rows[part]) for part in NAMES)])
    train, validation, test = (whole.take(np.arange(ends[i], ends[i + 1])) for i in range(3))
    text = opened.text + (f"; {', '.join(words)} drawn by class" if words else "")
    dataset = Dataset(
        train, validation, test, task, opened.classes, target, name=name or opened.name, source=text, licence=opened.licence,
        citation=opened.citation, findings=(*opened.findings, *found),
    )  # fmt: skip
    return replace(dataset, findings=dataset.findings + check_images(dataset))


def read_size(size: int | Sequence[int] | None) -> Size | None:
    """(height, width). DataError for anything but one or two sensible whole numbers."""
    if size is None:
        return None
    sides = [size] if isinstance(size, int) else list(size) if isinstance(size, (list, tuple)) else []
    if len(sides) not in (1, 2) or any(type(s) is not int or not 1 <= s <= MOST_SIDE for s in sides):
        raise DataError(f"size is a number of pixels from 1 to {MOST_SIDE}, or [height, width], not {size!r}.")
    return sides[0], sides[-1]


def read_limit(limit: Mapping[str, int | None] | None) -> dict[str, int]:
    """Split → most rows, of the splits that have a limit."""
    for part, most in (limit or {}).items():
        if part not in NAMES:
            raise DataError(f"There is no limit for {part!r}.{did_you_mean(str(part), NAMES)}")
        if most is not None and (type(most) is not int or most < 1):
            raise DataError(f"limit.{part} is a number of rows of at least 1, not {most!r}.")
    return {part: most for part, most in (limit or {}).items() if most is not None}


def _plan(split: Mapping[str, Any] | None) -> SplitPlan:
    plan = SplitPlan.read(split)
    for option in ("time", "group", "column"):
        if getattr(plan, option) is not None:
            raise DataError(
                f"Images have no columns, so they cannot be split by {option}; give test and validation, or folders train and test."
            )
    return plan


def task_of(classes: Sequence[str], task: str) -> TaskKind:
    """binary or multiclass; DataError where the task asked for is another."""
    if len(classes) < 2:
        raise DataError(f"There is only the class {classes[0]!r}; a classifier needs two or more.")
    kind: TaskKind = "binary" if len(classes) == 2 else "multiclass"
    if task not in ("auto", "classification", kind):
        raise DataError(f"These images have {len(classes)} classes, which is a {kind} task, not {task}.")
    return kind

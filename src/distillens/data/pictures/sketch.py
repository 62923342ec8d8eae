"""A first look at images: what `distillens init` needs to write a commented recipe. Only a few of them are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.pictures.load import TARGET, task_of
from distillens.data.pictures.source import TEST, TRAIN, open_images
from distillens.data.sketch import suggest_adverse
from distillens.data.target import Target

if TYPE_CHECKING:
    from distillens.data.base import Finding, TaskKind

LOOKED_AT = 64  # images that are read, spread evenly over all


@dataclass(frozen=True)
class ImageSketch:
    """Images at first sight. shape: (C, H, W) of those looked at, in their commonest size. classes: images of each. own_test: whether the
    source has a test set. training: images that are not for the test there."""

    name: str
    source: str
    rows: int
    training: int
    target: str
    task: TaskKind
    classes: Mapping[str, int]
    adverse: str | None
    adverse_reason: str
    shape: tuple[int, int, int]
    own_test: bool
    mixed: bool
    findings: tuple[Finding, ...]


def sketch_images(source: Any, target: str | None = None, *, base_dir: Path | None = None) -> ImageSketch:
    """Look at images without training anything. Raises DataError when the source cannot be read, or has a single class."""
    opened = open_images(source, base_dir=base_dir)
    n = len(opened.labels)
    task = task_of(opened.classes, "auto")
    pixels, found = opened.read(np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(np.int64)), None)
    part = np.full(n, TRAIN) if opened.part is None else opened.part
    wanted = Target(task, opened.classes, opened.labels)
    adverse, why = suggest_adverse(wanted) if task == "binary" else (None, "")
    channels, height, width = pixels.shape[1:]
    return ImageSketch(
        opened.name, opened.text, n, int((part != TEST).sum()), target or TARGET, task, wanted.counts, adverse, why,
        (int(channels), int(height), int(width)), bool((part == TEST).any()), any(f.kind == "resized" for f in found), opened.findings,
    )  # fmt: skip

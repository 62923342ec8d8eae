"""What a careful reader wants to know about images before trusting any number computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from distillens.data.base import Finding
from distillens.data.checks import class_findings

if TYPE_CHECKING:
    from distillens.data.base import Dataset, Split
    from distillens.data.images import Images

RARE = 1 / 3  # of the rows that a class would have if all had as many: below that, imbalance is mentioned


def check_images(dataset: Dataset) -> tuple[Finding, ...]:
    """The same picture in two splits, or with two labels; pictures of one colour; rare and absent classes. Nothing is changed."""
    parts = {name: cast("Split", getattr(dataset, name)) for name in ("train", "validation", "test")}
    hashes = {name: cast("Images", split.inputs).hashes for name, split in parts.items()}
    return (*_repeated(hashes), *_contradicted(dataset, hashes), *_constant(parts), *_classes(dataset))


def _repeated(hashes: dict[str, np.ndarray]) -> list[Finding]:
    found = []
    earlier = {"validation": hashes["train"], "test": np.concatenate([hashes["train"], hashes["validation"]])}
    for part, where in (("test", "training or validation"), ("validation", "training")):
        n, count = len(hashes[part]), int(np.isin(hashes[part], earlier[part]).sum())
        if count:
            text = (
                f"{count:,} of {n:,} {part} images ({count / n:.1%}) are, pixel for pixel, also among the {where} images; "
                f"figures on {part} rows may flatter. Remove repeated images."
            )
            found.append(Finding("duplicate_images", None, text, values={"part": part, "rows": count, "n": n}))
    return found


def _contradicted(dataset: Dataset, hashes: dict[str, np.ndarray]) -> list[Finding]:
    every = np.concatenate([hashes[name] for name in ("train", "validation", "test")])
    labels = np.concatenate([np.asarray(getattr(dataset, name).labels) for name in ("train", "validation", "test")])
    pairs = np.unique(np.stack([every, labels.astype(np.uint64)]), axis=1)
    pictures, counts = np.unique(pairs[0], return_counts=True)
    count = int(np.isin(every, pictures[counts > 1]).sum())
    if not count:
        return []
    text = f"{count:,} images occur, pixel for pixel, with different labels; no model can be right about all of them."
    return [Finding("contradicted_images", dataset.target, text, values={"rows": count, "n": len(every)})]


def _constant(parts: dict[str, Split]) -> list[Finding]:
    count = total = 0
    for split in parts.values():
        flat = cast("Images", split.inputs).pixels.reshape(len(split), -1)
        count += int((flat.max(axis=1) == flat.min(axis=1)).sum())
        total += len(split)
    if not count:
        return []
    text = f"{count:,} of {total:,} images have the same value in every pixel; nothing can be seen on them."
    return [Finding("constant_images", None, text, values={"rows": count, "n": total})]


def _classes(dataset: Dataset) -> list[Finding]:
    """Absent classes as in tables; a class is rare beside its share among equals, because ten equal classes have a tenth each."""
    labels = np.asarray(dataset.train.labels)
    rare = RARE * len(labels) / len(dataset.classes)
    return [
        finding for finding in class_findings(dataset) if finding.kind != "imbalance" or finding.values["rows"] < rare
    ]

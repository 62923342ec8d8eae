"""Making a cache of a teacher's answers, and checking one against the teacher."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.errors import ArtefactError, InputError
from distillens.progress import task
from distillens.store import HEADER, JSON, content_hash, write_json, write_record
from distillens.transfer.answers.asking import Asker
from distillens.transfer.answers.cache import (
    INFO,
    WORDS,
    TeacherCache,
    bounds_of,
    check_meta,
    identity_of,
    kept_by,
    read_info,
    shard_name,
)
from distillens.transfer.answers.stored import Stored, Teacher, from_top, to_top


def build_cache(
    teacher: Teacher,
    images: Images,
    folder: str | Path,
    *,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    stored: Stored | None = None,
    batch_size: int = 256,
    shard_rows: int = 4096,
    precision: Literal["float32", "bf16"] = "float32",
    device: Literal["cpu", "auto"] = "cpu",
) -> TeacherCache:
    """Ask the teacher about every view of every image and keep what it says; goes on where an earlier build was stopped.

    augmentation: with `views` above 0 where it changes anything, since a cache can hold only so many. Raises InputError when it
    is not, ArtefactError when `folder` holds answers of something else, RunError when the disk is full.
    """
    folder, augmentation, stored = Path(folder), augmentation or Augmentation(), stored or Stored()
    if augmentation.changes and augmentation.views == 0:
        raise InputError(
            "A cache holds a number of views of each row: set views in the augmentation, for example views: 8."
        )
    if len(np.unique(images.row_ids)) != len(images):
        raise InputError("Every image of a cache needs a row id of its own, and some are there twice.")
    parts = identity_of(teacher, augmentation, seed, stored, precision=precision)
    outputs = len(teacher.classes) or 1
    if stored.top is not None and stored.top >= outputs:
        raise InputError(f"top: {stored.top} of {outputs} outputs keeps them all; leave it out.")
    info: JSON = {
        "rows": len(images), "views": max(1, augmentation.views), "shard_rows": shard_rows, "outputs": outputs, "parts": parts,
        "teacher": teacher.label, "classes": list(teacher.classes), "stored": parts["stored"],
        "shown": {"augmentation": asdict(augmentation), "seed": seed},
        "data": content_hash({}, {"row_ids": images.row_ids, "hashes": images.hashes}),
    }  # fmt: skip
    info["identity"] = content_hash(info)
    if (folder / INFO).exists():
        before = read_info(folder)
        if before["identity"] != info["identity"]:
            named = [WORDS[part] for part in WORDS if before["parts"].get(part) != parts[part]]
            named += ["the images"] if before["data"] != info["data"] else []
            named += ["the number of views or of rows in a shard"] if not named else []
            raise ArtefactError(
                f"{folder / INFO} is of other answers: {' and '.join(named)} changed since. Choose another folder, or remove this one."
            )
    else:
        write_json(folder / INFO, info)
    for part_of_a_file in folder.glob(".*.part"):  # left by a build that was killed
        part_of_a_file.unlink(missing_ok=True)
    cache = TeacherCache(folder, info)
    bounds = bounds_of(info)
    asker = Asker(teacher, stored, precision=precision, device=device)
    with task(f"asking {teacher.label}", total=len(images) * info["views"], unit="images") as advance:
        for number, (start, stop) in enumerate(bounds):
            part = images.take(range(start, stop))
            if (folder / shard_name(number)).exists():
                _check_header(folder / shard_name(number), info, number)
                advance(len(part) * info["views"])
                continue
            arrays: dict[str, NDArray[Any]] = {"row_ids": part.row_ids, "hashes": part.hashes.view(np.int64)}
            for view in range(info["views"]):
                answers = asker.about(part, augmentation, view=view, seed=seed, batch_size=batch_size, advance=advance)
                arrays |= {f"view{view}/{name}": array for name, array in answers.items()}
            write_record(folder / shard_name(number), {"identity": info["identity"], "shard": number}, arrays)
    return cache


def verify_cache(
    cache: TeacherCache,
    teacher: Teacher,
    images: Images,
    *,
    augmentation: Augmentation,
    seed: int,
    rows: int = 64,
    tolerance: float = 1e-3,
) -> float:
    """Check every shard's checksum, and ask the teacher again about a sample of rows; returns the largest difference of outputs.

    tolerance: of the difference, as a share of the outputs' spread (float16 answers are allowed their rounding). Raises
    ArtefactError when a shard is damaged or an answer is another.
    """
    where = cache.positions(images)
    chosen = np.random.default_rng(seed).permutation(len(images))[:rows]
    stored = kept_by(cache.info)
    asker = Asker(teacher, stored, precision=cache.info["parts"]["precision"], device="cpu")
    worst = 0.0
    for view in range(cache.views):
        sample = images.take(chosen)
        again = asker.view_of(sample, augmentation, view=view, seed=seed)
        kept = cache.answers(where[chosen], view=view, inputs=again.inputs)
        ours = again.outputs.float()
        if stored.top is not None:
            ours = from_top(*to_top(ours, stored.top), classes=ours.shape[1])
        difference = float((kept.outputs - ours).abs().max())
        spread = float(ours.std()) or 1.0
        allowed = tolerance * spread + (2e-3 * float(ours.abs().max()) if stored.dtype == "float16" else 0.0)
        if difference > allowed:
            raise ArtefactError(
                f"{cache.folder} holds other answers than the teacher gives now: outputs differ by {difference:.3g} in view {view}, "
                f"and {allowed:.3g} is rounding. Remove it and build it again."
            )
        worst = max(worst, difference)
    return worst


def _check_header(path: Path, info: JSON, number: int) -> None:
    """That a shard is this cache's and in its place, from its header alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as stream:
            meta = json.loads((stream.metadata() or {})[HEADER])["meta"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged or no shard ({error}); remove it, and building goes on.") from error
    check_meta(path, meta, info, number)

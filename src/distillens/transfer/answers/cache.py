"""The teacher's answers on disk: asked once, used in every epoch of every student, and never those of another teacher.

    folder/info.json                 what was stored and from what: teacher, preprocessing, augmentation, data type
    folder/shard-00000.safetensors   rows 0 … m−1, every view of them, with a checksum of their own

An answer belongs to (teacher's weights and preprocessing, row id, the row's pixels, view id). Whatever of it changed is noticed:
other weights, preprocessing, augmentation, seed or type by the fingerprints in info.json; other pixels by a hash kept with every row;
rows in another order are found by their ids; a flipped byte by the shard's checksum. Each is an error that names the file.
Shards are written atomically, one after the other: a build that was killed goes on after the last whole one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.errors import ArtefactError, InputError
from distillens.store import JSON, content_hash, read_json, read_record
from distillens.transfer.answers.stored import Stored, Teacher, from_top
from distillens.transfer.objectives.base import Tap, View

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = 1
INFO = "info.json"


@dataclass(frozen=True, eq=False)
class TeacherCache:
    """An open cache, for reading. `teacher_cache` opens one, `build_cache` makes one.

    rows: images in it. views: of each. A shard is checked against its checksum when something of it is first used.
    """

    folder: Path
    info: JSON
    _shards: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        return int(self.info["rows"])

    @property
    def views(self) -> int:
        return int(self.info["views"])

    @property
    def shards(self) -> int:
        """Files in it."""
        return len(bounds_of(self.info))

    def check(self, number: int) -> None:
        """Compare a shard with its checksum, and its place. ArtefactError names the file."""
        _opened(self.folder / shard_name(number), self.info, bounds_of(self.info)[number])

    @property
    def layers(self) -> tuple[Tap, ...]:
        return tuple(self.info["stored"]["layers"])

    @property
    def has_maps(self) -> bool:
        return self.info["stored"]["map"] is not None

    @property
    def fingerprint(self) -> str:
        """Hash of everything the answers depend on."""
        return str(self.info["identity"])

    def positions(self, images: Images) -> NDArray[np.int64]:
        """(n,) where each image stands in the cache. ArtefactError for rows that are not in it, or whose pixels are others."""
        shards = [self._shard(number) for number in range(len(bounds_of(self.info)))]
        ids = np.concatenate([shard["row_ids"].numpy() for shard in shards])
        hashes = np.concatenate([shard["hashes"].numpy() for shard in shards]).view(np.uint64)
        order = np.argsort(ids, kind="stable")
        found = order[np.minimum(np.searchsorted(ids[order], images.row_ids), len(ids) - 1)]
        missing = ids[found] != images.row_ids
        if missing.any():
            raise ArtefactError(
                f"{self.folder} holds no answers for {int(missing.sum()):,} of {len(images):,} images (row id "
                f"{int(images.row_ids[missing][0])} and others); build a cache for these rows."
            )
        changed = hashes[found] != images.hashes
        if changed.any():
            raise ArtefactError(
                f"{self.folder} holds answers to other pixels for {int(changed.sum()):,} of {len(images):,} images (row id "
                f"{int(images.row_ids[changed][0])} and others): the data changed after it was built. Build it again in another folder."
            )
        return found.astype(np.int64)

    def answers(self, positions: NDArray[np.int64], *, view: int, inputs: Tensor) -> View:
        """What the teacher said about rows at these positions in one of their views, as if it were asked now.

        inputs: (B, …) what the teacher took, or the student where nothing needs the teacher's. Raises InputError for a view
        that is not kept, ArtefactError for a damaged shard.
        """
        import torch

        if not 0 <= view < self.views:
            raise InputError(
                f"{self.folder} holds views 0 to {self.views - 1}, and view {view} was asked for; set views: {self.views}."
            )
        bounds = bounds_of(self.info)
        which = np.searchsorted(np.array([stop for _, stop in bounds]), positions, side="right")
        gathered: dict[str, Tensor] = {}
        for number in np.unique(which):
            shard, mine = self._shard(int(number)), np.flatnonzero(which == number)
            index = torch.from_numpy(positions[mine] - bounds[number][0])
            for name in (name for name in shard if name.startswith(f"view{view}/")):
                rows = shard[name][index]
                rows = rows.float() if rows.is_floating_point() else rows
                kept = gathered.setdefault(name.split("/", 1)[1], rows.new_empty((len(positions), *rows.shape[1:])))
                kept[torch.from_numpy(mine)] = rows
        outputs = gathered.get("outputs")
        if outputs is None:
            outputs = from_top(
                gathered["top"], gathered["log_probabilities"], gathered["tail"], classes=int(self.info["outputs"])
            )
        layers = {name.removeprefix("layer/"): tensor for name, tensor in gathered.items() if name.startswith("layer/")}
        return View(outputs, inputs, layers, gathered.get("map"))

    def _shard(self, number: int) -> dict[str, Tensor]:
        """The tensors of a shard, mapped from disk; checked when it is first asked for."""
        if number not in self._shards:
            self._shards[number] = _opened(self.folder / shard_name(number), self.info, bounds_of(self.info)[number])
        return self._shards[number]


def identity_of(teacher: Teacher, augmentation: Augmentation, seed: int, stored: Stored, *, precision: str) -> JSON:
    """Everything but the rows that an answer depends on, in parts that have names."""
    return {
        "teacher": teacher.fingerprint,
        "augmentation": augmentation.fingerprint(seed),
        "stored": stored.to_json(),
        "precision": precision,
        "version": _VERSION,
    }


def teacher_cache(
    folder: str | Path,
    *,
    teacher: Teacher,
    augmentation: Augmentation,
    seed: int,
    stored: Stored | None = None,
    precision: str = "float32",
) -> TeacherCache:
    """Open a finished cache and check that it is of this teacher and these views.

    stored: what it should hold; None: whatever it holds is fine.
    Raises ArtefactError when it is not there, not finished, damaged, or of something else, and says which.
    """
    folder = Path(folder)
    info = read_info(folder)
    wanted = identity_of(teacher, augmentation, seed, stored or Stored(), precision=precision)
    if stored is None:
        wanted["stored"] = info["parts"]["stored"]
    changed = [WORDS[part] for part, value in wanted.items() if part in WORDS and info["parts"].get(part) != value]
    if changed:
        raise ArtefactError(
            f"{folder / INFO} is of other answers: {' and '.join(changed)} changed since. Build the cache again in another folder, or remove this one."
        )
    if info["views"] < max(1, augmentation.views):
        raise ArtefactError(
            f"{folder / INFO} holds {info['views']} views of each row, and {max(1, augmentation.views)} are asked for; build it again with more."
        )
    return open_whole(folder)


def open_whole(folder: str | Path) -> TeacherCache:
    """Open a finished cache, whatever it is of. ArtefactError when it is none, or not finished."""
    folder = Path(folder)
    info = read_info(folder)
    missing = [number for number in range(len(bounds_of(info))) if not (folder / shard_name(number)).exists()]
    if missing:
        raise ArtefactError(
            f"{folder} is not finished: {len(missing)} of {len(bounds_of(info))} shards are missing ({shard_name(missing[0])} first). "
            "Building it again goes on from there."
        )
    return TeacherCache(folder, info)


WORDS = {
    "teacher": "the teacher (its weights or its preprocessing)",
    "augmentation": "the augmentation or its seed",
    "stored": "what is to be stored",
    "precision": "the precision in which the teacher answers",
    "version": "the format",
}


def cache_info(folder: str | Path) -> JSON:
    """What a folder holds: `{rows, views, teacher, classes, stored, shards, whole, bytes, …}`. ArtefactError when it is no cache."""
    folder = Path(folder)
    info = read_info(folder)
    shards = [folder / shard_name(number) for number in range(len(bounds_of(info)))]
    present = [path for path in shards if path.exists()]
    return info | {
        "shards": len(shards),
        "whole": len(present) == len(shards),
        "bytes": sum(path.stat().st_size for path in present),
    }


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def bounds_of(info: JSON) -> list[tuple[int, int]]:
    rows, size = int(info["rows"]), int(info["shard_rows"])
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def kept_by(info: JSON) -> Stored:
    """What a cache keeps; of its map only that there is one, since code is not read from files."""
    kept = info["stored"]
    return Stored(kept["top"], tuple(kept["layers"]), kept["pooled"], None, kept["dtype"])


def read_info(folder: Path) -> JSON:
    info = read_json(folder / INFO)
    wanted = {"rows", "views", "shard_rows", "outputs", "parts", "stored", "data", "identity"}
    if not isinstance(info, dict) or not wanted <= set(info):
        raise ArtefactError(f"{folder / INFO} does not describe a teacher cache.")
    if content_hash({name: value for name, value in info.items() if name != "identity"}) != info["identity"]:
        raise ArtefactError(
            f"{folder / INFO} was changed after it was written; remove the folder and build the cache again."
        )
    return info


def check_meta(path: Path, meta: JSON, info: JSON, number: int) -> None:
    if meta.get("identity") != info["identity"]:
        raise ArtefactError(f"{path} is of another cache; remove it, and building goes on.")
    if meta.get("shard") != number:
        raise ArtefactError(f"{path} is shard {meta.get('shard')} under another name; remove it, and building goes on.")


def _opened(path: Path, info: JSON, bounds: tuple[int, int]) -> dict[str, Tensor]:
    """A shard's tensors, mapped and not read, after a look at all its bytes."""
    from safetensors import safe_open

    meta, arrays = read_record(path)  # compares the checksum
    check_meta(path, meta, info, bounds[0] // int(info["shard_rows"]))
    if any(len(array) != bounds[1] - bounds[0] for array in arrays.values()):
        raise ArtefactError(f"{path} holds another number of rows than its place in the cache asks for.")
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)

"""The teacher's answers on disk: asked once, used in every epoch of every student, and never those of another teacher.

    folder/info.json                 what was stored and from what: teacher, preprocessing, augmentation, data type
    folder/shard-00000.safetensors   rows 0 … m−1, every view of them, with a checksum of their own

An answer belongs to (teacher's weights and preprocessing, row id, the row's pixels, view id). Whatever of it changed is noticed:
other weights, preprocessing, augmentation, seed or type by the fingerprints in info.json; other pixels by a hash kept with every row;
rows in another order are found by their ids; a flipped byte by the shard's checksum. Each is an error that names the file.
Shards are written atomically, one after the other: a build that was killed goes on after the last whole one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.errors import ArtefactError, InputError
from distillens.progress import task
from distillens.store import HEADER, JSON, content_hash, read_json, read_record, write_json, write_record
from distillens.transfer.objectives.base import Objective, Tap, View

if TYPE_CHECKING:
    from torch import Tensor, nn

_VERSION = 1
INFO = "info.json"
Kind = Literal["float32", "float16"]


class Teacher(Protocol):
    """What can be asked for a cache: a network with its own preprocessing. `models/image_network.py` has one."""

    @property
    def label(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str:
        """Content hash of weights and preprocessing."""
        ...

    @property
    def module(self) -> nn.Module: ...
    def to_tensor(self, inputs: Images) -> Tensor: ...


class MapObjective(Objective, Protocol):
    """An objective that compares maps and can say the teacher's beforehand."""

    def teacher_map(self, teacher: View) -> Tensor:
        """(B, …) the teacher's map, a constant."""
        ...


@dataclass(frozen=True)
class Stored:
    """`{top: 10, layers: [features], dtype: float16}`: what of the teacher is kept.

    top: the k largest probabilities of a row and what all others have together; None: all logits. Of k probabilities the others come
    back as equal shares of the rest: nothing is renormalised, and how much was left out is known for every row (`tail`).
    layers: taps whose activations are kept, averaged over positions (pooled) or whole. map: an objective such as
    `{kind: gradient_matching}` whose maps of the teacher are kept. dtype: numbers on disk; sums are float32 all the same.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    top: int | None = None
    layers: tuple[Tap, ...] = ()
    pooled: bool = True
    map: Any = None
    dtype: Kind = "float32"

    def __post_init__(self) -> None:
        from distillens.transfer.objectives.base import as_objective

        if self.top is not None and (type(self.top) is not int or self.top < 1):
            raise InputError(f"top is a whole number of at least 1, or nothing for all logits, got {self.top!r}.")
        if self.dtype not in ("float32", "float16"):
            raise InputError(f"dtype is float32 or float16, got {self.dtype!r}.")
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.map is not None:
            objective = as_objective(self.map)
            if not hasattr(objective, "teacher_map"):
                raise InputError(
                    f"The objective {objective.kind!r} compares no maps that could be kept; map is one of gradient_matching, "
                    "gradcam_matching, attribution_matching."
                )
            object.__setattr__(self, "map", objective)

    def to_json(self) -> JSON:
        return asdict(self) | {"layers": list(self.layers), "map": None if self.map is None else repr(self.map)}


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
        shards = [self._shard(number) for number in range(len(_bounds(self.info)))]
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
        bounds = _bounds(self.info)
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
            self._shards[number] = _opened(self.folder / _name(number), self.info, _bounds(self.info)[number])
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
    info = _read_info(folder)
    wanted = identity_of(teacher, augmentation, seed, stored or Stored(), precision=precision)
    if stored is None:
        wanted["stored"] = info["parts"]["stored"]
    changed = [_WORDS[part] for part, value in wanted.items() if part in _WORDS and info["parts"].get(part) != value]
    if changed:
        raise ArtefactError(
            f"{folder / INFO} is of other answers: {' and '.join(changed)} changed since. Build the cache again in another folder, or remove this one."
        )
    if info["views"] < max(1, augmentation.views):
        raise ArtefactError(
            f"{folder / INFO} holds {info['views']} views of each row, and {max(1, augmentation.views)} are asked for; build it again with more."
        )
    missing = [number for number in range(len(_bounds(info))) if not (folder / _name(number)).exists()]
    if missing:
        raise ArtefactError(
            f"{folder} is not finished: {len(missing)} of {len(_bounds(info))} shards are missing ({_name(missing[0])} first). "
            "Building it again goes on from there."
        )
    return TeacherCache(folder, info)


_WORDS = {
    "teacher": "the teacher (its weights or its preprocessing)",
    "augmentation": "the augmentation or its seed",
    "stored": "what is to be stored",
    "precision": "the precision in which the teacher answers",
    "version": "the format",
}


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
    from distillens.transfer.asking import Asker

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
        "data": content_hash({}, {"row_ids": images.row_ids, "hashes": images.hashes}),
    }  # fmt: skip
    info["identity"] = content_hash(info)
    if (folder / INFO).exists():
        before = _read_info(folder)
        if before["identity"] != info["identity"]:
            named = [_WORDS[part] for part in _WORDS if before["parts"].get(part) != parts[part]]
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
    bounds = _bounds(info)
    asker = Asker(teacher, stored, precision=precision, device=device)
    with task(f"asking {teacher.label}", total=len(images) * info["views"], unit="images") as advance:
        for number, (start, stop) in enumerate(bounds):
            part = images.take(range(start, stop))
            if (folder / _name(number)).exists():
                _check_header(folder / _name(number), info, number)
                advance(len(part) * info["views"])
                continue
            arrays: dict[str, NDArray[Any]] = {"row_ids": part.row_ids, "hashes": part.hashes.view(np.int64)}
            for view in range(info["views"]):
                answers = asker.about(part, augmentation, view=view, seed=seed, batch_size=batch_size, advance=advance)
                arrays |= {f"view{view}/{name}": array for name, array in answers.items()}
            write_record(folder / _name(number), {"identity": info["identity"], "shard": number}, arrays)
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
    from distillens.transfer.asking import Asker

    where = cache.positions(images)
    chosen = np.random.default_rng(seed).permutation(len(images))[:rows]
    stored = _stored(cache.info)
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


def cache_info(folder: str | Path) -> JSON:
    """What a folder holds: `{rows, views, teacher, classes, stored, shards, whole, bytes, …}`. ArtefactError when it is no cache."""
    folder = Path(folder)
    info = _read_info(folder)
    shards = [folder / _name(number) for number in range(len(_bounds(info)))]
    present = [path for path in shards if path.exists()]
    return info | {
        "shards": len(shards),
        "whole": len(present) == len(shards),
        "bytes": sum(path.stat().st_size for path in present),
    }


def to_top(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest of (B, C) log-probabilities: their classes (B, k), themselves (B, k), and the log of what is left (B,)."""
    import torch

    log_p = torch.log_softmax(logits.float(), dim=1)
    values, classes = log_p.topk(k, dim=1)
    rest = log_p.scatter(1, classes, -torch.inf).logsumexp(dim=1)
    return classes, values, rest


def from_top(classes_of_top: Tensor, log_probabilities: Tensor, tail: Tensor, *, classes: int) -> Tensor:
    """(B, C) log-probabilities from what `to_top` keeps: the classes that are not there share the tail equally."""
    import math

    k = classes_of_top.shape[1]
    each = (tail - math.log(classes - k))[:, None].expand(-1, classes)
    return each.clone().scatter(1, classes_of_top.long(), log_probabilities)


def _name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _bounds(info: JSON) -> list[tuple[int, int]]:
    rows, size = int(info["rows"]), int(info["shard_rows"])
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def _stored(info: JSON) -> Stored:
    """What a cache keeps; of its map only that there is one, since code is not read from files."""
    kept = info["stored"]
    return Stored(kept["top"], tuple(kept["layers"]), kept["pooled"], None, kept["dtype"])


def _read_info(folder: Path) -> JSON:
    info = read_json(folder / INFO)
    wanted = {"rows", "views", "shard_rows", "outputs", "parts", "stored", "data", "identity"}
    if not isinstance(info, dict) or not wanted <= set(info):
        raise ArtefactError(f"{folder / INFO} does not describe a teacher cache.")
    if content_hash({name: value for name, value in info.items() if name != "identity"}) != info["identity"]:
        raise ArtefactError(
            f"{folder / INFO} was changed after it was written; remove the folder and build the cache again."
        )
    return info


def _check_header(path: Path, info: JSON, number: int) -> None:
    """That a shard is this cache's and in its place, from its header alone."""
    import json

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="np") as stream:
            meta = json.loads((stream.metadata() or {})[HEADER])["meta"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} is damaged or no shard ({error}); remove it, and building goes on.") from error
    _check_meta(path, meta, info, number)


def _check_meta(path: Path, meta: JSON, info: JSON, number: int) -> None:
    if meta.get("identity") != info["identity"]:
        raise ArtefactError(f"{path} is of another cache; remove it, and building goes on.")
    if meta.get("shard") != number:
        raise ArtefactError(f"{path} is shard {meta.get('shard')} under another name; remove it, and building goes on.")


def _opened(path: Path, info: JSON, bounds: tuple[int, int]) -> dict[str, Tensor]:
    """A shard's tensors, mapped and not read, after a look at all its bytes."""
    from safetensors import safe_open

    meta, arrays = read_record(path)  # compares the checksum
    _check_meta(path, meta, info, bounds[0] // int(info["shard_rows"]))
    if any(len(array) != bounds[1] - bounds[0] for array in arrays.values()):
        raise ArtefactError(f"{path} holds another number of rows than its place in the cache asks for.")
    with safe_open(str(path), framework="pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)

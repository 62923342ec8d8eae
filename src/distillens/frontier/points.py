"""Fit one student of one size several times, and keep what it answered: a point of the frontier before anything is measured.

Each point is fitted with S seeds on all training rows, and S times on a bootstrap resample of them. The seeds move whatever a family
draws, and the query rows. The resamples are there for the structure: three families draw nothing and a tree only breaks ties, so that
other seeds would call every one of them perfectly stable. Rows (clusters of rows, where the data have them) are drawn with
replacement and used once with their count as weight, so that no copy of a row is both fitted on and stopped by. The teacher and its
answers stay as they are: this is the student's own stability.

No fit sees the validation rows. A family that stops early does so on rows of the training part: a fifth of them that it is not fitted
on, or those that the resample left out; the targets stand for the teacher there, because out-of-fold answers are known for no others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Split, Table
from distillens.errors import ArtefactError, ModelError
from distillens.frontier.sizes import IGNORE_VALIDATION, Member
from distillens.frontier.stability import stability
from distillens.frontier.structure import Grid, structure
from distillens.frontier.units import units
from distillens.models.base import Decision, Model, evaluate
from distillens.run import code_version, stage_seed
from distillens.store import canonical_json, content_hash, read_record, write_record
from distillens.transfer.rows.queries import with_queries
from distillens.transfer.targets import Targets

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints
    from distillens.models.base import Output

HELD_BACK = 0.2  # share of the training rows (or clusters) on which a family stops early
CODE = ("data", "models", "students", "transfer", "frontier")


@dataclass(frozen=True, eq=False)
class Ground:
    """What every point shares.

    targets: of the training rows, without queries, in the order of `groups` ((n,) clusters or None). validation: the rows that
    everything is measured on. queries: rows made up per training row. seed: everything that is drawn descends from it.
    """

    targets: Targets
    teacher: Model
    validation: Split
    decision: Decision | None
    groups: Ints | None = None
    queries: int = 1
    seeds: int = 3
    seed: int = 0

    @cached_property
    def key(self) -> str:
        """Hash of everything a point depends on but its student."""
        answers = evaluate(self.teacher, self.validation.inputs)
        arrays = {"validation": self.validation.table.values, "teacher": answers}
        meta = {
            "targets": self.targets.fingerprint, "teacher": self.teacher.fingerprint, "queries": self.queries, "seeds": self.seeds,
            "seed": self.seed, "decision": None if self.decision is None else [self.decision.adverse, self.decision.threshold],
            "groups": None if self.groups is None else self.groups.tolist(), "code": code_version(CODE),
        }  # fmt: skip
        return content_hash(meta, arrays)

    @cached_property
    def grid(self) -> Grid:
        return Grid.of(self.targets.table)


@dataclass(frozen=True, eq=False)
class Point:
    """A fitted point. outputs, refitted: (S, n, K) answers on the validation rows of the fits on all rows and on resamples."""

    member: Member
    output: Output
    outputs: Floats
    refitted: Floats
    complexity: tuple[dict[str, int], ...]
    whole: tuple[float, ...]
    decision: tuple[float, ...]
    stability: dict[str, Any] | None
    settings: dict[str, Any]
    seconds: float


@dataclass(frozen=True, eq=False)
class Recorded:
    """Answers that are known already, as a model: for the rows they were given for, by row id, and for no others."""

    classes: tuple[str, ...]
    output: Output
    row_ids: Ints
    answers: Floats
    label: str = "recorded answers"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> Floats:
        place = {int(row): i for i, row in enumerate(self.row_ids)}
        if any(int(row) not in place for row in inputs.row_ids):
            raise ModelError("These answers were recorded for other rows.")
        return np.asarray(self.answers[[place[int(row)] for row in inputs.row_ids]], dtype=np.float64)


def fit_point(member: Member, ground: Ground, *, folder: Path | None = None) -> Point:
    """Fit a point, or read it from `folder` when the same one was fitted before. Raises what a fit raises."""
    settings = settings_of(member)
    path = None
    if folder is not None:
        key = content_hash({"ground": ground.key, "kind": member.student.kind, "settings": settings}, {})
        path = folder / f"{member.id}-{key[:16]}.safetensors"
        if path.is_file():
            try:
                return _read(path, member, settings)
            except (ArtefactError, KeyError, TypeError):
                path.unlink()  # half of a file, or not ours: fitted again
    started = time.monotonic()
    fitted = [_fit(member, ground, k, resample=False) for k in range(ground.seeds)]
    again = [_fit(member, ground, k, resample=True) for k in range(ground.seeds)]
    rows = ground.validation.table
    counted = [units(model, rows) for model in fitted]
    shuffle = stage_seed(ground.seed, "importance")
    seen = [structure(model, rows, grid=ground.grid, decision=ground.decision, seed=shuffle) for model in again]
    sized: list[Any] = list(fitted)
    point = Point(
        member, fitted[0].output, np.stack([evaluate(m, rows) for m in fitted]), np.stack([evaluate(m, rows) for m in again]),
        tuple({k: int(v) for k, v in m.complexity().items()} for m in sized), tuple(c.whole for c in counted),
        tuple(c.decision for c in counted), stability(seen), settings, round(time.monotonic() - started, 3),
    )  # fmt: skip
    if path is not None:
        _write(path, point)
    return point


def _fit(member: Member, ground: Ground, k: int, *, resample: bool) -> Model:
    seed = stage_seed(ground.seed, "resample" if resample else "fit", str(k))
    targets, validation, guide = taught(
        ground, seed, resample=resample, holds_back=member.family not in IGNORE_VALIDATION
    )
    return member.student.fit(targets, validation=validation, teacher=guide, seed=seed)


def taught(ground: Ground, seed: int, *, resample: bool, holds_back: bool) -> tuple[Targets, Split, Model]:
    """Targets with queries, the rows to stop on and what answers them; see the module's text. holds_back: for a family that stops early."""
    targets, rng = ground.targets, np.random.default_rng(seed)
    n = len(targets)
    ids = np.arange(n) if ground.groups is None else np.unique(ground.groups, return_inverse=True)[1]
    clusters = int(ids.max()) + 1
    counts = np.ones(n)
    if resample:
        counts = np.bincount(rng.integers(0, clusters, size=clusters), minlength=clusters)[ids].astype(np.float64)
    stopping = counts == 0
    if holds_back and not (resample and stopping.any()):
        held = rng.permutation(clusters)[: max(1, round(HELD_BACK * clusters))]
        stopping = np.isin(ids, held) if clusters > 1 else np.zeros(n, dtype=np.bool_)
    fitted = counts > 0 if not holds_back else (counts > 0) & ~stopping
    rows, rest = np.flatnonzero(fitted), np.flatnonzero(stopping if holds_back else fitted)
    kept = replace(
        targets, inputs=targets.table.take(rows), outputs=targets.outputs[rows], weights=targets.weights[rows] * counts[rows],
        labels=None if targets.labels is None else targets.labels[rows], is_query=targets.is_query[rows],
    )  # fmt: skip
    rest = rest if len(rest) else rows
    labels = None if targets.labels is None else targets.labels[rest]
    if labels is not None and targets.classes:
        labels = labels.astype(np.int64)
    known = Split(targets.table.take(rest), labels, targets.weights[rest])
    guide = Recorded(targets.classes, targets.output, targets.table.row_ids, targets.outputs)
    return with_queries(kept, ground.teacher, per_row=ground.queries, seed=seed), known, guide


def settings_of(member: Member) -> dict[str, Any]:
    """The student's options as JSON takes them."""
    import json
    from dataclasses import asdict

    student: Any = member.student
    plain: dict[str, Any] = json.loads(canonical_json(asdict(student)))
    return plain


def _write(path: Path, point: Point) -> None:
    meta = {
        "output": point.output, "complexity": list(point.complexity), "stability": point.stability, "settings": point.settings,
        "seconds": point.seconds,
    }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {
        "outputs": point.outputs, "refitted": point.refitted, "whole": np.array(point.whole), "decision": np.array(point.decision),
    }  # fmt: skip
    write_record(path, meta, arrays)


def _read(path: Path, member: Member, settings: dict[str, Any]) -> Point:
    meta, arrays = read_record(path)
    return Point(
        member, meta["output"], arrays["outputs"], arrays["refitted"], tuple(meta["complexity"]), _numbers(arrays["whole"]),
        _numbers(arrays["decision"]), meta["stability"], settings, float(meta["seconds"]),
    )  # fmt: skip


def _numbers(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def fits(members: Sequence[Member], ground: Ground) -> int:
    """How many fits a frontier takes."""
    return 2 * ground.seeds * len(members)

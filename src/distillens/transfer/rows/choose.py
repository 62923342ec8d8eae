"""Which query rows, and how many? Those whose student follows the teacher best on validation rows.

Every kind is tried with growing numbers of rows, on the same validation rows, and a kind is given up when two numbers in a row brought the
student no closer (`stop="validation"`). What was tried stands in the record with its figures, also what did not help. The choice makes the
validation figure of the winner too good; the test rows have no part in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distillens.data.base import Table
from distillens.errors import InputError, did_you_mean
from distillens.named import load_object
from distillens.transfer.rows.manifold import Manifold
from distillens.transfer.rows.queries import add_queries, distance_to_teacher
from distillens.transfer.rows.threshold import NearThreshold, near_threshold

if TYPE_CHECKING:
    from distillens.data.base import Split
    from distillens.models.base import Decision, Model
    from distillens.transfer.targets import Family, Targets

# Kinds that make rows from training rows alone: (training rows, *, rows, seed) → rows.
MADE: dict[str, str] = {
    "smear": "distillens.transfer.rows.queries:smear",
    "noise": "distillens.transfer.rows.noise:noisy",
    "interpolation": "distillens.transfer.rows.interpolation:interpolated",
}
# Kinds that also look at the teacher, or at the student.
ASKING = ("disagreement", "threshold")
KINDS = (*MADE, *ASKING)
AUTO = (*MADE, "disagreement")  # `threshold` changes what is aimed at, so it is for those who ask for it

PATIENCE = 2  # numbers, or rounds, without a better validation distance before a kind is given up
POOL = 8  # candidates a drawn row, for the kinds that draw from candidates
MOST = 3_000  # training rows among which neighbours are sought; with more, a random part of them
SCORED = 500  # query rows whose on-manifold score is measured

Stop = Literal["validation", "none"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """targets, model: those of the best try. tried: {kind (None: no queries), per_row, rows, on_manifold, validation_kl, validation_rmse}
    of every try, disagreement also {round}, threshold also {draw}. best: its index in `tried`."""

    targets: Targets
    model: Model
    tried: list[dict[str, Any]]
    best: int


def choose_queries(
    student: Family,
    targets: Targets,
    teacher: Model,
    validation: Split,
    *,
    candidates: Sequence[float] = (0, 1, 4),
    kinds: Sequence[str] = ("smear",),
    stop: Stop = "validation",
    rounds: int = 5,
    on_manifold: float | None = None,
    near: NearThreshold | None = None,
    decision: Decision | None = None,
    seed: int,
    out: Path | None = None,
) -> Chosen:
    """Fit the student with every kind and number of query rows; the one closest to the teacher on validation is kept.

    candidates: query rows per training row. kinds: of `KINDS`. stop: give a kind up after `PATIENCE` numbers that are no better, or never.
    rounds: of `disagreement`, which spends the largest number over them. on_manifold: least score a query needs (`Manifold.score`);
    None: 0.05 for disagreement, which would else collect what no row resembles, and 0 for others. near, decision: for `threshold`.
    Distances are the mean KL(teacher ‖ student) in nats for classes and the RMSE to the teacher for regression, weighted by rows.
    Ties go to fewer queries and to the kind named first. out: the chosen student's folder. Raises InputError, and what a fit raises.
    """
    numbers = sorted(set(candidates))
    if not numbers:
        raise InputError("There is no number of query rows to choose from; with candidates=(0,) there are none.")
    _check(kinds, numbers, on_manifold, decision)
    search = _Search(student, targets, teacher, validation, seed, out)
    if numbers[0] == 0:
        search.consider(targets, kind=None, per_row=0)
    if numbers[-1] == 0:  # images have no query rows, and may come this way
        return search.finish()
    usual = _Usual(targets, seed, on_manifold)
    for kind in kinds:
        if kind == "disagreement":
            _rounds(search, usual, numbers[-1], rounds=rounds, patience=PATIENCE if stop == "validation" else rounds)
            continue
        worse, closest = 0, search.zero
        for per_row in (number for number in numbers if number > 0):
            rows = max(1, round(per_row * len(usual.train)))
            if kind == "threshold":
                assert decision is not None
                pool = usual.made("smear", rows * POOL, seed, asking=kind)
                drawn, weight, record = near_threshold(
                    pool, teacher, decision, rows=rows, seed=seed, settings=near or NearThreshold()
                )
                taught = add_queries(targets, teacher, drawn, relative=weight)
                distance = search.consider(taught, kind=kind, per_row=per_row, **usual.measured(drawn), draw=record)
            else:
                queries = usual.made(kind, rows, seed, asking=kind)
                taught = add_queries(targets, teacher, queries)
                distance = search.consider(taught, kind=kind, per_row=per_row, **usual.measured(queries))
            worse, closest = (0, distance) if closest is None or distance < closest else (worse + 1, closest)
            if stop == "validation" and worse >= PATIENCE:
                break
    return search.finish()


def _check(
    kinds: Sequence[str], numbers: Sequence[float], on_manifold: float | None, decision: Decision | None
) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"There is no kind of query rows {kind!r}.{did_you_mean(str(kind), KINDS)}")
    if not kinds and numbers[-1] > 0:
        raise InputError("There is no kind of query rows to choose from.")
    if numbers[0] < 0:
        raise InputError(f"A number of query rows cannot be negative, got {numbers[0]!r}.")
    if on_manifold is not None and not 0 <= on_manifold <= 1:
        raise InputError(f"The least on-manifold score of a query lies between 0 and 1, got {on_manifold!r}.")
    if "threshold" in kinds and numbers[-1] > 0 and decision is None:
        raise InputError("Queries near the threshold need a decision, and this task has none.")


class _Usual:
    """Query rows that resemble the data, and how much they do."""

    def __init__(self, targets: Targets, seed: int, least: float | None) -> None:
        self.train = targets.table.take(np.flatnonzero(~targets.is_query))
        self.least = least
        part = self.train
        if len(part) > MOST:
            part = part.take(np.sort(np.random.default_rng([seed, 1]).choice(len(part), MOST, replace=False)))
        self.manifold = Manifold.of(part) if len(part) > 1 else None

    def wanted(self, kind: str) -> float:
        if self.least is not None:
            return self.least
        return 0.05 if kind == "disagreement" else 0.0

    def made(self, kind: str, rows: int, seed: int, *, asking: str) -> Table:
        """Rows of a kind that score enough. Where few do, up to four times as many are made, and there may be fewer than wanted."""
        make, least = load_object(MADE[kind]), self.wanted(asking)
        made: Table = make(self.train, rows=rows, seed=seed)
        if least == 0 or self.manifold is None:
            return made
        kept = self.manifold.keep(made, least=least)
        for again in range(1, 4):
            if len(kept) >= rows:
                break
            more = make(self.train, rows=rows, seed=int(np.random.default_rng([seed, again]).integers(2**31)))
            kept = Table.concatenate([kept, self.manifold.keep(more, least=least)])
        return kept.take(np.arange(min(rows, len(kept))))

    def measured(self, queries: Table) -> dict[str, Any]:
        """{rows, on_manifold: median score of at most `SCORED` of them}."""
        if self.manifold is None or not len(queries):
            return {"rows": len(queries), "on_manifold": None}
        part = queries.take(np.unique(np.linspace(0, len(queries) - 1, min(SCORED, len(queries))).astype(np.int64)))
        return {"rows": len(queries), "on_manifold": float(np.median(self.manifold.score(part)))}


class _Search:
    """Fits what it is handed and remembers the closest."""

    def __init__(
        self, student: Family, targets: Targets, teacher: Model, validation: Split, seed: int, out: Path | None
    ) -> None:
        self.student, self.targets, self.teacher, self.validation = student, targets, teacher, validation
        self.seed, self.out = seed, out
        self.tried: list[dict[str, Any]] = []
        self.folders: list[Path | None] = []
        self.best: tuple[float, Targets, Model, int] | None = None
        self.zero: float | None = None  # the distance without queries
        self.start: Model | None = None

    def consider(
        self,
        taught: Targets,
        *,
        kind: str | None,
        per_row: float,
        rows: int = 0,
        on_manifold: float | None = None,
        **more: Any,
    ) -> float:
        """Fit, measure, remember; returns the distance."""
        folder = self.folder()
        model = self.student.fit(taught, validation=self.validation, teacher=self.teacher, seed=self.seed, out=folder)
        distance = distance_to_teacher(model, self.teacher, self.validation)
        self.remember(
            taught, model, distance, folder, kind=kind, per_row=per_row, rows=rows, on_manifold=on_manifold, **more
        )
        if kind is None:
            self.zero, self.start = distance, model
        return distance

    def folder(self) -> Path | None:
        if self.out is None:
            return None
        folder = Path(self.out) / f"try-{len(self.folders)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remember(self, taught: Targets, model: Model, distance: float, folder: Path | None, **entry: Any) -> None:
        classes = bool(self.targets.classes)
        figures = {"validation_kl": distance if classes else None, "validation_rmse": None if classes else distance}
        self.tried.append(entry | figures)
        self.folders.append(folder)
        if self.best is None or distance < self.best[0]:
            self.best = (distance, taught, model, len(self.tried) - 1)

    def finish(self) -> Chosen:
        assert self.best is not None
        for place, folder in enumerate(self.folders):
            if folder is not None and self.out is not None:
                if place == self.best[3]:
                    shutil.copytree(folder, self.out, dirs_exist_ok=True)
                shutil.rmtree(folder)
        return Chosen(self.best[1], self.best[2], self.tried, self.best[3])


def _rounds(search: _Search, usual: _Usual, per_row: float, *, rounds: int, patience: int) -> None:
    """Disagreement queries, a round at a time; every round is a try."""
    from distillens.transfer.rows.disagreement import by_disagreement

    each = per_row / rounds

    def propose(train: Table, rows: int, seed: int) -> Table:
        del train  # the same rows
        return usual.made("smear", rows, seed, asking="disagreement")

    def heard(number: int, queries: Table, taught: Targets, model: Model, distance: float, folder: Path | None) -> None:
        if number == 0 and search.zero is not None:
            return
        kind = "disagreement" if number else None
        search.remember(
            taught, model, distance, folder, kind=kind, per_row=len(queries) / len(usual.train), **usual.measured(queries), round=number
        )  # fmt: skip

    by_disagreement(
        search.student, search.targets, search.teacher, search.validation, per_round=each, pool=max(POOL, 2.0 * each),
        rounds=rounds, patience=patience, least=0.0, propose=propose, start=search.start, heard=heard, folder=search.folder,
        seed=search.seed,
    )  # fmt: skip

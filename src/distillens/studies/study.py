"""The study file: transfer mechanisms side by side, each with the same tuning budget and the same seeds.

    study: which mechanism helps a small network
    data: {source: digits}
    teacher: {model: {kind: cnn, channels: [24, 48, 96]}, schedule: {epochs: 10, learning_rate: 0.003}}
    student: {kind: cnn, channels: [8, 16], activation: softplus}
    schedule: {epochs: 8, learning_rate: 0.003, batch_size: 128}
    seeds: 5
    tune: {budget: 3, weights: [0.3, 1, 3]}
    mechanisms:
      - {name: kd, objectives: [{kind: kd, temperature: 4}], task_weight: 1}

`labels`, the student fitted on labels alone, is always one of the mechanisms; where the file does not name it, it is put first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError

from distillens.errors import InputError, RecipeError, did_you_mean
from distillens.explainers.base import EXPLAINERS
from distillens.recipe.base import folder_name
from distillens.recipe.entries import read_entry, sentences, shown
from distillens.recipe.settings import Part, Share
from distillens.recipe.text import apply_overrides, dump_yaml, join, plain, read_yaml
from distillens.studies.grid import Configuration, configurations, grid_problems
from distillens.transfer.objectives.base import OBJECTIVES

if TYPE_CHECKING:
    from distillens.models.nets.base import ImageNet
    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.training.schedule import Schedule

BASELINE = "labels"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_SCHEDULE = {"schedule": "distillens.transfer.training.schedule:Schedule"}
Count = Annotated[int, Field(ge=1)]


class DataPart(Part):
    """source: built-in images, or a folder or file of images, relative to the study file. size: sides in pixels. limit: rows of train,
    validation and test that are kept. split: shares, where the source has no test rows of its own."""

    source: Annotated[str, Field(min_length=1)] | None = None
    size: Count | None = None
    limit: dict[Literal["train", "validation", "test"], Count] | None = None
    split: dict[Literal["test", "validation"], Share] | None = None


class TeacherPart(Part):
    """model, schedule: trained once on the labels of all training rows, shared by all; file: one that was trained before."""

    model: str | dict[str, Any] | None = None
    schedule: dict[str, Any] = Field(default_factory=dict)
    file: str | None = None


class TunePart(Part):
    """budget: configurations tried for every mechanism, on validation rows, with a seed of its own; 1: nothing is tried.

    learning_rates: factors of the schedule's, tried for the baseline; the other mechanisms train with what was best for it. weights:
    factors of their objectives. A mechanism's own `grid` replaces these. epochs: of a try; None: the schedule's. by: what decides on validation rows.
    """

    budget: Annotated[int, Field(ge=1, le=100)] = 3
    weights: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)] = (0.3, 1.0, 3.0)
    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)] = (
        0.3,
        1.0,
        3.0,
    )
    epochs: Count | None = None
    by: Literal["accuracy", "agreement"] = "accuracy"


class MeasurePart(Part):
    """saliency_rows: test rows whose input gradients are compared. explainer, explained_rows, background, budget: of the explainer that
    nothing was trained on; budget: coalitions a row, None: its own."""

    saliency_rows: Annotated[int, Field(ge=0)] = 500
    explainer: str = "permutation_shap"
    explained_rows: Annotated[int, Field(ge=0)] = 50
    background: Count = 10
    budget: Count | None = None


class MechanismPart(Part):
    """name: a file name. objectives, task_weight: as of a network student. grid: option → values tried (studies/grid.py)."""

    name: str
    objectives: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    task_weight: Annotated[float, Field(ge=0)] = 1.0
    grid: dict[str, tuple[float, ...]] | None = None


class Study(Part):
    """A study as it stands in a file; every default written out."""

    study: Annotated[str, Field(min_length=1)]
    name: str
    data: DataPart = DataPart()
    labelled_per_class: Count | None = None
    teacher: TeacherPart
    student: str | dict[str, Any]
    schedule: dict[str, Any]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    seeds: Annotated[int, Field(ge=1, le=100)] = 5
    tune: TunePart = TunePart()
    measure: MeasurePart = MeasurePart()
    mechanisms: Annotated[tuple[MechanismPart, ...], Field(strict=False, min_length=1)]
    equivalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    _base_dir: Path | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Study:
        """From a YAML file or a dictionary. overrides: `key.sub=value`. Raises RecipeError with every problem found."""
        raw: Any = source if isinstance(source, Mapping) else read_yaml(Path(source))
        if not isinstance(raw, Mapping):
            raise RecipeError(f"{source}: expected a mapping with keys such as data and mechanisms, got {shown(raw)}.")
        problems: list[str] = []
        raw = plain(raw, "", problems)
        problems += apply_overrides(raw, overrides)
        if problems:
            raise RecipeError(problems)
        raw = {key: value for key, value in raw.items() if value is not None}
        raw.setdefault("name", "study" if isinstance(source, Mapping) else folder_name(Path(source).stem))
        raw.setdefault("study", raw["name"])
        problems = _look(raw)
        try:
            study = cls.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            raise RecipeError(sentences(error, raw, cls) + problems) from None
        problems += _across(study)
        if problems:
            raise RecipeError(problems)
        study._base_dir = None if isinstance(source, Mapping) else Path(source).resolve().parent
        return study

    @property
    def base_dir(self) -> Path | None:
        """Where relative paths start."""
        return self._base_dir

    def mechanism(self, name: str) -> MechanismPart:
        """One of them by name."""
        return next(mechanism for mechanism in self.mechanisms if mechanism.name == name)

    def built_schedule(self, learning_rate: float | None = None, epochs: int | None = None) -> Schedule:
        """The students' schedule. Its last epoch is kept: nothing is chosen but configurations, and those on validation rows."""
        changes = {k: v for k, v in (("learning_rate", learning_rate), ("epochs", epochs)) if v is not None}
        return _schedule(self.schedule | changes)

    def teacher_schedule(self) -> Schedule:
        """The teacher's: the students', with what the file says otherwise."""
        return _schedule(self.schedule | self.teacher.schedule)

    def net(self, which: Literal["teacher", "student"], *, trust_code: bool = False) -> ImageNet:
        """Settings of one of the networks. Raises InputError, UntrustedCodeError."""
        from distillens.models.nets.base import as_image_net

        return as_image_net((self.teacher.model if which == "teacher" else self.student) or "", trust_code=trust_code)

    def configurations(
        self, mechanism: MechanismPart, *, learning_rate: float | None = None
    ) -> tuple[Configuration, ...]:
        """What is tried for a mechanism: `tune.budget` configurations, the same number for all.

        learning_rate: the one that was chosen for the baseline; None: the schedule's.
        """
        rate = float(self.schedule["learning_rate"]) if learning_rate is None else learning_rate
        return configurations(
            mechanism.objectives, mechanism.task_weight, rate,
            grid=self._grid(mechanism), budget=self.tune.budget, seed=self.seed,
        )  # fmt: skip

    def _grid(self, mechanism: MechanismPart) -> dict[str, tuple[float, ...]]:
        if self.tune.budget == 1:
            return {}
        if mechanism.grid is not None:
            return mechanism.grid
        if mechanism.objectives:
            return {"weights": self.tune.weights}
        rate = float(self.schedule.get("learning_rate", 1.0))  # a file without one is refused
        return {"learning_rate": tuple(rate * factor for factor in self.tune.learning_rates)}

    def to_yaml(self) -> str:
        """The study with every default written out; `Study.load` reads it back."""
        return dump_yaml(self.model_dump(mode="json"))


def is_study(path: Path) -> bool:
    """Whether a path is a YAML file with the key `study` or `mechanisms`. RecipeError when it is YAML that cannot be read."""
    if path.suffix.lower() not in {".yaml", ".yml"} or not path.is_file():
        return False
    raw = read_yaml(path)
    return isinstance(raw, Mapping) and bool({"study", "mechanisms"} & set(raw))


def built_objectives(entries: Sequence[Mapping[str, Any]], *, trust_code: bool = False) -> tuple[Objective, ...]:
    """The dataclasses of entries that were checked before."""
    from distillens.recipe.entries import build_entry

    return tuple(build_entry(dict(e), OBJECTIVES, what="objective", path=f"objectives.{i}", trust_code=trust_code)
                 for i, e in enumerate(entries))  # fmt: skip


def _schedule(entry: Mapping[str, Any]) -> Schedule:
    built, problems = read_entry({"kind": "schedule", **entry, "keep": "last"}, _SCHEDULE, what="schedule", path="schedule")  # fmt: skip
    if problems:
        raise RecipeError(problems)
    schedule: Schedule = built
    return schedule


def _look(raw: dict[str, Any]) -> list[str]:
    """Problems inside entries of open sets; `labels` is put first where it is not named."""
    from distillens.models.nets.base import as_image_net

    problems: list[str] = []
    schedule = raw.get("schedule")
    if isinstance(schedule, dict):
        problems += _schedule_problems(schedule, "schedule")
    teacher = raw.get("teacher")
    nets = {"student": raw.get("student")}
    if isinstance(teacher, dict):
        own = teacher.get("schedule")
        if isinstance(own, dict) and isinstance(schedule, dict):
            problems += [p for p in _schedule_problems({**schedule, **own}, "teacher.schedule") if p.replace("teacher.", "", 1) not in problems]  # fmt: skip
        if teacher.get("file") is None:
            nets["teacher.model"] = teacher.get("model")
        elif teacher.get("model") is not None:
            problems.append("teacher: a file holds its model already; keep one of the two.")
    for path, entry in nets.items():
        if isinstance(entry, (str, dict)) and not (isinstance(entry, str) and ":" in entry):
            try:
                as_image_net(entry)
            except InputError as error:
                problems.append(f"{path}: {error}")
        elif path == "teacher.model" and entry is None:
            problems.append("teacher: give its model, such as {kind: cnn, channels: [32, 64, 128]}, or a file.")
    mechanisms = raw.get("mechanisms")
    if isinstance(mechanisms, list):
        if not any(isinstance(m, dict) and m.get("name") == BASELINE for m in mechanisms):
            mechanisms.insert(0, {"name": BASELINE})
        for i, mechanism in enumerate(mechanisms):
            if isinstance(mechanism, dict):
                problems += _mechanism_problems(mechanism, join("mechanisms", i))
    return problems


def _schedule_problems(entry: Mapping[str, Any], path: str) -> list[str]:
    if "keep" in entry:
        return [f"{path}.keep: a study always keeps the last epoch, so that nothing is chosen on the way; remove it."]
    return read_entry({"kind": "schedule", **entry}, _SCHEDULE, what="schedule", path=path)[1]


def _mechanism_problems(mechanism: dict[str, Any], path: str) -> list[str]:
    problems = []
    name, objectives = mechanism.get("name"), mechanism.get("objectives")
    if isinstance(name, str) and not _NAME.fullmatch(name):
        problems.append(f"{path}.name: {shown(name)} cannot name a folder; use letters, digits, - and _, at most 40.")
    if isinstance(objectives, list):
        for i, entry in enumerate(objectives):
            problems += read_entry(entry, OBJECTIVES, what="objective", path=join(f"{path}.objectives", i))[1]
        if name == BASELINE and objectives:
            problems.append(
                f"{path}: {BASELINE!r} is the student that no teacher tells anything; name this one differently."
            )
    return problems


def _across(study: Study) -> list[str]:
    problems = []
    names = [mechanism.name.lower() for mechanism in study.mechanisms]
    if len(names) < 2:
        problems.append(
            f"mechanisms: only {BASELINE!r} is left to compare; name at least one that learns from a teacher."
        )
    for i, mechanism in enumerate(study.mechanisms):
        path = join("mechanisms", i)
        if mechanism.name.lower() in names[:i]:
            problems.append(
                f"{path}.name: there is another mechanism {mechanism.name!r}; some disks cannot tell capitals apart."
            )
        if not mechanism.objectives and not mechanism.task_weight:
            problems.append(f"{path}: with task_weight 0 and no objectives there is nothing to learn from.")
        if not mechanism.objectives and mechanism.name != BASELINE:
            problems.append(
                f"{path}.objectives: only {BASELINE!r} has none; what does {mechanism.name!r} learn from the teacher?"
            )
        problems += grid_problems(study._grid(mechanism), mechanism.objectives, study.tune.budget, path=f"{path}.grid")
    if study.measure.explainer not in EXPLAINERS:
        problems.append(
            f"measure.explainer: there is no explainer {study.measure.explainer!r}.{did_you_mean(study.measure.explainer, EXPLAINERS)}"
        )
    if not _NAME.fullmatch(study.name):
        problems.append(f"name: {shown(study.name)} cannot name a folder; use letters, digits, - and _, at most 40.")
    return problems

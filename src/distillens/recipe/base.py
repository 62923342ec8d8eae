"""`Recipe`: the typed recipe. YAML, a built-in name or a dictionary in; every problem at once, in one sentence each.

    recipe = Recipe.load("german-credit", overrides=["students.tree.max_leaves=8"])
    recipe.to_yaml()                 # with every default written out
    recipe.build_student("tree")     # the dataclass that fits it

A recipe is data: loading one runs no code and reads no table. What needs the table is found by `distillens check`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from distillens.data.builtin import BUILTIN, BUILTIN_IMAGES
from distillens.data.pictures.source import is_image_text
from distillens.errors import RecipeError, did_you_mean
from distillens.explainers.base import EXPLAINERS
from distillens.frontier.sizes import check_families
from distillens.recipe.entries import Entry, build_entry, read_entry, resolved, sentences, shown
from distillens.recipe.frontier import frontier_part
from distillens.recipe.settings import (
    AuditSettings,
    Candidates,
    DataSettings,
    FrontierSettings,
    Part,
    ReportSettings,
    SplitSettings,
    TargetSettings,
    TaskSettings,
)
from distillens.recipe.teacher import OUTSIDE, is_family, made_by, outside_entry, read_outside, teacher_file
from distillens.recipe.text import apply_overrides, dump_yaml, join, plain, read_yaml
from distillens.students.base import STUDENTS, TEACHERS

BUILTIN_RECIPES = Path(__file__).with_name("builtin")
AUTO_QUERIES = (0, 1, 4)  # query rows per training row that "auto" tries on validation
AUTO_KINDS = ("smear", "noise", "interpolation", "disagreement")

_STUDENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_FOLDER_NAME = re.compile(r"[^\s.][^/\\<>:\"|?*\x00-\x1f]{0,99}")
_TAKEN = {"teacher", "twin", "chosen"}


class Recipe(Part):
    """Everything about one run. Make one with `Recipe.load`, which reports all problems as one RecipeError."""

    name: str
    title: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataSettings
    task: TaskSettings = TaskSettings()
    teacher: dict[str, Any] = Field(default_factory=lambda: {"kind": "boosted_trees"})
    targets: TargetSettings = TargetSettings()
    students: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    assistants: dict[str, str] = Field(default_factory=dict)
    chosen: str = "auto"
    frontier: FrontierSettings | None = None
    explain: tuple[dict[str, Any], ...] = ({"kind": "kernel_shap"},)
    controls: Literal["none", "standard", "full"] = "standard"
    audit: AuditSettings = AuditSettings()
    export: tuple[str, ...] = ("onnx",)
    report: ReportSettings = ReportSettings()
    _base_dir: Path | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Recipe:
        """A built-in recipe by name, a YAML file, or a dictionary.

        overrides: `key.sub=value` texts, applied before anything is checked. Raises RecipeError with every problem found.
        """
        problems: list[str] = []
        raw, name, base_dir = _read(source)
        if not isinstance(raw, Mapping):
            raise RecipeError(
                f"{name if isinstance(source, Mapping) else source}: expected a mapping with keys such as data and students, got {shown(raw)}."
            )
        raw = plain(raw, "", problems)
        problems += apply_overrides(raw, overrides)
        if problems:
            raise RecipeError(problems)
        raw = {key: value for key, value in raw.items() if value is not None}  # `targets:` with nothing below it
        raw.setdefault("name", name)
        report = raw.get("report")
        own = report.get("title") if isinstance(report, dict) else None
        raw.setdefault("title", own if isinstance(own, str) and own else raw["name"])
        problems = _entries(raw)
        try:
            recipe = cls.model_validate_json(json.dumps(raw))
        except ValidationError as error:
            raise RecipeError(sentences(error, raw, cls) + problems) from None
        problems += _across(recipe)
        if problems:
            raise RecipeError(problems)
        recipe._base_dir = base_dir
        return recipe

    @field_validator("name")
    @classmethod
    def _folder(cls, value: str) -> str:
        if not _FOLDER_NAME.fullmatch(value) or value != value.strip() or value.endswith("."):
            raise ValueError(f"{value!r} cannot name a folder; use letters, digits, - and _.")
        return value

    # ── what the pipeline asks for ──────────────────────────────────────────────────────────────────────────────────
    @property
    def base_dir(self) -> Path | None:
        """Where relative paths start: the folder of the recipe file; None for built-in recipes and dictionaries."""
        return self._base_dir

    def data_path(self) -> Path | None:
        """The data file or folder, when the source is one; it need not exist."""
        source = self.data.source
        if (
            source is None
            or source in BUILTIN
            or source in BUILTIN_IMAGES
            or (":" in source and not Path(source).suffix)
        ):
            return None
        return Path(source) if self._base_dir is None else self._base_dir / source

    def teacher_kind(self) -> str:
        """The family of the teacher, or the file or code that it comes from."""
        return str(self.teacher.get("kind") or self.teacher.get("use") or self.teacher["file"])

    def teacher_path(self) -> Path | None:
        """The teacher's file, when it comes from one; it need not exist."""
        return teacher_file(self.teacher, self._base_dir)

    def with_teacher(self, given: str | Path) -> Recipe:
        """The same recipe with the teacher from a file or from package.module:name. Raises RecipeError."""
        raw = self._plain() | {"teacher": outside_entry(given, self._base_dir)}
        changed = Recipe.load(raw)
        changed._base_dir = self._base_dir
        return changed

    def outside_teacher(self, *, trust_code: bool = False) -> Any:
        """The file, model, estimator, module or function that the recipe names as teacher; None when it names a family to be trained."""
        if "use" in self.teacher:
            made = made_by(str(self.teacher["use"]), trust_code=trust_code)
            return None if is_family(made) else made
        return self.teacher_path()

    def query_candidates(self) -> tuple[float, ...]:
        """Numbers of query rows per training row to choose from."""
        queries = self.targets.queries
        if isinstance(queries, (int, float)):
            return (queries,)
        if isinstance(queries, Candidates):
            return queries.candidates
        return AUTO_QUERIES if queries == "auto" and self.targets.origin != "labels" else (0,)

    def query_kinds(self) -> tuple[str, ...]:
        """Kinds of query rows to choose from."""
        kinds = (AUTO_KINDS if kind == "auto" else (kind,) for kind in self.targets.kind)
        return tuple(dict.fromkeys(kind for group in kinds for kind in group))

    def costs(self) -> tuple[float, float] | None:
        """What a false positive and a false negative cost, where the recipe says so."""
        costs = self.task.costs
        return None if costs is None else (costs.false_positive, costs.false_negative)

    def teaching_order(self) -> tuple[str, ...]:
        """The students' names, each after the assistant that teaches it."""
        order: list[str] = []
        for name in self.students:
            chain = [name]
            while (taught_by := self.assistants.get(chain[-1])) is not None and taught_by not in chain:
                chain.append(taught_by)
            order += [link for link in reversed(chain) if link not in order]
        return tuple(order)

    def build_student(self, name: str, *, trust_code: bool = False) -> Any:
        """The student's dataclass with its settings."""
        if name not in self.students:
            raise RecipeError(f"There is no student {name!r} in the recipe.{did_you_mean(name, self.students)}")
        built = build_entry(
            self.students[name], STUDENTS, what="student", path=f"students.{name}", trust_code=trust_code
        )
        return self._told(built)

    def _told(self, family: Any) -> Any:
        """A family that speaks of the adverse class, as a scorecard's points do, is told which class the task calls so."""
        return (
            dataclasses.replace(family, adverse=self.task.adverse) if getattr(family, "adverse", "") is None else family
        )

    def build_teacher(self, *, trust_code: bool = False) -> Any:
        """The teacher's family: it has `fit`. RecipeError for a teacher that cannot be trained, such as a file."""
        if "file" in self.teacher:
            raise RecipeError(f"teacher.file: {self.teacher['file']} is a model, not a family that can be trained.")
        if "use" not in self.teacher:
            return self._told(
                build_entry(self.teacher, TEACHERS, what="teacher", path="teacher", trust_code=trust_code)
            )
        made = made_by(str(self.teacher["use"]), trust_code=trust_code)
        if is_family(made):
            return made
        if hasattr(made, "get_params"):
            from distillens.students.estimator import EstimatorFamily

            return EstimatorFamily(made)
        raise RecipeError(
            f"teacher.use: {self.teacher['use']} is a {type(made).__name__}, which has no fit; return a student family or a scikit-learn estimator."
        )

    def build_explainers(self, *, trust_code: bool = False) -> dict[str, Any]:
        """Name → explainer; the name is its kind, numbered when a kind appears again (`kernel_shap_2`)."""
        built: dict[str, Any] = {}
        for position, entry in enumerate(self.explain):
            explainer = build_entry(
                entry, EXPLAINERS, what="explainer", path=f"explain.{position}", trust_code=trust_code
            )
            kind = re.sub(r"\W", "_", str(entry["kind"]).rpartition(":")[2])
            again = sum(name == kind or re.fullmatch(re.escape(kind) + r"_\d+", name) is not None for name in built)
            built[kind if not again else f"{kind}_{again + 1}"] = explainer
        return built

    def stage_parts(self) -> dict[str, Any]:
        """For each stage the part of the recipe it depends on; equal parts let a resumed run reuse the stage.

        The seed is in the part of the data, from which every stage descends.
        """
        whole = self._plain()
        return {
            "data": {"seed": self.seed, "name": self.name, "data": whole["data"], "task": whole["task"]},
            "teacher": whole["teacher"],
            "targets": whole["targets"],
            "students": whole["students"],
            "assistants": whole["assistants"],
            "frontier": frontier_part(self, whole),
            "controls": whole["controls"],
            "explain": whole["explain"],
            "audit": whole["audit"],
            "export": whole["export"],
            "report": {**whole["report"], "title": self.title},
        }

    # ── as text ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _plain(self) -> dict[str, Any]:
        whole: dict[str, Any] = self.model_dump(mode="json")
        return whole

    def to_yaml(self) -> str:
        """The recipe with every default written out; equal recipes give equal text, and `Recipe.load` reads it back."""
        return dump_yaml(self._plain())

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema of a recipe, with the options of every built-in family."""
        from distillens.recipe.schema import recipe_schema

        return recipe_schema(cls)


def builtin_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with distillens."""
    return {path.stem: path for path in sorted(BUILTIN_RECIPES.glob("*.yaml"))}


def _read(source: Any) -> tuple[Any, str, Path | None]:
    """Raw content, a name for the run, and where relative paths start."""
    if isinstance(source, Mapping):
        return source, "run", None
    if not isinstance(source, (str, Path)):
        raise RecipeError(f"A recipe is a built-in name, a YAML file or a dictionary, not a {type(source).__name__}.")
    builtin = builtin_recipes()
    if isinstance(source, str) and source in builtin:
        return read_yaml(builtin[source]), source, None
    path = Path(source)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        by_file = bool(path.suffix) or path.name != str(source)
        near = [p.name for p in path.parent.glob("*.y*ml")] if by_file and path.parent.is_dir() else list(builtin)
        raise RecipeError(
            f"There is no recipe {str(source)!r}: {'no such file' if by_file else 'neither a file nor built in'}.{did_you_mean(path.name, near)}"
        )
    return read_yaml(path), folder_name(path.stem), path.resolve().parent


def folder_name(text: str) -> str:
    """A name for a run's folder from anybody's text."""
    return re.sub(r"[\s/\\<>:\"|?*\x00-\x1f]+", "-", text).strip("-. ")[:100].rstrip("-. ") or "run"


def _entries(raw: dict[str, Any]) -> list[str]:
    """Look at every entry of an open set, write its defaults out in `raw`, and return what is wrong.

    What has the wrong shape altogether is left to the model, which says so.
    """
    problems: list[str] = []

    def look(entry: Any, known: Mapping[str, str], what: str, path: str) -> Any:
        built, wrong = read_entry(entry, known, what=what, path=path)
        problems.extend(wrong)
        return resolved(entry, built)

    if isinstance(raw.get("students"), dict):
        students = raw["students"]
        for name, entry in students.items():
            if not _STUDENT_NAME.fullmatch(name) or name.lower() in _TAKEN:
                problems.append(
                    f"{join('students', name)}: a student's name is a file name: letters, digits, - and _, at most 40, not {', '.join(sorted(_TAKEN))}."
                )
            if isinstance(entry, dict):
                students[name] = look(entry, STUDENTS, "student", join("students", name))
        folded = [name.lower() for name in students]
        problems += [f"{join('students', n)}: another student has the same name but for capitals; some disks cannot tell them apart."
                     for n in students if folded.count(n.lower()) > 1][:1]  # fmt: skip
    teacher = raw.setdefault("teacher", {"kind": "boosted_trees"})
    if isinstance(teacher, dict):
        if any(key in teacher for key in OUTSIDE):
            problems += read_outside(teacher)
        else:
            raw["teacher"] = look(teacher, TEACHERS, "teacher", "teacher")
    explain = raw.setdefault("explain", [{"kind": "kernel_shap"}])
    if isinstance(explain, list):
        raw["explain"] = [
            look(e, EXPLAINERS, "explainer", f"explain.{i}") if isinstance(e, dict) else e
            for i, e in enumerate(explain)
        ]
    data = raw.get("data")
    if isinstance(data, dict):
        problems += _data(data)
        source, task = data.get("source"), raw.setdefault("task", {})
        known = BUILTIN.get(source) if isinstance(source, str) else None
        if (
            known is not None
            and known.adverse is not None
            and data.get("target") == known.target
            and isinstance(task, dict)
        ):
            task["adverse"] = known.adverse if task.get("adverse") is None else task["adverse"]
    return problems


def _data(data: Entry) -> list[str]:
    """The split, looked at by itself because the pipeline hands it on as it is; and what built-in data bring along."""
    problems: list[str] = []
    source = data.get("source")
    images = isinstance(source, str) and is_image_text(source)
    # images may come with a test set of their own, so that only `load_dataset` knows whether a share is to be drawn
    shares = {} if images else {"test": 0.3, "validation": 0.3}
    if images and data.get("target") is None:
        data["target"] = "class"
    if isinstance(data.get("split"), dict):
        try:
            split = SplitSettings.model_validate_json(json.dumps(data["split"])).model_dump(exclude_none=True)
            data["split"] = ({} if "column" in split else shares) | split
        except ValidationError as error:
            problems = sentences(error, data["split"], SplitSettings, path="data.split")
    elif data.get("split") is None:
        data["split"] = shares
    if isinstance(source, str) and source in BUILTIN:
        if data.get("target") is None:
            data["target"] = BUILTIN[source].target
        if data.get("roles") is None:
            own = {
                role: [c for c in columns if c != data["target"]]
                for role, columns in BUILTIN[source].copy_roles().items()
            }
            data["roles"] = {role: columns for role, columns in own.items() if columns}
    return problems


def _across(recipe: Recipe) -> list[str]:
    """What can only be seen by looking at several parts together."""
    problems = []
    if recipe.chosen != "auto" and recipe.chosen not in recipe.students:
        problems.append(
            f"chosen: there is no student {recipe.chosen!r} in this recipe.{did_you_mean(recipe.chosen, ('auto', *recipe.students))}"
        )
    if recipe.teacher.get("inherit"):
        problems.append(
            "teacher.inherit: a teacher is trained on the labels and has nobody to take weights from; remove it."
        )
    for name, assistant in recipe.assistants.items():
        for who, path in ((name, "assistants"), (assistant, join("assistants", name))):
            if who not in recipe.students:
                problems.append(
                    f"{path}: there is no student {who!r} in this recipe.{did_you_mean(who, recipe.students)}"
                )
        seen = [name]
        while (above := recipe.assistants.get(seen[-1])) is not None:
            if above in seen:
                problems.append(
                    f"{join('assistants', name)}: {' is taught by '.join((*seen, above))}; somebody has to be taught by the teacher."
                )
                break
            seen.append(above)
    if recipe.frontier is not None:
        problems += [
            f"frontier.{problem}" for problem in check_families(recipe.frontier.families, recipe.frontier.sizes)
        ]
    if "file" in recipe.teacher and recipe.targets.origin == "out_of_fold":
        problems.append(
            "targets.origin: out_of_fold needs a teacher that can be refitted, and a file cannot; use auto or in_sample with queries."
        )
    if recipe.data.target is None and recipe.data.source is not None:
        problems.append("data.target: this key is required; it names the column to predict.")
    if recipe.task.kind in {"multiclass", "regression"} and recipe.task.threshold is not None:
        problems.append(f"task.threshold: a {recipe.task.kind} task has no threshold; remove it.")
    problems += _costs(recipe)
    if not recipe.targets.kind:
        problems.append("targets.kind: expected at least one kind of query rows, or auto.")
    if recipe.targets.origin == "labels" and any(recipe.query_candidates()):
        problems.append("targets.queries: with origin: labels there is no teacher to label query rows; remove them.")
    if recipe.task.kind == "regression" and recipe.task.adverse is not None:
        problems.append("task.adverse: a regression has no classes; remove it.")
    if recipe.export:
        from distillens.exporters.base import EXPORTERS

        problems += [f"export.{i}: there is no exporter {name!r}.{did_you_mean(name, EXPORTERS)}"
                     for i, name in enumerate(recipe.export) if name not in EXPORTERS and ":" not in name]  # fmt: skip
        problems += [
            f"export.{i}: {name} is listed twice." for i, name in enumerate(recipe.export) if name in recipe.export[:i]
        ]
    from distillens.audit.gates import check_gates

    return problems + check_gates(recipe.audit.gates)


def _costs(recipe: Recipe) -> list[str]:
    """Costs and threshold say the same thing twice; a threshold rounded to two digits is not a contradiction."""
    from distillens.recipe.decision import threshold_of_costs

    costs, threshold = recipe.costs(), recipe.task.threshold
    if costs is None:
        return []
    if recipe.task.kind in {"multiclass", "regression"}:
        return [f"task.costs: a {recipe.task.kind} task has no decision between two classes; remove them."]
    implied = threshold_of_costs(*costs)
    if threshold is not None and abs(threshold - implied) > 0.005:
        return [
            f"task.threshold: {threshold:g} contradicts task.costs, which imply false_positive / (false_positive + false_negative) = {implied:.3g}; "
            "keep one of the two."
        ]
    return []

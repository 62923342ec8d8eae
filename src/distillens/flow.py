"""`Flow`: what the stages of a run share: the recipe, the directory, the models read back from it, and what was handed in.

The stages themselves are in pipeline.py.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import DistillensWarning, RunError
from distillens.progress import Observer
from distillens.run import Run, StageResult, stage_seed
from distillens.store import JSON, file_hash, read_json

if TYPE_CHECKING:
    from distillens.data.base import Dataset, Inputs, Ints, Table
    from distillens.explainers.base import Explanation
    from distillens.models.base import Decision, Model
    from distillens.recipe import Recipe
    from distillens.transfer.targets import Family, Targets

CONTROL_ROLES = ("undistilled", "random_teacher", "equal_information")
# of a teacher that nothing in the run holds
NO_TEACHER = "it was handed in from Python, is code (which needs --trust-code), or is not fitted yet"
BESIDE = ("matching", "inherit")  # how layers were paired and what was taken over, where a network student has them
PACKAGES = ("numpy", "scipy", "pandas", "scikit-learn", "interpret-core", "torch", "onnx", "onnxruntime")


@dataclass
class Flow:
    """The state of one run. given_teacher, given_data: what was handed in from Python in place of the recipe's."""

    recipe: Recipe
    run: Run
    given_teacher: Any
    given_data: Any
    trust_code: bool
    observer: Observer

    def stage(
        self,
        name: str,
        work: Callable[[Path], str],
        *,
        part: Any,
        reads: Sequence[str] = (),
        code: Sequence[str],
        given: str | None = None,
    ) -> StageResult:
        """One stage, with our own warnings shown as sentences and everyone else's left as they are."""
        self.observer.stage_started(name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DistillensWarning)
            result = self.run.stage(name, work, part=part, reads=reads, code=code, given=given)
        for warning in caught:
            if issubclass(warning.category, DistillensWarning):
                self.observer.warning(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        anew = f"  (worked anew: {result.reason})" if result.reason else ""
        self.observer.stage_done(name, result.summary + anew, result.seconds, result.reused)
        return result

    def seed(self, *names: str) -> int:
        return stage_seed(self.recipe.seed, *names)

    @cached_property
    def parts(self) -> dict[str, Any]:
        return self.recipe.stage_parts()

    # ── data and decision ───────────────────────────────────────────────────────────────────────────────────────────
    @cached_property
    def dataset(self) -> Dataset:
        from distillens.data.saved import read_dataset

        return read_dataset(self.run.directory / "data")

    @cached_property
    def decision(self) -> Decision | None:
        from distillens.models.base import Decision

        record = read_json(self.run.directory / "data" / "dataset.json")["decision"]
        return None if record is None else Decision(record["adverse_index"], record["threshold"])

    def source_fingerprint(self) -> str | None:
        """Content of a file or frame, so that changed data make the stages stale; built-in data are part of the code."""
        if self.given_data is not None:
            import pandas as pd

            if not isinstance(self.given_data, pd.DataFrame):
                from distillens.data.load import load_dataset

                return load_dataset(source=self.given_data).fingerprint
            hashed = pd.util.hash_pandas_object(self.given_data, index=False).to_numpy().tobytes()
            return hashlib.sha256(repr(list(self.given_data.columns)).encode() + hashed).hexdigest()
        path = self.recipe.data_path()
        if path is not None and path.is_dir():
            from distillens.data.pictures.source import folder_hash

            return folder_hash(path)
        return file_hash(path) if path is not None and path.is_file() else None

    # ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────
    @cached_property
    def models(self) -> Models:
        return Models(self)

    def teacher_of(self, student: str) -> Model:
        """Who teaches a student: the teacher, or the student that the recipe calls its assistant.

        A network for images keeps its answers to views below RUN/answers, for all who learn from it.
        """
        from distillens.transfer.answers.kept import WithAnswers

        teacher: Any = self.models[self.recipe.assistants.get(student, "teacher")]
        if self.dataset.is_table or not hasattr(teacher, "to_tensor"):
            return teacher  # type: ignore[no-any-return]
        return WithAnswers(teacher, self.run.directory / "answers")

    def targets_of(self, student: str) -> Targets:
        """The teacher's answers to the training rows; of a student with an assistant, the assistant's own, in sample."""
        from distillens.models.base import evaluate
        from distillens.transfer.targets import Targets

        if student not in self.recipe.assistants or self.targets.origin == "labels":
            return self.targets
        assistant, train = self.models[self.recipe.assistants[student]], self.dataset.train
        answers = evaluate(assistant, train.inputs)
        return Targets.from_outputs(train, answers, output=assistant.output, classes=self.dataset.classes)

    @cached_property
    def family(self) -> Family | None:
        """What can fit the teacher again, for out-of-fold targets and the twin; None for a model that cannot be refitted."""
        if self.given_teacher is None:
            family: Family = self.recipe.build_teacher(trust_code=self.trust_code)
            return family
        if (
            not isinstance(self.given_teacher, Path)
            and hasattr(self.given_teacher, "get_params")
            and hasattr(self.given_teacher, "fit")
        ):
            from distillens.students.estimator import EstimatorFamily

            return EstimatorFamily(self.given_teacher)
        return None

    @cached_property
    def given_model(self) -> Model | None:
        """The model from elsewhere, for these columns and classes; None when a family or an unfitted estimator is to be trained."""
        from distillens.models.base import Model as ModelProtocol
        from distillens.models.callable import align_classes
        from distillens.models.estimator import EstimatorModel, is_fitted
        from distillens.models.files import bound

        if self.given_teacher is None:
            return None
        if self.family is None and isinstance(self.given_teacher, ModelProtocol):
            return align_classes(self.given_teacher, self.dataset.classes)
        if self.family is None:
            own = self.recipe.teacher.get("classes")
            return bound(
                self.given_teacher,
                columns=self.dataset.columns,
                classes=self.dataset.classes,
                own_classes=None if own is None else tuple(own),
            )
        if not is_fitted(self.given_teacher):
            return None
        label = type(self.given_teacher).__name__
        return EstimatorModel(self.given_teacher, self.dataset.columns, self.dataset.classes, label)

    def given_text(self) -> str | None:
        """What identifies the teacher from elsewhere: a file by its bytes, a model by its fingerprint, code by its source."""
        if self.given_teacher is None:
            return None
        if isinstance(self.given_teacher, Path):
            if not self.given_teacher.is_file():  # opening it says so
                return None
            return f"{file_hash(self.given_teacher)} {self.recipe.teacher.get('classes')}"
        if self.given_model is not None:
            known = self.given_model.fingerprint
            return str(known) if known is not None else source_hash(self.given_teacher)
        return repr(self.given_teacher)

    def keep_given(self, home: Path) -> str | None:
        """Copy a teacher's file into its folder of the run, so that the run can be asked wherever the file is later; its place in the run."""
        if not isinstance(self.given_teacher, Path):
            return None
        place = Path("given") / self.given_teacher.name
        (home / "given").mkdir()
        shutil.copyfile(self.given_teacher, home / place)
        return (Path("teacher") / place).as_posix()

    def recall_teacher(self) -> None:
        """Of a run read again: take its teacher from where the run kept it, or from the code that the recipe names, when that is trusted."""
        record = self.run.directory / "teacher" / "teacher.json"
        outside = read_json(record).get("outside") or {} if record.is_file() else {}
        kept = self.run.directory / str(outside.get("kept") or "")
        if kept.is_file():
            self.given_teacher = kept
        elif "file" in self.recipe.teacher or self.trust_code:
            self.given_teacher = self.recipe.outside_teacher(trust_code=self.trust_code)

    def outside(self) -> JSON:
        """Where a teacher from elsewhere comes from, for its record: {from, name, refittable, twin, classes_assumed}."""
        named = self.recipe.teacher.get("file") or self.recipe.teacher.get("use")
        assumed: tuple[str, ...] = ()
        if isinstance(self.given_teacher, Path):
            from distillens.models.files import open_model_file

            silent = open_model_file(self.given_teacher).classes is None and "classes" not in self.recipe.teacher
            assumed = self.dataset.classes if silent else ()
        refittable = self.family is not None
        return {
            "from": "file" if "file" in self.recipe.teacher else "code" if "use" in self.recipe.teacher else "python",
            "name": str(named) if named is not None else type(self.given_teacher).__name__,
            "refittable": refittable,
            "twin": None
            if refittable
            else "not available: the teacher came as a finished model and cannot be refitted",
            "classes_assumed": list(assumed),
        }

    @property
    def has_twin(self) -> bool:
        return self.recipe.controls != "none" and self.family is not None

    def fit_on_labels(self, name: str, folder: Path) -> Model:
        """The teacher's family fitted on the labels, with the seed of `name`."""
        from distillens.transfer.targets import Targets

        assert self.family is not None
        targets = Targets.from_labels(self.dataset.train, self.dataset.classes)
        return self.family.fit(
            targets, validation=self.dataset.validation, teacher=None, seed=self.seed(name), out=folder
        )

    @cached_property
    def targets(self) -> Targets:
        from distillens.transfer.saved import read_targets

        return read_targets(self.run.directory / "targets" / "targets.safetensors")

    def save(self, model: Model, folder: Path) -> None:
        """Write a model that distillens made; one that was handed in stays where it is and is handed in again."""
        from distillens.models.base import StorableModel
        from distillens.models.store import save_model

        if isinstance(model, StorableModel):
            save_model(model, folder / "model.safetensors")

    def card(self, name: str, role: str, kind: str, model: Model, folder: Path) -> JSON:
        """What is written about any model of a run."""
        from distillens.audit.summary import validation_summary

        history = folder / "history.json"
        teacher = None if role == "teacher" else self.models["teacher"]
        described: Any = model
        return {
            "id": name,
            "role": role,
            "kind": kind,
            "label": model.label,
            "settings": self.parts["teacher"] if role in {"teacher", "twin"} else {},
            "fingerprint": model.fingerprint,
            "readable": hasattr(described, "describe"),
            "complexity": described.complexity() if hasattr(described, "complexity") else {},
            "described": described.describe() if hasattr(described, "describe") else None,
            "history": read_json(history) if history.is_file() else None,
            **{name: read_json(found) for name in BESIDE if (found := folder / f"{name}.json").is_file()},
            "validation": validation_summary(model, teacher, self.dataset.validation, self.decision),
        }

    def student_record(self, name: str) -> JSON:
        record: JSON = read_json(self.run.directory / "students" / name / "student.json")
        return record

    def directions(self, student: str) -> dict[str, int]:
        """Directions to hold a student and its teacher against: its own, and those that the recipe asks of other students.

        A family that cannot be held to a direction (a network, a rule list) is still checked. The same for no student where there are
        more than two classes, because there is no single direction then.
        """
        if len(self.dataset.classes) > 2:
            return {}
        records = [self.student_record(name).get("monotone") or {} for name in (*self.recipe.students, student)]
        return {feature: sign for record in records for feature, sign in record.items() if sign}

    def control_roles(self, student: str) -> tuple[str, ...]:
        """The controls that were made for a student in this run."""
        made = {"none": ("random_teacher",), "standard": CONTROL_ROLES[:2], "full": CONTROL_ROLES}[self.recipe.controls]
        return tuple(role for role in made if (self.run.directory / "controls" / f"{student}.{role}").is_dir())

    # ── what is explained ───────────────────────────────────────────────────────────────────────────────────────────
    @cached_property
    def explainers(self) -> dict[str, Any]:
        return self.recipe.build_explainers(trust_code=self.trust_code)

    def explained(self, explainer: Any) -> tuple[Inputs, Ints]:
        """The test rows to explain, and the class explained in every model: the adverse one, or the teacher's top class."""
        import numpy as np

        from distillens.models.base import as_probabilities, evaluate

        test = self.dataset.test.inputs
        count = min(len(test), int(getattr(explainer, "rows", len(test))))
        generator = np.random.default_rng(self.seed("explain", "rows"))
        rows = test.take(np.sort(generator.choice(len(test), count, replace=False)))
        if len(self.dataset.classes) > 2:
            teacher = self.models["teacher"]
            return rows, as_probabilities(evaluate(teacher, rows), teacher.output).argmax(axis=1)
        return rows, np.full(count, 0 if self.decision is None else self.decision.adverse, dtype=np.int64)

    def background(self, method: str, *, draw: str = "") -> Inputs:
        """Rows that stand for "unknown" to one of the run's explainers. draw: another name, other rows; "repeat" for the repeat."""
        import numpy as np

        source = self.background_source(method)
        count = min(len(source), int(background_settings(self.explainers[method])["rows"]))
        generator = np.random.default_rng(self.seed("explain", "background", draw))
        return source.take(np.sort(generator.choice(len(source), count, replace=False)))

    def background_source(self, method: str) -> Inputs:
        """All rows that an explainer's background is drawn from. A file's are taken from the run once a stage has put them there."""
        from distillens.data.base import Table
        from distillens.store import read_record

        settings = background_settings(self.explainers[method])
        if settings["from"] == "rows":
            return self.explained(self.explainers[method])[0]
        if settings["from"] != "file":
            source: Inputs = getattr(self.dataset, settings["from"]).inputs
            return source
        kept = self.run.directory / self.background_place(method)
        if not self.run.results and kept.is_file():  # a finished run, read again: wherever the file may be by now
            _, arrays = read_record(kept)
            return Table(arrays["values"], self.dataset.columns, arrays["row_ids"])
        return self._background_tables[method]

    @staticmethod
    def background_place(method: str) -> Path:
        """Where a run keeps the coded rows of a background file, below its directory."""
        return Path("explanations") / f"background.{method}.safetensors"

    @cached_property
    def _background_tables(self) -> dict[str, Table]:
        from distillens.data.background import open_background

        return {method: open_background(path, self.dataset.columns) for method, path in self.background_files().items()}

    def background_files(self) -> dict[str, Path]:
        """Method → file, of the explainers that take their background from one."""
        base = self.recipe.base_dir or Path()
        every = {method: background_settings(explainer) for method, explainer in self.explainers.items()}
        return {method: base / str(s["file"]) for method, s in every.items() if s["from"] == "file"}

    def given_to_explain(self, method: str) -> str | None:
        """What identifies what an explanation takes from outside the run: the teacher handed in, and a background file."""
        file = self.background_files().get(method)
        parts = [self.given_text(), None if file is None else file_hash(file) if file.is_file() else "missing"]
        return "/".join(part for part in parts if part is not None) or None

    def explanations(self, student: str) -> dict[str, dict[str, Explanation]]:
        """Method → role → explanation, as the audit takes them."""
        from distillens.explainers.base import Explanation

        folder = self.run.directory / "explanations"
        files = {"teacher": "teacher", "teacher.repeat": "teacher.repeat", "student": student}
        files |= {"student.repeat": f"{student}.repeat"} | ({"twin": "twin"} if self.has_twin else {})
        if not self.recipe.audit.repeatability:
            files = {role: file for role, file in files.items() if not role.endswith(".repeat")}
        files |= {role: f"{student}.{role}" for role in self.control_roles(student)}
        return {
            method: {role: Explanation.load(folder / f"{file}.{method}.safetensors") for role, file in files.items()}
            for method in self.explainers
        }


def background_settings(explainer: Any) -> dict[str, Any]:
    """Where an explainer's background rows come from and how many are drawn; training rows where it does not say."""
    return {"from": "train", "rows": 100} | getattr(explainer, "background", {})


def source_hash(thing: Any) -> str:
    """Hash of the file that defines a function or an object's class; its name where there is no file. Files that the code reads are not in it."""
    import inspect

    owner = thing if hasattr(thing, "__code__") or isinstance(thing, type) else type(thing)
    name = f"{owner.__module__}.{owner.__qualname__}"
    try:
        file = inspect.getsourcefile(owner)
    except TypeError:
        file = None
    return f"{name} {file_hash(Path(file))}" if file is not None and Path(file).is_file() else name


class Models(dict[str, Any]):
    """Models of the run by name, read from disk when first asked for."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def __missing__(self, name: str) -> Model:
        from distillens.models.store import load_model

        if name == "teacher" and self.flow.given_teacher is not None:
            self[name] = self._handed_in()
        elif name == "teacher":
            file = self.flow.run.directory / "teacher" / "model.safetensors"
            if not file.is_file():
                raise RunError(f"The teacher of {self.flow.run.directory} is not there: {NO_TEACHER}.")
            self[name] = load_model(file)
        elif name in self.flow.recipe.students:
            self[name] = load_model(self.flow.run.directory / "students" / name / "model.safetensors")
        elif name == "twin" and self.flow.given_teacher is not None:
            self[name] = self.flow.fit_on_labels("twin", self.flow.run.directory / "controls" / "twin")
        else:
            self[name] = load_model(self.flow.run.directory / "controls" / name / "model.safetensors")
        model: Model = self[name]
        return model

    def _handed_in(self) -> Model:
        """A fitted estimator or model as it came; an unfitted estimator is fitted (again: it has no file of its own)."""
        given = self.flow.given_model
        return given if given is not None else self.flow.fit_on_labels("teacher", self.flow.run.directory / "teacher")


def manifest(recipe: Recipe) -> JSON:
    """Who made this run, with what; `created` and `platform` may differ between equal runs."""
    return {
        "schema": 1,
        "name": recipe.name,
        "title": recipe.title,
        "seed": recipe.seed,
        "recipe_sha256": hashlib.sha256(recipe.to_yaml().encode()).hexdigest(),
    } | surroundings()


def surroundings() -> JSON:
    """The part of a manifest that is about this machine and moment."""
    from importlib.metadata import PackageNotFoundError, version

    from distillens import __version__

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "distillens": __version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "packages": packages,
        "platform": platform.platform(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def headline(validation: Mapping[str, float]) -> str:
    """The one or two validation numbers worth a terminal line."""
    words = {
        "agreement": "agreement",
        "auc": "AUC",
        "accuracy": "accuracy",
        "r2_to_teacher": "R² to the teacher",
        "r2": "R²",
        "rmse": "RMSE",
    }
    shown = [f"{word} {validation[name]:.3g}" for name, word in words.items() if name in validation]
    return " · ".join(shown[:2])


def layer_words(record: Mapping[str, Any]) -> str:
    """How a network's layers were paired and what it took over, for the terminal line of a student; "" for others."""
    words = ""
    if record.get("matching"):
        pairs = [f"{p['student']} ← {p['teacher']}" for p in record["matching"]["pairs"]]
        words += f" · layers {', '.join(pair.replace(':output', '') for pair in pairs)}"
    taken = record.get("inherit") or {}
    if taken.get("applied"):
        same = taken["agreement"]["same_class"]
        words += f" · {taken['how']} took {len(taken['taken'])} of {len(taken['taken']) + len(taken['fresh'])} tensors"
        words += "" if same is None else f", agreement {same:.3g} before training"
    return words


def query_words(tried: Sequence[Mapping[str, Any]], best: int) -> str:
    """What was chosen, for the terminal line of a student."""
    chosen, kinds = tried[best], {t["kind"] for t in tried if t["kind"]}
    rows = f"{chosen['rows']:,} query rows"
    rows += f" ({chosen['kind']}, {chosen['per_row']:.3g} a row)" if chosen["kind"] and len(kinds) > 1 else ""
    return rows + (f" of {len(tried)} tries over {', '.join(sorted(kinds))}" if len(kinds) > 1 else "")

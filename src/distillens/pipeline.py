"""READ ME FIRST: one run, stage by stage.

    recipe ─► data ─► teacher ─► targets ─► students ─► controls ─► explain ─► audit ─► export ─► passport

`run` works through the stages below in this order. Each stage writes files into the run directory and is read back
from there, also when it has just been worked: a resumed run takes the same path as an uninterrupted one.
"""

from __future__ import annotations

import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import DistillensWarning, RecipeError, did_you_mean
from distillens.progress import Observer, Silent
from distillens.run import Run, StageResult, stage_seed
from distillens.store import JSON, file_hash, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Dataset, Table
    from distillens.explainers.base import Explainer, Explanation
    from distillens.models.base import Decision, Model
    from distillens.recipe import Recipe
    from distillens.students.base import Student
    from distillens.transfer.targets import Targets

# What each stage runs: when one of these sub-packages changes, the stage is worked anew.
FITTING = ("data", "models", "students", "transfer", "pipeline")
EXPLAINING = ("data", "models", "explainers", "pipeline")
AUDITING = ("data", "models", "explainers", "metrics", "audit", "estimate", "intervals", "similarity", "pipeline")


def run(
    recipe: Recipe | str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    teacher: Any = None,
    data: pd.DataFrame | None = None,
    trust_code: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Run a recipe from data to passport.

    recipe: a Recipe, the name of a built-in one, a YAML file, or a dictionary. out: the run directory (default runs/NAME).
    resume: go on with what `out` already holds; stages whose recipe, data or code changed are worked anew.
    teacher: a fitted model, or any scikit-learn classifier or regressor, in place of the recipe's teacher.
    data: a data frame in place of the recipe's source. trust_code: allow `package.module:Name` in the recipe.
    Returns the Run; its `verdict` is pass, review or fail. Raises InputError for anything that cannot be used.
    """
    from distillens.recipe import Recipe

    resolved = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if seed is not None:
        resolved = resolved.model_copy(update={"seed": seed})
    directory = Path(out) if out is not None else Path("runs") / resolved.name
    flow = Flow(resolved, Run.create(directory, resume=resume), teacher, data, trust_code, observer or Silent())
    with flow.run.locked():
        flow.run.begin(recipe_yaml=resolved.to_yaml(), manifest=_manifest(resolved))
        flow.data()
        flow.teacher()
        flow.twin()
        flow.targets()
        for name in resolved.students:
            flow.student(name)
            flow.controls(name)
        flow.choose()
        flow.explain()
        for name in resolved.students:
            flow.audit(name)
            flow.export(name)
        flow.report()
    flow.observer.finished(flow.run)
    return flow.run


@dataclass
class Flow:
    """The state of one run: the recipe, the directory, and what was handed in from Python."""

    recipe: Recipe
    run: Run
    given_teacher: Any
    given_data: pd.DataFrame | None
    trust_code: bool
    observer: Observer
    given: dict[str, str | None] = field(default_factory=dict)

    # ── data ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def data(self) -> None:
        """Read, split and check the table; fix the decision that everything later speaks of."""
        from distillens.data.load import load_dataset
        from distillens.data.saved import save_dataset

        settings = self.recipe.data

        def work(folder: Path) -> str:
            dataset = load_dataset(
                source=settings.source if self.given_data is None else self.given_data,
                target=settings.target,
                roles=settings.roles,
                split=settings.split,
                task=self.recipe.task.kind,
                name=self.recipe.name,
                seed=stage_seed(self.recipe.seed, "data"),
                base_dir=self.recipe.base_dir,
                trust_code=self.trust_code,
            )
            decision = decide(dataset, adverse=self.recipe.task.adverse, threshold=self.recipe.task.threshold)
            save_dataset(dataset, folder / "data")
            record = read_json(folder / "data" / "dataset.json")
            write_json(folder / "data" / "dataset.json", record | {"decision": decision})
            for finding in dataset.findings:
                if finding.severity == "warning":
                    self.observer.warning(finding.text)
            audit_only = sum(role == "audit_only" for role in dataset.roles.values())
            sizes = " / ".join(f"{part} {len(getattr(dataset, part)):,}" for part in ("train", "validation", "test"))
            total = len(dataset.train) + len(dataset.validation) + len(dataset.test)
            return f"{total:,} rows · {len(dataset.columns)} features · {audit_only} audit-only · {sizes}"

        self.stage("data", work, part=self.parts["data"], code=("data", "pipeline"), given=self._source_fingerprint())

    @cached_property
    def dataset(self) -> Dataset:
        from distillens.data.saved import read_dataset

        return read_dataset(self.run.directory / "data")

    @cached_property
    def decision(self) -> Decision | None:
        from distillens.models.base import Decision

        record = read_json(self.run.directory / "data" / "dataset.json")["decision"]
        return None if record is None else Decision(record["adverse_index"], record["threshold"])

    # ── teacher and its twin ────────────────────────────────────────────────────────────────────────────────────────
    def teacher(self) -> None:
        """Train the teacher on the labels, or take the one that was given; from here on it is frozen."""

        def work(folder: Path) -> str:
            model = self._given_model
            if model is None:
                model = self._fit_on_labels(self.family, "teacher", folder / "teacher")
            if self._stored(model):
                self._save(model, folder / "teacher")
            record = self._card("teacher", "teacher", self.recipe.teacher_kind(), model, folder / "teacher")
            write_json(folder / "teacher" / "teacher.json", record)
            return f"{model.label}  {_headline(record['validation'])} on validation"

        given = None if self._given_model is None else str(self._given_model.fingerprint)
        self.stage("teacher", work, part=self.parts["teacher"], reads=("data",), code=FITTING, given=given)

    def twin(self) -> None:
        """Refit the teacher with another seed: how much the teacher itself moves."""
        if not self._has_twin:
            return

        def work(folder: Path) -> str:
            model = self._fit_on_labels(self.family, "twin", folder / "controls" / "twin")
            self._save(model, folder / "controls" / "twin")
            record = self._card("twin", "twin", self.recipe.teacher_kind(), model, folder / "controls" / "twin")
            write_json(folder / "controls" / "twin" / "control.json", record)
            return f"the teacher refitted with another seed  {_headline(record['validation'])} on validation"

        self.stage("controls/twin", work, part=self.parts["teacher"], reads=("data", "teacher"), code=FITTING)

    @property
    def _has_twin(self) -> bool:
        return self.recipe.controls != "none" and self.family is not None

    @cached_property
    def family(self) -> Student | None:
        """What can fit the teacher again, for out-of-fold targets and the twin; None for a given model."""
        if self.given_teacher is None:
            return self.recipe.build_teacher(trust_code=self.trust_code)
        if hasattr(self.given_teacher, "get_params") and hasattr(self.given_teacher, "fit"):
            from distillens.students.estimator import EstimatorFamily

            return EstimatorFamily(self.given_teacher)
        return None

    @cached_property
    def _given_model(self) -> Model | None:
        """The fitted model that was handed in; None when the recipe's teacher (or an unfitted estimator) is to be trained."""
        from distillens.models.callable import align_classes

        if self.given_teacher is None:
            return None
        if self.family is None:
            return align_classes(self.given_teacher, self.dataset.classes)
        from distillens.models.estimator import EstimatorModel, is_fitted

        if not is_fitted(self.given_teacher):
            return None
        model = EstimatorModel(
            self.given_teacher, self.dataset.columns, self.dataset.classes, type(self.given_teacher).__name__
        )
        return align_classes(model, self.dataset.classes)

    def _fit_on_labels(self, family: Student | None, name: str, folder: Path) -> Model:
        from distillens.transfer.targets import Targets

        assert family is not None
        folder.mkdir(parents=True, exist_ok=True)
        targets = Targets.from_labels(self.dataset.train, self.dataset.classes)
        return family.fit(
            targets,
            validation=self.dataset.validation,
            teacher=None,
            seed=stage_seed(self.recipe.seed, name),
            out=folder,
        )

    # ── targets ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def targets(self) -> None:
        """Ask the teacher about the training rows: honestly, i.e. out of fold where its in-sample answers are the labels."""
        from distillens.transfer.out_of_fold import out_of_fold
        from distillens.transfer.saturation import saturation
        from distillens.transfer.saved import save_targets
        from distillens.transfer.targets import Targets

        settings = self.recipe.targets

        def work(folder: Path) -> str:
            teacher, train, validation = self.models["teacher"], self.dataset.train, self.dataset.validation
            seed = stage_seed(self.recipe.seed, "targets")
            report = saturation(teacher, train, validation, seed=seed)
            origin = settings.origin
            if origin == "auto":
                origin = "out_of_fold" if report.saturated and self.family is not None else "in_sample"
            if origin == "out_of_fold":
                if self.family is None:
                    raise RecipeError(
                        "targets.origin: out_of_fold needs a teacher that can be refitted; the given model cannot. Use in_sample with queries."
                    )
                targets = out_of_fold(
                    self.family,
                    train,
                    validation=validation,
                    classes=self.dataset.classes,
                    folds=settings.folds,
                    seed=seed,
                )
            else:
                report.warn_if_saturated()
                targets = Targets.from_outputs(
                    train, teacher(train.inputs), output=teacher.output, classes=self.dataset.classes
                )
            save_targets(targets.with_saturation(report.estimate), folder / "targets" / "targets.safetensors")
            write_json(folder / "targets" / "targets.json", {
                "origin": origin, "rows": len(targets), "saturation": report.estimate.to_json(), "in_sample_entropy": report.in_sample,
                "held_out_entropy": report.held_out, "saturated": report.saturated, "folds": settings.folds if origin == "out_of_fold" else None,
                "text": report.text,
            })  # fmt: skip
            measure = "entropy" if self.dataset.classes else "absolute residual"
            why = (
                f" (in-sample targets are saturated: {measure} {report.in_sample:.2g} against {report.held_out:.2g})"
                if report.saturated
                else ""
            )
            return origin.replace("_", "-") + why

        self.stage(
            "targets",
            work,
            part=self.parts["targets"],
            reads=("data", "teacher"),
            code=FITTING,
            given=self._given_text(),
        )

    @cached_property
    def taught(self) -> Targets:
        from distillens.transfer.saved import read_targets

        return read_targets(self.run.directory / "targets" / "targets.safetensors")

    # ── students ────────────────────────────────────────────────────────────────────────────────────────────────────
    def student(self, name: str) -> None:
        """Fit a student, with as many query rows as validation wants; then prove that it listens to its teacher."""
        from distillens.transfer.influence import check_influence, influence, permuted
        from distillens.transfer.queries import choose_queries

        student = self.recipe.build_student(name)

        def work(folder: Path) -> str:
            teacher, validation = self.models["teacher"], self.dataset.validation
            seed = stage_seed(self.recipe.seed, "students", name)
            home, other = folder / "students" / name, folder / "controls" / f"{name}.random_teacher"
            home.mkdir(parents=True), other.mkdir(parents=True)
            targets, tried, model = choose_queries(
                student,
                self.taught,
                teacher,
                validation,
                candidates=self.recipe.query_candidates(),
                seed=seed,
                out=home,
            )
            untaught = student.fit(
                permuted(targets, seed), validation=validation, teacher=teacher, seed=seed, out=other
            )
            listened = influence(model, untaught, teacher, validation.inputs, self.decision)
            check_influence(listened, student=name)
            self._save(model, home), self._save(untaught, other)
            queries = int(targets.is_query.sum())
            card = self._card(name, "student", student.kind, model, home) | {
                "targets": {"origin": targets.origin, "rows": len(targets), "queries": queries, "queries_tried": tried},
                "influence": listened.to_json(),
                "settings": self.parts["students"][name],
                "readable": student.readable,
            }
            write_json(home / "student.json", card)
            write_json(
                other / "control.json",
                self._card(f"{name}.random_teacher", "random_teacher", student.kind, untaught, other),
            )
            return f"{_headline(card['validation'])} on validation · {queries:,} query rows"

        self.stage(
            f"students/{name}",
            work,
            part=self.parts["students"][name],
            reads=("data", "teacher", "targets"),
            code=FITTING,
            given=self._given_text(),
        )

    def controls(self, name: str) -> None:
        """Fit the same family without a teacher; with `controls: full` also on the teacher's hard answers to the same rows."""
        from distillens.transfer.queries import with_queries
        from distillens.transfer.targets import Targets

        if self.recipe.controls == "none":
            return
        student = self.recipe.build_student(name)
        seed = stage_seed(self.recipe.seed, "students", name)

        def work(folder: Path) -> str:
            taught = {"undistilled": Targets.from_labels(self.dataset.train, self.dataset.classes)}
            if self.recipe.controls == "full" and self.dataset.classes:
                chosen = read_json(self.run.directory / "students" / name / "student.json")["targets"]
                per_row = chosen["queries"] // max(1, chosen["rows"] - chosen["queries"])
                asked = with_queries(self.taught, self.models["teacher"], per_row=per_row, seed=seed)
                taught["equal_information"] = asked.hardened()
            for role, targets in taught.items():
                home = folder / "controls" / f"{name}.{role}"
                home.mkdir(parents=True)
                model = student.fit(targets, validation=self.dataset.validation, teacher=None, seed=seed, out=home)
                self._save(model, home)
                write_json(home / "control.json", self._card(f"{name}.{role}", role, student.kind, model, home))
            return "the same student without a teacher" + (
                ", and with the teacher's hard answers only" if len(taught) > 1 else ""
            )

        part = {"student": self.parts["students"][name], "controls": self.recipe.controls}
        self.stage(
            f"controls/{name}",
            work,
            part=part,
            reads=("data", "teacher", "targets", f"students/{name}"),
            code=FITTING,
            given=self._given_text(),
        )

    def choose(self) -> None:
        """The verdict goes to the student closest to the teacher on validation, unless the recipe names one."""

        def work(folder: Path) -> str:
            measure = "kl" if self.dataset.classes else "rmse_to_teacher"
            scores = {name: self._student_record(name)["validation"][measure] for name in self.recipe.students}
            chosen = min(scores, key=lambda name: scores[name]) if self.recipe.chosen == "auto" else self.recipe.chosen
            by = "named in the recipe" if self.recipe.chosen != "auto" else f"validation {measure}"
            write_json(folder / "students" / "chosen.json", {"chosen": chosen, "by": by, "scores": scores})
            return f"{chosen} ({by})"

        reads = tuple(f"students/{name}" for name in self.recipe.students)
        self.stage("choose", work, part=self.recipe.chosen, reads=reads, code=("pipeline",))

    def _student_record(self, name: str) -> JSON:
        record: JSON = read_json(self.run.directory / "students" / name / "student.json")
        return record

    # ── explain ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def explain(self) -> None:
        """Explain every model on the same rows, masks and background; then teacher and students once more with others."""
        for name, explainer in self.recipe.build_explainers(trust_code=self.trust_code).items():
            self._explain_models(
                "teacher",
                ("teacher", "twin") if self._has_twin else ("teacher",),
                name,
                explainer,
                reads=("data", "teacher"),
            )
            for student in self.recipe.students:
                roles = (student, *(f"{student}.{role}" for role in self._control_roles(student)))
                self._explain_models(student, roles, name, explainer, reads=("data", "teacher", f"students/{student}"))

    def _explain_models(
        self, group: str, models: Sequence[str], name: str, explainer: Explainer, *, reads: Sequence[str]
    ) -> None:
        import numpy as np

        def work(folder: Path) -> str:
            rows, target = self._explained(explainer)
            for model in models:
                again = (False, True) if model == group else (False,)
                for repeat in again:
                    seed = stage_seed(self.recipe.seed, "explain", name, "repeat" if repeat else "")
                    explanation = explainer(
                        self.models[model],
                        rows,
                        target=target,
                        background=self._background(explainer, repeat=repeat),
                        seed=seed,
                    )
                    explanation.save(
                        folder / "explanations" / f"{model}{'.repeat' if repeat else ''}.{name}.safetensors"
                    )
            error = np.nan if explanation.stderr is None else float(np.median(explanation.stderr))
            precision = (
                "exact"
                if explanation.exact
                else f"median standard error {error:.2g} {explanation.scale.replace('_', '-')}"
            )
            return f"{name} of {len(rows):,} rows · {len(models)} models · {precision}"

        reads = tuple(reads) + (("controls/twin",) if group == "teacher" and self._has_twin else ())
        reads += (f"controls/{group}",) if group != "teacher" and self.recipe.controls != "none" else ()
        self.stage(
            f"explain/{group}.{name}",
            work,
            part=self.parts["explain"],
            reads=reads,
            code=EXPLAINING,
            given=self._given_text(),
        )

    def _explained(self, explainer: Explainer) -> tuple[Table, Any]:
        """The test rows to explain, and the class that is explained in every model: the adverse one, or the teacher's top class."""
        import numpy as np

        from distillens.models.base import as_probabilities, evaluate

        test = self.dataset.test.inputs
        count = min(len(test), int(getattr(explainer, "rows", len(test))))
        picked = np.sort(
            np.random.default_rng(stage_seed(self.recipe.seed, "explain", "rows")).choice(
                len(test), count, replace=False
            )
        )
        rows = test.take(picked)
        if len(self.dataset.classes) > 2:
            teacher = self.models["teacher"]
            return rows, as_probabilities(evaluate(teacher, rows), teacher.output).argmax(axis=1)
        return rows, np.full(count, 0 if self.decision is None else self.decision.adverse, dtype=np.int64)

    def _background(self, explainer: Explainer, *, repeat: bool = False) -> Table:
        import numpy as np

        train = self.dataset.train.inputs
        count = min(len(train), int(getattr(explainer, "background_rows", 100)))
        generator = np.random.default_rng(
            stage_seed(self.recipe.seed, "explain", "background", "repeat" if repeat else "")
        )
        return train.take(np.sort(generator.choice(len(train), count, replace=False)))

    def _control_roles(self, student: str) -> tuple[str, ...]:
        roles = ("undistilled", "random_teacher", "equal_information")
        return tuple(
            role for role in roles if (self.run.directory / "controls" / f"{student}.{role}" / "control.json").is_file()
        )

    def _explanations(self, student: str, **exported: Explanation) -> dict[str, dict[str, Explanation]]:
        from distillens.explainers.base import Explanation

        folder = self.run.directory / "explanations"
        files = {
            "teacher": "teacher",
            "teacher.repeat": "teacher.repeat",
            "student": student,
            "student.repeat": f"{student}.repeat",
        }
        files |= {role: f"{student}.{role}" for role in self._control_roles(student)} | (
            {"twin": "twin"} if self._has_twin else {}
        )
        return {
            name: {role: Explanation.load(folder / f"{file}.{name}.safetensors") for role, file in files.items()}
            for name in self.recipe.build_explainers(trust_code=self.trust_code)
        }

    # ── audit ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def audit(self, name: str) -> None:
        """Teacher against student on the test rows, beside the controls."""

        def work(folder: Path) -> str:
            result = self._audit(self.models[name], name)
            result.save(folder / "students" / name)
            agreement = result.metric("agreement" if self.dataset.classes else "r2_to_teacher").estimate
            return f"{result.verdict.upper()}  {'agreement' if self.dataset.classes else 'R² to the teacher'} {agreement.value:.3f} ({agreement.low:.3f}–{agreement.high:.3f})"

        self.stage(
            f"audit/{name}",
            work,
            part=self.parts["audit"],
            reads=self._known_about(name),
            code=AUDITING,
            given=self._given_text(),
        )

    def _audit(self, student: Model, name: str, *, explanations: Any = None) -> Any:
        from distillens.audit.audit import audit

        test, decision = self.dataset.test, self.decision
        explainers = self.recipe.build_explainers(trust_code=self.trust_code)
        controls = {role: self.models[f"{name}.{role}"] for role in self._control_roles(name)}
        if self._has_twin:
            controls["twin"] = self.models["twin"]
        settings = self.recipe.audit
        return audit(
            self.models["teacher"],
            student,
            test.inputs,
            test.labels,
            controls=controls,
            audit_only=test.audit_only,
            slices=settings.slices,
            groups=test.groups,
            weights=test.weights,
            background=self._background(next(iter(explainers.values()))) if explainers else None,
            explainers=tuple(explainers),
            explanations=self._explanations(name) if explanations is None else explanations,
            adverse=None if decision is None or not self.dataset.classes else self.dataset.classes[decision.adverse],
            threshold=None if decision is None else decision.threshold,
            gates=settings.gates,
            trained_on=frozenset(int(row) for row in self.dataset.train.inputs.row_ids),
            level=settings.level,
            draws=settings.draws,
            seed=stage_seed(self.recipe.seed, "audit"),
            readable=self.recipe.build_student(name).readable,
        )

    # ── export ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def export(self, name: str) -> None:
        """Write the student as a file that needs nothing of ours, run it, and audit it as one more student."""
        from distillens.exporters.base import EXPORTERS
        from distillens.exporters.footprint import footprint
        from distillens.exporters.parity import parity
        from distillens.models.onnx import OnnxModel
        from distillens.named import resolve

        def work(folder: Path) -> str:
            home = folder / "students" / name / "export"
            home.mkdir(parents=True)
            records = []
            for kind in self.recipe.export:
                exporter = resolve(kind, EXPORTERS, what="exporter", trust_code=self.trust_code)()
                result = exporter(self.models[name], home / f"model.{kind}", decision=self.decision)
                exported = OnnxModel.load(home / f"model.{kind}", label=f"{name}.{kind}")
                explained = self._explanations(name)
                for method, explainer in self.recipe.build_explainers(trust_code=self.trust_code).items():
                    rows, target = self._explained(explainer)
                    seed = stage_seed(self.recipe.seed, "explain", method, "")
                    own = explainer(exported, rows, target=target, background=self._background(explainer), seed=seed)
                    explained[method] |= {"student": own}
                audited = self._audit(exported, name, explanations=explained).to_json()
                records.append(result.to_json() | {
                    "format": kind, "file": f"model.{kind}", "audit": audited,
                    "parity": parity(self.models[name], exported, self.dataset.test.inputs, decision=self.decision),
                    "measured": footprint(exported, self.dataset.test.inputs, seed=stage_seed(self.recipe.seed, "footprint")),
                })  # fmt: skip
            write_json(home / "export.json", records[0] if records else {})
            shown = records[0]
            return f"{shown['format']} {shown['bytes'] / 1024:,.0f} kB · largest difference {shown['parity']['max_abs_difference']:.1g} · {shown['parity']['flips']} flips"

        if self.recipe.export:
            reads = (*self._known_about(name), f"audit/{name}")
            self.stage(
                f"export/{name}",
                work,
                part=self.parts["export"],
                reads=reads,
                code=(*AUDITING, "exporters"),
                given=self._given_text(),
            )

    def _known_about(self, name: str) -> tuple[str, ...]:
        """The stages an audit of this student rests on."""
        own = ("data", "teacher", "controls/twin", f"students/{name}", f"controls/{name}")
        explained = ("explain/teacher.", f"explain/{name}.")
        return tuple(stage for stage in self.run.results if stage in own or stage.startswith(explained))

    # ── passport ────────────────────────────────────────────────────────────────────────────────────────────────────
    def report(self) -> None:
        """Assemble the passport from the files alone; always made anew, because it is quick."""
        from distillens.report.passport import write_passport

        started = time.monotonic()
        self.observer.stage_started("passport")
        write_passport(self.run.directory, languages=tuple(self.recipe.report.languages))
        self.observer.stage_done(
            "passport", str(self.run.directory / "passport.html"), time.monotonic() - started, False
        )

    # ── what the stages share ───────────────────────────────────────────────────────────────────────────────────────
    @cached_property
    def parts(self) -> dict[str, Any]:
        return self.recipe.stage_parts()

    @cached_property
    def models(self) -> _Models:
        return _Models(self)

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
        """One stage, with its own warnings shown as sentences and everyone else's left as they are."""
        self.observer.stage_started(name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DistillensWarning)
            result = self.run.stage(name, work, part=part, reads=reads, code=code, given=given)
        for warning in caught:
            if issubclass(warning.category, DistillensWarning):
                self.observer.warning(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if result.reason:
            self.observer.warning(f"Stage {name} was worked anew: {result.reason}.")
        self.observer.stage_done(name, result.summary, result.seconds, result.reused)
        return result

    @staticmethod
    def _stored(model: Model) -> bool:
        from distillens.models.base import StorableModel

        return isinstance(model, StorableModel)

    @staticmethod
    def _save(model: Model, folder: Path) -> None:
        from distillens.models.store import save_model

        if Flow._stored(model):
            save_model(model, folder / "model.safetensors")

    def _card(self, name: str, role: str, kind: str, model: Model, folder: Path) -> JSON:
        """What is written about any model of a run."""
        history = folder / "history.json"
        described = model.describe() if hasattr(model, "describe") else None
        return {
            "id": name, "role": role, "kind": kind, "label": model.label, "settings": self.parts["teacher"] if role in {"teacher", "twin"} else {},
            "fingerprint": model.fingerprint, "readable": described is not None,
            "complexity": model.complexity() if hasattr(model, "complexity") else {},
            "history": read_json(history) if history.is_file() else None,
            "validation": self._on_validation(model, role), "described": described,
        }  # fmt: skip

    def _on_validation(self, model: Model, role: str) -> dict[str, float]:
        from distillens.audit.summary import validation_summary

        teacher = None if role == "teacher" else self.models["teacher"]
        return validation_summary(model, teacher, self.dataset.validation, self.decision)

    def _source_fingerprint(self) -> str | None:
        """Content of a file or frame, so that changed data make the stages stale; built-in data are part of the code."""
        if self.given_data is not None:
            import hashlib

            import pandas as pd

            hashed = pd.util.hash_pandas_object(self.given_data, index=False).to_numpy().tobytes()
            return hashlib.sha256(repr(list(self.given_data.columns)).encode() + hashed).hexdigest()
        path = self.recipe.data_path()
        return file_hash(path) if path is not None and path.is_file() else None

    def _given_text(self) -> str | None:
        return None if self.given_teacher is None else str(self.models["teacher"].fingerprint)


class _Models(dict[str, Any]):
    """Models of the run by name, read from disk when first asked for."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def __missing__(self, name: str) -> Model:
        from distillens.models.store import load_model

        if name == "teacher" and self.flow._given_model is not None:
            model: Model = self.flow._given_model
        else:
            controls = name == "twin" or name not in self.flow.recipe.students and name != "teacher"
            folder = "teacher" if name == "teacher" else f"{'controls' if controls else 'students'}/{name}"
            model = load_model(self.flow.run.directory / folder / "model.safetensors")
        self[name] = model
        return model


def decide(dataset: Dataset, *, adverse: str | None, threshold: float | None) -> JSON | None:
    """The fixed class and threshold of a classification task, from the recipe or from what the data are known for."""
    if not dataset.classes:
        if adverse is not None:
            raise RecipeError(
                "task.adverse names a class, but the target is a number: this is a regression. Remove it."
            )
        return None
    from distillens.data.builtin import known_adverse

    name = adverse if adverse is not None else known_adverse(dataset.name, dataset.classes)
    if name is None:
        name = dataset.classes[-1] if len(dataset.classes) == 2 else dataset.classes[0]
    if name not in dataset.classes:
        raise RecipeError(f"task.adverse: {name!r} is not one of the classes.{did_you_mean(name, dataset.classes)}")
    return {
        "adverse": name,
        "adverse_index": dataset.classes.index(name),
        "threshold": 0.5 if threshold is None else threshold,
    }


def distill(
    teacher: Any,
    student: Student | str,
    data: Dataset,
    *,
    objectives: Sequence[Any] | None = None,
    targets: str = "auto",
    seed: int = 0,
    out: str | Path | None = None,
) -> Model:
    """One student of one teacher, without a run directory, controls or audit.

    teacher: a Model, or a fitted scikit-learn estimator. student: a student or the name of a family with its defaults.
    objectives: for network students, in place of theirs. targets: "auto" (out of fold where in-sample answers are
    saturated and the teacher can be refitted), "in_sample", "out_of_fold" or "labels". Returns the fitted student.
    """
    from dataclasses import replace

    from distillens.models.callable import align_classes
    from distillens.models.estimator import EstimatorModel
    from distillens.named import resolve
    from distillens.students.base import STUDENTS
    from distillens.students.estimator import EstimatorFamily
    from distillens.transfer.out_of_fold import out_of_fold
    from distillens.transfer.saturation import saturation
    from distillens.transfer.targets import Targets

    learner: Any = resolve(student, STUDENTS, what="student")() if isinstance(student, str) else student
    if objectives is not None:
        if learner.kind != "network":
            raise RecipeError(
                f"objectives are for network students; a {learner.kind} student fits the teacher's answers directly."
            )
        learner = replace(learner, objectives=tuple(objectives))
    family = EstimatorFamily(teacher) if hasattr(teacher, "get_params") else None
    model: Model = (
        EstimatorModel(teacher, data.columns, data.classes, type(teacher).__name__) if family is not None else teacher
    )
    model = align_classes(model, data.classes)
    if targets not in {"auto", "in_sample", "out_of_fold", "labels"}:
        raise RecipeError(
            f"targets: {targets!r} is not known.{did_you_mean(targets, ('auto', 'in_sample', 'out_of_fold', 'labels'))}"
        )
    origin = targets
    if origin == "auto":
        report = saturation(model, data.train, data.validation, seed=seed)
        origin = "out_of_fold" if report.saturated and family is not None else "in_sample"
        if origin == "in_sample":
            report.warn_if_saturated()
    if origin == "labels":
        taught = Targets.from_labels(data.train, data.classes)
    elif origin == "out_of_fold":
        if family is None:
            raise RecipeError(
                "out_of_fold targets need a teacher that can be refitted, such as a scikit-learn estimator."
            )
        taught = out_of_fold(family, data.train, validation=data.validation, classes=data.classes, folds=5, seed=seed)
    else:
        taught = Targets.from_outputs(data.train, model(data.train.inputs), output=model.output, classes=data.classes)
    fitted: Model = learner.fit(taught, validation=data.validation, teacher=None if origin == "labels" else model, seed=seed,
                                out=None if out is None else Path(out))  # fmt: skip
    return fitted


def _headline(validation: Mapping[str, float]) -> str:
    """The one or two validation numbers worth a terminal line."""
    words = {
        "auc": "AUC",
        "accuracy": "accuracy",
        "agreement": "agreement",
        "kl": "KL",
        "r2": "R²",
        "rmse": "RMSE",
        "rmse_to_teacher": "RMSE to teacher",
    }
    order = ("agreement", "auc", "accuracy", "rmse_to_teacher", "r2")
    shown = [f"{words[name]} {validation[name]:.3g}" for name in order if name in validation]
    return " · ".join(shown[:2])


def _manifest(recipe: Recipe) -> JSON:
    """Who made this run, with what; `created` and `platform` may differ between equal runs."""
    import hashlib
    from importlib.metadata import PackageNotFoundError, version

    packages = {}
    for name in ("numpy", "scipy", "pandas", "scikit-learn", "interpret-core", "torch", "onnx", "onnxruntime"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    from distillens import __version__

    return {
        "schema": 1, "name": recipe.name, "title": recipe.title, "distillens": __version__,
        "python": ".".join(str(v) for v in sys.version_info[:3]), "packages": packages, "platform": platform.platform(),
        "seed": recipe.seed, "recipe_sha256": hashlib.sha256(recipe.to_yaml().encode()).hexdigest(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip

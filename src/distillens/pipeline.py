"""READ ME FIRST: one run, stage by stage.

    recipe ─► data ─► teacher ─► targets ─► students ─► controls (─► frontier) ─► explain ─► audit ─► export ─► passport

`run` works through the functions below in this order. Each stage writes files into the run directory and everything
later reads them back from there, also when they have just been written: a resumed run takes the same path as an
uninterrupted one. What the stages share is in flow.py. (Longer than most files here, so that the story is told in one place.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import RecipeError
from distillens.flow import Flow, headline, layer_words, manifest, query_words
from distillens.progress import Observer, Silent
from distillens.run import Run
from distillens.store import write_json, write_record

if TYPE_CHECKING:
    from distillens.audit.result import Audit
    from distillens.models.base import Model
    from distillens.recipe import Recipe

# What each stage runs: when one of these changes, the stage is worked anew.
FITTING = ("data", "models", "students", "transfer", "metrics", "flow", "pipeline")
EXPLAINING = ("data", "models", "explainers", "flow", "pipeline")
AUDITING = (*EXPLAINING, "metrics", "audit", "estimate", "intervals", "similarity")


def run(
    recipe: Recipe | str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int | None = None,
    teacher: Any = None,
    data: Any = None,
    trust_code: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Run a recipe from data to passport.

    recipe: a Recipe, the name of a built-in one, a YAML file, or a dictionary. out: the run directory (default runs/NAME).
    resume: go on with what `out` already holds; stages whose recipe, data or code changed are worked anew.
    teacher: in place of the recipe's: a fitted model, any scikit-learn classifier or regressor, a torch module or a function of a data frame
    (docs/models-made-elsewhere.md), or a file or package.module:name as text.
    data: a data frame, or images as `load_dataset` takes them from Python, in place of the recipe's source.
    trust_code: allow `package.module:Name` in the recipe.
    Returns the Run; its `verdict` is pass, review or fail. Raises InputError for anything that cannot be used.
    """
    flow = begin(
        recipe, out=out, resume=resume, seed=seed, teacher=teacher, data=data, trust_code=trust_code, observer=observer
    )
    with flow.run.locked():
        flow.run.begin(recipe_yaml=flow.recipe.to_yaml(), manifest=manifest(flow.recipe))
        read_data(flow)
        look_ahead(flow)
        estimate(flow)
        train_teacher(flow)
        refit_twin(flow)
        ask_teacher(flow)
        for name in flow.recipe.teaching_order():
            teach(flow, name)
            fit_controls(flow, name)
        choose(flow)
        if flow.recipe.frontier is not None:
            trade_off(flow)
        explain(flow)
        for name in flow.recipe.students:
            audit(flow, name)
            export(flow, name)
        report(flow)
        flow.run.drop_partial()
    flow.observer.finished(flow.run)
    return flow.run


def begin(
    recipe: Recipe | str | Path | Mapping[str, Any], *, out: str | Path | None, resume: bool, seed: int | None = None,
    teacher: Any = None, data: Any = None, trust_code: bool = False, observer: Observer | None = None,
) -> Flow:  # fmt: skip
    """The recipe, its teacher from elsewhere and the run directory, with nothing worked yet; arguments and errors as for `run`."""
    from distillens.recipe import Recipe

    resolved = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    if seed is not None:
        resolved = resolved.model_copy(update={"seed": seed})
    if data is None and resolved.data.source is None:
        raise RecipeError(
            "data.source: this key is required; it names built-in data, a CSV or Parquet file, or a folder of images (from Python: run(…, data=frame))."
        )
    if isinstance(teacher, (str, Path)):
        resolved, teacher = resolved.with_teacher(teacher), None
    if teacher is None:
        teacher = resolved.outside_teacher(trust_code=trust_code)
    directory = Path(out) if out is not None else Path("runs") / resolved.name
    return Flow(resolved, Run.create(directory, resume=resume), teacher, data, trust_code, observer or Silent())


def read_data(flow: Flow) -> None:
    """Read, split and check the table or the images; fix the decision that everything later speaks of."""
    from distillens.data.load import load_dataset
    from distillens.data.saved import save_dataset
    from distillens.recipe.decision import decide

    settings, task = flow.recipe.data, flow.recipe.task

    def work(folder: Path) -> str:
        dataset = load_dataset(
            source=settings.source if flow.given_data is None else flow.given_data,
            target=settings.target,
            roles=settings.roles,
            split=settings.split,
            task=task.kind,
            name=flow.recipe.name,
            seed=flow.seed("data"),
            base_dir=flow.recipe.base_dir,
            trust_code=flow.trust_code,
            size=settings.size,
            limit=None if settings.limit is None else settings.limit.model_dump(),
        )
        costs = flow.recipe.costs()
        decision = decide(dataset, settings.source, adverse=task.adverse, threshold=task.threshold, costs=costs)
        save_dataset(dataset, folder / "data", decision=decision)
        for finding in dataset.findings:
            if finding.severity == "warning":
                flow.observer.warning(finding.text)
        audit_only = sum(role == "audit_only" for role in dataset.roles.values())
        parts = {part: len(getattr(dataset, part)) for part in ("train", "validation", "test")}
        sizes = " / ".join(f"{part} {rows:,}" for part, rows in parts.items())
        kept_apart = f" · {audit_only} audit-only" if audit_only else ""
        return f"{sum(parts.values()):,} rows · {dataset.contents}{kept_apart} · {sizes}"

    flow.stage("data", work, part=flow.parts["data"], code=("data", "pipeline"), given=flow.source_fingerprint())


def look_ahead(flow: Flow) -> None:
    """Refuse what cannot be done with these data (a direction for a column of text, a background without a column) before anything is trained."""
    from distillens.recipe.check import with_data

    if problems := with_data(flow.recipe, flow.dataset, trust_code=flow.trust_code):
        raise RecipeError(problems)


def estimate(flow: Flow) -> None:
    """Say what is ahead, controls included, before anything is trained; nothing of it is known of a teacher from outside."""
    from distillens.recipe.cost import estimate_cost

    if flow.given_teacher is None and not (flow.run.directory / "stages" / "teacher.json").exists():
        cost = estimate_cost(flow.recipe, flow.dataset)
        flow.observer.estimated(cost.seconds, cost.controls, cost.fits)


def train_teacher(flow: Flow) -> None:
    """Train the teacher on the labels, or take the one that was given; from here on it is frozen."""
    kind = flow.recipe.teacher_kind() if flow.given_teacher is None else "given"

    def work(folder: Path) -> str:
        home = folder / "teacher"
        home.mkdir()
        model = flow.models["teacher"] if flow.given_teacher is not None else flow.fit_on_labels("teacher", home)
        flow.save(model, home)
        record = flow.card("teacher", "teacher", kind, model, home)
        note = ""
        if flow.given_teacher is not None:
            record["outside"] = flow.outside() | {"kept": flow.keep_given(home)}
            assumed = record["outside"]["classes_assumed"]
            note = f" · outputs taken to be {', '.join(assumed)}, in this order" if assumed else ""
            note += " · cannot be refitted, so there is no seed twin" if flow.family is None else ""
        write_json(home / "teacher.json", record)
        return f"{model.label}  {headline(record['validation'])} on validation{note}"

    given = flow.given_text()
    flow.stage("teacher", work, part=flow.parts["teacher"], reads=("data",), code=FITTING, given=given)


def refit_twin(flow: Flow) -> None:
    """Refit the teacher with another seed: how much the teacher itself moves."""
    if not flow.has_twin:
        return

    def work(folder: Path) -> str:
        home = folder / "controls" / "twin"
        home.mkdir(parents=True)
        model = flow.fit_on_labels("twin", home)
        flow.save(model, home)
        record = flow.card("twin", "twin", flow.recipe.teacher_kind(), model, home)
        write_json(home / "control.json", record)
        return f"the teacher with another seed  {headline(record['validation'])} on validation"

    reads = ("data", "teacher")
    flow.stage("controls/twin", work, part=flow.parts["teacher"], reads=reads, code=FITTING, given=flow.given_text())


def ask_teacher(flow: Flow) -> None:
    """Ask the teacher about the training rows: out of fold where its in-sample answers are only the labels."""
    from distillens.transfer.out_of_fold import out_of_fold
    from distillens.transfer.saturation import saturation
    from distillens.transfer.saved import save_targets
    from distillens.transfer.targets import Targets

    settings = flow.recipe.targets

    def work(folder: Path) -> str:
        teacher, train, validation = flow.models["teacher"], flow.dataset.train, flow.dataset.validation
        classes, seed = flow.dataset.classes, flow.seed("targets")
        measured = saturation(teacher, train, validation, seed=seed)
        origin = settings.origin
        if origin == "auto":
            # A network for images is asked about changed views of its rows, and refitting it on folds costs hours: only on request.
            refit = measured.saturated and flow.family is not None and flow.dataset.is_table
            origin = "out_of_fold" if refit else "in_sample"
        if origin == "out_of_fold":
            if flow.family is None:
                raise RecipeError(
                    "targets.origin: out_of_fold needs a teacher that can be refitted, and the given model cannot; use in_sample with queries."
                )
            targets = out_of_fold(
                flow.family, train, validation=validation, classes=classes, folds=settings.folds, seed=seed
            )
        elif origin == "labels":
            targets = Targets.from_labels(train, classes)
        else:
            measured.warn_if_saturated()
            targets = Targets.from_outputs(train, teacher(train.inputs), output=teacher.output, classes=classes)
        save_targets(targets.with_saturation(measured.estimate), folder / "targets" / "targets.safetensors")
        record = {
            "origin": origin,
            "rows": len(targets),
            "folds": settings.folds if origin == "out_of_fold" else None,
            "saturation": measured.estimate.to_json(),
            "in_sample_entropy": measured.in_sample,
            "held_out_entropy": measured.held_out,
            "saturated": measured.saturated,
            "text": measured.text,
        }
        write_json(folder / "targets" / "targets.json", record)
        measure = "entropy" if classes else "absolute residual"
        why = f" (in-sample targets are saturated: {measure} {measured.in_sample:.2g} against {measured.held_out:.2g})"
        return origin.replace("_", "-") + (why if measured.saturated else "")

    reads = ("data", "teacher")
    flow.stage("targets", work, part=flow.parts["targets"], reads=reads, code=FITTING, given=flow.given_text())


def teach(flow: Flow, name: str) -> None:
    """Fit a student with the query rows that validation wants; then prove that it listens to its teacher, where it was taught by one."""
    from distillens.transfer.influence import check_influence, influence, permuted
    from distillens.transfer.rows.choose import choose_queries
    from distillens.transfer.rows.threshold import NearThreshold
    from distillens.transfer.saved import save_targets

    student = flow.recipe.build_student(name, trust_code=flow.trust_code)

    def work(folder: Path) -> str:
        home, other = folder / "students" / name, folder / "controls" / f"{name}.random_teacher"
        home.mkdir(parents=True)
        teacher, validation, seed = flow.teacher_of(name), flow.dataset.validation, flow.seed("students", name)
        settings = flow.recipe.targets
        found = choose_queries(
            student,
            flow.targets_of(name),
            teacher,
            validation,
            candidates=flow.recipe.query_candidates() if flow.dataset.is_table else (0,),
            kinds=flow.recipe.query_kinds(),
            stop=settings.stop,
            rounds=settings.rounds,
            on_manifold=None if settings.on_manifold == "auto" else settings.on_manifold,
            near=NearThreshold(**settings.near_threshold.model_dump()),
            decision=flow.decision,
            seed=seed,
            out=home,
        )
        targets, model = found.targets, found.model
        listened = None
        if targets.origin != "labels":
            other.mkdir(parents=True)
            misled = student.fit(permuted(targets, seed), validation=validation, teacher=teacher, seed=seed, out=other)
            listened = influence(model, misled, teacher, validation.inputs, flow.decision)
            check_influence(listened, student=name)
            flow.save(misled, other)
            control = flow.card(f"{name}.random_teacher", "random_teacher", student.kind, misled, other)
            write_json(other / "control.json", control)
        flow.save(model, home)
        queries = int(targets.is_query.sum())
        record = flow.card(name, "student", student.kind, model, home) | {
            "targets": {
                "origin": targets.origin,
                "rows": len(targets),
                "queries": queries,
                "queries_tried": found.tried,
                "chosen": found.tried[found.best],
            },
            "assistant": flow.recipe.assistants.get(name),
            "influence": None if listened is None else listened.to_json(),
            "settings": flow.parts["students"][name],
            "readable": student.readable,
            "monotone": dict(getattr(student, "monotone", {})),
        }
        write_json(home / "student.json", record)
        if queries:
            save_targets(targets, home / "targets.safetensors")
        tried = f" · {query_words(found.tried, found.best)}" if flow.dataset.is_table else ""
        return f"{headline(record['validation'])} on validation{tried}{layer_words(record)}"

    assistant = flow.recipe.assistants.get(name)
    part = {"student": flow.parts["students"][name], "queries": flow.parts["targets"], "assistant": assistant}
    reads = ("data", "teacher", "targets", *(() if assistant is None else (f"students/{assistant}",)))
    flow.stage(f"students/{name}", work, part=part, reads=reads, code=FITTING, given=flow.given_text())


def fit_controls(flow: Flow, name: str) -> None:
    """The same family without a teacher; with `controls: full` also with the teacher's hard answers to the same rows."""
    from distillens.transfer.saved import read_targets
    from distillens.transfer.targets import Targets

    if flow.recipe.controls == "none":
        return
    student, seed = flow.recipe.build_student(name, trust_code=flow.trust_code), flow.seed("students", name)

    def work(folder: Path) -> str:
        controls = {"undistilled": Targets.from_labels(flow.dataset.train, flow.dataset.classes)}
        if flow.recipe.controls == "full" and flow.dataset.classes:
            own = flow.run.directory / "students" / name / "targets.safetensors"
            controls["equal_information"] = (read_targets(own) if own.is_file() else flow.targets_of(name)).hardened()
        for role, targets in controls.items():
            home = folder / "controls" / f"{name}.{role}"
            home.mkdir(parents=True)
            model = student.fit(targets, validation=flow.dataset.validation, teacher=None, seed=seed, out=home)
            flow.save(model, home)
            write_json(home / "control.json", flow.card(f"{name}.{role}", role, student.kind, model, home))
        return "without a teacher" + (", and with the teacher's hard answers only" if len(controls) > 1 else "")

    part = {"student": flow.parts["students"][name], "controls": flow.recipe.controls}
    reads = ("data", "teacher", "targets", f"students/{name}")
    flow.stage(f"controls/{name}", work, part=part, reads=reads, code=FITTING, given=flow.given_text())


def choose(flow: Flow) -> None:
    """The verdict goes to the student closest to the teacher on validation, unless the recipe names one."""

    def work(folder: Path) -> str:
        measure = "kl" if flow.dataset.classes else "rmse_to_teacher"
        scores = {name: flow.student_record(name)["validation"][measure] for name in flow.recipe.students}
        named = flow.recipe.chosen != "auto"
        chosen = flow.recipe.chosen if named else min(scores, key=lambda name: scores[name])
        by = "named in the recipe" if named else "validation " + {"kl": "KL"}.get(measure, "RMSE to the teacher")
        write_json(folder / "students" / "chosen.json", {"chosen": chosen, "by": by, "scores": scores})
        return f"{chosen} ({by})"

    reads = tuple(f"students/{name}" for name in flow.recipe.students)
    flow.stage("choose", work, part=flow.recipe.chosen, reads=reads, code=("flow", "pipeline"))


def trade_off(flow: Flow) -> None:
    """Families and sizes by fidelity and by what a person must read, on the validation rows: for choosing, beside the verdict."""

    def work(folder: Path) -> str:
        return write_trade_off(flow, folder / "frontier", flow.run.directory / "frontier" / "points")

    code = (*FITTING, "frontier", "intervals", "estimate", "report")
    reads = ("data", "teacher", "targets")
    flow.stage("frontier", work, part=flow.parts["frontier"], reads=reads, code=code, given=flow.given_text())


def write_trade_off(flow: Flow, folder: Path, points: Path) -> str:
    """Fit what is not among `points` yet, measure, and write the frontier's files; returns one line about them."""
    from distillens.frontier.frontier import frontier
    from distillens.frontier.points import Ground
    from distillens.recipe.frontier import frontier_members, frontier_queries
    from distillens.recipe.settings import FrontierSettings
    from distillens.report.frontier import front_words, write_frontier

    recipe, dataset, settings = flow.recipe, flow.dataset, flow.recipe.frontier or FrontierSettings()
    ground = Ground(
        flow.targets, flow.models["teacher"], dataset.validation, flow.decision, groups=dataset.train.groups,
        queries=frontier_queries(recipe), seeds=settings.seeds, seed=flow.seed("frontier"),
    )  # fmt: skip
    members = frontier_members(recipe, dataset.task, trust_code=flow.trust_code)
    record = frontier(
        members, ground, name=recipe.name, margin=settings.margin, level=recipe.audit.level, folder=points
    )
    write_frontier(record, folder, languages=recipe.report.languages)
    return front_words(record)


def explain(flow: Flow) -> None:
    """Explain every model on the same rows, masks and background; then teacher and students once more with others."""
    for method, explainer in flow.explainers.items():
        teachers = ("teacher", "twin") if flow.has_twin else ("teacher",)
        _explain_group(flow, "teacher", teachers, method, explainer)
        for name in flow.recipe.students:
            roles = (name, *(f"{name}.{role}" for role in flow.control_roles(name)))
            _explain_group(flow, name, roles, method, explainer)


def _explain_group(flow: Flow, group: str, models: Sequence[str], method: str, explainer: Any) -> None:
    stage = f"explain/{group}.{method}"

    def work(folder: Path) -> str:
        import numpy as np

        from distillens.explainers.blocks import explain_rows

        rows, target = flow.explained(explainer)
        errors: list[float] = []
        twice = (False, True) if flow.recipe.audit.repeatability else (False,)
        if group == "teacher" and method in flow.background_files():  # a finished run needs no file from outside
            source = flow.background_source(method)
            write_record(folder / flow.background_place(method), {}, source.arrays)
        for model in models:
            for repeat in twice if model == group else (False,):
                background = flow.background(method, draw="repeat" if repeat else "")
                seed = flow.seed("explain", method, "repeat" if repeat else "")
                explanation = explain_rows(
                    explainer, flow.models[model], rows, target=target, background=background, seed=seed,
                    keep=flow.run.partial(stage), label=f"{model} again" if repeat else model,
                )  # fmt: skip
                explanation.save(folder / "explanations" / f"{model}{'.repeat' if repeat else ''}.{method}.safetensors")
                errors += [] if explanation.stderr is None else [float(np.nanmedian(explanation.stderr))]
        precision = f"median standard error {np.median(errors):.2g}" if errors else "exact"
        drawn, among = len(flow.background(method)), len(flow.background_source(method))
        against = "" if explainer.kind == "intrinsic" else f" · background {drawn:,} of {among:,}"
        many = f"{len(models)} model{'s' if len(models) > 1 else ''}"
        return f"{method} of {len(rows):,} rows · {many}{against} · {precision}"

    owner = ("controls/twin",) if group == "teacher" else (f"students/{group}", f"controls/{group}")
    reads = tuple(stage for stage in ("data", "teacher", *owner) if stage in flow.run.results)
    part = {"explain": flow.parts["explain"], "repeatability": flow.recipe.audit.repeatability}
    flow.stage(stage, work, part=part, reads=reads, code=EXPLAINING, given=flow.given_to_explain(method))


def audit(flow: Flow, name: str) -> None:
    """Teacher against student on the test rows, beside the controls."""

    def work(folder: Path) -> str:
        result = _audited(flow, name, flow.models[name], flow.explanations(name))
        result.save(folder / "students" / name)
        metric, word = ("agreement", "agreement") if flow.dataset.classes else ("r2_to_teacher", "R² to the teacher")
        found = result.metric(metric).estimate
        return f"{result.verdict.upper()}  {word} {found.value:.3f} ({found.low:.3f}–{found.high:.3f})"

    reads = _evidence(flow, name)
    part = flow.parts["audit"], flow.directions(name)
    flow.stage(f"audit/{name}", work, part=part, reads=reads, code=AUDITING, given=flow.given_text())


def _evidence(flow: Flow, name: str) -> tuple[str, ...]:
    """The stages an audit of this student rests on."""
    own = ("data", "teacher", "controls/twin", f"students/{name}", f"controls/{name}")
    explained = ("explain/teacher.", f"explain/{name}.")
    return tuple(stage for stage in flow.run.results if stage in own or stage.startswith(explained))


def _audited(flow: Flow, name: str, student: Model, explanations: Any) -> Audit:
    """The audit of a student, or of its exported file."""
    from distillens.audit.audit import audit as compare

    test, decision, settings = flow.dataset.test, flow.decision, flow.recipe.audit
    controls = {role: flow.models[f"{name}.{role}"] for role in flow.control_roles(name)}
    if flow.has_twin:
        controls["twin"] = flow.models["twin"]
    first = next(iter(flow.explainers), None)
    return compare(
        flow.models["teacher"],
        student,
        test.inputs,
        test.labels,
        controls=controls,
        audit_only=test.audit_only,
        slices=settings.slices,
        groups=test.groups,
        weights=test.weights,
        background=None if first is None else flow.background(first),
        explainers=tuple(explanations),
        explanations=explanations,
        adverse=None if decision is None else flow.dataset.classes[decision.adverse],
        threshold=decision.threshold if decision is not None and len(flow.dataset.classes) == 2 else None,
        gates=settings.gates,
        trained_on=frozenset(int(row) for row in flow.dataset.train.inputs.row_ids),
        level=settings.level,
        draws=settings.draws,
        seed=flow.seed("audit"),
        certify=settings.certificate == "auto"
        and student is flow.models[name],  # an exported file has no structure to look into
        readable=flow.recipe.build_student(name, trust_code=flow.trust_code).readable,
        reference=flow.dataset.train.inputs,
        reference_weights=flow.dataset.train.weights,
        monotone=flow.directions(name),
    )


def export(flow: Flow, name: str) -> None:
    """Write the student as a file that needs nothing of ours, run it, and audit it as one more student."""
    from distillens.explainers.blocks import explain_rows
    from distillens.exporters.base import EXPORTERS
    from distillens.exporters.footprint import footprint
    from distillens.exporters.parity import parity
    from distillens.models.onnx import OnnxModel
    from distillens.models.onnx_image import ImageOnnxModel
    from distillens.named import resolve

    def work(folder: Path) -> str:
        home = folder / "students" / name / "export"
        home.mkdir(parents=True)
        kind = flow.recipe.export[0]
        exporter = resolve(kind, EXPORTERS, what="exporter", trust_code=flow.trust_code)()
        images = getattr(flow.dataset.test.inputs, "shape", None)
        given = {"decision": flow.decision} | ({} if images is None else {"shape": images})
        result = exporter(flow.models[name], home / f"model.{kind}", **given)
        # One thread: on batches that fit the cache, threads that wait for each other cost three times what they save.
        opened: Any = OnnxModel if images is None else ImageOnnxModel
        exported = opened.load(home / f"model.{kind}", label=f"{name}.{kind}", threads=1)
        # A file can only be asked, so explainers that look inside models have nothing to say about it.
        asking = {method: explainer for method, explainer in flow.explainers.items() if explainer.needs == {"call"}}
        explanations = {method: by_role for method, by_role in flow.explanations(name).items() if method in asking}
        for method, explainer in asking.items():
            rows, target = flow.explained(explainer)
            seed = flow.seed("explain", method, "")
            explanations[method]["student"] = explain_rows(
                explainer, exported, rows, target=target, background=flow.background(method), seed=seed,
                keep=flow.run.partial(f"export/{name}"), label=exported.label,
            )  # fmt: skip
        audited = _audited(flow, name, exported, explanations)
        test = flow.dataset.test.inputs
        record = result.to_json() | {
            "format": kind,
            "file": f"model.{kind}",
            "parity": parity(flow.models[name], exported, test, decision=flow.decision),
            "audit": audited.to_json(),
            "measured": footprint(exported, test, seed=flow.seed("footprint")),
        }
        write_json(home / "export.json", record)
        same = record["parity"]
        flips = f"{same['flips']} flips" if flow.dataset.classes else "no decisions to flip"
        return (
            f"{kind} {record['bytes'] / 1024:,.0f} kB · largest difference {same['max_abs_difference']:.1g} · {flips}"
        )

    if flow.recipe.export:
        reads = (*_evidence(flow, name), f"audit/{name}")
        flow.stage(
            f"export/{name}",
            work,
            part=flow.parts["export"],
            reads=reads,
            code=(*AUDITING, "exporters"),
            given=flow.given_text(),
        )


def report(flow: Flow) -> None:
    """Assemble the passport from the files alone; always made anew, because it is quick."""
    from distillens.report.passport import write_passport

    started = time.monotonic()
    flow.observer.stage_started("passport")
    write_passport(flow.run.directory, languages=tuple(flow.recipe.report.languages))
    seconds = time.monotonic() - started
    flow.observer.stage_done("passport", str(flow.run.directory / "passport.html"), seconds, False)

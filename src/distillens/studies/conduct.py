"""A study from beginning to end, in a run directory: teacher, tries, trainings, results. Read top to bottom.

    teacher     trained once (or read), asked once on the test rows
    tune/NAME   `budget` configurations on validation rows, with a seed that is none of the study's; the best one is kept: of the
                learning rate for the baseline, whose choice all others take over, of the objectives' weights for these
    fit/NAME/S  one training with that configuration and seed S, its last epoch measured on test rows
    results     differences, corrected; tables

Every one of these is a stage (run.py): finished ones are found again after a kill, so that at most one training is lost. Test rows are looked at
once the configuration stands, and never decide anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import ArtefactError, DataError, InputError
from distillens.progress import Observer, Silent, shared, task
from distillens.run import Run, stage_seed
from distillens.store import (
    JSON,
    atomic_path,
    content_hash,
    read_json,
    read_record,
    write_json,
    write_record,
    write_text,
)
from distillens.studies.measure import MEASURES, Asked, ask, per_row
from distillens.studies.study import BASELINE
from distillens.studies.training import Ground, preprocessing, train_student, train_teacher

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Dataset
    from distillens.models.image_network import ImageNetwork
    from distillens.studies.grid import Configuration
    from distillens.studies.study import MechanismPart, Study

CODE = ("data", "models", "transfer", "explainers", "studies/training", "studies/measure", "studies/grid")
UNIT = 100  # parts that a training's own bar is divided into


@dataclass(frozen=True, eq=False)
class _Under:
    """A study under way."""

    study: Study
    run: Run
    ground: Ground
    asked: Asked
    observer: Observer

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.observer.stage_started(name)
        yield
        done = self.run.results[name]
        self.observer.stage_done(name, done.summary, done.seconds, done.reused)


def conduct(
    study: Study, dataset: Dataset, *, out: str | Path | None = None, resume: bool = False, trust_code: bool = False,
    observer: Observer | None = None,
) -> tuple[JSON, Path]:  # fmt: skip
    """Run a study on images and write it to `out` (default: studies/NAME). Returns results.json and the folder.

    resume: go on with what is in the folder. Raises DataError for data that are no images, RunError for a folder that is taken, and
    what trainings raise.
    """
    _check_data(study, dataset)
    run = Run.create(Path("studies") / study.name if out is None else out, resume=resume)
    watching = observer or Silent()
    with run.locked():
        manifest = {"schema": 1, "kind": "study", "name": study.name, "data": dataset.fingerprint}
        run.begin(recipe_yaml=study.to_yaml(), manifest=manifest)
        teacher = _teacher(study, dataset, run, watching, trust_code)
        ground = Ground(dataset, teacher.preprocess, study.net("student", trust_code=trust_code), teacher, study.seed,
                        study.labelled_per_class, trust_code)  # fmt: skip
        under = _Under(study, run, ground, _asked(run), watching)
        tries = 0 if study.tune.budget == 1 else study.tune.budget
        units = len(study.mechanisms) * (tries + study.seeds)
        with task("study", total=units * UNIT, unit="") as advance:
            # The baseline first: the others train at the learning rate that was best for it, which favours it if anybody.
            for mechanism in sorted(study.mechanisms, key=lambda m: m.name != BASELINE):
                with shared(advance, tries * UNIT):
                    _tune(under, mechanism)
            # Seed by seed, so that a study that is stopped early has whole seeds of every mechanism.
            for index in range(study.seeds):
                for mechanism in study.mechanisms:
                    with shared(advance, UNIT):
                        _fit(under, mechanism, index)
        _results(under)
    return read_json(run.directory / "results.json"), run.directory


def _check_data(study: Study, dataset: Dataset) -> None:
    if dataset.is_table:
        raise DataError("A study trains networks on images, and these data are a table.")
    if dataset.train.labels is None or dataset.test.labels is None or dataset.validation.labels is None:
        raise DataError(
            "A study needs labels in all three splits: the baseline learns from them and accuracy is measured."
        )
    if len(dataset.validation) == 0 or len(dataset.test) < 2:
        raise DataError(
            "A study needs validation rows, on which configurations are chosen, and at least two test rows."
        )
    rare = int(np.bincount(np.asarray(dataset.train.labels), minlength=len(dataset.classes)).min())
    if study.labelled_per_class is not None and rare < study.labelled_per_class:
        raise DataError(
            f"labelled_per_class is {study.labelled_per_class}, and the rarest class has {rare} training rows."
        )


def _teacher(study: Study, dataset: Dataset, run: Run, observer: Observer, trust_code: bool) -> ImageNetwork:
    """Train or read the teacher, ask it about the test rows, and keep both."""
    from distillens.models.image_network import ImageNetwork
    from distillens.models.store import save_model

    def work(folder: Path) -> str:
        if study.teacher.file is None:
            made = train_teacher(dataset, preprocessing(dataset), study.net("teacher", trust_code=trust_code),
                                 study.teacher_schedule(), seed=study.seed)  # fmt: skip
            model, seconds = made.model, made.seconds
        else:
            model, seconds = _read_teacher(study, dataset, trust_code), 0.0
        stored: Any = model
        save_model(stored, folder / "teacher" / "model.safetensors")
        asked = ask(model, dataset, study.measure, seed=stage_seed(study.seed, "explainer"))
        write_record(folder / "teacher" / "asked.safetensors", {}, asked.arrays)
        right = float((asked.outputs.argmax(axis=1) == dataset.test.labels).mean())
        known = model(_images(dataset.train)).argmax(axis=1)
        card = {"label": model.label, "test_accuracy": right, "training_accuracy": float((known == dataset.train.labels).mean()),
                "seconds": round(seconds, 2), **model.complexity()}  # fmt: skip
        write_json(folder / "teacher" / "teacher.json", card)
        return f"{card['parameters']:,} parameters, accuracy {right:.3f}"

    part = {"seed": study.seed, "teacher": study.teacher.model_dump(mode="json"), "schedule": study.schedule,
            "measure": study.measure.model_dump(mode="json")}  # fmt: skip
    given = content_hash({"data": dataset.fingerprint, "file": _file_key(study)})
    observer.stage_started("teacher")
    done = run.stage("teacher", work, part=part, code=CODE, given=given)
    observer.stage_done("teacher", done.summary, done.seconds, done.reused)
    return ImageNetwork.load(run.directory / "teacher" / "model.safetensors", trust_code=trust_code)


def _file_key(study: Study) -> str | None:
    from distillens.store import file_hash

    if study.teacher.file is None:
        return None
    path = (study.base_dir or Path()) / study.teacher.file
    return file_hash(path) if path.is_file() else None


def _read_teacher(study: Study, dataset: Dataset, trust_code: bool) -> ImageNetwork:
    from distillens.models.image_network import ImageNetwork

    path = (study.base_dir or Path()) / str(study.teacher.file)
    model = ImageNetwork.load(path, trust_code=trust_code)
    if tuple(model.classes) != tuple(dataset.classes):
        raise InputError(
            f"The teacher in {path} knows the classes {list(model.classes)}, and the data have {list(dataset.classes)}."
        )
    shape = _images(dataset.train).shape
    if model.preprocess.shape != shape:
        raise InputError(f"The teacher in {path} takes images of {model.preprocess.shape}, and these are {shape}; a study shows both the same.")  # fmt: skip
    return model


def _asked(run: Run) -> Asked:
    arrays = read_record(run.directory / "teacher" / "asked.safetensors")[1]
    return Asked(arrays["outputs"], arrays["saliency"], arrays["attributions"])


def _images(split: Any) -> Any:
    return split.inputs


def _part(study: Study, mechanism: MechanismPart) -> JSON:
    """What a mechanism's trainings depend on, beside teacher and data. Its name is no part of it, but of the stage."""
    return {
        "mechanism": mechanism.model_dump(mode="json", exclude={"name"}), "student": study.student, "schedule": study.schedule,
        "tune": study.tune.model_dump(mode="json"), "seed": study.seed, "labelled_per_class": study.labelled_per_class,
    }  # fmt: skip


def _tune(under: _Under, mechanism: MechanismPart) -> None:
    """Try every configuration on validation rows; keep them all, and say which was best (the first of equals)."""
    study, ground = under.study, under.ground
    first = mechanism.name == BASELINE
    rate = None if first else _chosen(under.run, study.mechanism(BASELINE))[0].learning_rate
    every = study.configurations(mechanism, learning_rate=rate)
    name = f"tune/{mechanism.name}"

    def work(folder: Path) -> str:
        tried: list[JSON] = []
        split = ground.dataset.validation
        partial = under.run.partial(name)
        theirs = ground.teacher(_images(split)).argmax(axis=1)
        for i, configuration in enumerate(every if len(every) > 1 else ()):
            kept = partial / f"{i}.json"
            if kept.is_file():
                tried.append(read_json(kept))
                continue
            schedule = study.built_schedule(configuration.learning_rate, study.tune.epochs)
            made = train_student(ground, configuration, schedule, seed=stage_seed(study.seed, "tune"), label=f"{mechanism.name}, try {i + 1}")  # fmt: skip
            decided = made.model(_images(split)).argmax(axis=1)
            tried.append({
                "changed": configuration.changed, "accuracy": float((decided == split.labels).mean()),
                "agreement": float((decided == theirs).mean()), "seconds": round(made.seconds, 2),
            })  # fmt: skip
            write_json(kept, tried[-1])
        best = int(np.argmax([entry[study.tune.by] for entry in tried])) if tried else 0
        write_json(folder / "tune" / f"{mechanism.name}.json", {
            "mechanism": mechanism.name, "by": study.tune.by, "rows": len(split), "tried": tried, "chosen": best,
            "configuration": every[best].to_json(),
        })  # fmt: skip
        return _changes(every[best]) if tried else "as written"

    with under.stage(name):
        reads = ("teacher",) if first else ("teacher", f"tune/{BASELINE}")
        under.run.stage(name, work, part=_part(study, mechanism), reads=reads, code=CODE)


def _changes(configuration: Configuration) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in configuration.changed.items()) or "as written"


def _chosen(run: Run, mechanism: MechanismPart) -> tuple[Configuration, JSON]:
    from distillens.studies.grid import Configuration

    record = read_json(run.directory / "tune" / f"{mechanism.name}.json")
    made = record["configuration"]
    return Configuration(tuple(made["objectives"]), made["task_weight"], made["learning_rate"], made["changed"]), record


def _fit(under: _Under, mechanism: MechanismPart, index: int) -> None:
    """One training: rows.parquet and fit.json under fits/NAME/INDEX."""
    study, ground = under.study, under.ground
    name = f"fit/{mechanism.name}/{index}"

    def work(folder: Path) -> str:
        configuration = _chosen(under.run, mechanism)[0]
        seed = stage_seed(study.seed, "repetition", str(index))
        schedule, label = study.built_schedule(configuration.learning_rate), f"{mechanism.name}, seed {index + 1}"
        made = train_student(ground, configuration, schedule, seed=seed, label=label)
        started = time.perf_counter()
        target = under.asked.outputs.argmax(axis=1)
        asked = ask(made.model, ground.dataset, study.measure, target=target, seed=stage_seed(study.seed, "explainer"))
        frame = per_row(ground.dataset, under.asked, asked)
        frame.insert(0, "seed", index)
        frame.insert(0, "mechanism", mechanism.name)
        home = folder / "fits" / mechanism.name / str(index)
        with atomic_path(home / "rows.parquet") as part:
            frame.to_parquet(part, index=False)
        means = {measure: _mean(frame[measure]) for measure in MEASURES}
        write_json(home / "fit.json", {
            "mechanism": mechanism.name, "seed": index, "seconds": round(made.seconds, 2), "steps": made.steps,
            "measured_in": round(time.perf_counter() - started, 2), "history": list(made.history), **means, **made.model.complexity(),
        })  # fmt: skip
        return f"accuracy {means['accuracy']:.3f}, agreement {means['agreement']:.3f}"

    part = _part(study, mechanism) | {"index": index, "measure": study.measure.model_dump(mode="json")}
    with under.stage(name):
        under.run.stage(name, work, part=part, reads=("teacher", f"tune/{mechanism.name}"), code=CODE)


def _mean(values: Any) -> float | None:
    return float(values.mean()) if values.notna().any() else None


def _results(under: _Under) -> None:
    """Put together what the units left: rows.parquet, results.json, and the tables."""
    study, run = under.study, under.run
    fits = [f"fit/{mechanism.name}/{index}" for mechanism in study.mechanisms for index in range(study.seeds)]

    def work(folder: Path) -> str:
        from distillens.studies.table import bibtex_of, latex, markdown

        rows, results = gather(study, run)
        with atomic_path(folder / "rows.parquet") as part:
            rows.to_parquet(part, index=False)
        write_json(folder / "results.json", results)
        write_text(folder / "table.md", markdown(results))
        write_text(folder / "table.tex", latex(results))
        write_text(folder / "references.bib", bibtex_of(results))
        return f"{len(study.mechanisms)} mechanisms × {results['seeds']} seeds"

    part = {
        "study": study.study,
        "level": study.level,
        "equivalence": study.equivalence,
        "order": [m.name for m in study.mechanisms],
    }
    with under.stage("results"):
        run.stage("results", work, part=part, reads=fits, code=("studies",))


def gather(study: Study, run: Run) -> tuple[pd.DataFrame, JSON]:
    """All rows and the results, of the seeds that every mechanism has finished. ArtefactError when there is none."""
    import pandas as pd

    from distillens.studies.results import results_of

    homes = {m.name: run.directory / "fits" / m.name for m in study.mechanisms}
    seeds = [i for i in range(study.seeds) if all((home / str(i) / "fit.json").is_file() for home in homes.values())]
    if not seeds:
        raise ArtefactError(f"{run.directory} has no seed that all mechanisms have finished; go on with --resume.")
    rows = pd.concat([pd.read_parquet(home / str(i) / "rows.parquet") for home in homes.values() for i in seeds], ignore_index=True)  # fmt: skip
    fits = [read_json(home / str(i) / "fit.json") for home in homes.values() for i in seeds]
    tunes = {m.name: _chosen(run, m)[1] for m in study.mechanisms}
    teacher = read_json(run.directory / "teacher" / "teacher.json")
    return rows, results_of(study, rows, fits, tunes, teacher, seeds)

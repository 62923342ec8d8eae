"""Audit two models made elsewhere: two files and a table, one call.

    open both files ─► read the table ─► bind features and classes ─► explain both ─► audit ─► folder with a passport

Nothing is trained. What a run would know and two files do not (the training rows, a refitted teacher, a student without a teacher)
is "not available" in the audit, unless it is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import InputError, did_you_mean
from distillens.store import JSON, content_hash, write_json

if TYPE_CHECKING:
    import pandas as pd

    from distillens.audit.result import Audit
    from distillens.data.base import Column, Table
    from distillens.explainers.base import Explanation
    from distillens.models.base import Model
    from distillens.models.opened import ModelFile

AUDIT_CONTROLS = ("twin", "undistilled", "random_teacher", "equal_information")


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a file as both models see them.

    columns: features, with every category that a model or a row knows. labels: (n,) class indices or values; None without target.
    """

    inputs: Table
    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    task: str
    labels: Any
    weights: Any
    groups: Any
    audit_only: pd.DataFrame | None
    source: str
    target: str


@dataclass(frozen=True, eq=False)
class FileAudit:
    """What was audited and what came out. background: in words. kinds: role → kind of file. assumed: role → the names that were
    taken for outputs which a file numbers only."""

    audit: Audit
    rows: Rows
    background: str
    kinds: Mapping[str, str]
    assumed: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Named:
    """Which column is what. classes: every class in the order of codes, where the data do not say it all."""

    target: str | None = None
    audit_only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    group: str | None = None
    weight: str | None = None
    classes: tuple[str, ...] | None = None


def audit_files(
    teacher: str | Path,
    student: str | Path,
    data: str | Path,
    *,
    named: Named,
    background: str | Path | None = None,
    controls: Mapping[str, str | Path] | None = None,
    teacher_classes: tuple[str, ...] | None = None,
    student_classes: tuple[str, ...] | None = None,
    adverse: str | None = None,
    threshold: float | None = None,
    gates: str | Mapping[str, Any] | None = "relative",
    method: str = "auto",
    explained: int = 100,
    background_rows: int = 100,
    budget: int | None = None,
    repeatability: bool = True,
    seed: int = 0,
    keep: Path | None = None,
    trust_code: bool = False,
) -> FileAudit:
    """Compare the student in one file with the teacher in another on the rows of a table.

    teacher, student, controls: files of `distillens.models.files.KINDS`, or package.module:name with trust_code.
    data: a CSV or Parquet file. named: its target and other columns; all others are features, or those that both files name.
    background: a table whose rows stand for "unknown"; without it, rows of the data themselves. method: an explainer, "auto" or
    "none"; explained: rows to explain; budget: coalitions a row. teacher_classes, student_classes: names of a model's outputs in
    its order, where its file does not name them. repeatability: explain both a second time, against other background rows.
    keep: a folder for finished blocks of explanations, where the same call finds them again after an interruption.
    The rest as for `distillens.audit.audit.audit`.
    Raises InputError (ModelError, DataError, ArtefactError, UntrustedCodeError) in one sentence for whatever cannot be used.
    """
    import numpy as np

    from distillens.audit.audit import audit as compare
    from distillens.models.files import open_model_file

    for role in controls or {}:
        if role not in AUDIT_CONTROLS:
            raise InputError(f"There is no control {role!r}.{did_you_mean(role, AUDIT_CONTROLS)}")
    files = {"teacher": open_model_file(teacher, trust_code=trust_code)}
    files["student"] = open_model_file(student, trust_code=trust_code)
    files |= {role: open_model_file(path, trust_code=trust_code) for role, path in (controls or {}).items()}
    rows, backing = read_rows(data, tuple(files.values()), named=named, background=background)
    own = {"teacher": teacher_classes, "student": student_classes, "twin": teacher_classes}
    models = {role: file.bind(rows.columns, rows.classes, own=own.get(role)) for role, file in files.items()}
    source = rows.inputs if backing is None else backing
    generator = np.random.default_rng([seed, 1])
    drawn = source.take(np.sort(generator.permutation(len(source))[: 2 * background_rows]))
    explanations = None
    if method != "none":
        explanations = _explain(
            models,
            rows,
            drawn,
            method=method,
            count=explained,
            budget=budget,
            adverse=adverse,
            repeatability=repeatability,
            seed=seed,
            keep=keep,
        )
    result = compare(
        models["teacher"], models["student"], rows.inputs, rows.labels,
        controls={role: model for role, model in models.items() if role not in ("teacher", "student")},
        audit_only=rows.audit_only, groups=rows.groups, weights=rows.weights, background=drawn.take(_half(drawn)[0]),
        explainers=(), explanations=explanations, adverse=adverse, threshold=threshold, gates=gates, seed=seed,
        max_explained=explained,
    )  # fmt: skip
    place = "the audited rows themselves" if backing is None else Path(str(background)).name
    halves = len(_half(drawn)[0])
    kinds = {role: file.kind for role, file in files.items()}
    assumed = {
        role: rows.classes for role, f in files.items() if f.classes is None and not own.get(role) and rows.classes
    }
    return FileAudit(result, rows, f"{halves:,} of {len(source):,} rows of {place}", kinds, assumed)


def _half(drawn: Table) -> tuple[Any, Any]:
    """Positions of the first background and of the other one, with which both models are explained a second time."""
    import numpy as np

    order = np.arange(len(drawn))
    return (order[::2], order[1::2]) if len(drawn) >= 4 else (order, order)


def _explain(
    models: Mapping[str, Model], rows: Rows, drawn: Table, *, method: str, count: int, budget: int | None,
    adverse: str | None, repeatability: bool, seed: int, keep: Path | None,
) -> dict[str, dict[str, Explanation]]:  # fmt: skip
    """Method → role → explanation: every model on one background, teacher and student once more on another."""
    import numpy as np

    from distillens.audit.answers import decision_of
    from distillens.explainers.explain import explain
    from distillens.models.base import evaluate

    generator = np.random.default_rng([seed, 0])
    chosen = rows.inputs.take(np.sort(generator.permutation(len(rows.inputs))[:count]))
    if len(rows.classes) > 2:
        target = evaluate(models["teacher"], chosen).argmax(axis=1).astype(np.int64)
    else:
        index = decision_of(rows.classes, adverse, None).adverse if rows.classes else 0
        target = np.full(len(chosen), index, dtype=np.int64)
    first, second = (drawn.take(part) for part in _half(drawn))
    made = {
        role: explain(
            model, chosen, method=method, target=target, background=first, budget=budget, seed=seed, keep=keep
        )
        for role, model in models.items()
    }
    for role in ("teacher", "student") if repeatability else ():
        made[f"{role}.repeat"] = explain(
            models[role],
            chosen,
            method=method,
            target=target,
            background=second,
            budget=budget,
            seed=seed + 1,
            keep=keep,
        )
    return {made["teacher"].method: made}


def read_rows(
    data: str | Path, files: Sequence[ModelFile], *, named: Named, background: str | Path | None = None
) -> tuple[Rows, Table | None]:
    """The rows of a table, and of a background table, coded for all models at once.

    Features are the columns that the files name where all of them name some, otherwise every column without another meaning. Kinds
    and categories are those that a file knows, with what the rows hold beyond them. Raises DataError and InputError.
    """
    from distillens.data.load import audit_frame
    from distillens.data.read import open_source
    from distillens.data.splits import group_ids
    from distillens.data.table import encode_frame

    opened = open_source(_path(data))
    frame, other = opened.frame, None if background is None else open_source(_path(background)).frame
    names = [str(name) for name in frame.columns]
    for option, column in _mentioned(named):
        if column not in names:
            raise InputError(
                f"{option} names the column {column!r}, which is not in {Path(data).name}.{did_you_mean(column, names)}"
            )
    taken = {column for _, column in _mentioned(named)}
    left = [name for name in names if name not in taken]
    wanted = {name for file in files for name in file.features or ()}
    if all(file.features is not None for file in files):
        left = [name for name in left if name in wanted or any(_loosely(name) == _loosely(w) for w in wanted)]
        hidden = sorted(wanted & taken)
        if hidden:
            raise InputError(
                f"A model uses {hidden[0]!r} as a feature, but the command gives this column another meaning."
            )
    if not left:
        raise InputError(
            f"{Path(data).name} has none of the features that the models name; they want {', '.join(map(repr, sorted(wanted)[:5]))}."
        )
    columns = _columns(frame, other, left, files)
    task, classes, labels = _target(frame, named, files)
    weights = _weights(frame, named.weight)
    rows = Rows(
        encode_frame(frame, columns), columns, classes, task, labels, weights,
        None if named.group is None else group_ids(frame, named.group), audit_frame(frame, named.audit_only), opened.text, named.target or "",
    )  # fmt: skip
    return rows, None if other is None else encode_frame(other, columns)


def _path(data: str | Path) -> Path:
    """A file, always: a name with a colon would run code where a data source is expected."""
    return Path(data)


def _mentioned(named: Named) -> list[tuple[str, str]]:
    one = [("--target", named.target), ("--group", named.group), ("--weight", named.weight)]
    several = [("--audit-only", c) for c in named.audit_only] + [("--ignore", c) for c in named.ignore]
    return [(option, column) for option, column in one if column is not None] + several


def _loosely(name: str) -> str:
    return "_".join(name.split())


def _columns(
    frame: pd.DataFrame, other: pd.DataFrame | None, names: Sequence[str], files: Sequence[ModelFile]
) -> tuple[Column, ...]:
    """Kinds that a model file knows go before those read from the rows; categories of all sources, the model's first."""
    from distillens.data.base import Column
    from distillens.data.kinds import read_cells, read_texts
    from distillens.data.table import learn_column, sorted_texts

    known: dict[str, Column] = {}
    for file in files:
        for column in file.columns or ():
            known.setdefault(column.name, column)
    columns = []
    for name in names:
        column = known.get(name) or learn_column(read_cells(frame[name], name), name)
        if column.kind == "categorical":
            texts: set[str] = set()
            for source in (frame, other):
                if source is not None and name in source.columns:
                    texts |= {t for t in read_texts(source[name], name) if t is not None}
            more = sorted_texts(texts - set(column.categories))
            column = Column(name, "categorical", (*column.categories, *more))
        columns.append(column)
    return tuple(columns)


def _target(frame: pd.DataFrame, named: Named, files: Sequence[ModelFile]) -> tuple[str, tuple[str, ...], Any]:
    """Task, classes and labels. Classes: those given, else a model's where it names all that the rows hold, else the rows'."""
    import numpy as np

    from distillens.data.table import sorted_texts
    from distillens.data.target import read_target

    said = next((file.classes for file in files if file.classes is not None), None)
    outputs = next((file.outputs for file in files if file.outputs is not None), None)
    if named.target is None:
        classes = named.classes or said
        if classes is None:
            raise InputError(
                "The model files do not name their classes: give --target, or --classes with every class in the order of codes."
            )
        return ("binary" if len(classes) == 2 else "multiclass" if classes else "regression"), classes, None
    if said == () or outputs == 1:
        found = read_target(frame, named.target, task="regression")
        return "regression", (), found.labels
    found = read_target(frame, named.target, task="classification" if said or outputs or named.classes else "auto")
    if not found.classes:
        return "regression", (), found.labels
    order = found.classes
    if named.classes is not None:
        order = named.classes
    elif said is not None and set(said) > set(found.classes):  # the rows do not hold every class
        order = sorted_texts(set(said))
    strange = [name for name in found.classes if name not in order]
    if strange:
        raise InputError(
            f"The rows hold a class {strange[0]!r} that --classes does not name.{did_you_mean(strange[0], order)}"
        )
    index = np.array([order.index(name) for name in found.classes], dtype=np.int64)
    return ("binary" if len(order) == 2 else "multiclass"), order, index[found.labels]


def _weights(frame: pd.DataFrame, name: str | None) -> Any:
    from distillens.data.kinds import read_cells

    if name is None:
        return None
    cells = read_cells(frame[name], name)
    if cells.numbers is None:
        raise InputError(f"The weight column {name!r} must hold numbers.")
    return cells.numbers


def write_audit(done: FileAudit, out: Path, *, name: str, command: Mapping[str, Any], seed: int) -> None:
    """A folder laid out as that of a run (docs/run-directory.md): audit.json, rows.parquet, and the passport made of them.

    Raises RunError when the folder is taken or cannot be written.
    """
    from distillens.report.passport import write_passport
    from distillens.run import Run

    run = Run.create(out, resume=False)
    with run.locked():
        written = _recipe(command)
        run.begin(recipe_yaml=written, manifest=_manifest(name, seed, written))
        run.stage("data", lambda folder: _write_data(done, folder), part=dict(command))
        run.stage("models", lambda folder: _write_models(done, folder), part=dict(command), reads=("data",))

        def work(folder: Path) -> str:
            home = folder / "students" / "student"
            home.mkdir(parents=True)
            done.audit.save(home)
            return done.audit.verdict.upper()

        run.stage("audit/student", work, part=dict(command), reads=("data", "models"))
        write_passport(run.directory, languages=("en",))
        run.drop_partial()


def _recipe(command: Mapping[str, Any]) -> str:
    import json

    # JSON is YAML; this records the command, and no recipe of these keys can be run
    return (
        "# written by: distillens audit\n" + json.dumps({"audit": dict(command)}, ensure_ascii=False, indent=1) + "\n"
    )


def _manifest(name: str, seed: int, recipe: str) -> JSON:
    import hashlib

    from distillens.flow import surroundings

    digest = hashlib.sha256(recipe.encode()).hexdigest()
    return {"schema": 1, "name": name, "title": name, "seed": seed, "recipe_sha256": digest} | surroundings()


def _write_data(done: FileAudit, folder: Path) -> str:
    rows, decision = done.rows, done.audit.decision
    home = folder / "data"
    home.mkdir()
    told = {"columns": [c.to_json() for c in rows.columns], "classes": list(rows.classes)}
    numbers = {"values": rows.inputs.values} | ({} if rows.labels is None else {"labels": rows.labels})
    counts = {}
    if rows.classes and rows.labels is not None:
        counts = {"test": {c: int((rows.labels == k).sum()) for k, c in enumerate(rows.classes)}}
    write_json(home / "dataset.json", {
        "name": "data", "source": rows.source, "licence": "", "citation": "", "task": rows.task, "classes": list(rows.classes),
        "target": rows.target, "fingerprint": content_hash(told, numbers), "roles": {}, "columns": [c.to_json() for c in rows.columns],
        "rows": {"test": len(rows.inputs)}, "class_counts": counts, "target_range": None,
        "findings": [{"kind": "background", "column": None, "text": f"Background of the explanations: {done.background}.", "severity": "info"}],
        "decision": decision,
    })  # fmt: skip
    return f"{len(rows.inputs):,} rows · {len(rows.columns)} features"


def _write_models(done: FileAudit, folder: Path) -> str:
    models = done.audit.models
    for role, home in (("teacher", folder / "teacher"), ("student", folder / "students" / "student")):
        home.mkdir(parents=True)
        model = models[role]
        write_json(home / f"{role}.json", {
            "id": role, "role": role, "kind": done.kinds[role], "label": model["label"], "settings": {},
            "fingerprint": model["fingerprint"], "readable": False, "complexity": {}, "described": None, "history": None,
            "validation": {},
        })  # fmt: skip
    chosen = {"chosen": "student", "by": "the only one", "scores": {}}
    write_json(folder / "students" / "chosen.json", chosen)
    return f"{models['student']['label']} against {models['teacher']['label']}"

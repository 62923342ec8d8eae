"""`distill`: one student of one teacher, without a run directory, controls or audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import DataError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from distillens.data.base import Dataset
    from distillens.models.base import Model
    from distillens.students.base import Student

ORIGINS = ("auto", "in_sample", "out_of_fold", "labels")


def distill(
    teacher: Any,
    student: Student | str,
    data: Dataset,
    *,
    objectives: Sequence[Any] | None = None,
    targets: str = "auto",
    queries: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    trust_code: bool = False,
) -> Model:
    """Make a student of a teacher.

    teacher: a Model, a fitted scikit-learn estimator, a torch module, a function of a data frame, a model file, or package.module:name
    with trust_code (docs/models-made-elsewhere.md). student: a student, or the name of a family with its defaults.
    objectives: for network students, in place of theirs. targets: "auto" (out of fold where in-sample answers are
    saturated and the teacher can be refitted), "in_sample", "out_of_fold" or "labels" (no teacher: the control).
    queries: rows made up and labelled by the teacher, per training row. out: a folder for training histories.
    Returns the fitted student. Raises RecipeError, ModelError, DataError, TransferError.
    """
    from distillens.models.base import Model as ModelProtocol
    from distillens.models.callable import align_classes
    from distillens.models.estimator import EstimatorModel
    from distillens.models.files import bound
    from distillens.named import resolve
    from distillens.students.base import STUDENTS
    from distillens.students.estimator import EstimatorFamily
    from distillens.transfer.out_of_fold import out_of_fold
    from distillens.transfer.rows.queries import with_queries
    from distillens.transfer.saturation import saturation
    from distillens.transfer.targets import Targets

    if not hasattr(data, "train"):
        raise DataError(
            f"data is a {type(data).__name__}; expected a Dataset with a split: distillens.load_dataset(source=frame, target=…)."
        )
    if targets not in ORIGINS:
        raise RecipeError(f"targets: {targets!r} is not known.{did_you_mean(targets, ORIGINS)}")
    learner: Any = resolve(student, STUDENTS, what="student")() if isinstance(student, str) else student
    if objectives is not None:
        if learner.kind != "network":
            raise RecipeError(
                f"objectives are for network students; a {learner.kind} student fits the teacher's answers directly."
            )
        learner = replace(learner, objectives=tuple(objectives))
    family = EstimatorFamily(teacher) if hasattr(teacher, "get_params") else None
    if family is not None:
        model: Model = EstimatorModel(teacher, data.columns, data.classes, type(teacher).__name__)
    elif isinstance(teacher, ModelProtocol):
        model = align_classes(teacher, data.classes)
    else:
        model = bound(teacher, columns=data.columns, classes=data.classes, trust_code=trust_code)
    origin = targets
    if origin == "auto":
        measured = saturation(model, data.train, data.validation, seed=seed)
        origin = "out_of_fold" if measured.saturated and family is not None else "in_sample"
        if origin == "in_sample":
            measured.warn_if_saturated()
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
    if queries:
        taught = with_queries(taught, model, per_row=queries, seed=seed)
    guide = None if origin == "labels" else model
    folder = None if out is None else Path(out)
    fitted: Model = learner.fit(taught, validation=data.validation, teacher=guide, seed=seed, out=folder)
    return fitted

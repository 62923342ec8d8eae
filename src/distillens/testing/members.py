"""Contract checks for models, students, explainers and metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from distillens.testing.base import check_entry, require, untouched

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Split, Table
    from distillens.explainers.base import Explainer, Explanation
    from distillens.metrics.base import Metric
    from distillens.models.base import Model
    from distillens.students.base import Student
    from distillens.transfer.targets import Targets

NEEDS = frozenset(("labels", "explanations", "background", "reference"))  # what a metric may need


def check_model(model: Model, inputs: Table, *, tolerance: float = 1e-5) -> None:
    """Names, shapes, numbers, repeatability, batch mates, side effects; contributions and records where there are some.

    inputs: at least two rows, best with missing and unseen values. tolerance: largest difference between a row's answers
    in different batches, relative to the largest answer. Raises AssertionError; ModelError for shapes and NaN.
    """
    from distillens.models.base import IntrinsicModel, Model, StorableModel, evaluate

    require(isinstance(model, Model), f"{type(model).__name__} lacks something that every Model has.")
    label: Any = model.label  # a type checker has seen it, but who runs this may have none
    require(isinstance(label, str) and bool(label), "A model's label should be a name.")
    classes: Any = model.classes
    require(
        isinstance(classes, tuple) and all(isinstance(c, str) for c in classes), "classes should be a tuple of texts."
    )
    require(len(set(classes)) == len(classes) != 1, "classes should be different, and none or at least two.")
    require(model.output in (("logits", "probabilities") if classes else ("values",)), f"output {model.output!r} does not fit the classes.")  # fmt: skip
    require(model.fingerprint == model.fingerprint, "The fingerprint changes from one look to the next.")
    before = inputs.values.copy()
    with untouched(model):
        outputs = evaluate(model, inputs)
        again = evaluate(model, inputs)
        half = evaluate(model, inputs.take(np.arange(0, len(inputs), 2)))
    require(np.array_equal(before, inputs.values, equal_nan=True), "The model changed the rows it was asked about.")
    require(np.array_equal(outputs, again), "The model answers the same rows differently the second time.")
    largest = tolerance * max(1.0, float(np.abs(outputs).max(initial=0.0)))
    require(bool((np.abs(outputs[::2] - half) <= largest).all()), "A row's answer depends on the rows beside it.")
    if model.output == "probabilities":
        whole = bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-6))
        require(whole, "Probabilities should be at least 0 and sum to 1 in every row.")
    if isinstance(model, IntrinsicModel):
        parts, base = model.contributions(inputs)
        require(bool((np.abs(parts.sum(axis=1) + base - outputs) <= largest).all()), "Base and contributions do not add up to the outputs.")  # fmt: skip
    if isinstance(model, StorableModel):
        restored: Any = type(model).from_record(*model.to_record())
        require(
            np.array_equal(evaluate(restored, inputs), outputs), "A model read back from its record answers otherwise."
        )


def check_student(
    student: Student, targets: Targets, *, validation: Split, teacher: Model | None = None, seed: int = 0
) -> Model:
    """Fit twice and check what comes out with `check_model`; returns the fitted model.

    The same seed should give the same model, the targets should stay as they are, and the student should listen to them: one
    fitted on answers dealt out at random differs. Raises AssertionError, and what `fit` raises.
    """
    check_entry(student)
    require(isinstance(student.readable, bool), "readable should say whether people can read the fitted model.")
    before = targets.fingerprint
    with untouched():
        model = student.fit(targets, validation=validation, teacher=teacher, seed=seed)
        twin = student.fit(targets, validation=validation, teacher=teacher, seed=seed)
    require(targets.fingerprint == before, "fit changed the targets.")
    require(tuple(model.classes) == targets.classes, "The fitted model has other classes than its targets.")
    rows = validation.table
    require(np.array_equal(model(rows), twin(rows)), "The same targets and seed should give the same model.")
    order = np.random.default_rng(seed).permutation(len(targets))
    labels = None if targets.labels is None else targets.labels[order]
    deaf = student.fit(replace(targets, outputs=targets.outputs[order], labels=labels), validation=validation, teacher=teacher, seed=seed)  # fmt: skip
    require(not np.allclose(model(rows), deaf(rows)), "The student does not listen to its targets.")
    check_model(model, rows)
    return model


def check_explainer(
    explainer: Explainer, model: Model, inputs: Table, *, target: Ints, background: Table | None = None, seed: int = 0
) -> Explanation:
    """Explain twice, and half of the rows alone; returns the explanation. target: (n,) class indices.

    The same seed should give the same numbers, whatever rows are explained beside a row; the residual should be what is left
    of the output. Raises AssertionError, and what the explainer raises.
    """
    from distillens.explainers.base import Explanation, Need

    check_entry(explainer)
    require(isinstance(explainer.differentiable, bool), "differentiable should be True or False.")
    require(explainer.needs <= set(get_args(Need)), f"needs should be among {get_args(Need)}.")
    before = inputs.values.copy()
    some = np.arange(0, len(inputs), 2)
    with untouched(model):
        made = explainer(model, inputs, target=target, background=background, seed=seed)
        again = explainer(model, inputs, target=target, background=background, seed=seed)
        part = explainer(model, inputs.take(some), target=target[some], background=background, seed=seed)
    require(np.array_equal(before, inputs.values, equal_nan=True), "The explainer changed the rows it was asked about.")
    require(
        np.array_equal(made.row_ids, inputs.row_ids),
        "The explanation should carry the ids of the rows, in their order.",
    )
    require(np.array_equal(made.target, target), "The explanation should carry the targets that were asked for.")
    require(bool(np.isfinite(made.values).all()), "Attributions should be finite.")
    require(np.array_equal(made.values, again.values), "The same rows and seed should give the same attributions.")
    require(_close(made.values[some], part.values), "A row's attributions depend on the rows explained beside it.")
    left = made.output - made.base - made.values.sum(axis=1)
    require(_close(left, made.residual), "The residual should be output − base − sum of the attributions.")
    require(made.stderr is None if made.exact else made.stderr is not None, "Sampled attributions need a standard error, exact ones have none.")  # fmt: skip
    back = Explanation.from_json(made.to_json())
    require(np.array_equal(back.values, made.values), "The explanation should survive being written as JSON.")
    return made


def _close(a: Floats, b: Floats) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6))


def check_metric(metric: Metric) -> None:
    """The record of a metric: a name and a sentence, known tasks and needs, and a documented function behind its path.

    Raises AssertionError; InputError when the path names nothing. What the function computes is for a test of its own.
    """
    from distillens.metrics.base import EVERY, Scope, Unit
    from distillens.named import load_object

    require(metric.name.isidentifier(), f"A metric's name should be a plain word, not {metric.name!r}.")
    require(bool(metric.text), f"The metric {metric.name!r} should say in one sentence what it measures.")
    require(metric.scope in get_args(Scope), f"There is no scope {metric.scope!r}.")
    require(metric.unit in get_args(Unit), f"There is no unit {metric.unit!r}.")
    require(bool(metric.tasks) and metric.tasks <= EVERY, f"The metric {metric.name!r} should apply to known tasks.")
    require(metric.needs <= NEEDS, f"The metric {metric.name!r} should need nothing but {sorted(NEEDS)}.")
    require(metric.higher_is_better in (True, False, None), "higher_is_better should be True, False or None.")
    function = load_object(metric.path)
    require(callable(function) and bool(function.__doc__), f"{metric.path} should be a documented function.")

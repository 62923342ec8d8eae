"""Contract checks for models, students, explainers, objectives and metrics, for the tests of whoever writes one.

    from distillens.testing import check_model

    def test_my_model():
        check_model(MyModel(...), table)

Each check uses the thing once or twice for real and raises AssertionError with one sentence on the first promise that is
broken; errors of the thing itself pass through. A check that passes says that the thing fits in, not that it is any good.
"""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Split, Table
    from distillens.explainers.base import Explainer, Explanation
    from distillens.metrics.base import Metric
    from distillens.models.base import Model
    from distillens.students.base import Student
    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.targets import Targets

NEEDS = frozenset(("labels", "explanations", "background"))  # what a metric may need

PYTHONS, FILTERS = "The state of Python's random generator", "The list of warning filters"
AT_IMPORT = (PYTHONS, FILTERS)  # what importing a library may change


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)


@contextlib.contextmanager
def untouched(model: Any = None) -> Iterator[None]:
    """AssertionError when the block changes something global, or the mode of `model.module`.

    Global: the random states of `random`, NumPy and (when it is loaded) torch, torch's thread count and gradient mode,
    and the warning filters. When the block is the first to import some library, Python's generator and the filters are not
    compared: libraries draw and add filters while they are imported, which is theirs to answer for.
    """
    before, loaded = _globals(model), len(sys.modules)
    yield
    for (what, was), (_, now) in zip(before, _globals(model), strict=True):
        excused = what in AT_IMPORT and len(sys.modules) > loaded
        _require(was == now or excused, f"{what} changed and was not restored.")


def _globals(model: Any) -> list[tuple[str, object]]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (the global state is what is watched)
    assert isinstance(numpy_state, dict)
    torch = sys.modules.get("torch")
    module = getattr(model, "module", None)
    parts = module.modules() if torch is not None and isinstance(module, torch.nn.Module) else ()
    return [
        (PYTHONS, random.getstate()),
        ("The state of NumPy's global generator", (repr(numpy_state["state"]), numpy_state["gauss"])),
        ("The state of torch's global generator", None if torch is None else torch.get_rng_state().numpy().tobytes()),
        ("Torch's thread count", None if torch is None else torch.get_num_threads()),
        ("Torch's gradient mode", None if torch is None else torch.is_grad_enabled()),
        (FILTERS, list(warnings.filters)),
        ("The mode (training or not) of the model", [part.training for part in parts]),
    ]


def _check_entry(entry: Any) -> None:
    """Students, explainers and objectives are their recipe entries: documented frozen dataclasses."""
    cls = type(entry)
    _require(is_dataclass(cls), f"{cls.__name__} should be a dataclass: it is its own recipe entry.")
    _require(cls.__dataclass_params__.frozen, f"{cls.__name__} should be frozen: a recipe is not edited in place.")
    _require(bool((cls.__doc__ or "").strip()), f"{cls.__name__} should have a docstring.")
    _require(isinstance(entry.kind, str) and bool(entry.kind), f"{cls.__name__}.kind should be a name.")
    _require(replace(entry) == entry, f"Equal settings should make equal {cls.__name__} objects.")


def check_model(model: Model, inputs: Table, *, tolerance: float = 1e-5) -> None:
    """Names, shapes, numbers, repeatability, batch mates, side effects; contributions and records where there are some.

    inputs: at least two rows, best with missing and unseen values. tolerance: largest difference between a row's answers
    in different batches, relative to the largest answer. Raises AssertionError; ModelError for shapes and NaN.
    """
    from distillens.models.base import IntrinsicModel, Model, StorableModel, evaluate

    _require(isinstance(model, Model), f"{type(model).__name__} lacks something that every Model has.")
    label: Any = model.label  # a type checker has seen it, but who runs this may have none
    _require(isinstance(label, str) and bool(label), "A model's label should be a name.")
    classes: Any = model.classes
    _require(
        isinstance(classes, tuple) and all(isinstance(c, str) for c in classes), "classes should be a tuple of texts."
    )
    _require(len(set(classes)) == len(classes) != 1, "classes should be different, and none or at least two.")
    _require(model.output in (("logits", "probabilities") if classes else ("values",)), f"output {model.output!r} does not fit the classes.")  # fmt: skip
    _require(model.fingerprint == model.fingerprint, "The fingerprint changes from one look to the next.")
    before = inputs.values.copy()
    with untouched(model):
        outputs = evaluate(model, inputs)
        again = evaluate(model, inputs)
        half = evaluate(model, inputs.take(np.arange(0, len(inputs), 2)))
    _require(np.array_equal(before, inputs.values, equal_nan=True), "The model changed the rows it was asked about.")
    _require(np.array_equal(outputs, again), "The model answers the same rows differently the second time.")
    largest = tolerance * max(1.0, float(np.abs(outputs).max(initial=0.0)))
    _require(bool((np.abs(outputs[::2] - half) <= largest).all()), "A row's answer depends on the rows beside it.")
    if model.output == "probabilities":
        whole = bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-6))
        _require(whole, "Probabilities should be at least 0 and sum to 1 in every row.")
    if isinstance(model, IntrinsicModel):
        parts, base = model.contributions(inputs)
        _require(bool((np.abs(parts.sum(axis=1) + base - outputs) <= largest).all()), "Base and contributions do not add up to the outputs.")  # fmt: skip
    if isinstance(model, StorableModel):
        restored: Any = type(model).from_record(*model.to_record())
        _require(
            np.array_equal(evaluate(restored, inputs), outputs), "A model read back from its record answers otherwise."
        )


def check_student(
    student: Student, targets: Targets, *, validation: Split, teacher: Model | None = None, seed: int = 0
) -> Model:
    """Fit twice and check what comes out with `check_model`; returns the fitted model.

    The same seed should give the same model, the targets should stay as they are, and the student should listen to them: one
    fitted on answers dealt out at random differs. Raises AssertionError, and what `fit` raises.
    """
    _check_entry(student)
    _require(isinstance(student.readable, bool), "readable should say whether people can read the fitted model.")
    before = targets.fingerprint
    with untouched():
        model = student.fit(targets, validation=validation, teacher=teacher, seed=seed)
        twin = student.fit(targets, validation=validation, teacher=teacher, seed=seed)
    _require(targets.fingerprint == before, "fit changed the targets.")
    _require(tuple(model.classes) == targets.classes, "The fitted model has other classes than its targets.")
    rows = validation.inputs
    _require(np.array_equal(model(rows), twin(rows)), "The same targets and seed should give the same model.")
    order = np.random.default_rng(seed).permutation(len(targets))
    labels = None if targets.labels is None else targets.labels[order]
    deaf = student.fit(replace(targets, outputs=targets.outputs[order], labels=labels), validation=validation, teacher=teacher, seed=seed)  # fmt: skip
    _require(not np.allclose(model(rows), deaf(rows)), "The student does not listen to its targets.")
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

    _check_entry(explainer)
    _require(isinstance(explainer.differentiable, bool), "differentiable should be True or False.")
    _require(explainer.needs <= set(get_args(Need)), f"needs should be among {get_args(Need)}.")
    before = inputs.values.copy()
    some = np.arange(0, len(inputs), 2)
    with untouched(model):
        made = explainer(model, inputs, target=target, background=background, seed=seed)
        again = explainer(model, inputs, target=target, background=background, seed=seed)
        part = explainer(model, inputs.take(some), target=target[some], background=background, seed=seed)
    _require(
        np.array_equal(before, inputs.values, equal_nan=True), "The explainer changed the rows it was asked about."
    )
    _require(
        np.array_equal(made.row_ids, inputs.row_ids),
        "The explanation should carry the ids of the rows, in their order.",
    )
    _require(np.array_equal(made.target, target), "The explanation should carry the targets that were asked for.")
    _require(bool(np.isfinite(made.values).all()), "Attributions should be finite.")
    _require(np.array_equal(made.values, again.values), "The same rows and seed should give the same attributions.")
    _require(_close(made.values[some], part.values), "A row's attributions depend on the rows explained beside it.")
    left = made.output - made.base - made.values.sum(axis=1)
    _require(_close(left, made.residual), "The residual should be output − base − sum of the attributions.")
    _require(made.stderr is None if made.exact else made.stderr is not None, "Sampled attributions need a standard error, exact ones have none.")  # fmt: skip
    back = Explanation.from_json(made.to_json())
    _require(np.array_equal(back.values, made.values), "The explanation should survive being written as JSON.")
    return made


def _close(a: Floats, b: Floats) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6))


def check_objective(objective: Objective, *, outputs: int = 3, rows: int = 16, seed: int = 0) -> None:
    """An objective on random (rows, outputs) answers: a finite scalar in float32 that teaches the student and not the teacher.

    Raises AssertionError, and what the objective raises.
    """
    import torch

    from distillens.transfer.objectives.base import Batch, LearnedObjective, Loss, PureObjective, Shapes, View, term_of

    _require(
        isinstance(objective, (PureObjective, LearnedObjective)),
        f"{type(objective).__name__} lacks something that every Objective has.",
    )
    _check_entry(objective)
    _require(0 <= objective.weight < float("inf"), "weight should be a finite number of at least 0.")
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 5, generator=draw)
    z_s, z_t = torch.randn(rows, outputs, generator=draw), torch.randn(rows, outputs, generator=draw)
    labels = torch.randint(max(outputs, 2), (rows,), generator=draw).float()
    labels[0] = float("nan")  # a query row
    batch = Batch(torch.rand(rows, generator=draw) + 0.5, labels)
    with untouched():
        term = term_of(objective, Shapes({}, {}, outputs, outputs, rows), seed=seed)
        student, teacher = z_s.clone().requires_grad_(), z_t.clone().requires_grad_()
        loss = term(View(student, inputs), View(teacher, inputs), batch)
        other = term(View(z_s + torch.randn(rows, outputs, generator=draw), inputs), View(z_t, inputs), batch)
        extreme = term(View(1e4 * z_s, inputs), View(1e4 * z_t, inputs), batch)
        half = term(View(z_s.bfloat16(), inputs), View(z_t.bfloat16(), inputs), batch)
        loss.value.backward()  # type: ignore[no-untyped-call]
    _require(loss.value.ndim == 0 and bool(torch.isfinite(loss.value)), "The loss should be one finite number.")
    _require(bool(torch.isfinite(extreme.value)), "Large outputs should not make the loss infinite or NaN.")
    _require(half.value.dtype == torch.float32, "The loss of bfloat16 outputs should be computed in float32.")
    _require(float(loss.value.detach()) != float(other.value), "The loss is the same whatever the student says.")
    grad = student.grad
    _require(
        grad is not None and bool(torch.isfinite(grad).all() and grad.any()), "The loss should have a finite gradient."
    )
    _require(teacher.grad is None, "The teacher should be detached: a gradient flowed into its answers.")
    if loss.per_example is not None:
        _require(tuple(loss.per_example.shape) == (rows,), "per_example should have one number a row.")
        value, each = float(loss.value.detach()), loss.per_example.detach()
        means = [float(make(each, batch).value) for make in (Loss.pointwise, Loss.labelled)]
        same = any(abs(mean - value) <= 1e-5 * max(1.0, abs(mean)) for mean in means)
        _require(same, "A pointwise loss should be the weighted mean of its rows.")


def check_metric(metric: Metric) -> None:
    """The record of a metric: a name and a sentence, known tasks and needs, and a documented function behind its path.

    Raises AssertionError; InputError when the path names nothing. What the function computes is for a test of its own.
    """
    from distillens.metrics.base import EVERY, Scope, Unit
    from distillens.named import load_object

    _require(metric.name.isidentifier(), f"A metric's name should be a plain word, not {metric.name!r}.")
    _require(bool(metric.text), f"The metric {metric.name!r} should say in one sentence what it measures.")
    _require(metric.scope in get_args(Scope), f"There is no scope {metric.scope!r}.")
    _require(metric.unit in get_args(Unit), f"There is no unit {metric.unit!r}.")
    _require(bool(metric.tasks) and metric.tasks <= EVERY, f"The metric {metric.name!r} should apply to known tasks.")
    _require(metric.needs <= NEEDS, f"The metric {metric.name!r} should need nothing but {sorted(NEEDS)}.")
    _require(metric.higher_is_better in (True, False, None), "higher_is_better should be True, False or None.")
    function = load_object(metric.path)
    _require(callable(function) and bool(function.__doc__), f"{metric.path} should be a documented function.")

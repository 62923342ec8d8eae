"""What every family that is not a network must do, on binary, multiclass and regression tasks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from distillens.errors import DataError
from distillens.models.base import IntrinsicModel, StorableModel, evaluate
from distillens.models.monotone import violations
from distillens.models.store import load_model, save_model
from distillens.students.additive import AdditiveStudent
from distillens.students.base import Student
from distillens.students.boosted import BoostedTreesFamily
from distillens.students.linear import LinearStudent
from distillens.students.tree import TreeStudent

FAMILIES = {
    "linear": LinearStudent(),
    "tree": TreeStudent(max_leaves=8),
    "additive": AdditiveStudent(outer_bags=1, interactions=1, max_bins=32),
    "boosted_trees": BoostedTreesFamily(max_rounds=20),
}
MONOTONE = {
    "linear": LinearStudent(monotone={"age in years": -1}),
    "tree": TreeStudent(max_leaves=12, monotone={"age in years": -1}),
    "additive": AdditiveStudent(outer_bags=2, interactions=2, max_bins=32, monotone={"age in years": -1}),
    "boosted_trees": BoostedTreesFamily(max_rounds=20, monotone={"age in years": -1}),
}
family = pytest.mark.parametrize("name", list(FAMILIES))
_fitted: dict[tuple[str, str, str], object] = {}


def fitted(name, case, targets="soft"):
    """Each family is fitted once per task and kind of targets."""
    key = (name, case.task, targets)
    if key not in _fitted:
        _fitted[key] = FAMILIES[name].fit(getattr(case, targets), validation=case.validation, teacher=None, seed=0)
    return _fitted[key]


@family
def test_is_a_student(name):
    assert isinstance(FAMILIES[name], Student)
    assert FAMILIES[name].kind == name


@family
@pytest.mark.parametrize("targets", ["soft", "from_labels"])
def test_outputs_are_finite_also_for_unseen_and_missing(name, targets, case):
    model = fitted(name, case, targets)
    assert model.classes == case.classes
    assert model.columns == case.table.columns
    for table in (case.table, case.odd):
        outputs = evaluate(model, table)
        if model.output == "probabilities":
            np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-12)
    assert model(case.table).std(axis=0).min() > 0.01  # it learnt something


@family
def test_same_seed_same_model(name, case):
    again = FAMILIES[name].fit(case.soft, validation=case.validation, teacher=None, seed=0)
    assert again.fingerprint == fitted(name, case).fingerprint


@family
def test_stored_and_read_to_the_bit(name, case, tmp_path):
    model = fitted(name, case)
    assert isinstance(model, StorableModel)
    save_model(model, tmp_path / "model.safetensors")
    back = load_model(tmp_path / "model.safetensors")
    assert type(back) is type(model)
    assert back.fingerprint == model.fingerprint
    assert back.label == model.label
    for table in (case.table, case.odd):
        np.testing.assert_array_equal(back(table), model(table))


@family
def test_rows_do_not_depend_on_their_batch(name, case):
    model = fitted(name, case)
    whole = model(case.table)
    np.testing.assert_allclose(model(case.table.take([5, 3])), whole[[5, 3]], rtol=0, atol=1e-12)
    assert model(case.table.take(np.arange(0))).shape == (0, whole.shape[1])


@pytest.mark.parametrize("name", ["linear", "tree", "additive"])
@pytest.mark.parametrize("targets", ["soft", "from_labels"])
def test_contributions_add_up(name, targets, case):
    model = fitted(name, case, targets)
    assert isinstance(model, IntrinsicModel)
    for table in (case.table, case.odd):
        parts, base = model.contributions(table)
        outputs = model(table)
        assert parts.shape == (len(table), 4, outputs.shape[1])
        assert base.shape == (outputs.shape[1],)
        np.testing.assert_allclose(base + parts.sum(axis=1), outputs, atol=1e-10)
    scale = {"tree": "probability"}.get(name, "logit") if case.classes else "value"
    assert model.contribution_scale == scale


@family
def test_complexity_and_description_are_json(name, case):
    model = fitted(name, case)
    complexity = json.loads(json.dumps(model.complexity()))
    assert complexity["size_bytes"] > 0
    assert complexity["parameters"] > 1
    if FAMILIES[name].readable:
        text = json.dumps(model.describe(), allow_nan=False, ensure_ascii=False)
        assert "age in years" in text
        assert json.loads(text)["outputs"]


@family
def test_whole_number_weights_are_repetitions(name, case):
    if name == "additive":
        pytest.skip("interpret sets validation rows aside by position, so repeated rows are other draws")
    plain = FAMILIES[name]
    if name == "boosted_trees":  # bins and leaf sizes count rows; weights do not change them
        plain = BoostedTreesFamily(max_rounds=5, tune=False, min_rows=1, max_leaves=4, max_features=1.0)
    elif name == "tree":
        plain = TreeStudent(max_leaves=8, min_rows=1)
    repeat = np.repeat(np.arange(len(case.table)), case.weights.astype(int))
    weighted = plain.fit(
        case.targets(case.table, case.soft.outputs, case.soft.output, case.weights),
        validation=case.validation,
        teacher=None,
        seed=0,
    )
    repeated = plain.fit(
        case.targets(case.table.take(repeat), case.soft.outputs[repeat], case.soft.output),
        validation=case.validation,
        teacher=None,
        seed=0,
    )
    np.testing.assert_allclose(weighted(case.table), repeated(case.table), atol=1e-5)


@family
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_monotone_holds_on_a_grid(name, task, request):
    case = request.getfixturevalue(task)
    free, bound = fitted(name, case), MONOTONE[name].fit(case.soft, validation=case.validation, teacher=None, seed=0)
    assert violations(free, case.table, "age in years", -1) > 0.02  # the truth goes up, so the constraint binds
    assert violations(bound, case.table, "age in years", -1) == 0.0
    evaluate(bound, case.odd)


@family
def test_monotone_refuses_what_it_cannot_do(name, binary, multiclass):
    import dataclasses

    def fit(case, monotone):
        dataclasses.replace(FAMILIES[name], monotone=monotone).fit(
            case.soft, validation=case.validation, teacher=None, seed=0
        )

    with pytest.raises(DataError, match="Did you mean 'age in years'"):
        fit(binary, {"age in year": 1})
    with pytest.raises(DataError, match="must be -1, 0 or \\+1"):
        fit(binary, {"age in years": 2})
    with pytest.raises(DataError, match="categorical"):
        fit(binary, {"目的": 1})
    with pytest.raises(DataError, match="not for more classes|are for binary"):
        fit(multiclass, {"age in years": 1})


@family
def test_a_student_answers_with_its_teachers_soft_targets_not_the_labels(name, binary):
    flipped = binary.targets(binary.table, -binary.soft.outputs, "logits")
    model = FAMILIES[name].fit(
        flipped, validation=binary.validation, teacher=None if name != "boosted_trees" else _Flipped(binary), seed=0
    )
    outputs = model(binary.table)
    agreement = (outputs.argmax(axis=1) == (-binary.soft.outputs).argmax(axis=1)).mean()
    assert agreement > 0.8


class _Flipped:
    """A teacher that says the opposite, for validation rows."""

    label, output, fingerprint = "flipped", "logits", None

    def __init__(self, case):
        self.classes, self.case = case.classes, case

    def __call__(self, inputs):
        return -self.case.soft.outputs[inputs.row_ids]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearStudent(l2=-1), "l2"),
        (lambda: TreeStudent(max_leaves=1), "max_leaves"),
        (lambda: TreeStudent(min_rows=0), "min_rows"),
        (lambda: AdditiveStudent(outer_bags=0), "outer_bags"),
        (lambda: AdditiveStudent(max_log_odds=0), "max_log_odds"),
        (lambda: BoostedTreesFamily(max_rounds=0), "max_rounds"),
        (lambda: BoostedTreesFamily(learning_rate=0), "learning_rate"),
        (lambda: BoostedTreesFamily(max_features=1.5), "max_features"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(DataError, match=message):
        make()

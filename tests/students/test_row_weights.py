"""Weights of rows, from the table to every family and metric: a row of weight 3 is three rows.

Each family to its own tolerance, which is stated where it stands: families that count rows (`min_rows`), draw batches or bags are
compared with those choices switched off, or by how close the two fits are against how far the weights move the model at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from distillens.data.base import Column, Split, Table
from distillens.models.base import evaluate, log_odds
from distillens.students.additive import AdditiveStudent
from distillens.students.base import STUDENTS, TEACHERS
from distillens.students.boosted import BoostedTreesFamily
from distillens.students.ensemble import EnsembleFamily
from distillens.students.linear import LinearStudent
from distillens.students.network import NetworkStudent
from distillens.students.rules import RulesStudent
from distillens.students.scorecard import ScorecardStudent
from distillens.students.soft_tree import SoftTreeStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")
COLUMNS = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y")))


def rows(n: int, seed: int) -> tuple[Table, Any, Any]:
    """Rows, the teacher's log-odds, and weights that matter: they follow the first column."""
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.integers(-4, 5, n) / 2, rng.normal(size=n).round(1), rng.integers(0, 2, n)])
    z = values[:, 0] * values[:, 1] + 1.5 * values[:, 2] - 0.5
    return Table(values, COLUMNS, np.arange(n)), z, rng.integers(1, 3, n) + 2 * (values[:, 0] > 0)


def targets_of(table: Table, z: Any, weights: Any, *, regression: bool = False) -> Targets:
    split = Split(table, z if regression else (z > 0).astype(np.int64), weights=weights.astype(np.float64))
    if regression:
        return Targets.from_outputs(split, z[:, None], output="values", classes=())
    return Targets.from_outputs(split, np.stack([expit(-z), expit(z)], axis=1), output="probabilities", classes=CLASSES)


def full_batch(family: Any) -> Any:
    return family(epochs=40, batch_size=100_000)


# family, the largest difference of log-odds (or values) between weighted and repeated rows, as a share of the weights' own effect
FAMILIES: dict[str, tuple[Any, float]] = {
    "linear": (LinearStudent(), 1e-3),
    "tree": (TreeStudent(max_leaves=6, min_rows=1), 1e-9),
    "scorecard": (ScorecardStudent(), 1e-3),
    "rules": (RulesStudent(), 1e-6),
    "boosted_trees": (BoostedTreesFamily(tune=False, max_rounds=15, min_rows=1, max_leaves=4, max_features=1.0), 1e-6),
    "network": (full_batch(NetworkStudent), 0.05),
    "soft_tree": (full_batch(SoftTreeStudent), 0.05),
    "ensemble": (EnsembleFamily(({"kind": "linear"}, {"kind": "rules"})), 1e-3),
    # Its bags set rows aside at random, and of repeated rows single copies, so that the two are never the same draw.
    "additive": (AdditiveStudent(outer_bags=4, interactions=0, max_rounds=300), 0.6),
}


def test_every_family_is_here() -> None:
    assert set(FAMILIES) == {*STUDENTS, *TEACHERS}


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_integer_weights_are_repeated_rows(name: str, regression: bool) -> None:
    if regression and name in {"scorecard", "soft_tree"}:
        pytest.skip("for classes only")
    family, tolerance = FAMILIES[name]
    table, z, weights = rows(240, 0)
    again = np.repeat(np.arange(240), weights)
    ones = np.ones(len(again))
    validation = Split(*[rows(80, 1)[0]], labels=None)
    held = Split(validation.inputs, rows(80, 1)[1] if regression else (rows(80, 1)[1] > 0).astype(np.int64))

    def fitted(targets: Targets) -> Any:
        model = family.fit(targets, validation=held, teacher=None, seed=3)
        return log_odds(evaluate(model, held.inputs), output=model.output, target=1)

    repeated = Table(table.values[again], COLUMNS, np.arange(len(again)))
    weighted = fitted(targets_of(table, z, weights, regression=regression))
    copied = fitted(targets_of(repeated, z[again], ones, regression=regression))
    plain = fitted(targets_of(table, z, np.ones(240), regression=regression))
    effect = np.abs(weighted - plain).mean()
    assert effect > 1e-3  # the weights do something
    assert np.abs(weighted - copied).mean() <= tolerance * effect, (np.abs(weighted - copied).mean(), effect)


def test_integer_weights_are_repeated_rows_in_an_audit() -> None:
    from distillens.audit.audit import audit

    table, z, weights = rows(150, 0)
    teacher = TreeStudent(max_leaves=12).fit(
        targets_of(table, z, weights), validation=Split(table), teacher=None, seed=0
    )
    student = TreeStudent(max_leaves=4).fit(
        targets_of(table, z, weights), validation=Split(table), teacher=None, seed=0
    )
    labels = (z + np.random.default_rng(1).normal(size=150) > 0).astype(np.float64)
    again = np.repeat(np.arange(150), weights)
    repeated = Table(table.values[again], COLUMNS, np.arange(len(again)))
    weighted = audit(teacher, student, table, labels, weights=weights.astype(float), explainers=(), draws=100)
    copied = audit(teacher, student, repeated, labels[again], explainers=(), draws=100)
    plain = audit(teacher, student, table, labels, explainers=(), draws=100)
    moved = 0
    for one, other, none in zip(weighted.metrics, copied.metrics, plain.metrics, strict=True):
        assert one.name == other.name
        if one.name not in {
            "score_psi",
            "ece",
        }:  # add half a row of mean weight to a bin; take off what so many rows scatter
            assert one.estimate.value == pytest.approx(other.estimate.value, abs=1e-9), one.name
        moved += abs(one.estimate.value - none.estimate.value) > 1e-6
    assert moved > 5
    thousandth = audit(teacher, student, table, labels, weights=weights / 1000, explainers=(), draws=100)
    for one, other in zip(weighted.metrics, thousandth.metrics, strict=True):  # the unit of weights does not matter
        assert one.estimate.value == pytest.approx(other.estimate.value, abs=1e-9), one.name
    assert weighted.certificate is not None
    assert copied.certificate is not None
    for key in ("agree", "disagree", "undecided"):
        assert weighted.certificate[key] == pytest.approx(copied.certificate[key])
        assert weighted.certificate["cells"][key] == pytest.approx(copied.certificate["cells"][key])


def test_the_weight_role_reaches_teacher_and_students(tmp_path: Any) -> None:
    """Rows of weight 0.001 say the opposite of the others: who listens to weights does not listen to them."""
    import json

    import pandas as pd

    import distillens

    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    light = rng.random(400) < 0.5
    frame = pd.DataFrame({"x": x, "w": np.where(light, 0.001, 1.0), "y": np.where((x > 0) ^ light, "yes", "no")})
    recipe = {
        "name": "weights", "data": {"target": "y", "roles": {"weight": ["w"]}, "split": {"test": 0.3, "validation": 0.3}},
        "teacher": {"kind": "boosted_trees", "max_rounds": 20}, "explain": [], "export": [], "audit": {"draws": 100},
        "targets": {"queries": 1}, "students": {"tree": {"kind": "tree", "max_leaves": 2}},
    }  # fmt: skip
    done = distillens.run(recipe, data=frame, out=tmp_path / "run")
    for name in ("teacher/teacher.json", "students/tree/student.json", "controls/tree.undistilled/control.json"):
        record = json.loads((done.directory / name).read_text(encoding="utf-8"))
        assert record["validation"]["accuracy"] > 0.95, name  # counted by weight
    audit = json.loads((done.directory / "students/tree/audit.json").read_text(encoding="utf-8"))
    assert next(m for m in audit["metrics"] if m["name"] == "accuracy")["estimate"]["value"] > 0.95

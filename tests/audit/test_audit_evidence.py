"""What the audit adds for reviewers: population stability, who gets which score, leaves and lines, directions, reasons of gates."""

from __future__ import annotations

import json

import numpy as np
import pytest

from distillens.audit.audit import audit
from distillens.audit.result import Audit
from distillens.data.base import Column, Split, Table
from distillens.errors import InputError
from distillens.intervals import clopper_pearson
from distillens.models.base import from_log_odds
from distillens.students.rules import RulesStudent
from distillens.students.scorecard import ScorecardStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

N = 400
COLUMNS = (Column("income"), Column("months"), Column("kind", "categorical", ("a", "b", "c")))


class Score:
    """Log-odds of the second class, bad: falls with income, rises with months."""

    def __init__(self, label: str, w: tuple[float, float, float], classes: tuple[str, ...] = ("good", "bad")) -> None:
        self.label, self.w, self.classes, self.output, self.fingerprint = label, np.array(w), classes, "logits", None

    def score(self, inputs: Table) -> np.ndarray:
        return np.nan_to_num(inputs.values) @ self.w

    def __call__(self, inputs: Table) -> np.ndarray:
        return from_log_odds(self.score(inputs))


TEACHER = Score("teacher", (-1.0, 0.8, 0.3))


def rows(n: int, seed: int, *, shift: float = 0.0, first: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.normal(shift, 1, n), rng.normal(0, 1, n), rng.integers(0, 3, n)]).astype(float)
    return Table(values, COLUMNS, np.arange(first, first + n))


def labels_of(table: Table, seed: int = 9) -> np.ndarray:
    chance = 1 / (1 + np.exp(-TEACHER.score(table)))
    return (np.random.default_rng(seed).random(len(table)) < chance).astype(float)


def audited(student: object, inputs: Table | None = None, **options: object) -> Audit:
    inputs = inputs if inputs is not None else rows(N, 1)
    return audit(TEACHER, student, inputs, labels_of(inputs), draws=200, explainers=(), **options)  # type: ignore[arg-type]


def taught(family: object) -> object:
    train = rows(600, 2, first=10_000)
    targets = Targets.from_outputs(Split(train), TEACHER(train), output="logits", classes=TEACHER.classes)
    return family.fit(targets, validation=Split(train), teacher=None, seed=0)  # type: ignore[attr-defined]


def test_rows_of_one_population_are_stable_and_shifted_ones_are_not() -> None:
    then = rows(500, 3, first=5_000)
    same = audited(TEACHER, reference=then)
    away = audited(TEACHER, rows(N, 1, shift=1.5), reference=then)
    by_name = {f["name"]: f for f in same.stability["features"]}  # type: ignore[index]
    assert set(by_name) == {"income", "months", "kind"}
    assert all(f["psi"]["value"] < f["unshifted"] * 1.6 for f in by_name.values())
    assert by_name["kind"]["bins"] == 3
    assert by_name["income"]["bins"] == 10
    shifted = {f["name"]: f["psi"]["value"] for f in away.stability["features"]}  # type: ignore[index]
    assert shifted["income"] > 1
    assert shifted["months"] == by_name["months"]["psi"]["value"]  # the same numbers
    assert [f.kind for f in away.findings].count("population") == 1
    assert not [f for f in same.findings if f.kind == "population"]
    metric = away.metric("population_psi")
    assert metric.teacher == metric.estimate
    assert metric.estimate.low <= metric.estimate.value <= metric.estimate.high
    assert metric.estimate.value > 0.25


def test_rows_compared_with_themselves_have_an_index_of_zero() -> None:
    inputs = rows(N, 1)
    made = audited(TEACHER, inputs, reference=inputs)
    assert [f["psi"]["value"] for f in made.stability["features"]] == [0.0] * 3  # type: ignore[index]
    assert made.metric("population_psi").estimate.value == 0


def test_integer_weights_of_the_reference_equal_repeated_rows() -> None:
    then, counts = rows(200, 3, first=5_000), np.random.default_rng(4).integers(1, 4, 200)
    again = Table(np.repeat(then.values, counts, axis=0), COLUMNS, np.arange(5_000, 5_000 + counts.sum()))
    first = audited(TEACHER, reference=then, reference_weights=counts.astype(float)).stability
    second = audited(TEACHER, reference=again).stability
    # half an average row is added to every bin, and the average row of the weighted sample weighs more than one
    for a, b in zip(first["features"], second["features"], strict=True):  # type: ignore[index]
        assert a["psi"]["value"] == pytest.approx(b["psi"]["value"], abs=0.02)
        assert a["bins"] == b["bins"]


def test_without_rows_of_development_stability_is_not_assessed() -> None:
    made = audited(TEACHER)
    assert made.stability is None
    assert "population_stability" in {x["kind"] for x in made.not_assessed}


def test_bands_and_bars_hold_every_labelled_row_once() -> None:
    inputs = rows(N, 1)
    made = audited(Score("other", (-1.0, 0.2, 0.0)), inputs)
    truth = labels_of(inputs)
    for role in ("teacher", "student"):
        found = made.scores[role]  # type: ignore[index]
        assert sum(b["n"] for b in found["bands"]) == N
        assert sum(b["adverse"] for b in found["bands"]) == truth.sum()
        assert all(a["low"] >= b["high"] for a, b in zip(found["bands"], found["bands"][1:], strict=False))
        assert [sum(shares) for shares in found["classes"].values()] == pytest.approx([1.0, 1.0])
    band = made.scores["teacher"]["bands"][0]  # type: ignore[index]
    score = TEACHER.score(inputs)
    inside = score >= band["low"]
    assert band["n"] == inside.sum() == 40
    assert band["adverse"] == truth[inside].sum()
    assert band["predicted"] == pytest.approx((1 / (1 + np.exp(-score[inside]))).mean())
    said, found = score >= 0, made.scores["teacher"]["decided"]  # type: ignore[index]
    assert found["adverse"]["value"] == pytest.approx(said.mean())
    assert found["missed"]["value"] == pytest.approx(truth[~said].mean())
    assert found["caught"]["value"] == pytest.approx(said[truth == 1].mean())
    assert found["refused"]["value"] == pytest.approx(said[truth == 0].mean())
    assert (found["missed"]["n"], found["caught"]["n"]) == ((~said).sum(), truth.sum())
    assert band["rate"]["low"] == pytest.approx(clopper_pearson(int(truth[inside].sum()), 40).low)


@pytest.mark.parametrize("family", [TreeStudent(max_leaves=6), RulesStudent()])
def test_leaves_and_rules_are_counted_on_the_audited_rows(family: object) -> None:
    inputs, student = rows(N, 1), taught(family)
    made = audited(student, inputs)
    part, truth = student.part_of(inputs), labels_of(inputs)  # type: ignore[attr-defined]
    decided = (np.asarray(student(inputs))[:, 1] >= 0.5).astype(float)  # type: ignore[operator]
    assert [p["part"] for p in made.parts] == list(student.parts)  # type: ignore[attr-defined, union-attr]
    assert sum(p["n"] for p in made.parts) == N  # type: ignore[union-attr]
    for p in made.parts:  # type: ignore[union-attr]
        here = part == p["part"]
        assert p["n"] == here.sum()
        if here.any():
            assert p["precision"]["value"] == pytest.approx((decided == truth)[here].mean())
            assert p["agreement"]["value"] == pytest.approx(((TEACHER.score(inputs) >= 0) == decided)[here].mean())
    assert audited(TEACHER, inputs).parts is None


def test_lines_of_a_scorecard_are_counted_on_the_audited_rows() -> None:
    inputs, card = rows(N, 1), taught(ScorecardStudent())
    made = audited(card, inputs)
    assert made.parts is None
    points = card.points(inputs)  # type: ignore[attr-defined]
    total = np.full(N, card.base_points)  # type: ignore[attr-defined]
    by_name = {f["name"]: f["bins"] for f in card.describe()["features"]}  # type: ignore[attr-defined]
    for entry in made.attributes:  # type: ignore[union-attr]
        bins, count = card.attributes_of(inputs)[entry["feature"]]  # type: ignore[attr-defined]
        assert [b["n"] for b in entry["bins"]] == np.bincount(bins, minlength=count).tolist()
        assert sum(b["adverse"] for b in entry["bins"]) == labels_of(inputs).sum()
        total += np.array([b["points"] for b in by_name[entry["feature"]]] + [0.0])[bins]
    np.testing.assert_allclose(total, points)  # the lines are those that the points come from


def test_directions_are_checked_for_both_models() -> None:
    against = Score("student", (-1.0, -0.1, 0.3))
    made = audited(against, monotone={"months": 1, "income": -1})
    months, income = made.monotone  # type: ignore[misc]
    assert months["models"]["teacher"]["rows"] == 0
    assert months["models"]["student"]["rows"] == 1
    assert months["models"]["student"]["broken"]["low"] == pytest.approx(clopper_pearson(N, N).low)
    assert income["models"]["student"]["share"] == 0
    assert [f.values["feature"] for f in made.findings if f.kind == "direction"] == ["months"]
    assert audited(against).monotone == []
    three = Score("three", (1.0, 0.0, 0.0), ("a", "b", "c"))
    three.__class__ = type(
        "Three", (Score,), {"__call__": lambda self, x: np.column_stack([self.score(x)] * 2 + [-self.score(x)])}
    )
    with pytest.raises(InputError, match="single direction"):
        audit(three, three, rows(50, 1), explainers=(), draws=100, monotone={"months": 1})  # type: ignore[arg-type]


def test_gates_say_why_for_readers_of_any_language_and_survive_json() -> None:
    gates = {"agreement": {"min": 0.2}, "cohen_kappa": {"min": 0.99}, "rmse": {"max": 1.0}, "top_k_overlap": {"min": 0.1},
             "brier": [{"relative_to": "teacher", "margin": 0.9, "ratio": True}, {"relative_to": "twin", "margin": 0.1}]}  # fmt: skip
    made = audited(Score("other", (-1.0, 0.2, 0.0)), gates=gates)
    found = {(g.metric, g.relative_to): g for g in made.gates}
    assert found["agreement", None].reason == "clears"
    assert found["cohen_kappa", None].reason == "beyond"
    assert found["rmse", None].reason == "not_task"
    assert found["top_k_overlap", None].reason == "lacking"
    assert found["brier", "teacher"].ratio
    assert found["brier", "twin"].reason == "no_reference"
    assert all(0.95 <= (g.confidence or 0) < 1 for g in made.gates)
    record = json.loads(json.dumps(made.to_json()))
    assert Audit.from_json(record).gates == made.gates
    assert Audit.from_json(record).findings == made.findings
    assert Audit.from_json(record).stability == made.stability

"""Can the auditor be trusted? Copies pass, constant and untrained students fail, changed reasons are seen."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillens.audit.audit import audit
from distillens.audit.result import Audit
from distillens.models.constant import ConstantModel


@dataclasses.dataclass(frozen=True, eq=False)
class Benign:
    """The teacher with the decision changed in a random share of rows, whatever the row."""

    teacher: object
    share: float
    seed: int
    label: str = "benign"
    fingerprint: str | None = None

    @property
    def classes(self):
        return self.teacher.classes

    @property
    def output(self):
        return self.teacher.output

    def __call__(self, inputs):
        outputs = self.teacher(inputs)
        lucky = np.random.default_rng(self.seed).random(10**4)[inputs.row_ids % 10**4] < self.share
        return np.where(lucky[:, None], outputs[:, ::-1], outputs)


def test_a_copy_of_the_teacher_passes(world) -> None:
    w = world()
    made = w.audit(dataclasses.replace(w.teacher, label="copy"))
    assert made.verdict == "pass", str(made)
    assert made.exit_code() == 0
    assert all(g.relative_to in {"twin", "teacher", None} for g in made.gates)
    for name, identity in {"agreement": 1, "cohen_kappa": 1, "kl": 0, "js": 0, "total_variation": 0, "log_odds_r2": 1,
                           "log_odds_spearman": 1, "bad_flips": 0, "good_flips": 0, "score_psi": 0, "top_k_overlap": 1,
                           "sign_agreement": 1, "rank_agreement": 1, "signed_rank_agreement": 1, "reason_spearman": 1,
                           "reason_kendall": 1, "reason_rbo": 1, "reason_cosine": 1, "mass_overlap": 1, "mask_correlation": 1,
                           "deletion_ratio": 1}.items():  # fmt: skip
        assert made.metric(name).estimate.value == pytest.approx(identity, abs=1e-9), name
    for metric in made.metrics:
        if metric.teacher is not None:
            assert metric.estimate.value == metric.teacher.value or metric.name == "deletion_fall"
    assert made.statement["lost"] == []
    assert "main reasons" in made.statement["kept"]


@pytest.mark.parametrize("n", [3, 12, 25, 60])
def test_a_copy_on_few_rows_is_never_failed(world, n: int) -> None:
    for seed in range(4):
        w = world(n, seed=seed)
        assert w.audit(dataclasses.replace(w.teacher, label="copy")).verdict in {"pass", "review"}
    if n < 30:
        assert w.audit(w.teacher).verdict == "review"


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("with_controls", [True, False])
def test_constant_and_untrained_students_fail(world, regression: bool, with_controls: bool) -> None:
    w = world(regression=regression)
    if not with_controls:
        w = dataclasses.replace(w, controls={})
    rng = np.random.default_rng(9)
    untrained = dataclasses.replace(w.teacher, label="untrained", w=1e-3 * rng.normal(size=6))
    constant = ConstantModel.from_labels(w.labels, w.teacher.classes)
    assert w.audit(constant, explanations=None, explainers=()).verdict == "fail"
    assert w.audit(untrained).verdict == "fail"


def test_several_classes(world, softmax) -> None:
    w = world()
    rng = np.random.default_rng(0)
    weights = 2 * rng.normal(size=(6, 3))
    teacher = softmax("teacher", weights)
    twin, poor = softmax("twin", weights + 0.02), softmax("poor", rng.normal(size=(6, 3)))
    labels = (w.inputs.values @ weights).argmax(axis=1)
    gates = {
        "agreement": {"relative_to": "twin", "margin": 0.05},
        "cohen_kappa": {"min": 0.2},
        "mask_correlation": {"min": 0.8},
    }
    options = {"controls": {"twin": twin}, "background": w.background, "explainers": (), "gates": gates, "draws": 200}
    copy = audit(teacher, softmax("copy", weights[:, [2, 0, 1]], ("c", "a", "b")), w.inputs, labels, **options)
    assert copy.verdict == "pass", str(copy)
    assert copy.decision is None
    assert copy.metric("agreement").estimate.value == 1
    assert copy.metric("kl").estimate.value == pytest.approx(0, abs=1e-12)
    assert copy.metric("accuracy").estimate.value == copy.metric("accuracy").teacher.value == 1
    assert {s.level for s in copy.slices} == {"a", "b", "c"}
    assert audit(teacher, poor, w.inputs, labels, **options).verdict == "fail"


def test_without_references_nothing_passes(world) -> None:
    w = dataclasses.replace(world(), controls={})
    made = w.audit(dataclasses.replace(w.teacher, label="copy"))
    assert made.verdict == "review"
    unknown = [g for g in made.gates if "Reference unknown" in g.why]
    assert {g.metric for g in unknown} == {
        "agreement",
        "agreement_adverse",
        "agreement_favourable",
        "top_k_overlap",
        "sign_agreement",
        "mask_correlation",
    }
    assert all(g.bound.status == "not_available" for g in unknown)
    assert any(e["what"] == "control twin" for e in made.not_assessed)


def test_without_a_twin_the_undistilled_student_is_the_reference(world) -> None:
    w = world()
    w = dataclasses.replace(w, controls={"undistilled": w.controls["undistilled"]})
    made = w.audit(dataclasses.replace(w.teacher, label="copy"))
    assert {g.relative_to for g in made.gates if g.metric in {"agreement", "top_k_overlap"}} == {"undistilled"}


def test_without_explanations_labels_and_background_those_parts_are_for_review(world) -> None:
    w = world()
    made = audit(w.teacher, w.teacher, w.inputs, controls=w.controls, draws=200)
    assert made.verdict == "review"
    assert made.reasons is None
    assert made.calibration is None
    assert {"reasons", "behaviour", "performance"} <= {e["what"] for e in made.not_assessed}
    assert {g.metric for g in made.gates if g.outcome == "review"} == {
        "roc_auc",
        "brier",
        "top_k_overlap",
        "sign_agreement",
        "mask_correlation",
    }


def test_a_flipped_weight_lowers_the_reasons_below_repeatability(world) -> None:
    w = world()
    weights = w.teacher.w.copy()
    weights[2] = -weights[2]
    made = w.audit(dataclasses.replace(w.teacher, label="flipped", w=weights))
    sign = made.metric("sign_agreement")
    assert sign.estimate.high < min(r.low for r in sign.repeatability.values())
    assert sign.chance.value < sign.estimate.value
    assert 0 < sign.normalised < 0.95
    assert made.verdict == "fail"
    # the features that matter are the same, only their direction is not: that has a gate of its own
    outcomes = {g.metric: g.outcome for g in made.gates}
    assert (outcomes["top_k_overlap"], outcomes["sign_agreement"]) == ("pass", "fail")


@pytest.mark.parametrize("n", [300, 1000])
def test_the_default_profile_tells_students_apart(world, n: int) -> None:
    """Twin and explanations given: a copy and a near copy pass, students without use or with a wrong direction fail."""
    w = world(n)
    rng = np.random.default_rng(n)
    close = dataclasses.replace(w.teacher, label="close", w=w.teacher.w + 0.03 * rng.normal(size=6))
    for student, verdict in (
        (dataclasses.replace(w.teacher, label="copy"), "pass"),
        (close, "pass"),
        (dataclasses.replace(w.teacher, label="untrained", w=0.01 * rng.normal(size=6)), "fail"),
        (dataclasses.replace(w.teacher, label="constant", w=np.zeros(6), b=-0.3), "fail"),
        (dataclasses.replace(w.teacher, label="flipped", w=w.teacher.w * np.array([1, -1, 1, 1, 1, 1])), "fail"),
    ):
        made = w.audit(student)
        assert made.verdict == verdict, str(made)


def test_chance_is_the_explanation_of_another_row(world) -> None:
    w = world()
    rng = np.random.default_rng(0)
    unrelated = w.explained(w.teacher)
    shuffled = rng.permutation(len(w.inputs))
    unrelated["exact"]["student"] = dataclasses.replace(
        unrelated["exact"]["student"], values=unrelated["exact"]["student"].values[shuffled]
    )
    made = w.audit(w.teacher, explanations=unrelated)
    overlap = made.metric("top_k_overlap")
    assert overlap.estimate.value == pytest.approx(overlap.chance.value, abs=0.03)
    assert abs(overlap.normalised) < 0.1
    assert any("not shown to be more alike" in f.text and f.severity == "major" for f in made.findings)


def _false_alarms(world, trials: int, share: float) -> int:
    failed = 0
    for seed in range(trials):
        w = world(300, seed=seed, twin=0.3)
        failed += (
            w.audit(Benign(w.teacher, share, seed), explanations=None, explainers=(), background=None).verdict == "fail"
        )
    return failed


def test_benign_students_raise_no_alarm(world) -> None:
    assert _false_alarms(world, 20, 0.02) <= 2


@pytest.mark.slow
def test_benign_students_raise_few_alarms(world) -> None:
    assert _false_alarms(world, 400, 0.02) <= 0.05 * 400


def test_a_hidden_slice_is_flagged_and_forbids_a_pass(world) -> None:
    w = world(1000)
    rng = np.random.default_rng(0)
    group = rng.random(1000) < 0.06
    changed = Benign(w.teacher, 1.0, 0)

    @dataclasses.dataclass(frozen=True)
    class Sliced:
        label: str = "sliced"
        classes: tuple[str, ...] = w.teacher.classes
        output: str = "logits"
        fingerprint: None = None

        def __call__(self, inputs):
            return np.where(group[(inputs.row_ids - 7) // 3, None], changed(inputs), w.teacher(inputs))

    frame = pd.DataFrame({"group": np.where(group, "few", "many")})
    made = w.audit(Sliced(), audit_only=frame, explanations=None, explainers=(), background=None)
    few = next(s for s in made.slices if s.level == "few")
    assert made.metric("agreement").estimate.value > 0.95
    assert few.flagged
    assert few.p_value < 1e-6
    assert made.verdict != "pass"
    assert any("group = few" in f.text and f.severity == "major" for f in made.findings)


def test_a_small_declared_slice_forbids_a_pass(world) -> None:
    w = world()
    frame = pd.DataFrame({"foreign worker": np.arange(400) < 11})
    made = w.audit(dataclasses.replace(w.teacher, label="copy"), audit_only=frame)
    assert made.verdict == "review"
    assert {g.outcome for g in made.gates} == {"pass"}
    assert "foreign worker = True (11 rows)" in made.statement["unknown"]


def test_training_rows_in_the_audit_are_reported(world) -> None:
    w = world()
    made = w.audit(w.teacher, trained_on=frozenset(w.inputs.row_ids[:5].tolist()) | {-5})
    assert made.overlap == {"rows": 5, "known": True}
    assert made.findings[0].severity == "major"
    assert "5 of 400" in made.findings[0].text
    assert w.audit(w.teacher).overlap == {"rows": None, "known": False}


def test_a_readable_model_without_a_teacher_as_good_is_said(world) -> None:
    w = world()
    same = dataclasses.replace(w.teacher, label="same")
    w = dataclasses.replace(w, controls={**w.controls, "undistilled": same})
    assert any("already as good" in f.text for f in w.audit(same, readable=True).findings)
    assert any("same kind of model without any teacher is already" in f.text for f in w.audit(same).findings)
    poor = dataclasses.replace(w, controls={"undistilled": dataclasses.replace(same, w=np.roll(same.w, 2))})
    assert not any("without any teacher" in f.text for f in poor.audit(same, readable=True).findings)
    few = world(60, seed=3)
    made = few.audit(few.teacher, readable=True)
    found, gap = [f for f in made.findings if "do not show that the teacher" in f.text], made.metric("roc_auc")
    assert len(found) == 1
    assert found[0].severity == "info"
    assert f"{gap.estimate.value - gap.controls['undistilled'].value:+.3f}" in found[0].text


@pytest.fixture(scope="module")
def sixty(world):
    """A small audit with weights, clusters and slices, and its result in the given order of rows."""
    w = world(60)
    facts = {
        "audit_only": pd.DataFrame({"age": np.arange(60) % 50, "sex": np.where(np.arange(60) % 2, "f", "m")}),
        "groups": np.arange(60) // 2,
        "weights": 1.0 + np.arange(60) % 3,
    }
    return w, facts, _lasting(w.audit(w.controls["undistilled"], **facts))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(sixty, seed: int) -> None:
    w, facts, reference = sixty
    rng = np.random.default_rng(seed)
    order = rng.permutation(60)
    shuffled = dataclasses.replace(w, inputs=w.inputs.take(order), labels=w.labels[order])
    student = w.controls["undistilled"]
    made = shuffled.audit(
        student,
        audit_only=facts["audit_only"].iloc[order],
        groups=facts["groups"][order],
        weights=facts["weights"][order],
        explanations=w.explained(student, rng.permutation(60)),
    )
    assert _lasting(made) == reference


def _lasting(made: Audit) -> str:
    return json.dumps({k: v for k, v in made.to_json().items() if k != "measured"}, sort_keys=True)

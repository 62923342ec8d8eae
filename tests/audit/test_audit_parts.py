"""Gates, slices, references and the record of an audit, one by one."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from distillens.audit.gates import PROFILES, check_gates, profile_of
from distillens.audit.references import chance_level, normalised, other_rows
from distillens.audit.result import Audit
from distillens.audit.slices import false_discovery
from distillens.errors import ArtefactError, InputError, RecipeError
from distillens.estimate import Estimate
from distillens.intervals import clopper_pearson
from distillens.metrics.base import METRICS

# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_profiles_name_metrics_that_exist_and_say_that_nobody_gives_the_numbers() -> None:
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert "no regulator" in profile.text
        assert check_gates(name) == []
        for gate in profile.gates:
            assert gate.metric in METRICS
            assert (gate.margin is None) == (gate.relative_to is None)


def test_every_problem_of_the_gates_is_told_at_once() -> None:
    bad = {
        "agrement": {"min": 0.9}, "kl": {"below": 1}, "brier": {"min": 0.1, "max": 0.2}, "roc_auc": {"relative_to": "twins", "margin": 0.1},
        "ece": {"max": 0.1}, "js": {"max": "small"}, "good_flips": {"relative_to": "twin", "margin": 0.1}, "accuracy": 0.9,
        "agreement": {"relative_to": "teacher", "margin": 0.1}, "profile": "hihg_stakes", "slice_minimum": 0, "cohen_kappa": {"relative_to": "twin"},
    }  # fmt: skip
    with pytest.raises(RecipeError) as raised:
        profile_of(bad)
    told = "\n".join(raised.value.problems)
    for words in ("Did you mean 'agreement'?", "unknown key 'below'", "exactly one of min, max", "Did you mean 'twin'?", "never gated",
                  "must be a number", "neither direction", "audit.gates.accuracy", "means nothing", "Did you mean 'high_stakes'?",
                  "slice_minimum", "go together"):  # fmt: skip
        assert words in told, words
    assert check_gates(3) != []
    with pytest.raises(RecipeError, match="Did you mean 'relative'"):
        profile_of("relativ")


def test_user_gates_replace_those_of_their_profile() -> None:
    made = profile_of({"profile": "high_stakes", "agreement": {"min": 0.5}, "slice_minimum": 10})
    assert made.name == "custom"
    assert [g.minimum for g in made.gates if g.metric == "agreement"] == [0.5]
    assert len(made.gates) == len(PROFILES["high_stakes"].gates)
    assert made.slice_minimum == 10
    assert profile_of(None).gates == ()


def test_gates_use_simultaneous_one_sided_bounds(world) -> None:
    w = world()
    student = w.controls["undistilled"]
    alone = w.audit(student, gates={"agreement": {"min": 0.5}}).gates[0]
    agreed = w.audit(student).metric("agreement").estimate
    k = round(agreed.value * agreed.n)
    assert alone.bound.low == pytest.approx(clopper_pearson(k, agreed.n, 0.95, sided="lower").low)
    both = w.audit(student, gates={"agreement": {"min": 0.5}, "bad_flips": {"max": 0.5}, "brier": {"max": 1}}).gates
    assert both[0].bound.low == pytest.approx(clopper_pearson(k, agreed.n, 0.975, sided="lower").low)
    assert [g.outcome for g in both] == ["pass"] * 3
    assert [g.direction for g in both] == [">=", "<=", "<="]


@pytest.mark.parametrize(("limit", "outcome"), [(0.7, "pass"), (0.99, "fail"), ("value", "review")])
def test_outcomes_follow_the_interval(world, limit, outcome: str) -> None:
    w = world()
    student = w.controls["undistilled"]
    value = w.audit(student).metric("agreement").estimate.value
    assert 0.8 < value < 0.97
    made = w.audit(student, gates={"agreement": {"min": value if limit == "value" else limit}})
    assert (made.gates[0].outcome, made.verdict) == (outcome, outcome)
    assert made.exit_code() == {"pass": 0, "fail": 1, "review": 4}[outcome]
    assert made.exit_code(strict=True) == (0 if outcome == "pass" else 1)


def test_a_gate_that_cannot_be_assessed_is_for_review(world) -> None:
    w = world()
    made = w.audit(w.teacher, gates={"rmse": {"max": 1}, "agreement": {"min": 0.5}})
    assert [g.outcome for g in made.gates] == ["review", "pass"]
    assert "does not apply to binary" in made.gates[0].why
    assert w.audit(w.teacher, gates=None).verdict == "review"
    few = world(20)
    kappa = few.audit(few.teacher, gates={"cohen_kappa": {"min": 0.1}}).gates[0]
    assert kappa.outcome == "review"
    assert "resampled interval decides nothing" in kappa.why


def test_regression_gates(world) -> None:
    w = world(regression=True)
    copy = w.audit(dataclasses.replace(w.teacher, label="copy"))
    assert copy.verdict == "pass", str(copy)
    assert {g.metric for g in copy.gates} >= {"r2_to_teacher", "spearman_to_teacher", "within_tolerance", "rmse"}
    assert copy.metric("rmse_to_teacher").estimate.value == 0
    assert copy.metric("r2_to_teacher").estimate.value == 1
    assert copy.calibration is None
    assert copy.decision is None
    shifted = w.audit(dataclasses.replace(w.teacher, b=100.0), tolerance=100.5)
    assert shifted.metric("within_tolerance").estimate.value == 1.0
    assert "(tolerance 100)" in shifted.metric("within_tolerance").text
    assert shifted.verdict == "fail"
    ratio = next(g for g in shifted.gates if g.metric == "rmse")
    performance = shifted.metric("rmse")
    assert ratio.bound.value == pytest.approx(performance.estimate.value / performance.teacher.value - 1)


# ── slices ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_false_discovery_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 5, 30):
        p = rng.random(size) ** 3
        assert false_discovery(p, 0.05) == list(false_discovery_control(p) <= 0.05)
    assert false_discovery([], 0.05) == []


def test_slices_are_labelled_readably_and_tested_exactly(world) -> None:
    from scipy.stats import fisher_exact

    w = world()
    rng = np.random.default_rng(1)
    age = rng.integers(18, 70, 400).astype(float)
    age[:35] = np.nan
    frame = pd.DataFrame(
        {"age": age, "sex": rng.choice(["f", "m"], 400), "city": [f"c{i % 25:02}" for i in range(400)]}
    )
    student = w.controls["undistilled"]
    made = w.audit(student, audit_only=frame)
    levels = {s.column: [t.level for t in made.slices if t.column == s.column] for s in made.slices}
    assert levels["sex"] == ["f", "m"]
    assert levels["age"][0].startswith("up to ")
    assert levels["age"][3] == "(missing)"
    assert len(levels["city"]) == 21
    assert levels["city"][-1] == "(5 rarer levels)"
    assert levels["teacher's decision"] == ["good", "bad"]
    assert sum(s.n for s in made.slices if s.column == "age") == 400
    same = made.rows["agreement"].to_numpy()
    women = (frame["sex"] == "f").to_numpy()
    one = next(s for s in made.slices if s.level == "f")
    table = [[same[women].sum(), (1 - same[women]).sum()], [same[~women].sum(), (1 - same[~women]).sum()]]
    assert one.p_value == pytest.approx(fisher_exact(table).pvalue)
    assert one.estimate.low == pytest.approx(clopper_pearson(same[women].sum(), women.sum()).low)
    assert one.rest.n == (~women).sum()
    assert [s.outcome for s in made.slices if s.column == "city"] == ["not_assessed"] * 20 + ["assessed"]
    assert {s.column for s in w.audit(student, audit_only=frame, slices=["sex"]).slices} == {"sex"}
    assert w.audit(student, audit_only=frame, slices=()).slices == ()


# ── references ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_other_rows_are_others_of_the_same_group() -> None:
    groups = np.array([0] * 10 + [1] * 3 + [2])
    partners = other_rows(groups, seed=0, shuffles=5)
    assert partners.shape == (5, 14)
    for shift, row in np.argwhere(partners >= 0):
        assert groups[partners[shift, row]] == groups[row]
        assert partners[shift, row] != row
    assert (partners[:, 13] == -1).all()
    assert (partners[2:, 10:13] == -1).all()
    assert all(len(set(column[column >= 0])) == (column >= 0).sum() for column in partners.T)
    made = chance_level(lambda rows, others: others.astype(float), partners)
    assert math.isnan(made[13])
    assert made[10] == pytest.approx(np.mean([11, 12]))


def test_normalised_by_hand() -> None:
    assert normalised(0.81, 0.44, (0.9, 0.94)) == pytest.approx((0.81 - 0.44) / (0.92 - 0.44))
    assert normalised(0.5, 0.5, (0.5,)) is None
    assert normalised(0.5, None, (0.9,)) is None
    assert normalised(0.5, math.nan, (0.9,)) is None


def test_controls_and_repeatability_stand_beside_each_metric(world) -> None:
    w = world()
    made = w.audit(w.controls["undistilled"])
    agreement = made.metric("agreement")
    assert list(agreement.controls) == ["twin", "undistilled", "random_teacher", "constant"]
    assert agreement.controls["undistilled"] == agreement.estimate
    assert agreement.controls["constant"].value == pytest.approx((w.teacher.score(w.inputs) >= 0).mean(), abs=0.5)
    assert made.metric("cohen_kappa").controls["constant"].value == 0
    overlap = made.metric("top_k_overlap")
    assert set(overlap.repeatability) == {"teacher", "student"}
    assert set(overlap.controls) == {"twin", "undistilled", "random_teacher"}
    assert made.metric("mask_correlation").repeatability["teacher"].value > 0.9
    assert w.audit(w.teacher, optimised=frozenset({"kl"})).metric("kl").optimised


# ── the record ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_record_survives_json_and_disk_and_is_deterministic(world, tmp_path) -> None:
    w = world(80)
    made, again = (w.audit(w.controls["undistilled"], groups=np.arange(80) // 2) for _ in range(2))
    record = made.to_json()
    text = json.dumps(record, allow_nan=False)
    assert Audit.from_json(json.loads(text)).to_json() == record
    assert {k: v for k, v in record.items() if k != "measured"} == {
        k: v for k, v in again.to_json().items() if k != "measured"
    }
    made.save(tmp_path)
    loaded = Audit.load(tmp_path)
    assert json.dumps(loaded.to_json()) == text
    pd.testing.assert_frame_equal(loaded.rows, made.rows)
    assert json.loads((tmp_path / "audit.json").read_text())["schema"] == 1
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ArtefactError, match=r"rows\.parquet"):
        Audit.load(tmp_path)
    with pytest.raises(ArtefactError, match="schema 1"):
        Audit.from_json({"schema": 2})
    with pytest.raises(ArtefactError, match="incomplete"):
        Audit.from_json({"schema": 1})


def test_the_record_has_the_fields_of_the_run_directory(world) -> None:
    made = world(80).audit(world(80).teacher).to_json()
    top = {"schema", "verdict", "task", "classes", "n", "decision", "models", "metrics", "slices", "gates", "findings", "not_assessed",
           "statement", "reasons", "calibration", "profile", "level", "rows", "seed", "measured"}  # fmt: skip
    assert top <= made.keys()
    assert {"name", "scope", "explainer", "higher_is_better", "optimised", "unit", "text", "estimate", "teacher", "chance",
            "repeatability", "normalised", "controls"} <= made["metrics"][0].keys()  # fmt: skip
    assert {"column", "level", "n", "metric", "estimate", "rest", "outcome", "text", "p_value", "flagged"} <= made[
        "slices"
    ][0].keys()
    assert {
        "metric",
        "explainer",
        "text",
        "bound",
        "limit",
        "direction",
        "relative_to",
        "margin",
        "outcome",
        "why",
    } <= made["gates"][0].keys()
    assert {
        "method",
        "scale",
        "target",
        "rows",
        "units",
        "k",
        "importance",
        "worst_rows",
        "exact",
        "median_stderr",
    } <= made["reasons"].keys()
    assert set(made["reasons"]["worst_rows"][0]) == {
        "row_id",
        "distance",
        "teacher_decision",
        "student_decision",
        "items",
    }
    assert set(made["reasons"]["worst_rows"][0]["items"][0]) == {"unit", "value", "teacher", "student"}
    assert made["decision"] == {"adverse": "bad", "adverse_index": 1, "threshold": 0.5}
    assert set(made["calibration"]["bins"]) == {"teacher", "student"}
    assert set(made["models"]["controls"]) == {"twin", "undistilled", "random_teacher", "constant"}


def test_intervals_can_be_recomputed_from_the_rows(world) -> None:
    w = world(120)
    rows = np.arange(40)
    made = w.audit(w.controls["undistilled"], explanations=w.explained(w.controls["undistilled"], rows))
    frame = made.rows
    assert frame["row_id"].is_monotonic_increasing
    same = frame["teacher_decision"] == frame["student_decision"]
    estimate = made.metric("agreement").estimate
    assert (estimate.value, estimate.low) == (same.mean(), clopper_pearson(int(same.sum()), 120).low)
    overlap = made.metric("top_k_overlap").estimate
    assert overlap.n == frame["exact.top_k_overlap"].notna().sum() == 40
    assert overlap.n_missing == 0
    assert overlap.value == pytest.approx(frame["exact.top_k_overlap"].mean())
    assert set(frame["label"]) == {"good", "bad"}


def test_what_people_see(world) -> None:
    w = world(80)
    hostile = dataclasses.replace(w.teacher, label="<script>alert(1)</script>")
    made = w.audit(hostile)
    html = made._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert str(made).startswith(made.verdict.upper())
    assert made.metric("agreement").text == (
        "Share of rows where the student decides as the teacher: 100.0 % (95.5 to 100.0 %, n = 80)."
    )
    with pytest.raises(InputError, match="Did you mean 'agreement'"):
        made.metric("agrement")
    with pytest.raises(InputError, match="lime"):
        made.metric("top_k_overlap", "lime")


def test_estimates_that_cannot_be_made_say_why(world) -> None:
    w = world(80)
    one_sided = dataclasses.replace(w.teacher, label="always bad", w=0 * w.teacher.w, b=3.0)
    made = w.audit(one_sided, labels=np.ones(80, dtype=np.int64), explanations=None, explainers=())
    auc = made.metric("roc_auc").estimate
    assert auc.status == "not_available"
    assert math.isnan(auc.value)
    assert "roc_auc" in {e["what"] for e in made.not_assessed}
    unknown = w.labels.astype(float)
    unknown[:9] = np.nan
    accuracy = w.audit(w.teacher, labels=unknown).metric("accuracy").estimate
    assert (accuracy.n, accuracy.n_missing) == (71, 9)
    assert isinstance(accuracy, Estimate)


def test_lower_agreement_near_the_threshold_is_no_alarm(world) -> None:
    w = world(600)
    made = w.audit(w.controls["undistilled"])
    near = next(s for s in made.slices if s.kind == "boundary")
    assert near.flagged
    said = [f for f in made.findings if near.text in f.text]
    assert [f.severity for f in said] == ["info"]
    assert "as is usual" in said[0].text


def test_the_noisier_of_two_explanations_is_reported(world) -> None:
    w = world(60)
    roles = w.explained(w.teacher)["exact"]
    noisy = dataclasses.replace(roles["teacher"], stderr=np.full_like(roles["teacher"].values, 0.02), exact=False)
    silent = dataclasses.replace(roles["student"], stderr=np.zeros_like(roles["student"].values), exact=False)
    made = w.audit(w.teacher, explanations={"exact": {**roles, "teacher": noisy, "student": silent}})
    assert made.reasons is not None
    assert made.reasons["median_stderr"] == 0.02

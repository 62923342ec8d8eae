"""The page claims what the audit found and no more."""

from __future__ import annotations

from typing import Any

import pytest
from markupsafe import Markup

from distillens.report.facts import provenance, use_facts
from distillens.report.readable import readable
from distillens.report.views import metrics
from distillens.report.words import Words


def passport(
    *, overlap: dict[str, Any] | None, kind: str = "boosted_trees", duplicates: bool = False
) -> dict[str, Any]:
    findings = [{"kind": "duplicate_rows", "column": None, "text": "two rows", "severity": "warning"}] * duplicates
    audit = {"n": 300, "overlap": overlap}
    return {
        "teacher": {"label": "boosted trees", "kind": kind, "fingerprint": None},
        "targets": None,
        "chosen": {"id": "a", "by": "validation KL", "scores": {"a": 0.01, "b": 0.5}},
        "students": {"a": {"label": "additive", "kind": "additive", "fingerprint": None,
                           "influence": {"agreement": 0.9, "permuted_agreement": 0.2}}},
        "audits": {"a": audit} if overlap is not None else {},
        "data": {"source": "x", "task": "binary", "target": "y", "columns": [], "findings": findings, "fingerprint": None,
                 "rows": {"train": 500, "validation": 200, "test": 300}},
        "manifest": {"seed": 0, "distillens": "0"},
    }  # fmt: skip


def facts(made: dict[str, Any]) -> dict[str, str]:
    return {
        str(label): str(Markup(value).striptags()) for _, rows in provenance(Words("en"), made) for label, value in rows
    }


@pytest.mark.parametrize(
    ("overlap", "kind", "said"),
    [
        ({"rows": 0, "known": True}, "boosted_trees", "None of 300"),
        ({"rows": 7, "known": True}, "boosted_trees", "7 of 300"),
        ({"rows": 0, "known": True}, "given", "which rows the given teacher was trained on is not known"),
        ({"rows": None, "known": False}, "boosted_trees", "Not known"),
        (None, "boosted_trees", "Not known"),
    ],
)
def test_overlap_with_training_rows_is_what_the_audit_counted(overlap: Any, kind: str, said: str) -> None:
    shown = facts(passport(overlap=overlap, kind=kind))["Audited rows seen in training"]
    assert said in shown
    assert ("None of" in shown) == (said == "None of 300")
    assert "equal values" not in shown


def test_equal_rows_in_different_parts_are_told_beside_the_count() -> None:
    shown = facts(passport(overlap={"rows": 0, "known": True}, duplicates=True))["Audited rows seen in training"]
    assert shown.startswith("None of 300")
    assert "equal values" in shown


def test_choice_and_influence_come_with_their_numbers() -> None:
    made = passport(overlap={"rows": 0, "known": True})
    assert "a 0.0100, b 0.500; no intervals" in facts(made)["Why this student"]
    assert "On 200 validation rows" in facts(made)["Does it listen to the teacher?"]
    made["data"]["task"] = "regression"
    assert "R² to the teacher is 0.900" in facts(made)["Does it listen to the teacher?"]
    assert facts(made)["student"].count("additive") == 1


def test_no_class_is_adverse_among_several() -> None:
    data = {"classes": ["a", "b", "c"], "decision": {"adverse": "a", "threshold": 0.5}}
    assert "adverse" not in str(use_facts(Words("en"), {"data": data})).lower()
    data["classes"] = ["a", "b"]
    assert "adverse" in str(use_facts(Words("en"), {"data": data})).lower()


def test_a_sum_is_shown_for_the_class_that_the_reasons_explain() -> None:
    linear = {"form": "linear", "scale": "log-odds", "outputs": ["good"], "intercepts": [2.0],
              "coefficients": [{"name": "x", "coefficients": [0.5], "per_unit": [0.25]}]}  # fmt: skip
    term = {"features": [{"name": "x", "kind": "numeric", "bins": ["(missing)", "< 1", "≥ 1", "(unknown)"], "cuts": [1.0], "bounds": [0.0, 2.0]}],
            "importance": 0.3, "scores": [[0.0], [0.5], [-0.25], [0.0]]}  # fmt: skip
    pair = {
        "features": term["features"] * 2,
        "importance": 0.2,
        "scores": [[[0.0]] * 4, [[0.0], [0.5], [-0.25], [0.0]], [[0.0]] * 4, [[0.0]] * 4],
    }
    additive = {
        "form": "additive",
        "scale": "log-odds",
        "outputs": ["good"],
        "intercepts": [2.0],
        "terms": [term, pair],
    }
    for adverse, sign in (("bad", -1), ("good", 1), (None, 1)):
        made = readable(Words("en"), {"described": linear}, adverse)
        assert made is not None
        assert Markup(made["output"]).striptags() == (adverse or "good")
        assert made["intercepts"] == [2.0 * sign]
        assert made["rows"][0]["coefficients"] == [0.5 * sign]
        assert made["rows"][0]["per_unit"] == [0.25 * sign]
        drawn = readable(Words("en"), {"described": additive}, adverse)
        assert drawn is not None
        (group,) = drawn["groups"]
        assert Markup(group["output"]).striptags() == (adverse or "good")
        spoken = group["figures"][0].split("aria-label")[1]
        assert f"1.00: {'+' if sign < 0 else '−'}0.25" in spoken  # from 1 on, −0.25 for good
        assert f"&lt; 1: {'−' if sign < 0 else '+'}0.50" in group["maps"][0]
    assert linear["intercepts"] == [2.0]


def test_the_tolerance_is_told_with_the_share_within_it() -> None:
    metric = {"name": "within_tolerance", "scope": "prediction", "explainer": None, "unit": "share", "optimised": False,
              "normalised": None, "text": "Share of rows within (tolerance 12.5): 80 %.",
              "estimate": {"status": "ok", "value": 0.8, "low": 0.7, "high": 0.9, "n": 50}}  # fmt: skip
    (row,) = metrics(Words("en"), {"metrics": [metric], "reasons": None}, ("prediction",))
    assert "Tolerance: 12.5" in row["about"]

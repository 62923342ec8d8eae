"""Directions that were asked for: a line a model, the worst row in words, and what could not be checked."""

from __future__ import annotations

import pytest

from distillens.report.monotone import monotone
from distillens.report.words import LANGUAGES, Words, name

SCRIPT = "<script>alert(1)</script>"
BROKEN = {"status": "ok", "value": 0.5, "low": 0.43, "high": 0.57, "n": 200}
ENTRIES = [
        {
            "feature": SCRIPT, "sign": 1, "rows": 200, "steps": 20,
            "models": {
                "teacher": {"share": 0.125, "rows": 0.5, "broken": BROKEN, "worst": [{"row_id": 1234, "low": "15", "high": SCRIPT, "change": -1.5}]},
                "student": {"share": 0.0, "rows": 0.0, "broken": BROKEN | {"value": 0.0, "low": 0.0, "high": 0.018}, "worst": []},
            },
        },
        {"feature": "flat", "sign": -1, "rows": 200, "steps": 0, "models": {}},
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_model_has_a_line(language: str) -> None:
    w = Words(language)
    lines = monotone(w, ENTRIES, ["good", "bad"])
    assert [line["role"] for line in lines] == ["student", "teacher"] * 2
    student, teacher, *flat = lines
    assert not student["broken"]
    assert student["worst"] == ""
    assert teacher["broken"]
    assert teacher["rows"] == w.estimate(BROKEN, "share")
    assert "1234" in teacher["worst"]
    assert "−1.5" in teacher["worst"]
    assert "bad" in teacher["wanted"]
    assert SCRIPT not in str(teacher["worst"]) + str(teacher["feature"])
    assert all(line["rows"] is None for line in flat)
    assert w("answer.value") in monotone(w, ENTRIES, [])[0]["wanted"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_directions_are_told_for_the_adverse_class(language: str) -> None:
    w = Words(language)
    _, teacher, *_ = monotone(w, ENTRIES, ["bad", "good"], "bad")  # signs and changes are of the second class, good
    assert teacher["wanted"] == w.html("monotone.falls", {"output": w.html("monotone.chance", {"output": name("bad")})})
    assert "+1.5" in teacher["worst"]
    _, teacher, *_ = monotone(w, ENTRIES, ["good", "bad"], "bad")
    assert teacher["wanted"] == w.html("monotone.rises", {"output": w.html("monotone.chance", {"output": name("bad")})})
    assert "−1.5" in teacher["worst"]


def test_a_student_without_constraints_has_no_lines() -> None:
    assert monotone(Words("en"), [], ["good", "bad"]) == []

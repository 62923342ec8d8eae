"""Directions that were asked for: a line a model, the worst row in words, and what could not be checked."""

from __future__ import annotations

import pytest

from distillens.report.monotone import monotone
from distillens.report.words import LANGUAGES, Words

SCRIPT = "<script>alert(1)</script>"
STUDENT = {
    "monotone": [
        {
            "feature": SCRIPT, "sign": 1, "rows": 200, "steps": 20,
            "models": {
                "teacher": {"share": 0.125, "rows": 0.5, "worst": [{"row_id": 1234, "low": "15", "high": SCRIPT, "change": -1.5}]},
                "student": {"share": 0.0, "rows": 0.0, "worst": []},
            },
        },
        {"feature": "flat", "sign": -1, "rows": 200, "steps": 0, "models": {}},
    ]
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_model_has_a_line(language: str) -> None:
    w = Words(language)
    lines = monotone(w, STUDENT, ["good", "bad"])
    assert [line["role"] for line in lines] == ["student", "teacher"] * 2
    student, teacher, *flat = lines
    assert not student["broken"]
    assert student["worst"] == ""
    assert teacher["broken"]
    assert teacher["rows"] == w.percent(0.5)
    assert "1234" in teacher["worst"]
    assert "−1.5" in teacher["worst"]
    assert "bad" in teacher["wanted"]
    assert SCRIPT not in str(teacher["worst"]) + str(teacher["feature"])
    assert all(line["rows"] is None for line in flat)
    assert w("answer.value") in monotone(w, STUDENT, [])[0]["wanted"]


def test_a_student_without_constraints_has_no_lines() -> None:
    assert monotone(Words("en"), {}, ["good", "bad"]) == []

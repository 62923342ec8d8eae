"""A soft decision tree in the passport: questions by number, each with its sum; names of others stay text."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.models.encoding import Encoding
from distillens.models.soft_tree import SoftTreeModel
from distillens.report.readable import readable
from distillens.report.sections import described
from distillens.report.words import LANGUAGES, Words

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["hard", "soft"])
def test_questions_are_numbered_and_spelled_out(language: str, path: str) -> None:
    table = Table(np.random.default_rng(0).normal(size=(50, 2)), (Column(SCRIPT), Column("age")), np.arange(50))
    weights = np.array([[2.0, -0.5], [0.1, 1.0], [-3.0, 0.0]])
    model = SoftTreeModel(
        ("good", "bad"), "soft tree", Encoding.fit(table), weights, np.array([0.25, -1.5, 0.0]), np.eye(4, 2), 1.0,
        path, np.ones(2), np.array([1, 0.4, 0.6, 0.1, 0.3, 0.2, 0.4]),
    )  # fmt: skip
    d = model.describe()
    assert described({"described": d}) is d
    w = Words(language)
    shown = readable(w, {"described": d})
    assert shown is not None
    assert shown["path"] == path
    assert [n["number"] for n in shown["nodes"]] == [1, 2, 3]
    assert [n["coverage"] for n in shown["nodes"]] == [w.percent(v) for v in (1.0, 0.4, 0.6)]
    first = str(shown["nodes"][0]["condition"])
    assert "+ 2 · [" in first
    assert "− 0.5 · [age]" in first
    assert "+ 0.25 &gt; 0" in first
    assert "age" in shown["nodes"][1]["features"][0][0]
    page = str(shown["rules"]) + first
    assert SCRIPT not in page
    assert shown["rules"].count("<details") == 3

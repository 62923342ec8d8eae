"""A rule list in the passport: IF, ELSE IF, ELSE in order; names of others stay text."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.report.readable import readable
from distillens.report.sections import described
from distillens.report.words import LANGUAGES, Words
from distillens.students.rules import RulesStudent
from distillens.transfer.targets import Targets

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_rule_is_a_line_and_the_else_is_last(language: str) -> None:
    rng = np.random.default_rng(0)
    columns = (Column(SCRIPT), Column("age"))
    table = Table(
        np.column_stack([rng.normal(size=300), rng.integers(18, 80, 300)]).astype(float), columns, np.arange(300)
    )
    score = 3 * table.values[:, 0] + (table.values[:, 1] - 50) / 10
    targets = Targets.from_outputs(
        Split(table), np.column_stack([-score, score]) / 2, output="logits", classes=("good", "bad")
    )
    d = RulesStudent().fit(targets, validation=Split(table), teacher=None, seed=0).describe()
    assert described({"described": d}) is d
    w = Words(language)
    shown = readable(w, {"described": d})
    assert shown is not None
    words = [line["word"] for line in shown["lines"]]
    assert words == [w("rules.if"), *[w("rules.else_if")] * (len(d["rules"]) - 1), w("rules.else")]
    assert len(d["rules"]) >= 3
    text = "".join(str(line["conditions"]) + str(line["answer"]) for line in shown["lines"])
    assert SCRIPT not in text
    assert "&lt;script&gt;" in text
    assert w("rules.and") in text

"""A scorecard in the passport: the points table, its scale, what rounding cost; names of others stay text."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.report.readable import readable
from distillens.report.sections import described
from distillens.report.words import LANGUAGES, Words
from distillens.students.scorecard import ScorecardStudent
from distillens.transfer.targets import Targets

SCRIPT = "<script>alert(1)</script>"


def card(*, integer: bool = True) -> dict[str, object]:
    rng = np.random.default_rng(0)
    columns = (Column("age"), Column(SCRIPT, "categorical", ("car", "<b>tv</b>")), Column("noise"))
    values = np.column_stack([rng.integers(18, 80, 300), rng.integers(0, 2, 300), np.zeros(300)]).astype(float)
    values[:30, 0] = np.nan
    table = Table(values, columns, np.arange(300))
    score = np.nan_to_num(values[:, 0] - 50) / 10 + values[:, 1]
    targets = Targets.from_outputs(
        Split(table), np.column_stack([-score, score]) / 2, output="logits", classes=("good", "bad")
    )
    return ScorecardStudent(integer=integer).fit(targets, validation=Split(table), teacher=None, seed=0).describe()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_table_shows_every_line_with_rows(language: str) -> None:
    d = card()
    assert described({"described": d}) is d
    w = Words(language)
    shown = readable(w, {"described": d})
    assert shown is not None
    assert "age" in shown["features"][0]["name"]
    bins = [b for f in d["features"] for b in f["bins"] if b["share"] > 0]  # type: ignore[attr-defined]
    assert [b["points"] for f in shown["features"] for b in f["bins"]] == [b["points"] for b in bins]
    assert w("cell.missing") in [b["name"] for b in shown["features"][0]["bins"]]
    assert "600" in shown["scale_text"]
    assert "50" in shown["scale_text"]
    assert shown["rounding"]
    assert ["noise" in left for left, _ in shown["left_out"]] == [True]
    assert SCRIPT not in "".join(str(f["name"]) + "".join(str(b["name"]) for b in f["bins"]) for f in shown["features"])


def test_a_card_with_exact_points_says_nothing_of_rounding() -> None:
    shown = readable(Words("en"), {"described": card(integer=False)})
    assert shown is not None
    assert shown["rounding"] == ""

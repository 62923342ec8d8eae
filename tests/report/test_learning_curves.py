"""Learning curves: the epoch that was kept, what is drawn, long and short histories, numbers that are none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from distillens.report.learning import curves, kept_epoch
from distillens.report.words import Words


def history(losses: list[float], **terms: float) -> list[dict[str, float]]:
    return [{"epoch": i + 1, "train": v + 1.0, "validation": v, **terms} for i, v in enumerate(losses)]


def passport(teacher: Any, student: Any, alone: Any = None, **settings: Any) -> dict[str, Any]:
    controls = {} if alone is None else {"net.undistilled": {"history": alone, "settings": {}}}
    return {"chosen": {"id": "net"}, "teacher": {"history": teacher, "settings": {}}, "controls": controls,
            "students": {"net": {"history": student, "settings": settings}}}  # fmt: skip


@pytest.mark.parametrize(
    ("losses", "keep", "kept"),
    [([3, 1, 2], "best", 2), ([3, 1, 1], "best", 2), ([3, 1, 2], "last", 3), ([1, 1, 1], "best", 3), ([5], "best", 1)],
)
def test_the_epoch_that_was_kept(losses: list[float], keep: str, kept: int) -> None:
    assert kept_epoch(history(losses), keep) == kept


def test_one_figure_a_network_and_one_for_several_terms() -> None:
    drawn = curves(Words("en"), passport(history([3, 2, 1], task=1.0), history([3, 1, 2], task=1.0, kd=2.0), history([2, 1, 3])))  # fmt: skip
    captions = [re.sub(r"<[^>]+>", "", str(caption)) for caption, _ in drawn]
    assert captions == [
        "teacher: loss in training and validation",
        "student net: loss in training and validation",
        "student net: terms of the training loss, before weighting",
        "net without a teacher: loss in training and validation",
    ]
    student = str(drawn[1][1])
    assert "kept: 2" in student
    assert "3 epochs; the weights of epoch 2 were kept. From the first epoch to that one: " in student
    assert re.search(r"training 4.00 → 2.00[,;] validation 3.00 → 1.00", student)
    assert "kept: 3" in str(drawn[0][1])


def test_heights_are_the_losses() -> None:
    _, drawn = curves(Words("en"), passport(history([4.0, 2.0, 3.0]), None))[0]
    line = re.search(r'<path d="M([^"]*)" class="loss validation teacher"', str(drawn))
    assert line is not None
    points = [tuple(map(float, p.split())) for p in line[1].split("L")]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert (y2 - y1) == pytest.approx(2 * (y2 - y3), abs=0.3)  # down by 2, then up by 1; pixels grow downwards


def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_axis() -> None:
    falling = [{"epoch": i + 1, "train": 10.0 ** (1 - i), "validation": 10.0 ** (1 - i)} for i in range(4)]
    steep = str(curves(Words("en"), passport(falling, None))[0][1])
    assert all(f">{tick}<" in steep for tick in ("10", "1", "0.1", "0.01"))


def test_long_trainings_are_thinned_but_never_the_kept_epoch() -> None:
    losses = [abs(i - 1234.5) + 1.0 for i in range(5000)]
    losses[1234] = 0.5
    drawn = str(curves(Words("en"), passport(history(losses), None))[0][1])
    assert len(drawn) < 15_000
    assert "kept: 1,235" in drawn
    assert "validation 1,236 → 0.500" in drawn


def test_one_epoch_and_numbers_that_are_none() -> None:
    w = Words("zh")
    assert curves(w, passport(history([1.0]), None))
    broken = [{"epoch": 1, "train": "inf", "validation": 2.0}, {"epoch": 2, "train": 1.0, "validation": None}]
    assert len(curves(w, passport(broken, None))) == 1
    assert curves(w, passport([{"epoch": 1, "train": 1.0, "validation": "inf"}], [])) == []
    assert curves(w, {"chosen": None, "teacher": None, "students": {}, "controls": {}}) == []


def test_hostile_names_are_text() -> None:
    made = passport(None, None)
    made["students"] = {"<script>alert(1)</script>": {"history": history([2, 1], **{"<b>kd</b>": 1.0, "task": 2.0}), "settings": {}}}  # fmt: skip
    for caption, drawn in curves(Words("en"), made):
        assert "<script>" not in caption + drawn
        assert "<b>kd" not in drawn

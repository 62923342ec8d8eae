"""Figures: marks stand where the numbers are, names are escaped, gates share one axis with their references."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from distillens.report import gates, reasons, shapes, views
from distillens.report.figures import Reference, interval_plot, lanes_plot, reliability
from distillens.report.svg import Axis, nice_step, shorten, text_width
from distillens.report.tree import tree_drawing
from distillens.report.words import Words

W = Words("en")


def estimate(value: float | None, low: Any = None, high: Any = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 300, "status": "ok" if value is not None else "insufficient"}


def marks(svg: str, css: str) -> list[dict[str, str]]:
    return [e.attrib for e in ET.fromstring(svg).iter() if set(css.split()) <= set(e.attrib.get("class", "").split())]


@pytest.mark.parametrize(
    ("rough", "step"), [(0.013, 0.02), (0.02, 0.02), (0.021, 0.025), (3.1, 5.0), (7, 10.0), (120, 200.0)]
)
def test_nice_step(rough: float, step: float) -> None:
    assert nice_step(rough) == pytest.approx(step)


def test_axis_maps_linearly_and_ticks_are_round() -> None:
    axis = Axis(0.4, 1.0, 100, 400)
    assert axis(0.4) == 100
    assert axis(1.0) == 400
    assert axis(0.7) == pytest.approx(250)
    assert axis(7) == 400
    assert axis.ticks(3) == [0.4, 0.6, 0.8, 1.0]
    assert Axis.around([0.97, 0.999], 0, 1, floor=0, ceiling=1).high == 1


def test_interval_plot_places_everything_on_one_axis() -> None:
    refs = [Reference("twin", "twin", 0.9, 0.88, 0.92), Reference("chance", "another row", 0.5)]
    svg = interval_plot(W, estimate(0.8, 0.7, 0.9), unit="share", title="t", references=refs, limit=0.6)
    axis = Axis.around([0.8, 0.7, 0.9, 0.6, 0.9, 0.88, 0.92, 0.5], 16, 444, floor=0, ceiling=1)
    (dot,) = marks(svg, "student dot")
    assert float(dot["cx"]) == pytest.approx(axis(0.8), abs=0.06)
    (thick,) = marks(svg, "student fill")
    assert float(thick["x"]) == pytest.approx(axis(0.7), abs=0.06)
    assert float(thick["width"]) == pytest.approx(axis(0.9) - axis(0.7), abs=0.06)
    (limit,) = marks(svg, "limit")[:1]
    assert float(limit["x1"]) == pytest.approx(axis(0.6), abs=0.06)
    (accept,) = marks(svg, "accept")
    assert float(accept["x"]) == pytest.approx(axis(0.6), abs=0.06)
    assert float(accept["x"]) + float(accept["width"]) == pytest.approx(444, abs=0.1)


def test_lower_is_better_is_acceptable_on_the_left() -> None:
    svg = interval_plot(W, estimate(0.3, 0.2, 0.4), unit="value", title="t", limit=0.5, direction="<=")
    (accept,) = marks(svg, "accept")
    assert float(accept["x"]) == pytest.approx(16)


def test_one_sided_bounds_run_to_the_edge_and_nothing_is_drawn_without_a_number() -> None:
    svg = interval_plot(W, estimate(0.7, 0.68, "inf"), unit="share", title="t")
    (thick,) = marks(svg, "student fill")
    assert float(thick["x"]) + float(thick["width"]) == pytest.approx(444, abs=0.1)
    assert interval_plot(W, estimate(None), unit="share", title="t") == ""
    assert lanes_plot(W, [("a", "teacher", estimate(None))], unit="share", title="t") == ""


def test_far_references_stand_at_the_edge_with_their_number() -> None:
    near, far = Reference("other", "near", 0.6), Reference("other", "constant", 0.05)
    svg = interval_plot(W, estimate(0.9, 0.8, 0.95), unit="share", title="t", references=[near, far], limit=0.7)
    texts = "".join(ET.fromstring(svg).itertext())
    assert "‹ constant 5.0" in texts
    assert "‹ near" not in texts
    left = min(float(m["x"]) for m in marks(svg, "mark other"))
    assert left == pytest.approx(16 - 3.5)
    shared = interval_plot(W, estimate(0.9, 0.8, 0.95), unit="share", title="t", references=[far], span=[0.0, 1.0])
    assert "‹" not in shared


def test_labels_do_not_overlap() -> None:
    refs = [Reference("other", f"reference {i}", 0.80 + 0.01 * i) for i in range(6)]
    svg = interval_plot(W, estimate(0.7, 0.6, 0.9), unit="share", title="t", references=refs)
    labels = [e for e in ET.fromstring(svg).iter() if "label" in e.attrib.get("class", "").split()]
    assert len(labels) >= 4
    for line in {e.attrib["y"] for e in labels}:
        spans = sorted((float(e.attrib["x"]), text_width(e.text or "", 10)) for e in labels if e.attrib["y"] == line)
        assert all(b[0] - b[1] / 2 >= a[0] + a[1] / 2 - 0.2 for a, b in itertools.pairwise(spans))


def test_names_are_escaped_and_cut_with_the_whole_in_a_title() -> None:
    evil = "</svg><script>alert(1)</script>" * 9
    for svg in (
        lanes_plot(W, [(evil, "teacher", estimate(0.5, 0.4, 0.6))], unit="share", title=evil),
        reasons.importance(W, [evil, "b"], {"teacher": [1.0, 0.5], "student": [0.5, 0.6]}),
        reasons.row_reasons(W, [{"unit": evil, "value": evil, "teacher": 1.0, "student": -1.0}], title=evil),
        shapes.shape_function(W, {"name": evil, "kind": "categorical", "x": [evil, "b"], "y": [0.1, -0.2]}, (-1, 1)),
    ):
        root = ET.fromstring(f"<div>{svg}</div>")
        assert not [e for e in root.iter() if e.tag == "script"]
        assert evil in [e.text for e in root.iter("title")] or evil in "".join(root.itertext())
    assert shorten("x" * 100, 50).endswith("…")
    assert text_width(shorten("汉字" * 50, 80)) <= 80


def test_row_bars_share_one_scale_around_zero() -> None:
    items = [
        {"unit": "a", "value": "1", "teacher": 2.0, "student": -1.0},
        {"unit": "b", "value": "x", "teacher": 0.5, "student": 0.5},
    ]
    svg = reasons.row_reasons(W, items, title="t")
    teacher, student = marks(svg, "teacher bar"), marks(svg, "student bar")
    assert float(teacher[0]["width"]) == pytest.approx(2 * float(student[0]["width"]), rel=0.01)
    assert float(student[0]["x"]) < float(teacher[0]["x"])
    assert float(teacher[1]["width"]) == pytest.approx(float(student[1]["width"]))


def test_reliability_has_a_point_for_every_bin_with_rows() -> None:
    bins = {
        "teacher": [{"mean": 0.1, "observed": 0.2, "n": 10}],
        "student": [{"mean": 0.5, "observed": 0.5, "n": 5}, {"mean": 0.9, "observed": 1, "n": 0}],
    }
    svg = reliability(W, bins, labels={"teacher": "teacher", "student": "student"})
    assert len(marks(svg, "teacher dot")) == 1
    assert len(marks(svg, "student dot")) == 1


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────
METRIC = {
    "name": "m",
    "unit": "value",
    "estimate": estimate(0.88),
    "controls": {"twin": estimate(0.93)},
    "teacher": estimate(50.0),
}


def gate(**changes: Any) -> dict[str, Any]:
    return {"metric": "m", "explainer": None, "bound": estimate(-0.05, -0.08, -0.02), "limit": -0.05, "direction": ">=",
            "relative_to": "twin", "margin": 0.05, "outcome": "review", "why": ""} | changes  # fmt: skip


def test_a_difference_is_drawn_at_its_reference() -> None:
    bound, limit, placed = gates.on_metric_axis(gate(), METRIC)
    assert placed
    assert (bound["value"], bound["low"], bound["high"]) == pytest.approx((0.88, 0.85, 0.91))
    assert limit == pytest.approx(0.88)


def test_a_ratio_is_drawn_at_its_reference() -> None:
    metric = METRIC | {"estimate": estimate(52.0)}
    held = gate(
        bound=estimate(0.04, 0.01, 0.07), limit=0.05, margin=0.05, relative_to="teacher", direction="<=", ratio=True
    )
    bound, limit, _ = gates.on_metric_axis(held, metric)
    assert bound["value"] == pytest.approx(52.0)
    assert limit == pytest.approx(52.5)
    assert gates.relation(W, held, metric) == "at most 5\u202f% worse than the teacher"


def test_absolute_gates_and_unknown_references_stay_as_they_are() -> None:
    absolute = gate(relative_to=None, margin=None, limit=0.6, bound=estimate(0.7, 0.65, 0.75))
    assert gates.on_metric_axis(absolute, METRIC)[1] == 0.6
    assert gates.on_metric_axis(gate(relative_to="undistilled"), METRIC)[2] is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"reason": "clears", "outcome": "pass"},
            "bound of the difference from the teacher's twin is −0.0800 and clears the limit −0.05",
        ),
        (
            {"reason": "beyond", "outcome": "fail"},
            "the more favourable one-sided 97.5\u202f% bound of the difference from the teacher's twin, −0.0200",
        ),
        ({"reason": "contains"}, "−0.0800 to −0.0200, contains the limit −0.05"),
        ({"reason": "contains", "relative_to": None}, "The interval, −0.0800 to"),
        ({"reason": "few_units", "needed": 30}, "below 30 a resampled"),
        ({"reason": "no_reference", "relative_to": "twin"}, "no teacher's twin"),
        ({"reason": "not_assessable", "bound": estimate(None) | {"status": "insufficient"}}, "too few rows"),
        ({"reason": "not_assessable", "bound": estimate(None) | {"status": "not_available"}}, "not handed"),
    ],
)
def test_reasons_of_gates_come_from_their_numbers(changes: dict[str, Any], words: str) -> None:
    assert words in gates.gate_reason(W, gate(confidence=0.975, **changes), METRIC)


@pytest.mark.parametrize(
    ("column", "level", "kind", "shown"),
    [
        ("age", "above 26, up to 35", "column", "age = 大于 26、不超过 35"),
        ("age", "(missing)", "column", "age = 缺失"),
        (
            "decision boundary",
            "teacher's probability within 0.1 of 0.5",
            "boundary",
            "决定边界 = 教师的概率距 0.5 不超过 0.1",
        ),
        ("teacher's decision", "bad", "decision", "教师的决定 = bad"),
        ("sex", "<b>f", "column", "sex = &lt;b&gt;f"),
    ],
)
def test_slices_are_named_in_the_language_of_the_page(column: str, level: str, kind: str, shown: str) -> None:
    text = str(views.slice_name(Words("zh"), {"column": column, "level": level, "kind": kind}))
    assert re.sub(r"</?bdi>", "", text) == shown


# ── trees ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def full_tree(depth: int, node: int = 0) -> dict[str, Any]:
    if depth == 0:
        return {"node": node, "value": [0.25, 0.75]}
    text = "installment_rate_in_percentage_of_disposable_income ≤ 3.5 or missing"
    return {"node": node, "feature": text.split(" ")[0], "condition": text, "value": [0.5, 0.5],
            "yes": full_tree(depth - 1, 2 * node + 1), "no": full_tree(depth - 1, 2 * node + 2)}  # fmt: skip


def chain(leaves: int) -> dict[str, Any]:
    tree: dict[str, Any] = {"node": 0, "value": [0.1, 0.9]}
    for node in range(1, leaves):
        leaf = {"node": 2 * node, "value": [0.9, 0.1]}
        tree = {
            "node": 2 * node + 1,
            "feature": "age",
            "condition": f"age ≤ {node}",
            "value": [0.5, 0.5],
            "yes": leaf,
            "no": tree,
        }
    return tree


@pytest.mark.parametrize("root", [full_tree(4), chain(16)])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_two_texts_of_a_tree_overlap_and_none_leaves_the_drawing(root: dict[str, Any], language: str) -> None:
    share = {"status": "ok", "value": 0.8, "low": 0.65, "high": 0.92, "n": 1234}
    parts = [{"part": n, "n": 1234, "share": 0.1, "agreement": share, "precision": share} for n in range(64)]
    svg = tree_drawing(Words(language), {"root": root}, ["good", "bad"], adverse="bad", parts=parts)
    drawing = ET.fromstring(svg)
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    boxes = []
    for e in drawing.iter("text"):
        shown = "".join(t for t in e.itertext() if t != (e.findtext("title") or None)).strip("\u2068\u2069")
        size = 10 if "muted" in e.attrib["class"] else 11
        long, x, y = text_width(shown, size), float(e.attrib["x"]), float(e.attrib["y"])
        left = x - long if e.attrib["text-anchor"] == "end" else x
        boxes.append((left, left + long, y - 0.75 * size, y + 0.2 * size, shown))
    assert sum(b[4] in {"1,234"} for b in boxes) == 16
    for i, (a, b, top, bottom, text) in enumerate(boxes):
        assert -1 <= a < b <= width + 1, text
        assert top >= -1, text
        assert bottom <= height + 1, text
        for c, d, above, below, other in boxes[:i]:
            assert b <= c + 0.5 or d <= a + 0.5 or bottom <= above + 0.5 or below <= top + 0.5, (text, other)


def test_a_tree_of_one_leaf_or_of_very_many_is_not_drawn() -> None:
    assert tree_drawing(W, {"root": {"node": 0, "value": [0.2, 0.8]}}, ["good", "bad"]) == ""
    assert tree_drawing(W, {"root": chain(65)}, ["good", "bad"]) == ""


# ── additive students ───────────────────────────────────────────────────────────────────────────────────────────────
def term(*names: str, outputs: int = 1, spread: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    features = [{"name": n, "kind": "numeric", "bins": ["(missing)", "< 1", "1 to 2", "≥ 2", "(unknown)"], "cuts": [1.0, 2.0],
                 "bounds": [0.0, 3.0]} for n in names]  # fmt: skip
    shape = (*(5 for _ in names), outputs)
    scores = rng.normal(size=shape)
    return {
        "features": features,
        "importance": 1.0,
        "scores": scores.tolist(),
        "spread": np.full(shape, 0.1).tolist() if spread else None,
    }


def test_every_output_of_an_additive_student_is_drawn() -> None:
    d = {"outputs": ["a", "b", "c"], "terms": [term("x", outputs=3), term("y", outputs=3), term("x", "y", outputs=3)]}
    made = shapes.shapes(W, d)
    assert [re.sub("<.*?>", "", g["output"]) for g in made["groups"]] == ["a", "b", "c"]
    assert [(len(g["figures"]), len(g["maps"])) for g in made["groups"]] == [(2, 1)] * 3
    assert len({str(g["figures"][0]) for g in made["groups"]}) == 3
    assert not made["uncertain"]


def test_the_band_of_a_shape_is_two_standard_deviations() -> None:
    d = {"outputs": ["a"], "terms": [term("x", spread=True)]}
    (figure,) = shapes.shapes(W, d)["groups"][0]["figures"]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", ET.fromstring(figure).find("path").attrib["d"])]  # type: ignore[union-attr]
    curve = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", ET.fromstring(figure).findall("path")[1].attrib["d"])]
    widths = [low - high for high, low in zip(heights[:6], heights[6:][::-1], strict=True)]
    scores = [s[0] for s in d["terms"][0]["scores"][1:-1]]  # type: ignore[index]
    pixels = (curve[0] - curve[-1]) / (scores[-1] - scores[0])  # one unit of the score
    assert widths == pytest.approx([0.4 * pixels] * 6, abs=0.3)


def test_a_heat_map_shades_by_sign_and_size_and_leaves_out_missing_and_unseen() -> None:
    t = term("x", "y")
    t["scores"] = [[[99.0]] * 5, *([[99.0], [4.0], [0.0], [-4.0], [99.0]] for _ in range(3)), [[99.0]] * 5]
    svg = shapes.heat_map(W, t)
    assert {e.attrib["class"] for e in ET.fromstring(svg).iter("path")} == {"heat p4", "heat z", "heat n4", "frame"}
    assert "99" not in svg

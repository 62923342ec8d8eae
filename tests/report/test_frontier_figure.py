"""The figures and the table of the frontier: marks where the numbers are, the front drawn, names escaped, two languages."""

from __future__ import annotations

import itertools
import json
import math
import re
import xml.etree.ElementTree as ET
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import distillens.report.frontier as drawn
from distillens.report.frontier_figure import readable_front
from distillens.report.words import Words

SCHEMA = json.loads((Path(drawn.__file__).parent / "frontier.schema.json").read_text(encoding="utf-8"))
W = Words("en")


def estimate(value: float, half: float = 0.03) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": min(1.0, value + half), "level": 0.95, "n": 200,
            "method": "bootstrap-percentile", "status": "ok"}  # fmt: skip


def point(
    family: str,
    size: int | None,
    name: str | None,
    whole: float,
    agreement: float,
    *,
    front: bool,
    behind: tuple[str, ...] = (),
) -> dict[str, Any]:
    alike = {"value": 0.5, "low": 0.25, "high": 0.75, "pairs": 3}
    span = {"value": whole, "low": whole, "high": whole}
    return {
        "id": family if size is None else f"{family}-{size}", "family": family, "size": size, "size_name": name, "settings": {}, "readable": True,
        "complexity": {"parameters": whole}, "units": {"whole": span, "decision": {"value": 3.25, "low": 3, "high": 4}},
        "fidelity": {"agreement": estimate(agreement)}, "performance": {"roc_auc": estimate(agreement - 0.1)},
        "spread": {"seeds": None, "resamples": {"fits": 3, "value": agreement, "sd": 0.012, "low": 0.8, "high": 0.9}},
        "stability": {"features": alike, "parts": alike, "partition": None, "importance": alike, "decisions": alike},
        "front": {"whole": front, "decision": front}, "dominated_by": {"whole": list(behind), "decision": []},
    }  # fmt: skip


RECORD: dict[str, Any] = {
    "schema": 1, "name": "a <b>run</b>", "task": "binary", "classes": ["no", "yes"], "rows": {"split": "validation", "n": 200},
    "seeds": 3, "queries": 1, "level": 0.95, "fidelity": {"metric": "agreement", "unit": "share"},
    "performance": {"metric": "roc_auc", "unit": "value"},
    "teacher": {"label": "boosted trees", "fingerprint": None, "performance": {"roc_auc": estimate(0.88)}},
    "points": [
        point("tree", 4, "max_leaves", 7, 0.80, front=True), point("tree", 16, "max_leaves", 31, 0.90, front=True),
        point("rules", 8, "max_rules", 31, 0.85, front=False, behind=("tree-16",)), point("network", 32, "hidden", 4000, 0.89, front=False),
        point("<script>", None, None, 900, 0.95, front=True),
    ],
    "answers": {"fidelity": {"best": "<script>", "margin": 0.02, "shown": None, "possible": "tree-16"},
                "performance": {"best": "teacher", "margin": 0.02, "shown": "tree-16", "possible": "tree-4"}},
    "left_out": [{"family": "scorecard", "why": "for binary tasks"}], "measured": {"seconds": {"tree-4": 0.1}},
}  # fmt: skip


def parsed(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter())


def with_class(svg: str, css: str) -> list[ET.Element]:
    return [e for e in parsed(svg) if set(css.split()) <= set(e.attrib.get("class", "").split())]


def test_the_record_of_these_tests_is_one() -> None:
    jsonschema.validate(RECORD, SCHEMA)
    wrong = deepcopy(RECORD)
    wrong["points"][0]["units"].pop("decision")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_marks_and_whiskers_stand_where_the_numbers_are() -> None:
    svg = drawn.frontier_figure(W, RECORD)
    whiskers = {
        next(c for c in e.attrib["class"].split() if c.startswith("family-")): e.attrib
        for e in with_class(svg, "whisker")
    }
    tree, rules, network = (
        whiskers[f"family-{f}"] for f in ("tree", "rules", "network")
    )  # tree: the larger, drawn last
    assert tree["x1"] == rules["x1"]  # equally many pieces
    assert float(tree["y1"]) < float(rules["y1"])  # closer to the teacher stands higher
    # the axis is logarithmic: the distance from 31 to 4,000 pieces is to that from 7 to 31 as the logarithms
    small = next(e.attrib for e in with_class(svg, "whisker family-tree"))
    share = (float(network["x1"]) - float(tree["x1"])) / (float(tree["x1"]) - float(small["x1"]))
    assert share == pytest.approx(math.log(4000 / 31) / math.log(31 / 7), rel=0.01)
    assert len(with_class(svg, "point")) == 5
    assert len(with_class(svg, "point hollow")) == 2


def test_the_front_is_drawn_as_stairs_through_its_points() -> None:
    svg = drawn.frontier_figure(W, RECORD)
    (front,) = with_class(svg, "front")
    steps = [tuple(float(v) for v in pair.split()) for pair in re.split("[ML]", front.attrib["d"])[1:]]
    assert len(steps) == 2 * 3  # three points: first, two steps of two each, the end
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(steps))
    assert [y for _, y in steps] == sorted((y for _, y in steps), reverse=True)
    assert not with_class(drawn.frontier_figure(W, RECORD, measure="performance"), "front")


def test_those_that_can_be_read_have_a_front_of_their_own() -> None:
    assert not with_class(drawn.frontier_figure(W, RECORD), "front readable")  # here it would be the same line
    mixed = deepcopy(RECORD)
    mixed["points"][1]["readable"] = False  # tree-16, which is on the front
    (line,) = with_class(drawn.frontier_figure(W, mixed), "front readable")
    assert line.attrib["d"].count("L") == 5
    assert [p["id"] for p in readable_front(mixed["points"], "whole", "agreement")] == [
        "tree-4",
        "rules-8",
        "<script>",
    ]


def test_it_can_be_read_without_seeing_it_and_names_stay_names() -> None:
    svg = str(drawn.frontier_figure(W, RECORD))
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root[0].tag == "title"
    assert "agreement" in (root[0].text or "")
    assert "5 students. On the front: decision tree, up to 4 leaves 80.0" in (root[1].text or "")
    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg
    page = drawn.frontier_page(RECORD)
    assert "<script" not in page
    assert "<b>run" not in page
    assert page.count("<svg") >= 3


def test_labels_cover_neither_each_other_nor_the_marks() -> None:
    many = deepcopy(RECORD)
    many["points"] = [point("tree", k, "max_leaves", 10 + 0.2 * k, 0.9 + 0.0004 * k, front=True) for k in range(2, 30)]
    svg = str(drawn.frontier_figure(W, many))
    named = list(with_class(svg, "t strong"))
    assert 0 < len(named) < 28  # what has no room is left out
    at = [(float(e.attrib["x"]), float(e.attrib["y"])) for e in named]
    assert all(abs(a[0] - b[0]) > 30 or abs(a[1] - b[1]) >= 10 for i, a in enumerate(at) for b in at[:i])


def test_the_table_says_what_is_clearly_behind() -> None:
    table = drawn.frontier_table(W, RECORD)
    assert [r["id"] for r in table["rows"]] == ["tree-4", "rules-8", "tree-16", "<script>", "network-32"]
    assert [r["state"] for r in table["rows"]] == [
        "on the front",
        "clearly behind",
        "on the front",
        "on the front",
        "not clearly behind",
    ]
    keys = [c["key"] for c in table["columns"]]
    assert "partition" not in keys  # nobody has one
    assert all(set(keys) <= set(row) for row in table["rows"])
    assert table["rows"][0]["decision"] == "3.2"
    answers = drawn.frontier_answers(W, RECORD)
    assert len(answers) == 4
    assert "these rows show of no student" in answers[0]
    assert "decision tree, up to 16 leaves: 31 pieces in all" in answers[2]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_block_and_the_file_are_whole_in_both_languages(language: str) -> None:
    block = str(drawn.frontier_block(Words(language), RECORD))
    assert block.count("<figure") == 3
    assert 'class="term"' in block  # what a piece is gets explained
    svg = drawn.frontier_svg(RECORD, language=language)
    assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme:dark" in svg


def test_without_labels_or_points_there_is_no_picture() -> None:
    assert drawn.frontier_figure(W, RECORD | {"performance": None}, measure="performance") == ""
    empty = deepcopy(RECORD)
    for p in empty["points"]:
        p["fidelity"]["agreement"] = {"value": None, "status": "not_available"}
    assert drawn.frontier_figure(W, empty) == ""
    assert drawn.frontier_svg(empty) == ""
    assert str(drawn.frontier_block(W, RECORD | {"performance": None, "answers": {}})).count("<figure") == 2

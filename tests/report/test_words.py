"""Catalogues have the same keys, placeholders and terms; numbers are written as people write them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest
from markupsafe import Markup

import distillens
from distillens.audit.findings import not_assessed
from distillens.audit.result import Reason
from distillens.errors import InputError
from distillens.explainers.base import EXPLAINERS
from distillens.metrics.base import METRICS
from distillens.report.words import LANGUAGES, Words, catalogue, name


def placeholders(text: str) -> set[str]:
    return {field for _, field, _, _ in Formatter().parse(text) if field}


def test_catalogues_say_the_same_things() -> None:
    first, *others = (catalogue(language) for language in LANGUAGES)
    for other in others:
        assert set(first) == set(other)
        for key in first:
            assert placeholders(first[key]) == placeholders(other[key]), key
            assert set(re.findall(r"\[\[(\w+)\|", first[key])) == set(re.findall(r"\[\[(\w+)\|", other[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_term_has_a_name_and_one_sentence(language: str) -> None:
    texts = catalogue(language)
    used = {term for text in texts.values() for term in re.findall(r"\[\[(\w+)\|", text)}
    defined = {key.removeprefix("define.") for key in texts if key.startswith("define.")}
    assert used <= defined
    assert defined == {key.removeprefix("term.") for key in texts if key.startswith("term.")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_marks_never_reach_the_reader(language: str) -> None:
    w = Words(language)
    for key, text in catalogue(language).items():
        values = dict.fromkeys(placeholders(text), "x")
        shown = w(key, values) + w.html(key, values)
        assert not re.search(r"\[\[|\]\]|\*\*", shown), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_metric_has_words(language: str) -> None:
    missing = [m for m in METRICS if not Words(language).has(f"metric.{m}") or not Words(language).has(f"about.{m}")]
    assert not missing


def test_chinese_catalogue_is_chinese() -> None:
    names = {
        "metric.roc_auc",
        "metric.pr_auc",
        "metric.ks",
        "metric.r2",
        "metric.rmse",
        "about.gini",
        "term.r2",
        "term.logit",
        "table.by",
        "metric.cohen_kappa",
        "readability.student",
    }
    english = [
        key for key, text in catalogue("zh").items()
        if key not in names and not re.search(r"[\u4e00-\u9fff]", text) and re.search(r"[a-z]{4}", text) and not key.startswith(("term.", "number."))
    ]  # fmt: skip
    assert not english


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.8871, "0.887"), (1234567, "1,234,567"), (12345.6, "12,346"), (-0.0312, "−0.0312"), (0.0, "0"), (3, "3"), (41.26, "41.3"),
        (3.1e-7, "3.10×10⁻⁷"), (None, "—"), (math.nan, "—"), (math.inf, "∞"), ("-inf", "−∞"), (999.96, "1000"),
    ],
)  # fmt: skip
def test_numbers(value: object, shown: str) -> None:
    assert Words("en").number(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.887, "88.7"),
        (1.0, "100"),
        (0.0, "0"),
        (0.99971, "99.97"),
        (0.0003, "0.03"),
        (0.9999999, "100.000"),
        (-0.021, "−2.1"),
    ],
)
def test_percent_never_rounds_to_certainty_by_accident(share: float, shown: str) -> None:
    assert Words("en").percent(share) == f"{shown}\u202f%"
    assert Words("zh").percent(share) == f"{shown}%"


def test_settings_are_written_as_they_were_set() -> None:
    w = Words("en")
    assert [w.exact(v) for v in (0.5, 0.05, 30, 1500, -0.1, 1e-5)] == [
        "0.5",
        "0.05",
        "30",
        "1,500",
        "−0.1",
        "1.00×10⁻⁵",
    ]
    assert w.percent(0.95, exact=True) == "95\u202f%"


def test_estimates() -> None:
    w = Words("en")
    e = {"value": 0.887, "low": 0.845, "high": 0.92, "n": 1300, "status": "ok"}
    assert w.estimate(e, "share") == "88.7\u202f% (84.5–92.0\u202f%, n\u202f=\u202f1,300)"
    assert w.estimate({**e, "low": -0.1, "high": 0.2}, "value", rows=False) == "0.887 (−0.100 to 0.200)"
    assert w.span(0.68, "inf", "share") == "≥\u202f68.0\u202f%"
    assert w.span("-inf", 0.3, "value") == "≤\u202f0.300"
    assert w.estimate({**e, "value": None, "status": "insufficient"}) == "too few rows"
    assert Words("zh").estimate(None) == "无数据"


def test_values_stay_values() -> None:
    w = Words("en")
    evil = "<b>{n}</b> **x** [[twin|y]]"
    assert w.html("page.subtitle", {"student": "tree", "id": name(evil), "teacher": "net"}).count("<b>") == 0
    assert "{n}" in w.html("page.subtitle", {"student": "tree", "id": name(evil), "teacher": "net"})
    assert not w.used
    assert isinstance(w.term("twin"), Markup)
    assert w.used == {"twin": 1}
    assert w.term("twin") == Markup("teacher&#39;s twin")


def test_mistakes_of_ours_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="no text 'nope'"):
        Words("en")("nope")
    with pytest.raises(RuntimeError, match="needs a value"):
        Words("en")("gate.at_least")
    with pytest.raises(InputError, match="Did you mean 'zh'"):
        Words("zhh")("verdict.pass")


# ── nothing of ours is worded in English only ───────────────────────────────────────────────────────────────────────
def kinds(module: str, pattern: str) -> set[str]:
    """The kinds that a module of ours gives its findings."""
    source = (Path(distillens.__file__).parent / module).read_text(encoding="utf-8")
    return set(re.findall(pattern, source))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_finding_has_words(language: str) -> None:
    texts = catalogue(language)
    audit = kinds("audit/findings.py", r'AuditFinding\([^)]*?,\s*"([a-z_]+)",\s*(?:values|\{)')
    audit |= {
        "overlap",
        "flips",
        "flips_worse",
        "slice",
        "boundary",
        "twin",
        "reasons_repeat_teacher",
        "reasons_repeat_student",
    }
    audit |= {f"miscalibrated_{way}" for way in ("extreme", "timid", "high", "low")} | {"background", "background_same"}
    assert {"alone_better", "alone_undecided", "alone_as_good", "direction", "population", "reasons_chance"} <= audit
    assert {f"found.{kind}" for kind in audit} <= set(texts)
    data = kinds("data/checks.py", r'Finding\(\s*"([a-z_]+)"')
    assert {"duplicate_rows", "leak", "imbalance", "class_absent"} <= data
    assert {f"found_in_data.{kind}" for kind in data} <= set(texts)
    assert {f"why.{r}" for r in get_args(Reason) if r != "not_assessable"} <= set(texts)
    left_out = {x["kind"] for x in not_assessed("binary", [], [], [])}
    assert {f"left_out.{kind}" for kind in left_out} | {f"left_out.{kind}.why" for kind in left_out} <= set(texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_explainer_is_a_term(language: str) -> None:
    texts = catalogue(language)
    assert {f"{part}.{name}" for name in EXPLAINERS for part in ("term", "define")} <= set(texts)

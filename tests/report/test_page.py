"""The HTML page: self-contained, escaped, complete, in one language."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from distillens.report.passport import write_passport
from distillens.report.sections import SECTIONS

FIXED = ("a very long name a very long name",)
VOID = {"wbr", "meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, and a check that every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.by_language: list[str] = []
        self._english = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [v for _, a in self.elements if (v := a.get("id")) is not None]


@pytest.fixture(scope="module")
def pages(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = Path(shutil.copytree(run_dir, tmp_path_factory.mktemp("pages") / "run"))
    en, zh, *_ = write_passport(run)
    return {"en": en.read_text(encoding="utf-8"), "zh": zh.read_text(encoding="utf-8")}


@pytest.fixture(params=["en", "zh"])
def html(request: pytest.FixtureRequest, pages: dict[str, str]) -> str:
    return pages[request.param]


def test_is_well_formed_and_small(html: str) -> None:
    page = Page(html)
    assert not page.open
    assert len(html.encode()) < 600_000


def test_hostile_names_are_text_and_nothing_else(html: str, hostile: tuple[str, ...]) -> None:
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert "img" not in tags
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("style") == 1
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    shown = "".join(page.text)
    assert all(name.split()[0] in shown for name in hostile)
    assert "{{ 7*7 }}" in shown
    assert "\u202e" in shown  # kept, but isolated from what stands around it
    assert "\u2068" in html


def test_loads_nothing(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.elements:
        for key in ("src", "href", "data", "action", "poster", "srcset", "xlink:href"):
            value = attributes.get(key)
            of_run = (
                tag == "a" and "download" in attributes and re.fullmatch(r"students/[^/:]+/points\.csv", value or "")
            )
            assert value is None or value.startswith("#") or of_run, (tag, key, value)
    css = re.search(r"<style>(.*?)</style>", html, re.S)
    assert css is not None
    assert "url(" not in css[1]
    assert "@import" not in css[1]
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert script is not None
    assert not re.search(r"fetch|XMLHttpRequest|import\(|innerHTML|eval", script[1])


def test_policy_forbids_everything_but_inline(html: str) -> None:
    metas = [a for tag, a in Page(html).elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert [a["content"] for a in metas] == [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    ]


def test_every_section_can_be_linked(html: str) -> None:
    page = Page(html)
    ids = page.ids
    assert len(ids) == len(set(ids))
    assert [i for i in ids if i in dict(SECTIONS)] == list(dict(SECTIONS))
    targets = {a["href"] for tag, a in page.elements if tag == "a" and "download" not in a}
    assert all(t is not None and t[1:] in ids for t in targets)
    described = {a["aria-describedby"] for _, a in page.elements if a.get("aria-describedby")}
    assert described <= set(ids)


def test_can_be_read_without_seeing(html: str) -> None:
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    assert {"main", "nav", "header", "footer"} <= set(tags)
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    figures = [a for tag, a in page.elements if tag == "svg" and a.get("aria-hidden") != "true"]
    assert figures
    assert all(a.get("role") == "img" and a.get("aria-label") for a in figures)
    tables = html.split("<table")[1:]
    assert all("<caption" in t.split("</table>")[0] for t in tables)
    assert all(a.get("scope") in {"row", "col", "rowgroup"} for tag, a in page.elements if tag == "th")


def test_terms_are_explained_once_at_first_use(html: str) -> None:
    tips = re.findall(r'id="tip-(\w+)"', html)
    assert len(tips) == len(set(tips)) >= 8
    listed = html.split('<ol class="terms">')[1].split("</ol>")[0].count("<li>")
    assert listed == len(tips)


def test_chinese_page_has_no_english_sentences_outside_marked_originals(
    pages: dict[str, str], hostile: tuple[str, ...]
) -> None:
    html = pages["zh"]
    html = re.sub(r"<(style|script|title)>.*?</\1>", "", html, flags=re.S)
    html = re.sub(r'<(span|q|ul|p) [^>]*lang="en".*?</\1>', "", html, flags=re.S)
    html = re.sub(r"<bdi.*?</bdi>|<code.*?</code>|<desc>.*?</desc>", "", html, flags=re.S)
    text = re.sub(r"<[^>]+>", "\n", html)  # figures too
    names = json.dumps([FIXED, *hostile], ensure_ascii=False)  # names and levels belong to whoever made the data
    found = re.findall(r"(?:\b[A-Za-z]{2,}[ ,]+){3,}[A-Za-z]{2,}", text)
    sentences = [sentence for sentence in found if sentence not in names]
    assert not sentences, sentences[:5]


def test_first_screen_says_the_numbers(pages: dict[str, str]) -> None:
    html = re.sub(r'<sup class="note">.*?</sup><span class="tip".*?</span>', "", pages["en"])
    shown = re.sub(r"[ \n]+", " ", "".join(Page(html).text))
    assert "3.2 of 4 main reasons" in shown
    assert "against another row with the same decision" in shown
    assert "3 of 5 gates fail or are undecided" in shown
    assert ("88.7\u202f%" in shown) or ("R² 0.887" in shown)
    assert "93.0\u202f%" in shown or "0.930" in shown


@pytest.mark.parametrize(
    ("student", "shown", "state"),
    [
        ("tree", ["credit amount ≤ 3914 or missing?", "88.0\u202f%", "decision tree"], "assessed"),
        ("line", ["Intercept", "+152", "linear model"], "assessed"),
        ("ebm", ["shape functions", "status of account × duration in months"], "assessed"),
        ("net", ["neural network", "5,000"], "partly assessed"),
    ],
)
def test_every_kind_of_student_can_be_read(
    run_dir: Path, tmp_path: Path, student: str, shown: list[str], state: str
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    shutil.rmtree(run / "stages")
    (run / "students" / "chosen.json").write_text(f'{{"chosen": "{student}", "by": "named in the recipe"}}')
    html = write_passport(run)[0].read_text(encoding="utf-8")
    section = html.split('<section id="readability"')[1].split("</section>")[0]
    text = "".join(Page(section).text)
    assert all(words in text for words in shown)
    assert state in text
    assert "the recipe names it" in html


def test_reviewers_find_bands_stability_and_directions(pages: dict[str, str]) -> None:
    shown = "".join(Page(pages["en"]).text)
    assert "Do these rows come from the population of development?" in shown
    assert "within what chance gives" in shown
    assert "Where both models decide alike for certain" in shown
    if "Who gets which score" in shown:  # two classes
        assert "It rises instead at 1 of 2 steps" in shown
        assert "At the decision threshold" in shown
        assert "the chance of bad must not fall as it grows" in shown
    for page in pages.values():
        assert "60.0" in page or "Who gets" not in page

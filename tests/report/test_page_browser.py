"""The page in a browser: no error, no request, light and dark, rows, terms, paper."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distillens.report.passport import write_passport
from distillens.report.sections import SECTIONS

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str | None:
    """A system Chromium (DISTILLENS_CHROMIUM, or on the path); None: the one that Playwright installed."""
    return os.environ.get("DISTILLENS_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, run_dir: Path, tmp_path: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    path = write_passport(run)[0]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("dialog", lambda d: (problems.append("dialog"), d.dismiss()))
    page.on("request", lambda r: requests.append(r.url))
    page.goto(path.as_uri())
    yield page, problems, requests
    page.close()


def test_no_error_no_request_everything_visible(opened: tuple[Any, list[str], list[str]]) -> None:
    page, problems, requests = opened
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert all(page.locator(f"#{section}").is_visible() for section, _ in SECTIONS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert problems == []
    assert all(url.startswith("file://") for url in requests)
    assert len(requests) == 1


def test_rows_can_be_walked_searched_and_linked(opened: tuple[Any, list[str], list[str]]) -> None:
    page, problems, _ = opened
    shown = page.locator("article.row:visible")
    assert shown.count() == 1
    first = shown.get_attribute("id")
    page.locator("button[name=next]").click()
    assert shown.get_attribute("id") != first
    page.locator("select[name=sort]").select_option("near")
    assert shown.get_attribute("id") == "row-160"
    page.locator("input[name=find]").fill("no such text anywhere")
    assert shown.count() == 0
    assert page.locator(".empty").is_visible()
    page.locator("input[name=find]").fill("")
    page.evaluate("location.hash = '#row-30'")
    page.wait_for_function("document.activeElement.id === 'row-30'")
    assert problems == []


def test_terms_open_by_keyboard_and_close_with_escape(opened: tuple[Any, list[str], list[str]]) -> None:
    page, _, _ = opened
    term = page.locator(".term").first
    tip = term.locator(".tip")
    assert not tip.is_visible()
    term.focus()
    assert tip.is_visible()
    page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_paper_unfolds_everything_and_numbers_pages(opened: tuple[Any, list[str], list[str]]) -> None:
    page, problems, _ = opened
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav.contents").is_visible()
    articles = page.locator("article.row")
    assert all(articles.nth(i).is_visible() for i in range(articles.count()))
    assert page.locator(".term .note").first.is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert len(page.pdf(prefer_css_page_size=True)) > 20_000
    assert problems == []

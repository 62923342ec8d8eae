"""What a passport says and shows of images, in both languages, whatever the classes are called."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distillens.data.pictures.sheet import png
from distillens.report.page import page
from distillens.report.passport import assemble

WORDS = {
    "en": ("28×20 pixels (height × width), 1 channel (grey)", "3 training images of the class <b>'x'\"</b>"),
    "zh": ("28×20 像素（高 × 宽），1 个通道（灰度）", "类别 <b>'x'\"</b> 的 3 幅训练图像"),
}
FINDINGS = [
    {"kind": "resized", "values": {"rows": 2, "n": 9, "height": 28, "width": 20, "cropped": 1}},
    {"kind": "duplicate_images", "values": {"part": "test", "rows": 1, "n": 9}},
    {"kind": "contradicted_images", "values": {"rows": 2, "n": 9}},
    {"kind": "constant_images", "values": {"rows": 2, "n": 9}},
    {"kind": "transparent", "values": {"rows": 2, "n": 9}},
    {"kind": "not_images", "values": {"rows": 2}},
]


@pytest.fixture(scope="module")
def pages(make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = make_run(tmp_path_factory.mktemp("images"), "multiclass")
    passport = assemble(run)
    picture = base64.b64encode(png(np.zeros((1, 4, 6), dtype=np.uint8))).decode()
    sheet = [{"class": "<b>'x'\"</b>", "count": 3, "png": picture}]
    passport["data"]["images"] = {"channels": 1, "height": 28, "width": 20, "sheet": sheet}
    passport["data"]["findings"] = [{"column": None, "text": "ONLY ENGLISH", "severity": "info"} | f for f in FINDINGS]
    return {language: page(passport, language=language) for language in WORDS}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_size_and_channels_stand_where_tables_have_features(pages: dict[str, str], language: str) -> None:
    assert WORDS[language][0] in pages[language]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_strip_is_inline_and_has_words_for_those_who_cannot_see_it(pages: dict[str, str], language: str) -> None:
    (tag,) = re.findall(r'<img src="data:image/png;base64,[^>]*>', pages[language])
    (alt,) = re.findall(r'alt="([^"]*)"', tag)
    assert html.unescape(alt).startswith(WORDS[language][1])
    assert "<b>'x'" not in pages[language]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_findings_about_images_are_in_the_language_of_the_page(pages: dict[str, str], language: str) -> None:
    assert "ONLY ENGLISH" not in pages[language]

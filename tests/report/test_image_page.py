"""The passport of a run on images: pictures and maps as they are in the record, words that fit, hostile names, both languages."""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.audit.audit import audit
from distillens.audit.reasons import picture_of
from distillens.data.base import Split
from distillens.data.images import Images
from distillens.explainers.explain import explain
from distillens.models.base import Output
from distillens.report import maps
from distillens.report.passport import assemble, write_passport
from distillens.report.words import Words
from distillens.transfer.saturation import saturation

CLASSES = ('"><img src=x onerror=alert(2)>', "a very long class " * 12, "cat 🐈 <script>alert(1)</script>")


@dataclass
class Linear:
    """Logits linear in the pixels: three classes, no training."""

    seed: int
    label: str = "linear"
    classes: tuple[str, ...] = CLASSES
    output: Output = "logits"
    fingerprint: str | None = None

    def __call__(self, inputs: Images) -> Any:
        weights = np.random.default_rng(self.seed).normal(size=(*inputs.shape, 3)) + np.random.default_rng(0).normal(
            size=(*inputs.shape, 3)
        )
        return np.einsum("nchw,chwk->nk", inputs.pixels / 255, weights)


def images(n: int, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 256, (n, 3, 9, 12), dtype=np.uint8), np.arange(n) + 1000 * seed)


ROWS = images(30)


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, Any], dict[str, Any]]:
    """The audit's JSON, and the explanations it was given."""
    teacher, student, background = Linear(1), Linear(2), images(6, seed=1)
    target = teacher(ROWS).argmax(axis=1)
    explanations = {
        role: explain(model, ROWS, method="kernel_shap", target=target, background=background, seed=0)
        for role, model in {"teacher": teacher, "student": student}.items()
    }
    labels = np.random.default_rng(3).integers(0, 3, 30)
    result = audit(teacher, student, ROWS, labels, explanations={"kernel_shap": explanations}, background=background, draws=100)  # fmt: skip
    return result.to_json(), explanations


@pytest.fixture(scope="module")
def run(
    made: tuple[dict[str, Any], Any], make_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run directory whose chosen student is a network for images."""
    root = make_run(tmp_path_factory.mktemp("images") / "run", "multiclass")
    shutil.rmtree(root / "stages")

    def change(path: str, **values: Any) -> None:
        file = root / path
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), encoding="utf-8")

    summary = {"count": 30, "channels": 3, "height": 9, "width": 12, "sheet": []}
    change(
        "data/dataset.json",
        classes=list(CLASSES),
        columns=[],
        images=summary,
        class_counts={"test": dict.fromkeys(CLASSES, 10)},
        roles={},
        findings=[],
    )
    epochs = [{"epoch": e, "train": 3.0 / e, "validation": abs(e - 3) + 0.25, "task": 1.0 / e, "kd": 4.0 / e} for e in range(1, 6)]  # fmt: skip
    change("teacher/teacher.json", kind="network", complexity={"parameters": 7_400_000, "size_bytes": 29_600_000}, history=epochs)  # fmt: skip
    change("students/net/student.json", history=epochs, described=None, readable=False,
           complexity={"parameters": 78_000, "size_bytes": 312_000})  # fmt: skip
    for other in ("ebm", "tree", "line"):
        shutil.rmtree(root / "students" / other)
    (root / "students" / "net" / "audit.json").write_text(json.dumps(made[0]), encoding="utf-8")
    export = {"file": "model.onnx", "inputs": [{"input": "pixels", "feature": "image 3×9×12", "dtype": "uint8"}]}
    change("students/net/export/export.json", **export, audit=made[0])
    (root / "students" / "chosen.json").write_text('{"chosen": "net", "by": "named in the recipe"}')
    return root


@pytest.fixture(scope="module")
def pages(run: Path) -> dict[str, str]:
    en, zh, *_ = write_passport(run)
    return {"en": en.read_text(encoding="utf-8"), "zh": zh.read_text(encoding="utf-8")}


def decoded(png: bytes) -> Any:
    """The (H, W, C) pixels of an 8-bit PNG without filters, read chunk by chunk."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(png):
        size = struct.unpack(">I", png[at : at + 4])[0]
        body = png[at + 4 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(body)
        chunks.append((body[:4], body[4:]))
        at += 12 + size
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour = struct.unpack(">IIBB", chunks[0][1][:10])
    channels = {0: 1, 2: 3}[colour]
    lines = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, 1 + width * channels)
    assert depth == 8
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, channels)


def cells(figure: str) -> list[str]:
    """What the patches say on hovering, in the order in which they are drawn."""
    return [html.unescape(t) for t in re.findall(r"<g><title>(row \d+ column \d+: [^<]*)</title>", figure)]


# ── the record ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_record_has_the_whole_maps_and_the_stored_pixels(made: tuple[dict[str, Any], Any]) -> None:
    reasons, explanations = made[0]["reasons"], made[1]
    assert (reasons["grid"], reasons["patch"], reasons["image"]) == ([5, 6], 2, [3, 9, 12])
    rows = [*reasons["worst_rows"], *reasons["random_rows"]]
    assert (len(reasons["worst_rows"]), len(reasons["random_rows"])) == (8, 4)
    assert len({row["row_id"] for row in rows}) == 12
    for row in rows:
        at = int(np.flatnonzero(row["row_id"] == ROWS.row_ids)[0])
        for role in ("teacher", "student"):
            assert row[role] == explanations[role].values[at].tolist()
        np.testing.assert_array_equal(
            decoded(base64.b64decode(row["picture"])), ROWS.pixels[at].transpose(1, 2, 0), strict=True
        )


def test_random_rows_are_no_selection_by_distance(made: tuple[dict[str, Any], Any]) -> None:
    reasons = made[0]["reasons"]
    worst = [row["distance"] for row in reasons["worst_rows"]]
    others = [row["distance"] for row in reasons["random_rows"]]
    assert worst == sorted(worst, reverse=True)
    assert max(others) <= min(worst)
    again = audit(Linear(1), Linear(2), ROWS, explanations={"kernel_shap": made[1]}, seed=1, draws=100).to_json()
    assert [r["row_id"] for r in again["reasons"]["worst_rows"]] == [r["row_id"] for r in reasons["worst_rows"]]
    assert [r["row_id"] for r in again["reasons"]["random_rows"]] != [r["row_id"] for r in reasons["random_rows"]]


def test_large_pictures_are_averaged_so_that_the_page_stays_small() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 131, 130), dtype=np.uint8)
    shown = decoded(base64.b64decode(picture_of(pixels)))
    assert shown.shape == (43, 43, 1)
    by_hand = [[pixels[0, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean() for j in range(43)] for i in range(43)]
    assert np.abs(shown[..., 0] - np.array(by_hand)).max() <= 0.5
    assert len(picture_of(np.random.default_rng(0).integers(0, 256, (3, 512, 512), dtype=np.uint8))) < 20_000


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_maps_on_the_page_are_the_numbers_of_the_record(
    pages: dict[str, str], made: tuple[dict[str, Any], Any]
) -> None:
    reasons, w = made[0]["reasons"], Words("en")
    figures = re.findall(r'<svg [^>]*class="fig patch-map".*?</svg>', pages["en"], re.S)
    rows = [*reasons["worst_rows"], *reasons["random_rows"]]
    assert len(figures) == 1 + len(rows)
    importance = reasons["importance"]
    names = [f"row {r + 1} column {c + 1}" for r in range(5) for c in range(6)]
    overall = cells(figures[0])
    assert overall[:30] == [f"{n}: {w.number(v)}" for n, v in zip(names, importance["teacher"], strict=True)]
    assert overall[30:60] == [f"{n}: {w.number(v)}" for n, v in zip(names, importance["student"], strict=True)]
    for figure, row in zip(figures[1:], rows, strict=True):
        expected = [row["teacher"], row["student"], [s - t for t, s in zip(row["teacher"], row["student"], strict=True)]]  # fmt: skip
        said = [f"{n}: {'+' if v > 0 else ''}{w.number(v, 3)}" for part in expected for n, v in zip(names, part, strict=True)]  # fmt: skip
        assert cells(figure) == said
        assert f'href="data:image/png;base64,{row["picture"]}"' in figure


def test_cells_tile_the_picture_also_where_the_last_are_cut(made: tuple[dict[str, Any], Any]) -> None:
    patches = maps.Patches.of(made[0]["reasons"])
    wide, high = patches.extent
    assert (wide, high) == pytest.approx((190, 190 * 9 / 12))
    boxes = [patches.cell(u) for u in range(30)]
    assert sum(w * h for _, _, w, h in boxes) == pytest.approx(wide * high)
    assert max(x + w for x, _, w, _ in boxes) == pytest.approx(wide)
    assert max(y + h for _, y, _, h in boxes) == pytest.approx(high)


def test_hostile_class_names_stay_text_and_nothing_is_loaded(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert len(page.encode()) < 1_000_000
        assert "<img src=x" not in page
        assert "<script>alert" not in page
        assert page.count("<script") == 1
        assert not re.search(r"<[^>]*\son\w+=", re.sub(r"<script>.*?</script>", "", page, flags=re.S))
        addresses = re.findall(r'\s(?:href|src)="([^"]*)"', page)
        assert addresses
        assert all(a.startswith(("#", "data:image/png;base64,")) for a in addresses)
        assert "cat 🐈" in page


def plain(page: str) -> str:
    page = re.sub(r"<(style|script)>.*?</\1>|<bdi.*?</bdi>|<code.*?</code>", "", page, flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", "\n", page))


def test_the_english_page_speaks_of_images_and_patches(pages: dict[str, str]) -> None:
    text = re.sub(r"row \d+ column \d+", "", plain(pages["en"]))
    wrong = [s.strip() for s in text.split("\n") if re.search(r"\b(rows?|features?)\b", s)]
    allowed = ("the rows are images", "records no feature maps", "no table, rule or curve")
    assert [s for s in wrong if not any(a in s for a in allowed)] == []
    assert "94.9 times fewer" in re.sub(r"\s", " ", text) or "95 times fewer" in text
    assert "drawn at random among the other explained images" in text
    assert "channels × height × width, 3×9×12" in text


def test_the_chinese_page_has_no_english_sentences(pages: dict[str, str]) -> None:
    page = re.sub(r'<(span|q|ul|p) [^>]*lang="en".*?</\1>', "", pages["zh"], flags=re.S)
    page = re.sub(r"<title>.*?</title>", lambda m: m[0] if "列" in m[0] else "", page, flags=re.S)
    assert "第 1 行第 2 列" in page
    found = [
        s
        for s in re.findall(r"(?:\b[A-Za-z]{2,}[ ,]+){3,}[A-Za-z]{2,}", plain(page))
        if s not in CLASSES[1] and "credit" not in s
    ]
    assert found == []


def test_every_figure_can_be_read_without_seeing_it(pages: dict[str, str]) -> None:
    figures = re.findall(r'<svg [^>]*class="fig (?:patch-map|learning)"[^>]*>', pages["en"])
    assert len(figures) >= 15
    assert all('role="img"' in f and 'aria-label="' in f for f in figures)
    first = re.search(r'<svg [^>]*class="fig patch-map"[^>]*aria-label="([^"]*)"', pages["en"])
    assert first is not None
    assert "Largest of the teacher: row" in first[1]
    table = re.search(r"<caption>Mean size of each patch.*?</table>", pages["en"], re.S)
    assert table is not None
    assert table[0].count("<tr>") == 31


def test_the_schema_wants_pictures_where_there_is_a_grid(run: Path) -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads((Path(assemble.__code__.co_filename).parent / "schema.json").read_text(encoding="utf-8"))
    passport = assemble(run)
    Draft202012Validator(schema).validate(passport)
    del passport["audits"]["net"]["reasons"]["random_rows"][0]["picture"]
    assert any(
        "'picture' is a required property" in str(e.context) for e in Draft202012Validator(schema).iter_errors(passport)
    )


# ── colours ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_shades_follow_the_size_and_the_sign() -> None:
    assert [maps.ink(v, 2.0) for v in (0, 0.1, 1.0, 1.99, 2.0)] == ["i0", "i0", "i4", "i8", "i8"]
    assert [maps.hue(v, 1.0) for v in (0, 0.04, -0.06, 0.5, 1.0, -1.0)] == ["z", "z", "n1", "p3", "p5", "n5"]


def test_steps_of_both_signs_grow_evenly_darker_in_grey() -> None:
    css = (Path(maps.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    shades = dict(re.findall(r"\.patch-map \.([pn]\d)\{--own:(#[0-9a-f]{6})\}", css.split("@media screen")[0]))
    assert set(shades) == {f"{s}{i}" for s in "pn" for i in range(1, 6)}

    def luminance(colour: str) -> float:
        r, g, b = ((int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for sign in "pn":
        steps = [luminance(shades[f"{sign}{i}"]) for i in range(1, 6)]
        assert all(b < 0.85 * a for a, b in itertools.pairwise(steps)), sign


# ── other words ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_saturated_teacher_of_images_is_not_told_to_use_query_rows() -> None:
    @dataclass
    class Sure(Linear):
        def __call__(self, inputs: Images) -> Any:
            known = inputs.row_ids < 1000
            return np.where(known[:, None], [[20.0, 0.0, 0.0]], [[0.1, 0.0, 0.0]])

    labels = np.zeros(30, dtype=np.int64)
    report = saturation(Sure(1), Split(ROWS, labels), Split(images(30, seed=1), labels), seed=0)
    assert report.saturated
    assert "views of each image (augment)" in report.text
    assert "query rows" not in report.text


def test_the_card_names_what_was_left_out_as_the_page_does(run: Path, pages: dict[str, str]) -> None:
    card = (run / "card.md").read_text(encoding="utf-8").split("## Not assessed")[1]
    assert "- certificate of equal decisions: certificates are for tables, and these are images" in card
    assert "- control: equal-information student: not given" in card
    assert "equal_information" not in card

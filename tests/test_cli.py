"""The command line where nothing is wrong: what goes to which stream, exit codes, what init writes, what check finds."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import rich.console

from distillens.cli.app import main
from distillens.cli.listing import SETS, describe, list_of
from distillens.cli.terminal import Lines, cost_words, label_of
from distillens.plain import clean, duration, interval
from distillens.progress import listening, task, time_left
from distillens.recipe import Recipe
from distillens.recipe.check import check
from distillens.recipe.text import parse_yaml

NAMES = [
    "a: b",
    "\"q'",
    "<script>alert(1)</script>",
    "年龄",
    "- x",
    "# y",
    "yes",
    "1",
    "no\nline",
    "true",
    "[z]",
    "{w}",
    "null",
    "a.b",
    "*p",
    "!!set",
]


def hostile(path: Path, *, classes: tuple[str, ...] | None) -> None:
    """A table with names that YAML, HTML and terminals could trip over."""
    import pandas as pd

    n = 90
    frame = pd.DataFrame({name: [(i * (j + 3)) % 17 + 0.5 for i in range(n)] for j, name in enumerate(NAMES)})
    frame["# y"] = ["p # q" if i % 3 else "'" for i in range(n)]
    frame["out come"] = [classes[i % len(classes)] if classes else i * 1.5 for i in range(n)]
    frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    "classes", [("yes", "no"), ("a: b", "c # d", "中文"), None], ids=["binary", "multiclass", "regression"]
)
def test_init_writes_a_recipe_that_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], classes: tuple[str, ...] | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    hostile(tmp_path / "data" / "host ile.csv", classes=classes)
    assert main(["init", "data/host ile.csv", "--target", "out come", "--out", "recipes/mine.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "distillens run recipes/mine.yaml" in printed
    text = (tmp_path / "recipes" / "mine.yaml").read_text(encoding="utf-8")
    assert "never runs" not in text
    raw = parse_yaml(text, what="t")
    assert raw["data"]["target"] == "out come"
    assert raw["data"]["source"] == "../data/host ile.csv"
    assert raw["name"] == "host-ile"
    for name in NAMES:
        assert clean(name).split()[0] in text
    if classes is None:
        assert raw["task"] == {"kind": "regression"}
    else:
        assert raw["task"]["kind"] == ("binary" if len(classes) == 2 else "multiclass")
    assert ("a guess" in text) == (classes == ("yes", "no"))
    assert raw["data"]["roles"]["audit_only"] == ["年龄"]
    assert main(["check", "recipes/mine.yaml"]) == 0, capsys.readouterr().err
    assert main(["init", "data/host ile.csv", "--target", "out come", "--out", "recipes/mine.yaml"]) == 2
    assert (tmp_path / "recipes" / "mine.yaml").read_text(encoding="utf-8") == text
    assert (
        main(["init", "data/host ile.csv", "--target", "out come", "--out", "recipes/mine.yaml", "--force", "--json"])
        == 0
    )


def test_check_says_what_a_run_would_use_and_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = check("german-credit")
    assert found.problems == []
    assert found.lines["data"].startswith("1,000 rows · 17 features")
    assert found.lines["task"] == "binary: bad, good (target creditability)"
    assert found.cost is not None
    without = check("german-credit", overrides=["controls=none"]).cost
    full = check("german-credit", overrides=["controls=full"]).cost
    assert without is not None
    assert full is not None
    assert without.controls == 0
    assert without.seconds == pytest.approx(found.cost.seconds - found.cost.controls)
    assert full.fits > found.cost.fits > without.fits
    more = check("german-credit", overrides=["explain.0.rows=200"]).cost
    assert more is not None
    assert more.seconds > found.cost.seconds
    assert not (tmp_path / "runs").exists()


def test_check_warns_of_a_budget_that_is_too_small() -> None:
    found = check("breast-cancer", overrides=["explain.0.budget=40"])
    assert found.problems == []
    assert any("fewer than 10 per feature" in warning for warning in found.warnings)


def test_check_knows_when_a_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    import distillens.recipe.check

    real = importlib.util.find_spec
    monkeypatch.setattr(distillens.recipe.check, "find_spec", lambda name: None if name == "interpret" else real(name))
    assert check("wine").problems == [
        "students.ebm (additive) needs the package interpret-core, which is not installed: pip install interpret-core"
    ]
    assert check("wine", overrides=["students={tree: {kind: tree}}"]).problems == []


def test_check_knows_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr("distillens.recipe.check.shutil.disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    (problem,) = check("wine").problems
    assert "MB are free" in problem


def test_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "wine", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["ok"] is True
    assert main(["check", "wine", "--json", "--set", "sed=1"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert found["problems"] == ["sed: unknown key. Did you mean 'seed'?"]


@pytest.mark.parametrize("what", sorted(SETS))
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert items
    assert all(item["text"] for item in items)
    assert main(["list", what, "--quiet"]) == 0
    assert capsys.readouterr().out.split() == [item["name"] for item in items]
    assert main(["list", what]) == 0
    assert all(item["name"] in (out := capsys.readouterr().out) or item["name"] in out for item in items[:1])


def test_descriptions_come_from_the_source() -> None:
    assert "Options: max_leaves, min_rows, monotone." in describe("distillens.students.tree:TreeStudent")
    assert dict(list_of("recipes"))["wine"] == Recipe.load("wine").title


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("distillens ")
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("run", "init", "check", "report", "list"))


# ── a run, with the pipeline replaced: streams, exit codes, what the observer is told ────────────────────────────────────
def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "status": "ok" if value is not None else "not_available"}


def finished_run(folder: Path, verdict: str) -> Any:
    from distillens.run import Run
    from distillens.store import write_json

    write_json(folder / "manifest.json", {"schema": 1})
    write_json(folder / "passport.json", {"verdict": verdict})
    write_json(folder / "students" / "chosen.json", {"chosen": "tree"})
    (folder / "passport.html").write_text("", encoding="utf-8")
    (folder / "students" / "tree" / "export").mkdir(parents=True, exist_ok=True)
    (folder / "students" / "tree" / "export" / "model.onnx").write_bytes(b"")
    agreement = {
        "name": "agreement",
        "estimate": estimate(0.887, 0.845, 0.92),
        "controls": {"twin": estimate(0.93)},
        "chance": None,
        "repeatability": None,
    }
    reasons = {"name": "top_k_overlap", "estimate": estimate(0.81, 0.7, 0.9), "controls": {}, "chance": estimate(0.44),
               "repeatability": {"teacher": estimate(0.92)}}  # fmt: skip
    gate = {
        "metric": "agreement",
        "bound": estimate(0.887, 0.845, 0.92),
        "limit": 0.88,
        "direction": ">=",
        "relative_to": "twin",
        "outcome": verdict,
    }
    write_json(folder / "students" / "tree" / "audit.json", {"metrics": [agreement, reasons], "gates": [gate]})
    return Run(folder)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    told: dict[str, Any] = {"verdict": "review"}

    def fake(recipe: Any, **options: Any) -> Any:
        told.update(options, recipe=recipe)
        observer = options["observer"]
        observer.estimated(70.0, 12.0, 22)
        observer.stage_started("data")
        with task("reading", total=2) as advance:
            advance(1)
        observer.stage_done("data", "178 rows [bold]", 0.123, False)
        observer.warning("Look\x1b[2J here.")
        observer.stage_done("explain/tree.kernel_shap", "kernel_shap of 60 rows", 75.0, True)
        run = finished_run(tmp_path / "out", told["verdict"])
        observer.finished(run)
        return run

    monkeypatch.setattr("distillens.pipeline.run", fake)
    return told


@pytest.mark.parametrize(
    ("verdict", "options", "code"),
    [
        ("pass", (), 0),
        ("review", (), 4),
        ("fail", (), 1),
        ("review", ("--strict",), 1),
        ("pass", ("--strict",), 0),
        ("fail", ("--exit-zero",), 0),
    ],
)
def test_exit_codes(pipeline: dict[str, Any], verdict: str, options: tuple[str, ...], code: int) -> None:
    pipeline["verdict"] = verdict
    assert main(["run", "wine", *options]) == code


def test_lines_go_to_stderr_and_the_verdict_to_stdout(
    pipeline: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "wine", "--seed", "7", "--resume", "--out", "here", "--set", "students.tree.max_leaves=3"])
    printed = capsys.readouterr()
    assert (pipeline["seed"], pipeline["resume"], pipeline["out"]) == (7, True, Path("here"))
    assert pipeline["recipe"].students["tree"]["max_leaves"] == 3
    lines = printed.err.splitlines()
    assert " ".join(lines.pop(0).split()).startswith("takes about 1 min 10 s on two quiet cores · up to 22 fits · 12 s")
    assert lines[0].split() == ["data", "178", "rows", "[bold]", "0.1", "s"]
    assert lines[1].split() == ["warning", "Look", "[2J", "here."]
    assert lines[2].split() == ["explain", "tree", "kernel_shap", "of", "60", "rows", "kept"]
    assert "\x1b" not in printed.err + printed.out
    out = printed.out
    assert "agreement 0.887 (0.845–0.92)  twin 0.93   reasons 0.81 (0.7–0.9)  shuffled 0.44  repeat 0.92" in out
    gate = next(line for line in out.splitlines() if line.startswith("agreement"))
    assert "agreement − twin's" in gate
    assert "≥ 0.88" in gate
    assert "tree, the chosen student" in out
    for path in ("out/passport.html", "out/passport.json", "out/students/tree/export/model.onnx"):
        assert path in out


def test_quiet_is_the_verdict_line_and_json_the_passport(
    pipeline: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "wine", "--quiet"])
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("REVIEW   agreement")
    assert printed.out.count("\n") == 1
    main(["run", "wine", "--json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    assert json.loads(printed.out) == {"verdict": "review"}


def test_code_in_a_recipe_needs_trust_before_anything_starts(
    pipeline: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    change = "students.tree.kind=distillens.students.tree:TreeStudent"
    assert main(["run", "wine", "--set", change]) == 2
    assert "--trust-code" in capsys.readouterr().err
    assert "recipe" not in pipeline
    assert main(["run", "wine", "--set", change, "--trust-code"]) == 4
    assert pipeline["trust_code"] is True


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────────────────
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal_are_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    lines = Lines(stream)
    assert isinstance(lines.console, rich.console.Console)
    with listening(lines), task("outer", total=3, unit="rows") as advance:
        with task("inner [red]", total=None) as more:
            more(2)
        advance(3)
        lines.stage_done("data", "done", 1.0, False)
    assert lines.progress is None
    assert "done" in stream.getvalue()


def test_a_stage_without_tasks_shows_that_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    lines = Lines(stream)
    with listening(lines):
        lines.stage_started("audit/ebm")
        with task("masked forwards", total=10, unit="coalitions") as advance:
            advance(4)
            assert [row.description for row in lines.progress.tasks] == ["audit ebm", "masked forwards"]
            lines.progress.refresh()
        lines.stage_done("audit/ebm", "done", 1.0, False)
    assert lines.progress is None
    assert "so far" in stream.getvalue()
    assert "4/10 coalitions" in stream.getvalue()
    lines.stage_started("export/ebm")  # and an error takes the row away
    lines.close()
    assert lines.progress is None
    assert lines.running == 0


def test_time_left_comes_from_the_pace_up_to_the_last_step() -> None:
    assert time_left(None, 0, 0.0, 12.0, "") == "12 s so far"
    assert time_left(10, 0, 0.0, 12.0, "folds") == "0/10 folds · 12 s so far"
    assert time_left(10, 4, 20.0, 20.0, "folds") == "4/10 folds · 30 s left"
    assert time_left(10, 4, 20.0, 30.0, "folds") == "4/10 folds · 20 s left"  # it counts down between two steps
    assert (
        time_left(10, 4, 20.0, 60.0, "folds") == "4/10 folds · 1 min 00 s so far"
    )  # and promises nothing it has broken


@pytest.mark.parametrize("width", [60, 100])
def test_long_summaries_go_on_below_themselves(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    lines = Lines(stream)
    text = "1,500 rows · 5 features · 1 audit-only · train 735 / validation 315 / test 450"
    lines.stage_done("data", text, 0.5, False)
    lines.stage_done("controls/net", "short", 75.0, False)
    printed = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stream.getvalue().splitlines()]
    assert all(len(line) <= width for line in printed)
    starts = [line for line in printed if not line.startswith(" " * 20)]
    assert [line.split()[0] for line in starts] == ["data", "controls"]
    first = " ".join(" ".join(line[20:].replace("0.5 s", "").strip() for line in printed).split())
    assert first.startswith(text)


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    Lines(stream).warning("x")
    assert "\x1b[33m" not in stream.getvalue()


def test_small_words() -> None:
    assert [duration(s) for s in (0.04, 9.94, 12, 185, 7800)] == ["0.0 s", "9.9 s", "12 s", "3 min 05 s", "2 h 10 min"]
    assert label_of("students/ebm") == "students ebm"
    assert interval({"value": None, "status": "not_available"}) == "not available"
    assert interval({"value": 0.01, "low": -0.02, "high": 0.04}) == "0.01 (-0.02 to 0.04)"
    assert cost_words(12, 0, 3) == "12 s on two quiet cores · up to 3 fits · without controls"
    assert interval({"value": 0.5, "low": None, "high": None}) == "0.5"
    assert clean("a\x1b[31m\u202eb\nc") == "a [31m b c"

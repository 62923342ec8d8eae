"""Thirty and more kinds of bad input: one clear sentence each on standard error, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillens.cli.app import main

ROWS = ["age,income,kind,group,day,negative,one,y"] + [
    f"{20 + i * 13 % 31},{(i * 37) % 11},{'ab'[i % 2]},{i % 7},2024-01-{i % 28 + 1:02d},-1,1,{'good' if (i * 7) % 3 else 'bad'}"
    for i in range(60)
]

RECIPE: dict[str, Any] = {
    "data": {"source": "table.csv", "target": "y", "roles": {"ignore": ["day", "negative", "one"]}},
    "teacher": {"kind": "linear"},
    "students": {"tree": {"kind": "tree"}},
    "explain": [{"kind": "kernel_shap", "budget": 64}],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("\n".join(ROWS) + "\n", encoding="utf-8")
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """The sentences of a command line that must be refused."""
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert "pydantic" not in printed.err
    first, *more = printed.err.strip().splitlines()
    assert first.startswith("error: ")
    return [line.removeprefix("  - ") for line in more] or [first.removeprefix("error: ")]


def test_the_recipe_itself_is_good(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "good.yaml"]) == 0, capsys.readouterr().err


# what is written to bad.yaml, and what has to be said
FILES: list[tuple[str, bytes, str]] = [
    ("broken YAML", b"data: [", "not valid YAML"),
    ("a tab", b"data:\n\tsource: x", "line 2"),
    ("duplicate key", b"seed: 1\nseed: 2", "appears twice"),
    ("python tag", b"seed: !!python/object/apply:os.getcwd []", "never runs code"),
    ("alias bomb", b"a: &a [x]\nb: &b [*a, *a]", "anchor or alias"),
    ("deep nesting", b"[" * 3000, "nested too deeply"),
    ("binary", bytes(range(128, 256)), "not UTF-8"),
    ("empty", b"", "expected a mapping"),
    ("a list", b"- 1", "expected a mapping"),
    ("huge", b"#" * 2_000_000, "at most"),
]

# --set texts on a good recipe, and what has to be said
SETS: list[tuple[str, str]] = [
    ("sed=1", "Did you mean 'seed'"),
    ("data.sorce=x", "Did you mean 'source'"),
    ("seed", "write --set key.sub=value"),
    ("explain.7.budget=1", "there is no number 7"),
    ("students.tree.kind=tre", "there is no student 'tre'"),
    ("teacher.kind=boosted_tree", "Did you mean 'boosted_trees'"),
    ("explain.0.kind=kernal_shap", "Did you mean 'kernel_shap'"),
    ("export=[onx]", "Did you mean 'onnx'"),
    ("students.tree.max_leavs=8", "Did you mean 'max_leaves'"),
    ("students.tree.max_leaves=many", "expected a whole number"),
    ("students.tree.max_leaves=1", "at least 2"),
    ("students.tree={kind: tree, monotone: {age: 2}}", "+1 (rising)"),
    ("students.tree.monotone={agee: 1}", "Did you mean 'age'"),
    ("students.tree.monotone={kind: 1}", "categorical"),
    ("students.tree.monotone={day: 1}", "no model sees"),
    ("explain.0.budget=-5", "budget"),
    ("task.threshold=2", "below 1"),
    ("task.adverse=bda", "Did you mean 'bad'"),
    ("task={kind: regression}", "task"),
    ("data.target=yy", "data.target: there is no column 'yy'"),
    ("data.roles={audit_onl: [age]}", "Did you mean 'audit_only'"),
    ("data.roles={audit_only: [agee]}", "Did you mean 'age'"),
    ("data.roles={audit_only: [age], id: [age]}", "two roles"),
    ("data.roles={weight: kind}", "must hold numbers"),
    ("data.split={test: 0}", "above 0"),
    ("data.split={test: 0.9, validation: 1.5}", "below 1"),
    ("data.split={group: gruop}", "Did you mean 'group'"),
    ("data.split={group: group, column: kind}", "one thing"),
    ("data.split={column: kind}", "data:"),
    ("data.source=null", "data.source: this key is required"),
    ("data.target=null", "data.target: this key is required"),
    ("data=null", "data"),
    ("data.roles={weight: negative}", "at least 0"),
    ("data.roles={group: one}", "at least 3 groups"),
    ("data.split={time: kind}", "dates like"),
    ("data={source: table.csv, target: y, split: {time: one}}", "same value"),
    ("data.source=folder.csv", "is a folder"),
    ("data={source: nested.parquet, target: y}", "one cell must be one value"),
    ("seed=-1", "at least 0"),
    ("seed=1.5", "a whole number"),
    ("seed=1099511627776", "seed"),
    ("seed=[", "not valid YAML"),
    ("=3", "write --set key.sub=value"),
    ("a..b=3", "write --set key.sub=value"),
    ("data.source=nowhere.csv", "There is no file nowhere.csv"),
    ("data.source=tabel.csv", "Did you mean 'table.csv'"),
    ("data.source=package.module:function", "--trust-code"),
    ("students.tree.kind=package.module:Name", "--trust-code"),
    ("teacher={use: package.module:Name}", "--trust-code"),
    ("chosen=ebm", "there is no student 'ebm'"),
    ("report.languages=[fr]", '"fr" is not known'),
    ("controls=all", "controls:"),
    ("audit.gates=strict", "there is no profile 'strict'"),
    ("audit.slices=[agee]", "Did you mean 'age'"),
    ("explain=[{kind: exact_shapley, budget: 4}]", "more than the budget"),
    ("explain.0.groups={g: [agee]}", "Did you mean 'age'"),
    ("students.tree={kind: network, objectives: [{kind: kdd}]}", "Did you mean 'kd'"),
]

# contents of table.csv, and what has to be said
TABLES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "is empty"),
    ("header only", b"age,y\n", "no rows"),
    ("one row", b"age,y\n1,good\n", "data:"),
    ("binary", bytes(range(256)) * 20, "not a text file in UTF-8"),
    ("PNG", b"\x89PNG\r\n\x1a\n\x00\x00", "not a text file in UTF-8"),
    ("Latin-1", "age,y\n1,ä\n".encode("latin-1"), "not valid UTF-8"),
    ("NUL bytes", b"age,y\n1,go\x00od\n", "line 2: a NUL character"),
    ("UTF-16 without its mark", "age,y\n1,good\n".encode("utf-16-le"), "not a text file in UTF-8"),
    ("Parquet with the wrong ending", b"PAR1\x15\x04", "give it the ending .parquet"),
    ("an open quotation mark", b'age,y\n1,"good\n' * 9, "quotation mark not closed"),
    ("a huge cell", b"age,y\n1," + b"x" * 200_000 + b"\n", "a cell of more than"),
    ("nothing but the target", b"y\ngood\nbad\n" * 20, "No features are left"),
    ("features without a value", b"age,y\n" + b",good\n,bad\n" * 20, "'age' is empty"),
    ("constant features", b"age,y\n" + b"3,good\n3,bad\n" * 20, "'age' has one value"),
    (
        "numbers beyond float32",
        b"age,y\n" + b"".join(b"%de200,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(40)),
        "rescale",
    ),
    ("a thousand classes", b"age,y\n" + b"".join(b"%d,k%d\n" % (i, i) for i in range(1000)), "'k0' has 1 row"),
    ("ragged", b"age,y\n1,2,3\n", "expected 2 fields"),
    ("same name twice", b"age,age,y\n1,2,3\n", "more than once"),
    ("missing labels everywhere", b"age,income,day,y\n" + b"1,2,3,\n" * 40, "data:"),
    (
        "constant target",
        b"age,income,day,y\n" + b"".join(b"%d,%d,3,good\n" % (i, i * i % 7) for i in range(40)),
        "data:",
    ),
    (
        "a class with one row",
        b"age,income,day,y\n" + b"".join(b"%d,%d,3,%s\n" % (i, i * i % 7, b"bad" if i else b"odd") for i in range(40)),
        "'odd'",
    ),
    (
        "infinite numbers",
        b"age,income,day,y\n" + b"".join(b"%d,inf,3,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(40)),
        "infinite",
    ),
]


@pytest.mark.parametrize(("content", "said"), [(c, s) for _, c, s in FILES], ids=[n for n, _, _ in FILES])
@pytest.mark.parametrize("command", ["check", "run"])
def test_files_that_are_no_recipes(
    place: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes, said: str
) -> None:
    (place / "bad.yaml").write_bytes(content)
    (sentence,) = refused(capsys, command, "bad.yaml")
    assert said in sentence
    assert not (place / "runs").exists()


@pytest.mark.parametrize(("change", "said"), SETS, ids=[c for c, _ in SETS])
def test_values_that_do_not_fit(place: Path, capsys: pytest.CaptureFixture[str], change: str, said: str) -> None:
    if "folder.csv" in change:
        (place / "folder.csv").mkdir()
    if "nested.parquet" in change:
        import pandas as pd

        pd.DataFrame({"age": [[1, 2], [3]] * 30, "y": ["good", "bad"] * 30}).to_parquet(place / "nested.parquet")
    sentences = refused(capsys, "check", "good.yaml", "--set", change)
    assert any(said in sentence for sentence in sentences), sentences


@pytest.mark.parametrize(("content", "said"), [(c, s) for _, c, s in TABLES], ids=[n for n, _, _ in TABLES])
def test_tables_that_cannot_be_used(place: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str) -> None:
    (place / "table.csv").write_bytes(content)
    (sentence,) = refused(capsys, "check", "good.yaml", "--set", "data.roles={}")
    assert said in sentence
    assert (place / "table.csv").read_bytes() == content


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("run", "nothing"), "neither a file nor built in"),
        (("run", "win"), "Did you mean 'wine'"),
        (("run", "sub/none.yaml"), "no such file"),
        (("run", "."), "is a folder"),
        (("check", "table.csv"), "table.csv"),
        (("list", "student"), "Did you mean 'students'"),
        (("list",), "Missing argument"),
        (("walk",), "No such command"),
        (("run", "wine", "--sed", "1"), "No such option"),
        (("run", "wine", "--seed", "x"), "--seed"),
        (("run", "wine", "--seed", "-1"), "--seed"),
        (("report", "nowhere"), "does not exist"),
        (("report", "."), "not a run"),
        (("init", "nowhere.csv", "--target", "y"), "There is no file"),
        (("init", "table.csv", "--target", "yy"), "Did you mean 'y'"),
        (("init", "table.csv"), "--target"),
        (("init", "table.csv", "--target", "y", "--out", "good.yaml"), "already exists"),
        (("init", "table.csv", "--target", "y", "--out", "."), "is a folder"),
        (("init", "table.csv", "--target", "y", "--out", "table.csv/recipe.yaml"), "Cannot write"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_command_lines_that_cannot_be_followed(
    place: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str
) -> None:
    before = {path: path.read_bytes() for path in place.iterdir() if path.is_file()}
    sentences = refused(capsys, *argv)
    assert any(said in sentence for sentence in sentences), sentences
    assert {path: path.read_bytes() for path in place.iterdir() if path.is_file()} == before


def test_a_run_needs_a_source(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sentence,) = refused(capsys, "run", "good.yaml", "--set", "data.source=null")
    assert sentence.startswith("data.source: this key is required")
    assert not (place / "runs").exists()


def test_a_recipe_is_not_sketched_for_a_table_that_nothing_can_be_learnt_from(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "alone.csv").write_text("y\n" + "a\nb\n" * 30, encoding="utf-8")
    (sentence,) = refused(capsys, "init", "alone.csv", "--target", "y")
    assert "no column to learn from" in sentence
    (place / "empty.csv").write_text("x,z,y\n" + ",1,a\n,1,b\n" * 30, encoding="utf-8")
    (sentence,) = refused(capsys, "init", "empty.csv", "--target", "y")
    assert "'x' (" in sentence
    assert not (place / "recipe.yaml").exists()


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name")
def test_a_pipe_is_not_waited_for(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(place / "pipe.csv")
    (sentence,) = refused(capsys, "init", "pipe.csv", "--target", "y")
    assert "a pipe or a device" in sentence


def test_a_gigabyte_of_nothing_is_refused_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "zeros.csv").open("wb") as stream:
        stream.truncate(8 << 30)  # more than would fit into the memory of a small machine
    (sentence,) = refused(capsys, "init", "zeros.csv", "--target", "y")
    assert "NUL" in sentence


def test_a_run_that_ended_before_its_first_stage_is_not_in_the_way(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (place / "table.csv").read_bytes()
    (place / "table.csv").write_bytes(good.replace(b",bad", b",good"))
    for _ in range(2):
        (sentence,) = refused(capsys, "run", "good.yaml", "--out", "run")
        assert "already holds" not in sentence
    assert (place / "run" / "manifest.json").exists()
    assert main(["check", "good.yaml", "--out", "run", "--set", "data.source=other.csv"]) == 2
    assert "already holds" not in capsys.readouterr().err


def test_places_that_cannot_hold_a_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "full").mkdir()
    (place / "full" / "letter.txt").write_text("dear", encoding="utf-8")
    for out, said in (
        ("table.csv", "is a file"),
        ("table.csv/below", "is a file"),
        ("full", "not empty and not a run"),
    ):
        (sentence,) = refused(capsys, "check", "good.yaml", "--out", out)
        assert said in sentence
    for out in ("table.csv", "full"):
        refused(capsys, "run", "good.yaml", "--out", out)
    assert (place / "full" / "letter.txt").read_text(encoding="utf-8") == "dear"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_the_right_to_write(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "locked").mkdir(mode=0o500)
    (sentence,) = refused(capsys, "check", "good.yaml", "--out", "locked/run")
    assert "cannot be written to" in sentence


def damaged_manifest(run: Path) -> None:
    (run / "manifest.json").write_text("{", encoding="utf-8")


def damaged_recipe(run: Path) -> None:
    (run / "manifest.json").write_text('{"schema": 1, "name": "x"}', encoding="utf-8")
    (run / "recipe.yaml").write_text("a: [", encoding="utf-8")


def nothing_inside(run: Path) -> None:
    (run / "manifest.json").write_text('{"schema": 1}', encoding="utf-8")
    (run / "recipe.yaml").write_text("{}", encoding="utf-8")


def odd_languages(run: Path) -> None:
    (run / "manifest.json").write_text('{"schema": 1}', encoding="utf-8")
    (run / "recipe.yaml").write_text("report: {languages: 5}", encoding="utf-8")


def odd_report(run: Path) -> None:
    (run / "manifest.json").write_text("[]", encoding="utf-8")
    (run / "recipe.yaml").write_text("report: []", encoding="utf-8")


@pytest.mark.parametrize("damage", [damaged_manifest, damaged_recipe, nothing_inside, odd_languages, odd_report])
def test_damaged_run_directories(
    place: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    run = place / "run"
    run.mkdir()
    damage(run)
    assert refused(capsys, "report", "run")


def test_all_problems_come_at_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = refused(
        capsys,
        "check",
        "good.yaml",
        "--out",
        "table.csv",
        "--set",
        "data.roles={id: [agee], audit_only: [incom]}",
        "--set",
        "data.target=z",
    )
    assert len(sentences) == 4
    sentences = refused(
        capsys,
        "check",
        "good.yaml",
        "--set",
        "task.adverse=x",
        "--set",
        "students.tree.monotone={q: 1}",
        "--out",
        "table.csv",
    )
    assert len(sentences) == 3


def test_debug_adds_the_traceback_and_keeps_the_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nothing", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_is_one_sentence_too(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("distillens.recipe.check.check", burst)
    assert main(["check", "wine"]) == 3
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "ZeroDivisionError: by zero" in printed
    assert "--debug" in printed
    assert main(["check", "wine", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("distillens.pipeline.run", stop)
    assert main(["run", "my wine.yaml", "--set", "data.source=my table.csv"]) == 2
    capsys.readouterr()
    assert main(["run", "wine", "--set", "report.languages=[en, zh]"]) == 130
    said = capsys.readouterr().err
    assert "distillens run wine --set 'report.languages=[en, zh]' --resume" in said
    assert main(["run", "wine", "--resume"]) == 130
    assert capsys.readouterr().err.count("--resume") == 1
    monkeypatch.setattr("distillens.recipe.check.check", stop)
    assert main(["check", "wine"]) == 130
    assert "--resume" not in capsys.readouterr().err


def test_names_from_data_cannot_steer_the_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "table.csv").write_text(
        "a\x1b[31mred,y\n" + "".join(f"{i},{'pq'[i % 2]}\n" for i in range(40)), encoding="utf-8"
    )
    sentences = refused(capsys, "check", "good.yaml", "--set", "data.target=z", "--set", "data.roles={}")
    assert not any("\x1b" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("students.tree.monotone={kind: 1}", "students.tree.monotone.kind: the feature is categorical"),
        ("audit.slices=[age]", "no audit-only column 'age'"),
        (
            "explain=[{kind: kernel_shap, budget: 64, background: {from: file, file: other.csv}}]",
            "explain.0.background.file: other.csv cannot be a background",
        ),
    ],
)
def test_what_the_data_show_to_be_wrong_is_said_before_anything_is_trained(
    place: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    (place / "other.csv").write_text("age\n1\n2\n", encoding="utf-8")
    (sentence,) = refused(capsys, "run", "good.yaml", "--quiet", "--out", "run", "--set", change)
    assert said in sentence
    assert not (place / "run" / "stages" / "teacher.json").exists()
    (sentence,) = refused(capsys, "check", "good.yaml", "--set", change)
    assert said in sentence

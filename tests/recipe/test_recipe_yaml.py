"""Recipes as text: only plain values come in, everything that goes out reads back, `--set` lands where it should."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillens.errors import RecipeError
from distillens.recipe.text import (
    LARGEST_FILE,
    apply_overrides,
    dump_yaml,
    parse_yaml,
    plain,
    read_yaml,
    scalar_yaml,
    split_key,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | text
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)


def test_core_values_and_nothing_cleverer() -> None:
    written = "a: yes\nb: 007\nc: 1e-3\nd: +1\ne: 2025-07-01\nf: [1, .5, ~, true]\ng: 12:30:00\n1: x\n<<: {y: 1}"
    assert parse_yaml(written, what="t") == {
        "a": "yes", "b": "007", "c": 0.001, "d": 1, "e": "2025-07-01", "f": [1, 0.5, None, True], "g": "12:30:00", "1": "x", "<<": {"y": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a: 1\na: 2", "line 2, column 1: the key 'a' appears twice"),
        ("a: !!python/object/apply:os.system [true]", "the tag '!!python/object/apply:os.system' is not allowed"),
        ("a: !!python/name:os.system", "never runs code"),
        ("a: !mine 1", "the tag '!mine' is not allowed"),
        ("a: &x [1]\nb: [*x, *x]", "anchor or alias 'x'"),
        ("a: *x", "anchor or alias 'x'"),
        ("a: [", "not valid YAML"),
        ("a: b: c", "line 1, column 5"),
        ("[" * 5000, "nested too deeply"),
        ("? [1]\n: 2", "is not text"),
        ("--- 1\n--- 2", "not valid YAML"),
        ("a: " + "9" * 5000, "not a number"),
        ('"\\U00110000"', "not valid YAML"),
        ("!!bool [x]", "not valid YAML"),
        ("!!map [x]", "expected a mapping"),
        ("!!int abc", "not a number"),
        ("a: \x07", "not valid YAML"),
    ],
)
def test_refused_in_one_sentence(written: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_yaml(written, what="r.yaml")
    (problem,) = caught.value.problems
    assert problem.startswith("r.yaml")
    assert said in problem
    assert "\n" not in problem


def test_a_tag_runs_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    for tag in ("python/object/apply:os.mkdir", "python/object/new:os.mkdir"):
        with pytest.raises(RecipeError):
            parse_yaml(f"a: !!{tag} ['{witness}']", what="r")
    assert not witness.exists()
    assert "antigravity" not in sys.modules
    with pytest.raises(RecipeError):
        parse_yaml("a: !!python/module:antigravity", what="r")
    assert "antigravity" not in sys.modules


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text("#" * (LARGEST_FILE + 1))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01" * 10)
    for name, said in (
        ("big.yaml", "at most"),
        ("binary.yaml", "not UTF-8"),
        ("none.yaml", "cannot be read"),
        (".", "is a folder"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(RecipeError, match=said):
            read_yaml(Path(os.path.join(tmp_path, name)))


@given(values)
@settings(max_examples=150, deadline=None)
def test_whatever_goes_out_reads_back(value: object) -> None:
    problems: list[str] = []
    assert plain(value, "", problems) == value
    assert problems == []
    assert parse_yaml(dump_yaml(value), what="t") == value


@given(scalars)
@settings(max_examples=300, deadline=None)
def test_one_value_on_one_line_reads_back_anywhere(value: str | float | bool | None) -> None:
    line = scalar_yaml(value)
    assert len(line.splitlines()) <= 1
    assert parse_yaml(f"k: {line}  # comment", what="t") == {"k": value}
    assert parse_yaml(f"[{line}, 1]", what="t") == [value, 1]
    if isinstance(value, str):
        assert parse_yaml(f"{{{line}: 1}}", what="t") == {value: 1}


def test_set_changes_values_in_place() -> None:
    raw = {"a": {"b": [1, 2]}, "n": None}
    assert (
        apply_overrides(
            raw, ["a.b.0=7", "a.b[1]=[x, y]", "a.b.2=new", "a.c.d=1e-3", 'a."q.r"=yes', "n.x={k: +1}", "z="]
        )
        == []
    )
    assert raw == {"a": {"b": [7, ["x", "y"], "new"], "c": {"d": 0.001}, "q.r": "yes"}, "n": {"x": {"k": 1}}, "z": None}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("a.b", "write --set key.sub=value"),
        ("=1", "write --set"),
        ("a..b=1", "write --set"),
        ("a.b.9=1", "there is no number 9"),
        ("a.b.x=1", "is a list"),
        ("a.b.0.c=1", "has no keys"),
        ("a=[", "not valid YAML"),
        ("a=!!python/name:os.system", "not allowed"),
        ("a=.nan", "finite"),
    ],
)
def test_set_that_cannot_be_followed(override: str, said: str) -> None:
    raw = {"a": {"b": [1]}}
    (problem,) = apply_overrides(raw, [override])
    assert said in problem
    assert raw["a"] == {"b": [1]} or override.startswith("a=.nan")


def test_keys_are_split_at_dots_outside_quotes() -> None:
    assert split_key('students.ebm.monotone."a.b"') == ["students", "ebm", "monotone", "a.b"]
    assert split_key("explain[0].budget") == ["explain", "0", "budget"]
    assert split_key("a.") is None


def test_what_is_not_plain_is_named_with_its_place() -> None:
    problems: list[str] = []
    plain({"a": [object(), float("nan"), 2**70, "\ud800"]}, "", problems)
    assert [p.split(":")[0] for p in problems] == ["a.0", "a.1", "a.2", "a.3"]
    deep: list[object] = []
    deep.append(deep)
    problems = []
    plain(deep, "x", problems)
    assert "nested too deeply" in problems[0]

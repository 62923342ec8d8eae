"""Recipes about images: the data block, the check and what `run` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.errors import RecipeError
from distillens.recipe import Recipe
from distillens.recipe.check import check

NET = {"kind": "network", "model": {"kind": "resnet", "depth": 8}, "epochs": 1}
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)


def recipe(data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"data": data, "teacher": NET, "students": {"net": NET}, **more}


def arrays(tmp_path: Path) -> Path:
    np.savez(tmp_path / "some.npz", pixels=PIXELS, labels=np.arange(60) % 3)
    return tmp_path / "some.npz"


@pytest.mark.parametrize("source", ["digits", "fashion-mnist", "pictures", "some/folder", "some.npz"])
def test_a_target_is_not_needed_and_shares_are_left_to_the_source(source: str) -> None:
    loaded = Recipe.load(recipe({"source": source}))
    assert (loaded.data.target, loaded.data.split) == ("class", {})
    assert Recipe.load(recipe({"source": source, "target": "kind"})).data.target == "kind"
    assert Recipe.load(recipe({"source": "wine"})).data.split == {"test": 0.3, "validation": 0.3}


@pytest.mark.parametrize("size", [32, [28, 20]])
def test_size_and_limit_read_back(size: Any) -> None:
    loaded = Recipe.load(recipe({"source": "digits", "size": size, "limit": {"train": 500}}))
    assert loaded.data.limit is not None
    assert loaded.data.limit.train == 500
    again = Recipe.load(__import__("yaml").safe_load(loaded.to_yaml()))
    assert again.to_yaml() == loaded.to_yaml()
    assert again.data.size == (size if isinstance(size, int) else tuple(size))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"source": "digits", "siez": 8}, "Did you mean 'size'"),
        ({"source": "digits", "limit": {"trian": 8}}, "Did you mean 'train'"),
        ({"source": "digits", "size": 0}, r"data\.size"),
        ({"source": "digits", "size": [1, 2, 3]}, r"data\.size"),
        ({"source": "digits", "limit": {"train": 0}}, r"data\.limit\.train"),
    ],
)
def test_a_wrong_option_is_named(data: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe.load(recipe(data))


def test_the_check_says_what_the_images_are(tmp_path: Path) -> None:
    checked = check(recipe({"source": str(arrays(tmp_path))}), out=tmp_path / "run")
    assert checked.problems == []
    assert checked.lines["data"] == "60 rows · images of 8×8 pixels, 1 channel · train 29 / validation 13 / test 18"
    assert checked.cost is not None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"students": {"tree": {"kind": "tree"}}}, "students.tree: tree reads tables, and the data are images"),
        ({"teacher": {"kind": "boosted_trees"}}, "teacher: boosted_trees reads tables"),
        ({"students": {"net": {"kind": "network"}}}, "students.net.model: a multilayer perceptron reads tables"),
        ({"explain": [{"kind": "lime"}]}, "explain.0: lime explains tables"),
        ({"audit": {"slices": ["age"]}}, "audit.slices: images have no columns"),
        ({"frontier": {}}, "frontier: its families read tables"),
    ],
)
def test_the_check_names_what_reads_tables_only(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    checked = check(recipe({"source": str(arrays(tmp_path))}) | more, out=tmp_path / "run")
    assert any(problem.startswith(says) for problem in checked.problems), checked.problems


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"source": "nowhere"}, "no built-in data of that name"),
        ({"source": "digits", "roles": {"id": ["a"]}}, "no roles"),
        ({"source": "digits", "split": {"group": "a"}}, "cannot be split by group"),
        ({"source": "digits", "limit": {"train": 3}}, "less than one row for each of the 10 classes"),
        ({"source": "wine", "target": "cultivar", "size": 8}, "size is for images"),
    ],
)
def test_the_check_reports_data_that_cannot_be_used(data: dict[str, Any], says: str) -> None:
    assert any(says in problem for problem in check(recipe(data)).problems)


def test_fashion_mnist_that_is_not_there_is_one_sentence_with_the_package(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    (problem,) = check("fashion-mnist", out=tmp_path / "run").problems
    assert "dataset-fashion-mnist" in problem

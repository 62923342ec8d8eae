"""`distillens init` for images: the recipe loads, fits the images, and says what is a guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distillens.cli.app import main
from distillens.errors import DataError
from distillens.recipe import Recipe
from distillens.recipe.check import check
from distillens.recipe.sketch import write_recipe

RNG = np.random.default_rng(0)


def test_digits_are_not_mirrored_and_the_recipe_can_be_run(tmp_path: Path) -> None:
    out = tmp_path / "r.yaml"
    assert main(["init", "digits", "--target", "digit", "--out", str(out)]) == 0
    recipe = Recipe.load(out)
    assert recipe.data.source == "digits"
    assert recipe.data.target == "digit"
    assert recipe.students["small"]["augment"] == {"crop": 1, "flip": False, "colour": 0.0, "erase": 0.0, "views": 4}
    assert check(out, out=tmp_path / "run").problems == []


def test_a_table_still_needs_a_target(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="--target COLUMN"):
        write_recipe(str(tmp_path / "t.csv"), out=tmp_path / "r.yaml")


@pytest.mark.parametrize(("side", "size"), [(12, None), (200, 64)])
def test_large_images_get_a_size_and_any_class_name_is_a_comment(tmp_path: Path, side: int, size: int | None) -> None:
    names = ["<script>", "a: [b] # \n c", "坏"]
    file = tmp_path / "图 'x'.npz"
    pixels = RNG.integers(0, 256, (24, side, side, 3), dtype=np.uint8)
    np.savez(file, pixels=pixels, labels=np.arange(24) % 3, classes=names)
    write_recipe(str(file), out=tmp_path / "r.yaml")
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert recipe.data.size == size
    assert recipe.data.limit is None
    if size is None:  # resizing needs Pillow
        assert check(recipe, out=tmp_path / "run").problems == []


def test_two_classes_get_an_adverse_one_and_a_test_set_no_share(tmp_path: Path) -> None:
    file = tmp_path / "two.npz"
    part = ["train"] * 30 + ["test"] * 10
    np.savez(
        file,
        pixels=RNG.integers(0, 256, (40, 8, 8), dtype=np.uint8),
        labels=np.arange(40) % 2,
        classes=["benign", "malignant"],
        part=part,
    )
    write_recipe(str(file), out=tmp_path / "r.yaml")
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert (recipe.task.adverse, recipe.task.threshold) == ("malignant", 0.5)
    assert recipe.data.split == {"validation": 0.1}
    assert check(recipe, out=tmp_path / "run").problems == []

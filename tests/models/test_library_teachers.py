"""A network of a library as teacher of one of ours, by a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillens.models.store import load_model
from distillens.pipeline import run
from distillens.recipe import Recipe
from distillens.store import read_json

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "timm-to-resnet.yaml"


@pytest.mark.usefixtures("vision")
@pytest.mark.filterwarnings("ignore::distillens.errors.DistillensWarning")
def test_a_transformer_of_timm_teaches_a_resnet_through_its_layers(tmp_path: Path) -> None:
    tiny = ["controls=none", "explain.0.budget=40", "explain.0.rows=2", "explain.0.background.rows=2", "audit.repeatability=false",
            "data.limit.train=200", "teacher.epochs=2", "students.cnn.epochs=2", "students.cnn.objectives.0.weight=1.0", "export=[]"]  # fmt: skip
    run(Recipe.load(RECIPE, overrides=tiny), out=tmp_path / "run")
    matching = read_json(tmp_path / "run" / "students" / "cnn" / "matching.json")
    assert [layer["tap"] for layer in matching["student"]] == [f"stages.{i}.0:output" for i in range(3)]
    assert all(layer["tap"].startswith("blocks.") for layer in matching["teacher"])
    teacher = load_model(tmp_path / "run" / "teacher" / "model.safetensors")
    assert teacher.label.startswith("network")

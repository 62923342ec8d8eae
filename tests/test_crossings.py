"""Teachers and students of different structure, each by one recipe of examples/recipes, made tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from distillens.models.nets.base import initialised
from distillens.models.store import load_model
from distillens.pipeline import run
from distillens.recipe import Recipe, builtin_recipes
from distillens.store import read_json
from distillens.transfer.training import loop

# of few coalitions and teachers that know their few rows by heart
pytestmark = pytest.mark.filterwarnings("ignore::distillens.errors.DistillensWarning")
RECIPES = Path(__file__).parent.parent / "examples" / "recipes"
TINY = (
    "controls=none",
    "explain.0.budget=60",
    "explain.0.rows=2",
    "explain.0.background.rows=2",
    "audit.repeatability=false",
    "data.limit.train=300",
)


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, torch.Tensor]]]:
    """Every transfer of a run with a copy of what it learns besides the student, as it was before training."""
    seen: list[tuple[Any, dict[str, torch.Tensor]]] = []
    made = loop.Transfer

    def remember(*args: Any, **options: Any) -> Any:
        transfer = made(*args, **options)
        seen.append((transfer, {n: p.detach().clone() for n, p in transfer.terms.named_parameters()}))
        return transfer

    monkeypatch.setattr(loop, "Transfer", remember)
    return seen


def made(name: str, out: Path, *overrides: str) -> Any:
    return run(Recipe.load(RECIPES / f"{name}.yaml", overrides=[*TINY, *overrides]), out=out)


@pytest.mark.parametrize(
    ("name", "student", "layers"),
    [
        ("cnn-to-vit", "vit", {"blocks.0:output", "stages.0.0:output"}),
        ("vit-to-cnn", "cnn", {"stages.0.0:output", "blocks.0:output"}),
    ],
)
def test_convolutions_and_transformers_teach_each_other_through_layers(
    name: str, student: str, layers: set[str], tmp_path: Path, transfers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"students.{student}.epochs=3", "teacher.epochs=4", "teacher.batch_size=64"]
    done = made(name, tmp_path / "run", *overrides, *([] if student == "vit" else ["export=[]"]))
    home = tmp_path / "run" / "students" / student

    # Layers were paired, in the order of depth, and this is written down and said.
    matching, record = read_json(home / "matching.json"), read_json(home / "student.json")
    assert record["matching"] == matching
    assert {matching["student"][0]["tap"], matching["teacher"][0]["tap"]} == layers
    assert np.array(matching["cka"]).shape == (3, 3)
    assert [pair["teacher"] for pair in matching["pairs"]] == [layer["tap"] for layer in matching["teacher"]]
    summary = next(stage.summary for key, stage in done.results.items() if key == f"students/{student}")
    assert " · layers " in summary
    assert " ← " in summary
    assert "fitnet" in record["history"][-1]

    # Projectors are trained, and are in neither the stored student nor its file.
    taught = [(transfer, before) for transfer, before in transfers if before]
    assert len(taught) == 2  # the student, and its control with permuted answers
    for transfer, before in taught:
        after = dict(transfer.terms.named_parameters())
        assert any(n.startswith("fitnet") for n in before)
        assert all(not torch.equal(before[n], after[n]) for n in before)
    stored: Any = load_model(home / "model.safetensors")
    fresh = initialised(stored.net, (1, 8, 8), 10)
    assert set(stored.module.state_dict()) == set(fresh.state_dict())
    if student == "vit":
        proto = onnx.load(home / "export" / "model.onnx")
        held = sum(int(np.prod(t.dims)) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
        parameters = sum(p.numel() for p in fresh.parameters())
        projectors = sum(before.numel() for before in taught[0][1].values())
        assert parameters <= held < parameters + projectors / 2
    assert capsys.readouterr().out == ""


def test_trees_teach_a_network_by_answers_alone(tmp_path: Path, transfers: list[Any]) -> None:
    tiny = [o for o in TINY if not o.startswith("data.limit")]
    overrides = [
        *tiny,
        "students.net.epochs=15",
        "targets.queries.candidates=[0,1]",
        "targets.kind=[smear]",
        "export=[]",
    ]
    run(Recipe.load(RECIPES / "trees-to-mlp.yaml", overrides=overrides), out=tmp_path / "run")
    record = read_json(tmp_path / "run" / "students" / "net" / "student.json")
    assert record["validation"]["agreement"] > 0.9
    assert all(not before for _, before in transfers)
    assert "matching" not in record


def test_what_was_taken_over_is_in_the_record_of_a_run(tmp_path: Path) -> None:
    done = made(
        "inherit", tmp_path / "run", "controls=standard", "export=[]", "teacher.epochs=2", "teacher.model.depth=8",
        "teacher.model.width=2", "students.small.model.width=2", "students.small.epochs=1",
    )  # fmt: skip
    record = read_json(tmp_path / "run" / "students" / "small" / "student.json")["inherit"]
    assert record["agreement"]["same_class"] == 1.0  # of the teacher's own size
    assert "subclone took" in next(s.summary for key, s in done.results.items() if key == "students/small")
    controls = tmp_path / "run" / "controls"
    assert read_json(controls / "small.random_teacher" / "control.json")["inherit"]["applied"] is True
    assert read_json(controls / "small.undistilled" / "control.json")["inherit"]["applied"] is False


def test_every_example_is_a_recipe_and_none_is_built_in() -> None:
    names = {path.stem for path in RECIPES.glob("*.yaml")}
    assert {"cnn-to-vit", "vit-to-cnn", "trees-to-mlp", "timm-to-resnet", "inherit"} <= names
    assert not names & set(builtin_recipes())
    for name in names:
        recipe = Recipe.load(RECIPES / f"{name}.yaml")
        for student in recipe.students:
            recipe.build_student(student)

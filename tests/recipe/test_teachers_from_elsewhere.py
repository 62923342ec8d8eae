"""Teachers from files and from code: the recipe's entry, classes in another order, what cannot be refitted, and resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import distillens
from distillens.errors import InputError, ModelError, RecipeError, UntrustedCodeError
from distillens.recipe import Recipe
from distillens.recipe.check import check

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def frame_of(n: int = 240, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = np.where(x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=n) > 0.3, "bad", "good")
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y})


def entry(**parts: Any) -> dict[str, Any]:
    return {
        "name": "small", "seed": 1, "data": {"source": "data.csv", "target": "y", "split": {"test": 0.4, "validation": 0.3}},
        "task": {"adverse": "bad"}, "targets": {"queries": 1}, "students": {"tree": {"kind": "tree", "max_leaves": 6}},
        "explain": [], "controls": "none", "export": [], "audit": {"draws": 100},
    } | parts  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    frame_of().to_csv(tmp_path / "data.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def booster_file(path: Path, *, rounds: int = 5, codes: tuple[str, str] = ("bad", "good")) -> Path:
    """A booster of label codes in the order of `codes`, which its file does not name."""
    xgboost = pytest.importorskip("xgboost")
    frame = frame_of(400, seed=7)
    matrix = xgboost.DMatrix(frame[["a", "b", "c"]], label=(frame["y"] == codes[1]).astype(int))
    xgboost.train({"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, matrix, rounds).save_model(path)
    return path


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ({"file": "m.pkl"}, "Opening a pickle runs"),
        ({"file": "m.onx"}, "not a kind of model file"),
        ({"file": 3}, "expected the name of a model file"),
        ({"file": "a.b:c"}, "write teacher: {use: a.b:c}"),
        ({"file": "m.onnx", "use": "a:b"}, "keep one of the two"),
        ({"file": "m.onnx", "folds": 3}, "teacher.folds: unknown key beside file"),
        ({"file": "m.onnx", "classes": ["a", "a"]}, "teacher.classes: expected the names"),
        ({"file": "m.onnx", "classes": "ab"}, "teacher.classes: expected the names"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_entry_is_one_sentence(teacher: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(entry(teacher=teacher))
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0]


def test_out_of_fold_answers_of_a_file_are_refused_before_anything_runs() -> None:
    with pytest.raises(RecipeError, match="a file cannot"):
        Recipe.load(entry(teacher={"file": "m.onnx"}, targets={"origin": "out_of_fold"}))


def test_a_file_runs_from_the_command_line_and_its_bytes_are_in_the_key(home: Path) -> None:
    from distillens.cli.app import main

    (home / "recipes").mkdir()
    recipe = home / "recipes" / "r.yaml"
    recipe.write_text(json.dumps(entry(data={"source": "../data.csv", "target": "y"})), encoding="utf-8")
    booster_file(home / "m.json")
    common = ["--teacher", "m.json", "--quiet"]
    assert main(["check", str(recipe), *common]) == 0
    assert main(["run", str(recipe), "--out", "run", "--exit-zero", *common]) == 0
    teacher = json.loads((home / "run/teacher/teacher.json").read_text(encoding="utf-8"))
    assert teacher["outside"] == {
        "from": "file", "name": "../m.json", "refittable": False, "classes_assumed": ["bad", "good"],
        "twin": "not available: the teacher came as a finished model and cannot be refitted",
        "kept": "teacher/given/m.json",
    }  # fmt: skip
    assert teacher["validation"]["auc"] > 0.85
    assert not (home / "run/controls/twin").exists()
    audit = json.loads((home / "run/students/tree/audit.json").read_text(encoding="utf-8"))
    assert any(entry["what"] == "control twin" for entry in audit["not_assessed"])
    before = {p.name: json.loads(p.read_text())["key"] for p in (home / "run/stages").glob("*.json")}
    booster_file(home / "m.json", rounds=3)
    assert main(["run", str(recipe), "--out", "run", "--resume", "--exit-zero", *common]) == 0
    after = {p.name: json.loads(p.read_text())["key"] for p in (home / "run/stages").glob("*.json")}
    assert before["data.json"] == after["data.json"]
    assert before["teacher.json"] != after["teacher.json"]
    assert before["targets.json"] != after["targets.json"]


def test_a_run_keeps_the_file_and_can_be_asked_when_it_is_gone(home: Path) -> None:
    """A teacher that distillens trained and one from a file follow each other in one folder: the last one answers."""
    from distillens.verbs.explain import explain_run

    explained = entry(explain=[{"kind": "kernel_shap", "budget": 8, "rows": 4, "background": {"rows": 5}}])
    distillens.run(explained | {"data": explained["data"] | {"source": str(home / "data.csv")}}, out="r")
    assert Path("r/teacher/model.safetensors").is_file()
    file = booster_file(home / "teacher.json")
    given = explained | {
        "data": explained["data"] | {"source": str(home / "data.csv")},
        "teacher": {"file": "teacher.json"},
    }
    distillens.run(given, out="r", resume=True)
    assert not Path("r/teacher/model.safetensors").exists()
    said = explain_run("r", model="teacher").explanation
    file.unlink()
    again = explain_run("r", model="teacher").explanation
    np.testing.assert_array_equal(again.values, said.values)
    assert explain_run("r").model == "tree"


def test_a_teacher_that_is_code_is_asked_only_when_trusted(home: Path) -> None:
    from distillens.verbs.explain import explain_run

    (home / "elsewhere.py").write_text(
        "import numpy as np\n\ndef rule(frame):\n    p = np.clip(0.5 + 0.2 * frame['a'].to_numpy(), 0, 1)\n    return np.stack([1 - p, p], 1)\n"
    )
    explained = entry(explain=[{"kind": "kernel_shap", "budget": 8, "rows": 4, "background": {"rows": 5}}])
    distillens.run(explained | {"teacher": {"use": "elsewhere:rule"}}, out="r", trust_code=True)
    assert explain_run("r").model == "tree"  # two classes: the student is asked about one fixed class, and no code runs
    with pytest.raises(InputError, match="needs --trust-code"):
        explain_run("r", model="teacher")
    assert explain_run("r", model="teacher", trust_code=True).model == "teacher"


def test_classes_that_the_file_does_not_name_are_mapped(home: Path) -> None:
    booster_file(home / "m.json", codes=("good", "bad"))  # output 0 is good, against the data's order
    done = distillens.run(entry(teacher={"file": "m.json", "classes": ["good", "bad"]}), out=home / "run")
    teacher = json.loads((done.directory / "teacher/teacher.json").read_text(encoding="utf-8"))
    assert teacher["validation"]["auc"] > 0.85  # in the wrong order it would be below 0.15
    assert teacher["outside"]["classes_assumed"] == []
    with pytest.raises(ModelError, match="maybe"):
        distillens.run(entry(teacher={"file": "m.json", "classes": ["good", "maybe"]}), out=home / "run2")


def test_check_opens_files_and_runs_no_code(home: Path) -> None:
    booster_file(home / "m.json")
    found = check(entry(teacher={"file": "m.json"}))
    assert found.problems == []
    assert "XGBoost" in found.lines["teacher"]
    assert any("taken to be bad, good" in warning for warning in found.warnings)
    assert "teacher" not in found.cost.by_stage or found.cost.by_stage["teacher"] == 0  # type: ignore[union-attr]
    assert any("m.jsn" in p for p in check(entry(teacher={"file": "m.jsn"})).problems)
    assert any("There is no file" in p for p in check(entry(teacher={"file": "other.json"})).problems)
    three = check(entry(teacher={"file": "m.json", "classes": ["a", "b", "c"]}))
    assert any("has 2 classes, but there are 3" in p for p in three.problems)
    (home / "poison.py").write_text("raise SystemExit('was run')")
    assert any("--trust-code" in p for p in check(entry(teacher={"use": "poison:x"})).problems)


CODE = """
import numpy as np, torch
from sklearn.linear_model import LogisticRegression
def answers(frame):
    p = 1 / (1 + np.exp(-3 * (frame["a"] - frame["b"])))
    return np.column_stack([1 - p, p])
answers.classes = ("good", "bad")
module = torch.nn.Linear(3, 1)
with torch.no_grad():
    module.weight.copy_(torch.tensor([[-3.0, 3.0, 0.0]])); module.bias.zero_()
def make_module(): return module
def unfitted(): return LogisticRegression()
def broken(): raise ValueError("no weights")
"""


@pytest.mark.parametrize("name", ["answers", "module", "make_module", "unfitted"])
def test_code_of_every_kind_teaches_when_trusted(home: Path, name: str) -> None:
    (home / "their_code.py").write_text(CODE)
    recipe = entry(teacher={"use": f"their_code:{name}"})
    with pytest.raises(UntrustedCodeError, match="--trust-code"):
        distillens.run(recipe, out=home / "never")
    done = distillens.run(recipe, out=home / "run", trust_code=True)
    teacher = json.loads((done.directory / "teacher/teacher.json").read_text(encoding="utf-8"))
    assert teacher["validation"]["auc"] > 0.85
    assert teacher["outside"]["refittable"] == (name == "unfitted")
    keys = [json.loads(p.read_text())["key"] for p in sorted((done.directory / "stages").rglob("*.json"))]
    again = distillens.run(recipe, out=home / "run", trust_code=True, resume=True)
    assert keys == [json.loads(p.read_text())["key"] for p in sorted((again.directory / "stages").rglob("*.json"))]


def test_a_factory_that_raises_is_one_sentence(home: Path) -> None:
    (home / "their_code2.py").write_text(CODE)
    with pytest.raises(RecipeError, match="their_code2:broken raised ValueError: no weights"):
        distillens.run(entry(teacher={"use": "their_code2:broken"}), out=home / "run", trust_code=True)


def test_a_module_over_text_needs_a_declared_preprocessing() -> None:
    import torch

    from distillens.data.base import Column, Table
    from distillens.models.files import bound

    columns = (Column("n"), Column("t", "categorical", ("x", "y")))
    table = Table(np.array([[2.0, 0.0], [3.0, 1.0]]), columns, np.arange(2))
    module = torch.nn.Identity()
    with pytest.raises(ModelError, match="holds text"):
        bound(module, columns=columns, classes=("no", "yes"))
    module.preprocess = lambda frame: np.column_stack([frame["n"], frame["t"] == "y"])  # type: ignore[assignment]
    assert bound(module, columns=columns, classes=("no", "yes"))(table).tolist() == [[2.0, 0.0], [3.0, 1.0]]
    module.preprocess = lambda frame: frame["n"]  # type: ignore[assignment]
    with pytest.raises(ModelError, match="should return"):
        bound(module, columns=columns, classes=("no", "yes"))(table)
    other = torch.nn.Linear(2, 2)
    first, again = (bound(other, columns=columns[:1] * 2, classes=("no", "yes")).fingerprint for _ in range(2))
    assert first == again
    with torch.no_grad():
        other.bias += 1
    assert bound(other, columns=columns[:1] * 2, classes=("no", "yes")).fingerprint != first


def test_distill_takes_files(home: Path) -> None:
    from distillens.data.load import load_dataset

    booster_file(home / "m.json")
    data = load_dataset(source="data.csv", target="y", roles=None, split={"test": 0.3, "validation": 0.3}, task="auto")
    student = distillens.distill(home / "m.json", "tree", data)
    assert student.classes == ("bad", "good")
    with pytest.raises(InputError, match="trust"):
        distillens.distill("their:code", "tree", data)


def test_init_writes_the_teacher(home: Path) -> None:
    from distillens.cli.app import main

    booster_file(home / "m.json")
    assert main(["init", "data.csv", "--target", "y", "--out", "r.yaml", "--teacher", "m.json"]) == 0
    assert Recipe.load("r.yaml").teacher == {"file": "m.json"}
    assert main(["check", "r.yaml"]) == 0


def test_a_data_frame_where_a_dataset_is_wanted_is_one_sentence(home: Path) -> None:
    frame = frame_of()
    booster = booster_file(home / "m.json")
    with pytest.raises(InputError, match=r"data is a DataFrame; expected a Dataset"):
        distillens.distill(booster, "tree", frame)  # type: ignore[arg-type]
    data = distillens.load_dataset(source=frame, target="y")
    student = distillens.distill(booster, "tree", data, targets="in_sample")
    with pytest.raises(InputError, match=r"inputs is a DataFrame; expected rows of a Dataset"):
        distillens.audit(student, student, frame)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="The model is a int; expected a function"):
        distillens.distill(3, "tree", data)

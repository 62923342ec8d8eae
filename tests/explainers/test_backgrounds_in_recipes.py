"""Where background rows come from: recipe, check, run, and what a run says about drawing them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distillens.audit.audit import audit
from distillens.errors import InputError
from distillens.explainers.base import Explanation
from distillens.explainers.settings import check_background
from distillens.pipeline import run
from distillens.recipe import Recipe
from distillens.recipe.check import check
from distillens.recipe.cost import estimate_cost
from distillens.verbs.explain import explain_run


def recipe(folder: Path, **background: Any) -> dict[str, Any]:
    return {
        "name": "small", "seed": 3, "data": {"source": str(folder / "small.csv"), "target": "y", "split": {"test": 0.4, "validation": 0.3}},
        "task": {"adverse": "bad"}, "teacher": {"kind": "tree", "max_leaves": 8}, "targets": {"origin": "in_sample", "queries": 1},
        "students": {"line": {"kind": "linear"}}, "explain": [{"kind": "kernel_shap", "budget": 32, "rows": 12, "background": background}],
        "controls": "none", "audit": {"draws": 100}, "export": ["onnx"], "report": {"languages": ["en"]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("backgrounds")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 3)), columns=["income", "debt", "age"])
    frame["kind"] = rng.choice(["a", "b"], 200)
    frame["y"] = np.where(frame["income"] - frame["debt"] + (frame["kind"] == "a") > 0.5, "good", "bad")
    frame.to_csv(home / "small.csv", index=False)
    far = frame[:40].assign(income=frame["income"] + 5, more="x").drop(columns="y")
    far.to_csv(home / "far.csv", index=False)
    return home


@pytest.mark.parametrize(
    ("background", "said"),
    [
        ({"from": "trian"}, "Did you mean 'train'"),
        ({"from": "file"}, "need its name"),
        ({"file": "a.csv"}, "takes its rows from train; write from: file"),
        ({"form": "train"}, "Did you mean 'from'"),
        ({"rows": 0}, "at least 1"),
        ("train", "should be like"),
    ],
)
def test_a_background_that_makes_no_sense_is_refused(background: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_background("kernel_shap", background)


def test_check_looks_at_the_file(folder: Path, tmp_path: Path) -> None:
    def checked(**background: Any) -> Any:
        return check(Recipe.load(recipe(folder, **background)), out=tmp_path / "out")

    good = checked(**{"from": "file", "file": str(folder / "far.csv"), "rows": 10})
    assert not good.problems
    assert not [w for w in good.warnings if "background" in w]
    (problem,) = checked(**{"from": "file", "file": str(folder / "gone.csv")}).problems
    assert problem.startswith("explain.0.background.file: ")
    pd.read_csv(folder / "far.csv").drop(columns="debt").to_csv(tmp_path / "less.csv", index=False)
    (problem,) = checked(**{"from": "file", "file": str(tmp_path / "less.csv")}).problems
    assert "no column 'debt'" in problem
    few = checked(**{"from": "file", "file": str(folder / "far.csv"), "rows": 100}).warnings
    assert any("there are 40, and all are drawn every time" in w for w in few)


def test_a_run_takes_its_background_from_the_file_and_explains_without_it_later(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "far.csv"
    pd.read_csv(folder / "far.csv").to_csv(file, index=False)
    wanted = recipe(folder, **{"from": "file", "file": str(file), "rows": 10})
    done = run(wanted, out=tmp_path / "run")
    explained = done.directory / "explanations"
    stored = Explanation.load(explained / "line.kernel_shap.safetensors")
    assert len(stored.background_ids) == 10
    assert stored.background_ids.max() < 40
    assert not (done.directory / ".partial").exists()
    income = stored.values[:, stored.index_of("income")]
    usual = (
        run(recipe(folder, rows=10), out=tmp_path / "usual").directory / "explanations" / "line.kernel_shap.safetensors"
    )
    shift = income - Explanation.load(usual).values[:, stored.index_of("income")]
    assert (np.sign(shift) == np.sign(shift[0])).all()  # five more income in the background is less income everywhere
    assert abs(shift).min() > 1

    record = json.loads((done.directory / "students" / "line" / "audit.json").read_text())["reasons"][
        "background_sensitivity"
    ]
    for role in ("teacher", "student"):
        one, again = (
            Explanation.load(explained / f"{'line' if role == 'student' else role}{part}.kernel_shap.safetensors") for part in ("", ".repeat")
        )  # fmt: skip
        same = np.abs(one.values).argmax(axis=1) == np.abs(again.values).argmax(axis=1)
        assert record[role]["same_top"]["value"] == pytest.approx(same.mean())
        assert record[role]["same_top"]["n"] == 12
        assert record[role]["background_rows"] == 10
        assert record[role]["rows_in_both"] == len(set(one.background_ids) & set(again.background_ids))
        assert record[role]["spread"] == pytest.approx(np.sqrt(((one.values - again.values) ** 2 / 2).mean()))
        assert record[role]["sampling_error"] == 0  # four features: exact

    frame = pd.read_csv(file)
    frame["income"] += 1
    frame.to_csv(file, index=False)
    resumed = run(wanted, out=done.directory, resume=True)
    assert "what was handed in changed" in resumed.results["explain/line.kernel_shap"].reason
    assert resumed.results["students/line"].reused
    again = Explanation.load(explained / "line.kernel_shap.safetensors")
    assert np.abs(again.values - stored.values).max() > 0.1
    file.unlink()
    later = explain_run(done.directory, rows=[int(again.row_ids[2])], background_draws=3)
    np.testing.assert_allclose(later.explanation.values[0], again.values[2], atol=1e-9)
    assert later.redrawn is not None
    assert len(later.redrawn.explanations) == 3


def test_the_explained_rows_can_be_the_background_and_repeats_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    wanted = recipe(folder, **{"from": "rows", "rows": 5})
    wanted["audit"]["repeatability"] = False
    done = run(wanted, out=tmp_path / "run")
    stored = Explanation.load(done.directory / "explanations" / "teacher.kernel_shap.safetensors")
    assert set(stored.background_ids) <= set(stored.row_ids)
    assert not list((done.directory / "explanations").glob("*.repeat.*"))
    record = json.loads((done.directory / "students" / "line" / "audit.json").read_text())
    assert record["reasons"]["background_sensitivity"] is None
    assert any(entry["what"].startswith("repeatability of reasons") for entry in record["not_assessed"])


def test_the_estimate_knows_what_the_second_explanation_costs(folder: Path) -> None:
    from distillens.data.load import load_dataset

    on = Recipe.load(recipe(folder) | {"export": []})
    off = Recipe.load(recipe(folder) | {"audit": {"repeatability": False}, "export": []})
    dataset = load_dataset(source=str(folder / "small.csv"), target="y", split={"test": 0.4, "validation": 0.3})
    with_repeats, without = (estimate_cost(r, dataset).by_stage["explain"] for r in (on, off))
    rows = 12 * 16 * 100  # rows, coalitions of four features, background
    assert with_repeats - without == pytest.approx(rows / 2.5e6 + rows / 2.5e6)  # teacher and student once each
    assert without == pytest.approx(rows / 2.5e6 * 3)  # teacher, student, the random teacher's student


def test_python_audits_say_it_too_and_say_when_there_was_nothing_to_draw(rng, table, linear) -> None:
    x, b = table(rng.normal(size=(60, 4)), first_id=100), table(rng.normal(size=(20, 4)))
    model = linear(np.array([[3.0], [-1.0], [0.5], [0.1]]), np.zeros(1))
    record: Any = audit(model, model, x, background=b, explainers=("exact_shapley",), gates=None, draws=100).reasons
    found = record["background_sensitivity"]
    assert found["teacher"] == found["student"]
    assert 0 < found["teacher"]["same_top"]["value"] <= 1
    assert found["teacher"]["background_rows"] == 10
    assert found["teacher"]["rows_in_both"] == 0
    single = table(np.zeros((1, 4)))
    alone: Any = audit(model, model, x, background=single, explainers=("exact_shapley",), gates=None, draws=100)
    assert alone.reasons["background_sensitivity"]["teacher"]["same_top"]["value"] == 1
    assert any("no other background rows to draw" in f.text for f in alone.findings)
    off: Any = audit(model, model, x, background=b, explainers=("exact_shapley",), gates=None, draws=100, repeatability=False)  # fmt: skip
    assert off.reasons["background_sensitivity"] is None

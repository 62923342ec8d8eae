"""`distillens frontier` on a recipe and on its run, the stage in a recipe, going on after a stop, and bad input in one sentence."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

import distillens
import distillens.report.frontier as drawn
from distillens.cli.app import main
from distillens.errors import InputError, RecipeError
from distillens.recipe import Recipe
from distillens.recipe.check import check
from distillens.recipe.cost import estimate_cost
from distillens.students.tree import TreeStudent
from distillens.verbs.frontier import frontier_of

SCHEMA = json.loads((Path(drawn.__file__).parent / "frontier.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 3))
    frame = pd.DataFrame(x, columns=["a b", "<i>", "年龄"])
    frame["colour"] = rng.choice(["red", "blue"], 240)
    frame["y"] = np.where(x[:, 0] + (frame["colour"] == "red") + 0.3 * rng.normal(size=240) > 0.4, "yes", "no")
    path = tmp_path_factory.mktemp("data") / "small.csv"
    frame.to_csv(path, index=False)
    return path


def recipe(data: Path, **parts: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "small", "data": {"source": str(data), "target": "y"}, "teacher": {"kind": "boosted_trees", "max_rounds": 15},
        "targets": {"queries": 1}, "students": {"short": {"kind": "tree", "max_leaves": 4, "min_rows": 9}}, "explain": [],
        "controls": "none", "audit": {"draws": 100}, "export": [], "report": {"languages": ["en", "zh"]},
        "frontier": {"families": ["tree", "rules"], "sizes": {"tree": [2, 5]}, "seeds": 2},
    }  # fmt: skip
    return base | parts


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distillens.run(recipe(data), out=tmp_path_factory.mktemp("runs") / "small").directory


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_stage_writes_its_files_and_the_report_still_accepts_the_run(run: Path) -> None:
    folder = run / "frontier"
    record = json.loads((folder / "frontier.json").read_text(encoding="utf-8"))
    jsonschema.validate(record, SCHEMA)
    assert [p["id"] for p in record["points"]] == ["tree-2", "tree-5", "rules-2", "rules-4", "rules-8", "rules-16"]
    assert {p["settings"].get("min_rows") for p in record["points"] if p["family"] == "tree"} == {
        9
    }  # the student's own option
    assert record["queries"] == 1
    with (folder / "frontier.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [float(line["agreement"]) for line in lines] == [
        p["fidelity"]["agreement"]["value"] for p in record["points"]
    ]
    assert (folder / "frontier.zh.html").is_file()
    assert "<svg" in (folder / "frontier.svg").read_text(encoding="utf-8")
    stage = json.loads((run / "stages" / "frontier.json").read_text(encoding="utf-8"))
    assert "frontier/frontier.json" in stage["outputs"]
    assert (
        main(["report", str(run), "--quiet"]) == 0
        or json.loads((run / "passport.json").read_text())["verdict"] != "pass"
    )


def test_a_resumed_run_keeps_the_stage_and_without_the_block_there_is_none(
    copied: Path, data: Path, tmp_path: Path
) -> None:
    before = (copied / "frontier" / "frontier.json").read_bytes()
    resumed = distillens.run(recipe(data), out=copied, resume=True)
    assert resumed.results["frontier"].reused
    assert (copied / "frontier" / "frontier.json").read_bytes() == before
    bare = distillens.run(recipe(data, frontier=None), out=tmp_path / "bare")
    assert "frontier" not in bare.results
    assert not (bare.directory / "frontier").exists()


def test_the_command_takes_the_runs_teacher_and_prints_what_it_found(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = (copied / "teacher" / "model.safetensors").stat().st_mtime_ns
    assert main(["frontier", str(copied), "--families", "tree,linear", "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "linear" in said
    assert "● on the front" in said
    assert "validation rows, for choosing" in said
    assert "frontier.html" in said
    assert (copied / "teacher" / "model.safetensors").stat().st_mtime_ns == teacher
    assert main(["report", str(copied), "--quiet"]) in (0, 1, 4)  # what the stage recorded is what lies there


def test_json_is_all_that_is_printed(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (copied / "frontier" / "frontier.json").read_bytes()
    arguments = [
        "frontier",
        str(copied),
        "--families",
        "tree",
        "--sizes",
        "tree=3,2",
        "--seeds",
        "1",
        "--queries",
        "0",
        "--json",
    ]
    assert main([*arguments, "--out", str(tmp_path / "mine")]) == 0
    record = json.loads(capsys.readouterr().out)
    jsonschema.validate(record, SCHEMA)
    assert [p["id"] for p in record["points"]] == ["tree-2", "tree-3"]
    assert (record["seeds"], record["queries"]) == (1, 0)
    assert record["points"][0]["stability"] is None  # one resample is no pair
    assert (tmp_path / "mine" / "frontier.html").is_file()
    assert (copied / "frontier" / "frontier.json").read_bytes() == before


def test_a_recipe_is_worked_as_far_as_the_targets_and_goes_on_after_a_stop(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []
    original = TreeStudent.fit

    def stopping(self: TreeStudent, *args: Any, **options: Any) -> Any:
        fitted.append(self.max_leaves)
        if len(fitted) == 6:
            raise KeyboardInterrupt
        return original(self, *args, **options)

    monkeypatch.setattr(TreeStudent, "fit", stopping)
    loaded = Recipe.load(recipe(data, frontier={"families": ["tree"], "sizes": {"tree": [2, 3]}, "seeds": 2}))
    with pytest.raises(KeyboardInterrupt):
        frontier_of(loaded, out=tmp_path / "run")
    assert fitted == [2, 2, 2, 2, 3, 3]
    record, folder = frontier_of(loaded, out=tmp_path / "run", resume=True)
    assert fitted[6:] == [3, 3, 3, 3]  # the finished point is kept, the other is fitted anew
    assert folder == tmp_path / "run" / "frontier"
    assert len(record["points"]) == 2
    assert not (tmp_path / "run" / "students").exists()
    with pytest.raises(InputError, match="already holds a run"):
        frontier_of(loaded, out=tmp_path / "run")
    # the whole run goes on from here with the same teacher, targets and frontier
    assert distillens.run(loaded, out=tmp_path / "run", resume=True).results["frontier"].reused


@pytest.mark.parametrize(("arguments", "said"), [
    (["--families", "tress"], "frontier.families: there is no family 'tress' on the frontier. Did you mean 'tree'?"),
    (["--families", ","], "families: name at least one family"),
    (["--sizes", "tree:2"], "--sizes takes FAMILY=N,N"),
    (["--families", "tree", "--sizes", "tree=0"], "frontier.sizes.tree.0: expected a number of at least 1, got 0."),
    (["--families", "tree", "--sizes", "tree=1"], "max_leaves must be at least 2"),
    (["--margin", "3"], "frontier.margin"),
    (["--set", "seed=3"], "--set goes with a recipe"),
    (["--out", "FILE"], "is a file; --out names a folder"),
    (["--out", "FULL"], "is not empty and holds no frontier"),
])  # fmt: skip
def test_bad_input_is_one_sentence(
    run: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "mine.txt").write_text("x")
    given = [str(tmp_path / a) if a in ("FILE", "FULL") else a for a in arguments]
    assert main(["frontier", str(run), *given]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_folders_that_are_no_runs_are_told_apart(
    tmp_path: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["frontier", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["frontier", "no-such-recipe"]) == 2
    assert "no recipe 'no-such-recipe'" in capsys.readouterr().err
    (copied / "teacher" / "model.safetensors").unlink()
    assert main(["frontier", str(copied)]) == 2
    assert "handed in from Python" in capsys.readouterr().err


def test_the_check_and_the_cost_know_of_it(data: Path) -> None:
    with pytest.raises(RecipeError, match="frontier.sizes: there is no family 'forest'"):
        Recipe.load(recipe(data, frontier={"sizes": {"forest": [2]}}))
    with pytest.raises(RecipeError, match="frontier.seed: unknown key. Did you mean 'seeds'"):
        Recipe.load(recipe(data, frontier={"seed": 2}))
    wine = recipe(data, frontier={"families": ["scorecard"]}) | {"data": {"source": "wine"}}
    assert [p for p in check(wine).problems if p.startswith("frontier")] == [
        "frontier: A scorecard student is for binary tasks, and this is a multiclass task; leave it out of the families."
    ]
    loaded = Recipe.load(recipe(data))
    from distillens.data.load import load_dataset

    dataset = load_dataset(source=str(data), target="y", roles=None, split=None, task="auto", name="small", seed=0)
    cost = estimate_cost(loaded, dataset)
    assert cost.by_stage["frontier"] > 0
    assert cost.fits - estimate_cost(Recipe.load(recipe(data, frontier=None)), dataset).fits == 2 * 2 * 6

"""The whole flow on small real and made-up tables: every task, hostile names, given teachers, saturation, influence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import distillens
from distillens.errors import (
    DataWarning,
    DistillensWarning,
    ModelError,
    NoInfluenceError,
    RecipeError,
    RunError,
)

HOSTILE = ["a b", "quo\"te's", "<script>alert(1)</script>", "年龄", "missing %"]


def recipe(**parts: Any) -> dict[str, Any]:
    """A recipe that takes seconds: fast families, few resamples."""
    base: dict[str, Any] = {
        "name": "small",
        "seed": 1,
        "data": {"target": "y", "split": {"test": 0.4, "validation": 0.3}},
        "teacher": {"kind": "boosted_trees", "max_rounds": 20},
        "targets": {"queries": 1},
        "students": {"line": {"kind": "linear"}, "tree": {"kind": "tree", "max_leaves": 6}},
        "explain": [{"kind": "kernel_shap", "budget": 30, "rows": 15, "background": {"from": "train", "rows": 8}}],
        "audit": {"draws": 100},
    }
    return base | parts


def table(task: str, n: int = 260, seed: int = 0) -> pd.DataFrame:
    """A table with categories, missing values and hostile names. task: binary, multiclass or regression."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 3))
    kind = rng.choice(["<b>red</b>", 'gr"een', "蓝"], n)
    score = numbers[:, 0] - numbers[:, 1] + 1.5 * (kind == "蓝") + 0.3 * rng.normal(size=n)
    frame = pd.DataFrame(
        {HOSTILE[0]: numbers[:, 0], HOSTILE[1]: numbers[:, 1], HOSTILE[2]: kind, HOSTILE[3]: numbers[:, 2]}
    )
    frame[HOSTILE[4]] = np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))
    frame.loc[rng.random(n) < 0.1, HOSTILE[2]] = None
    if task == "regression":
        frame["y"] = score * 1000
    else:
        edges = [0.4] if task == "binary" else [-0.4, 0.9]
        names = np.array(["no <i>", "yes & more"] if task == "binary" else ["低", "mid", "high"])
        frame["y"] = names[np.searchsorted(edges, score)]
    return frame


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_init_check_and_run_on_a_file_with_hostile_names(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distillens.cli.app import main

    monkeypatch.chdir(tmp_path)
    table(task).to_csv("my data.csv", index=False)
    assert main(["init", "my data.csv", "--target", "y", "--out", "recipe.yaml"]) == 0
    small = ["--set", "explain=[{kind: kernel_shap, budget: 30, rows: 15, background: {from: train, rows: 8}}]", "--set", "audit.draws=100",
             "--set", "targets.queries=1", "--set", "students={line: {kind: linear}, tree: {kind: tree, max_leaves: 6}}"]  # fmt: skip
    assert main(["check", "recipe.yaml", *small]) == 0
    code = main(["run", "recipe.yaml", "--out", "run", *small])
    assert code in {0, 1, 4}
    passport = json.loads(Path("run/passport.json").read_text(encoding="utf-8"))
    page = Path("run/passport.html").read_text(encoding="utf-8")
    assert passport["verdict"] == {0: "pass", 1: "fail", 4: "review"}[code]
    for name in (HOSTILE[2], "<b>red</b>", "no <i>"):
        assert name not in page
    assert "alert(1)" in page, "the name is shown, as text"
    for student in ("line", "tree"):
        exported = json.loads(Path(f"run/students/{student}/export/export.json").read_text(encoding="utf-8"))
        assert exported["parity"]["max_abs_difference"] < 1e-5 * (1000 if task == "regression" else 1)
        assert not exported["parity"]["flips_beyond_tolerance"]
        assert exported["audit"]["schema"] == 1
        assert {entry["feature"] for entry in exported["inputs"]} == {*HOSTILE} - {"年龄"}, (
            "age is kept apart, in any language"
        )


def run_small(tmp_path: Path, made: dict[str, Any], **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return distillens.run(made, out=tmp_path / "run", **options)


def test_a_teacher_that_fits_breast_cancer_perfectly_is_reported_as_saturated(tmp_path: Path) -> None:
    perfect = {"kind": "boosted_trees", "tune": False, "max_rounds": 200, "min_rows": 1, "l2": 0.0}
    explain = [{"kind": "kernel_shap", "budget": 300, "rows": 5, "background": {"from": "train", "rows": 5}}]
    made = recipe(data={"source": "breast-cancer"}, teacher=perfect, controls="none", export=[], explain=explain)
    with pytest.warns(DistillensWarning, match="entropy") as caught:
        run = distillens.run(made | {"targets": {"origin": "in_sample", "queries": 1}}, out=tmp_path / "in")
    assert any("out-of-fold" in str(w.message) or "out of fold" in str(w.message) for w in caught), "it says what to do"
    told = json.loads((run.directory / "targets/targets.json").read_text())
    assert told["saturated"]
    assert told["in_sample_entropy"] < 0.5 * told["held_out_entropy"]
    auto = distillens.run(made, out=tmp_path / "auto")
    assert json.loads((auto.directory / "targets/targets.json").read_text())["origin"] == "out_of_fold"


def test_a_student_that_ignores_its_teacher_fails_the_run_and_keeps_what_was_done(tmp_path: Path) -> None:
    deaf = {"kind": "network", "model": {"kind": "mlp", "hidden": [4]}, "task_weight": 1.0, "epochs": 3,
            "objectives": [{"kind": "kd", "weight": 0.0, "temperature": 4}]}  # fmt: skip
    made = recipe(data={"source": "breast-cancer"}, students={"deaf": deaf}, targets={"queries": "none"})
    with pytest.raises(NoInfluenceError, match="deaf"):
        run_small(tmp_path, made)
    assert (tmp_path / "run/stages/targets.json").exists()
    assert not (tmp_path / "run/stages/students.deaf.json").exists()


def test_a_data_frame_and_a_fitted_scikit_learn_teacher_from_python(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    frame = table("binary").drop(columns=[HOSTILE[2]]).fillna(0.0)
    forest = RandomForestClassifier(n_estimators=20, min_samples_leaf=3, random_state=0)
    forest.fit(frame.drop(columns="y").to_numpy(), frame["y"])
    made = recipe(students={"tree": {"kind": "tree", "max_leaves": 6}}, export=[])
    run = run_small(tmp_path, made, teacher=forest, data=frame)
    passport = run.passport
    assert passport["verdict"] in {"pass", "review", "fail"}
    assert "RandomForestClassifier" in json.dumps(passport["teacher"])
    audited = json.loads((run.directory / "students/tree/audit.json").read_text())
    assert "twin" in audited["models"]["controls"], "an estimator can be refitted"
    again = run_small(tmp_path, made, teacher=forest, data=frame, resume=True)
    assert again.results["teacher"].reused
    other = RandomForestClassifier(n_estimators=5, random_state=1).fit(frame.drop(columns="y").to_numpy(), frame["y"])
    changed = run_small(tmp_path, made, teacher=other, data=frame, resume=True)
    assert changed.results["teacher"].reason == "what was handed in changed"


def test_a_given_model_with_other_classes_is_one_sentence(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    frame = table("binary").drop(columns=[HOSTILE[2]]).fillna(0.0)
    wrong = LogisticRegression().fit(frame.drop(columns="y").to_numpy(), np.arange(len(frame)) % 3)
    with pytest.raises(ModelError, match="class"):
        run_small(tmp_path, recipe(), teacher=wrong, data=frame)


def test_the_same_recipe_gives_the_same_passport_and_another_seed_another(tmp_path: Path) -> None:
    frame = table("binary")
    passports = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        passport = distillens.run(recipe(), data=frame, seed=seed, out=tmp_path / name).passport
        passport.pop("measured")
        passports.append(passport)
    assert passports[0] == passports[1]
    assert passports[0] != passports[2]


def test_full_controls_add_equal_information_and_none_leaves_the_reference_unknown(tmp_path: Path) -> None:
    frame = table("binary")
    full = distillens.run(recipe(controls="full", export=[]), data=frame, out=tmp_path / "full")
    audited = json.loads((full.directory / "students/line/audit.json").read_text())
    assert {"twin", "undistilled", "random_teacher", "equal_information", "constant"} <= set(
        audited["models"]["controls"]
    )
    none = distillens.run(recipe(controls="none", export=[]), data=frame, out=tmp_path / "none")
    assert none.verdict != "pass", "a gate whose reference is unknown never passes"


def test_resume_names_what_changed_and_reuses_the_rest(tmp_path: Path) -> None:
    frame = table("binary")
    frame.to_csv(tmp_path / "t.csv", index=False)
    made = recipe()
    made["data"] = made["data"] | {"source": str(tmp_path / "t.csv")}
    distillens.run(made, out=tmp_path / "run")
    with pytest.raises(RunError, match="--resume"):
        distillens.run(made, out=tmp_path / "run")
    again = distillens.run(made, out=tmp_path / "run", resume=True)
    assert all(result.reused for result in again.results.values())
    changed = dict(made, students=made["students"] | {"tree": {"kind": "tree", "max_leaves": 4}})
    third = distillens.run(changed, out=tmp_path / "run", resume=True)
    assert third.results["students/tree"].reason == "the recipe changed"
    assert third.results["students/line"].reused
    assert not third.results["audit/tree"].reused
    frame.iloc[:-1].to_csv(tmp_path / "t.csv", index=False)
    fourth = distillens.run(changed, out=tmp_path / "run", resume=True)
    assert not any(result.reused for name, result in fourth.results.items())


def test_distill_and_audit_without_a_run(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    data = distillens.load_dataset(source="breast-cancer")
    train = data.train
    forest = RandomForestClassifier(n_estimators=30, min_samples_leaf=5, random_state=0).fit(
        train.inputs.values, train.labels
    )
    student = distillens.distill(forest, "tree", data, targets="in_sample")
    report = distillens.audit(forest, student, data.test.inputs, data.test.labels, adverse="malignant", draws=100)
    assert report.metric("agreement").estimate.value > 0.85
    assert report.verdict in {"review", "fail"}, "nothing to compare with: never a pass"
    with pytest.raises(RecipeError, match="Did you mean 'out_of_fold'"):
        distillens.distill(forest, "tree", data, targets="out_of_folds")
    with pytest.raises(RecipeError, match="objectives are for network students"):
        distillens.distill(forest, "tree", data, objectives=[{"kind": "kd"}])


def test_an_explainer_that_looks_inside_trees_runs_and_leaves_the_exported_file_to_the_others(tmp_path: Path) -> None:
    shap = {"kind": "tree_shap", "rows": 12, "background": {"rows": 8}}
    made = recipe(students={"tree": {"kind": "tree", "max_leaves": 6}}, explain=[shap])
    run = distillens.run(made, data=table("binary"), out=tmp_path / "run")
    audited = json.loads((run.directory / "students/tree/audit.json").read_text())
    assert any(metric["explainer"] == "tree_shap" for metric in audited["metrics"])
    exported = json.loads((run.directory / "students/tree/export/export.json").read_text())["audit"]
    assert not any(metric["explainer"] for metric in exported["metrics"])
    assert any("reasons" in entry["what"] or "explanation" in entry["why"] for entry in exported["not_assessed"])


def test_kinds_of_queries_are_compared_and_the_costs_set_the_threshold(tmp_path: Path) -> None:
    targets = {"queries": {"candidates": [0, 0.5]}, "kind": ["noise", "threshold", "disagreement"], "rounds": 2}
    costs = {"false_positive": 1, "false_negative": 3}
    small = recipe(
        targets=targets, task={"adverse": "yes & more", "costs": costs}, controls="full", explain=[], export=[]
    )
    small["students"] = {"tree": {"kind": "tree", "max_leaves": 6}}
    done = distillens.run(small, data=table("binary"), out=tmp_path / "run")
    student = json.loads((done.directory / "students/tree/student.json").read_text(encoding="utf-8"))
    tried = student["targets"]["queries_tried"]
    assert [t["kind"] for t in tried][:3] == [None, "noise", "threshold"]
    assert {t["kind"] for t in tried} == {None, "noise", "threshold", "disagreement"}
    assert student["targets"]["chosen"] == min(tried, key=lambda t: t["validation_kl"])
    assert student["targets"]["queries"] == student["targets"]["chosen"]["rows"]
    near = next(t for t in tried if t["kind"] == "threshold")
    assert near["draw"]["threshold"] == 0.25
    decision = json.loads((done.directory / "data/dataset.json").read_text(encoding="utf-8"))["decision"]
    assert decision["threshold"] == 0.25
    assert decision["costs"] == costs
    assert (done.directory / "controls/tree.equal_information").is_dir()
    assert (done.directory / "students/tree/targets.safetensors").is_file() == (student["targets"]["queries"] > 0)


def test_students_of_labels_have_no_teacher_to_listen_to(tmp_path: Path) -> None:
    small = recipe(targets={"origin": "labels"}, explain=[], export=[], students={"line": {"kind": "linear"}})
    done = distillens.run(small, data=table("binary"), out=tmp_path / "run")
    student = json.loads((done.directory / "students/line/student.json").read_text(encoding="utf-8"))
    assert student["influence"] is None
    assert student["targets"]["origin"] == "labels"
    assert not (done.directory / "controls/line.random_teacher").exists()
    assert done.verdict in {"pass", "review", "fail"}

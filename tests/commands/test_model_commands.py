"""`audit`, `explain`, `export` and `compare` as people call them: one command each, in process, on models made elsewhere and on a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distillens.cli.app import main

FAST = ["--explain-rows", "6", "--background-rows", "6", "--seed", "3"]


def made(n: int = 420, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["income", "debt", "age"])
    frame["colour"] = rng.choice(["red", "blue"], n)
    frame["region"] = rng.choice(["north", "south"], n)
    score = frame["income"] - frame["debt"] + 0.8 * (frame["colour"] == "red") + 0.4 * rng.normal(size=n)
    frame["outcome"] = np.where(score > 0.3, "good", "bad")
    return frame


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train and test rows, an sklearn pipeline, an XGBoost JSON, an ONNX file and a module of code."""
    io = pytest.importorskip("skops.io", reason="skops is not installed (extra skops)")
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    import onnx
    from onnx import TensorProto, helper
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    folder = tmp_path_factory.mktemp("elsewhere")
    frame = made()
    train, test = frame[:220], frame[220:]
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    numbers = ["income", "debt", "age"]
    before = make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore"), ["colour"]))
    pipeline = make_pipeline(before, LogisticRegression()).fit(train[[*numbers, "colour"]], train["outcome"])
    io.dump(pipeline, folder / "pipeline.skops")
    np.save(folder / "pipeline.npy", pipeline.predict_proba(test[[*numbers, "colour"]]))  # bad, good
    # trained on codes in the other order: good is 0
    code = (train["outcome"] == "bad").astype(int)
    boosted = xgboost.XGBClassifier(n_estimators=15, max_depth=2, n_jobs=1).fit(train[numbers], code)
    boosted.save_model(folder / "boosted.json")
    np.save(folder / "boosted.npy", boosted.predict_proba(test[numbers])[:, ::-1])  # bad, good
    # names its classes, the other way round
    line = LogisticRegression().fit(train[numbers].to_numpy(), train["outcome"])
    both = [(line.coef_[0]).tolist(), (-line.coef_[0]).tolist()]
    nodes = [
        helper.make_node("LinearClassifier", ["X"], ["label", "probabilities"], domain="ai.onnx.ml", coefficients=[*both[0], *both[1]],
                         intercepts=[float(line.intercept_[0]), float(-line.intercept_[0])], multi_class=1,
                         post_transform="LOGISTIC", classlabels_strings=["good", "bad"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, [None]), helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(folder / "line.onnx"))
    np.save(folder / "line.npy", line.predict_proba(test[numbers].to_numpy()))
    (folder / "rule_elsewhere.py").write_text(
        "import numpy as np\ndef risky(frame):\n    p = 1 / (1 + np.exp(frame['income'] - frame['debt']))\n"
        "    return np.column_stack([1 - p, p])\nrisky.classes = ('good', 'bad')\n"
    )
    return folder


def scores(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "students" / "student" / "rows.parquet").sort_values("row_id")


def audited(folder: Path, teacher: str, student: str, out: Path, *more: str) -> int:
    files = [value if ":" in value else str(folder / value) for value in (teacher, student)]
    command = [
        "audit",
        "--teacher",
        files[0],
        "--student",
        files[1],
        "--data",
        str(folder / "test.csv"),
        "--target",
        "outcome",
    ]
    return main([*command, "--adverse", "bad", "--out", str(out), *FAST, *more])


@pytest.mark.parametrize(
    ("student", "more"),
    [
        ("boosted.json", ["--student-classes", "good,bad", "--ignore", "region", "--ignore", "colour"]),
        ("line.onnx", ["--ignore", "region", "--ignore", "colour"]),
        ("rule_elsewhere:risky", ["--trust-code", "--ignore", "region"]),
        ("pipeline.skops", []),
    ],
)  # fmt: skip
def test_each_kind_is_audited_by_one_command_with_classes_in_any_order(
    elsewhere: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    student: str,
    more: list[str],
) -> None:
    monkeypatch.syspath_prepend(elsewhere)
    teacher = "pipeline.skops" if student in ("pipeline.skops", "rule_elsewhere:risky") else student
    code = audited(elsewhere, teacher, student, tmp_path / "out", *more,
                   *(["--teacher-classes", "good,bad"] if teacher == "boosted.json" else []))  # fmt: skip
    said = capsys.readouterr()
    assert code in (0, 1, 4), said.err
    rows = scores(tmp_path / "out")
    test = pd.read_csv(elsewhere / "test.csv")
    if student == "rule_elsewhere:risky":
        expected = 1 / (1 + np.exp(test["income"] - test["debt"])).to_numpy()
    else:
        expected = np.load(elsewhere / f"{Path(student).stem}.npy")[:, 0]  # of bad
    assert np.allclose(rows["student_score"].to_numpy(), expected, atol=1e-5)
    assert (tmp_path / "out" / "passport.html").stat().st_size > 10_000
    record = json.loads((tmp_path / "out" / "students" / "student" / "audit.json").read_text())
    assert record["decision"]["adverse"] == "bad"
    assert record["n"] == len(test)
    assert {"agreement", "roc_auc", "top_k_overlap", "mask_correlation"} <= {m["name"] for m in record["metrics"]}
    if teacher == student:  # the teacher itself
        agreement = next(m for m in record["metrics"] if m["name"] == "agreement")
        assert agreement["estimate"]["value"] == 1.0


def test_wrong_order_of_classes_would_show(elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --student-classes the codes stand for the sorted names, and here that is wrong: agreement must collapse."""
    more = ["--ignore", "region", "--gates", "agreement>=0.6"]
    assert audited(elsewhere, "pipeline.skops", "boosted.json", tmp_path / "a", *more) == 1
    assert "the student's file numbers its classes; taken as bad, good; --student-classes" in capsys.readouterr().out
    assert (
        audited(elsewhere, "pipeline.skops", "boosted.json", tmp_path / "b", *more, "--student-classes", "good,bad")
        == 0
    )


def test_output_on_both_streams_json_and_nothing_written_without_out(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["audit", "--teacher", str(elsewhere / "pipeline.skops"), "--student", str(elsewhere / "pipeline.skops"),
               "--data", str(elsewhere / "test.csv"), "--target", "outcome", *FAST]  # fmt: skip
    assert main([*command, "--gates", "agreement>=0.9", "--json"]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert said.err == ""
    assert record["verdict"] == "pass"
    assert record["decision"]["adverse"] == "good"  # the second of two, as everywhere
    assert record["background"] == "6 of 200 rows of the audited rows themselves"
    assert main([*command, "--strict"]) == 1  # relative gates have no twin: review
    assert main([*command, "--exit-zero", "--background", str(elsewhere / "train.csv"), "--audit-only", "region"]) == 0
    said = capsys.readouterr()
    assert "train.csv" in said.out
    assert "REVIEW" in said.out
    assert main([*command, "--quiet", "--control", f"twin={elsewhere / 'pipeline.skops'}"]) in (0, 1, 4)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main([*command, "--explain", "none", "--json", "--exit-zero"]) == 0
    assert json.loads(capsys.readouterr().out)["reasons"] is None
    assert list(tmp_path.iterdir()) == []


def test_regression_and_no_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra boosting)")
    frame = made()[["income", "debt", "age"]]
    value = frame["income"] * 3 + frame["debt"] ** 2
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    for rounds in (5, 60):
        booster = lightgbm.train(settings, lightgbm.Dataset(frame, value), num_boost_round=rounds)
        booster.save_model(tmp_path / f"m{rounds}.txt")
    frame.assign(value=value.round()).to_csv(tmp_path / "d.csv", index=False)
    command = [
        "audit",
        "--teacher",
        str(tmp_path / "m60.txt"),
        "--student",
        str(tmp_path / "m5.txt"),
        "--data",
        str(tmp_path / "d.csv"),
    ]
    assert main([*command, "--target", "value", "--json", "--exit-zero", *FAST]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == "regression"
    assert {"r2_to_teacher", "rmse"} <= {m["name"] for m in record["metrics"]}
    assert main([*command, "--ignore", "value", "--json", "--exit-zero", *FAST]) == 0
    record = json.loads(capsys.readouterr().out)
    assert "performance" in {one["what"] for one in record["not_assessed"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--target", "outcom"], "Did you mean 'outcome'"),
        (["--audit-only", "nowhere"], "--audit-only names the column 'nowhere'"),
        (["--audit-only", "income"], "gives this column another meaning"),
        (["--adverse", "bed"], "'bed'"),
        (["--threshold", "1.5"], "between 0 and 1"),
        (["--gates", "agrement>=0.9"], "agrement"),
        (["--gates", "agreement>0.9"], "--gates takes limits like"),
        (["--gates", "agreement>=high"], "--gates takes limits"),
        (["--gates", "strict"], "strict"),
        (["--control", "twin"], "ROLE=FILE"),
        (["--control", "twinn=x.onnx"], "Did you mean 'twin'"),
        (["--explain", "kernel_shp"], "Did you mean 'kernel_shap'"),
        (["--student-classes", "good"], "two or more different names"),
        (["--student-classes", "good,worse"], "names its classes itself"),
        (["--background", "nothing.csv"], "There is no file nothing.csv"),
        (["--data", "test.skops"], "neither CSV nor Parquet"),
        (["--data", "os:getcwd"], "os:getcwd"),
        (["--student", "os:getcwd"], "--trust-code"),
        (["--student", "model.pkl"], "Opening a pickle runs whatever code"),
        (["--student", "absent.onnx"], "There is no file absent.onnx"),
        (["--weight", "region"], "must hold numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: list[str], said: str
) -> None:
    monkeypatch.chdir(elsewhere)
    (elsewhere / "test.skops").write_bytes(b"x")
    options = {
        "--teacher": "pipeline.skops",
        "--student": "pipeline.skops",
        "--data": "test.csv",
        "--target": "outcome",
    }
    options |= dict(zip(change[::2], change[1::2], strict=True))
    assert main(["audit", *FAST, *(part for pair in options.items() for part in pair)]) == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.out == ""
    assert len(streams.err.strip().splitlines()) <= 2 + streams.err.count("  - ")
    assert "Traceback" not in streams.err


def test_out_that_is_taken_is_refused_before_any_work(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.txt").write_text("mine")
    assert audited(elsewhere, "absent.onnx", "absent.onnx", tmp_path) == 2
    assert "is not empty and not a run" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


# ── a run ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def wide(n: int, seed: int = 0) -> pd.DataFrame:
    """Seven features, so that not all coalitions fit the budget of the run."""
    frame = made(n, seed)
    frame.insert(0, "x1", frame["age"] * 0.5 + frame["debt"])
    frame.insert(1, "x2", np.arange(n) % 7)
    return frame


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import distillens

    folder = tmp_path_factory.mktemp("runs")
    recipe: dict[str, Any] = {
        "name": "small", "seed": 1,
        "data": {"target": "outcome", "split": {"test": 0.4, "validation": 0.3}},
        "task": {"adverse": "bad", "threshold": 0.4},
        "teacher": {"kind": "boosted_trees", "max_rounds": 15},
        "targets": {"queries": 1},
        "students": {"line": {"kind": "linear"}, "tree": {"kind": "tree", "max_leaves": 5}},
        "explain": [{"kind": "kernel_shap", "budget": 72, "rows": 10, "background": {"from": "train", "rows": 8}}],
        "audit": {"draws": 100},
    }  # fmt: skip
    return Path(distillens.run(recipe, out=folder / "small", data=wide(260)).directory)


def test_explaining_rows_of_a_run_gives_the_stored_numbers_again(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distillens.explainers.base import Explanation

    stored = Explanation.load(finished / "explanations" / "tree.kernel_shap.safetensors")
    ids = [int(row) for row in stored.row_ids[[1, 4]]]
    command = ["explain", str(finished), "--student", "tree", "--rows", f"{ids[0]},{ids[1]}"]
    assert main([*command, "--json", "--out", str(tmp_path / "r.csv")]) == 0
    record = json.loads(capsys.readouterr().out)
    for row, place in zip(record["rows"], (1, 4), strict=True):
        assert row["row_id"] == stored.row_ids[place]
        assert row["target"] == "bad"
        found = {reason["feature"]: reason["attribution"] for reason in row["reasons"]}
        assert np.allclose([found[unit] for unit in stored.units], stored.values[place], atol=1e-12)
        sizes = [abs(reason["attribution"]) for reason in row["reasons"]]
        assert sizes == sorted(sizes, reverse=True)
        assert row["output"] == pytest.approx(row["base"] + row["residual"] + sum(found.values()))
        decided = row["probability"] if row["decided"] == "bad" else 1 - row["probability"]
        assert (decided >= 0.4) == (row["decided"] == "bad")
    lines = pd.read_csv(tmp_path / "r.csv")
    assert list(lines.columns) == ["row_id", "feature", "value", "attribution", "stderr", "target", "base", "output"]
    assert len(lines) == 2 * len(stored.units)
    assert not stored.exact
    assert (lines["stderr"] > 0).any()
    colour = next(r["value"] for r in record["rows"][0]["reasons"] if r["feature"] == "colour")
    assert colour == made(260)["colour"][ids[0]]
    assert main([*command, "--top", "2"]) == 0
    text = capsys.readouterr().out
    assert f"row {ids[0]}: decides" in text
    assert "others together" in text
    assert main(["explain", str(finished), "--student", "teacher"]) == 0
    assert capsys.readouterr().out.count("\nrow ") == 5


def test_explaining_a_file_agrees_with_the_library_call(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explain", "--model", str(elsewhere / "line.onnx"), "--data", str(elsewhere / "test.csv"), "--target", "outcome",
               "--ignore", "region", "--ignore", "colour", "--adverse", "bad", "--background", str(elsewhere / "train.csv"),
               "--rows", "3,7-8", "--json"]  # fmt: skip
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["row_id"] for row in record["rows"]] == [3, 7, 8]
    assert record["exact"]
    # a linear model on independent draws: φ_j = w_j (x_j − mean of the background), in log-odds of bad
    import onnx

    test, train = (pd.read_csv(elsewhere / name) for name in ("test.csv", "train.csv"))
    node = onnx.load(elsewhere / "line.onnx").graph.node[0]
    weights = np.array(next(a for a in node.attribute if a.name == "coefficients").floats)[3:]
    drawn = np.sort(np.random.default_rng([0, 1]).permutation(len(train))[:100])
    names = ["income", "debt", "age"]
    expected = weights * (test[names].to_numpy()[[3, 7, 8]] - train[names].to_numpy()[drawn].mean(axis=0))
    for row, phi in zip(record["rows"], expected, strict=True):
        found = {reason["feature"]: reason["attribution"] for reason in row["reasons"]}
        assert np.allclose([found[name] for name in names], phi, atol=2e-4)


def test_many_rows_go_to_the_file_and_some_to_the_terminal(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", "--model", str(elsewhere / "line.onnx"), "--data", str(elsewhere / "test.csv"), "--target", "outcome",
               "--ignore", "region", "--ignore", "colour", "--rows", "0-29"]  # fmt: skip
    assert main([*command, "--out", str(tmp_path / "all.csv")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\nrow ") == 20
    assert "10 more rows are in the file." in printed
    assert pd.read_csv(tmp_path / "all.csv")["row_id"].nunique() == 30
    assert main(command) == 0
    assert capsys.readouterr().out.count("\nrow ") == 30


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([], "Give either the folder of a run, or --model FILE"),
        (["RUN", "--model", "x.onnx"], "Give either the folder of a run, or --model FILE"),
        (["RUN", "--data", "x.csv"], "--data goes with --model"),
        (["RUN", "--student", "tre"], "Did you mean 'tree'"),
        (["RUN", "--rows", "3-"], "--rows takes row numbers"),
        (["RUN", "--rows", "9-3"], "no range"),
        (["RUN", "--rows", "99999"], "There is no row 99,999; rows are numbered from 0 to 259"),
        (["RUN", "--method", "gradient"], "was not explained by 'gradient'"),
        (["RUN", "--adverse", "bda"], "Did you mean 'bad'"),
        (["nowhere"], "the folder does not exist"),
        (["--model", "x.onnx"], "--model FILE needs --data FILE"),
        (["--model", "x.onnx", "--data", "y.csv", "--student", "tree"], "--student goes with the folder of a run"),
    ],
)  # fmt: skip
def test_explain_refuses_in_one_sentence(
    finished: Path, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    assert main(["explain", *(str(finished) if part == "RUN" else part for part in command)]) == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.err.count("\n") == 1


def test_export_writes_checks_and_the_file_is_audited_as_the_student(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(finished), "--student", "tree", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["path"] == "tree.onnx"
    assert record["parity"]["flips"] == 0
    assert (tmp_path / "tree.onnx").stat().st_size == record["bytes"]
    assert main(["export", str(finished), "--student", "tree"]) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert main(["export", str(finished), "--student", "tree", "--force", "--quiet"]) == 0
    assert capsys.readouterr().out == "tree.onnx\n"
    assert main(["export", str(finished), "--format", "pickle"]) == 2
    wide(400, seed=5).to_csv("new.csv", index=False)
    stored = finished / "students" / "tree" / "model.safetensors"
    code = main(["audit", "--teacher", str(stored), "--student", "tree.onnx", "--data", "new.csv", "--target", "outcome",
                 "--adverse", "bad", "--threshold", "0.4", "--gates", "agreement>=0.9", "--json", *FAST])  # fmt: skip
    audit = json.loads(capsys.readouterr().out)
    assert code == 0
    assert next(m for m in audit["metrics"] if m["name"] == "agreement")["estimate"]["value"] == 1.0
    assert next(m for m in audit["metrics"] if m["name"] == "top_k_overlap")["estimate"]["value"] == pytest.approx(1.0)


def test_compare_shows_runs_side_by_side(
    finished: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = tmp_path / "a|b <i>"
    audited(elsewhere, "pipeline.skops", "pipeline.skops", hostile)
    capsys.readouterr()
    assert main(["compare", str(finished), str(hostile), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    chosen = json.loads((finished / "students" / "chosen.json").read_text())["chosen"]
    assert [(row["run"], row["student"]) for row in record["rows"]] == [("small", chosen), (hostile.name, "student")]
    stored = json.loads((finished / "students" / chosen / "audit.json").read_text())
    for metric in stored["metrics"]:
        if metric["name"] in record["rows"][0]["metrics"] and metric["explainer"] is None:
            assert record["rows"][0]["metrics"][metric["name"]] == metric["estimate"]
    assert "different data" in record["notes"][0]
    assert main(["compare", str(finished), "--all", "--markdown"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.count("|") for line in table[:4]] == [table[0].count("|")] * 4
    assert {"line", "tree"} == {line.split("|")[2].strip() for line in table[2:4]}
    assert main(["compare", str(finished), str(hostile), "--markdown"]) == 0
    assert "a\\|b &lt;i&gt;" in capsys.readouterr().out
    assert main(["compare", str(finished), str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert main(["explain", str(hostile)]) == 2
    assert "was written by `distillens audit`" in capsys.readouterr().err


def test_rows_without_one_of_the_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    frame = made(300)[["income", "debt", "age"]]
    y = np.searchsorted([-0.7, 0.7], frame["income"])
    xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(frame, y).save_model(tmp_path / "m.json")
    held = frame.assign(y=np.array(["a", "b", "c"])[y])[y > 0]
    held.to_csv(tmp_path / "d.csv", index=False)
    path = str(tmp_path / "m.json")
    command = ["audit", "--teacher", path, "--student", path, "--data", str(tmp_path / "d.csv"), "--target", "y", *FAST]
    assert main(command) == 2
    assert "has 3 classes, but there are 2: 'b', 'c'" in capsys.readouterr().err
    assert main([*command, "--classes", "a,b,c", "--json", "--exit-zero"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["classes"] == ["a", "b", "c"]
    assert next(m for m in record["metrics"] if m["name"] == "accuracy")["estimate"]["value"] > 0.95
    assert main([*command, "--classes", "a,c"]) == 2
    assert "The rows hold a class 'b'" in capsys.readouterr().err


def test_help_of_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("audit", "explain", "export", "compare"):
        assert main([command, "--help"]) == 0
        assert "Usage: distillens" in capsys.readouterr().out


def interrupt_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> list[int]:
    """Ctrl-C when so many more blocks of rows are written; returns the list of the block sizes explained from here on."""
    from distillens.explainers import blocks as of_rows
    from distillens.explainers.shapley import ExactShapley

    explained: list[int] = []
    write, call = of_rows.write_record, ExactShapley.__call__

    def written(*given: Any) -> str:
        nonlocal blocks
        blocks -= 1
        if blocks < 0:
            raise KeyboardInterrupt
        return write(*given)

    def counted(self: ExactShapley, model: Any, inputs: Any, **more: Any) -> Any:
        explained.append(len(inputs))
        return call(self, model, inputs, **more)

    monkeypatch.setattr(of_rows, "MOST_ROWS", 2)
    monkeypatch.setattr(of_rows, "write_record", written)
    monkeypatch.setattr(ExactShapley, "__call__", counted)
    return explained


def test_an_interrupted_explanation_goes_on_where_it_stopped(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", "--model", str(elsewhere / "line.onnx"), "--data", str(elsewhere / "test.csv"), "--target", "outcome",
               "--ignore", "region", "--ignore", "colour", "--rows", "0-9", "--background-rows", "6"]  # fmt: skip
    whole, out = tmp_path / "whole.csv", tmp_path / "reasons.csv"
    with monkeypatch.context() as patched:
        patched.setattr("distillens.explainers.blocks.MOST_ROWS", 2)
        assert main([*command, "--out", str(whole)]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["whole.csv"]  # nothing is left beside it
    with monkeypatch.context() as patched:
        explained = interrupt_after(patched, 3)
        assert main([*command, "--out", str(out)]) == 130
        assert explained == [2, 2, 2, 2]
    assert "finished rows are kept. To go on: distillens explain --model" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == [".reasons.csv.partial", "whole.csv"]
    with monkeypatch.context() as patched:
        explained = interrupt_after(patched, 99)
        assert main([*command, "--out", str(out)]) == 0
        assert explained == [2, 2]
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reasons.csv", "whole.csv"]


def test_an_interrupted_audit_goes_on_where_it_stopped(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def once(blocks: int) -> tuple[int, list[int]]:
        with monkeypatch.context() as patched:
            explained = interrupt_after(patched, blocks)
            more = ["--ignore", "region", "--ignore", "colour", "--explain", "exact_shapley"]
            code = audited(elsewhere, "line.onnx", "line.onnx", out, *more)
        return code, explained

    code, explained = once(5)
    assert code == 130
    assert len(explained) == 6
    assert [p.name for p in out.iterdir()] == [".partial"]
    capsys.readouterr()
    code, explained = once(99)
    assert code in (0, 1, 4), capsys.readouterr().err
    assert (
        len(explained) == 2 * 3 - 5
    )  # twice three blocks; the student is the same file, so its blocks are the teacher's
    assert not (out / ".partial").exists()


def test_reasons_against_several_draws_of_the_background(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", "--model", str(elsewhere / "line.onnx"), "--data", str(elsewhere / "test.csv"), "--target", "outcome",
               "--ignore", "region", "--ignore", "colour", "--rows", "3,8", "--background-rows", "6"]  # fmt: skip
    assert main([*command, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["background_draws"] is None
    out = tmp_path / "r.csv"
    assert main([*command, "--background-draws", "4", "--json", "--out", str(out)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["background_draws"]["backgrounds"]) == 4
    assert record["background_draws"]["rows"] == 2
    for row, alone in zip(record["rows"], plain["rows"], strict=True):
        assert [r["attribution"] for r in row["reasons"]] == [r["attribution"] for r in alone["reasons"]]
        assert 0 <= row["same_top"] <= 1
        assert all(r["spread"] > 0 for r in row["reasons"])
    assert list(pd.read_csv(out).columns)[-1] == "spread"
    assert main([*command, "--background-draws", "4"]) == 0
    text = capsys.readouterr().out
    assert "against 4 draws of it two draws name the same main reason in" in text
    assert "with the background)" in text
    assert main([*command[:-1], "200", "--background-draws", "2"]) == 2
    assert "holds the same rows" in capsys.readouterr().err


def test_an_audit_may_leave_out_the_second_explanation(
    elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--ignore", "region", "--ignore", "colour"]
    for option, there in (("--repeatability", True), ("--no-repeatability", False)):
        assert audited(elsewhere, "line.onnx", "line.onnx", tmp_path / option, *more, option, "--json") in (0, 1, 4)
        record = json.loads(capsys.readouterr().out)
        assert (record["reasons"]["background_sensitivity"] is not None) == there
        assert any("stays the same in" in finding["text"] for finding in record["findings"]) == there


def test_effects_of_a_run_show_teacher_and_student_on_one_grid(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distillens.explainers.effects import accumulated_local_effects, partial_dependence
    from distillens.verbs.explain import open_run

    flow = open_run(finished, trust_code=False)
    rows, bad = flow.dataset.test.inputs, flow.dataset.classes.index("bad")
    for kind, formula in (("pdp", partial_dependence), ("ale", accumulated_local_effects)):
        assert (
            main(["explain", str(finished), "--effect", kind, "--feature", "income", "--student", "line", "--json"])
            == 0
        )
        record = json.loads(capsys.readouterr().out)
        assert record["target"] == "bad"
        assert set(record["models"]) == {"teacher", "line"}
        assert record["models"]["teacher"]["grid"] == record["models"]["line"]["grid"]
        for name in ("teacher", "line"):
            expected = formula(flow.models[name], rows, "income", target=bad)
            np.testing.assert_allclose(record["models"][name]["values"], expected.values)
    out = tmp_path / "ice.csv"
    command = [
        "explain",
        str(finished),
        "--effect",
        "ice",
        "--feature",
        "colour",
        "--student",
        "teacher",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "middle 80 %" in text
    assert "red" in text
    assert "█" in text
    lines = pd.read_csv(out)
    assert len(lines) == 2 * len(rows)
    assert np.allclose(lines.groupby("colour")["curve"].mean(), lines.groupby("colour")["effect"].first())


def test_the_dependence_of_a_run_is_read_from_its_explanations(
    finished: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from distillens.explainers.base import Explanation

    command = ["explain", str(finished), "--effect", "dependence", "--feature", "debt", "--student", "tree"]
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    stored = Explanation.load(finished / "explanations" / "tree.kernel_shap.safetensors")
    assert record["attributions"]["tree"] == stored.values[:, stored.index_of("debt")].tolist()
    assert record["row_ids"] == stored.row_ids.tolist()
    some = ",".join(map(str, stored.row_ids[:3]))
    assert main([*command, "--rows", some]) == 0
    assert "3 rows, mean and spread" in capsys.readouterr().out
    file = ["explain", "--model", str(elsewhere / "line.onnx"), "--data", str(elsewhere / "test.csv"), "--target", "outcome",
            "--ignore", "region", "--ignore", "colour"]  # fmt: skip
    out = tmp_path / "d.csv"
    assert main([*file, "--effect", "dependence", "--feature", "debt", "--rows", "0-19", "--out", str(out)]) == 0
    assert "line.onnx: rank correlation of value and attribution" in capsys.readouterr().out
    assert len(pd.read_csv(out)) == 20
    assert [p.name for p in tmp_path.iterdir()] == ["d.csv"]
    assert main([*file, "--effect", "pdp", "--feature", "debt", "--points", "5", "--adverse", "bad", "--json"]) == 0
    (effect,) = json.loads(capsys.readouterr().out)["models"].values()
    assert len(effect["grid"]) == 5
    slope = np.diff(effect["values"]) / np.diff(effect["grid"])
    np.testing.assert_allclose(slope, slope[0], rtol=5e-3)  # linear in the log-odds, up to float32 and the floor


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--effect", "pdp"], "--effect KIND and --feature NAME go together"),
        (["--feature", "debt"], "--effect KIND and --feature NAME go together"),
        (["--effect", "adp", "--feature", "debt"], "Did you mean"),
        (["--effect", "pdp", "--feature", "det"], "Did you mean 'debt'"),
        (["--effect", "ale", "--feature", "colour"], "no order"),
        (["--effect", "pdp", "--feature", "debt", "--adverse", "bat"], "Did you mean 'bad'"),
        (["--effect", "pdp", "--feature", "debt", "--method", "kernel_shap"], "leave --method out"),
        (["--effect", "dependence", "--feature", "debt", "--adverse", "bad"], "leave --adverse out"),
        (["--effect", "dependence", "--feature", "debt", "--rows", "100000"], "did not explain row 100,000"),
        (["--effect", "dependence", "--feature", "debt", "--method", "lime"], "was not explained by"),
    ],
)
def test_effects_refuse_in_one_sentence(
    finished: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["explain", str(finished), *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1

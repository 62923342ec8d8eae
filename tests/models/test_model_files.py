"""Models made elsewhere: each library trains, saves and predicts; the file must answer the same, under the data's names and order."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distillens.data.base import Column, Table
from distillens.data.table import encode_frame, learn_columns
from distillens.errors import (
    ArtefactError,
    DistillensError,
    InputError,
    MissingExtraError,
    ModelError,
    UntrustedCodeError,
)
from distillens.models.base import as_probabilities, evaluate
from distillens.models.files import KINDS, REFUSED, load_model_file, open_model_file

CLASSES = ("high", "low", "mid")  # as data name them: sorted


def numeric(n: int = 240, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Four numbers and a class index 0 … 2 that depends on them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["a b", "c", "d", "e"])
    score = frame["a b"] + frame["c"] * frame["d"] + 0.3 * rng.normal(size=n)
    return frame, np.searchsorted([-0.5, 0.5], score)


def table_of(frame: pd.DataFrame) -> Table:
    return encode_frame(frame, learn_columns(frame))


def asked(path: Path | str, frame: pd.DataFrame, classes: tuple[str, ...], **options: Any) -> np.ndarray[Any, Any]:
    """Probabilities (n, K), or values (n, 1), of the rows of a frame."""
    table = table_of(frame)
    model = load_model_file(path, columns=table.columns, classes=classes, **options)
    assert model.classes == classes
    answers = evaluate(model, table)
    return as_probabilities(answers, model.output) if classes else answers


# ── XGBoost ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("ending", ["json", "ubj"])
@pytest.mark.parametrize("count", [2, 3])
def test_xgboost_classifiers_answer_as_the_library(tmp_path: Path, ending: str, count: int) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    frame, y = numeric()
    y = np.minimum(y, count - 1)
    frame.iloc[3, 1] = np.nan
    fitted = xgboost.XGBClassifier(n_estimators=12, max_depth=3, n_jobs=1).fit(frame, y)
    path = tmp_path / f"m.{ending}"
    fitted.save_model(path)
    classes = CLASSES[:count]
    assert np.allclose(asked(path, frame, classes), fitted.predict_proba(frame), atol=1e-6)
    # by name, whatever the order of the columns and whatever else is there
    other = frame[["e", "d", "c", "a b"]].assign(more=1.0)
    assert np.allclose(asked(path, other, classes), fitted.predict_proba(frame), atol=1e-6)
    # the file numbers its classes; said to be in another order, the answers change places
    swapped = asked(path, frame, classes, own_classes=classes[::-1])
    assert np.allclose(swapped, fitted.predict_proba(frame)[:, ::-1], atol=1e-6)


def test_xgboost_regression_early_stopping_and_positions(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    frame, y = numeric()
    x, value = frame.to_numpy(), frame["c"].to_numpy() + 3 * y
    fitted = xgboost.XGBRegressor(n_estimators=200, learning_rate=0.9, early_stopping_rounds=2, n_jobs=1)
    fitted.fit(x[:160], value[:160], eval_set=[(x[160:], value[160:])], verbose=False)
    assert fitted.best_iteration + 1 < fitted.get_booster().num_boosted_rounds()
    fitted.save_model(tmp_path / "m.json")
    assert open_model_file(tmp_path / "m.json").features is None
    assert np.allclose(asked(tmp_path / "m.json", frame, ())[:, 0], fitted.predict(x), atol=1e-5)
    with pytest.raises(ModelError, match="takes 4 features by position, but the data have 5"):
        asked(tmp_path / "m.json", frame.assign(f=1.0), ())
    with pytest.raises(ModelError, match="is a regression, but there are 3"):
        asked(tmp_path / "m.json", frame, CLASSES)


def test_xgboost_with_another_number_of_classes_and_other_features(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    frame, y = numeric()
    xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(frame, y).save_model(tmp_path / "m.json")
    with pytest.raises(ModelError, match="has 3 classes, but there are 2: 'high', 'low'"):
        asked(tmp_path / "m.json", frame, CLASSES[:2])
    with pytest.raises(ModelError, match="this is a regression"):
        asked(tmp_path / "m.json", frame, ())
    with pytest.raises(ModelError, match=r"wants a feature 'a b' .* Did you mean 'a_b'"):
        asked(tmp_path / "m.json", frame.rename(columns={"a b": "a_b"}), CLASSES)
    with pytest.raises(ModelError, match="takes numbers, but the column 'c' holds text"):
        asked(tmp_path / "m.json", frame.assign(c="red"), CLASSES)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left_children", lambda a: a.__setitem__(0, 10_000)),
        ("right_children", lambda a: a.__setitem__(0, 0)),  # a circle
        ("split_indices", lambda a: a.__setitem__(0, 99)),
        ("left_children", lambda a: a.pop()),
        ("split_conditions", lambda a: a.clear()),
    ],
)
def test_xgboost_files_with_impossible_trees_are_refused(
    tmp_path: Path, name: str, change: Callable[[list[Any]], Any]
) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    frame, y = numeric()
    path = tmp_path / "m.json"
    xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(frame, y).save_model(path)
    record = json.loads(path.read_text())
    change(record["learner"]["gradient_booster"]["model"]["trees"][1][name])
    path.write_text(json.dumps(record))
    with pytest.raises(ArtefactError, match="tree 1 points to nodes or features that do not exist"):
        open_model_file(path)


# ── LightGBM ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("objective", ["binary", "multiclass", "multiclassova", "regression"])
def test_lightgbm_answers_as_the_library(tmp_path: Path, objective: str) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra boosting)")
    frame, y = numeric()
    count = {"binary": 2, "regression": 0}.get(objective, 3)
    y = np.minimum(y, count - 1) if count else y * 1.5
    settings = {"objective": objective, "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    settings |= {"num_class": 3} if count == 3 else {}
    settings |= {"sigmoid": 0.7} if objective == "binary" else {}
    booster = lightgbm.train(settings, lightgbm.Dataset(frame, y), num_boost_round=8)
    booster.save_model(tmp_path / "m.txt")
    expected = booster.predict(frame)
    if objective == "binary":
        expected = np.column_stack([1 - expected, expected])
    if objective == "multiclassova":
        expected = expected / expected.sum(axis=1, keepdims=True)
    classes = CLASSES[:count]
    found = asked(tmp_path / "m.txt", frame[["e", "d", "c", "a b"]], classes)  # "a b" is "a_b" in the file
    assert np.allclose(found, expected.reshape(len(frame), -1), atol=1e-9)


def test_lightgbm_categories_are_found_by_their_texts(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra boosting)")
    frame, y = numeric()
    rng = np.random.default_rng(1)
    frame["colour"] = pd.Categorical(
        rng.choice(["red", "green", "blue"], len(frame)), categories=["red", "green", "blue"]
    )
    label = ((frame["colour"] == "green") ^ (y > 1)).astype(int)
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1.0},
        lightgbm.Dataset(frame, label), num_boost_round=8,
    )  # fmt: skip
    booster.save_model(tmp_path / "m.txt")
    plain = frame.assign(colour=frame["colour"].astype(str))  # sorted by us: blue, green, red
    expected = booster.predict(frame)
    assert np.allclose(asked(tmp_path / "m.txt", plain, ("no", "yes"))[:, 1], expected, atol=1e-9)
    assert expected.std() > 0.05
    with pytest.raises(ModelError, match="knows other values of 'colour'"):
        asked(tmp_path / "m.txt", plain.assign(colour="rot"), ("no", "yes"))


@pytest.mark.parametrize("change", [("left_child=", "left_child=77 "), ("split_feature=", "split_feature=40 ")])
def test_lightgbm_files_with_impossible_trees_are_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra boosting)")
    frame, y = numeric()
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    lightgbm.train(settings, lightgbm.Dataset(frame, y), num_boost_round=1).save_model(tmp_path / "m.txt")
    lines = (tmp_path / "m.txt").read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith(change[0]))
    lines[place] = change[1] + " ".join(lines[place].partition("=")[2].split()[1:])
    (tmp_path / "m.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(ArtefactError, match="points to nodes or features that do not exist"):
        open_model_file(tmp_path / "m.txt")


# ── scikit-learn by skops ───────────────────────────────────────────────────────────────────────────────────────────
def estimators() -> dict[str, Any]:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        RandomForestClassifier,
        VotingClassifier,
    )
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.tree import DecisionTreeClassifier

    return {
        "logistic": LogisticRegression(max_iter=500),
        "tree": DecisionTreeClassifier(max_depth=3),
        "forest": RandomForestClassifier(4, max_depth=3),
        "boosting": GradientBoostingClassifier(n_estimators=3),
        "histogram": HistGradientBoostingClassifier(max_iter=4),
        "network": MLPClassifier((4,), max_iter=400, tol=0.05),
        "calibrated": CalibratedClassifierCV(LogisticRegression(max_iter=500)),
        "voting": VotingClassifier([("a", LogisticRegression(max_iter=500)), ("b", DecisionTreeClassifier(max_depth=2))], voting="soft"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(estimators()))
def test_skops_pipelines_answer_as_scikit_learn_with_classes_by_name(tmp_path: Path, name: str) -> None:
    io = pytest.importorskip("skops.io", reason="skops is not installed (extra skops)")
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame, y = numeric()
    frame["colour"] = np.where(np.arange(len(frame)) % 3 == 0, "red", "blue")
    frame.iloc[5, 0] = np.nan
    before = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["a b", "c", "d", "e"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"]),
    )
    pipeline = make_pipeline(before, estimators()[name]).fit(frame, np.array(["mid", "low", "high"])[y])
    io.dump(pipeline, tmp_path / "m.skops")
    found = asked(tmp_path / "m.skops", frame[["colour", "e", "d", "c", "a b"]], ("low", "mid", "high"))
    own = [str(name) for name in pipeline.classes_]
    assert own == ["high", "low", "mid"]
    assert np.allclose(found, pipeline.predict_proba(frame)[:, [1, 2, 0]], atol=1e-12)
    with pytest.raises(ModelError, match="'mid'"):
        asked(tmp_path / "m.skops", frame, ("high", "low"))


def test_skops_types_that_were_not_reviewed_are_named_and_never_made(tmp_path: Path) -> None:
    io = pytest.importorskip("skops.io", reason="skops is not installed (extra skops)")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.svm import SVC

    frame, y = numeric()
    io.dump(SVC().fit(frame, y), tmp_path / "svm.skops")  # the library itself would load this one
    assert io.get_untrusted_types(file=tmp_path / "svm.skops") == []
    with pytest.raises(UntrustedCodeError, match=r"'sklearn.svm._classes.SVC', which is not among the types"):
        open_model_file(tmp_path / "svm.skops", trust_code=True)
    io.dump(make_pipeline(FunctionTransformer(np.log1p)).fit(abs(frame)), tmp_path / "f.skops")
    with pytest.raises(UntrustedCodeError, match="FunctionTransformer"):
        open_model_file(tmp_path / "f.skops")


@pytest.mark.parametrize(
    ("loader", "module", "name"),
    [
        ("FunctionNode", "builtins", "eval"),
        ("ConstructorFromReduceNode", "posix", "system"),
        ("ObjectNode", "subprocess", "Popen"),
        ("TypeNode", "subprocess", "Popen"),
        ("OperatorFuncNode", "operator", "methodcaller"),
        ("MethodNode", "sklearn.tree._classes", "DecisionTreeClassifier"),
        ("NdArrayNode", "numpy", "void"),
    ],
)
def test_skops_files_that_ask_for_code_are_refused(tmp_path: Path, loader: str, module: str, name: str) -> None:
    io = pytest.importorskip("skops.io", reason="skops is not installed (extra skops)")
    from sklearn.tree import DecisionTreeClassifier

    frame, y = numeric()
    io.dump(DecisionTreeClassifier(max_depth=2).fit(frame, y), tmp_path / "m.skops")
    with zipfile.ZipFile(tmp_path / "m.skops") as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    schema = json.loads(files["schema.json"])
    marker = tmp_path / "was here"
    schema["content"]["content"]["criterion"] = {
        "__class__": name, "__module__": module, "__loader__": loader,
        "content": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [
            {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(f"touch '{marker}'"), "is_json": True}]},
    }  # fmt: skip
    files["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(tmp_path / "evil.skops", "w") as archive:
        for file, payload in files.items():
            archive.writestr(file, payload)
    with pytest.raises(UntrustedCodeError, match=name):
        open_model_file(tmp_path / "evil.skops")
    assert not marker.exists()


def test_skops_trees_with_impossible_nodes_are_refused(tmp_path: Path) -> None:
    io = pytest.importorskip("skops.io", reason="skops is not installed (extra skops)")
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    frame, y = numeric()
    tree = DecisionTreeClassifier(max_depth=3).fit(frame, y)
    state = tree.tree_.__getstate__()
    state["nodes"]["left_child"][0] = 10_000
    tree.tree_.__setstate__(state)
    io.dump(tree, tmp_path / "m.skops")
    with pytest.raises(ArtefactError, match="points to nodes or features that do not exist"):
        open_model_file(tmp_path / "m.skops")

    wide = frame.assign(**{f"x{j}": float(j) for j in range(9)}, z=y.astype(float))
    forest = RandomForestClassifier(2).fit(frame, y)
    forest.estimators_[1] = DecisionTreeClassifier(max_depth=2).fit(wide, y)  # reads columns that rows do not have
    io.dump(forest, tmp_path / "m.skops")
    with pytest.raises(ArtefactError, match="features that do not exist"):
        open_model_file(tmp_path / "m.skops")

    boosted = HistGradientBoostingClassifier(max_iter=2).fit(frame, y)
    boosted._predictors[0][0].nodes["feature_idx"][0] = 40
    io.dump(boosted, tmp_path / "m.skops")
    with pytest.raises(ArtefactError, match="features that do not exist"):
        open_model_file(tmp_path / "m.skops")


# ── ONNX by others ──────────────────────────────────────────────────────────────────────────────────────────────────
def logistic_onnx(path: Path, fitted: Any, *, keys: list[Any], form: str, names: list[str] | None = None) -> Path:
    """What converters of scikit-learn write for a logistic regression: LinearClassifier, Normalizer, ZipMap."""
    import onnx
    from onnx import TensorProto, helper

    order = [[str(k) for k in fitted.classes_].index(str(key)) for key in keys]
    kind = "classlabels_strings" if isinstance(keys[0], str) else "classlabels_ints"
    nodes, inputs = [], [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])]
    if names is not None:
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
        nodes.append(helper.make_node("Concat", names, ["X"], axis=1))
    nodes.append(helper.make_node(
        "LinearClassifier", ["X"], ["label", "scores"], domain="ai.onnx.ml",
        coefficients=fitted.coef_[order].astype(float).ravel().tolist(), intercepts=fitted.intercept_[order].astype(float).tolist(),
        multi_class=1, post_transform="SOFTMAX", **{kind: keys},
    ))  # fmt: skip
    kinds = {"zipmap": None, "probabilities": "probabilities", "unnamed": "Y", "logits": "logits"}
    label = TensorProto.STRING if isinstance(keys[0], str) else TensorProto.INT64
    outputs = [helper.make_tensor_value_info("label", label, [None])]
    if form == "zipmap":
        zipped = "classlabels_strings" if isinstance(keys[0], str) else "classlabels_int64s"
        nodes.append(
            helper.make_node("ZipMap", ["scores"], ["output_probability"], domain="ai.onnx.ml", **{zipped: keys})
        )
        made = helper.make_map_type_proto(label, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        outputs.append(helper.make_value_info("output_probability", helper.make_sequence_type_proto(made)))
    else:
        nodes.append(helper.make_node("Identity", ["scores"], [kinds[form]]))
        outputs.append(helper.make_tensor_value_info(str(kinds[form]), TensorProto.FLOAT, [None, 3]))
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("form", ["zipmap", "probabilities", "unnamed"])
@pytest.mark.parametrize("named", [False, True], ids=["one matrix", "an input a feature"])
def test_onnx_classifiers_of_other_programs(tmp_path: Path, form: str, named: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    frame, y = numeric()
    fitted = LogisticRegression(max_iter=500).fit(frame.to_numpy(), np.array(["mid", "low", "high"])[y])
    path = logistic_onnx(tmp_path / "m.onnx", fitted, keys=["low", "high", "mid"], form=form,
                         names=list(frame.columns) if named else None)  # fmt: skip
    rows = frame[["e", "d", "c", "a b"]] if named else frame
    expected = fitted.predict_proba(frame.to_numpy())  # high, low, mid
    assert np.allclose(asked(path, rows, CLASSES), expected, atol=1e-5)
    assert np.allclose(asked(path, rows, ("mid", "low", "high")), expected[:, [2, 1, 0]], atol=1e-5)
    with pytest.raises(ModelError, match="has a class 'low' that the data do not have"):
        asked(path, rows, ("high", "mid", "lowest"))
    with pytest.raises(ModelError, match="that the data do not have" if named else "4 features by position"):
        asked(path, rows.drop(columns="e"), CLASSES)


def test_onnx_with_label_codes_in_another_order(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    frame, y = numeric()
    fitted = LogisticRegression(max_iter=500).fit(frame.to_numpy(), y)
    path = logistic_onnx(tmp_path / "m.onnx", fitted, keys=[2, 0, 1], form="zipmap")
    assert np.allclose(asked(path, frame, CLASSES), fitted.predict_proba(frame.to_numpy()), atol=1e-5)
    path = logistic_onnx(tmp_path / "n.onnx", fitted, keys=[2, 0, 1], form="probabilities")
    assert np.allclose(asked(path, frame, CLASSES), fitted.predict_proba(frame.to_numpy()), atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_onnx_networks_of_torch_answer_with_logits_or_values(tmp_path: Path, outputs: int) -> None:
    import torch
    from onnx import TensorProto, helper, numpy_helper, save

    frame, _ = numeric()
    layer = torch.nn.Linear(4, outputs)
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(tmp_path / "m.onnx"))
    answers = layer(torch.tensor(frame.to_numpy(), dtype=torch.float32)).detach().numpy()
    if outputs == 1:
        assert np.allclose(asked(tmp_path / "m.onnx", frame, ()), answers, atol=1e-5)
        two = asked(tmp_path / "m.onnx", frame, ("no", "yes"))
        assert np.allclose(two[:, 1], 1 / (1 + np.exp(-answers[:, 0])), atol=1e-5)
    else:
        expected = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
        assert np.allclose(asked(tmp_path / "m.onnx", frame, CLASSES), expected, atol=1e-5)


# ── ours, and code ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_our_own_file_finds_features_by_name_and_categories_by_text(tmp_path: Path) -> None:
    from distillens.data.base import Split
    from distillens.models.store import save_model
    from distillens.students.linear import LinearStudent
    from distillens.transfer.targets import Targets

    frame, y = numeric()
    frame["colour"] = np.where(y > 1, "red", np.where(np.arange(len(y)) % 2, "blue", "green"))
    table = table_of(frame)
    split = Split(table, y.astype(np.int64))
    model = LinearStudent().fit(
        Targets.from_labels(split, CLASSES), validation=split, teacher=None, seed=0, out=tmp_path
    )
    save_model(model, tmp_path / "m.safetensors")
    other = frame[["colour", "e", "d", "c", "a b"]]
    columns = (
        Column("colour", "categorical", ("red", "violet", "green", "blue")),
        *(Column(n) for n in ("e", "d", "c", "a b")),
    )
    found = load_model_file(tmp_path / "m.safetensors", columns=columns, classes=("low", "mid", "high"))
    expected = as_probabilities(evaluate(model, table), model.output)[:, [1, 2, 0]]
    answers = as_probabilities(evaluate(found, encode_frame(other, columns)), found.output)
    assert np.allclose(answers, expected, atol=1e-12)
    with pytest.raises(ModelError, match="wants a feature 'colour'"):
        asked(tmp_path / "m.safetensors", frame.drop(columns="colour"), CLASSES)
    with pytest.raises(ModelError, match="write them as the model knows them"):
        asked(tmp_path / "m.safetensors", frame.assign(colour=np.where(y > 1, "rot", "blau")), CLASSES)


CODE = """
import numpy as np
def score(frame):
    assert list(frame.columns) == ["a b", "c", "d", "e"]
    return 1 / (1 + np.exp(-frame["c"].to_numpy()))
def ordered(frame):
    p = score(frame)
    return np.column_stack([p, 1 - p])
ordered.classes = ("yes", "no")
def wrong(frame):
    return np.full((len(frame), 2), 0.7)
def raises(frame):
    raise KeyError("boom")
def value(frame):
    return frame["c"] * 2
number = 3
class Thing: pass
"""


def test_callables_run_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    frame, _ = numeric()
    with pytest.raises(UntrustedCodeError, match="--trust-code"):
        open_model_file("elsewhere_code:score")
    assert "elsewhere_code" not in sys.modules
    p = 1 / (1 + np.exp(-frame["c"].to_numpy()))
    options: dict[str, Any] = {"trust_code": True}
    assert np.allclose(asked("elsewhere_code:score", frame, ("no", "yes"), **options)[:, 1], p)
    assert np.allclose(asked("elsewhere_code:ordered", frame, ("no", "yes"), **options)[:, 1], p)
    assert np.allclose(asked("elsewhere_code:value", frame, (), **options)[:, 0], 2 * frame["c"])
    for name, said in (("wrong", "add up to 1"), ("raises", "raised KeyError"), ("number", "is a int"),
                       ("Thing", "is a class"), ("absent", "has no 'absent'")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            asked(f"elsewhere_code:{name}", frame, ("no", "yes"), **options)


def test_a_torch_module_and_a_fitted_estimator_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    (tmp_path / "elsewhere_models.py").write_text(
        "import numpy as np, torch\nfrom sklearn.linear_model import LogisticRegression\n"
        "module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5))\n"
        "rng = np.random.default_rng(0)\nx = rng.normal(size=(90, 4))\n"
        "fitted = LogisticRegression().fit(x, np.array(['low', 'high', 'mid'])[np.arange(90) % 3])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    frame, _ = numeric()
    found = asked("elsewhere_models:module", frame, CLASSES, trust_code=True)
    import elsewhere_models  # type: ignore[import-not-found]

    assert elsewhere_models.module.training  # left as it was
    logits = elsewhere_models.module[0](torch.tensor(frame.to_numpy(), dtype=torch.float32))
    assert np.allclose(found, torch.softmax(logits, 1).detach().numpy(), atol=1e-6)
    expected = elsewhere_models.fitted.predict_proba(frame.to_numpy())
    assert np.allclose(asked("elsewhere_models:fitted", frame, CLASSES, trust_code=True), expected)


# ── files that are not what they seem ───────────────────────────────────────────────────────────────────────────────
def one_sentence(error: DistillensError) -> bool:
    text = str(error)
    return len(text) < 700 and "\n" not in text and "Traceback" not in text


@pytest.mark.parametrize("ending", sorted(KINDS))
@pytest.mark.parametrize(
    "payload",
    [b"", b"\x00" * 64, b"{}", b"[1, 2]", b"null", b'{"learner": {}}', b"tree\nend of trees\n", b"PK\x03\x04 cut off", b"\xff\xfe" * 40, b"[" * 5000],
    ids=["empty", "zeros", "object", "list", "null", "learner", "lightgbm head", "zip head", "bytes", "deep"],
)  # fmt: skip
def test_garbage_under_every_ending_is_one_sentence(tmp_path: Path, ending: str, payload: bytes) -> None:
    path = tmp_path / f"m{ending}"
    path.write_bytes(payload)
    with pytest.raises((ArtefactError, ModelError)) as caught:
        open_model_file(path)
    assert one_sentence(caught.value)
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize("ending", ["json", "ubj", "txt", "skops", "onnx", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_files_are_one_sentence(tmp_path: Path, ending: str, share: float) -> None:
    path = real_file(tmp_path, ending)
    whole = path.read_bytes()
    open_model_file(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArtefactError) as caught:
        open_model_file(path)
    assert one_sentence(caught.value)


def real_file(folder: Path, ending: str) -> Path:
    frame, y = numeric(120)
    path = folder / f"real.{ending}"
    if ending in ("json", "ubj"):
        xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
        xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(frame, y).save_model(path)
    elif ending == "txt":
        lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra boosting)")
        settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
        lightgbm.train(settings, lightgbm.Dataset(frame, y), num_boost_round=3).save_model(path)
    elif ending == "skops":
        io = pytest.importorskip("skops.io", reason="skops is not installed (extra skops)")
        from sklearn.tree import DecisionTreeClassifier

        io.dump(DecisionTreeClassifier(max_depth=3).fit(frame, y), path)
    elif ending == "onnx":
        from sklearn.linear_model import LogisticRegression

        logistic_onnx(path, LogisticRegression(max_iter=500).fit(frame.to_numpy(), y), keys=[0, 1, 2], form="zipmap")
    else:
        from distillens.models.constant import ConstantModel
        from distillens.models.store import save_model

        save_model(ConstantModel(("no", "yes"), np.array([0.2, 0.8])), path)
    return path


@pytest.mark.parametrize("ending", sorted(REFUSED))
def test_formats_that_run_code_are_not_opened_and_the_way_out_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(b"cos\nsystem\n(S'touch never'\ntR.")
    with pytest.raises(UntrustedCodeError, match=r"is not opened\. .*\.onnx") as caught:
        open_model_file(path, trust_code=True)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("name", ["x" * 5000 + ".json", "nul\x00.onnx", "absent.skops", "model.xyz", "", "a" * 300])
def test_names_that_lead_nowhere_are_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_model_file(str(tmp_path / name) if name else "")
    assert one_sentence(caught.value)


def test_a_missing_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, ending, extra in (
        ("xgboost", "json", "boosting"),
        ("lightgbm", "txt", "boosting"),
        ("skops.io", "skops", "skops"),
    ):
        (tmp_path / f"m.{ending}").write_bytes(b"x")
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=rf"distillens\[{extra}\]"):
            open_model_file(tmp_path / f"m.{ending}")


def test_external_data_of_an_onnx_file_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(4, dtype=np.float32).tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])], [tensor],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="keeps its numbers in other files"):
        open_model_file(tmp_path / "m.onnx")
    assert onnx.load_model_from_string((tmp_path / "m.onnx").read_bytes()).graph.initializer[0].name == "w"


@pytest.mark.parametrize("ending", ["json", "ubj", "txt"])
def test_damaged_bytes_never_reach_a_native_reader(tmp_path: Path, ending: str) -> None:
    """Each file is opened and asked in a process of its own, which a crash inside a library would end."""
    import random
    import subprocess

    whole = real_file(tmp_path, ending).read_bytes()
    draw = random.Random(4)
    for number in range(40):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 2, 5])):
            damaged[draw.randrange(len(damaged))] = (
                draw.randrange(256) if ending == "ubj" else ord(draw.choice("0123456789-.,e"))
            )
        (tmp_path / f"d{number}.{ending}").write_bytes(damaged)
    code = """
import sys
import numpy as np
from distillens.data.base import Column, Table
from distillens.errors import InputError
from distillens.models.base import evaluate
from distillens.models.files import load_model_file
columns = tuple(Column(name) for name in ("a b", "c", "d", "e"))
rows = Table(np.random.default_rng(0).normal(size=(20, 4)), columns, np.arange(20))
for path in sys.argv[2:]:
    try:
        evaluate(load_model_file(path, columns=columns, classes=tuple(filter(None, sys.argv[1].split(",")))), rows)
    except InputError:
        pass
    print("done")
"""
    files = sorted(str(path) for path in tmp_path.glob(f"d*.{ending}"))
    classes = "" if ending == "txt" else ",".join(CLASSES)
    ended = subprocess.run([sys.executable, "-c", code, classes, *files], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.count("done")) == (0, 40), ended.stderr[-500:]


@pytest.mark.parametrize("booster", ["dart", "gblinear"])
@pytest.mark.parametrize("objective", ["binary:logistic", "multi:softprob", "reg:squarederror", "count:poisson"])
def test_other_boosters_of_xgboost(tmp_path: Path, booster: str, objective: str) -> None:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed (extra boosting)")
    frame, y = numeric()
    count = {"b": 2, "m": 3}.get(objective[0], 0)
    settings: dict[str, Any] = {"booster": booster, "objective": objective, "verbosity": 0, "nthread": 1}
    settings |= {"rate_drop": 0.5} if booster == "dart" else {}
    settings |= {"num_class": 3} if count == 3 else {}
    fitted = xgboost.train(settings, xgboost.DMatrix(frame, np.minimum(y, 1) if count == 2 else y), 5)
    fitted.save_model(tmp_path / "m.ubj")
    expected = fitted.predict(xgboost.DMatrix(frame))
    found = asked(tmp_path / "m.ubj", frame, CLASSES[:count])
    assert np.allclose(found if count == 3 else found[:, -1], expected, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "quantile", "alpha": 0.3},
        {"objective": "poisson"},
        {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
        {"objective": "regression", "boosting": "dart"},
    ],
    ids=["sqrt", "quantile", "poisson", "forest", "dart"],
)
def test_other_objectives_and_boosters_of_lightgbm(tmp_path: Path, settings: dict[str, Any]) -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra boosting)")
    frame, y = numeric()
    frame.iloc[::7, 1] = np.nan
    fitted = lightgbm.train(settings | {"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(frame, y), 6)
    fitted.save_model(tmp_path / "m.txt")
    assert np.allclose(asked(tmp_path / "m.txt", frame, ())[:, 0], fitted.predict(frame), atol=1e-12)

"""The file itself: valid, deterministic, self-describing, and silent about where it was made."""

from __future__ import annotations

import getpass
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from distillens.data.base import Column, Table
from distillens.errors import ModelError, RunError
from distillens.exporters.base import EXPORTERS, ExportResult
from distillens.exporters.onnx import EMITTERS, OnnxExport
from distillens.models.base import Decision, as_probabilities
from distillens.models.constant import ConstantModel
from distillens.models.onnx_description import KEY, raw_inputs
from distillens.named import load_object, resolve
from distillens.store import file_hash

FAMILIES = ["linear", "tree", "additive", "network"]


def described(path: Path) -> dict[str, object]:
    proto = onnx.load(path)
    return json.loads({entry.key: entry.value for entry in proto.metadata_props}[KEY])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_is_valid_and_equal_models_give_equal_bytes(family: str, models, tmp_path: Path) -> None:
    model = models(family, "binary")
    first = OnnxExport()(model, tmp_path / "a" / "m.onnx", decision=Decision(1, 0.3))
    again = type(model).from_record(*model.to_record())
    second = OnnxExport()(again, tmp_path / "b" / "m.onnx", decision=Decision(1, 0.3))
    assert first == second
    payload = (tmp_path / "a" / "m.onnx").read_bytes()
    assert (first.bytes, first.sha256) == (len(payload), file_hash(tmp_path / "a" / "m.onnx"))
    onnx.checker.check_model(onnx.load_model_from_string(payload), full_check=True)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["m.onnx"]
    for secret in (str(Path.cwd()), str(Path.home()), sys.prefix, "site-packages", "stack_trace", "torch.nn"):
        assert secret.encode() not in payload
    if len(getpass.getuser()) > 4:
        assert getpass.getuser().encode() not in payload


def test_metadata_map_the_inputs_to_the_users_names(models, table: Table, tmp_path: Path) -> None:
    model = models("tree", "binary")
    result = OnnxExport()(model, tmp_path / "m.onnx", decision=Decision(1, 0.3))
    record = described(tmp_path / "m.onnx")
    assert [i["feature"] for i in record["inputs"]] == list(table.names)
    assert [i["input"] for i in record["inputs"]][:2] == ["x0_age_in_years", "x1_say_hi_script_alert_1_script"]
    assert all(len(i["input"]) <= 48 and i["input"].isascii() and i["input"].isidentifier() for i in record["inputs"])
    assert [i["dtype"] for i in record["inputs"]] == ["float32", "string", "string", "string", "float32", "float32"]
    assert [i["categories"] for i in record["inputs"]] == [list(c.categories) for c in table.columns]
    assert record["classes"] == ["no", "<i>yes</i>"]
    assert record["decision"] == {"adverse": 1, "adverse_class": "<i>yes</i>", "threshold": 0.3}
    assert (record["task"], record["output"], record["kind"]) == ("binary", "probabilities", "tree")
    assert record["fingerprint"] == model.fingerprint
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == [i["input"] for i in record["inputs"]]
    assert (
        [o.name for o in session.get_outputs()]
        == [o["name"] for o in record["outputs"]]
        == ["probabilities", "decision"]
    )
    assert result.to_json()["inputs"][1] == {
        "input": "x1_say_hi_script_alert_1_script", "feature": table.names[1], "dtype": "string",
    }  # fmt: skip


def test_anybody_can_run_it_from_the_metadata_alone(models, table: Table, tmp_path: Path) -> None:
    """Raw values and texts in, without distillens: the missing and unseen texts are where the description says."""
    model = models("linear", "multiclass")
    OnnxExport()(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    frame = table.to_frame()
    feeds = {}
    for one in described(tmp_path / "m.onnx")["inputs"]:
        column = frame[one["feature"]]
        if one["dtype"] == "float32":
            numbers = [{None: np.nan, "(unseen)": np.nan}.get(v, v) for v in column]
            feeds[one["input"]] = np.array(numbers, dtype=np.float64).astype(np.float32)[:, None]
        else:
            unseen = table.values[:, table.index_of(one["feature"])] == -1
            texts = [
                one["missing"] if v is None or v != v else "never heard of" if u else v
                for v, u in zip(column, unseen, strict=True)
            ]
            feeds[one["input"]] = np.array(texts, dtype=object)[:, None]
    (found,) = session.run(["probabilities"], feeds)
    np.testing.assert_allclose(found, as_probabilities(model(table), "logits"), atol=1e-12)


def test_texts_that_mean_missing_never_collide_with_categories() -> None:
    (plain, taken) = raw_inputs((
        Column("a", "categorical", ("x",)),
        Column("b", "categorical", ("", "(missing)", "(unseen)", "((unseen))")),
    ))  # fmt: skip
    assert (plain.missing, plain.unseen) == ("", "(unseen)")
    assert (taken.missing, taken.unseen) == ("((missing))", "(((unseen)))")


@pytest.mark.parametrize("texts", [("0", "1"), ("False", "True"), ("0.0", "1.0")])
def test_booleans_that_look_like_numbers_are_fed_as_numbers(texts: tuple[str, str]) -> None:
    assert raw_inputs((Column("b", "boolean", texts),))[0].dtype == "float32"
    assert raw_inputs((Column("b", "boolean", ("female", "male")),))[0].dtype == "string"


def test_what_cannot_be_exported_says_so(models, table: Table, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match=r"ConstantModel.*linear, tree, additive, .*network, boosted_trees"):
        OnnxExport()(ConstantModel(("a", "b"), np.array([0.5, 0.5])), path)
    model = models("additive", "regression")
    with pytest.raises(ModelError, match="decision speaks of class 1, but the model 'additive' has 0 classes"):
        OnnxExport()(model, path, decision=Decision(1, 0.5))
    with pytest.raises(ModelError, match="Two features are called 'age in years'"):
        OnnxExport()(replace(model, columns=(table.columns[0], *table.columns[1:5], table.columns[0])), path)
    asked = models("tree", "binary")
    with pytest.raises(ModelError, match="standardised numbers"):
        OnnxExport()(replace(asked, encoding=replace(asked.encoding, scale=asked.encoding.scale * 2)), path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        OnnxExport()(model, tmp_path / "file" / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_network_torch_cannot_export_is_an_error_and_nothing_is_left_behind(models, tmp_path: Path) -> None:
    import torch

    class Stubborn(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2] if x.sum() > 0 else x[:, 1:3]  # asks the data: cannot be traced

    model = replace(models("network", "binary"), module=Stubborn())
    level = logging.getLogger("torch.onnx").level
    with pytest.raises(ModelError, match="torch cannot export the network 'network'"):
        OnnxExport()(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("torch.onnx").level == level


def test_torchs_exporter_is_silent_and_the_network_is_left_as_it_was(models, tmp_path: Path, capfd) -> None:
    model = models("network", "binary")
    model.module.train()
    try:
        OnnxExport()(model, tmp_path / "m.onnx")
        assert all(part.training for part in model.module.modules())
    finally:
        model.module.eval()
    assert capfd.readouterr() == ("", "")


def test_exporters_are_an_open_set_that_imports_nothing_heavy() -> None:
    assert resolve("onnx", EXPORTERS, what="exporter")().kind == "onnx"
    assert all(callable(load_object(path)) for path in EMITTERS.values())
    code = (
        "import sys, distillens.exporters.base, distillens.exporters.onnx as o; o.OnnxExport();"
        "print(sorted({'onnx', 'torch', 'onnxruntime', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_results_are_plain_json() -> None:
    result = ExportResult("m.onnx", 12, "ab", ({"input": "x0", "feature": "a", "dtype": "float32"},), 18)
    assert json.loads(json.dumps(result.to_json())) == result.to_json()
    assert set(result.to_json()) == {"file", "bytes", "sha256", "inputs", "opset"}

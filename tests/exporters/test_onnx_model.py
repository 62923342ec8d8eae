"""Reading files back: damaged, foreign and tampered ones are refused; tables are matched by the names of their columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from distillens.data.base import Column, Table
from distillens.errors import ArtefactError, ModelError
from distillens.exporters.footprint import footprint
from distillens.exporters.onnx import OnnxExport
from distillens.models.base import Model, evaluate
from distillens.models.onnx import OnnxModel
from distillens.models.onnx_description import KEY
from distillens.store import file_hash


@pytest.fixture
def path(models, tmp_path: Path) -> Path:
    OnnxExport()(models("tree", "binary"), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_it_is_a_model(path: Path, models, table: Table) -> None:
    exported = OnnxModel.load(path, label="tree.onnx")
    assert isinstance(exported, Model)
    assert exported.label == "tree.onnx"
    assert OnnxModel.load(str(path)).label == "tree"
    assert exported.fingerprint == file_hash(path)
    assert exported.complexity() == {"size_bytes": path.stat().st_size}
    assert evaluate(exported, table).shape == (len(table), 2)
    with pytest.raises(ModelError, match="without a decision"):
        exported.decide(table)


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -200])
def test_a_truncated_file_is_refused(path: Path, cut: int) -> None:
    payload = path.read_bytes()
    path.write_bytes(payload[:cut])
    with pytest.raises(ArtefactError, match=r"m\.onnx"):
        OnnxModel.load(path)


def test_damage_is_an_error_or_harmless(path: Path, table: Table) -> None:
    """Any flipped byte: refused, or the file still runs; nothing else is raised."""
    payload = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.integers(len(payload), size=60):
        damaged = payload.copy()
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            OnnxModel.load(path, threads=1)
        except ArtefactError as error:
            assert "m.onnx" in str(error)  # noqa: PT017  (either way is right)
            refused += 1
    assert refused > 0


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"nothing\.onnx cannot be read"):
        OnnxModel.load(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("a,b\n1,2\n")
    with pytest.raises(ArtefactError, match=r"text\.onnx is not an ONNX file"):
        OnnxModel.load(tmp_path / "text.onnx")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", info[:1], info[1:])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(ArtefactError, match=r"foreign\.onnx is an ONNX file, but was not exported by distillens"):
        OnnxModel.load(tmp_path / "foreign.onnx")


def tampered(path: Path, change) -> None:
    proto = onnx.load(path)
    record = json.loads(proto.metadata_props[0].value)
    change(proto, record)
    helper.set_model_props(proto, {KEY: json.dumps(record)})
    onnx.save(proto, path)


def test_tampering_is_noticed(path: Path) -> None:
    original = path.read_bytes()

    def other_file(proto, record) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    def lookup(proto, record) -> None:
        node = next(n for n in proto.graph.node if n.op_type == "LabelEncoder")
        next(a for a in node.attribute if a.name == "values_floats").floats[0] = 3.0

    def function(proto, record) -> None:
        proto.functions.add(name="f", domain="d")

    changes = {
        "functions, sub-graphs": function,
        "other files": other_file,
        "other codes": lookup,
        "inputs or outputs": lambda proto, record: record["inputs"].pop(),
        "inputs or outputs that": lambda proto, record: record.update(output="values"),
        "schema 9": lambda proto, record: record.update(schema=9),
        "damaged description": lambda proto, record: record.pop("classes"),
        "damaged description of": lambda proto, record: record["inputs"][0].update(kind="magic"),
    }
    for message, change in changes.items():
        path.write_bytes(original)
        tampered(path, change)
        with pytest.raises(ArtefactError, match=message):
            OnnxModel.load(path)


def test_columns_are_found_by_name_and_categories_by_text(path: Path, models, table: Table) -> None:
    exported = OnnxModel.load(path)
    expected = exported(table)
    order = [5, 3, 1, 0, 4, 2]
    shuffled = Table(
        np.column_stack([table.values[:, order], np.zeros(len(table))]),
        (*(table.columns[j] for j in order), Column("more")),
        table.row_ids,
    )
    np.testing.assert_array_equal(exported(shuffled), expected)

    # the same texts under other codes, one more category, and the boolean the other way round
    categories = table.columns[2].categories
    recoded = (
        Column(table.names[2], "categorical", ("new one", *reversed(categories))),
        Column(table.names[3], "boolean", ("yes", "no")),
    )
    values = table.values.copy()
    values[:, 2] = np.where(values[:, 2] >= 0, len(categories) - values[:, 2], np.where(values[:, 2] == -1, 0, np.nan))
    values[:, 3] = np.where(values[:, 3] >= 0, 1 - values[:, 3], values[:, 3])
    other = Table(values, (*table.columns[:2], *recoded, *table.columns[4:]), table.row_ids)
    np.testing.assert_array_equal(exported(other), expected)
    np.testing.assert_array_equal(exported.as_whole_file()(other), expected)


def test_tables_that_do_not_fit_are_refused(path: Path, table: Table) -> None:
    exported = OnnxModel.load(path)

    def renamed(j: int, column: Column) -> Table:
        return Table(table.values, (*table.columns[:j], column, *table.columns[j + 1 :]), table.row_ids)

    with pytest.raises(ModelError, match=r"wants a feature 'age in years'.*Did you mean 'age in year'"):
        exported(renamed(0, Column("age in year")))
    with pytest.raises(ModelError, match="to be numeric, but it is boolean"):
        exported(renamed(0, Column("age in years", "boolean", ("a", "b"))))
    with pytest.raises(ModelError, match=r"knows the values \['no', 'yes'\].*write \['nein', 'ja'\]"):
        exported(renamed(3, Column(table.names[3], "boolean", ("nein", "ja"))))
    with pytest.raises(ModelError, match="write them as the model knows them"):
        exported(renamed(2, Column(table.names[2], "categorical", ("q", "r"))))


def test_footprint_measures_the_whole_file(path: Path, table: Table) -> None:
    for given in (path, OnnxModel.load(path)):
        found = footprint(given, table, seed=0, calls=20, batch=64, seconds=0.01)
        assert found["size_bytes"] == path.stat().st_size
        assert 0 < found["p50_ms"] <= found["p99_ms"]
        assert found["batch_rows_per_s"] > 0
        assert (found["calls"], found["batch"]) == (20, 64)

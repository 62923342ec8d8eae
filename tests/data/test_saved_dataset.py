"""Data sets on disk: the round trip is exact, damage is an error that names the file."""

import json

import numpy as np
import pandas as pd
import pytest

from distillens.data.load import load_dataset
from distillens.data.saved import dataset_summary, read_dataset, save_dataset
from distillens.errors import ArtefactError


def awkward():
    rng = np.random.default_rng(0)
    n = 80
    frame = pd.DataFrame(
        {
            "x 年": rng.normal(size=n),
            "<b>": rng.choice(["<script>", "好", '"'], n),
            "w": rng.random(n),
            "g": rng.integers(0, 20, n),
            "row_id": rng.choice(["p", "q", None], n),  # a name that the file wants for itself
            "age": rng.integers(20, 60, n).astype(float),
            "born": pd.date_range("1990-01-01", periods=n),
            "flag": rng.choice([True, False], n),
            "y": rng.choice([1, 2, 10], n),
        }
    )
    frame.loc[::5, ["x 年", "age"]] = np.nan
    return load_dataset(
        source=frame,
        target="y",
        task="classification",
        roles={"weight": "w", "group": "g", "audit_only": ["row_id", "age", "born", "flag"]},
    )


def assert_same(a, b):
    assert a.fingerprint == b.fingerprint
    for name in ("task", "classes", "target", "name", "source", "licence", "citation", "roles", "findings", "columns"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("train", "validation", "test"):
        one, two = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(one.inputs.values, two.inputs.values)
        for part in ("labels", "weights", "groups"):
            left, right = getattr(one, part), getattr(two, part)
            assert (left is None) == (right is None)
            if left is not None:
                assert left.dtype == right.dtype
                np.testing.assert_array_equal(left, right)
        if one.audit_only is None:
            assert two.audit_only is None
        else:
            pd.testing.assert_frame_equal(one.audit_only, two.audit_only, check_index_type="equiv")


@pytest.mark.parametrize(
    "make", [awkward, *(lambda name=name: load_dataset(source=name) for name in ("german-credit", "wine", "diabetes"))]
)
def test_round_trip_is_exact(tmp_path, make):
    data = make()
    save_dataset(data, tmp_path)
    assert_same(data, read_dataset(tmp_path))


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        save_dataset(load_dataset(source="german-credit"), tmp_path / folder)
    for file in ("dataset.safetensors", "dataset.json", "audit_only.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_json_keeps_its_contract(tmp_path):
    data = load_dataset(source="german-credit")
    decision = {"adverse": "bad", "adverse_index": 0, "threshold": 0.5}
    save_dataset(data, tmp_path, decision=decision)
    written = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert set(written) == {
        "name", "source", "licence", "citation", "task", "classes", "target", "fingerprint", "roles", "columns", "images", "rows", "class_counts",
        "target_range", "findings", "decision",
    }  # fmt: skip
    assert written["rows"] == {"train": 490, "validation": 210, "test": 300}
    assert written["class_counts"]["test"] == {"bad": 90, "good": 210}
    assert written["decision"] == decision
    assert written["columns"][0]["kind"] == "categorical"
    assert written["target_range"] is None


def test_the_summary_of_a_regression_has_a_range_and_no_classes():
    summary = dataset_summary(load_dataset(source="diabetes"))
    assert summary["classes"] == []
    assert summary["class_counts"] == {}
    assert summary["target_range"] == {"low": 25.0, "high": 346.0}
    json.dumps(summary)


@pytest.mark.parametrize("file", ["dataset.safetensors", "audit_only.parquet"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "foreign"])
def test_damage_names_the_file(tmp_path, file, damage):
    save_dataset(awkward(), tmp_path)
    path = tmp_path / file
    whole = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        whole[-20] ^= 1
        path.write_bytes(bytes(whole))
    elif damage == "truncated":
        path.write_bytes(bytes(whole[: len(whole) // 2]))
    else:
        path.write_bytes(b"something else")
    with pytest.raises(ArtefactError, match=file):
        read_dataset(tmp_path)


def test_a_record_of_something_else_is_refused(tmp_path):
    from distillens.store import write_record

    write_record(tmp_path / "dataset.safetensors", {"kind": "tree"}, {"a": np.zeros(2)})
    with pytest.raises(ArtefactError, match="no data set that this version can read"):
        read_dataset(tmp_path)
    write_record(
        tmp_path / "dataset.safetensors",
        {"format": "distillens.dataset", "schema": 1, "dataset": {}, "audit_only": None},
        {},
    )
    with pytest.raises(ArtefactError, match="incomplete"):
        read_dataset(tmp_path)


def test_a_later_data_set_without_audit_columns_leaves_no_old_file(tmp_path):
    save_dataset(awkward(), tmp_path)
    save_dataset(load_dataset(source="wine"), tmp_path)
    assert not (tmp_path / "audit_only.parquet").exists()
    assert read_dataset(tmp_path).test.audit_only is None

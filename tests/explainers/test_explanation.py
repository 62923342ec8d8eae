from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from distillens.errors import ArtefactError, InputError, MissingExtraError
from distillens.explainers.base import Explanation
from distillens.explainers.shapley import KernelShap
from distillens.store import canonical_json, write_record

HOSTILE = ("<script>alert(1)</script>", 'with "quotes"', "年龄", "a b", "x4", "x5", "x6", "x7", "x8", "x9")


@pytest.fixture
def explanation(rng, table, formula, smooth_function) -> Explanation:
    x, b = table(rng.normal(size=(4, 10)), first_id=100, names=HOSTILE), table(rng.normal(size=(5, 10)), names=HOSTILE)
    model = formula(smooth_function, label="<b>net</b>")
    return KernelShap(budget=200)(model, x, target=np.zeros(4, dtype=np.int64), background=b, seed=3)


def same(a: Explanation, b: Explanation) -> None:
    for name in ("values", "base", "output", "residual", "stderr", "target", "row_ids", "background_ids"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
    for name in ("units", "scale", "method", "exact", "budget", "seed", "model_label", "model_fingerprint", "versions"):
        assert getattr(a, name) == getattr(b, name)


def test_round_trips_to_the_bit(explanation, tmp_path):
    same(Explanation.from_json(json.loads(json.dumps(explanation.to_json()))), explanation)
    same(Explanation.from_json(json.loads(canonical_json(explanation.to_json()))), explanation)
    explanation.save(tmp_path / "e.safetensors")
    same(Explanation.load(tmp_path / "e.safetensors"), explanation)
    none = explanation.take([])
    same(Explanation.from_json(json.loads(json.dumps(none.to_json()))), none)


def test_what_is_damaged_or_foreign_is_refused(explanation, tmp_path):
    record = explanation.to_json()
    for broken in ({k: v for k, v in record.items() if k != "base"}, {k: v for k, v in record.items() if k != "scale"}):
        with pytest.raises(ArtefactError, match="lacks"):
            Explanation.from_json(broken)
    with pytest.raises(ArtefactError, match="no explanation"):
        Explanation.from_json({})
    with pytest.raises(ArtefactError, match="damaged"):
        Explanation.from_json(record | {"base": [1.0]})
    with pytest.raises(ArtefactError, match="not a number"):
        Explanation.from_json(record | {"base": ["a", "b", "c", "d"]})
    write_record(tmp_path / "other.safetensors", {"record": "model"}, {})
    with pytest.raises(ArtefactError, match="no explanation"):
        Explanation.load(tmp_path / "other.safetensors")


def test_frames(explanation):
    wide = explanation.to_frame()
    assert list(wide.columns) == list(HOSTILE)
    assert list(wide.index) == [100, 101, 102, 103]
    np.testing.assert_array_equal(wide.to_numpy(), explanation.values)
    long = explanation.to_frame(long=True)
    assert len(long) == 40
    assert long.loc[13, "unit"] == HOSTILE[3]
    assert long.loc[13, "attribution"] == explanation.values[1, 3]
    assert long.loc[13, "stderr"] == explanation.stderr[1, 3]


def test_importance_take_and_index(explanation):
    np.testing.assert_allclose(explanation.global_importance(), np.abs(explanation.values).mean(axis=0))
    two = explanation.take([3, 1])
    np.testing.assert_array_equal(two.values, explanation.values[[3, 1]])
    np.testing.assert_array_equal(two.row_ids, [103, 101])
    np.testing.assert_array_equal(two.background_ids, explanation.background_ids)
    np.testing.assert_array_equal(explanation.take(explanation.row_ids > 101).row_ids, [102, 103])
    assert explanation.index_of("年龄") == 2
    with pytest.raises(InputError, match="Did you mean 'a b'"):
        explanation.index_of("a  b")


def test_html_is_escaped(explanation):
    page = explanation._repr_html_()
    assert "<script>" not in page
    assert "<b>net" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "0 rows" in explanation.take([])._repr_html_()


def test_to_shap(explanation, table, rng):
    shap = pytest.importorskip("shap")
    inputs = table(rng.normal(size=(4, 10)), first_id=100, names=HOSTILE)
    theirs = explanation.to_shap(inputs)
    assert isinstance(theirs, shap.Explanation)
    np.testing.assert_array_equal(theirs.values, explanation.values)
    np.testing.assert_array_equal(theirs.base_values, explanation.base)
    np.testing.assert_array_equal(theirs.data, inputs.values)
    assert list(theirs.feature_names) == list(HOSTILE)
    assert explanation.to_shap().data is None
    with pytest.raises(InputError, match="row ids differ"):
        explanation.to_shap(inputs.take([0, 1, 3, 2]))


def test_to_shap_without_shap_names_the_extra(explanation, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingExtraError, match=r"distillens\[bench\]"):
        explanation.to_shap()


def test_from_arrays():
    values = np.array([[1.0, 2.0], [3.0, -1.0]])
    e = Explanation.from_arrays(
        values, base=0.5, output=np.array([3.5, 2.0]), units=["a", "b"], scale="value", method="elsewhere"
    )
    np.testing.assert_allclose(e.residual, [0.0, -0.5])
    assert e.exact
    assert len(e) == 2
    with pytest.raises(InputError, match="shape"):
        Explanation.from_arrays(values, base=0.5, output=np.zeros(2), units=["a"], scale="value", method="m")
    with pytest.raises(InputError, match="output of shape"):
        Explanation.from_arrays(values, base=0.5, output=np.zeros(3), units=["a", "b"], scale="value", method="m")
    with pytest.raises(InputError, match="one for each"):
        Explanation.from_arrays(
            values, base=np.zeros(3), output=np.zeros(2), units=["a", "b"], scale="value", method="m"
        )
    with pytest.raises(InputError, match="finite"):
        Explanation.from_arrays(
            values * np.nan, base=0.5, output=np.zeros(2), units=["a", "b"], scale="value", method="m"
        )

"""The first look at a table: kinds, suggested roles with reasons, the adverse class."""

import numpy as np
import pandas as pd
import pytest

from distillens.data.load import load_dataset
from distillens.data.sketch import sensitive, sketch, suggest_adverse
from distillens.data.target import read_target
from distillens.errors import DataError


def frame(n=100):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "customer_id": rng.permutation(n) + 5000,
            "applied": pd.date_range("2025-01-01", periods=n).astype(str),
            "age": rng.integers(20, 60, n),
            "mortgage": rng.normal(size=n),
            "MaritalStatus": rng.choice(["single", "married"], n),
            "note": [f"text {i}" for i in range(n)],
            "same": "x",
            "broken": [[1]] * n,
            "purpose": rng.choice(["car", None, "home"], n),
            "default": rng.choice(["yes", "no"], n, p=[0.2, 0.8]),
        }
    )


def test_roles_are_suggested_with_reasons(tmp_path):
    seen = sketch(frame(), "default")
    by_name = {c.name: c for c in seen.columns}
    assert {n: c.role for n, c in by_name.items()} == {
        "customer_id": "id", "applied": "time", "age": "audit_only", "mortgage": "feature", "MaritalStatus": "audit_only", "note": "id",
        "same": "ignore", "broken": "ignore", "purpose": "feature", "default": "target",
    }  # fmt: skip
    assert seen.roles() == {
        "id": ["customer_id", "note"],
        "time": ["applied"],
        "audit_only": ["age", "MaritalStatus"],
        "ignore": ["same", "broken"],
    }
    assert "age" in by_name["age"].reason
    assert "list" in by_name["broken"].reason
    assert (seen.rows, seen.task, seen.adverse, seen.adverse_reason) == (100, "binary", "yes", "by its name")
    assert sum(seen.classes.values()) == 100
    assert by_name["purpose"].missing == pytest.approx(frame()["purpose"].isna().mean())
    assert (by_name["purpose"].kind, by_name["purpose"].distinct) == ("categorical", 2)
    assert set(by_name["purpose"].examples) == {"car", "home"}
    assert len(by_name["mortgage"].examples) == 5


def test_what_it_suggests_can_be_loaded():
    seen = sketch(frame(), "default")
    data = load_dataset(source=frame(), target="default", roles=seen.roles())
    assert data.train.inputs.names == ("mortgage", "purpose")
    assert data.test.inputs.row_ids.min() == 70  # by time


def test_leaks_are_reported_before_any_training():
    table = frame().drop(columns="broken")
    table["closed"] = np.where(table["default"] == "yes", "late", "on time")
    assert [(f.kind, f.column) for f in sketch(table, "default").findings] == [("leak", "closed")]


def test_a_path_and_a_builtin(tmp_path):
    frame().drop(columns="broken").to_csv(tmp_path / "a.csv", index=False)
    assert sketch("a.csv", "default", base_dir=tmp_path).name == "a"
    seen = sketch("german-credit", "creditability")
    assert (seen.adverse, seen.roles()) == (
        "bad",
        {"audit_only": ["personal_status_and_sex", "age_in_years", "foreign_worker"]},
    )
    seen = sketch("diabetes", "progression")
    assert (seen.task, seen.adverse, seen.target_range) == ("regression", None, (25.0, 346.0))


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("age", "age"), ("age_in_years", "age"), ("AgeAtEntry", "age"), ("patient age", "age"), ("SEX", "sex"), ("personal_status_and_sex", "sex"),
        ("foreign_worker", "nationality"), ("客户性别", "sex"), ("Race/Ethnicity", "race"), ("dateOfBirth", "age"),
        ("mortgage", None), ("percentage", None), ("usage", None), ("message", None), ("Essex", None), ("trace", None), ("engaged", None),
    ],
)  # fmt: skip
def test_sensitive_names_are_whole_words(name, trait):
    assert sensitive(name) == trait


@pytest.mark.parametrize(
    ("values", "adverse", "reason"),
    [
        (["good"] * 5 + ["bad"] * 8, "bad", "by its name"),
        (["benign", "malignant"] * 6, "malignant", "by its name"),
        ([0] * 9 + [1] * 5, "1", "by its name"),
        ([False] * 5 + [True] * 9, "True", "by its name"),
        (["A"] * 9 + ["B"] * 5, "B", "the rarer of the two classes"),
        (["A", "B"] * 6, "A", "the rarer of the two classes"),
        (["bad", "fraud"] * 6, "bad", "the rarer of the two classes"),
        (["u", "v", "w"] * 5, None, ""),
        ([1, 2, 3] * 12, None, ""),
        (["ok", "bad", "fine"] * 5, "bad", "by its name"),
    ],
)
def test_adverse_class(values, adverse, reason):
    assert suggest_adverse(read_target(pd.DataFrame({"y": values}), "y")) == (adverse, reason)


def test_a_missing_target_is_suggested():
    with pytest.raises(DataError, match=r"no column 'defalt' to predict. Did you mean 'default'\?"):
        sketch(frame(), "defalt")

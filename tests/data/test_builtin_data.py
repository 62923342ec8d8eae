"""Built-in data: names without imports, sizes, classes, roles, licence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import distillens.data.builtin
from distillens.data.builtin import BUILTIN, builtin_names
from distillens.data.load import load_dataset


def test_names_need_no_heavy_import():
    code = (
        "import sys; from distillens.data.builtin import builtin_names; from distillens.data import builtin_names as again; "
        "assert builtin_names() == again(); print([m for m in ('numpy', 'pandas', 'sklearn', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "rows", "features", "task", "classes", "adverse"),
    [
        ("breast-cancer", 569, 30, "binary", ("benign", "malignant"), "malignant"),
        ("german-credit", 1000, 17, "binary", ("bad", "good"), "bad"),
        ("wine", 178, 13, "multiclass", ("cultivar 1", "cultivar 2", "cultivar 3"), None),
        ("diabetes", 442, 10, "regression", (), None),
    ],
)
def test_every_builtin_loads(name, rows, features, task, classes, adverse):
    data = load_dataset(source=name)
    assert (len(data.columns), data.task, data.classes, data.name) == (features, task, classes, name)
    assert len(data.train) + len(data.validation) + len(data.test) == rows
    assert BUILTIN[name].adverse == adverse
    assert data.licence
    assert data.citation
    assert data.source
    assert not [f for f in data.findings if f.kind == "leak"]


def test_german_credit_is_split_490_210_300_and_keeps_protected_traits_out_of_models():
    data = load_dataset(source="german-credit")
    assert (len(data.train), len(data.validation), len(data.test)) == (490, 210, 300)
    assert [int((s.labels == 0).sum()) for s in (data.train, data.validation, data.test)] == [147, 63, 90]
    protected = {"age_in_years", "personal_status_and_sex", "foreign_worker"}
    assert not protected & set(data.train.inputs.names)
    assert set(data.test.audit_only.columns) == protected
    assert data.test.audit_only["age_in_years"].dtype == np.float64
    assert set(data.test.audit_only["foreign_worker"]) == {"yes", "no"}
    assert {c for c, role in data.roles.items() if role == "audit_only"} == protected


def test_breast_cancer_labels_name_the_right_rows():
    """The first row of the source has a mean radius of 17.99 and is malignant."""
    data = load_dataset(source="breast-cancer")
    for split in (data.train, data.validation, data.test):
        first = split.inputs.row_ids == 0
        if first.any():
            assert split.inputs.values[first, split.inputs.index_of("mean radius")] == 17.99
            assert data.classes[int(split.labels[first][0])] == "malignant"
            break
    else:
        pytest.fail("row 0 is in no split")


def test_shipped_data_carry_their_note():
    note = Path(distillens.data.builtin.__file__).with_name("german_credit.txt").read_text(encoding="utf-8")
    for part in ("Statlog", "Hans Hofmann", "10.24432/C5NC77", "CC BY 4.0"):
        assert part in note
    assert builtin_names() == ("breast-cancer", "german-credit", "wine", "diabetes", "digits", "fashion-mnist")


def test_the_folders_public_names_all_exist():
    import distillens.data as data

    for name in data.__all__:
        assert getattr(data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load_datset'"):
        data.load_datset  # noqa: B018

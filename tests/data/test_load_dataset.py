"""`load_dataset` on whole tables: roles, codes, names, splits; and one clear sentence for what cannot be used."""

import numpy as np
import pandas as pd
import pytest

from distillens.data.base import Column
from distillens.data.load import load_dataset
from distillens.errors import DataError, InputError, UntrustedCodeError

HOSTILE = [
    '<script>alert("x")</script>',
    "a b",
    "it's",
    '"quoted"',
    "年龄",
    "a,b;c",
    "=1+1",
    "../../etc",
    "x\ny",
    "{{7*7}}",
    "é",
]


def applicants(n=120, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "income": rng.normal(3000, 500, n).round(2),
            "purpose": rng.choice(["car", "home", "school"], n),
            "owner": rng.choice(["yes", "no"], n),
            "age": rng.integers(18, 80, n),
            "weight": rng.random(n) + 0.5,
            "branch": rng.choice(list("ABCDEFGH"), n),
            "number": [f"n{i}" for i in range(n)],
            "repaid": rng.choice(["good", "bad"], n, p=[0.7, 0.3]),
        }
    )
    frame.loc[::7, "purpose"] = None
    frame.loc[::11, "income"] = np.nan
    return frame


ROLES = {"audit_only": ["age"], "weight": "weight", "group": "branch", "id": ["number"]}


def test_everything_lands_where_its_role_says():
    frame = applicants()
    data = load_dataset(source=frame, target="repaid", roles=ROLES)
    assert data.columns == (
        Column("income"),
        Column("purpose", "categorical", ("car", "home", "school")),
        Column("owner", "boolean", ("no", "yes")),
    )
    assert data.roles == {
        "income": "feature", "purpose": "feature", "owner": "feature", "age": "audit_only", "weight": "weight", "branch": "group",
        "number": "id", "repaid": "target",
    }  # fmt: skip
    for split in (data.train, data.validation, data.test):
        rows = split.inputs.row_ids
        np.testing.assert_array_equal(split.inputs.values[:, 0], frame["income"].to_numpy()[rows])
        assert [
            None if v is None else v
            for v in split.inputs.to_frame()["purpose"].astype(object).where(lambda s: s.notna(), None)
        ] == [None if pd.isna(v) else v for v in frame["purpose"].iloc[rows]]
        assert [data.classes[k] for k in split.labels] == frame["repaid"].iloc[rows].tolist()
        np.testing.assert_array_equal(split.weights, frame["weight"].to_numpy()[rows])
        np.testing.assert_array_equal(split.audit_only["age"].to_numpy(), frame["age"].to_numpy(dtype=float)[rows])
        branches = frame["branch"].iloc[rows].to_numpy()
        assert len({(b, g) for b, g in zip(branches, split.groups, strict=True)}) == len(set(branches))
    assert not set(data.train.groups) & set(data.test.groups)  # a group is never divided


def test_the_same_table_from_csv_parquet_and_frame_is_the_same_data(tmp_path):
    frame = applicants()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t", encoding="utf-8-sig")
    frame.to_csv(tmp_path / "eu.csv", index=False, sep=";", decimal=",")
    frame.to_parquet(tmp_path / "a.parquet")
    prints = {
        load_dataset(source=s, target="repaid", roles=ROLES, base_dir=tmp_path).fingerprint
        for s in (frame, "a.csv", "a.tsv", "eu.csv", "a.parquet")
    }
    assert len(prints) == 1


def test_seed_name_and_determinism():
    frame = applicants()
    first, again = (load_dataset(source=frame, target="repaid", name="mine") for _ in range(2))
    other = load_dataset(source=frame, target="repaid", seed=1)
    assert first.name == "mine"
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_hostile_names_and_categories_are_kept_verbatim(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=60) for name in HOSTILE})
    frame["kind"] = rng.choice(HOSTILE[:4], 60)
    frame["'; DROP TABLE"] = rng.choice(["<b>", "好"], 60)
    frame.to_csv(tmp_path / "h.csv", index=False)
    data = load_dataset(source=tmp_path / "h.csv", target="'; DROP TABLE")
    assert list(data.train.inputs.names) == [*HOSTILE, "kind"]
    assert data.classes == ("<b>", "好")
    assert set(data.columns[-1].categories) == set(HOSTILE[:4])


def test_dates_in_features_are_left_out_with_a_sentence_and_time_splits_by_them():
    frame = applicants()
    frame["applied"] = pd.date_range("2025-01-01", periods=len(frame))[::-1]
    data = load_dataset(source=frame, target="repaid", roles={"id": "number"})
    assert [(f.kind, f.column) for f in data.findings] == [("date", "applied")]
    data = load_dataset(source=frame, target="repaid", roles={"id": "number", "time": "applied"})
    assert sorted(data.test.inputs.row_ids) == list(range(36))  # the latest come first in this source
    with pytest.raises(DataError, match="'applied' holds dates, which models cannot read"):
        load_dataset(source=frame, target="repaid", roles={"feature": "applied"})


def test_an_explicit_split_wins_over_the_role_group():
    frame = applicants()
    frame["part"] = np.where(np.arange(120) < 60, "train", np.where(np.arange(120) < 90, "validation", "test"))
    data = load_dataset(source=frame, target="repaid", roles=ROLES, split={"column": "part"})
    assert data.test.inputs.row_ids.tolist() == list(range(90, 120))
    assert data.roles["part"] == "ignore"
    assert data.test.groups is not None


def test_ignored_and_id_columns_may_hold_anything():
    frame = applicants().assign(blob=[[1]] * 120, other=np.inf)
    data = load_dataset(source=frame, target="repaid", roles={"ignore": ["blob", "other"], "id": "number"})
    assert not {"blob", "other"} & set(data.train.inputs.names)


def test_the_callers_frame_is_not_changed():
    frame = applicants()
    copy = frame.copy(deep=True)
    load_dataset(source=frame, target="repaid", roles=ROLES)
    pd.testing.assert_frame_equal(frame, copy)


def case(sentence, *, change=None, **options):
    return pytest.param(sentence, change, options, id=sentence[:50])


@pytest.mark.parametrize(
    ("sentence", "change", "options"),
    [
        case("Which column is to be predicted?", target=None),
        case("no column 'repayed' to predict. Did you mean 'repaid'?", target="repayed"),
        case("'repaid' is empty in all 120 rows", change=lambda f: f.assign(repaid=None)),
        case(
            "missing in 2 of 120 rows (rows 4, 9)",
            change=lambda f: f.assign(repaid=f["repaid"].mask(f.index.isin([3, 8]))),
        ),
        case("The data have 1 row;", change=lambda f: f.head(1)),
        case("only the class 'good'", change=lambda f: f.assign(repaid="good")),
        case("The data have 9 rows", change=lambda f: f.head(9)),
        case(
            "has 2 rows; training, validation and test need at least 4",
            change=lambda f: f.assign(repaid=["rare"] * 2 + ["a", "b"] * 59),
        ),
        case("There is no role 'wieght'. Did you mean 'weight'?", roles={"wieght": "weight"}),
        case("given as target: COLUMN", roles={"target": "repaid"}),
        case(
            "The role audit_only names the column 'aeg', which is not there. Did you mean 'age'?",
            roles={"audit_only": ["aeg"]},
        ),
        case("'age' cannot have two roles, audit_only and id", roles={"audit_only": ["age"], "id": ["age"]}),
        case("'repaid' cannot have two roles, target and ignore", roles={"ignore": "repaid"}),
        case("The role weight is for one column, but 2 were given", roles={"weight": ["weight", "age"]}),
        case(
            "The role group and the split name different columns", roles={"group": "branch"}, split={"group": "purpose"}
        ),
        case("Both a time and a group column are given", roles={"group": "branch", "time": "age"}),
        case(
            "The split's group names the column 'brnch', which is not there. Did you mean 'branch'?",
            split={"group": "brnch"},
        ),
        case("The split's time names the column 'whenever'", split={"time": "whenever"}),
        case(
            "cannot have two roles, audit_only and group", roles={"audit_only": ["branch"]}, split={"group": "branch"}
        ),
        case("cannot have two roles, target and time", split={"time": "repaid"}),
        case("No features are left", roles={"ignore": ["income", "purpose", "owner", "age", "weight", "branch"]}),
        case("No features are left", change=lambda f: f[["repaid"]]),
        case("test is a share between 0 and 1", split={"test": 1.5}),
        case("no split option 'shares'", split={"shares": 0.1}),
        case(
            "'income' holds infinite values (row 6)",
            change=lambda f: f.assign(income=f["income"].mask(f.index == 5, np.inf)),
        ),
        case(
            "weight column 'weight' is empty or negative in row 1",
            change=lambda f: f.assign(weight=[-1.0] + [1.0] * 119),
            roles={"weight": "weight"},
        ),
        case("weight column 'owner' must hold numbers", roles={"weight": "owner"}),
        case("is 0 in all training rows", change=lambda f: f.assign(weight=0), roles={"weight": "weight"}),
        case("group column 'purpose' is empty in rows 1, 8", roles={"group": "purpose"}),
        case("more than once", change=lambda f: f.set_axis(["income", "income", *f.columns[2:]], axis=1)),
        case("no task 'binery'. Did you mean 'binary'?", task="binery"),
        case("A multiclass task needs three or more classes", task="multiclass"),
    ],
)
def test_each_mistake_is_one_clear_sentence(sentence, change, options):
    frame = applicants()
    options = {"target": "repaid"} | options
    with pytest.raises(DataError) as caught:
        load_dataset(source=change(frame) if change else frame, **options)
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    assert len(message) < 320


def test_errors_are_input_errors_with_exit_code_two(tmp_path):
    for source in ("missing.csv", "os:getcwd"):
        with pytest.raises(InputError) as caught:
            load_dataset(source=source, target="y", base_dir=tmp_path)
        assert caught.value.exit_code == 2
    assert isinstance(caught.value, UntrustedCodeError)


def test_builtin_roles_can_be_replaced():
    data = load_dataset(source="german-credit", roles={})
    assert len(data.columns) == 20
    data = load_dataset(source="german-credit", target="housing", roles={"audit_only": ["foreign_worker"]})
    assert (data.task, data.classes) == ("multiclass", ("for free", "own", "rent"))

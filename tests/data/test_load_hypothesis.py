"""Whatever the table: `load_dataset` either works (shapes, codes in range, no row twice) or raises InputError."""

import contextlib
import datetime
import decimal

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillens.data.load import load_dataset
from distillens.data.saved import read_dataset, save_dataset
from distillens.data.sketch import sketch
from distillens.data.table import encode_frame
from distillens.errors import InputError

NAMES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["y", "x", "x ", "", " ", "<script>", "年龄", "a b", '"', "'", "row_id", "id", "\ud800", "a\nb", "\x00"]
    ),
    st.integers(0, 3),
)
WORDS = [
    "a",
    "b",
    "yes",
    "no",
    "NA",
    "?",
    "",
    "1",
    "0",
    "2.5",
    "1,5",
    "007",
    "1e400",
    "inf",
    "2025-01-01",
    "31.12.2024",
    "好",
    "\ud800",
    " a",
    "None",
]
CELL = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=4),
    st.sampled_from([pd.NA, pd.NaT, np.nan, np.float32(1.5), np.int64(3), np.str_("b"), decimal.Decimal("1.5"), decimal.Decimal("sNaN"),
                     datetime.date(2025, 1, 1), pd.Timestamp("2025-01-01"), pd.Timestamp("2025-01-01", tz="UTC"), np.datetime64("NaT"),
                     pd.Timedelta("1D"), datetime.time(1), 1j, b"x", [1], {"a": 1}, (1, 2), np.array([1, 2]), object()]),
)  # fmt: skip
CALM = st.one_of(st.integers(-3, 3), st.floats(-10, 10), st.sampled_from(["a", "b", "yes", "no", None]))


@st.composite
def columns(draw, n):
    """One column of n cells: calm or wild, a few values repeated or all different, in some dtype."""
    shape = draw(
        st.sampled_from(
            [
                "float",
                "int",
                "bool",
                "words",
                "calm",
                "wild",
                "category",
                "date",
                "nullable",
                "text",
                "counter",
                "complex",
            ]
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    if shape == "float":
        values = rng.normal(size=n) * 10.0 ** draw(st.integers(-3, 40))
        values[rng.random(n) < draw(st.sampled_from([0, 0.2, 1]))] = draw(st.sampled_from([np.nan, np.inf, 0.0]))
        return pd.Series(values, dtype=draw(st.sampled_from(["float64", "object"])))
    if shape == "int":
        return pd.Series(
            rng.integers(0, draw(st.integers(1, 12)), n),
            dtype=draw(st.sampled_from(["int8", "int64", "uint16", "Int64", "object", "str"])),
        )
    if shape == "bool":
        return pd.Series(rng.random(n) < 0.5, dtype=draw(st.sampled_from(["bool", "boolean", "object"])))
    if shape == "date":
        return pd.Series(pd.date_range("2024-01-01", periods=n, tz=draw(st.sampled_from([None, "UTC"]))))
    if shape == "nullable":
        return pd.Series(
            [None if r < 0.3 else int(r * 5) for r in rng.random(n)],
            dtype=draw(st.sampled_from(["Int64", "Float64", "int64[pyarrow]"])),
        )
    if shape == "counter":
        return pd.Series(range(n))
    if shape == "complex":
        return pd.Series(rng.normal(size=n) + 1j)
    cells = {"words": st.sampled_from(WORDS), "calm": CALM, "category": CALM, "text": st.text(max_size=3)}.get(
        shape, CELL
    )
    pool = draw(st.lists(cells, min_size=1, max_size=6))
    series = pd.Series([pool[i] for i in rng.integers(0, len(pool), n)], dtype=object)
    if shape == "category":
        return series.astype("category") if len({type(v) for v in pool if v is not None}) <= 1 else series
    return series


@st.composite
def outcomes(draw, n):
    """A target that can be learnt from, as people write it."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    names = draw(
        st.sampled_from([[0, 1], ["no", "yes"], ["bad", "good"], [True, False], ["a", "b", "<c>"], [3, 20, 100], None])
    )
    return (
        pd.Series(rng.normal(size=n))
        if names is None
        else pd.Series([names[k] for k in rng.permutation(np.arange(n) % len(names))])
    )


@st.composite
def tables(draw):
    """Mostly a table one could use, in each example with something odd somewhere."""
    often = st.sampled_from([True, True, True, True, False])
    n = draw(st.sampled_from([30, 60, 60])) if draw(often) else draw(st.sampled_from([1, 2, 9, 12]))
    width = draw(st.integers(1, 5))
    usable = NAMES.filter(lambda name: str(name).strip() and "\ud800" not in str(name) and name != "y")
    names = (
        draw(st.lists(usable, min_size=width, max_size=width, unique_by=str))
        if draw(often)
        else draw(st.lists(NAMES, min_size=width, max_size=width))
    )
    parts = [draw(columns(n)) for _ in range(width)]
    if draw(often):
        names, parts = [*names, "y"], [*parts, draw(outcomes(n))]
    frame = pd.concat(parts, axis=1)
    frame.columns = pd.Index(names, dtype=object)
    return frame


@st.composite
def requests(draw):
    frame = draw(tables())
    named = st.one_of(st.sampled_from([str(c) for c in frame.columns]), st.sampled_from(["y", "nothing"]))
    plain = draw(st.booleans())
    role = st.sampled_from(["weight", "group", "time", "id", "audit_only", "ignore", "feature", "wieght"])
    roles = {} if plain else draw(st.dictionaries(role, named, max_size=2))
    shares = {"test": st.sampled_from([0.3, 0.01, 0.99, 0, "x"]), "validation": st.sampled_from([0.2, 0.99, -1])}
    split = (
        None
        if plain
        else draw(
            st.one_of(
                st.none(),
                st.fixed_dictionaries({}, optional=shares),
                st.builds(lambda c: {"group": c}, named),
                st.builds(lambda c: {"time": c}, named),
                st.builds(lambda c: {"time": c, "test_from": "2024-01-05"}, named),
                st.builds(lambda c: {"column": c}, named),
            )
        )
    )
    task = draw(st.sampled_from(["auto", "auto", "auto", "classification", "regression"]))
    target = draw(st.sampled_from(["y", "y", "y", draw(named)]))
    return frame, {"target": target, "roles": roles, "split": split, "task": task, "seed": draw(st.integers(0, 3))}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(requests())
def test_it_works_or_says_why_not(tmp_path_factory, request_):
    frame, options = request_
    with contextlib.suppress(InputError):
        sketch(frame, options["target"])
    try:
        data = load_dataset(source=frame, **options)
    except InputError as error:
        assert 10 < len(str(error)) < 900  # noqa: PT017
        assert str(error).isprintable() or any(not str(c).isprintable() for c in frame.columns)  # noqa: PT017
        return
    splits = (data.train, data.validation, data.test)
    ids = np.concatenate([s.inputs.row_ids for s in splits])
    assert sorted(ids.tolist()) == list(range(len(frame)))
    for split in splits:
        n = len(split)
        assert n > 0
        assert split.inputs.values.shape == (n, len(data.columns))
        assert split.inputs.values.dtype == np.float64
        assert split.labels.shape == (n,)
        for j, column in enumerate(data.columns):
            codes = split.inputs.values[:, j]
            known = codes[~np.isnan(codes)]
            if column.kind == "numeric":
                assert (np.abs(known) <= np.finfo(np.float32).max).all()
            else:
                lowest = 0 if split is data.train else -1
                assert ((known == np.round(known)) & (known >= lowest) & (known < len(column.categories))).all()
        if data.classes:
            assert split.labels.dtype == np.int64
            assert ((split.labels >= 0) & (split.labels < len(data.classes))).all()
        else:
            assert np.isfinite(split.labels).all()
    if data.classes:
        assert set(data.train.labels.tolist()) == set(range(len(data.classes)))
    # the same rows, encoded again as new rows, are the same codes
    names = frame.set_axis([str(c) for c in frame.columns], axis=1)
    again = encode_frame(names.iloc[data.test.inputs.row_ids], data.columns, row_ids=data.test.inputs.row_ids)
    np.testing.assert_array_equal(again.values, data.test.inputs.values)
    folder = tmp_path_factory.mktemp("saved")
    save_dataset(data, folder)
    assert read_dataset(folder).fingerprint == data.fingerprint


BYTES = st.lists(
    st.sampled_from(
        [
            b"a",
            b"1",
            b",",
            b";",
            b"\t",
            b"\n",
            b"\r\n",
            b'"',
            b"\xff",
            b"\x00",
            b" ",
            "好".encode(),
            b"yes",
            b"2025-01-01",
            b"y",
        ]
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(BYTES)
def test_any_bytes_as_csv(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(b"x,y\n" + b"".join(parts))
    try:
        load_dataset(source=path, target="y")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017

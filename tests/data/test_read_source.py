"""CSV and Parquet files, frames and functions, and what is said when they are broken."""

import contextlib
import datetime
import random
import sys

import pandas as pd
import pytest

from distillens.data.read import open_source, read_csv
from distillens.errors import DataError, InputError, UntrustedCodeError


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiters_encodings_and_line_ends(tmp_path, delimiter, encoding, newline):
    lines = [["naïve 年龄", "b", "c"], ["1", "x y", "ü"], ["2", "", "?"]]
    text = newline.join(delimiter.join(line) for line in lines) + newline
    frame = read_csv(write(tmp_path / "a.csv", text, encoding))
    assert list(frame.columns) == lines[0]
    assert frame.to_numpy().tolist() == lines[1:]


def test_quotes_newlines_delimiters_and_blank_lines_inside_cells(tmp_path):
    frame = read_csv(write(tmp_path / "a.csv", 'a,"b, ""b"""\n"1\n2","x;y;z"\n\n3,4\n'))
    assert list(frame.columns) == ["a", 'b, "b"']
    assert frame.to_numpy().tolist() == [["1\n2", "x;y;z"], ["3", "4"]]


def test_decimal_comma_in_a_semicolon_file_does_not_confuse_the_delimiter(tmp_path):
    frame = read_csv(write(tmp_path / "a.csv", "a;b\n1,5;2,5\n3,5;4,5\n"))
    assert frame.to_numpy().tolist() == [["1,5", "2,5"], ["3,5", "4,5"]]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "a.csv is empty; expected a header line and rows."),
        (b"\n \n", "a.csv is empty; expected a header line and rows."),
        (b"a,b\n", "has a header but no rows"),
        (b"a,b\n1,2\n3\n", "a.csv, line 3: expected 2 fields as in the header, found 1."),
        (b"a,b\n1,2\n3,4,5\n", "a.csv, line 3: expected 2 fields as in the header, found 3."),
        (b'a,b\n"1\n1",2\n3\n', "a.csv, line 4: expected 2 fields"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "a.csv, line 3: unexpected end of data; is a quotation mark not closed?"),
        (b"a,b\n1,2\nM\xfcller,3\n", "a.csv, line 3: byte 0xfc is not valid UTF-8; save the file as UTF-8."),
        (b"a,b\n1,\x002\n", "a.csv, line 2: a NUL character"),
        (b"a,a\n1,2\n", "has the column name 'a' more than once"),
        (b",a\n0,2\n", "has no name for column 1 of 2"),
        (b"a,  \n0,2\n", "has no name for column 2 of 2"),
    ],
)
def test_broken_csv_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("germn-credit", "no built-in data of that name. Did you mean 'german-credit'?"),
        ("applicant.csv", "There is no file applicant.csv. Did you mean 'applicants.csv'?"),
        ("no/such/x.parquet", "The folder 'such' does not exist either."),
        (".", "is a folder"),
        ("data.xlsx", "neither CSV nor Parquet by its ending"),
        (7, "not a int"),
    ],
)
def test_sources_that_are_not_there(tmp_path, source, sentence):
    write(tmp_path / "applicants.csv", "a,b\n1,2\n")
    write(tmp_path / "data.xlsx", "x")
    with pytest.raises(DataError) as caught:
        open_source(source, base_dir=tmp_path)
    assert sentence in str(caught.value)


def test_relative_paths_start_at_the_base_folder_and_the_source_names_the_file_by_hash(tmp_path):
    write(tmp_path / "applicants.csv", "a,b\n1,2\n")
    opened = open_source("applicants.csv", base_dir=tmp_path)
    assert opened.name == "applicants"
    assert opened.text.startswith("applicants.csv (SHA-256 ")
    assert str(tmp_path) not in opened.text


def test_parquet_keeps_types_and_gives_back_a_named_index(tmp_path):
    frame = pd.DataFrame(
        {"x": [1.5, None], "when": [datetime.date(2025, 1, 1), None]}, index=pd.Index(["a", "b"], name="who")
    )
    frame.to_parquet(tmp_path / "a.parquet")
    read = open_source(tmp_path / "a.parquet").frame
    assert sorted(read.columns) == ["when", "who", "x"]
    assert list(read.index) == [0, 1]


@pytest.mark.parametrize("content", [b"PAR1 nonsense PAR1", b"x"])
def test_corrupt_parquet(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a.parquet is damaged or not a Parquet file"):
        open_source(tmp_path / "a.parquet")


def test_truncated_and_flipped_parquet_never_escapes_as_another_exception(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"x": range(200), "y": ["a", "b"] * 100}).to_parquet(path)
    whole = path.read_bytes()
    chance = random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(5):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged[: chance.randrange(len(damaged))] if chance.random() < 0.3 else damaged))
        with contextlib.suppress(InputError):
            open_source(path)


def test_frames_lose_their_index_and_get_text_names():
    frame = pd.DataFrame({0: [1, 2], "b": [3, 4]}, index=[7, 7])
    opened = open_source(frame)
    assert list(opened.frame.columns) == ["0", "b"]
    assert list(opened.frame.index) == [0, 1]
    assert list(frame.columns) == [0, "b"]  # the caller's frame is untouched
    assert list(frame.index) == [7, 7]


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (pd.DataFrame({1: [1], "1": [2]}), "has the column name '1' more than once"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "has the column name 'a' more than once"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])), "several levels"),
        (pd.DataFrame(), "has no columns"),
        (pd.DataFrame({"a": []}), "has a header but no rows"),
        (pd.DataFrame([[1]], columns=[""]), "no name for column 1 of 1"),
        (pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)), "not valid Unicode"),
    ],
)
def test_frames_that_cannot_be_used(frame, sentence):
    with pytest.raises(DataError) as caught:
        open_source(frame)
    assert sentence in str(caught.value)


@pytest.fixture
def code(tmp_path, monkeypatch):
    write(
        tmp_path / "own_source_for_tests.py",
        "import pandas as pd\n"
        "def good(): return pd.DataFrame({'x': [1, 2], 'y': [3, 4]})\n"
        "def wrong(): return 5\n"
        "def broken(): raise KeyError('lost')\n"
        "number = 3\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_source_for_tests"
    sys.modules.pop("own_source_for_tests", None)


def test_functions_run_only_when_trusted(code):
    with pytest.raises(UntrustedCodeError, match="pass --trust-code if you trust it"):
        open_source(f"{code}:good")
    assert code not in sys.modules
    opened = open_source(f"{code}:good", trust_code=True)
    assert (opened.name, list(opened.frame.columns)) == ("good", ["x", "y"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("wrong", "returned a int; it must return a pandas DataFrame"),
        ("broken", "raised KeyError: 'lost'"),
        ("number", "is a int, not a function"),
        ("absent", "has no 'absent'"),
    ],
)
def test_functions_that_do_not_work(code, name, sentence):
    with pytest.raises(InputError) as caught:
        open_source(f"{code}:{name}", trust_code=True)
    assert sentence in str(caught.value)

"""passport.json: complete, valid, deterministic, and honest about what a run has not made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillens.errors import ArtefactError, InputError
from distillens.report.passport import assemble, write_passport

SCHEMA = json.loads((Path(assemble.__code__.co_filename).parent / "schema.json").read_text(encoding="utf-8"))


def validate(passport: Any) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(passport)


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def test_writes_four_files_and_a_valid_twin(copy: Path) -> None:
    paths = write_passport(copy)
    assert [p.name for p in paths] == ["passport.html", "passport.zh.html", "passport.json", "card.md"]
    twin = json.loads((copy / "passport.json").read_text(encoding="utf-8"))
    validate(twin)
    assert twin["measured"]["pages"] == {
        lang: (copy / name).stat().st_size for lang, name in (("en", "passport.html"), ("zh", "passport.zh.html"))
    }
    assert [s["number"] for s in twin["sections"]] == list(range(1, 16))
    assert twin["chosen"]["id"] == "ebm"
    assert twin["verdict"] == "review"
    assert twin["students"]["net"]["verdict"] == "pass"
    assert not list(copy.glob(".*.part"))


def test_one_language_writes_one_page(copy: Path) -> None:
    write_passport(copy, languages=("en",))
    assert (copy / "passport.html").is_file()
    assert not (copy / "passport.zh.html").exists()


def test_unknown_language_is_named_before_anything_is_written(copy: Path) -> None:
    with pytest.raises(InputError, match="language 'de'"):
        write_passport(copy, languages=("en", "de"))
    assert not (copy / "passport.html").exists()


def test_identical_runs_differ_below_measured_only(make_run: Callable[..., Path], tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", created="2026-01-01T00:00:00Z", seconds=1.0)
    second = make_run(tmp_path / "b", created="2026-12-31T23:59:59Z", seconds=2.5)
    made = []
    for run in (first, second):
        write_passport(run)
        twin = json.loads((run / "passport.json").read_text(encoding="utf-8"))
        made.append((twin.pop("measured"), json.dumps(twin), (run / "card.md").read_bytes()))
    assert made[0][1] == made[1][1]
    assert made[0][2] == made[1][2]
    assert made[0][0] != made[1][0]
    assert made[0][0]["seconds"]["audit/ebm"] == 1.0
    assert made[0][0]["export"]["ebm"]["p50_ms"] == 0.041


def test_the_same_run_gives_the_same_bytes(copy: Path) -> None:
    names = ("passport.html", "passport.zh.html", "passport.json", "card.md")
    write_passport(copy)
    before = {name: (copy / name).read_bytes() for name in names}
    write_passport(copy)
    assert {name: (copy / name).read_bytes() for name in names} == before


def test_labels_of_stored_rows_come_from_the_rows_file(run_dir: Path) -> None:
    audit = assemble(run_dir)["audits"]["ebm"]
    labels = [row["label"] for row in audit["reasons"]["worst_rows"]]
    if audit["task"] == "regression":
        assert set(labels) == {140.5}
    else:
        assert labels[:2] == audit["classes"][:2]


PARTIAL = {
    "data": ("stages", "students", "controls", "teacher", "targets"),
    "teacher": ("stages", "students", "controls", "targets"),
    "nothing": ("stages", "students", "controls", "teacher", "targets", "data", "recipe.yaml"),
    "no export": ("stages", "students/ebm/export"),
    "no controls": ("stages", "controls"),
}


@pytest.mark.parametrize("what", PARTIAL)
def test_a_run_that_stopped_half_way_has_a_passport(copy: Path, what: str) -> None:
    for part in PARTIAL[what]:
        path = copy / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_passport(copy)
    twin = json.loads((copy / "passport.json").read_text(encoding="utf-8"))
    validate(twin)
    states = {s["id"]: s["state"] for s in twin["sections"]}
    if what == "no export":
        assert states["footprint"] == "not_assessed"
        assert states["verdict"] == "assessed"
    elif what != "no controls":
        assert twin["verdict"] == "review"
        assert states["verdict"] == states["reasons"] == states["footprint"] == "not_assessed"
        assert "no audit" in (copy / "passport.html").read_text(encoding="utf-8")
    assert all(x["why"] for x in twin["not_assessed"])


def test_an_audit_without_explanations_gates_or_slices(copy: Path) -> None:
    shutil.rmtree(copy / "stages")
    for path in copy.glob("students/*/audit.json"):
        audit = json.loads(path.read_text(encoding="utf-8"))
        kept = [m for m in audit["metrics"] if m["scope"] == "prediction"]
        path.write_text(
            json.dumps(audit | {"reasons": None, "calibration": None, "gates": [], "slices": [], "metrics": kept})
        )
    write_passport(copy)
    twin = json.loads((copy / "passport.json").read_text(encoding="utf-8"))
    validate(twin)
    found = {s["id"]: (s["state"], s["reason"]) for s in twin["sections"]}
    assert found["reasons"] == ("not_assessed", "no_explanations")
    assert found["verdict"] == ("partly", "no_gates")
    assert found["slices"] == ("not_assessed", "no_slices")
    assert found["performance"] == ("not_assessed", "no_labels")


def test_no_chosen_file_takes_an_audited_student(copy: Path) -> None:
    shutil.rmtree(copy / "stages")
    (copy / "students" / "chosen.json").unlink()
    write_passport(copy)
    assert json.loads((copy / "passport.json").read_text(encoding="utf-8"))["chosen"] == {
        "id": "ebm",
        "by": None,
        "scores": {},
    }


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("manifest.json", None, "does not exist"),
        ("manifest.json", "{", "not valid JSON"),
        ("manifest.json", "[]", "should hold a JSON object"),
        ("students/net/audit.json", '{"schema": 1}', "no valid 'verdict'"),
        ("students/net/audit.json", "\x00\xff", "not valid JSON"),
        ("students/net/student.json", "{}", "no valid 'id'"),
        ("controls/twin/control.json", '{"id": 1}', "no valid 'id'"),
        ("students/chosen.json", '{"chosen": "nobody", "by": "x"}', "changed or damaged"),
        ("data/dataset.json", "{}", "changed or damaged"),
        ("teacher/teacher.json", None, "is missing, although stage teacher wrote it"),
        ("recipe.yaml", "a: [", "not valid YAML"),
        ("recipe.yaml", "- 1", "should hold a recipe"),
        ("students/ebm/rows.parquet", "PAR1", "not a valid Parquet"),
    ],
)
def test_missing_and_damaged_files_are_named(copy: Path, path: str, content: str | None, message: str) -> None:
    if content is None:
        (copy / path).unlink()
    else:
        (copy / path).write_text(content, encoding="latin-1")
    with pytest.raises(ArtefactError, match=message) as error:
        write_passport(copy)
    assert Path(path).name in str(error.value)
    assert not (copy / "passport.html").exists()


def test_another_schema_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema": 2}))
    with pytest.raises(ArtefactError, match="schema 2"):
        assemble(copy)


def test_an_audit_with_a_hole_inside_is_an_artefact_error(copy: Path) -> None:
    shutil.rmtree(copy / "stages")
    path = copy / "students" / "ebm" / "audit.json"
    audit = json.loads(path.read_text(encoding="utf-8"))
    del audit["metrics"][0]["estimate"]
    path.write_text(json.dumps(audit))
    with pytest.raises(ArtefactError, match="not as documented"):
        write_passport(copy)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        assemble(tmp_path / "nowhere")
    with pytest.raises(ArtefactError, match="manifest"):
        assemble(tmp_path)


def test_card_has_front_matter_and_escaped_names(copy: Path, hostile: tuple[str, ...]) -> None:
    import yaml

    write_passport(copy, languages=("en",))
    card = (copy / "card.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["library_name"] == "distillens"
    assert "knowledge-distillation" in meta["tags"]
    assert meta["license"] == "other"
    assert meta["model-index"][0]["results"][0]["metrics"]
    assert "<script" not in body
    assert "<img" not in body
    assert "## Gates" in body

"""Stages are atomic, reused only when nothing they rest on changed, and locked against a second run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distillens.errors import ArtefactError, RunError
from distillens.run import Run, stage_seed
from distillens.store import atomic_path, read_json, read_record, write_json, write_record


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run", resume=False)
    made.begin(recipe_yaml="seed: 0\n", manifest={"schema": 1, "name": "x"})
    return made


def write(text: str):  # type: ignore[no-untyped-def]
    def work(folder: Path) -> str:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "c.txt").write_text(text)
        return f"wrote {text}"

    return work


def test_a_stage_is_worked_once_and_then_reused(run: Run) -> None:
    first = run.stage("one", write("x"), part={"k": 1})
    again = Run.open(run.directory).stage("one", write("never"), part={"k": 1})
    assert (first.reused, again.reused) == (False, True)
    assert (run.directory / "a/b/c.txt").read_text() == "x"
    assert first.key == again.key


def test_a_changed_recipe_code_input_or_file_makes_it_stale_and_says_why(run: Run) -> None:
    run.stage("zero", lambda folder: "nothing", part=0)
    run.stage("one", write("x"), part={"k": 1}, reads=("zero",))
    changed = run.stage("one", write("y"), part={"k": 2}, reads=("zero",))
    assert not changed.reused
    assert changed.reason == "the recipe changed"
    assert (
        run.stage("one", write("y"), part={"k": 2}, reads=("zero",), given="f").reason == "what was handed in changed"
    )
    assert (
        run.stage("one", write("y"), part={"k": 2}, reads=("zero",), given="f", code=("run",)).reason
        == "the code changed"
    )
    run.stage("zero", lambda folder: "nothing", part=1)
    upstream = run.stage("one", write("z"), part={"k": 2}, reads=("zero",), given="f", code=("run",))
    assert upstream.reason == "zero changed"
    (run.directory / "a/b/c.txt").write_text("tampered")
    damaged = run.stage("one", write("z"), part={"k": 2}, reads=("zero",), given="f", code=("run",))
    assert damaged.reason == "a/b/c.txt was changed or damaged"
    (run.directory / "a/b/c.txt").unlink()
    missing = run.stage("one", write("z"), part={"k": 2}, reads=("zero",), given="f", code=("run",))
    assert missing.reason == "a/b/c.txt is missing"


def test_what_a_stage_wrote_goes_when_it_writes_something_else_and_not_before(run: Run) -> None:
    def failing(folder: Path) -> str:
        raise ValueError("a typing mistake in the recipe")

    def other(folder: Path) -> str:
        (folder / "other.txt").write_text("y")
        return "other"

    beside = run.directory.parent / "beside.txt"
    beside.write_text("not the run's")
    run.stage("one", write("x"), part=1)
    with pytest.raises(ValueError, match="typing"):
        run.stage("one", failing, part=2)
    assert run.stage("one", write("never"), part=1).reused
    record = read_json(run.directory / "stages" / "one.json")
    write_json(run.directory / "stages" / "one.json", record | {"outputs": record["outputs"] | {"../beside.txt": "0"}})
    run.stage("one", other, part=2)
    assert (run.directory / "other.txt").is_file()
    assert not (run.directory / "a/b/c.txt").exists()
    assert beside.is_file()


def test_a_stage_that_raises_leaves_no_record_and_no_files(run: Run) -> None:
    def work(folder: Path) -> str:
        (folder / "half.txt").write_text("half")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        run.stage("one", work, part=1)
    assert not (run.directory / "half.txt").exists()
    assert not (run.directory / "stages" / "one.json").exists()
    assert list((run.directory / ".work").iterdir()) == []


def test_a_full_disk_is_one_sentence_and_keeps_what_is_finished(run: Run) -> None:
    run.stage("one", write("x"), part=1)

    def work(folder: Path) -> str:
        raise OSError(28, "No space left on device")

    with pytest.raises(
        RunError, match=r"Stage two could not write .* No space left on device\. Finished stages are kept"
    ):
        run.stage("two", work, part=1)

    def through_the_store(folder: Path) -> str:
        try:
            work(folder)
        except OSError as error:
            raise RunError(f"Cannot write {folder}.") from error
        return ""

    with pytest.raises(RunError, match=r"Stage three could not write .*make room, then go on with --resume"):
        run.stage("three", through_the_store, part=1)
    with pytest.raises(RunError, match="of its own"):
        run.stage("four", _refused, part=1)
    assert Run.open(run.directory).stage("one", write("never"), part=1).reused


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"summary": 1}', '{"summary": "", "outputs": [], "seconds": 1}', "\x00"]
)
def test_a_stage_whose_record_was_damaged_is_worked_again(run: Run, text: str) -> None:
    run.stage("one", write("x"), part=1)
    (run.directory / "stages" / "one.json").write_text(text)
    again = run.stage("one", write("x"), part=1)
    assert (again.reused, again.reason) == (False, "its record was damaged")
    assert run.stage("one", write("never"), part=1).reused


def test_what_a_killed_process_half_wrote_is_taken_away(run: Run) -> None:
    run.stage("one", write("x"), part=1)
    part = run.directory / "stages" / ".two.json.abc.part"
    part.write_text("{")
    with run.locked():
        assert not part.exists()
    assert run.stage("one", write("never"), part=1).reused


def test_a_lock_that_cannot_be_opened_is_a_sentence(run: Run) -> None:
    (run.directory / "lock").unlink(missing_ok=True)
    (run.directory / "lock").mkdir()
    with pytest.raises(RunError, match="may write to"), run.locked():
        pass


def _refused(_: Path) -> str:
    raise RunError("A reason of its own.")


def test_a_taken_place_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    assert Run.create(run.directory, resume=False).directory == run.directory  # nothing is finished there yet
    run.stage("one", write("1"), part=1)
    with pytest.raises(RunError, match="already holds a run. --resume"):
        Run.create(run.directory, resume=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(RunError, match="not empty and not a run"):
            Run.create(tmp_path / "mine", resume=resume)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        Run.create(tmp_path / "file", resume=False)


def test_open_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no manifest\.json"):
        Run.open(tmp_path)


def test_two_processes_cannot_work_in_one_place_and_a_killed_one_lets_go(run: Run) -> None:
    code = (
        "import sys, time\nfrom distillens.run import Run\n"
        "with Run.open(sys.argv[1]).locked():\n    print('locked', flush=True)\n    time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(run.directory)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "locked"
        with pytest.raises(RunError, match=f"process {other.pid}"), run.locked():
            pass
    finally:
        other.kill()
        other.communicate()
    with run.locked():
        assert (run.directory / "lock").read_text().startswith("process")


def test_seeds_of_stages_differ_and_are_stable() -> None:
    assert stage_seed(0, "a") == stage_seed(0, "a")
    assert len({stage_seed(0, "a"), stage_seed(1, "a"), stage_seed(0, "b"), stage_seed(0, "a", "b")}) == 4


def test_records_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "r.safetensors"
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.array([True, False]),
        "c": np.zeros((0, 2)),
        "d": np.arange(3, dtype=np.int64),
    }
    write_record(path, {"name": '<β> "x"', "n": [1, 2.5, None]}, arrays)
    meta, back = read_record(path)
    assert meta == {"name": '<β> "x"', "n": [1, 2.5, None]}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    whole = path.read_bytes()
    write_record(path, {"n": [1, 2.5, None], "name": '<β> "x"'}, dict(reversed(arrays.items())))
    assert path.read_bytes() == whole, "equal records are equal files"
    for position in (0, 9, 40, len(whole) - 1):
        broken = bytearray(whole)
        broken[position] ^= 1
        path.write_bytes(bytes(broken))
        with pytest.raises(ArtefactError, match=r"r\.safetensors"):
            read_record(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match=r"r\.safetensors"):
        read_record(path)
    with pytest.raises(ArtefactError, match="does not exist"):
        read_record(tmp_path / "none.safetensors")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": None}
    with pytest.raises(ValueError, match="half way"), atomic_path(path) as part:
        part.write_text("{broken")
        raise ValueError("half way")
    assert read_json(path) == {"a": None}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]

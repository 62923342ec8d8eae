"""`Run`: a directory that stages write and the passport reads. Every write is atomic, every stage can be resumed.

A stage writes into `RUN/.work`, which starts empty; what a long stage has finished of its work lies in `RUN/.partial/STAGE`, is there
again after a kill, and is removed when the stage is done. A stage's files are synced and moved to their places, and only then `stages/NAME.json`
appears. A stage is reused when its key (its part of the recipe, the keys of the stages it reads, the code it runs, and
what was handed in from Python) is the same and every file it wrote still has the bytes it was written with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from distillens.errors import ArtefactError, RunError
from distillens.store import JSON, canonical_json, file_hash, read_json, sync_folder, write_json, write_text

PACKAGE = Path(__file__).resolve().parent
_CHANGES = {"recipe": "the recipe changed", "code": "the code changed", "given": "what was handed in changed"}


@dataclass(frozen=True)
class StageResult:
    """What became of a stage. reason: why it was worked again although a record existed ("" when it did not)."""

    name: str
    key: str
    summary: str
    seconds: float
    reused: bool
    reason: str = ""


@dataclass
class Run:
    """One run directory.

    directory: where everything lies. results: the stages passed so far in this process, by name.
    """

    directory: Path
    results: dict[str, StageResult] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: str | Path) -> Run:
        """An existing run. RunError when the directory is not one."""
        path = Path(directory)
        if not path.is_dir():
            raise RunError(f"There is no run at {path}: the folder does not exist.")
        if not (path / "manifest.json").is_file():
            raise RunError(
                f"{path} is not a run: it has no manifest.json. Give the folder that `distillens run` wrote."
            )
        return cls(path)

    @classmethod
    def create(cls, directory: str | Path, *, resume: bool) -> Run:
        """The place for a new run, or an old run to go on with. RunError when the place is taken and `resume` is False."""
        path = Path(directory)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; --out names the folder of a run.")
        entries = contents(path)
        if entries and "manifest.json" not in entries:
            raise RunError(f"{path} is not empty and not a run; choose another --out, nothing in it was touched.")
        if entries and not resume:
            raise RunError(
                f"{path} already holds a run. --resume goes on with it and works anew what changed; --out chooses another place."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the folder {path}: {error.strerror}. Choose another --out.") from error
        return cls(path)

    def begin(self, *, recipe_yaml: str, manifest: Mapping[str, Any]) -> None:
        """Write the resolved recipe and the manifest (inside `locked`)."""
        write_json(self.directory / "manifest.json", manifest)
        write_text(self.directory / "recipe.yaml", recipe_yaml)

    @property
    def passport(self) -> JSON:
        """The passport as a dictionary. ArtefactError when the run did not get that far."""
        record: JSON = read_json(self.directory / "passport.json")
        return record

    @property
    def verdict(self) -> str:
        """pass, review or fail."""
        return str(self.passport["verdict"])

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r})"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second run out of this directory. The lock goes with the process, also when it is killed."""
        path = self.directory / "lock"
        try:
            handle = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise RunError(f"Cannot write {path}: {error.strerror}. A run needs a folder it may write to.") from error
        try:
            if not _acquire(handle):
                handle.seek(0)
                raise RunError(
                    f"Another run is working in {self.directory} ({handle.read().strip() or 'unknown process'}). Wait for it, or choose another --out."
                )
            handle.truncate(0)
            handle.write(f"process {os.getpid()}")
            handle.flush()
            shutil.rmtree(self.directory / ".work", ignore_errors=True)
            for part in self.directory.rglob(".*.part"):  # half-written by a process that was killed
                part.unlink(missing_ok=True)
            yield
            shutil.rmtree(self.directory / ".work", ignore_errors=True)
        finally:
            handle.close()

    def partial(self, stage: str) -> Path:
        """Where a stage keeps the parts of its work that are done; the folder need not exist."""
        return self.directory / ".partial" / stage.replace("/", ".")

    def drop_partial(self, stage: str | None = None) -> None:
        """Remove the kept parts of a stage, or of all stages."""
        home = self.directory / ".partial"
        shutil.rmtree(home if stage is None else self.partial(stage), ignore_errors=True)
        with contextlib.suppress(OSError):  # others keep parts there, or it was never made
            home.rmdir()

    def stage(
        self,
        name: str,
        work: Callable[[Path], str],
        *,
        part: Any,
        reads: Sequence[str] = (),
        code: Sequence[str] = (),
        given: str | None = None,
    ) -> StageResult:
        """Run a stage unless it is already there.

        work(folder) writes files below `folder`, laid out as below the run directory, and returns a one-line summary.
        part: its part of the recipe. reads: stages whose results it uses. code: sub-packages it runs.
        given: fingerprint of what was handed in from Python. A stage that is worked anew replaces what it wrote earlier
        once it is done; one that fails leaves that as it was.
        """
        ingredients = {"recipe": part, "code": code_version(tuple(code)), "given": given}
        inputs = {other: self.results[other].key for other in reads}
        key = hashlib.sha256(canonical_json([name, ingredients, inputs]).encode()).hexdigest()
        record_path = self.directory / "stages" / f"{name.replace('/', '.')}.json"
        reason, before = "", set[str]()
        if record_path.exists():
            record = _record(record_path)
            reason = "its record was damaged" if record is None else self._stale(record, key, ingredients, inputs)
            if record is not None and not reason:
                result = StageResult(name, key, record["summary"], float(record["seconds"]), reused=True)
                self.results[name] = result
                self.drop_partial(name)
                return result
            before = set() if record is None else set(record["outputs"])
        folder = self.directory / ".work" / name.replace("/", ".")
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        try:
            folder.mkdir(parents=True)
            summary = work(folder)
            seconds = time.monotonic() - started
            record_path.unlink(
                missing_ok=True
            )  # not before: a recipe that fails here costs nothing of what the stage had made
            outputs = self._publish(folder)
            self._remove(before - set(outputs))
        except (OSError, RunError) as error:
            cause = error.__cause__ if isinstance(error, RunError) else error
            if not isinstance(cause, OSError):
                raise
            raise RunError(
                f"Stage {name} could not write to {self.directory}: {cause.strerror or cause}. Finished stages are kept: make room, then go on with --resume."
            ) from cause
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        write_json(record_path, {
            "stage": name, "key": key, "ingredients": _hashed(ingredients), "inputs": inputs, "outputs": outputs,
            "seconds": round(seconds, 3), "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "summary": summary,
        })  # fmt: skip
        self.drop_partial(name)
        result = StageResult(name, key, summary, seconds, reused=False, reason=reason)
        self.results[name] = result
        return result

    def _publish(self, folder: Path) -> dict[str, str]:
        """Sync every file below the work folder and move it to its place; returns path → SHA-256."""
        outputs: dict[str, str] = {}
        for source in sorted(p for p in folder.rglob("*") if p.is_file()):
            relative = source.relative_to(folder)
            target = self.directory / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb+") as stream:
                os.fsync(stream.fileno())
            outputs[relative.as_posix()] = file_hash(source)
            os.replace(source, target)
            sync_folder(target.parent)
        return outputs

    def _remove(self, outputs: set[str]) -> None:
        """Take away what a stage wrote earlier and does not write any more, so that nobody reads it as this run's."""
        home = self.directory.resolve()
        for relative in outputs:
            path = (self.directory / relative).resolve()
            if path.is_relative_to(home):  # a record is a file that anybody may have written
                path.unlink(missing_ok=True)

    def _stale(self, record: JSON, key: str, ingredients: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
        """Why a stage cannot be reused; "" when it can."""
        if record.get("key") != key:
            old, new = record.get("ingredients", {}), _hashed(ingredients)
            changed = [text for word, text in _CHANGES.items() if old.get(word) != new[word]]
            moved = [other for other, value in inputs.items() if record.get("inputs", {}).get(other) != value]
            return " and ".join(changed) or (
                f"{', '.join(moved)} changed" if moved else "it was made from other stages"
            )
        for relative, digest in record["outputs"].items():
            path = self.directory / relative
            if not path.is_file():
                return f"{relative} is missing"
            if file_hash(path) != digest:
                return f"{relative} was changed or damaged"
        return ""


def _record(path: Path) -> JSON | None:
    """What a finished stage wrote about itself; None when that cannot be read, so that the stage is worked again."""
    try:
        record = read_json(path)
        whole = (
            isinstance(record["summary"], str) and isinstance(record["outputs"], dict) and float(record["seconds"]) >= 0
        )
    except (ArtefactError, KeyError, TypeError, ValueError):
        return None
    return record if whole else None


def _hashed(ingredients: Mapping[str, Any]) -> dict[str, str]:
    return {name: hashlib.sha256(canonical_json(value).encode()).hexdigest() for name, value in ingredients.items()}


def contents(directory: Path) -> set[str]:
    """Names of what a run's folder holds that must not be lost: nothing while no stage is finished.

    What a process leaves that was stopped before its first stage (lock, half-written files, blocks of an explanation, manifest and recipe) does not count.
    """
    if not directory.is_dir():
        return set()
    names = {entry.name for entry in directory.iterdir()} - {"lock", ".work", ".partial"}
    names = {name for name in names if not (name.startswith(".") and name.endswith(".part"))}
    return set() if "manifest.json" in names and names <= {"manifest.json", "recipe.yaml"} else names


@lru_cache(maxsize=64)
def code_version(packages: tuple[str, ...]) -> str:
    """SHA-256 over the source files of sub-packages (or single modules) of distillens."""
    digest = hashlib.sha256()
    for name in sorted(packages):
        path = PACKAGE / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            if file.suffix in {".py", ".json", ".html", ".css", ".js", ".j2", ".csv"} and file.is_file():
                digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\x00" + file.read_bytes() + b"\x00")
    return digest.hexdigest()


def stage_seed(seed: int, *names: str) -> int:
    """A seed of its own for each stage, from the one in the recipe: adding a stage does not move the others."""
    return int.from_bytes(hashlib.sha256("/".join((str(seed), *names)).encode()).digest()[:4], "big")


def _acquire(handle: Any) -> bool:
    """An exclusive advisory lock that the operating system releases when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_stage_seconds(directory: Path) -> dict[str, float]:
    """Seconds each finished stage took, by name."""
    folder = directory / "stages"
    if not folder.is_dir():
        raise ArtefactError(f"{directory} holds no finished stage.")
    return {
        record["stage"]: float(record["seconds"])
        for path in sorted(folder.glob("*.json"))
        for record in [read_json(path)]
    }

"""What the passport is made from: the JSON files of a run directory, checked against the stages that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillens.errors import ArtefactError
from distillens.store import JSON, file_hash, read_json

# What has to be in a file before it can be shown, and of which type; () = any.
_REQUIRED: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "manifest": {"schema": int, "name": str, "distillens": str, "seed": int},
    "dataset": {"task": str, "classes": list, "target": str, "columns": list, "rows": dict},
    "model": {"id": str, "kind": str, "label": str, "complexity": dict},
    "targets": {"origin": str, "rows": int},
    "chosen": {"chosen": str, "by": str},
    "audit": {
        "schema": int,
        "verdict": str,
        "task": str,
        "models": dict,
        "metrics": list,
        "gates": list,
        "slices": list,
        "statement": dict,
    },
    "export": {"format": str, "file": str, "bytes": int},
    "frontier": {"points": list, "rows": dict, "answers": dict},
    "stage": {"stage": str, "key": str, "outputs": dict, "seconds": (int, float)},
}
SCHEMA = 1


@dataclass(frozen=True)
class Parts:
    """The JSON of a run; None or empty for what the run has not (yet) made."""

    manifest: JSON
    recipe: JSON
    stages: dict[str, JSON]
    dataset: JSON | None
    teacher: JSON | None
    targets: JSON | None
    students: dict[str, JSON]
    audits: dict[str, JSON]
    exports: dict[str, JSON]
    controls: dict[str, JSON]
    chosen: JSON | None
    frontier: JSON | None = None


def read_parts(run_dir: Path) -> Parts:
    """Read a run directory.

    Raises ArtefactError when it has no manifest, when a file is not what it should be, or when a file that a finished
    stage wrote is missing or has other bytes than were written. A stage that has not run leaves its parts empty.
    """
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise ArtefactError(f"There is no run at {run_dir}: the folder does not exist.")
    manifest = _checked(run_dir / "manifest.json", "manifest")
    stages = {
        record["stage"]: record
        for path in sorted((run_dir / "stages").glob("*.json"))
        for record in [_checked(path, "stage")]
    }
    _verify(run_dir, stages)
    students = _each(run_dir / "students", "student.json", "model")
    chosen = _optional(run_dir / "students" / "chosen.json", "chosen")
    if chosen is not None and chosen["chosen"] not in students:
        raise ArtefactError(
            f"{run_dir / 'students' / 'chosen.json'} names the student {chosen['chosen']!r}, which is not in {run_dir / 'students'}."
        )
    return Parts(
        manifest=manifest,
        recipe=_recipe(run_dir / "recipe.yaml"),
        stages=stages,
        dataset=_optional(run_dir / "data" / "dataset.json", "dataset"),
        teacher=_optional(run_dir / "teacher" / "teacher.json", "model"),
        targets=_optional(run_dir / "targets" / "targets.json", "targets"),
        students=students,
        audits=_each(run_dir / "students", "audit.json", "audit"),
        exports=_each(run_dir / "students", "export/export.json", "export"),
        controls=_each(run_dir / "controls", "control.json", "model"),
        chosen=chosen,
        frontier=_optional(run_dir / "frontier" / "frontier.json", "frontier") if "frontier" in stages else None,
    )


def _verify(run_dir: Path, stages: Mapping[str, JSON]) -> None:
    """Every file a finished stage wrote is there, with the bytes it was written with."""
    for stage, record in stages.items():
        for relative, digest in record["outputs"].items():
            path = run_dir / relative
            if not path.is_file():
                raise ArtefactError(
                    f"{path} is missing, although stage {stage} wrote it. Run again with --resume to make it anew."
                )
            if file_hash(path) != digest:
                raise ArtefactError(
                    f"{path} was changed or damaged after stage {stage} wrote it. Run again with --resume to make it anew."
                )


def _each(folder: Path, file: str, kind: str) -> dict[str, JSON]:
    if not folder.is_dir():
        return {}
    found = {path.name: path / file for path in sorted(folder.iterdir()) if (path / file).is_file()}
    return {name: _checked(path, kind) for name, path in found.items()}


def _optional(path: Path, kind: str) -> JSON | None:
    return _checked(path, kind) if path.is_file() else None


def _checked(path: Path, kind: str) -> JSON:
    """The JSON object of a file; ArtefactError when it lacks what its kind needs or comes from another version."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise ArtefactError(f"{path} should hold a JSON object, but holds a {type(record).__name__}.")
    for key, types in _REQUIRED[kind].items():
        if not isinstance(record.get(key), types):
            raise ArtefactError(
                f"{path} has no valid {key!r}; it is incomplete or was written by an incompatible version of distillens."
            )
    if record.get("schema", SCHEMA) != SCHEMA:
        raise ArtefactError(
            f"{path} has schema {record['schema']}, but this version reads schema {SCHEMA}; use the distillens that wrote it."
        )
    return record


def _recipe(path: Path) -> JSON:
    """The resolved recipe; an empty one when the run has none."""
    import yaml

    if not path.is_file():
        return {}
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not valid YAML; it was damaged.") from error
    if not isinstance(recipe, dict):
        raise ArtefactError(f"{path} should hold a recipe (a mapping), but holds a {type(recipe).__name__}.")
    return recipe


def row_labels(run_dir: Path, student: str) -> dict[int, Any]:
    """row_id → label of the rows the audit stored; empty when it stored none. ArtefactError when the file is damaged."""
    path = Path(run_dir) / "students" / student / "rows.parquet"
    if not path.is_file():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)  # type: ignore[no-untyped-call,unused-ignore]
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtefactError(f"{path} is not a valid Parquet file ({error}); it was damaged.") from error
    if not {"row_id", "label"} <= set(table.column_names):
        return {}
    return dict(zip(table["row_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def guarded(path: Path, make: Callable[[], Any]) -> Any:
    """Whatever `make` builds from files; a file whose inside is not what it should be is an ArtefactError, not a crash."""
    try:
        return make()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ArtefactError(
            f"{path} holds a file whose content is not as documented ({type(error).__name__}: {error}); "
            "it is incomplete or was written by an incompatible version of distillens."
        ) from error

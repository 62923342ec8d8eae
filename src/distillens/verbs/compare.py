"""Finished runs side by side: the chosen student of each, with intervals. Reads the folders' JSON alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distillens.errors import RunError
from distillens.plain import clean, interval
from distillens.run import Run
from distillens.store import JSON, read_json

METRICS = ("agreement", "cohen_kappa", "r2_to_teacher", "roc_auc", "accuracy", "r2", "rmse", "brier", "top_k_overlap",
           "mask_correlation")  # fmt: skip
SIZES = ("leaves", "terms", "rules", "nonzero", "parameters", "size_bytes")


def compare_runs(directories: Sequence[str | Path], *, every: bool = False) -> JSON:
    """One record a run: `{rows: [{run, student, kind, verdict, n, metrics{name: Estimate}, teacher{name: Estimate}, twin{…},
    complexity}], notes: […]}`. every: all students of a run, not the chosen one alone.

    Raises RunError for a folder that is no run or has no audit, ArtefactError for damaged files.
    """
    rows: list[JSON] = []
    seen: dict[str, set[str]] = {"data": set(), "decision": set(), "task": set()}
    for directory in directories:
        run = Run.open(directory)
        folder = run.directory / "students"
        audited = sorted(path.parent.name for path in folder.glob("*/audit.json"))
        if not audited:
            raise RunError(f"{run.directory} holds no audit; the run did not get that far (--resume goes on with it).")
        chosen = folder / "chosen.json"
        picked = audited if every or not chosen.is_file() else [str(read_json(chosen)["chosen"])]
        data = run.directory / "data" / "dataset.json"
        seen["data"].add(str(read_json(data).get("fingerprint") if data.is_file() else None))
        for student in picked:
            audit = read_json(folder / student / "audit.json")
            seen["decision"].add(repr(audit.get("decision")))
            seen["task"].add(str(audit["task"]))
            rows.append(_row(run.directory, student, audit))
    return {"schema": 1, "rows": rows, "notes": _notes(seen, len(directories))}


def _row(directory: Path, student: str, audit: Mapping[str, Any]) -> JSON:
    card = directory / "students" / student / "student.json"
    described = read_json(card) if card.is_file() else {}
    found: dict[str, Mapping[str, Any]] = {}
    for metric in audit["metrics"]:
        if metric["name"] in METRICS:
            found.setdefault(metric["name"], metric)
    return {
        "run": directory.name,
        "student": student,
        "kind": described.get("kind"),
        "verdict": audit["verdict"],
        "n": audit["n"],
        "metrics": {name: found[name]["estimate"] for name in METRICS if name in found},
        "teacher": {name: found[name]["teacher"] for name in METRICS if name in found and found[name].get("teacher")},
        "twin": {name: m["controls"]["twin"] for name, m in found.items() if (m.get("controls") or {}).get("twin")},
        "complexity": described.get("complexity") or {},
    }


def _notes(seen: Mapping[str, set[str]], runs: int) -> list[str]:
    notes = []
    if len(seen["task"]) > 1:
        notes.append("The runs are of different tasks; their numbers cannot be compared.")
    elif runs > 1 and len(seen["data"]) > 1:
        notes.append(
            "The runs are on different data or splits; differences between them are not those of the students alone."
        )
    elif len(seen["decision"]) > 1:
        notes.append("The runs decide by different classes or thresholds; agreement is not of the same decisions.")
    notes.append(
        "Intervals are of each student alone; students on the same rows may differ clearly although intervals overlap."
    )
    return notes


def cells(compared: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table: numbers with intervals, only columns that some run has."""
    rows = compared["rows"]
    names = [name for name in METRICS if any(name in row["metrics"] for row in rows)]
    header = ["run", "student", "verdict", "n", *(name.replace("_", " ") for name in names), "size"]
    lines = []
    for row in rows:
        values = [interval(row["metrics"][name]) if name in row["metrics"] else "" for name in names]
        lines.append([row["run"], row["student"], row["verdict"], f"{row['n']:,}", *values, _size(row["complexity"])])
    return header, lines


def _size(complexity: Mapping[str, Any]) -> str:
    name = next((name for name in SIZES if complexity.get(name)), None)
    return "" if name is None else f"{complexity[name]:,} {name.replace('size_bytes', 'bytes')}"


def markdown(compared: Mapping[str, Any]) -> str:
    """The table in Markdown, with its notes below; characters that would break it are escaped."""

    def escaped(text: str) -> str:
        plain = clean(text).replace("\\", "\\\\").replace("|", "\\|")
        return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    header, lines = cells(compared)
    table = [header, ["---"] * len(header), *lines]
    body = ["| " + " | ".join(cell if line is table[1] else escaped(cell) for cell in line) + " |" for line in table]
    return "\n".join([*body, "", *compared["notes"]]) + "\n"

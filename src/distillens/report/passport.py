"""The passport: what a run's files say, as one dictionary, one HTML page a language, and a model card.

Nothing is computed here that the audit has not computed, no model is loaded and no row is read that the audit did not
store. Whatever may differ between two identical runs (times, latencies, the machine) lies below `measured` only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distillens.report.headline import headline
from distillens.report.reading import Parts, guarded, read_parts, row_labels
from distillens.report.sections import sections
from distillens.report.words import LANGUAGES, catalogue
from distillens.store import JSON, write_json, write_text

USE_FIELDS = (
    "intended_use", "out_of_scope", "population", "period", "limits", "overrides", "owner", "contact", "reviewer", "valid_until",
    "sign_off", "acceptable", "licence",
)  # fmt: skip


def assemble(run_dir: Path) -> dict[str, Any]:
    """The passport of a run directory as a JSON-able dictionary (report/schema.json).

    Parts that the run has not made are "not assessed", with the reason. Raises ArtefactError for a directory without a
    manifest and for files that are missing although a stage wrote them, damaged, or of another version.
    """
    run_dir = Path(run_dir)
    parts = read_parts(run_dir)
    passport: JSON = guarded(run_dir, lambda: _assembled(run_dir, parts))
    return passport


def _assembled(run_dir: Path, parts: Parts) -> JSON:
    chosen = parts.chosen["chosen"] if parts.chosen else next(iter(sorted(parts.audits or parts.students)), None)
    audits, exports = copy.deepcopy(parts.audits), copy.deepcopy(parts.exports)
    measured = _take_measured(parts, audits, exports)
    for student, made in audits.items():
        _attach_labels(made, row_labels(run_dir, student))
    audit = audits.get(chosen) if chosen else None
    passport: JSON = {
        "schema": 1,
        "name": parts.manifest["name"],
        "title": parts.manifest.get("title") or parts.manifest["name"],
        "verdict": audit["verdict"] if audit else "review",
        "chosen": {
            "id": chosen,
            "by": parts.chosen["by"] if parts.chosen else None,
            "scores": (parts.chosen or {}).get("scores", {}),
        }
        if chosen
        else None,
        "headline": headline(audit, images=bool((parts.dataset or {}).get("images"))),
        "sections": [],
        "models": {"teacher": _card(parts.teacher), "controls": {name: _card(c) for name, c in parts.controls.items()}},
        "students": {
            name: s | {"verdict": audits[name]["verdict"] if name in audits else None}
            for name, s in parts.students.items()
        },
        "audits": audits,
        "export": exports,
        "data": parts.dataset,
        "teacher": parts.teacher,
        "targets": parts.targets,
        "controls": parts.controls,
        "frontier": parts.frontier,
        "use": _use(parts.recipe),
        "stages": {name: _stage(record) for name, record in parts.stages.items()},
        "manifest": {k: v for k, v in parts.manifest.items() if k not in {"created", "platform"}},
        "not_assessed": [],
        "measured": measured,
    }
    passport["sections"] = sections(passport)
    english = catalogue("en")
    passport["not_assessed"] = [
        {"what": s["title"], "why": english[f"reason.{s['reason']}"], "section": s["id"]}
        for s in passport["sections"]
        if s["state"] == "not_assessed"
    ] + [{"what": x["what"], "why": x["why"], "section": None} for x in (audit or {}).get("not_assessed", ())]
    return passport


def _take_measured(parts: Parts, audits: dict[str, JSON], exports: dict[str, JSON]) -> JSON:
    """Move everything that may differ between two identical runs out of its place, into one dictionary."""
    stages = parts.stages
    return {
        "created": parts.manifest.get("created"),
        "platform": parts.manifest.get("platform"),
        "seconds": {name: record["seconds"] for name, record in stages.items()},
        "finished": {name: record.get("finished") for name, record in stages.items()},
        "summaries": {name: record.get("summary", "") for name, record in stages.items()},
        # these files hold measurements themselves, so their hashes differ too
        "hashes": {
            path: digest
            for record in stages.values()
            for path, digest in record["outputs"].items()
            if not _repeatable(path)
        },
        "audits": {name: audit.pop("measured", {}) for name, audit in audits.items()},
        "export": {name: export.pop("measured", {}) for name, export in exports.items()},
        "export_audits": {
            name: export["audit"].pop("measured", {}) for name, export in exports.items() if export.get("audit")
        },
        "pages": {},
    }


def _repeatable(path: str) -> bool:
    return path.endswith((".safetensors", ".onnx"))


def _stage(record: Mapping[str, Any]) -> JSON:
    outputs = {path: digest for path, digest in record["outputs"].items() if _repeatable(path)}
    return {"key": record["key"], "inputs": record.get("inputs", {}), "outputs": outputs}


def _card(record: Mapping[str, Any] | None) -> JSON | None:
    return None if record is None else {k: record.get(k) for k in ("id", "role", "kind", "label", "fingerprint")}


def _use(recipe: Mapping[str, Any]) -> dict[str, str | None]:
    """What only people can say: from the recipe's `report` part where it is there, otherwise to be filled in by hand."""
    given = recipe.get("report") if isinstance(recipe.get("report"), Mapping) else {}
    return {field: str(given[field]) if given and given.get(field) else None for field in USE_FIELDS}


def _attach_labels(audit: JSON, labels: Mapping[int, Any]) -> None:
    """The true label of every stored row, as the name of its class, where the audit stored labels."""
    if not labels or not audit.get("reasons"):
        return
    classes = audit.get("classes") or []
    for row in (*audit["reasons"].get("worst_rows", ()), *audit["reasons"].get("random_rows", ())):
        label = labels.get(row["row_id"])
        if label is None or row.get("label") is not None:
            continue
        row["label"] = classes[int(label)] if classes and isinstance(label, (int, float)) else label


def write_passport(run_dir: Path, *, languages: Sequence[str] = ("en", "zh")) -> list[Path]:
    """Write passport.json, one page a language (passport.html is English, passport.zh.html Chinese) and card.md.

    Each file appears whole or not at all; passport.json comes last. Returns the paths, the page to open first.
    Raises ArtefactError as `assemble`, InputError for a language there is no catalogue for, RunError when the disk is full.
    """
    from distillens.report.card import card
    from distillens.report.page import page

    for language in languages:
        catalogue(language)
    run_dir = Path(run_dir)
    passport = assemble(run_dir)
    written = []
    for language in sorted(set(languages), key=LANGUAGES.index):
        html = guarded(run_dir, partial(page, passport, language=language))
        path = run_dir / ("passport.html" if language == "en" else f"passport.{language}.html")
        write_text(path, html)
        passport["measured"]["pages"][language] = len(html.encode())
        written.append(path)
    write_text(run_dir / "card.md", guarded(run_dir, lambda: card(passport)))
    write_json(run_dir / "passport.json", passport)
    return [*written, run_dir / "passport.json", run_dir / "card.md"]

"""The 15 sections: which are assessed, which partly, which not, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from distillens.report.words import catalogue

Json = Mapping[str, Any]
State = tuple[str, str | None]  # assessed | partly | not_assessed, and the key of the reason

ASSESSED: State = ("assessed", None)


def missing(reason: str) -> State:
    return ("not_assessed", reason)


def partly(reason: str) -> State:
    return ("partly", reason)


def chosen_audit(passport: Json) -> Json | None:
    """The audit of the chosen student, or None."""
    chosen = passport["chosen"]
    audit: Json | None = passport["audits"].get(chosen["id"]) if chosen else None
    return audit


def shown(audit: Json, *scopes: str) -> list[Json]:
    """Metrics of these scopes that have a number."""
    return [
        m
        for m in audit["metrics"]
        if m["scope"] in scopes and m["estimate"].get("status", "ok") == "ok" and m["estimate"].get("value") is not None
    ]


def _verdict(p: Json, audit: Json | None) -> State:
    if audit is None:
        return missing("no_audit")
    return ASSESSED if audit["gates"] else partly("no_gates")


def _provenance(p: Json, audit: Json | None) -> State:
    there = [p["data"], p["teacher"], p["targets"], p["chosen"]]
    return ASSESSED if all(there) else partly("unfinished") if any(there) else missing("unfinished")


def _use(p: Json, audit: Json | None) -> State:
    return (
        ASSESSED
        if all(p["use"].get(f) for f in ("intended_use", "out_of_scope", "owner", "sign_off"))
        else partly("by_hand")
    )


def _performance(p: Json, audit: Json | None) -> State:
    if audit is None:
        return missing("no_audit")
    return ASSESSED if shown(audit, "performance") else missing("no_labels")


def _fidelity(p: Json, audit: Json | None) -> State:
    if audit is None:
        return missing("no_audit")
    return ASSESSED if shown(audit, "prediction") else missing("no_numbers")


def _slices(p: Json, audit: Json | None) -> State:
    if audit is None:
        return missing("no_audit")
    if not audit["slices"]:
        return missing("no_slices")
    outcomes = {s["outcome"] for s in audit["slices"]}
    return (
        ASSESSED
        if outcomes == {"assessed"}
        else partly("small_slices")
        if "assessed" in outcomes
        else missing("small_slices")
    )


def _calibration(p: Json, audit: Json | None) -> State:
    if audit is None:
        return missing("no_audit")
    if audit["task"] == "regression":
        return missing("regression")
    return ASSESSED if shown(audit, "calibration") or audit.get("calibration") else missing("no_labels")


def _reasons(p: Json, audit: Json | None) -> State:
    if audit is None:
        return missing("no_audit")
    return ASSESSED if audit.get("reasons") else missing("no_explanations")


def _readability(p: Json, audit: Json | None) -> State:
    student = p["students"].get(p["chosen"]["id"]) if p["chosen"] else None
    if student is None:
        return missing("no_student")
    return ASSESSED if student.get("readable") and described(student) else partly("not_readable")


def _frontier(p: Json, audit: Json | None) -> State:
    return partly("this_run_only") if len(p["audits"]) > 1 else missing("one_student")


def _footprint(p: Json, audit: Json | None) -> State:
    export = p["export"].get(p["chosen"]["id"]) if p["chosen"] else None
    if export is None:
        return missing("no_export")
    return ASSESSED if export.get("parity") and export.get("audit") else partly("no_parity")


SECTIONS: tuple[tuple[str, Callable[[Json, Json | None], State]], ...] = (
    ("verdict", _verdict),
    ("provenance", _provenance),
    ("use", _use),
    ("performance", _performance),
    ("fidelity", _fidelity),
    ("slices", _slices),
    ("calibration", _calibration),
    ("reasons", _reasons),
    ("layers", lambda p, audit: missing("no_layers")),
    ("readability", _readability),
    ("frontier", _frontier),
    ("footprint", _footprint),
    (
        "statement",
        lambda p, audit: (
            missing("no_audit") if audit is None else ASSESSED if p["use"].get("acceptable") else partly("author")
        ),
    ),
    ("untested", lambda p, audit: ASSESSED if audit else partly("no_audit")),
    ("monitoring", lambda p, audit: missing("no_protocol")),
)


def sections(passport: Json) -> list[dict[str, Any]]:
    """[{id, number, title, state, reason}], in the order in which they are shown."""
    audit, texts = chosen_audit(passport), catalogue("en")
    out = []
    for number, (name, assess) in enumerate(SECTIONS, start=1):
        state, reason = assess(passport, audit)
        out.append({"id": name, "number": number, "title": texts[f"section.{name}"], "state": state, "reason": reason})
    return out


def described(student: Json) -> Json | None:
    """What people read in a student: {form: tree | linear | additive, …}; None when it cannot be read."""
    found = student.get("described")
    return found if isinstance(found, Mapping) and found.get("form") in {"tree", "linear", "additive"} else None

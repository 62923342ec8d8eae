"""The 15 sections: which are assessed, which partly, which not, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distillens.report.words import catalogue

Json = Mapping[str, Any]
State = tuple[str, str | None]  # assessed | partly | not_assessed, and the key of the reason


@dataclass(frozen=True)
class Given:
    """The passport so far, and the audit of its chosen student."""

    passport: Json
    audit: Json | None


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


def _verdict(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    return ASSESSED if g.audit["gates"] else partly("no_gates")


def _provenance(g: Given) -> State:
    there = [g.passport["data"], g.passport["teacher"], g.passport["targets"], g.passport["chosen"]]
    return ASSESSED if all(there) else partly("unfinished") if any(there) else missing("unfinished")


def _use(g: Given) -> State:
    return (
        ASSESSED
        if all(g.passport["use"].get(f) for f in ("intended_use", "out_of_scope", "owner", "sign_off"))
        else partly("by_hand")
    )


def _performance(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    return ASSESSED if shown(g.audit, "performance") else missing("no_labels")


def _fidelity(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    return ASSESSED if shown(g.audit, "prediction") else missing("no_numbers")


def _slices(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    if not g.audit["slices"]:
        return missing("no_slices")
    outcomes = {s["outcome"] for s in g.audit["slices"]}
    return (
        ASSESSED
        if outcomes == {"assessed"}
        else partly("small_slices")
        if "assessed" in outcomes
        else missing("small_slices")
    )


def _calibration(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    if g.audit["task"] == "regression":
        return missing("regression")
    return ASSESSED if shown(g.audit, "calibration") or g.audit.get("calibration") else missing("no_labels")


def _reasons(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    return ASSESSED if g.audit.get("reasons") else missing("no_explanations")


def _readability(g: Given) -> State:
    student = g.passport["students"].get(g.passport["chosen"]["id"]) if g.passport["chosen"] else None
    if student is None:
        return missing("no_student")
    return ASSESSED if student.get("readable") and described(student) else partly("not_readable")


def _frontier(g: Given) -> State:
    if g.passport.get("frontier"):
        return ASSESSED
    return partly("this_run_only") if len(g.passport["audits"]) > 1 else missing("one_student")


def _footprint(g: Given) -> State:
    export = g.passport["export"].get(g.passport["chosen"]["id"]) if g.passport["chosen"] else None
    if export is None:
        return missing("no_export")
    return ASSESSED if export.get("parity") and export.get("audit") else partly("no_parity")


def _statement(g: Given) -> State:
    if g.audit is None:
        return missing("no_audit")
    return ASSESSED if g.passport["use"].get("acceptable") else partly("author")


SECTIONS: tuple[tuple[str, Callable[[Given], State]], ...] = (
    ("verdict", _verdict),
    ("provenance", _provenance),
    ("use", _use),
    ("performance", _performance),
    ("fidelity", _fidelity),
    ("slices", _slices),
    ("calibration", _calibration),
    ("reasons", _reasons),
    ("layers", lambda _: missing("no_layers")),
    ("readability", _readability),
    ("frontier", _frontier),
    ("footprint", _footprint),
    ("statement", _statement),
    ("untested", lambda g: ASSESSED if g.audit else partly("no_audit")),
    ("monitoring", lambda _: missing("no_protocol")),
)


def sections(passport: Json) -> list[dict[str, Any]]:
    """[{id, number, title, state, reason}], in the order in which they are shown."""
    given, texts = Given(passport, chosen_audit(passport)), catalogue("en")
    out = []
    for number, (name, assess) in enumerate(SECTIONS, start=1):
        state, reason = assess(given)
        out.append({"id": name, "number": number, "title": texts[f"section.{name}"], "state": state, "reason": reason})
    return out


FORMS = frozenset({"tree", "linear", "additive", "scorecard", "rules", "soft_tree"})


def described(student: Json) -> Json | None:
    """What people read in a student: {form: one of `FORMS`, …}; None when it cannot be read."""
    found = student.get("described")
    return found if isinstance(found, Mapping) and found.get("form") in FORMS else None

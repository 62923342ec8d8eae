"""Directions that somebody asked for: does either model move against them on these rows?"""

from __future__ import annotations

from collections.abc import Mapping

from distillens.audit.answers import Case
from distillens.data.base import as_table
from distillens.errors import InputError
from distillens.intervals import clopper_pearson
from distillens.models.monotone import listed
from distillens.store import JSON


def directions_record(case: Case, monotone: Mapping[str, int], *, level: float) -> list[JSON]:
    """As `listed` of models/monotone.py for teacher and student, with an exact interval for the share of rows that break a direction.

    monotone: feature → ±1, the direction of the log-odds of class index 1 or of the value. InputError with more than two classes.
    """
    if not any(monotone.values()):
        return []
    if len(case.classes) > 2:
        raise InputError("With more than two classes there is no single direction; leave monotone out.")
    models = {role: case.models[role] for role in ("teacher", "student")}
    entries = listed(models, as_table(case.inputs, what="A direction"), monotone)
    for entry in entries:
        for found in entry["models"].values():
            broken = round(found["rows"] * entry["rows"])
            found["broken"] = clopper_pearson(broken, entry["rows"], level).to_json()
    return entries

"""A first look at a table: what `distillens init` needs to write a commented recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from distillens.data.base import Finding
from distillens.data.checks import describe_column, id_like, is_constant, leak
from distillens.data.kinds import CellKind, read_cells
from distillens.data.read import open_source
from distillens.data.table import encode_cells, learn_column
from distillens.data.target import read_target
from distillens.errors import DataError

if TYPE_CHECKING:
    from distillens.data.base import Role, TaskKind
    from distillens.data.kinds import Cells
    from distillens.data.target import Target

# Words in column names that speak of people's protected traits, and the trait they speak of.
SENSITIVE: dict[str, str] = {
    "age": "age", "birth": "age", "birthday": "age", "birthdate": "age", "dob": "age", "sex": "sex", "gender": "gender", "female": "sex",
    "male": "sex", "race": "race", "racial": "race", "ethnic": "ethnicity", "ethnicity": "ethnicity", "nationality": "nationality",
    "citizenship": "nationality", "citizen": "nationality", "foreign": "nationality", "foreigner": "nationality", "immigrant": "nationality",
    "religion": "religion", "religious": "religion", "marital": "marital status", "married": "marital status", "pregnant": "pregnancy",
    "pregnancy": "pregnancy", "disability": "disability", "disabled": "disability", "orientation": "sexual orientation", "caste": "caste",
}  # fmt: skip
SENSITIVE_PARTS: dict[str, str] = {
    "年龄": "age", "性别": "sex", "民族": "ethnicity", "种族": "race", "国籍": "nationality", "宗教": "religion", "婚姻": "marital status",
    "残疾": "disability", "怀孕": "pregnancy",
}  # fmt: skip
ADVERSE_WORDS = frozenset(
    ["bad", "default", "defaulted", "malignant", "yes", "1", "true", "y", "t", "positive", "fraud", "churn", "churned", "died", "dead", "death",
     "denied", "rejected", "declined", "refused", "fail", "failed", "failure", "sick", "ill", "disease", "abnormal", "spam", "坏", "是", "违约", "恶性", "阳性"]
)  # fmt: skip
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True)
class ColumnSketch:
    """One column: its kind, how many distinct values, which share is missing, up to five examples, and a suggested role with the reason."""

    name: str
    kind: CellKind
    distinct: int
    missing: float
    examples: tuple[str, ...]
    role: Role
    reason: str = ""


@dataclass(frozen=True)
class Sketch:
    """A table at first sight.

    columns: in the order of the source, target included. classes: rows of each class, empty for regression.
    adverse: the class that decisions are about, with the reason; None for regression, or when no class suggests itself.
    target_range: (low, high) for regression.
    """

    name: str
    source: str
    rows: int
    target: str
    task: TaskKind
    columns: tuple[ColumnSketch, ...]
    classes: Mapping[str, int]
    adverse: str | None
    adverse_reason: str
    target_range: tuple[float, float] | None
    findings: tuple[Finding, ...]

    def roles(self) -> dict[str, list[str]]:
        """Suggested roles as a recipe writes them; features and the target are left out."""
        found: dict[str, list[str]] = {}
        for column in self.columns:
            if column.role not in ("feature", "target"):
                found.setdefault(column.role, []).append(column.name)
        return found


def sketch(source: Any, target: str, *, task: str = "auto", base_dir: Path | None = None) -> Sketch:
    """Look at a table (a path, a built-in name or a data frame) without training anything.

    Raises DataError when the source cannot be read or the target is missing (with a suggestion), empty or constant.
    """
    opened = open_source(source, base_dir=base_dir)
    frame = opened.frame
    wanted = read_target(frame, target, task=task)
    given: dict[str, Role] = {
        column: cast("Role", role) for role, columns in opened.roles.items() for column in columns
    }
    looked: list[ColumnSketch] = []
    findings: list[Finding] = []
    dated = False
    for name in frame.columns:
        try:
            cells = read_cells(frame[name], name)
        except DataError as error:  # one unreadable column must not keep people from a recipe for the others
            looked.append(ColumnSketch(name, "categorical", 0, 0.0, (), "ignore", str(error)))
            findings.append(Finding("unreadable", name, str(error)))
            continue
        role: Role = "target"
        reason = ""
        if name != target:
            role, reason = suggest_role(cells, name, time_taken=dated)
        if name in given and name != target:
            role, reason = given[name], reason or "by the built-in data"
        dated = dated or role == "time"
        values = cells.distinct()
        looked.append(
            ColumnSketch(name, cells.kind, len(values), float(cells.missing.mean()), _examples(cells), role, reason)
        )
        if role == "feature":
            findings += describe_column(cells, name)
            column = learn_column(cells, name)
            finding = leak(encode_cells(cells, column), column, wanted.labels, outputs=len(wanted.classes) or 1)
            findings += [finding] if finding else []
    adverse, why = (
        (opened.adverse, "by the built-in data")
        if opened.adverse and target == opened.target
        else suggest_adverse(wanted)
    )
    span = None if wanted.classes else (float(wanted.labels.min()), float(wanted.labels.max()))
    return Sketch(
        opened.name,
        opened.text,
        len(frame),
        target,
        wanted.task,
        tuple(looked),
        wanted.counts,
        adverse,
        why,
        span,
        tuple(findings),
    )


def suggest_role(cells: Cells, name: str, *, time_taken: bool = False) -> tuple[Role, str]:
    """A role for one column, and why; ("feature", "") when nothing speaks against it."""
    if is_constant(cells):
        return "ignore", "empty in all rows" if cells.missing.all() else "one value in all rows"
    if cells.kind == "date":
        if time_taken or cells.missing.any():
            return "ignore", "holds dates, which models here do not read"
        return "time", "holds dates: the latest rows become the test"
    if (why := id_like(cells, name)) is not None:
        return "id", why
    if (trait := sensitive(name)) is not None:
        return "audit_only", f"the name speaks of {trait}: kept out of the models and used to compare groups"
    return "feature", ""


def sensitive(name: str) -> str | None:
    """The protected trait that a column name speaks of, by whole words ("age", not "mortgage"); None when it does not."""
    for word in _WORDS.findall(name):
        if word.lower() in SENSITIVE:
            return SENSITIVE[word.lower()]
    return next((trait for part, trait in SENSITIVE_PARTS.items() if part in name), None)


def suggest_adverse(target: Target) -> tuple[str | None, str]:
    """The class that decisions are about: one whose name says so ("bad", "malignant", "yes", "1"), else the rarer of two."""
    counts = target.counts
    spoken = [c for c in counts if c.lower() in ADVERSE_WORDS]
    if len(spoken) == 1 and (len(counts) == 2 or spoken[0] != "1"):  # among classes 1, 2, 3 the name 1 says nothing
        return spoken[0], "by its name"
    if len(counts) == 2:
        return min(counts, key=lambda c: (counts[c], list(counts).index(c))), "the rarer of the two classes"
    return None, ""


def _examples(cells: Cells) -> tuple[str, ...]:
    """Up to five values: the commonest categories, or quantiles of numbers."""
    if cells.texts is not None:
        values, counts = np.unique([t for t in cells.texts if t is not None], return_counts=True)
        return tuple(str(values[i]) for i in np.argsort(-counts, kind="stable")[:5])
    known = np.asarray(cells.numbers)[~cells.missing]
    if not len(known):
        return ()
    return tuple(
        f"{v:.6g}" for v in dict.fromkeys(np.quantile(known, [0, 0.25, 0.5, 0.75, 1], method="nearest").tolist())
    )

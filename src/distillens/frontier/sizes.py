"""Which students stand on a frontier: families, and for each the setting that makes it larger.

`FAMILIES` and the defaults below are plain data; heavy libraries are imported when a student is made. This module does not import
torch or scikit-learn, so that recipes are checked without them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillens.errors import InputError, did_you_mean
from distillens.named import resolve
from distillens.students.base import STUDENTS, Student


@dataclass(frozen=True)
class Ladder:
    """setting: the option that is varied; None: the family has one size. sizes: its values, small to large; None: without limit."""

    setting: str | None
    sizes: tuple[int | None, ...]


FAMILIES: dict[str, Ladder] = {
    "tree": Ladder("max_leaves", (2, 4, 8, 16, 32)),
    "rules": Ladder("max_rules", (2, 4, 8, 16)),
    "scorecard": Ladder("max_bins", (2, 3, 4, 6)),
    "additive": Ladder("max_terms", (2, 4, 8, None)),
    "linear": Ladder(None, (None,)),
    "network": Ladder("hidden", (2, 8, 32, 128)),
    "soft_tree": Ladder("depth", (2, 3, 4)),
}
DEFAULT = ("tree", "rules", "scorecard", "additive", "network")

# These choose nothing on validation rows; the others stop early on them and are given rows of the training part instead.
IGNORE_VALIDATION = frozenset({"tree", "rules", "scorecard", "additive", "linear"})


@dataclass(frozen=True)
class Member:
    """One point to fit. size: the value of `setting`; None without a limit."""

    family: str
    size: int | None
    setting: str | None
    student: Student

    @property
    def id(self) -> str:
        return self.family if self.size is None else f"{self.family}-{self.size}"


@dataclass(frozen=True)
class Members:
    """left_out: families of the default list that are not for the task, and why."""

    chosen: tuple[Member, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def check_families(families: Sequence[str] | None, sizes: Mapping[str, Sequence[int]]) -> list[str]:
    """What is wrong with the families and sizes somebody asked for, one sentence each, without importing a family."""
    problems = []
    if families is not None and not families:
        problems.append("families: name at least one family, or leave the key out.")
    problems += [
        f"families: there is no family {family!r} on the frontier.{did_you_mean(str(family), FAMILIES)}"
        for family in families or ()
        if family not in FAMILIES
    ]
    if families is not None and len(set(families)) < len(families):
        problems.append(f"families: {next(f for f in families if list(families).count(f) > 1)} is listed twice.")
    for family, values in sizes.items():
        if family not in FAMILIES:
            problems.append(
                f"sizes: there is no family {family!r} on the frontier.{did_you_mean(str(family), FAMILIES)}"
            )
        elif FAMILIES[family].setting is None:
            problems.append(f"sizes: a {family} student has one size only; leave it out.")
        elif not values or len(set(values)) < len(values):
            problems.append(f"sizes.{family}: expected one or more different whole numbers, got {list(values)}.")
        elif families is not None and family not in families:
            problems.append(f"sizes.{family}: {family} is not among the families {', '.join(families)}.")
    return problems


def members(
    families: Sequence[str] | None, *, task: str, sizes: Mapping[str, Sequence[int]] | None = None,
    given: Mapping[str, Student] | None = None,
) -> Members:  # fmt: skip
    """The points of a frontier, family by family, small to large.

    families: None: `DEFAULT`, less those that are not for the task. sizes: family → values instead of the default ones.
    given: family → a student whose other options (monotone directions, bags, …) every size of that family shares.
    Raises InputError for unknown families and sizes, and for a family that was named and is not for the task.
    """
    problems = check_families(families, sizes or {})
    if problems:
        raise InputError(problems[0])
    chosen: list[Member] = []
    left_out: list[tuple[str, str]] = []
    for family in families or DEFAULT:
        base = (given or {}).get(family) or resolve(family, STUDENTS, what="student")()
        tasks = getattr(base, "tasks", (task,))
        if task not in tasks:
            why = f"for {' and '.join(tasks)} tasks, and this is a {task} task"
            if families is not None or family in (sizes or {}):
                raise InputError(f"A {family} student is {why}; leave it out of the families.")
            left_out.append((family, why))
            continue
        ladder = FAMILIES[family]
        values = (sizes or {}).get(family, ladder.sizes)
        ordered = sorted(values, key=lambda size: float("inf") if size is None else size)
        chosen += [Member(family, size, ladder.setting, _of_size(base, ladder.setting, size)) for size in ordered]
    if not chosen:
        raise InputError(f"None of the families is for {task} tasks.")
    return Members(tuple(chosen), tuple(left_out))


def _of_size(base: Student, setting: str | None, size: int | None) -> Student:
    """The student with its size set; a network has one hidden layer of that width."""
    plain: Any = base
    if setting is None or (size is None and setting != "max_terms"):
        return base
    change: dict[str, Any] = {setting: size}
    if setting == "hidden":
        change = {"model": dataclasses.replace(plain.model, hidden=(size,))}
    made: Student = dataclasses.replace(plain, **change)
    return made

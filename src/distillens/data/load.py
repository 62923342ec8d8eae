"""`load_dataset`: from a source and the recipe's `data` part to three splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from distillens.data.base import Column, Dataset, Finding, Role, Split, Table
from distillens.data.checks import check_data, describe_column, left_out
from distillens.data.kinds import Cells, read_cells, rows_text
from distillens.data.pictures.load import load_images
from distillens.data.pictures.source import is_image_source
from distillens.data.read import open_source
from distillens.data.splits import NAMES, SplitPlan, group_ids, make_split, require_rows
from distillens.data.table import encode_cells, learn_column
from distillens.data.target import read_target
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints

ROLES: tuple[Role, ...] = tuple(r for r in get_args(Role) if r != "target")
ONE_COLUMN: tuple[Role, ...] = ("weight", "group", "time")


def load_dataset(
    *,
    source: Any,
    target: str | None = None,
    roles: Mapping[str, str | Sequence[str] | None] | None = None,
    split: Mapping[str, Any] | None = None,
    task: str = "auto",
    name: str | None = None,
    seed: int = 0,
    base_dir: Path | None = None,
    trust_code: bool = False,
    size: int | Sequence[int] | None = None,
    limit: Mapping[str, int | None] | None = None,
) -> Dataset:
    """Read, check, split and code a table, or images.

    source: a built-in name, a path to .csv or .parquet (relative to base_dir), a pandas DataFrame, or
    "package.module:function" that returns one (needs trust_code). Images: a folder with a folder a class or with IDX files, an .npz file,
    a torch data set, or (pixels, labels); size and limit are for these, as `distillens.data.load_images` says.
    target: the column to predict; None: the built-in data's own.
    roles: role → column or columns, of weight, group, time, id, audit_only, ignore, feature. Columns without a role are
    features unless they are constant, dates or look like identifiers; the role feature keeps those too (dates never).
    None: the built-in data's own roles.
    split: {test, validation, time, test_from, group, column}; `test` is the share of all rows, `validation` the share
    of the others, 0.3 each by default. Without time, group or column, a column with the role time (the latest rows are
    the test) or group (no group in two splits) decides, otherwise rows are drawn stratified by class.
    task: auto, binary, multiclass, classification, regression; see `read_target`.
    seed: of the draw. Row ids are positions in the source.
    Raises DataError or UntrustedCodeError (both InputError) in one sentence for whatever cannot be used.
    """
    if is_image_source(source, base_dir=base_dir):
        if any(columns for columns in (roles or {}).values()):
            raise DataError("Images have no columns, so there are no roles to give; leave roles out.")
        return load_images(
            source,
            size=size,
            limit=limit,
            split=split,
            task=task,
            target=target,
            name=name,
            seed=seed,
            base_dir=base_dir,
        )
    for option, value in (("size", size), ("limit", limit)):
        if value is not None:
            raise DataError(f"{option} is for images, and the data are a table; leave it out.")
    opened = open_source(source, base_dir=base_dir, trust_code=trust_code)
    frame = opened.frame
    if target is None:
        target = opened.target
    if target is None:
        raise DataError(
            f"Which column is to be predicted? Give target: one of the columns.{did_you_mean('target', frame.columns)}"
        )
    if target in frame.columns:
        require_rows(len(frame))  # before anything is said about classes
    wanted = read_target(frame, str(target), task=task)
    plan = SplitPlan.read(split)
    assigned, kept = assign_roles(tuple(frame.columns), str(target), opened.roles if roles is None else roles, plan)
    plan = _plan_by_role(plan, assigned)
    rows = make_split(frame, wanted, plan, seed=seed)

    columns, values, findings = _features(frame, assigned, kept, rows["train"])
    weights = _weights(frame, assigned, rows["train"])
    groups = next((group_ids(frame, c) for c, role in assigned.items() if role == "group"), None)
    extra = audit_frame(frame, [c for c, role in assigned.items() if role == "audit_only"])
    whole = Split(Table(values, columns, np.arange(len(frame), dtype=np.int64)), wanted.labels, weights, groups, extra)
    train, validation, test = (whole.take(rows[part]) for part in NAMES)
    dataset = Dataset(
        train, validation, test, wanted.task, wanted.classes, str(target), name=name or opened.name, source=opened.text,
        licence=opened.licence, citation=opened.citation, roles=assigned, findings=tuple(findings),
    )  # fmt: skip
    return replace(dataset, findings=dataset.findings + check_data(dataset))


def assign_roles(
    columns: Sequence[str], target: str, roles: Mapping[str, str | Sequence[str] | None], plan: SplitPlan
) -> tuple[dict[str, Role], frozenset[str]]:
    """The role of every column, in the order of the source, and the columns that were declared features.

    Raises DataError for an unknown role or column, a column in two roles, or several columns where one is meant.
    """
    given: dict[str, Role] = {target: "target"}
    for role, named in roles.items():
        if role not in ROLES:
            hint = " The target is given as target: COLUMN." if role == "target" else did_you_mean(str(role), ROLES)
            raise DataError(f"There is no role {role!r}.{hint}")
        if named is None:
            continue
        listed = (
            [named] if isinstance(named, str) or not isinstance(named, (list, tuple, set, frozenset)) else list(named)
        )
        if role in ONE_COLUMN and len(listed) > 1:
            raise DataError(
                f"The role {role} is for one column, but {len(listed)} were given: {', '.join(map(repr, listed[:5]))}."
            )
        for column in map(str, listed):
            _assign(given, column, role, columns)
    for role, chosen in (("time", plan.time), ("group", plan.group), ("ignore", plan.column)):
        if chosen is not None and given.get(chosen) != role:
            _assign(given, chosen, role, columns, what=f"The split's {'column' if role == 'ignore' else role}")
    for role in ONE_COLUMN:
        several = [c for c, r in given.items() if r == role]
        if len(several) > 1:
            raise DataError(
                f"The role {role} and the split name different columns: {several[0]!r} and {several[1]!r}; keep one."
            )
    kept = frozenset(c for c, r in given.items() if r == "feature")
    return {c: given.get(c, "feature") for c in columns}, kept


def _assign(given: dict[str, Role], column: str, role: Any, columns: Sequence[str], *, what: str = "") -> None:
    if column not in columns:
        raise DataError(
            f"{what or f'The role {role}'} names the column {column!r}, which is not there.{did_you_mean(column, columns)}"
        )
    if column in given and given[column] != role:
        raise DataError(f"The column {column!r} cannot have two roles, {given[column]} and {role}; keep one.")
    given[column] = role


def _plan_by_role(plan: SplitPlan, roles: Mapping[str, Role]) -> SplitPlan:
    """Without another instruction, a column with the role time or group decides how rows are split."""
    if plan.time or plan.group or plan.column:
        return plan
    named = {role: c for c, role in roles.items() if role in ("time", "group")}
    if len(named) == 2:
        raise DataError(
            f"Both a time and a group column are given; say by which to split: split: {{time: {named['time']}}} or split: {{group: {named['group']}}}."
        )
    return replace(plan, time=named.get("time"), group=named.get("group"))


def _features(
    frame: pd.DataFrame, roles: dict[str, Role], kept: frozenset[str], train: Ints
) -> tuple[tuple[Column, ...], Floats, list[Finding]]:
    """Columns and codes of the features; columns left out get the role ignore in `roles`, and a finding."""
    columns: list[Column] = []
    codes: list[Floats] = []
    findings: list[Finding] = []
    for name in [c for c, role in roles.items() if role == "feature"]:
        cells: Cells = read_cells(frame[name], name)
        finding = left_out(cells, name, train) if name not in kept else None
        if finding is not None:
            roles[name] = "ignore"
            findings.append(finding)
            continue
        findings += describe_column(cells, name)
        column = learn_column(cells, name, rows=train)
        columns.append(column)
        codes.append(encode_cells(cells, column))
    if not columns:
        out = f" ({'; '.join(f.text.rstrip('.') for f in findings[:3])})" if findings else ""
        raise DataError(f"No features are left: every column besides the target has another role or was left out{out}.")
    return tuple(columns), np.column_stack(codes), findings


def _weights(frame: pd.DataFrame, roles: Mapping[str, Role], train: Ints) -> Floats | None:
    name = next((c for c, role in roles.items() if role == "weight"), None)
    if name is None:
        return None
    cells = read_cells(frame[name], name)
    if cells.numbers is None:
        raise DataError(f"The weight column {name!r} must hold numbers.")
    wrong = cells.missing | (np.nan_to_num(cells.numbers) < 0)
    if wrong.any():
        raise DataError(
            f"The weight column {name!r} is empty or negative in {rows_text(wrong)}; weights are numbers of at least 0."
        )
    if cells.numbers[train].sum() <= 0:
        raise DataError(f"The weight column {name!r} is 0 in all training rows.")
    return cells.numbers


def audit_frame(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame | None:
    """The audit_only columns: numbers as float64, everything else as text in the user's words; None when there are none."""
    import pandas as pd

    if not names:
        return None
    data: dict[str, Any] = {}
    for name in names:
        cells = read_cells(frame[name], name)
        if cells.kind == "numeric":
            data[name] = cells.numbers
        else:
            assert cells.texts is not None
            data[name] = pd.Series(cells.texts.tolist(), dtype="str")
    return pd.DataFrame(data)

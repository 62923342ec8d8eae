"""Checks of the settings that explainers share, made when a recipe entry is built and not hours later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from distillens.errors import InputError, did_you_mean

ScaleName = Literal["log_odds", "probability", "logit", "value"]
BackgroundSettings = dict[str, str | int]

BACKGROUND_SOURCES = ("train", "validation", "file", "rows")


def default_background() -> BackgroundSettings:
    """100 rows of the training split: `background: {from: train, rows: 100}`."""
    return {"from": "train", "rows": 100}


def check_count(name: str, value: object, *, least: int) -> None:
    """InputError unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} should be a whole number of at least {least}, but is {value!r}.")


def check_scale(kind: str, scale: object, *, optional: bool = False) -> None:
    """InputError unless `scale` is one of the four scales (or None, where that is allowed)."""
    if scale is None and optional:
        return
    known = get_args(ScaleName)
    if scale not in known:
        raise InputError(f"{kind}: there is no scale {scale!r}.{did_you_mean(str(scale), known)}")


def check_background(kind: str, background: object) -> None:
    """InputError unless it says where the rows that stand for "unknown" come from and how many are drawn.

    from: train (the default) or validation, rows of that split; file, rows of the table that `file` names; rows, the explained rows
    themselves. rows: how many, 100 unless given.
    """
    if not isinstance(background, Mapping):
        raise InputError(f"{kind}: background should be like {{from: train, rows: 100}}, but is {background!r}.")
    for key in background:
        if key not in ("from", "rows", "file"):
            raise InputError(
                f"{kind}: background has no setting {key!r}.{did_you_mean(str(key), ('from', 'rows', 'file'))}"
            )
    source, file = background.get("from", "train"), background.get("file")
    if source not in BACKGROUND_SOURCES:
        raise InputError(
            f"{kind}: background rows come from train, validation, file or rows (those explained), not from {source!r}."
            f"{did_you_mean(str(source), BACKGROUND_SOURCES)}"
        )
    if source == "file" and (not isinstance(file, str) or not file):
        raise InputError(
            f"{kind}: background rows from a file need its name: {{from: file, file: train.csv, rows: 100}}."
        )
    if source != "file" and file is not None:
        raise InputError(
            f"{kind}: background names the file {file!r}, but takes its rows from {source}; write from: file."
        )
    check_count(f"{kind}: background rows", background.get("rows", 100), least=1)


def check_groups(kind: str, groups: object) -> None:
    """InputError unless it is None or unit name → list of feature names; whether they exist is checked with the table."""
    if groups is None:
        return
    if not isinstance(groups, Mapping):
        raise InputError(f"{kind}: groups should be like {{household: [income, savings]}}, but is {groups!r}.")
    members: Any
    for name, members in groups.items():
        listed = isinstance(members, Sequence) and not isinstance(members, str)
        if not listed or not members or not all(isinstance(m, str) for m in members):
            raise InputError(f"{kind}: the group {name!r} should be a list of feature names, but is {members!r}.")

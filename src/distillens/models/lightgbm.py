"""LightGBM models from their native text files: `booster.save_model("model.txt")`.

The file holds no code, but the library's reader does not look whether what it reads exists: the file is read and checked here,
and the library gets a copy of what predictions need.
Answers are raw scores (log-odds) where the objective has such. Classes have no names in these files: they are label codes
0 … K − 1. Categories of pandas columns are in the file's last line and found by their texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import ArtefactError, MissingExtraError, ModelError
from distillens.models.base import Output, from_log_odds
from distillens.models.opened import ModelFile, numbers, places_of, require_numbers, shortened
from distillens.store import file_hash

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats, Ints, Table

VALUES = ("regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie")
_TREE = re.compile(r"^Tree=\d+$", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class LightGBMModel:
    """A booster. places: where its features stand in the table. codes: per feature the library's code of every code of the
    table's column, or None where they are numbers. slope: of the sigmoid that turns raw scores of two classes into probabilities."""

    booster: Any = field(repr=False)
    objective: str
    places: Ints
    codes: tuple[Floats | None, ...]
    slope: float
    classes: tuple[str, ...]
    label: str
    fingerprint: str

    @property
    def output(self) -> Output:
        if not self.classes:
            return "values"
        return "probabilities" if self.objective == "multiclassova" else "logits"

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) logits or probabilities, or (n, 1) values."""
        rows = numbers(inputs, self.places)
        for j, codes in enumerate(self.codes):
            if codes is not None:  # unseen and missing are NaN already
                known = ~np.isnan(rows[:, j])
                rows[known, j] = codes[rows[known, j].astype(np.int64)]
        raw = self.output == "logits"
        answers = np.asarray(self.booster.predict(rows, raw_score=raw), dtype=np.float64)
        if len(self.classes) == 2 and raw and self.objective == "binary":
            return from_log_odds(self.slope * answers.reshape(len(inputs)))
        answers = answers.reshape(len(inputs), len(self.classes) or 1)
        return answers / answers.sum(axis=1, keepdims=True) if self.output == "probabilities" else answers


def open_lightgbm(path: Path) -> ModelFile:
    """Open a text file. MissingExtraError without the library, ArtefactError for damaged or foreign files, ModelError for
    objectives that give neither probabilities nor values."""
    try:
        import lightgbm
    except ImportError as error:
        raise MissingExtraError("lightgbm", "boosting", f"Reading {path.name}") from error
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is no LightGBM model: it is not text.") from error
    written, named, categories = _rewritten(text, path)
    width = len(named)
    try:
        booster = lightgbm.Booster(model_str=written)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise ArtefactError(f"{path} is not a LightGBM model, or damaged ({str(error)[:160]}).") from error
    objective, *options = _line(text, "objective").split() or ["regression"]
    outputs = _outputs(objective, text, path)
    slope = next((float(o.partition(":")[2]) for o in options if o.startswith("sigmoid:")), 1.0)
    features = None if all(name == f"Column_{j}" for j, name in enumerate(named)) else named
    digest = file_hash(path)

    def make(columns: tuple[Column, ...], classes: tuple[str, ...]) -> LightGBMModel:
        places = places_of(columns, features=features, width=width, label=path.name, alike=_alike)
        codes = _codes(columns, places, categories, path)
        return LightGBMModel(booster, objective, places, codes, slope, classes, path.name, digest)

    return ModelFile(
        "LightGBM", path.name, features, width, None, () if outputs == 1 else None, outputs, make
    )  # fmt: skip


def _alike(name: str) -> str:
    return re.sub(r"\s", "_", name)  # how the library writes names


def _outputs(objective: str, text: str, path: Path) -> int:
    if objective in ("binary", "cross_entropy"):
        return 2 if objective == "binary" else 1
    if objective in ("multiclass", "multiclassova"):
        return int(_line(text, "num_class"))
    if objective in VALUES:
        return 1
    raise ModelError(
        f"{path.name} was trained for {shortened(objective)}, which gives neither probabilities nor values; known: "
        f"binary, multiclass, multiclassova, {', '.join(VALUES)}."
    )


def _codes(
    columns: Sequence[Column], places: Ints, categories: Sequence[Sequence[Any]], path: Path
) -> tuple[Floats | None, ...]:
    """The library numbers the categories of pandas columns in the order of the frame; the file does not say of which columns."""
    texts = [j for j, place in enumerate(places) if columns[place].kind == "categorical"]
    if not categories:
        require_numbers(columns, places, label=path.name)
    elif len(texts) != len(categories):
        raise ModelError(
            f"The model in {path.name} was trained with {len(categories)} columns of categories, but the data have {len(texts)}; "
            "give the data as the model was trained on them."
        )
    codes: list[Floats | None] = [None] * len(places)
    for j, known in zip(texts, categories, strict=True) if categories else ():
        column = columns[places[j]]
        own = {str(value): float(code) for code, value in enumerate(known)}
        if not any(text in own for text in column.categories):
            raise ModelError(
                f"The model in {path.name} knows other values of {column.name!r} than the data; write them as the model knows them."
            )
        codes[j] = np.array([own.get(text, np.nan) for text in column.categories])
    return tuple(codes)


def _line(text: str, key: str) -> str:
    found = re.search(rf"^{key}=(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _rewritten(text: str, path: Path) -> tuple[str, tuple[str, ...], list[list[Any]]]:
    """The model written anew from what was checked, its feature names, and the categories of pandas columns.

    The library's reader fails natively on damaged files, so it never gets to see one: only what predictions need is passed on.
    ArtefactError unless this is a LightGBM model whose trees have children that exist.
    """
    head, *trees = _TREE.split(text)
    if not head.startswith("tree\n") or "end of trees" not in text or "end of parameters" not in text:
        raise ArtefactError(
            f"{path} is no LightGBM model, or cut off: it should begin with the line 'tree' and hold 'end of parameters'."
        )
    try:
        count, each, last = (int(_line(head, k)) for k in ("num_class", "num_tree_per_iteration", "max_feature_idx"))
        names = tuple(_line(head, "feature_names").split(" "))
        said = text.rpartition("pandas_categorical:")[2].strip() if "pandas_categorical:" in text else "null"
        categories = json.loads(said) or []
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is a damaged LightGBM model ({str(error)[:100]}).") from error
    if not (count >= 1 and each in (1, count) and len(names) == last + 1 and trees and len(trees) % each == 0):
        raise ArtefactError(f"{path} is a damaged LightGBM model: its head does not fit its trees.")
    if not isinstance(categories, list) or not all(isinstance(known, list) for known in categories):
        raise ArtefactError(f"{path} is a damaged LightGBM model: its categories are no lists.")
    lines = [
        "tree", "version=v4", f"num_class={count}", f"num_tree_per_iteration={each}", "label_index=0", f"max_feature_idx={last}",
        f"objective={_objective(head, path)}", *(["average_output"] if re.search("^average_output$", head, re.MULTILINE) else []),
        "feature_names=" + " ".join(f"Column_{j}" for j in range(last + 1)), "feature_infos=" + " ".join(["none"] * (last + 1)), "",
    ]  # fmt: skip
    for number, tree in enumerate(trees):
        tree = tree.partition("end of trees")[0]
        if _line(tree, "is_linear") not in ("", "0"):
            raise ModelError(
                f"{path.name} has linear models in its leaves, which distillens does not read; export it as ONNX."
            )
        written = _tree(tree, last + 1)
        if written is None:
            raise ArtefactError(f"{path} is damaged: tree {number} points to nodes or features that do not exist.")
        lines += [f"Tree={number}", *written, "", ""]
    return "\n".join([*lines, "end of trees", ""]), names, categories


def _objective(head: str, path: Path) -> str:
    """The objective with those of its options that change predictions."""
    name, *options = _line(head, "objective").split() or ["regression"]
    kept = [o for o in options if o == "sqrt" or re.fullmatch(r"num_class:\d{1,6}|sigmoid:\d{1,9}(\.\d{1,20})?", o)]
    if not re.fullmatch(r"[a-z0-9_]{1,40}", name):
        raise ArtefactError(f"{path} is a damaged LightGBM model: its objective is {shortened(name)}.")
    if name.startswith("multiclass") and f"num_class:{_line(head, 'num_class')}" not in kept:
        raise ArtefactError(
            f"{path} is a damaged LightGBM model: its objective and its head name other numbers of classes."
        )
    return " ".join([name, *kept])


def _tree(tree: str, width: int) -> list[str] | None:
    """The lines of a tree, or None when something in it does not exist."""

    def ints(key: str) -> Ints:
        return np.array(_line(tree, key).split(), dtype=np.int64)

    try:
        leaves, lists = int(_line(tree, "num_leaves")), int(_line(tree, "num_cat"))
        left, right, feature, decision = (
            ints(k) for k in ("left_child", "right_child", "split_feature", "decision_type")
        )
        threshold = np.array(_line(tree, "threshold").split(), dtype=np.float64)
        values = np.array(_line(tree, "leaf_value").split(), dtype=np.float64)
        bounds, words = ints("cat_boundaries"), ints("cat_threshold")
    except (ValueError, OverflowError):
        return None
    inner = leaves - 1
    if leaves < 1 or lists < 0 or len(values) != leaves or not np.isfinite(values).all():
        return None
    lines = [f"num_leaves={leaves}", f"num_cat={lists}", f"leaf_value={_joined(values)}"]
    if leaves == 1:
        return [*lines, "shrinkage=1"]
    if any(len(a) != inner for a in (left, right, feature, decision, threshold)) or np.isnan(threshold).any():
        return None
    children = np.concatenate([left, right])
    parents = np.concatenate([np.arange(inner), np.arange(inner)])
    sound = bool(((children < inner) & (children >= -leaves)).all() and ((feature >= 0) & (feature < width)).all())
    sound = sound and bool(((children < 0) | (children > parents)).all())  # no circles
    sound = sound and bool(((decision >= 0) & (decision < 16)).all())
    chosen = threshold[(decision & 1) == 1]  # numbers of lists of categories
    if lists:
        sound = sound and len(bounds) == lists + 1 and bounds[0] == 0 and bounds[-1] == len(words)
        sound = sound and bool((np.diff(bounds) >= 0).all() and ((words >= 0) & (words < 2**32)).all())
    sound = sound and bool(((chosen >= 0) & (chosen < lists)).all())
    if not sound:
        return None
    lines += [
        f"split_feature={_joined(feature)}",
        f"threshold={_joined(threshold)}",
        f"decision_type={_joined(decision)}",
    ]
    lines += [f"left_child={_joined(left)}", f"right_child={_joined(right)}"]
    lines += [f"cat_boundaries={_joined(bounds)}", f"cat_threshold={_joined(words)}"] if lists else []
    return [*lines, "shrinkage=1"]


def _joined(values: Floats | Ints) -> str:
    return " ".join(repr(value) for value in values.tolist())

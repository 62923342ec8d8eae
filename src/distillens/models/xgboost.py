"""XGBoost models from their native files: `booster.save_model("model.json")`, or `.ubj`.

The file holds no code. Its trees are checked before any row is sent through them, because the library does not look whether a
child exists. Answers are the margins (log-odds), which probabilities would cut off; softmax of them is what the library predicts.
Classes have no names in these files: they are label codes 0 … K − 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import ArtefactError, MissingExtraError, ModelError
from distillens.models.base import Output, from_log_odds
from distillens.models.opened import ModelFile, numbers, places_of, require_numbers, shortened
from distillens.models.ubjson import decode
from distillens.store import file_hash

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats, Ints, Table

LOG_ODDS = ("binary:logistic", "binary:logitraw")
SOFTMAX = ("multi:softprob", "multi:softmax")
VALUES = ("reg:", "count:")
ROOT = 2**31 - 1  # what the library writes for the parent of the root


@dataclass(frozen=True, eq=False)
class XGBoostModel:
    """A booster. places: where its features stand in the table. rounds: trees per output that count (early stopping)."""

    booster: Any = field(repr=False)
    objective: str
    places: Ints
    classes: tuple[str, ...]
    label: str
    fingerprint: str
    rounds: int

    @property
    def output(self) -> Output:
        return "logits" if self.classes else "values"

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) logits, or (n, 1) values."""
        import xgboost

        rows = numbers(inputs, self.places)
        matrix = xgboost.DMatrix(rows, missing=np.nan, feature_types=self.booster.feature_types)
        answer = self.booster.predict(
            matrix, output_margin=bool(self.classes), iteration_range=(0, self.rounds), validate_features=False
        )
        answers = np.asarray(answer, dtype=np.float64)
        if len(self.classes) == 2 and self.objective in LOG_ODDS:
            return from_log_odds(answers.reshape(len(inputs)))
        return answers.reshape(len(inputs), len(self.classes) or 1)


def open_xgboost(path: Path) -> ModelFile:
    """Open a .json or .ubj file. MissingExtraError without the library, ArtefactError for damaged or foreign files, ModelError for
    objectives that give neither probabilities nor values."""
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError("xgboost", "boosting", f"Reading {path.name}") from error
    record = _parsed(path)
    _refuse_categories(record, path)
    _check(record, path)
    booster = xgboost.Booster(params={"verbosity": 0})
    try:
        booster.load_model(bytearray(json.dumps(record).encode()))
        config = json.loads(booster.save_config())
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise ArtefactError(f"{path} is not an XGBoost model, or damaged ({_cause(error)}).") from error
    objective = str(config["learner"]["objective"]["name"])
    outputs = _outputs(objective, int(config["learner"]["learner_model_param"]["num_class"]), path)
    features = tuple(booster.feature_names) if booster.feature_names else None
    best = booster.attr("best_iteration")
    rounds = int(best) + 1 if best is not None else 0
    digest = file_hash(path)

    def make(columns: tuple[Column, ...], classes: tuple[str, ...]) -> XGBoostModel:
        places = places_of(columns, features=features, width=int(booster.num_features()), label=path.name)
        require_numbers(columns, places, label=path.name)
        return XGBoostModel(booster, objective, places, classes, path.name, digest, rounds)

    return ModelFile("XGBoost", path.name, features, int(booster.num_features()), None,
                     () if outputs == 1 else None, outputs, make)  # fmt: skip


def _cause(error: Exception) -> str:
    """What the library complains about, without its own stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    return (
        said.rpartition("] ")[2][:160] or type(error).__name__
    )  # "[10:41:00] /path/of/the/build.cc:12: what happened"


def _outputs(objective: str, classes: int, path: Path) -> int:
    if objective in LOG_ODDS:
        return 2
    if objective in SOFTMAX:
        return classes
    if objective.startswith(VALUES):
        return 1
    raise ModelError(
        f"{path.name} was trained for {shortened(objective)}, which gives neither probabilities nor values; known: "
        f"{', '.join((*LOG_ODDS, *SOFTMAX))}, reg:… and count:…."
    )


def _parsed(path: Path) -> Any:
    """What the file holds as plain values. Binary files are decoded here: the library's reader fails natively on damaged ones."""
    binary = path.suffix.lower() == ".ubj"
    try:
        payload = path.read_bytes()
        return decode(payload) if binary else json.loads(payload)
    except (ValueError, RecursionError) as error:
        kind = "binary JSON" if binary else "JSON"
        raise ArtefactError(f"{path} is not an XGBoost model, or damaged: it is no valid {kind}.") from error


def _refuse_categories(record: Any, path: Path) -> None:
    learner = record.get("learner") if isinstance(record, dict) else None
    types = learner.get("feature_types") if isinstance(learner, dict) else None
    if isinstance(types, list) and "c" in types:
        raise ModelError(
            f"{path.name} splits on categories that XGBoost coded itself; name a function that asks it as package.module:name."
        )


def _check(record: Any, path: Path) -> None:
    """ArtefactError unless this is an XGBoost model of which every part that another part points to exists."""
    try:
        learner = record["learner"]
        shape = learner["learner_model_param"]
        width, groups, targets = int(shape["num_feature"]), max(int(shape["num_class"]), 1), int(shape["num_target"])
        booster = learner["gradient_booster"]
        linear = booster["name"] == "gblinear"
        inner = booster["gbtree"] if booster["name"] == "dart" else booster
        model = inner["model"]
        if linear:
            fits = len(np.asarray(model["weights"], dtype=np.float64)) == (width + 1) * groups
            trees: Sequence[Any] = ()
        else:
            trees = model["trees"]
            info = np.asarray(model["tree_info"], dtype=np.int64)
            steps = np.asarray(model["iteration_indptr"], dtype=np.int64)
            fits = int(model["gbtree_model_param"]["num_trees"]) == len(trees) == len(info)
            fits = fits and int(model["gbtree_model_param"]["num_parallel_tree"]) >= 1
            fits = fits and bool(((info >= 0) & (info < groups)).all() and (np.diff(steps) >= 0).all())
            fits = fits and len(steps) >= 1 and steps[0] == 0 and steps[-1] == len(trees)
        if booster["name"] == "dart":
            fits = fits and len(np.asarray(booster["weight_drop"], dtype=np.float64)) == len(trees)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtefactError(
            f"{path} is no XGBoost model: it lacks what `booster.save_model` of version 2.1 or later writes ({str(error)[:80]!r})."
        ) from error
    if targets != 1:
        raise ModelError(f"{path.name} predicts {targets} targets at once; distillens compares models of one.")
    if not fits or width < 1:
        raise ArtefactError(f"{path} is a damaged XGBoost model: its parts do not fit together.")
    for number, tree in enumerate(trees):
        if not _is_sound(tree, width):
            raise ArtefactError(f"{path} is damaged: tree {number} points to nodes or features that do not exist.")


NUMBERS = ("split_conditions", "default_left", "base_weights", "loss_changes", "sum_hessian")


def _is_sound(tree: Mapping[str, Any], width: int) -> bool:
    """Children exist, come after their parent and name it; features exist; all lists are of one length."""
    try:
        left, right, feature, parents, kind = (
            np.asarray(tree[k], dtype=np.int64)
            for k in ("left_children", "right_children", "split_indices", "parents", "split_type")
        )
        others = [np.asarray(tree[k], dtype=np.float64) for k in NUMBERS]
        stated = tree["tree_param"]
        count = int(stated["num_nodes"])
        fits = int(stated["num_feature"]) == width and int(stated["size_leaf_vector"]) in (0, 1)
        fits = fits and not any(tree.get(k) for k in ("categories", "categories_nodes", "categories_segments"))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return False
    if not fits or count < 1 or any(a.shape != (count,) for a in (left, right, feature, parents, kind, *others)):
        return False
    inner, node = left != -1, np.arange(count)
    later = (left > node) & (right > node) & (left < count) & (right < count)
    if not (later[inner].all() and (right[~inner] == -1).all() and (kind == 0).all()):
        return False
    known = ((feature >= 0) & (feature < width))[inner].all()
    named = (parents[left[inner]] == node[inner]).all() and (parents[right[inner]] == node[inner]).all()
    there = (((parents >= 0) & (parents < count)) | (parents == ROOT)).all()
    return bool(known and named and there and parents[0] == ROOT)

"""XGBoost models from their native files: `booster.save_model("model.json")`, or `.ubj`.

The file holds no code. Its trees are checked before any row is sent through them, because the library does not look whether a
child exists. Answers are the margins (log-odds), which probabilities would cut off; softmax of them is what the library predicts.
Classes have no names in these files: they are label codes 0 … K − 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

LOG_ODDS = ("binary:logistic", "binary:logitraw")
SOFTMAX = ("multi:softprob", "multi:softmax")
VALUES = ("reg:", "count:")


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
    if path.suffix.lower() == ".json":
        _check(_parsed(path.read_bytes(), path), path)
    booster = xgboost.Booster(params={"verbosity": 0})
    try:
        booster.load_model(str(path))
        if path.suffix.lower() != ".json":
            _check(_parsed(bytes(booster.save_raw("json")), path), path)
        config = json.loads(booster.save_config())
    except (xgboost.core.XGBoostError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path} is not an XGBoost model, or damaged ({_cause(error)}).") from error
    objective = str(config["learner"]["objective"]["name"])
    outputs = _outputs(objective, int(config["learner"]["learner_model_param"]["num_class"]), path)
    features = tuple(booster.feature_names) if booster.feature_names else None
    if "c" in (booster.feature_types or ()):
        raise ModelError(
            f"{path.name} splits on categories that XGBoost coded itself; export it as ONNX, or name it as a callable."
        )
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


def _parsed(payload: bytes, path: Path) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is not an XGBoost model, or damaged: it is no valid JSON.") from error


def _check(record: Any, path: Path) -> None:
    """ArtefactError unless this is an XGBoost model whose every tree has children that exist, later in the list than their parent."""
    try:
        learner = record["learner"]
        width = int(learner["learner_model_param"]["num_feature"])
        booster = learner["gradient_booster"]
        kind = booster["name"]
        held = booster["gbtree"]["model"] if kind == "dart" else booster["model"]
        trees = [] if kind == "gblinear" else held["trees"]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path} is no XGBoost model: it lacks what `booster.save_model` writes ({error!r})."
        ) from error
    for number, tree in enumerate(trees):
        if not _is_sound(tree, width):
            raise ArtefactError(f"{path} is damaged: tree {number} points to nodes or features that do not exist.")


def _is_sound(tree: Mapping[str, Any], width: int) -> bool:
    try:
        left, right, feature = (
            np.asarray(tree[k], dtype=np.int64) for k in ("left_children", "right_children", "split_indices")
        )
        others = [np.asarray(tree[k], dtype=np.float64) for k in ("split_conditions", "default_left", "base_weights")]
    except (KeyError, TypeError, ValueError, OverflowError):
        return False
    count = len(left)
    if count == 0 or left.ndim != 1 or any(a.shape != (count,) for a in (right, feature, *others)):
        return False
    inner, node = left != -1, np.arange(count)
    later = (left > node) & (right > node) & (left < count) & (right < count)
    known = (feature >= 0) & (feature < width)
    return bool(later[inner].all() and (right[~inner] == -1).all() and known[inner].all())

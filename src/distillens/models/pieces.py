"""How models of this package and those of boosting libraries fall into pieces (models/piecewise.py).

A `Cut` knows where a model cuts each raw feature, and makes its `Pieces` on a grid that holds these cuts. Which side of a question a bin lies on is
found by asking one value of every bin, through the model's own preparation, so that missing, unseen and rare values go where the model sends
them. What cannot be taken apart raises NotPiecewiseError with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.models.piecewise import (
    Grid,
    NotPiecewiseError,
    OrderedBoxes,
    Pieces,
    Score,
    TermSum,
    TreeSum,
    float32_cut,
)
from distillens.named import load_object

if TYPE_CHECKING:
    from distillens.data.base import Bools, Column, Floats, Ints
    from distillens.models.additive import AdditiveModel
    from distillens.models.base import Model
    from distillens.models.boosted import BoostedTrees
    from distillens.models.callable import ReorderedModel
    from distillens.models.lightgbm import LightGBMModel
    from distillens.models.rules import RuleListModel
    from distillens.models.scorecard import ScorecardModel
    from distillens.models.tree import TreeModel
    from distillens.models.xgboost import XGBoostModel

EPS32, EPS64 = 2.0**-23, 2.0**-52


@dataclass(frozen=True, eq=False)
class Cut:
    """cuts: per raw feature where the model cuts it: x ≤ cut or not, in float64. on: its pieces on a grid that holds these cuts."""

    cuts: list[Floats]
    on: Callable[[Grid], Pieces]


# class of the model → how it is cut: (model, columns, index of the adverse class) → Cut
READERS: dict[str, str] = {
    "distillens.models.tree:TreeModel": "distillens.models.pieces:of_tree",
    "distillens.models.rules:RuleListModel": "distillens.models.pieces:of_rules",
    "distillens.models.additive:AdditiveModel": "distillens.models.pieces:of_additive",
    "distillens.models.scorecard:ScorecardModel": "distillens.models.pieces:of_scorecard",
    "distillens.models.boosted:BoostedTrees": "distillens.models.pieces:of_boosted",
    "distillens.models.xgboost:XGBoostModel": "distillens.models.pieces:of_xgboost",
    "distillens.models.lightgbm:LightGBMModel": "distillens.models.pieces:of_lightgbm",
    "distillens.models.callable:ReorderedModel": "distillens.models.pieces:of_reordered",
}


def cut_of(model: Model, columns: tuple[Column, ...], adverse: int) -> Cut:
    """Where a model is constant. adverse: the class whose score is bounded; 0 for values. A model may say it itself: `pieces(columns, adverse)`.

    Raises NotPiecewiseError with one clause that says why not.
    """
    if len(model.classes) > 2:
        raise NotPiecewiseError("certificates are for two classes and for values, and there are more classes")
    own = getattr(model, "pieces", None)
    if own is not None:
        made: Cut = own(columns, adverse)
        return made
    kind = type(model)
    reader = READERS.get(f"{kind.__module__}:{kind.__name__}")
    if reader is None:
        raise NotPiecewiseError(
            f"{model.label} is no tree, rule list, scorecard, additive model or boosted trees that can be read"
        )
    known = getattr(model, "columns", columns)
    if known != columns:
        raise NotPiecewiseError(f"{model.label} knows other columns than the rows have")
    cut: Cut = load_object(reader)(model, columns, adverse)
    return cut


def _scale(model: Model) -> Score:
    return "value" if not model.classes else "probability" if model.output == "probabilities" else "log_odds"


# ── trees ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, eq=False)
class _Tree:
    """One tree: raw feature (−1 at a leaf), children and value of each node, and which of a feature's bins a node sends left."""

    feature: Ints
    left: Ints
    right: Ints
    value: Floats
    goes_left: Callable[[int], Bools]  # (node) → (bins of its feature,)


def _leaves(tree: _Tree, grid: Grid, used: Ints) -> Iterator[tuple[float, list[tuple[int, int, int]]]]:
    """(value, sides on the used features) of every leaf that some bins reach."""
    everything = {int(j): np.ones(grid.count(int(j)), dtype=np.bool_) for j in used}
    stack: list[tuple[int, dict[int, Bools]]] = [(0, {})]
    whole = {j: grid.sides(j, mask) for j, mask in everything.items()}
    while stack:
        node, path = stack.pop()
        j = int(tree.feature[node])
        if j < 0:
            yield (
                float(tree.value[node]),
                [grid.sides(int(u), path[int(u)]) if int(u) in path else whole[int(u)] for u in used],
            )
            continue
        mask, left = path.get(j, everything[j]), tree.goes_left(node)
        for child, taken in ((tree.left[node], mask & left), (tree.right[node], mask & ~left)):
            if taken.any():
                stack.append((int(child), path | {j: taken}))


def _summed(trees: list[_Tree], grid: Grid, *, scale: Score, base: float, rounding: float) -> TreeSum:
    used = np.unique(np.concatenate([t.feature[t.feature >= 0] for t in trees] + [np.empty(0, dtype=np.int64)])).astype(
        np.int64
    )
    number, value, sides = [], [], []
    for i, tree in enumerate(trees):
        for worth, held in _leaves(tree, grid, used):
            number.append(i)
            value.append(worth)
            sides.append(held)
    packed = np.array(sides, dtype=object).reshape(len(sides), len(used), 3)
    return TreeSum(
        scale, base, np.array(number, dtype=np.int64), np.array(value), used,
        packed[:, :, 0].astype(np.int64), packed[:, :, 1].astype(np.int64), packed[:, :, 2].astype(np.uint64), rounding,
    )  # fmt: skip


def _gathered(count: int, feature: Ints, cut: Floats) -> list[Floats]:
    return [np.unique(cut[feature == j]) for j in range(count)]


def of_tree(model: TreeModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """A single tree: its leaves answer by themselves, so that nothing is rounded."""
    encoding, inner = model.encoding, model.feature >= 0
    asked = np.where(inner, model.feature, 0)
    raw = np.where(inner, encoding.feature[asked], -1)
    numeric = inner & np.array([encoding.part[int(d)] == "value" for d in asked])
    cuts = _gathered(len(columns), np.where(numeric, raw, -1), float32_cut(model.threshold))

    def on(grid: Grid) -> Pieces:
        encoded = {int(j): encoding(grid.probes(int(j))) for j in np.unique(raw[inner])}

        def goes_left(node: int) -> Bools:
            x = encoded[int(raw[node])][:, model.feature[node]]
            return np.asarray(
                np.where(np.isnan(x), model.missing_left[node], x <= model.threshold[node]), dtype=np.bool_
            )

        value = model.value[:, adverse] if model.classes else model.value[:, 0]
        tree = _Tree(raw, model.left, model.right, value, goes_left)
        return _summed([tree], grid, scale=_scale(model), base=0.0, rounding=0.0)

    return Cut(cuts, on)


def of_boosted(model: BoostedTrees, columns: tuple[Column, ...], adverse: int) -> Cut:
    """Boosted trees of scikit-learn: thresholds and sums in float64."""
    order, at = model.preparation.order, model.fields
    inner = ~at["is_leaf"].astype(np.bool_)
    position = np.where(inner, at["feature_idx"], 0).astype(np.int64)
    raw = np.where(inner, order[position], -1)
    numeric = inner & ~at["is_categorical"].astype(np.bool_)
    cuts = _gathered(len(columns), np.where(numeric, raw, -1), at["num_threshold"].astype(np.float64))
    sign = 1.0 if not model.classes or adverse == 1 else -1.0

    def on(grid: Grid) -> Pieces:
        prepared = {int(j): model.preparation(grid.probes(int(j))) for j in np.unique(raw[inner])}
        trees = []
        for number in range(model.trees):
            start, end = int(model.starts[number]), int(model.starts[number + 1])

            def goes_left(node: int, start: int = start, number: int = number) -> Bools:
                n = start + node
                x = prepared[int(raw[n])][:, position[n]]
                missing = np.isnan(x)
                away = bool(at["missing_go_to_left"][n])
                if not at["is_categorical"][n]:
                    return np.asarray(np.where(missing, away, x <= at["num_threshold"][n]), dtype=np.bool_)
                bitset = model.bitsets[int(model.bitset_starts[number]) + int(at["bitset_idx"][n])]
                known = model.known_bitsets[int(model.feature_map[position[n]])]
                code = np.where(missing, 0, x).astype(np.int64)
                return np.asarray(np.where(~missing & _holds(known, code), _holds(bitset, code), away), dtype=np.bool_)

            value = sign * at["value"][start:end].astype(np.float64)
            left, right = (at[name][start:end].astype(np.int64) for name in ("left", "right"))
            trees.append(_Tree(raw[start:end], left, right, value, goes_left))
        base = sign * float(model.baseline[0])
        rounding = _rounding([t.value for t in trees], base, EPS64)
        return _summed(trees, grid, scale=_scale(model), base=base, rounding=rounding)

    return Cut(cuts, on)


def _holds(bitset: Any, code: Ints) -> Bools:
    words = np.asarray(bitset, dtype=np.uint32)
    return ((words[code // 32] >> (code % 32).astype(np.uint32)) & 1).astype(np.bool_)


def _rounding(values: list[Floats], base: float, eps: float) -> float:
    """What a sum of one value of each tree can be off in arithmetic of precision `eps`, whatever its order."""
    largest = abs(base) + sum(float(np.abs(v).max()) for v in values if len(v))
    return (len(values) + 4) * eps * largest


def of_xgboost(model: XGBoostModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """XGBoost: float32(x) < threshold goes left, sums in float32. The base score is what the model adds to its trees, found by asking it."""
    import json

    from distillens.data.base import Table

    record = json.loads(bytes(model.booster.save_raw(raw_format="json")))["learner"]["gradient_booster"]
    if record.get("name") != "gbtree":
        raise NotPiecewiseError(
            f"{model.label} is a booster of the kind {record.get('name')}, which does not add up one leaf a tree"
        )
    if model.objective not in (
        "binary:logistic",
        "binary:logitraw",
        "reg:squarederror",
        "reg:absoluteerror",
        "reg:pseudohubererror",
    ):
        raise NotPiecewiseError(f"{model.label} changes the sum of its trees ({model.objective})")
    steps = record["model"]["iteration_indptr"]
    kept = record["model"]["trees"][: int(steps[model.rounds])] if model.rounds else record["model"]["trees"]
    every = []
    for tree in kept:
        if any(int(kind) for kind in tree.get("split_type", ())):
            raise NotPiecewiseError(f"{model.label} splits on categories")
        left = np.asarray(tree["left_children"], dtype=np.int64)
        inner = left >= 0
        threshold = np.asarray(tree["split_conditions"], dtype=np.float32).astype(np.float64)
        raw = np.where(inner, model.places[np.where(inner, tree["split_indices"], 0).astype(np.int64)], -1)
        every.append((raw, left, np.asarray(tree["right_children"], dtype=np.int64), threshold,
                      np.asarray(tree["default_left"], dtype=np.bool_)))  # fmt: skip
    raw_all = np.concatenate([t[0] for t in every])
    cuts = _gathered(len(columns), raw_all, float32_cut(np.concatenate([t[3] for t in every]), strict=True))
    sign = 1.0 if not model.classes or adverse == 1 else -1.0

    def on(grid: Grid) -> Pieces:
        trees = []
        probes = {int(j): _numbers(grid, int(j)).astype(np.float32) for j in np.unique(raw_all[raw_all >= 0])}
        for raw, left, right, threshold, default in every:

            def goes_left(node: int, raw: Ints = raw, threshold: Floats = threshold, default: Bools = default) -> Bools:
                x = probes[int(raw[node])]
                return np.asarray(np.where(np.isnan(x), default[node], x < np.float32(threshold[node])), dtype=np.bool_)

            # a leaf's value stands where thresholds stand; thresholds must not count as values, or rounding looks as large as an income
            trees.append(_Tree(raw, left, right, sign * np.where(raw < 0, threshold, 0.0), goes_left))
        whole = _summed(trees, grid, scale=_scale(model), base=0.0, rounding=0.0)
        probe = Table(np.full((1, len(columns)), np.nan), columns, np.zeros(1, dtype=np.int64))
        answer = model(probe)[0]
        margin = float(answer[adverse] - answer[1 - adverse]) if model.classes else float(answer[0])
        low, high, _ = whole.over(grid.whole(grid.bins(probe.values)))
        base = margin - low
        rounding = _rounding([t.value for t in trees], base, EPS32) + (high - low)
        return TreeSum(
            whole.scale, base, whole.tree, whole.value, whole.used, whole.lo, whole.hi, whole.bits, 2 * rounding
        )

    return Cut(cuts, on)


def of_lightgbm(model: LightGBMModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """LightGBM: x ≤ threshold in float64; missing goes its way, or counts as 0 where training had none."""
    if any(codes is not None for codes in model.codes):
        raise NotPiecewiseError(f"{model.label} splits on categories of its own")
    if model.objective not in ("binary", "regression", "regression_l1", "huber", "fair", "quantile", "mape"):
        raise NotPiecewiseError(f"{model.label} changes the sum of its trees ({model.objective})")
    dump = model.booster.dump_model()
    if dump.get("average_output"):
        raise NotPiecewiseError(f"{model.label} averages its trees")
    slope = model.slope if model.classes else 1.0
    sign = slope if not model.classes or adverse == 1 else -slope
    every = [_flat(entry["tree_structure"], model) for entry in dump["tree_info"]]
    raw_all = np.concatenate([t[0] for t in every])
    cuts = _gathered(len(columns), raw_all, np.concatenate([t[3] for t in every]))

    def on(grid: Grid) -> Pieces:
        trees = []
        probes = {int(j): _numbers(grid, int(j)) for j in np.unique(raw_all[raw_all >= 0])}
        for raw, left, right, threshold, default in every:

            def goes_left(node: int, raw: Ints = raw, threshold: Floats = threshold, default: Ints = default) -> Bools:
                x = probes[int(raw[node])]
                way = threshold[node] >= 0.0 if default[node] < 0 else bool(default[node])
                return np.asarray(np.where(np.isnan(x), way, x <= threshold[node]), dtype=np.bool_)

            trees.append(_Tree(raw, left, right, sign * np.where(raw < 0, threshold, 0.0), goes_left))
        rounding = 2 * _rounding([t.value for t in trees], 0.0, EPS64)
        return _summed(trees, grid, scale=_scale(model), base=0.0, rounding=rounding)

    return Cut(cuts, on)


def _flat(root: dict[str, Any], model: LightGBMModel) -> tuple[Ints, Ints, Ints, Floats, Ints]:
    """(raw feature, left, right, threshold or leaf value, where missing goes: 1 left, 0 right, −1 as the number 0) of every node."""
    nodes: list[dict[str, Any]] = []
    links: list[tuple[int, int]] = []
    stack: list[tuple[dict[str, Any], int, int]] = [(root, -1, 0)]
    while stack:
        node, parent, side = stack.pop()
        place = len(nodes)
        nodes.append(node)
        links.append((-1, -1))
        if parent >= 0:
            links[parent] = (place, links[parent][1]) if side == 0 else (links[parent][0], place)
        if "split_feature" in node:
            if node["decision_type"] != "<=" or node["missing_type"] not in ("None", "NaN"):
                raise NotPiecewiseError(f"{model.label} splits on categories, or takes 0 for missing")
            stack += [(node["left_child"], place, 0), (node["right_child"], place, 1)]
    inner = ["split_feature" in node for node in nodes]
    raw = [int(model.places[int(n["split_feature"])]) if i else -1 for n, i in zip(nodes, inner, strict=True)]
    value = [float(n["threshold"]) if i else float(n["leaf_value"]) for n, i in zip(nodes, inner, strict=True)]
    way = [
        -1 if i and n["missing_type"] == "None" else int(bool(n.get("default_left")))
        for n, i in zip(nodes, inner, strict=True)
    ]
    return (
        np.array(raw, dtype=np.int64), np.array([a for a, _ in links], dtype=np.int64), np.array([b for _, b in links], dtype=np.int64),
        np.array(value), np.array(way, dtype=np.int64),
    )  # fmt: skip


def _numbers(grid: Grid, j: int) -> Floats:
    """(bins,) one number in every bin of a feature, as foreign boosters are given it: unseen is missing."""
    if grid.columns[j].kind == "categorical":
        raise NotPiecewiseError(f"the column {grid.columns[j].name!r} is text")
    return grid.representatives(j)


# ── rules and sums of terms ─────────────────────────────────────────────────────────────────────────────────────────────
def of_rules(model: RuleListModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """A rule list: the first rule that holds answers."""
    encoding = model.encoding
    raw = encoding.feature[model.feature]
    numeric = np.array([encoding.part[int(d)] == "value" for d in model.feature], dtype=np.bool_)
    cuts = _gathered(len(columns), np.where(numeric, raw, -1), float32_cut(model.threshold))

    def on(grid: Grid) -> Pieces:
        shape = (model.rules, len(columns))
        lo, hi, bits = (
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape, dtype=np.uint64),
        )
        encoded = {int(j): encoding(grid.probes(int(j))) for j in np.unique(raw)}
        for rule in range(model.rules):
            masks = [np.ones(grid.count(j), dtype=np.bool_) for j in range(len(columns))]
            for c in np.flatnonzero(model.rule == rule):
                x = encoded[int(raw[c])][:, model.feature[c]]
                masks[int(raw[c])] &= x <= model.threshold[c] if model.below[c] else x > model.threshold[c]
            for j, mask in enumerate(masks):
                lo[rule, j], hi[rule, j], bits[rule, j] = grid.sides(j, mask)
        value = model.value[:, adverse] if model.classes else model.value[:, 0]
        return OrderedBoxes(_scale(model), value, lo, hi, bits)

    return Cut(cuts, on)


def of_additive(model: AdditiveModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """A sum of shape functions and pairs: float32(x) ≥ cut is the next bin."""
    from distillens.models.additive import bins_of

    found: list[list[Floats]] = [[] for _ in columns]
    for term in model.terms:
        for j, own in zip(term.features, term.cuts, strict=True):
            found[j].append(float32_cut(own, strict=True))
    cuts = [np.unique(np.concatenate(own)) if own else np.empty(0) for own in found]
    sign = 1.0 if not model.classes or adverse == 1 else -1.0

    def on(grid: Grid) -> Pieces:
        scores = []
        for term in model.terms:
            index = [
                bins_of(grid.representatives(j), columns[j], own)
                for j, own in zip(term.features, term.cuts, strict=True)
            ]
            scores.append(sign * term.scores[..., 0][np.ix_(*index)])
        base = sign * float(model.intercepts[0])
        rounding = 2 * _rounding([np.asarray(s).reshape(-1) for s in scores], base, EPS64)
        return TermSum(_scale(model), grid, base, tuple(t.features for t in model.terms), tuple(scores), rounding)

    return Cut(cuts, on)


def of_scorecard(model: ScorecardModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """A scorecard answers as its additive model does."""
    return of_additive(model.additive, columns, adverse)


def of_reordered(model: ReorderedModel, columns: tuple[Column, ...], adverse: int) -> Cut:
    """The model inside, asked for the class by its own number."""
    return cut_of(model.model, columns, int(model.order[adverse]))

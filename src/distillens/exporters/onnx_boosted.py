"""Boosted trees as a graph: what they ask, the leaf of each row in every tree, the sum of the leaves' values in double precision.

scikit-learn splits categories by sets. A set becomes one 0/1 column: for every different (feature, set, way of the missing) the
answers for all codes stand in one table, and a row's code picks its row there. Missing, unseen and dropped categories go the
way of the missing, as in `models/boosted.py`.

The trees compare in float64 and the file in float32. Thresholds are rounded as the numbers are, to the nearest: rounding keeps
order, so x ≤ t still holds after both are rounded, also where a threshold is a number that occurs (with many different numbers,
scikit-learn's thresholds do occur). What remains are numbers above a threshold, but closer to it than float32 can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distillens.exporters.onnx_ensemble import Ensemble, table_lookup
from distillens.exporters.onnx_graph import Graph
from distillens.exporters.onnx_inputs import emit_unknown
from distillens.exporters.onnx_outputs import emit_from_log_odds
from distillens.models.encoding import as_float32

if TYPE_CHECKING:
    from distillens.data.base import Bools, Ints
    from distillens.models.boosted import BoostedTrees


def emit_boosted(graph: Graph, raw: str, model: BoostedTrees) -> str:
    """(n, K) float64 logits or values."""
    if not model.trees:
        return emit_from_log_odds(graph, graph.repeat(model.baseline, raw), model.classes)
    prepared, fields = model.preparation, model.fields
    numbers = np.flatnonzero(~prepared.categorical)
    place = {
        int(position): i for i, position in enumerate(numbers)
    }  # position among the trees' features → encoded column
    sets: dict[tuple[int, bytes], int] = {}  # (raw feature, answers for missing/unseen and each code) → encoded column
    ensemble = Ensemble()
    for tree in range(model.trees):
        nodes = slice(int(model.starts[tree]), int(model.starts[tree + 1]))
        leaf = fields["is_leaf"][nodes].astype(np.bool_)
        by_set = fields["is_categorical"][nodes].astype(np.bool_) & ~leaf
        asked = np.full(len(leaf), -1, dtype=np.int64)
        threshold = np.where(by_set, 0.5, fields["num_threshold"][nodes]).astype(np.float64)
        missing_left = fields["missing_go_to_left"][nodes].astype(np.bool_)
        for node in np.flatnonzero(~leaf):
            position = int(fields["feature_idx"][nodes][node])
            if by_set[node]:
                bitset = model.bitsets[int(model.bitset_starts[tree]) + int(fields["bitset_idx"][nodes][node])]
                goes_right = ~_goes_left(model, position, bitset, bool(missing_left[node]))
                key = (int(prepared.order[position]), goes_right.tobytes())
                asked[node] = len(numbers) + sets.setdefault(key, len(sets))
            else:
                asked[node] = place[position]
        left, right = (fields[name][nodes].astype(np.int64) for name in ("left", "right"))
        ensemble.add(asked, as_float32(threshold), left, right, missing_left)
    leaf_of = ensemble.emit(graph, graph.join(_columns(graph, raw, model, sets)))
    index = graph.node("Add", [leaf_of, graph.constant(model.starts[None, :-1], np.int64)])
    # (n, trees, 1) → (n, rounds, K'), the trees of a round side by side
    width = len(model.baseline)
    parts = table_lookup(graph, fields["value"].astype(np.float64)[:, None], index)
    rounds = graph.node("Reshape", [parts, graph.constant([0, model.trees // width, width], np.int64)])
    total = graph.node("ReduceSum", [rounds, graph.constant([1], np.int64)], attributes={"keepdims": 0})
    scores = graph.node("Add", [total, graph.constant(model.baseline[None, :], np.float64)])
    return emit_from_log_odds(graph, scores, model.classes)


def _goes_left(model: BoostedTrees, position: int, bitset: NDArray[np.uint32], missing_left: bool) -> Bools:
    """(1 + C,) whether missing or unseen, and each code, go left."""
    codes = model.preparation.maps[position]
    assert codes is not None
    kept = ~np.isnan(codes)
    number = np.where(kept, codes, 0).astype(np.int64)
    known = kept & _members(model.known_bitsets[int(model.feature_map[position])], number)
    return np.concatenate([[missing_left], np.where(known, _members(bitset, number), missing_left)])


def _members(bitset: NDArray[np.uint32], number: Ints) -> Bools:
    """(C,) whether each number is in a set of 256 bits."""
    return ((bitset[number // 32] >> (number % 32).astype(np.uint32)) & 1).astype(np.bool_)


def _columns(graph: Graph, raw: str, model: BoostedTrees, sets: dict[tuple[int, bytes], int]) -> list[str]:
    """float32 blocks: the numbers (unseen booleans as NaN), then one 0/1 column per set, 1 = goes right."""
    prepared, width = model.preparation, len(model.columns)
    blocks = []
    features = prepared.order[~prepared.categorical]
    if len(features):
        block = graph.pick(raw, features, width)
        if any(model.columns[int(j)].kind == "boolean" for j in features):
            unknown = emit_unknown(graph, raw, features, model.columns)
            block = graph.node("Where", [unknown, graph.constant(np.nan, np.float32), block])
        blocks.append(block)
    if sets:
        answers = [np.frombuffer(key, dtype=np.bool_) for _, key in sets]
        start = np.concatenate([[0], np.cumsum([len(a) for a in answers])[:-1]])
        code = graph.pick(raw, [j for j, _ in sets], width)
        # missing (NaN) and unseen (−1) share entry 0; code c has entry c + 1
        known = graph.node("Where", [graph.node("IsNaN", [code]), graph.constant(-1.0, np.float32), code])
        entry = graph.node("Add", [graph.cast(known, "int32"), graph.constant(start[None, :] + 1, np.int32)])
        table = graph.constant(np.concatenate(answers), np.float32)
        blocks.append(graph.node("Gather", [table, entry], attributes={"axis": 0}))
    return blocks

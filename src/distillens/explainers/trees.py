"""TreeSHAP: exact Shapley values of trees from their leaves, for two games.

A leaf's path asks k raw features. Bits say which of them a row satisfies, o_g ∈ {0, 1}; a leaf's worth to a coalition S is a product

    v(S) = leaf · Π_{g ∈ S} o_g · Π_{g ∉ S} r_g

and the Shapley value of feature j in a product game is one integral of a polynomial of degree k − 1,

    φ_j = leaf · (o_j − r_j) ∫₀¹ Π_{g ≠ j} (o_g t + r_g (1 − t)) dt,

because ∫ tˢ (1 − t)^{k−1−s} dt = s! (k − 1 − s)! / k!, the weight of a coalition of size s. Leaves and trees add up.

`interventional` (Lundberg et al. 2020, with background rows): r_g ∈ {0, 1} says whether a background row satisfies the leaf's
questions about g; φ is the mean over background rows. It is the same game as `exact_shapley`'s. With U the features only the
row satisfies, V those only the background row does, and none that neither does, the integral is (|U| − 1)! |V|! / (|U| + |V|)!
for U and −|U|! (|V| − 1)! / (|U| + |V|)! for V. Rows and background rows are first grouped by their bits, of which there are few.

`path_dependent` (Lundberg, Erion & Lee 2018): r_g is the product, over the path's questions about g, of the share of training
rows that went the path's way: features are averaged over the tree's own conditional shares, not over a background. Gauss–Legendre
points integrate the polynomial exactly. Boosted trees know their training counts; a single tree's shares are counted on the background.

Unlike the papers, and unlike shap: a feature is a raw feature, also where a tree asks several one-hot columns of it; and a
single tree may be explained on any scale, because a function of its output only changes the values of its leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import factorial
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from distillens.errors import InputError, ModelError, did_you_mean
from distillens.explainers.settings import (
    BackgroundSettings,
    ScaleName,
    check_background,
    check_count,
    check_scale,
    default_background,
)

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.explainers.base import Explanation, Need
    from distillens.models.base import Model, Scale
    from distillens.models.boosted import BoostedTrees
    from distillens.models.tree import TreeModel

Game = Literal["interventional", "path_dependent"]
DEEPEST = 62  # different features on one path: their bits share an int64


@dataclass(frozen=True, eq=False)
class Leaf:
    """One leaf as a product over the features its path asks.

    features: (k,) raw features. row, other: (n,) and (b,) integers whose bit g says that a row, or a background row, satisfies
    feature g's questions. share: (k,) of the training rows, per feature, that went the path's way. value: (K',) of the leaf.
    """

    features: Ints
    row: Ints
    other: Ints
    share: Floats
    value: Floats


@dataclass(frozen=True, eq=False)
class _Questions:
    """One tree: raw feature (−1 at a leaf) and children of each node, (rows, nodes) who goes left, training rows, leaf values."""

    feature: Ints
    left: Ints
    right: Ints
    goes_left: Bools
    count: Floats
    value: Floats

    def leaves(self, explained: int) -> Iterator[Leaf]:
        """Every leaf; the first `explained` rows are those explained, the others the background."""
        every = np.ones(len(self.goes_left), dtype=np.bool_)
        stack: list[tuple[int, dict[int, tuple[Bools, float]]]] = [(0, {})]
        while stack:
            node, path = stack.pop()
            j = int(self.feature[node])
            if j < 0:
                if len(path) > DEEPEST:
                    raise ModelError(f"A path of the tree asks {len(path)} features; {DEEPEST} are the most.")
                bits = np.zeros(len(every), dtype=np.int64)
                for g, (satisfied, _) in enumerate(path.values()):
                    bits |= satisfied.astype(np.int64) << g
                shares = np.array([s for _, s in path.values()])
                features = np.array(list(path), dtype=np.int64)
                yield Leaf(features, bits[:explained], bits[explained:], shares, self.value[node])
                continue
            so_far, share = path.get(j, (every, 1.0))
            for child, way in (
                (self.left[node], self.goes_left[:, node]),
                (self.right[node], ~self.goes_left[:, node]),
            ):
                # A node that no training row reached has no shares; halves keep the sum over its leaves at one.
                part = self.count[child] / self.count[node] if self.count[node] > 0 else 0.5
                stack.append((int(child), path | {j: (so_far & way, share * float(part))}))


def interventional(leaf: Leaf, weights: Floats) -> Floats:
    """(n, k) Shapley values of the leaf's indicator, averaged over the background with the (b,) weights (summing to 1)."""
    k = len(leaf.features)
    if not k:
        return np.zeros((len(leaf.row), 0))
    own, of_row = np.unique(leaf.row, return_inverse=True)
    other, of_other = np.unique(leaf.other, return_inverse=True)
    mass = np.bincount(of_other, weights=weights, minlength=len(other))
    bit = np.arange(k)
    mine, theirs = (((b[:, None] >> bit) & 1).astype(np.float64) for b in (own, other))
    both = mine @ theirs.T
    u, v = (mine.sum(axis=1)[:, None] - both).astype(np.int64), (theirs.sum(axis=1)[None] - both).astype(np.int64)
    alive = (u + v + both == k) * mass
    for_u, for_v = _integrals(k)
    only_mine = alive * for_u[u, v]
    only_theirs = alive * for_v[u, v]
    # j ∈ U: the row satisfies it and the background row does not; j ∈ V the other way round
    phi = mine * (only_mine @ (1.0 - theirs)) - (1.0 - mine) * (only_theirs @ theirs)
    return np.asarray(phi[of_row.reshape(-1)], dtype=np.float64)


def _integrals(k: int) -> tuple[Floats, Floats]:
    """(k + 1, k + 1) weights by |U| and |V| of a feature in U and of one in V; 0 where there is none."""
    for_u, for_v = np.zeros((k + 1, k + 1)), np.zeros((k + 1, k + 1))
    for u in range(k + 1):
        for v in range(k + 1 - u):
            if u:
                for_u[u, v] = factorial(u - 1) * factorial(v) / factorial(u + v)
            if v:
                for_v[u, v] = factorial(u) * factorial(v - 1) / factorial(u + v)
    return for_u, for_v


def path_dependent(leaf: Leaf) -> Floats:
    """(n, k) Shapley values of the leaf's indicator when unknown features follow the training rows' shares."""
    k = len(leaf.features)
    if not k:
        return np.zeros((len(leaf.row), 0))
    own, of_row = np.unique(leaf.row, return_inverse=True)
    satisfied = ((own[:, None] >> np.arange(k)) & 1).astype(np.float64)
    point, weight = np.polynomial.legendre.leggauss((k + 1) // 2)  # exact up to degree k
    t, weight = (point + 1) / 2, weight / 2
    factors = satisfied[:, :, None] * t + (leaf.share[:, None] * (1 - t))[None]  # (patterns, k, points)
    before, after = np.ones_like(factors), np.ones_like(factors)
    before[:, 1:] = np.cumprod(factors, axis=1)[:, :-1]
    after[:, :-1] = np.cumprod(factors[:, ::-1], axis=1)[:, ::-1][:, 1:]
    phi = (satisfied - leaf.share) * ((before * after) @ weight)
    return np.asarray(phi[of_row.reshape(-1)], dtype=np.float64)


@dataclass(frozen=True)
class TreeShap:
    """Exact Shapley values of a tree or of boosted trees, from their leaves.

    game: interventional (features unknown = background rows' values; equals `exact_shapley`) or path_dependent (features unknown =
    the training rows' shares in the tree). background, rows: as in `ExactShapley`. scale: None = log_odds for two classes,
    the class's own logit for more classes of boosted trees, the value for regression.
    """

    kind: ClassVar[str] = "tree_shap"
    differentiable: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = frozenset({"structure"})

    game: Game = "interventional"
    background: BackgroundSettings = field(default_factory=default_background)
    rows: int = 100
    scale: ScaleName | None = None

    def __post_init__(self) -> None:
        if self.game not in get_args(Game):
            raise InputError(
                f"tree_shap: there is no game {self.game!r}.{did_you_mean(str(self.game), get_args(Game))}"
            )
        check_background(self.kind, self.background)
        check_count(f"{self.kind}: rows", self.rows, least=1)
        check_scale(self.kind, self.scale, optional=True)

    def __call__(
        self, model: Model, inputs: Table, *, target: Ints, background: Table | None, seed: int
    ) -> Explanation:
        """Explain every row of `inputs`; nothing is drawn, the seed is only recorded.

        Raises ModelError when the model is neither a tree nor boosted trees, InputError for a scale on which its trees do not add up.
        """
        from distillens.data.base import Table
        from distillens.explainers.shapley import explanation_of, required_background
        from distillens.models.base import evaluate, on_scale
        from distillens.models.boosted import BoostedTrees
        from distillens.models.tree import TreeModel

        if not isinstance(model, TreeModel | BoostedTrees):
            raise ModelError(
                f"The model {model.label!r} ({type(model).__name__}) is no tree and no boosted trees of this package; use exact_shapley, "
                "kernel_shap or permutation_shap for it."
            )
        background = required_background(background, inputs, self.kind)
        if background.columns != inputs.columns or inputs.columns != model.columns or not len(background):
            raise InputError(
                "The background and the rows to explain should have rows with the model's columns, in its order."
            )
        n, b, classes = len(inputs), len(background), len(model.classes)
        targets = np.asarray(np.broadcast_to(target, (n,)), dtype=np.int64)
        scale = _scale(model, self.scale)
        everybody = Table.concatenate([inputs, background])
        phi, base = np.zeros((n, len(inputs.columns))), np.zeros(n)
        weights = np.full(b, 1.0 / b)
        trees = _single(model, everybody, b) if isinstance(model, TreeModel) else _boosted(model, everybody)
        for questions, output in trees:
            for leaf in questions.leaves(n):
                if self.game == "interventional":
                    part, reached = interventional(leaf, weights), float(weights @ _whole(leaf, leaf.other))
                else:
                    part, reached = path_dependent(leaf), float(np.prod(leaf.share))
                worth = _worth(model, leaf.value, targets, output, scale)
                base += worth * reached
                phi[:, leaf.features] += part * worth[:, None]  # a path names each feature once
        if isinstance(model, BoostedTrees):
            base += _worth(model, model.baseline, targets, None, scale)
        if classes == 0:
            targets = np.zeros(n, dtype=np.int64)
        output_here = on_scale(evaluate(model, inputs), output=model.output, target=targets, scale=scale)
        return explanation_of(
            model, inputs, background, values=phi, stderr=None, empty=base, grand=output_here, units=inputs.names, target=targets,
            scale=scale, method=self.kind, exact=True, budget=0, seed=seed,
        )  # fmt: skip


def _whole(leaf: Leaf, bits: Ints) -> Floats:
    """(rows,) 1 where a row satisfies every question of the leaf's path."""
    return np.asarray(bits == (1 << len(leaf.features)) - 1, dtype=np.float64)


def _scale(model: TreeModel | BoostedTrees, wanted: ScaleName | None) -> ScaleName:
    """The scale to explain on. InputError where the trees' sum is not what the scale shows."""
    possible: tuple[ScaleName, ...]
    if not model.classes:
        possible = ("value", "log_odds")
    elif model.output == "probabilities":
        possible = ("log_odds", "probability", "logit")
    else:
        possible = ("log_odds", "logit") if len(model.classes) == 2 else ("logit",)
    if wanted is not None and wanted not in possible:
        raise InputError(
            f"The trees of {model.label!r} do not add up on the scale {wanted!r}; explain it on {' or '.join(possible)}, or with kernel_shap."
        )
    return "value" if not model.classes else wanted or possible[0]


def _worth(model: TreeModel | BoostedTrees, value: Floats, targets: Ints, output: int | None, scale: Scale) -> Floats:
    """(n,) what a leaf is worth to each row's target. output: which score of boosted trees the tree adds to; None: all of them."""
    from distillens.models.base import from_log_odds, on_scale

    if model.output == "probabilities":
        rows = np.repeat(value[None], len(targets), axis=0)
        return on_scale(rows, output="probabilities", target=targets, scale=scale)
    scores = value
    if output is not None:
        scores = np.zeros(len(model.classes) if len(model.classes) > 2 else 1)
        scores[output] = value[0]
    if not model.classes:
        return np.full(len(targets), scores[0])
    logits = from_log_odds(scores)[0] if len(model.classes) == 2 else scores
    if scale == "log_odds":
        return np.asarray(logits[targets] - logits[1 - targets], dtype=np.float64)
    return np.asarray(logits[targets], dtype=np.float64)


def _single(model: TreeModel, everybody: Table, b: int) -> Iterator[tuple[_Questions, int | None]]:
    inner = model.feature >= 0
    encoded = model.encoding(everybody.values)[:, np.where(inner, model.feature, 0)]
    goes_left = np.where(np.isnan(encoded), model.missing_left, encoded <= model.threshold)
    feature = np.where(inner, model.encoding.feature[np.where(inner, model.feature, 0)], -1)
    reached = np.zeros((b, len(feature)), dtype=np.bool_)
    reached[:, 0] = True
    for node in np.flatnonzero(inner):  # children always come after their parent
        reached[:, model.left[node]] = reached[:, node] & goes_left[-b:, node]
        reached[:, model.right[node]] = reached[:, node] & ~goes_left[-b:, node]
    count = reached.sum(axis=0).astype(np.float64)
    yield _Questions(feature, model.left, model.right, goes_left, count, model.value), None


def _boosted(model: BoostedTrees, everybody: Table) -> Iterator[tuple[_Questions, int | None]]:
    rows = model.preparation(everybody.values)
    width = len(model.baseline)
    for tree in range(model.trees):
        nodes = slice(int(model.starts[tree]), int(model.starts[tree + 1]))
        at = {name: values[nodes] for name, values in model.fields.items()}
        inner = ~at["is_leaf"].astype(np.bool_)
        position = np.where(inner, at["feature_idx"], 0).astype(np.int64)
        x = rows[:, position]
        missing_left = at["missing_go_to_left"].astype(np.bool_)
        goes_left = np.where(np.isnan(x), missing_left, x <= at["num_threshold"])
        for node in np.flatnonzero(inner & at["is_categorical"].astype(np.bool_)):
            bitset = model.bitsets[int(model.bitset_starts[tree]) + int(at["bitset_idx"][node])]
            known = model.known_bitsets[int(model.feature_map[position[node]])]
            code = np.where(np.isnan(x[:, node]), 0, x[:, node]).astype(np.int64)
            asked = ~np.isnan(x[:, node]) & _holds(known, code)
            goes_left[:, node] = np.where(asked, _holds(bitset, code), missing_left[node])
        feature = np.where(inner, model.preparation.order[position], -1)
        left, right = (at[name].astype(np.int64) for name in ("left", "right"))
        value = at["value"].astype(np.float64)[:, None]
        yield _Questions(feature, left, right, goes_left, at["count"].astype(np.float64), value), tree % width


def _holds(bitset: Ints, code: Ints) -> Bools:
    """(n,) whether each code is in a set of 256 bits."""
    words = np.asarray(bitset, dtype=np.uint32)
    return ((words[code // 32] >> (code % 32).astype(np.uint32)) & 1).astype(np.bool_)

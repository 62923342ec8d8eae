"""Pieces: one count over all families of what a person handles to follow a model.

What makes a model hard to follow is, as far as experiments with people tell, how many things have to be done: in Slack, Friedler,
Scheidegger and Dutta Roy (2019, "Assessing the local interpretability of machine learning models", arXiv 1902.03501; 1,000 people)
the accuracy of simulating a decision fell with the *runtime operation count*, the arithmetic and comparisons of one prediction,
over decision trees, logistic regressions and networks. Lage et al. (2019, "An evaluation of the human-interpretability of
explanation", arXiv 1902.00006) found that the kind of complexity matters, too: newly defined concepts cost more than repeated ones.
Their size of an explanation, its lines and the terms in them, is what is counted for the model as a whole.

A *piece* is therefore one of: a condition that is read, a number or level that is looked up, a product, a sum. K' is the number of
scores: 1 for binary tasks and regression, K for more classes; an answer that is read off is one piece whatever K.

    family      decision: mean over rows of the pieces to follow one answer          whole: pieces written down in the model
    tree        conditions on the row's path + the answer                            questions + leaves
    rules       conditions read until one rule holds (a rule is left at its first    conditions + answers, the ELSE included
                condition that fails) + the answer
    scorecard   per feature on the card: its line, a sum; + the base points          lines of the points table + the base points
    linear      K' · (per feature: a product or a look-up, a sum; + the intercept)   coefficients other than 0 + intercepts
    additive    per term: a look-up per feature, K' sums; + K' intercepts            K' · (steps of each curve, fields of each pair,
                                                                                     + the intercept)
    soft_tree   per node of the path: D products, D sums, a comparison; + the answer every parameter
    network     2 per weight (a product, a sum) and 1 per hidden unit (activation)   every parameter

Steps of a curve are its maximal runs of equal scores, and levels of equal scores count once: a curve that could be written down as a
table of five lines has five, however many bins it was learnt on. Where this departs from Slack et al.: they count the operations that
a library carries out; here a look-up in a table, however long, is one, as it is for a person with a finger on a line.

It is a count of operations, not a measurement of minutes: it says nothing about how familiar a feature is or how a page is laid out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from distillens.errors import InputError

if TYPE_CHECKING:
    from distillens.data.base import Floats, Table
    from distillens.models.base import Model

SAME = 1e-12  # scores closer than this are one step


class Units(NamedTuple):
    """Pieces of the whole model, and of one decision on average over rows."""

    whole: float
    decision: float


def units(model: Model, inputs: Table) -> Units:
    """Pieces of a fitted model; `decision` is the mean over the rows of `inputs`. See the module's text.

    A kind that is not listed there counts its parameters twice over: as written down and as used. InputError without rows, and for a
    model that does not say how large it is.
    """
    if not len(inputs):
        raise InputError("The pieces of one decision are counted over rows, and there are none.")
    count = _COUNTS.get(str(getattr(model, "kind", "")))
    if count is not None:
        return count(model, inputs)
    described: Any = model
    complexity: dict[str, int] = described.complexity() if hasattr(model, "complexity") else {}
    if "parameters" not in complexity:
        raise InputError(f"The model {model.label!r} does not say how large it is.")
    return Units(float(complexity["parameters"]), float(complexity["parameters"]))


def _tree(model: Any, inputs: Table) -> Units:
    depth = np.zeros(len(model.feature))
    for node in range(len(model.feature)):  # children always come after their parent
        if model.feature[node] >= 0:
            depth[model.left[node]] = depth[model.right[node]] = depth[node] + 1
    return Units(2.0 * model.leaves - 1, float(depth[model.apply(inputs)].mean()) + 1)


def _rules(model: Any, inputs: Table) -> Units:
    used, place = np.unique(model.feature, return_inverse=True)
    encoded = model.encoding(inputs.values, only=used)
    read, waiting = np.zeros(len(inputs)), np.ones(len(inputs), dtype=np.bool_)
    for r in range(model.rules):
        still = waiting.copy()  # rows that have not yet failed a condition of this rule
        for c in np.flatnonzero(model.rule == r):
            read += still
            x = encoded[:, place[c]]
            still &= x <= model.threshold[c] if model.below[c] else x > model.threshold[c]
        waiting &= ~still
    return Units(float(len(model.rule) + model.rules + 1), float(read.mean()) + 1)


def _scorecard(model: Any, inputs: Table) -> Units:
    del inputs  # every row looks up every line
    complexity = model.complexity()
    return Units(complexity["attributes"] + 1.0, 2.0 * complexity["characteristics"] + 1)


def _linear(model: Any, inputs: Table) -> Units:
    del inputs
    scores = len(model.intercepts)
    used = (np.abs(model.encoding.to_raw(np.abs(model.coefficients))) > 0).sum()  # features per score, summed
    return Units(float(np.count_nonzero(model.coefficients)) + scores, 2.0 * float(used) + scores)


def _additive(model: Any, inputs: Table) -> Units:
    del inputs
    scores = len(model.intercepts)
    decision = sum(len(term.features) + scores for term in model.terms) + scores
    whole = sum(
        steps(term.scores, [model.columns[j].kind == "categorical" for j in term.features]) for term in model.terms
    )
    return Units(float(scores * (whole + 1)), float(decision))


def steps(scores: Floats, categorical: list[bool]) -> int:
    """Lines of a curve (bins, K'), or fields of a pair (bins, bins, K'), that have to be written down.

    Along each feature, neighbouring bins (of a categorical one: any levels) with the same scores are one line. The first bin (missing)
    and the last (unknown, unseen) count only where they say something other than 0.
    """
    lines = 1
    for axis, nominal in enumerate(categorical):
        flat = np.moveaxis(scores, axis, 0).reshape(scores.shape[axis], -1)
        inner = flat[1:-1]
        if nominal:
            here = len(np.unique(np.round(inner / SAME), axis=0))
        else:
            here = 1 + int((np.abs(np.diff(inner, axis=0)) > SAME).any(axis=1).sum())
        lines *= here + int((np.abs(flat[0]) > SAME).any()) + int((np.abs(flat[-1]) > SAME).any())
    return lines


def _soft_tree(model: Any, inputs: Table) -> Units:
    del inputs
    asked = model.depth if model.path == "hard" else len(model.weights)
    width = model.encoding.width
    answers = 0 if model.path == "hard" else 2 * len(model.leaves)  # each leaf's share times its answer, added up
    return Units(float(model.complexity()["parameters"]), float(asked * (2 * width + 1) + answers + 1))


def _network(model: Any, inputs: Table) -> Units:
    del inputs
    complexity = model.complexity()
    hidden, outputs = complexity["hidden"], len(model.classes) or 1
    weights = complexity["parameters"] - hidden - outputs  # every unit has one bias, added like a product
    return Units(float(complexity["parameters"]), float(2 * weights + hidden))


_COUNTS: Mapping[str, Callable[[Any, Any], Units]] = {
    "tree": _tree,
    "rules": _rules,
    "scorecard": _scorecard,
    "linear": _linear,
    "additive": _additive,
    "soft_tree": _soft_tree,
    "network": _network,
}

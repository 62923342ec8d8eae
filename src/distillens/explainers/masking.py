"""The masking engine: v(S) = mean over background rows of the model's score where the units in S keep the row's own value.

    v_i(S) = Σ_j w_j · score(model(S ? x_i : background_j))

One batched evaluator behind every perturbation method. Rows × masks × background rows are put together in chunks that
fit the memory asked for, and a chunk that does not fit after all is halved. The scores of one (row, mask) are always
averaged over the background in the order of the background rows, so the numbers do not depend on the size of the chunks or on
the rows explained beside a row, as far as the model's own answers do not: exactly for models that treat rows one by one;
float32 networks differ in their last bits with the shape of a batch (about 1e-6 of the score).

Masked rows that are equal are computed once where that pays. Rows are compared by a 64-bit hash (a sum of one mixed word a column,
so a masked row's hash is a sum of two numbers and the row need not exist). How many repeats to expect is estimated
beforehand from how often two rows agree in a column: tables with a continuous column have practically none, and skip the search.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distillens.errors import InputError, ModelError
from distillens.explainers.units import units_of
from distillens.models.base import evaluate, on_scale
from distillens.progress import task

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.models.base import Model, Scale

MEMORY_BYTES = 64 * 2**20
COPIES = 10  # a chunk is assumed to take this many times its own size: the rows, their encoding, a model's layers
WORTH_SEARCHING = 0.3  # look for equal masked rows when at least this share of them is expected to be a repeat

Words = NDArray[np.uint64]


def resolved_scale(model: Model, scale: Scale) -> Scale:
    """The scale a model is explained on: `value` for regression (whose log-odds are the value itself).

    Raises ModelError for `probability` or `logit` of a regression model and `value` of a classifier.
    """
    if model.output == "values":
        if scale in ("log_odds", "value"):
            return "value"
        raise ModelError(
            f"The model {model.label!r} predicts a value; the scale {scale!r} is for classifiers. Use 'value'."
        )
    if scale == "value":
        raise ModelError(
            f"The model {model.label!r} is a classifier; use the scale log_odds, probability or logit, not 'value'."
        )
    return scale


def rows_that_fit(features: int, memory_bytes: int) -> int:
    """How many masked rows of `features` float64 columns go through a model at once; at least 1."""
    return max(1, memory_bytes // (8 * max(1, features) * COPIES))


def masked_means(
    model: Model,
    inputs: Table,
    masks: Bools,
    *,
    background: Table,
    target: int | Ints,
    scale: Scale = "log_odds",
    groups: Mapping[str, Sequence[str]] | None = None,
    background_weights: Floats | None = None,
    memory_bytes: int = MEMORY_BYTES,
    chunk_rows: int | None = None,
) -> Floats:
    """(n, m) mean scores of n rows under m masks.

    masks: (m, U) bool over units (columns, or `groups`: name → columns masked together); True keeps the row's own value.
    background: b rows with the same columns. background_weights: (b,) non-negative; None = equal.
    target: class index, or (n,) one per row. scale: of the scores, as in `models.base.on_scale`.
    memory_bytes: what one chunk may take; chunk_rows: masked rows per model call, instead of an estimate from the memory.
    Raises InputError when shapes or columns do not fit, ModelError when the model's answers do not.
    """
    units = units_of(inputs.columns, groups)
    n, b, m = len(inputs), len(background), len(masks)
    masks = np.asarray(masks, dtype=np.bool_)
    if masks.ndim != 2 or masks.shape[1] != len(units):
        raise InputError(f"Masks over {len(units)} units should have shape (m, {len(units)}), but have {masks.shape}.")
    if background.columns != inputs.columns:
        raise InputError("The background rows should have the same columns as the rows to explain, in the same order.")
    if b == 0:
        raise InputError("The background has no rows; give at least one.")
    if chunk_rows is not None and chunk_rows < 1:
        raise InputError(f"chunk_rows should be at least 1, but is {chunk_rows}.")
    weights = _normalised(background_weights, b)
    targets = np.broadcast_to(np.asarray(target, dtype=np.int64), (n,))
    scale = resolved_scale(model, scale)

    kept = masks[:, units.of_column]
    limit = chunk_rows or rows_that_fit(len(inputs.columns), memory_bytes)
    block = max(
        1, min(n, limit // b)
    )  # rows of `inputs` per chunk; a chunk holds `block` × some masks × all background rows
    repeats = _expected_repeats(inputs.values, background.values, kept, block)
    order = np.argsort(-repeats, kind="stable")  # masks with many repeats share chunks
    step = max(1, limit // (block * b))
    query = _Query(model, inputs, limit)
    means = np.empty((n, m))
    with task("masked forwards", total=n * m, unit="coalitions") as advance:
        for start in range(0, n, block):
            rows = slice(start, min(n, start + block))
            for at in range(0, m, step):
                chosen = order[at : at + step]
                x, mask = inputs.values[rows], kept[chosen]
                search = float(repeats[chosen].mean()) >= WORTH_SEARCHING
                outputs = (_query_distinct if search else _query_all)(query, x, background.values, mask)
                means[rows, chosen] = _means(outputs, model, targets[rows], scale, weights, len(chosen))
                advance(len(x) * len(chosen))
    return means


def _normalised(weights: Floats | None, b: int) -> Floats | None:
    if weights is None:
        return None
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (b,) or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError(f"Background weights should be {b} non-negative numbers with a positive sum.")
    return np.asarray(w / w.sum(), dtype=np.float64)


def _means(outputs: Floats, model: Model, targets: Ints, scale: Scale, weights: Floats | None, masks: int) -> Floats:
    """(rows, masks) from the (masks · rows · b, K) outputs of one chunk."""
    shape = (masks, len(targets), -1)
    if (targets == targets[0]).all():
        target: int | Ints = int(targets[0])
    else:
        b = len(outputs) // (masks * len(targets))
        target = np.broadcast_to(targets[None, :, None], (masks, len(targets), b)).reshape(-1)
    score = on_scale(outputs, output=model.output, target=target, scale=scale).reshape(shape)
    # The reduced axis is the contiguous one, so each mean is summed in the same order in every chunk.
    mean = score.mean(axis=2) if weights is None else (score * weights).sum(axis=2)
    return np.asarray(mean.T, dtype=np.float64)


def _query_all(query: _Query, x: Floats, background: Floats, mask: Bools) -> Floats:
    """Outputs of every masked row of a chunk, mask by mask, row by row, background row by background row."""
    masked = np.where(mask[:, None, None, :], x[None, :, None, :], background[None, None, :, :])
    return query(masked.reshape(-1, mask.shape[1]))


def _query_distinct(query: _Query, x: Floats, background: Floats, mask: Bools) -> Floats:
    """The same, each different masked row being computed once."""
    own = _words(x) @ mask.T.astype(np.uint64)  # (rows, masks)
    other = _words(background) @ (~mask).T.astype(np.uint64)  # (b, masks)
    hashes = (own.T[:, :, None] + other.T[:, None, :]).reshape(-1)
    place, first = _factorize(hashes)
    which, row, drawn = np.unravel_index(first, (len(mask), len(x), len(background)))
    masked = np.where(mask[which], x[row], background[drawn])
    return query(masked)[place]


def _factorize(hashes: Words) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The distinct value each hash is, numbered by first appearance, and where each distinct value appears first."""
    import pandas as pd  # a hash table: several times faster than np.unique, which sorts

    place, distinct = pd.factorize(hashes)
    first = np.empty(len(distinct), dtype=np.intp)
    first[place[::-1]] = np.arange(len(hashes) - 1, -1, -1)
    return np.asarray(place, dtype=np.intp), first


def _words(values: Floats) -> Words:
    """(r, F) one well-mixed 64-bit word per value and column (the finalizer of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        column = np.arange(1, values.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = np.ascontiguousarray(values).view(np.uint64) + column
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def _expected_repeats(x: Floats, background: Floats, kept: Bools, block: int) -> Floats:
    """(m,) share of a mask's block × b masked rows that repeat others, if columns were independent. Only speed depends on it."""
    b = len(background)
    # P(two rows agree wherever the mask looks at them) → r rows hold about r / (1 + (r − 1) P) different patterns
    own = np.exp(kept @ _log_agreement(x))
    other = np.exp(~kept @ _log_agreement(background))
    return np.asarray(1.0 - 1.0 / ((1.0 + (block - 1) * own) * (1.0 + (b - 1) * other)), dtype=np.float64)


def _log_agreement(values: Floats) -> Floats:
    """(F,) log of the share of pairs of rows with equal values, bounded from below at e^−50."""
    r = len(values)
    agreement = np.zeros(values.shape[1])
    if r > 1:
        for j in range(values.shape[1]):
            _, counts = np.unique(values[:, j], return_counts=True)
            agreement[j] = float((counts * (counts - 1.0)).sum()) / (r * (r - 1.0))
    return np.asarray(np.log(np.clip(agreement, np.exp(-50.0), None)), dtype=np.float64)


class _Query:
    """Calls a model with at most `limit` rows at once, and with half as many from then on when memory runs out."""

    def __init__(self, model: Model, like: Table, limit: int) -> None:
        self.model, self.like, self.limit = model, like, limit

    def __call__(self, values: Floats) -> Floats:
        """(N, K) checked outputs of N masked rows."""
        pieces: list[Floats] = []
        at = 0
        while at < len(values):
            piece = self.like.with_values(values[at : at + self.limit])
            try:
                pieces.append(evaluate(self.model, piece))
            except Exception as error:
                if not _out_of_memory(error):
                    raise
                if len(piece) == 1:
                    raise ModelError(f"The model {self.model.label!r} ran out of memory on a single row.") from error
                self.limit = len(piece) // 2
                continue
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _out_of_memory(error: Exception) -> bool:
    """MemoryError, torch's OutOfMemoryError, and the plain RuntimeError torch raises on a CPU."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # no model can raise torch's error without torch having been imported
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        t in text for t in ("out of memory", "can't allocate memory", "failed to allocate memory")
    )

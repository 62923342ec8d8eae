"""The masking engine: v(S) = mean over background rows of the model's score where the units in S keep the row's own value.

    v_i(S) = Σ_j w_j · score(model(S ? x_i : background_j))

One batched evaluator behind every perturbation method. Rows × masks × background rows are put together in chunks that
fit the memory asked for and the processor's cache, and a chunk that does not fit after all is halved. Masked rows are mixed
as bit patterns, (row & mask) | (background & ~mask): exact for every number and NaN, several times faster than choosing
element by element, and the background's half is made once for all rows of a chunk. The scores of one (row, mask) are always
averaged over the background in the order of the background rows, so the numbers do not depend on the size of the chunks or on
the rows explained beside a row, as far as the model's own answers do not: exactly for models that treat rows one by one;
float32 networks differ in their last bits with the shape of a batch (about 1e-6 of the score).

Equal masked rows are computed once where that pays: a row and a background row that agree in e columns have 2^e times fewer
different mixtures, which for tables of categories saves a third to nine tenths of the forward passes. Rows are compared by
a 64-bit hash in a hash table, one explained row at a time over all masks. The hash is a sum of one mixed word a column, so
that of a masked row is the sum of two known numbers and the row itself need not exist; among a million different rows two
are alike with a probability of 3e-8. Tables whose rows hardly agree anywhere are not searched, and a search that saves
little is the last one of its call. None of this changes a number, only which rows the model is shown.

A model whose first layer is a sum over features (`SplitModel`) is not asked about masked rows at all: the parts of the
background rows are added once per mask for all rows, the parts of a row once per mask for all background rows, and the model goes
on from there. The sums are the same up to float32 rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import as_table
from distillens.data.images import Images
from distillens.errors import InputError, ModelError
from distillens.explainers.units import units_of
from distillens.models.base import SplitModel, checked_outputs, evaluate, on_scale
from distillens.models.memory import out_of_memory
from distillens.models.patched import as_patches
from distillens.models.threads import one_blas_thread
from distillens.progress import task

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Inputs, Ints, Table
    from distillens.models.base import Model, Scale

MEMORY_BYTES = 32 * 2**20
CACHED_ROWS = 4096  # masked rows per model call: a small network is done with them before they leave the cache
COPIES = 10  # a chunk is assumed to take this many times its own size: the rows, their encoding, a model's layers
AGREEING = (
    1.0  # look for equal masked rows when a row and a background row agree in at least this many columns on average …
)
SAVED = 0.15  # … and for as long as the last search saved this share of the forward passes; looking costs about a tenth of a small network
SEARCHED_AT_MOST = 2**23  # masks × background rows; beyond, the hashes of one row would take more than 64 MiB

Words = NDArray[np.uint64]
Parts = NDArray[np.float32]


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
    """How many masked rows of `features` float64 columns go through a model at once; at least 1.

    As many as the memory holds, but no more than `CACHED_ROWS`, whatever the number of threads.
    """
    return max(1, min(memory_bytes // (8 * max(1, features) * COPIES), CACHED_ROWS))


def keep_freed_memory() -> None:
    """Have the C library keep the memory of a model's layers between calls, instead of mapping it anew at every call.

    glibc takes the largest block that was mapped and freed for the size from which blocks are mapped, and gives the end of its heap
    back at twice that size (mallopt(3), M_MMAP_THRESHOLD). With blocks of a megabyte freed at every call that is too little: up to a
    million page faults in an explanation, and twice the time. One block of 16 MiB, never touched, teaches it; other
    libraries do not mind.
    """
    np.empty(2**24, dtype=np.uint8)


def masked_means(
    model: Model,
    inputs: Inputs,
    masks: Bools,
    *,
    background: Inputs,
    target: int | Ints,
    scale: Scale = "log_odds",
    groups: Mapping[str, Sequence[str]] | None = None,
    background_weights: Floats | None = None,
    memory_bytes: int = MEMORY_BYTES,
    chunk_rows: int | None = None,
) -> Floats:
    """(n, m) mean scores of n rows under m masks.

    masks: (m, U) bool over units (columns, or `groups`: name → columns masked together); True keeps the row's own value.
    inputs, background: tables of the same columns, b background rows; or images, whose units are patches.
    background_weights: (b,) non-negative; None = equal.
    target: class index, or (n,) one per row. scale: of the scores, as in `models.base.on_scale`.
    memory_bytes: what one chunk may take; chunk_rows: masked rows per model call, instead of an estimate from the memory.
    Raises InputError when shapes or columns do not fit, ModelError when the model's answers do not.
    """
    means = np.empty((len(inputs), len(masks)))
    if isinstance(inputs, Images) and isinstance(background, Images):
        patched = as_patches(model, inputs, background)
        model, inputs, background = patched[0], patched[1], patched[2] or patched[1]
    inputs, background = as_table(inputs), as_table(background)
    for rows, block in masked_blocks(
        model,
        inputs,
        masks,
        background=background,
        target=target,
        scale=scale,
        groups=groups,
        background_weights=background_weights,
        memory_bytes=memory_bytes,
        chunk_rows=chunk_rows,
    ):
        means[rows] = block
    return means


def masked_blocks(
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
) -> Iterator[tuple[slice, Floats]]:
    """The same means block by block: (which rows, (rows, m) means), for methods that keep less than all n · m of them.

    A block takes at most about `memory_bytes` / 8, so that n may be as large as it likes. Everything else as in `masked_means`.
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

    keep_freed_memory()
    kept = masks.take(units.of_column, axis=1)  # in C order, unlike masks[:, columns]
    limit = chunk_rows or rows_that_fit(len(inputs.columns), memory_bytes)
    query = Query(model, lambda values: evaluate(model, inputs.with_values(values)), limit)
    most = max(1, memory_bytes // (64 * max(1, m)))
    search = (
        _Search(background.values, kept)
        if _agreement(inputs.values, background.values) >= AGREEING and m * b <= SEARCHED_AT_MOST
        else None
    )
    mixture = _Mixture(background.values, kept)
    with task("masked forwards", total=n * m, unit="coalitions") as advance:
        for begin in range(0, n, most):
            block = slice(begin, min(n, begin + most))
            means = np.empty((block.stop - begin, m))
            split = _Split.of(model, inputs, block, background)
            if split is not None:
                with one_blas_thread():
                    for rows, at, outputs in split(kept, limit):
                        here = _means(outputs, model, targets[block][rows], scale, weights, len(outputs) // b)
                        means[rows, at : at + here.shape[1]] = here
                        advance(here.size)
                yield block, means
                continue
            start = begin
            while start < block.stop:
                if search is not None:
                    outputs, saved = search(query, inputs.values[start])
                    means[start - begin] = _means(outputs, model, targets[start : start + 1], scale, weights, m)[0]
                    advance(m)
                    search = search if saved >= SAVED else None
                    start += 1
                    continue
                rows = slice(start, min(block.stop, start + max(1, limit // b)))
                own = _bits(inputs.values[rows])
                step = max(1, limit // (len(own) * b))
                for at in range(0, m, step):
                    outputs = query(mixture(own, at, at + step))
                    here = _means(outputs, model, targets[rows], scale, weights, len(kept[at : at + step]))
                    means[rows.start - begin : rows.stop - begin, at : at + step] = here
                    advance(here.size)
                start = rows.stop
            yield block, means


class _Mixture:
    """Masked rows as bit patterns, written again and again into the same memory for as long as no model holds on to it."""

    def __init__(self, background: Floats, kept: Bools) -> None:
        self.background = _bits(background)
        self.kept = kept
        self._theirs = self._masked = np.empty(0, dtype=np.uint64)

    def __call__(self, own: Words, start: int, stop: int) -> Floats:
        """(masks · rows · b, F) masked rows of masks start … stop − 1 and the (rows, F) bit patterns of some rows."""
        keep = (-self.kept[start:stop].astype(np.int64)).view(np.uint64)[
            :, None
        ]  # all ones: the row keeps its own value
        b, f = self.background.shape
        theirs, masked = len(keep) * b * f, len(keep) * len(own) * b * f
        if self._theirs.size < theirs:
            self._theirs = np.empty(theirs, dtype=np.uint64)
        if self._masked.size < masked or sys.getrefcount(self._masked) > 2:  # one is the attribute, one the argument
            self._masked = np.empty(masked, dtype=np.uint64)
        shared = self._theirs[:theirs].reshape(len(keep), 1, b, f)
        mixed = self._masked[:masked].reshape(len(keep), len(own), b, f)
        np.bitwise_and(self.background, ~keep[:, None], out=shared)
        np.bitwise_or(shared, (own & keep)[:, :, None], out=mixed)
        return mixed.reshape(-1, f).view(np.float64)


def _bits(values: Floats) -> Words:
    return np.ascontiguousarray(values).view(np.uint64)


class _Split:
    """The first layer of a block of rows and of the background, for models where it is a sum over features."""

    def __init__(self, model: SplitModel, own: Parts, theirs: Parts, bias: Parts) -> None:
        self.model = model
        self.own = own  # (rows, F, H)
        self.theirs = np.ascontiguousarray(theirs.transpose(1, 0, 2))  # (F, b, H)
        self.bias = bias

    @classmethod
    def of(cls, model: Model, inputs: Table, block: slice, background: Table) -> _Split | None:
        """None when the model has no such layer, or when a part is infinite (0 · ∞ would be NaN)."""
        if not isinstance(model, SplitModel):
            return None
        own = model.first_layer(inputs.take(np.arange(block.start, block.stop)))
        theirs = model.first_layer(background)
        if own is None or theirs is None or not (np.isfinite(own[0]).all() and np.isfinite(theirs[0]).all()):
            return None
        return cls(model, own[0], theirs[0], theirs[1])

    def __call__(self, kept: Bools, limit: int) -> Iterator[tuple[slice, int, Floats]]:
        """(rows of the block, first mask, (masks · rows · b, K) outputs), chunk by chunk."""
        features, b, width = self.theirs.shape
        model = self.model
        query = Query(model, lambda sums: checked_outputs(model, model.from_hidden(sums), len(sums)), limit)
        step = max(1, limit // b)
        sums: Parts = np.empty((0, b, width), dtype=np.float32)
        for at in range(0, len(kept), step):
            keep = kept[at : at + step].astype(np.float32)
            others = (1 - keep) @ self.theirs.reshape(features, -1)
            others = others.reshape(len(keep), b, width)
            others += self.bias
            for i, parts in enumerate(self.own):
                if (
                    sums.shape != others.shape or sys.getrefcount(sums) > 2
                ):  # the model may hold on to what it was given
                    sums = np.empty_like(others)
                np.add(others, (keep @ parts)[:, None], out=sums)
                yield slice(i, i + 1), at, query(sums.reshape(-1, width))


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


def _agreement(x: Floats, background: Floats) -> float:
    """In how many columns a row and a background row agree, on average; of the first hundred rows each."""
    own, other = (np.ascontiguousarray(v[:100]).view(np.uint64) for v in (x, background))
    return float((own[:, None, :] == other[None, :, :]).sum(axis=2).mean()) if len(own) else 0.0


class _Search:
    """Outputs of all masked rows of one explained row, each different one being computed once."""

    def __init__(self, background: Floats, kept: Bools) -> None:
        self.background, self.kept = background, kept
        self.kept_bits = kept.T.astype(np.uint64)
        self.other = (_words(background) @ (~kept).T.astype(np.uint64)).T  # (masks, b) hashes of the background's share

    def __call__(self, query: Query, x: Floats) -> tuple[Floats, float]:
        """((masks · b, K) outputs, share of forward passes saved)."""
        hashes = ((_words(x[None]) @ self.kept_bits).T + self.other).reshape(-1)
        place, first = _factorize(hashes)
        pieces, size = [], query.limit  # the query halves its limit when memory runs out
        for at in range(0, len(first), size):
            which, drawn = np.divmod(first[at : at + size], len(self.background))
            pieces.append(query(np.where(self.kept[which], x, self.background[drawn])))
        return np.concatenate(pieces)[place], 1.0 - len(first) / len(hashes)


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


class Query:
    """Calls a model with at most `limit` rows at once, and with half as many from then on when memory runs out."""

    def __init__(self, model: Model, ask: Callable[[NDArray[Any]], Floats], limit: int) -> None:
        self.model, self.ask, self.limit = model, ask, limit

    def __call__(self, values: NDArray[Any]) -> Floats:
        """(N, K) checked outputs of N masked rows (or of what the model makes of them first)."""
        pieces: list[Floats] = []
        at = 0
        while at < len(values):
            piece = values[at : at + self.limit]
            try:
                pieces.append(self.ask(piece))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if len(piece) == 1:
                    raise ModelError(f"The model {self.model.label!r} ran out of memory on a single row.") from error
                self.limit = len(piece) // 2
                continue
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

"""Out-of-fold targets: every training row is answered by a model that did not see it.

The honest soft targets of a teacher that can be refitted (Breiman 1996, "Stacked regressions", and every stacking since):
answers about rows a model was fitted on can be the labels themselves, and then carry nothing a student could learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.data.images import Images
from distillens.errors import DataError, ModelError
from distillens.models.base import as_logits, as_probabilities, evaluate
from distillens.progress import task
from distillens.transfer.targets import Targets

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Split
    from distillens.models.base import Output
    from distillens.transfer.targets import Family


def out_of_fold(
    family: Family,
    train: Split,
    *,
    validation: Split,
    classes: tuple[str, ...],
    folds: int = 5,
    seed: int,
    output: Output | None = None,
) -> Targets:
    """Targets for all rows of `train`, in their order, from `folds` models fitted on the labels of the other folds.

    family: fits a teacher on labels. output: turn the answers into "logits" or "probabilities"; None keeps the family's.
    Folds keep the classes' shares (regression: the spread of the values); rows of one group, or identical rows where
    there are no groups, stay together. The fits' seeds are drawn from `seed`. Raises DataError when the rows cannot be folded that way.
    """
    if train.labels is None:
        raise DataError("Out-of-fold targets need labels to refit the teacher on, and these rows have none.")
    fold = fold_of_rows(train, classes=classes, folds=folds, seed=seed)
    seeds = np.random.default_rng([seed, folds]).integers(2**31, size=folds)
    answers: Floats = np.full((len(train), len(classes) or 1), np.nan)
    kinds: set[Output] = set()
    with task("out-of-fold targets", total=folds, unit="folds") as advance:
        for k in range(folds):
            held_out = fold == k
            targets = Targets.from_labels(train.take(~held_out), classes)
            model = family.fit(targets, validation=validation, teacher=None, seed=int(seeds[k]))
            if tuple(model.classes) != classes:
                raise ModelError(
                    f"A refitted teacher has the classes {list(model.classes)} instead of {list(classes)}."
                )
            kinds.add(model.output)
            answers[held_out] = evaluate(model, train.inputs.take(held_out))
            advance(1)
    if len(kinds) != 1:
        raise ModelError(f"The refitted teachers answer in different kinds: {', '.join(sorted(kinds))}.")
    kind = kinds.pop()
    if output is not None and output != kind:
        answers = as_logits(answers, kind) if output == "logits" else as_probabilities(answers, kind)
        kind = output
    return Targets.from_outputs(train, answers, output=kind, classes=classes, origin="out_of_fold")


def fold_of_rows(train: Split, *, classes: tuple[str, ...], folds: int, seed: int) -> Ints:
    """(n,) the fold 0 … folds − 1 of every row; no fold is empty and every class is known outside every fold.

    Units (groups, identical rows, or single rows) are dealt out in random order, largest first, each to the fold that
    is shortest of what the unit holds; regression values are cut into `folds` strata of equal size first.
    """
    n = len(train)
    labels = np.asarray(train.labels, dtype=np.float64)
    unit = _units(train)
    units = int(unit.max()) + 1 if n else 0
    if folds < 2 or units < folds:
        raise DataError(
            f"{folds} folds need at least 2 folds and as many independent rows or groups; there are {units}."
        )
    stratum = labels.astype(np.int64) if classes else _ranks(labels) * folds // n
    strata = len(classes) or folds
    held = np.zeros((units, strata))
    np.add.at(held, (unit, stratum), 1.0)
    totals = np.maximum(held.sum(axis=0), 1.0)

    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(units)
    order = shuffled[np.argsort(-held[shuffled].sum(axis=1), kind="stable")]
    filled = np.zeros((folds, strata))
    fold_of_unit = np.empty(units, dtype=np.int64)
    for u in order:
        # Filling where the unit's own strata are emptiest keeps the shares; ties go to the smallest fold.
        need = (filled / totals) @ held[u]
        size = filled.sum(axis=1)
        best = int(np.lexsort((size, np.round(need, 12)))[0])
        fold_of_unit[u] = best
        filled[best] += held[u]
    if (filled.sum(axis=1) == 0).any():
        raise DataError(f"The rows cannot be dealt into {folds} folds: too few groups. Use fewer folds.")
    if classes:
        present = held.sum(axis=0) > 0
        missing = present & (held.sum(axis=0) - filled <= 0).any(axis=0)
        if missing.any():
            name = classes[int(np.flatnonzero(missing)[0])]
            raise DataError(
                f"All rows of the class {name!r} are in one fold, so that no model could learn it for them: out-of-fold targets need "
                "at least two independent rows or groups of every class. Merge or drop the class, or use targets: {origin: in_sample}."
            )
    return fold_of_unit[unit]


def _units(train: Split) -> Ints:
    """(n,) rows that must stay together share a number: the same group, or the same values when there are no groups."""
    if train.groups is not None:
        return np.unique(train.groups, return_inverse=True)[1].astype(np.int64)
    first: dict[bytes, int] = {}
    if isinstance(train.inputs, Images):
        return np.unique(train.inputs.hashes, return_inverse=True)[1].astype(np.int64)
    values = np.ascontiguousarray(train.table.values) + 0.0  # −0 becomes 0, so that equal rows have equal bytes
    return np.array([first.setdefault(row.tobytes(), len(first)) for row in values], dtype=np.int64)


def _ranks(values: Floats) -> Ints:
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks

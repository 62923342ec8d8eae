"""Query rows: made up, and labelled by the teacher. They show the student what the teacher thinks between the data.

Smearing: Breiman and Shang 1996, "Born Again Trees", section 4: a row of the data, each of whose coordinates is replaced,
with a probability, by that coordinate of another randomly drawn row. Every value occurs in the data, and the columns
keep their distribution; the dependence between columns is loosened.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from distillens.data.base import Table
from distillens.errors import DataError, InputError, ModelError
from distillens.models.base import evaluate, log_probabilities

if TYPE_CHECKING:
    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.transfer.targets import Targets


def smear(train: Table, *, rows: int, seed: int, swap: float = 0.5) -> Table:
    """(rows, F) smeared rows with row ids −1, made from as equal a number of copies of every row as possible.

    swap: probability that a coordinate is replaced by another row's; missing values and unseen categories travel like
    any other value. Raises DataError for fewer than two rows to make them from, InputError for impossible numbers.
    """
    if len(train) < 2:
        raise DataError(f"Smeared rows are mixed from at least two rows, and there are {len(train)}.")
    if not 0 < swap <= 1 or rows < 0:
        raise InputError(f"Smearing needs 0 < swap ≤ 1 and rows ≥ 0, got swap {swap!r} and rows {rows!r}.")
    rng = np.random.default_rng(seed)
    n, f = train.values.shape
    copies = [rng.permutation(n) for _ in range(math.ceil(rows / n))]
    base = np.concatenate(copies)[:rows] if copies else np.empty(0, dtype=np.int64)
    donor = (base[:, None] + rng.integers(1, n, size=(rows, f))) % n  # never the row itself
    swapped = rng.random((rows, f)) < swap
    return train.with_values(train.values[np.where(swapped, donor, base[:, None]), np.arange(f)])


def with_queries(
    targets: Targets, teacher: Model, *, per_row: int, seed: int, swap: float = 0.5, share: float = 1.0
) -> Targets:
    """Targets with `per_row` smeared rows a training row added, labelled by the teacher.

    share: weight of all query rows together, relative to that of all training rows, however many queries there are: more of them
    refine the picture of the teacher and do not drown the data. Their labels are NaN, their answers are of the kind the targets
    hold. Raises DataError for targets from labels, ModelError when the teacher has other classes.
    """
    if targets.origin == "labels":
        raise DataError("Targets made from labels have no teacher, so that there is nobody to label query rows.")
    if tuple(teacher.classes) != targets.classes:
        raise ModelError(
            f"The teacher's classes {list(teacher.classes)} are not those of the targets {list(targets.classes)}."
        )
    if per_row < 0 or share <= 0:
        raise InputError(f"Query rows need per_row ≥ 0 and share > 0, got {per_row!r} and {share!r}.")
    if per_row == 0:
        return targets
    known = ~targets.is_query
    train = targets.table.take(known)
    return add_queries(targets, teacher, smear(train, rows=per_row * len(train), seed=seed, swap=swap), share=share)


def add_queries(
    targets: Targets, teacher: Model, queries: Table, *, share: float = 1.0, relative: Floats | None = None
) -> Targets:
    """Targets with any rows added as queries, labelled by the teacher; weights, labels and errors as in `with_queries`.

    relative: (m,) weights of the query rows against each other; None: equal.
    """
    if targets.origin == "labels":
        raise DataError("Targets made from labels have no teacher, so that there is nobody to label query rows.")
    if tuple(teacher.classes) != targets.classes:
        raise ModelError(
            f"The teacher's classes {list(teacher.classes)} are not those of the targets {list(targets.classes)}."
        )
    if share <= 0:
        raise InputError(f"Query rows need share > 0, got {share!r}.")
    if not len(queries):
        return targets
    known = ~targets.is_query
    answers = targets.as_output(evaluate(teacher, queries), teacher.output)
    m = len(queries)
    relation = np.ones(m) if relative is None else np.asarray(relative, dtype=np.float64)
    if relation.shape != (m,) or not (relation > 0).all() or not np.isfinite(relation).all():
        raise InputError(f"Relative weights of {m} query rows are {m} positive numbers.")
    weight = share * float(targets.weights[known].sum()) * relation / relation.sum()
    return replace(
        targets,
        inputs=Table.concatenate([targets.table, queries]),
        outputs=np.concatenate([targets.outputs, answers]),
        weights=np.concatenate([targets.weights, weight]),
        labels=None if targets.labels is None else np.concatenate([targets.labels, np.full(m, np.nan)]),
        is_query=np.concatenate([targets.is_query, np.ones(m, dtype=np.bool_)]),
    )


def distance_to_teacher(student: Model, teacher: Model, rows: Split) -> float:
    """Weighted mean KL(teacher ‖ student) in nats; for regression the root of the weighted mean squared difference."""
    said, taught = evaluate(student, rows.inputs), evaluate(teacher, rows.inputs)
    if teacher.classes:
        log_t, log_s = log_probabilities(taught, teacher.output), log_probabilities(said, student.output)
        return float(np.average((np.exp(log_t) * (log_t - log_s)).sum(axis=1), weights=rows.weights))
    return math.sqrt(float(np.average((said[:, 0] - taught[:, 0]) ** 2, weights=rows.weights)))

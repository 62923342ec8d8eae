"""What a careful reader wants to know about a table before trusting any number computed from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from distillens.data.base import UNSEEN, Finding
from distillens.data.kinds import parse_numbers

if TYPE_CHECKING:
    from distillens.data.base import Column, Dataset, Floats, Ints, Split
    from distillens.data.kinds import Cells

ENOUGH = 20  # rows below which "every value differs" and "predicts perfectly" mean nothing
ALMOST = 0.999  # one-feature AUC, purity or R² from which a feature is called a leak
MANY_CATEGORIES = 50
RARE = 0.1  # share of a class from which imbalance is mentioned

_ID_NAME = re.compile(r"(^|[\W_])(id|ids|uid|uuid|guid|key|index|number|no|nr)$", re.IGNORECASE)


def left_out(cells: Cells, name: str, rows: Ints | None = None) -> Finding | None:
    """Why a column should not become a feature: dates, one value in all training rows, or an identifier; None when it should.

    rows: positions of the training rows (None: all).
    """
    if cells.kind == "date":
        return Finding(
            "date",
            name,
            f"{name!r} holds dates, which models here do not read; it is left out. Give it the role time, or turn it into a number.",
        )
    if is_constant(cells, rows):
        what = "is empty" if cells.missing[slice(None) if rows is None else rows].all() else "has one value"
        return Finding("constant", name, f"{name!r} {what} in all training rows; it is left out.")
    if (why := id_like(cells, name)) is not None:
        return Finding(
            "id_like", name, f"{name!r} {why}; it looks like an identifier and is left out. The role feature keeps it."
        )
    return None


def is_constant(cells: Cells, rows: Ints | None = None) -> bool:
    """Whether there is nothing to tell rows apart by; missing counts as a value of its own."""
    index = slice(None) if rows is None else rows
    missing = cells.missing[index]
    if missing.any():
        return bool(missing.all())
    values = cells.texts[index] if cells.texts is not None else np.asarray(cells.numbers)[index]
    return bool((values == values[0]).all())


def id_like(cells: Cells, name: str) -> str | None:
    """Why a column looks like an identifier, or None: text that nearly always differs, a row counter, whole numbers called id."""
    present = ~cells.missing
    n = int(present.sum())
    if n < ENOUGH or cells.kind in ("boolean", "date"):
        return None
    if cells.kind == "categorical":
        share = len(cells.distinct()) / n
        return f"has a text of its own in {share:.0%} of the rows" if share >= 0.9 else None
    values = np.asarray(cells.numbers)[present]
    if not (values == np.round(values)).all() or len(np.unique(values)) < n:
        return None
    if n == len(cells) and (np.diff(values) == 1).all():
        return "counts the rows"
    return "holds a whole number of its own in every row" if _ID_NAME.search(name) else None


def describe_column(cells: Cells, name: str) -> tuple[Finding, ...]:
    """Findings about a column that stays a feature: very many categories, text that is mostly numbers."""
    if cells.kind != "categorical":
        return ()
    found = []
    distinct = cells.distinct()
    if len(distinct) > MANY_CATEGORIES:
        found.append(
            Finding(
                "many_categories",
                name,
                f"{name!r} has {len(distinct):,} categories; most are too rare to learn from. Group them or ignore it.",
                values={"count": len(distinct)},
            )
        )
    numeric = sum(parse_numbers([t.replace(",", "")]) is not None for t in distinct)
    if len(distinct) >= 5 and numeric / len(distinct) >= 0.8:
        odd = next((t for t in sorted(distinct) if parse_numbers([t]) is None), "")
        text = f"{name!r} is read as text because of values such as {odd[:40]!r}, though most are numbers; correct or empty those cells if it is a quantity."
        if odd:
            found.append(Finding("mostly_numbers", name, text, values={"odd": odd[:40]}))
    return tuple(found)


def check_data(dataset: Dataset) -> tuple[Finding, ...]:
    """Duplicates across splits, leaking columns, imbalance, classes and categories that a split lacks. Nothing is changed."""
    train = dataset.train
    found: list[Finding] = []
    found += duplicates(dataset)
    if train.labels is not None:
        for j, column in enumerate(dataset.columns):
            finding = leak(train.table.values[:, j], column, np.asarray(train.labels), outputs=dataset.outputs)
            found += [finding] if finding else []
        found += class_findings(dataset)
    for j, column in enumerate(dataset.columns):
        if column.kind != "numeric":
            new = sum(int((s.table.values[:, j] == UNSEEN).sum()) for s in (dataset.validation, dataset.test))
            if new:
                rows = f"{new:,} validation or test row{'s have' if new > 1 else ' has'}"
                found.append(
                    Finding(
                        "unseen_category",
                        column.name,
                        f"{rows} a category of {column.name!r} that training lacks.",
                        "info",
                        {"rows": new},
                    )
                )
    return tuple(found)


def duplicates(dataset: Dataset) -> list[Finding]:
    """Test rows whose features also occur in training or validation, and validation rows that occur in training."""
    keys = {
        name: _row_keys(split)
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    train, before = set(keys["train"]), set(keys["train"]) | set(keys["validation"])
    found = []
    for name, known, where in (("test", before, "training or validation"), ("validation", train, "training")):
        count = sum(key in known for key in keys[name])
        if count:
            share = count / len(keys[name])
            text = (
                f"{count:,} of {len(keys[name]):,} {name} rows ({share:.1%}) have exactly the features of a {where} row; "
                f"figures on {name} rows may flatter. Remove repeated rows, or split by a group column."
            )
            found.append(
                Finding("duplicate_rows", None, text, values={"part": name, "rows": count, "n": len(keys[name])})
            )
    return found


def _row_keys(split: Split) -> list[bytes]:
    values = split.table.values + 0.0  # −0.0 becomes 0.0
    values[np.isnan(values)] = np.nan  # one bit pattern for every NaN
    return [row.tobytes() for row in values]


def leak(values: Floats, column: Column, labels: Floats | Ints, *, outputs: int) -> Finding | None:
    """A warning when one feature alone gives the target away on training rows.

    Numeric features: the area under the ROC curve of every pair of classes, or for regression R² and squared rank
    correlation, is at least .999. Categories: the share of rows whose class (or, for regression, the share of variance)
    the category determines is at least .999, while a category holds five rows or more on average.
    """
    known = ~np.isnan(values)
    x, y = values[known], np.asarray(labels, dtype=np.float64)[known]
    if len(x) < ENOUGH or known.mean() < 0.5 or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return None
    if column.kind == "categorical":
        if len(np.unique(x)) * 5 > len(x):
            return None
        strength = _purity(x, y) if outputs > 1 else _explained(x, y)
    elif outputs > 1:
        strength = _smallest_pair_auc(x, y)
    else:
        strength = max(_correlation(x, y) ** 2, _correlation(_ranks(x), _ranks(y)) ** 2)
    if strength < ALMOST:
        return None
    text = f"{column.name!r} alone predicts the target almost perfectly; check that it is known before the outcome, else give it the role ignore."
    return Finding("leak", column.name, text)


def _smallest_pair_auc(x: Floats, y: Floats) -> float:
    """Smallest AUC over pairs of classes (direction free); for two classes the AUC of the feature as a score."""
    groups = [x[y == k] for k in np.unique(y)]
    smallest = 1.0
    for a, first in enumerate(groups):
        for second in groups[a + 1 :]:
            ranks = _ranks(np.concatenate([first, second]))
            u = ranks[: len(first)].sum() - len(first) * (len(first) + 1) / 2
            auc = u / (len(first) * len(second))
            smallest = min(smallest, max(auc, 1 - auc))
            if smallest < ALMOST:
                return float(smallest)
    return float(smallest)


def _purity(x: Floats, y: Floats) -> float:
    """Share of rows whose class is the commonest of their category; 0 when always answering the commonest class does as well."""
    table = np.zeros((len(np.unique(x)), len(np.unique(y))))
    np.add.at(table, (np.unique(x, return_inverse=True)[1], np.unique(y, return_inverse=True)[1]), 1)
    pure, constant = table.max(axis=1).sum() / len(x), table.sum(axis=0).max() / len(x)
    return float(pure) if pure > constant and constant < ALMOST else 0.0


def _explained(x: Floats, y: Floats) -> float:
    """Share of the target's variance between categories (η²)."""
    code = np.unique(x, return_inverse=True)[1]
    mean = np.bincount(code, y) / np.bincount(code)
    return float(1 - ((y - mean[code]) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _correlation(x: Floats, y: Floats) -> float:
    scale = max(float(np.abs(x).max()), 1e-300), max(float(np.abs(y).max()), 1e-300)
    a, b = x / scale[0], y / scale[1]  # so that squares of huge values do not overflow
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _ranks(x: Floats) -> Floats:
    """Ranks from 1; ties share their mean."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)


def class_findings(dataset: Dataset) -> list[Finding]:
    """Rare classes in training, and classes that validation or test lack."""
    found: list[Finding] = []
    labels = np.asarray(dataset.train.labels)
    for k, name in enumerate(dataset.classes):
        count = int((labels == k).sum())
        if count / len(labels) < RARE:
            text = f"The class {name!r} is rare: {count:,} of {len(labels):,} training rows ({count / len(labels):.1%}); accuracy alone says little."
            found.append(
                Finding("imbalance", dataset.target, text, "info", {"class": name, "rows": count, "n": len(labels)})
            )
        for split_name, split in (("validation", dataset.validation), ("test", dataset.test)):
            if split.labels is not None and not (split.labels == k).any():
                text = f"The {split_name} rows have no {name!r}; nothing can be said about this class there."
                found.append(Finding("class_absent", dataset.target, text, values={"part": split_name, "class": name}))
    return found

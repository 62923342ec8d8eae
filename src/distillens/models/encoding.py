"""`Encoding`: from raw coded columns to the numbers a linear model, a tree or a network sees.

Per raw feature, in order:
  numeric      one column (x − mean) / scale, missing → `fill` first; then, where training had missing values and
               indicators are wanted, one 0/1 column "missing". With `standardize=False` mean = 0 and scale = 1; with
               `fill_missing=False` NaN stays NaN (for trees, which split on it).
  boolean      like numeric, on the codes 0 and 1.
  categorical  one 0/1 column per category; missing and unseen rows are all zeros, and where training had missing
               values and indicators are wanted one more 0/1 column "missing" (also with `fill_missing=False`: a tree could
               not tell missing from unseen otherwise).

Values pass through float32 first, so that an exported file that reads float32 sees exactly the same numbers; numbers beyond
its range become infinite there, and `fit` refuses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.errors import DataError

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table

Part = Literal["value", "category", "missing"]


def as_float32(values: Floats) -> Floats:
    """The same numbers rounded to float32, as float64; beyond ±3.4e38 they become infinite (no warning: a tree can live with that)."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Encoding:
    """A fitted encoding of F raw features to D columns.

    feature: (D,) raw feature of each encoded column. part: what each encoded column holds. code: (D,) category code, −1 elsewhere.
    mean, scale, fill: (F,) per raw feature; 0, 1 and 0 for categorical ones. fill_missing: whether NaN is filled.
    """

    columns: tuple[Column, ...]
    feature: Ints
    part: tuple[Part, ...]
    code: Ints
    mean: Floats
    scale: Floats
    fill: Floats
    fill_missing: bool

    @property
    def width(self) -> int:
        """D, the number of encoded columns."""
        return len(self.feature)

    @property
    def names(self) -> tuple[str, ...]:
        """Readable names of the encoded columns: `age`, `purpose = car`, `age is missing`."""
        named = []
        for j, part, code in zip(self.feature, self.part, self.code, strict=True):
            column = self.columns[int(j)]
            suffix = (
                f" = {column.categories[int(code)]}"
                if part == "category"
                else " is missing"
                if part == "missing"
                else ""
            )
            named.append(column.name + suffix)
        return tuple(named)

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        weights: Floats | None = None,
        standardize: bool = True,
        fill_missing: bool = True,
        indicators: bool = True,
    ) -> Encoding:
        """Learn means, scales, fill values (weighted means) and which features need a missing indicator.

        DataError when a number is infinite or beyond the range of float32.
        """
        w = np.ones(len(table)) if weights is None else weights
        values = as_float32(table.values)
        for column, infinite in zip(table.columns, np.isinf(values).T, strict=True):
            if infinite.any():
                raise DataError(
                    f"The feature {column.name!r} holds infinite numbers or numbers beyond ±3.4e38; rescale it or leave those rows out."
                )
        f = values.shape[1]
        mean, scale, fill = np.zeros(f), np.ones(f), np.zeros(f)
        parts: list[tuple[int, Part, int]] = []
        for j, column in enumerate(table.columns):
            known = ~np.isnan(values[:, j])
            if column.kind == "boolean":
                known &= values[:, j] >= 0
            if column.kind == "categorical":
                parts.extend((j, "category", c) for c in range(len(column.categories)))
            else:
                x, wx = values[known, j], w[known]
                total = wx.sum()
                if total > 0:
                    centre = float((wx * x).sum() / total)
                    spread = float(np.sqrt((wx * (x - centre) ** 2).sum() / total))
                    fill[j] = np.float32(centre)
                    if standardize:
                        mean[j], scale[j] = centre, spread if spread > 1e-12 * max(1.0, abs(centre)) else 1.0
                parts.append((j, "value", -1))
            if indicators and (fill_missing or column.kind == "categorical") and not known.all():
                parts.append((j, "missing", -1))
        feature = np.array([j for j, _, _ in parts], dtype=np.int64)
        code = np.array([c for _, _, c in parts], dtype=np.int64)
        return cls(table.columns, feature, tuple(p for _, p, _ in parts), code, mean, scale, fill, fill_missing)

    def __call__(self, values: Floats, *, only: Ints | None = None) -> Floats:
        """(n, D) float64 encoded rows from (n, F) raw codes; with `only`, just those encoded columns, in that order.

        Unseen boolean codes (−1) count as missing.
        """
        wanted = np.arange(self.width) if only is None else only
        encoded = np.empty((len(wanted), len(values))).T  # column by column, so let each column lie in one piece
        known: dict[int, tuple[Floats, Bools]] = {}
        for place, d in enumerate(wanted):
            j, part = int(self.feature[d]), self.part[d]
            if j not in known:
                x = as_float32(values[:, j])
                known[j] = x, np.isnan(x) | (x < 0) if self.columns[j].kind == "boolean" else np.isnan(x)
            x, unknown = known[j]
            if part == "category":
                encoded[:, place] = x == self.code[d]
            elif part == "missing":
                encoded[:, place] = unknown
            else:
                filled = np.where(unknown, self.fill[j] if self.fill_missing else np.nan, x)
                encoded[:, place] = (filled - self.mean[j]) / self.scale[j]
        return encoded

    def to_raw(self, encoded_values: Floats) -> Floats:
        """(n, F) sums of (n, D) per-column quantities over each raw feature: contributions by the user's features."""
        belongs = (self.feature[:, None] == np.arange(len(self.columns))).astype(np.float64)
        return np.asarray(encoded_values @ belongs, dtype=np.float64)

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """JSON-able meta and arrays, names prefixed with `encoding.`."""
        meta = {
            "columns": [c.to_json() for c in self.columns],
            "part": list(self.part),
            "fill_missing": self.fill_missing,
        }
        names = ("feature", "code", "mean", "scale", "fill")
        return meta, {f"encoding.{name}": getattr(self, name) for name in names}

    @classmethod
    def from_record(cls, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Encoding:
        """The inverse of `to_record`; `arrays` may hold other things too."""
        columns = tuple(Column.from_json(c) for c in meta["columns"])
        return cls(columns, arrays["encoding.feature"], tuple(meta["part"]), arrays["encoding.code"], arrays["encoding.mean"],
                   arrays["encoding.scale"], arrays["encoding.fill"], bool(meta["fill_missing"]))  # fmt: skip

"""Boosted trees (scikit-learn's HistGradientBoosting) as arrays: stored without pickle, queried through scikit-learn's own predictor.

This is the only file that touches that predictor, which is private there: a tree is a structured array of nodes whose dtype may
differ between versions. Storing splits it into one array per field; reading builds the installed version's dtype back, and a field
that is missing on either side is an ArtefactError.

Rows are prepared here once and for all: categorical features first (as HistGradientBoosting orders them), their codes mapped to
0 … m−1 for the m categories kept, and NaN for missing, unseen and the rarest ones beyond the 255 that the algorithm can hold.
Unseen boolean codes (−1) count as missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.errors import ArtefactError
from distillens.models.base import from_log_odds
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.models.base import Output

CHUNK = 4_096  # rows predicted at a time: they stay in the processor's cache while every tree looks at them


@dataclass(frozen=True, eq=False)
class Preparation:
    """From coded columns to what the trees see.

    order: (F,) raw feature at each position. categorical: (F,) by position. maps: per position the (C,) new code of each category (NaN: not kept), or None.
    """

    columns: tuple[Column, ...]
    order: Ints
    categorical: Bools
    maps: tuple[Floats | None, ...]

    @classmethod
    def fit(cls, table: Table, *, weights: Floats | None = None, most: int = 255) -> Preparation:
        """Keep the categories that occur, at most the `most` heaviest of each feature."""
        w = np.ones(len(table)) if weights is None else weights
        is_categorical = np.array([c.kind == "categorical" for c in table.columns], dtype=np.bool_)
        order = np.concatenate([np.flatnonzero(is_categorical), np.flatnonzero(~is_categorical)]).astype(np.int64)
        maps: list[Floats | None] = []
        for j in order:
            if not is_categorical[j]:
                maps.append(None)
                continue
            x = table.values[:, j]
            known = x >= 0
            count = len(table.columns[j].categories)
            mass = np.bincount(x[known].astype(np.int64), weights=w[known], minlength=count)
            seen = np.bincount(x[known].astype(np.int64), minlength=count) > 0
            kept = np.sort(np.argsort(-np.where(seen, mass, -1.0), kind="stable")[: min(most, int(seen.sum()))])
            code = np.full(count, np.nan)
            code[kept] = np.arange(len(kept))
            maps.append(code)
        return cls(table.columns, order, is_categorical[order], tuple(maps))

    def __call__(self, values: Floats) -> Floats:
        """(n, F) float64 in the order of the trees."""
        out = np.empty(values.shape)
        for place, (j, code) in enumerate(zip(self.order, self.maps, strict=True)):
            x = values[:, j]
            if code is not None:
                known = (x >= 0) & (x < len(code))
                if len(code):
                    out[:, place] = np.where(known, code[np.where(known, x, 0).astype(np.int64)], np.nan)
                else:
                    out[:, place] = np.nan
            elif self.columns[int(j)].kind == "boolean":
                out[:, place] = np.where(x < 0, np.nan, x)
            else:
                out[:, place] = x
        return out


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Fitted boosted trees.

    baseline: (K',) starting score. fields: node fields of all trees one after the other; starts: (trees + 1,) where each begins.
    Trees go round by round, K' a round. bitsets: (categorical splits, 8) uint32, categories that go left; bitset_starts: (trees + 1,).
    known_bitsets: (categorical features, 8) uint32 and feature_map: (F,) uint32, as scikit-learn's predictor wants them.
    K' = 1 for regression and binary tasks (log-odds of class index 1), K for more classes.
    """

    kind: ClassVar[str] = "boosted_trees"

    classes: tuple[str, ...]
    label: str
    preparation: Preparation
    baseline: Floats
    fields: dict[str, NDArray[Any]]
    starts: Ints
    bitsets: NDArray[np.uint32]
    bitset_starts: Ints
    known_bitsets: NDArray[np.uint32]
    feature_map: NDArray[np.uint32]

    @classmethod
    def from_sklearn(
        cls,
        estimator: Any,
        preparation: Preparation,
        *,
        classes: tuple[str, ...],
        label: str,
        rounds: int | None = None,
    ) -> BoostedTrees:
        """Take over a HistGradientBoosting estimator fitted on prepared rows; only its first `rounds` rounds when given."""
        trees = [tree for a_round in estimator._predictors[:rounds] for tree in a_round]
        nodes = np.concatenate([tree.nodes for tree in trees])
        sizes, splits = [len(tree.nodes) for tree in trees], [len(tree.raw_left_cat_bitsets) for tree in trees]
        known, feature_map = estimator._bin_mapper.make_known_categories_bitsets()
        return cls(
            classes,
            label,
            preparation,
            np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1),
            {name: np.ascontiguousarray(nodes[name]) for name in nodes.dtype.fields or {}},
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate([tree.raw_left_cat_bitsets for tree in trees]).astype(np.uint32).reshape(-1, 8),
            np.concatenate([[0], np.cumsum(splits)]).astype(np.int64),
            np.asarray(known, dtype=np.uint32).reshape(-1, 8),
            np.asarray(feature_map, dtype=np.uint32),
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.preparation.columns

    @property
    def output(self) -> Output:
        return "logits" if self.classes else "values"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def trees(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def _predictors(self) -> list[Any]:
        from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE as DTYPE
        from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

        if set(DTYPE.names) != set(self.fields):
            import sklearn

            raise ArtefactError(
                f"The boosted trees {self.label!r} were stored with the node fields {sorted(self.fields)}, but scikit-learn "
                f"{sklearn.__version__} expects {sorted(DTYPE.names)}; use the version that the run's manifest names."
            )
        nodes = np.zeros(int(self.starts[-1]), dtype=DTYPE)
        for name, values in self.fields.items():
            if not np.can_cast(values.dtype, DTYPE[name], casting="same_kind"):
                raise ArtefactError(
                    f"The boosted trees {self.label!r} hold {values.dtype} in {name!r}, but scikit-learn expects {DTYPE[name]}."
                )
            nodes[name] = values
        pairs = zip(
            zip(self.starts[:-1], self.starts[1:], strict=True),
            zip(self.bitset_starts[:-1], self.bitset_starts[1:], strict=True),
            strict=True,
        )
        return [TreePredictor(nodes[a:b], self.bitsets[c:d], self.bitsets[c:d]) for (a, b), (c, d) in pairs]

    def scores(self, inputs: Table) -> Floats:
        """(n, K') raw scores, equal to scikit-learn's decision_function (or predict) to the bit.

        As many threads as OpenMP was told to use (OMP_NUM_THREADS, cgroup limits).
        """
        from concurrent.futures import ThreadPoolExecutor

        from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

        out = np.empty((len(inputs), len(self.baseline)))
        starts = range(0, len(inputs), CHUNK)
        self._predictors  # noqa: B018 (built once, before threads share it)

        def fill(start: int) -> None:
            out[start : start + CHUNK] = self._chunk_scores(inputs.values[start : start + CHUNK])

        # A thread takes whole chunks: scikit-learn's own threads would meet at a barrier after every tree. It lets go of the
        # interpreter while it predicts.
        workers = min(_openmp_effective_n_threads(), len(starts))
        if workers <= 1:
            for start in starts:
                fill(start)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(fill, starts))
        return out

    def _chunk_scores(self, values: Floats) -> Floats:
        rows = self.preparation(values)
        width = len(self.baseline)
        total = np.zeros((len(rows), width), order="F")
        total += self.baseline
        for i, tree in enumerate(self._predictors):
            total[:, i % width] += tree.predict(rows, self.known_bitsets, self.feature_map, 1)
        return total

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) raw margins as logits, binary (−s/2, s/2), or values."""
        scores = self.scores(inputs)
        return from_log_odds(scores[:, 0]) if len(self.classes) == 2 else scores

    def complexity(self) -> dict[str, int]:
        """trees, leaves, depth, parameters (thresholds and leaf values), size_bytes."""
        arrays = self.to_record()[1]
        leaves = int(self.fields["is_leaf"].sum())
        return {
            "trees": self.trees,
            "leaves": leaves,
            "depth": int(self.fields["depth"].max()),
            "parameters": int(self.starts[-1]),
            "size_bytes": int(sum(a.nbytes for a in arrays.values())),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        prepared = self.preparation
        arrays: dict[str, NDArray[Any]] = {f"node.{name}": values for name, values in self.fields.items()}
        arrays |= {f"map.{place}": code for place, code in enumerate(prepared.maps) if code is not None}
        arrays |= {
            "order": prepared.order,
            "categorical": prepared.categorical,
            "baseline": self.baseline,
            "starts": self.starts,
        }
        names = ("bitsets", "bitset_starts", "known_bitsets", "feature_map")
        columns = [column.to_json() for column in prepared.columns]
        return {"columns": columns, "classes": list(self.classes), "label": self.label}, arrays | {
            name: getattr(self, name) for name in names
        }

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> BoostedTrees:
        columns = tuple(Column.from_json(c) for c in meta["columns"])
        maps = tuple(arrays[f"map.{place}"] if flag else None for place, flag in enumerate(arrays["categorical"]))
        prepared = Preparation(columns, arrays["order"], arrays["categorical"], maps)
        fields = {name.removeprefix("node."): values for name, values in arrays.items() if name.startswith("node.")}
        return cls(tuple(meta["classes"]), meta["label"], prepared, arrays["baseline"], fields, arrays["starts"], arrays["bitsets"],
                   arrays["bitset_starts"], arrays["known_bitsets"], arrays["feature_map"])  # fmt: skip

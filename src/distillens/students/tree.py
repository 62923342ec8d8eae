"""Tree student: one small tree on the teacher's probabilities or values (Breiman & Shang's "born-again tree" idea, 1996).

Least squares on K probabilities chooses the same splits as Gini on rows replicated once per class with the probabilities as weights,
because both impurities differ by a constant of the data. Grown best first: the split that explains most comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Split
    from distillens.models.base import Model
    from distillens.models.tree import TreeModel
    from distillens.transfer.targets import Targets


@dataclass(frozen=True)
class TreeStudent:
    """max_leaves: leaves at most. min_rows: rows in a leaf at least.

    monotone: {feature: −1 | 0 | +1} for numeric and boolean features, binary tasks (the probability of the second class) and regression.
    """

    kind: ClassVar[str] = "tree"
    readable: ClassVar[bool] = True

    max_leaves: int = 16
    min_rows: int = 5
    monotone: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        if self.max_leaves < 2:
            raise DataError(f"max_leaves must be at least 2, got {self.max_leaves}.")
        if self.min_rows < 1:
            raise DataError(f"min_rows must be at least 1, got {self.min_rows}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> TreeModel:
        """`seed` only decides between splits that are equally good. Raises DataError."""
        del validation, teacher, out
        import numpy as np
        from sklearn.tree import DecisionTreeRegressor

        from distillens.errors import DataError
        from distillens.models.encoding import Encoding
        from distillens.models.monotone import signs
        from distillens.models.tree import TreeModel, float32_floor

        wanted = signs(self.monotone, targets.table)
        if wanted.any() and len(targets.classes) > 2:
            raise DataError(
                "Monotone constraints of a tree student are for binary tasks and regression, not for more classes."
            )
        encoding = Encoding.fit(targets.table, weights=targets.weights, standardize=False, fill_missing=False)
        x = encoding(targets.table.values).astype(np.float32)
        # Two probabilities hold one number: fitting the second class alone gives the same tree, and constraints need one output.
        y = targets.probabilities if targets.classes else targets.outputs
        y = y[:, 1:] if len(targets.classes) == 2 else y
        sign = np.array(
            [wanted[j] if part == "value" else 0 for j, part in zip(encoding.feature, encoding.part, strict=True)]
        )
        fitted = DecisionTreeRegressor(
            max_leaf_nodes=self.max_leaves,
            min_samples_leaf=min(self.min_rows, len(x)),
            monotonic_cst=sign if sign.any() else None,
            random_state=seed,
        ).fit(x, y, sample_weight=targets.weights)
        tree = fitted.tree_
        value = np.asarray(tree.value[:, :, 0], dtype=np.float64)
        if len(targets.classes) == 2:
            value = np.column_stack([1 - value[:, 0], value[:, 0]])
        inner = tree.feature >= 0
        return TreeModel(
            targets.table.columns,
            targets.classes,
            "tree",
            encoding,
            np.where(inner, tree.feature, -1).astype(np.int64),
            np.where(inner, float32_floor(tree.threshold), 0.0),
            np.asarray(tree.children_left, dtype=np.int64),
            np.asarray(tree.children_right, dtype=np.int64),
            np.asarray(tree.missing_go_to_left, dtype=np.bool_) & inner,
            value,
        )

"""An ordered rule list: IF … ELSE IF … ELSE. The first rule whose conditions all hold gives the answer; nothing else counts.

A condition asks one encoded column: float32(x) ≤ threshold, or float32(x) > threshold. A missing number fulfils neither. Thresholds are
float32 numbers, so that no exported row changes sides. A level that is "not" asked for holds for missing and unseen values too.

A rule list has no contributions that add up: what explains a row is the rule that fired and those before it that did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.models.encoding import Encoding
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.models.base import Output


@dataclass(frozen=True, eq=False)
class RuleListModel:
    """A fitted list of R rules with C conditions in all.

    rule: (C,) the rule each condition belongs to, ascending. feature: (C,) encoded column asked. threshold: (C,). below: (C,) ≤ or >.
    value: (R+1, K) probabilities or values; the last row is the ELSE. coverage: (R+1,) share of the training weight that each answers.
    encoding: one 0/1 column per category, numbers as they are, NaN kept.
    """

    kind: ClassVar[str] = "rules"

    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    label: str
    encoding: Encoding
    rule: Ints
    feature: Ints
    threshold: Floats
    below: Bools
    value: Floats
    coverage: Floats

    @property
    def output(self) -> Output:
        return "probabilities" if self.classes else "values"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def rules(self) -> int:
        """R, without the ELSE."""
        return len(self.value) - 1

    def fires(self, inputs: Table) -> Ints:
        """(n,) the rule that answers each row; R = the ELSE."""
        used, place = np.unique(self.feature, return_inverse=True)
        encoded = self.encoding(inputs.values, only=used)
        fired = np.full(len(inputs), self.rules, dtype=np.int64)
        waiting = np.arange(len(inputs))
        for r in range(self.rules):
            holds = np.ones(len(waiting), dtype=np.bool_)
            for c in np.flatnonzero(self.rule == r):
                x = encoded[waiting, place[c]]
                holds &= x <= self.threshold[c] if self.below[c] else x > self.threshold[c]
            fired[waiting[holds]] = r
            waiting = waiting[~holds]
        return fired

    def part_of(self, inputs: Table) -> Ints:
        """(n,) the part of the model that answers each row, one of `parts`: the number of the rule, the ELSE last."""
        return self.fires(inputs)

    @property
    def parts(self) -> tuple[int, ...]:
        """The rules by number, and the ELSE."""
        return tuple(range(self.rules + 1))

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) probabilities or values."""
        return np.asarray(self.value[self.fires(inputs)], dtype=np.float64)

    def condition(self, c: int) -> str:
        """One condition in words."""
        d = int(self.feature[c])
        column, part, below = self.columns[int(self.encoding.feature[d])], self.encoding.part[d], bool(self.below[c])
        if part == "category":
            return f"{column.name} {'≠' if below else '='} {column.categories[int(self.encoding.code[d])]}"
        if part == "missing":
            return f"{column.name} is {'not ' if below else ''}missing"
        if column.kind == "boolean":
            return f"{column.name} = {column.categories[0 if below else 1]}"
        return f"{column.name} {'≤' if below else '>'} {self.threshold[c]:.6g}"

    def describe(self) -> dict[str, Any]:
        """What people read: rules in order, each with its conditions, the answer and the share of training rows; then the ELSE."""
        rules = [
            {
                "conditions": [self.condition(int(c)) for c in np.flatnonzero(self.rule == r)],
                "features": [self.columns[int(self.encoding.feature[d])].name for d in self.feature[self.rule == r]],
                "value": self.value[r].tolist(),
                "coverage": float(self.coverage[r]),
            }
            for r in range(self.rules)
        ]
        return {
            "form": "rules",
            "scale": "probability" if self.classes else "value",
            "outputs": list(self.classes) or ["value"],
            "rules": rules,
            "otherwise": {"value": self.value[-1].tolist(), "coverage": float(self.coverage[-1])},
        }

    def complexity(self) -> dict[str, int]:
        """rules (without the ELSE), conditions, parameters (thresholds and answers), size_bytes."""
        free = self.value.shape[1] - 1 if self.classes else 1
        return {
            "rules": self.rules,
            "conditions": len(self.rule),
            "parameters": int(len(self.rule) + len(self.value) * free),
            "size_bytes": int(sum(a.nbytes for a in self.to_record()[1].values())),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        encoding, arrays = self.encoding.to_record()
        meta = {"encoding": encoding, "classes": list(self.classes), "label": self.label}
        names = ("rule", "feature", "threshold", "below", "value", "coverage")
        return meta, arrays | {name: getattr(self, name) for name in names}

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> RuleListModel:
        encoding = Encoding.from_record(meta["encoding"], arrays)
        return cls(encoding.columns, tuple(meta["classes"]), meta["label"], encoding, arrays["rule"], arrays["feature"],
                   arrays["threshold"], arrays["below"], arrays["value"], arrays["coverage"])  # fmt: skip

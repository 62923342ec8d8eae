"""`Student`: a family with its settings. `fit(targets) → Model`. A frozen dataclass; it *is* its recipe entry.

A student's module imports heavy libraries inside `fit`, never at the top: recipes are checked without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from distillens.data.base import Split
    from distillens.models.base import Model
    from distillens.transfer.targets import Targets


@runtime_checkable
class Student(Protocol):
    """A student family with its settings."""

    kind: ClassVar[str]
    readable: ClassVar[bool]  # people can read the fitted model (tree, linear, additive), not only query it

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> Model:
        """Learn from targets. `teacher` labels validation rows for model choice; None: choose by the labels.

        out: a folder for checkpoints and histories, or None. Raises DataError, TransferError.
        """
        ...


STUDENTS: dict[str, str] = {
    "network": "distillens.students.network:NetworkStudent",
    "linear": "distillens.students.linear:LinearStudent",
    "tree": "distillens.students.tree:TreeStudent",
    "additive": "distillens.students.additive:AdditiveStudent",
    "scorecard": "distillens.students.scorecard:ScorecardStudent",
    "rules": "distillens.students.rules:RulesStudent",
    "soft_tree": "distillens.students.soft_tree:SoftTreeStudent",
}

# A teacher is a family fitted on the labels (`Targets.from_labels`): it can be refitted for out-of-fold targets and the seed twin.
TEACHERS: dict[str, str] = {
    "boosted_trees": "distillens.students.boosted:BoostedTreesFamily",
    "network": "distillens.students.network:NetworkStudent",
    "linear": "distillens.students.linear:LinearStudent",
    "tree": "distillens.students.tree:TreeStudent",
    "additive": "distillens.students.additive:AdditiveStudent",
    "scorecard": "distillens.students.scorecard:ScorecardStudent",
    "rules": "distillens.students.rules:RulesStudent",
    "soft_tree": "distillens.students.soft_tree:SoftTreeStudent",
    "ensemble": "distillens.students.ensemble:EnsembleFamily",
}

"""Several teachers as one: families fitted on the same labels, each with a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from distillens.errors import InputError, did_you_mean
from distillens.run import stage_seed

if TYPE_CHECKING:
    from distillens.data.base import Split
    from distillens.models.base import Model
    from distillens.models.ensemble import EnsembleModel
    from distillens.transfer.targets import Targets


@dataclass(frozen=True)
class EnsembleFamily:
    """`{kind: ensemble, members: [{kind: boosted_trees}, {kind: network}], combine: mean}`: several teachers, asked as one.

    members: entries of teachers; the same entry twice is the same family with two seeds. weights: one positive number a member, in
    proportion; None: all alike. combine: "mean", or "confidence": for each row whoever is surer counts more (models/ensemble.py).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    kind: ClassVar[str] = "ensemble"
    readable: ClassVar[bool] = False

    members: tuple[Any, ...] = ({"kind": "boosted_trees"}, {"kind": "boosted_trees"})
    combine: Literal["mean", "confidence"] = "mean"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.members, (str, Mapping)) or len(self.members) < 2:
            raise InputError(
                f"members is a list of at least two teachers such as [{{kind: boosted_trees}}, {{kind: network}}], got {self.members!r}."
            )
        object.__setattr__(self, "members", tuple(_member(entry) for entry in self.members))
        if self.weights is not None:
            if len(self.weights) != len(self.members) or not all(0 < w < math.inf for w in self.weights):
                raise InputError(
                    f"weights has one positive number for each of the {len(self.members)} members, got {self.weights!r}."
                )
            object.__setattr__(self, "weights", tuple(float(w) for w in self.weights))
        if self.combine not in {"mean", "confidence"}:
            raise InputError(f"combine is mean or confidence, got {self.combine!r}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> EnsembleModel:
        """Fit every member on the same targets; its files lie in `out/member-0` and so on. Raises what the members raise."""
        from distillens.models.ensemble import EnsembleModel

        fitted = []
        for number, member in enumerate(self.members):
            folder = None if out is None else Path(out) / f"member-{number}"
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            own = stage_seed(seed, f"member {number}")
            fitted.append(member.fit(targets, validation=validation, teacher=teacher, seed=own, out=folder))
        weights = self.weights or (1.0,) * len(fitted)
        total = sum(weights)
        label = "ensemble of " + ", ".join(model.label for model in fitted)
        return EnsembleModel(tuple(fitted), tuple(w / total for w in weights), self.combine, label)


def _member(entry: Any) -> Any:
    """A family from a recipe entry; families pass through. InputError, with a suggestion, for unknown ones."""
    from pydantic import TypeAdapter, ValidationError

    from distillens.named import resolve
    from distillens.students.base import TEACHERS

    if not isinstance(entry, Mapping):
        if hasattr(entry, "fit"):
            return entry
        raise InputError(f"A member of an ensemble is a teacher such as {{kind: boosted_trees}}, got {entry!r}.")
    options = dict(entry)
    cls = resolve(str(options.pop("kind", "")), TEACHERS, what="teacher")
    known = [f.name for f in fields(cls)]
    for name in options:
        if name not in known:
            raise InputError(
                f"The member {entry.get('kind')!r} has no option {name!r}.{did_you_mean(str(name), known)}"
            )
    try:
        return TypeAdapter(cls).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"The member {entry.get('kind')!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from error

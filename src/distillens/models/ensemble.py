"""`EnsembleModel`: several models as one, by the mean of what they say or by who is surest about a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from distillens.errors import ModelError
from distillens.models.base import Model, Output, StorableModel, as_probabilities, evaluate
from distillens.models.callable import align_classes
from distillens.models.store import KINDS, fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats

Combine = Literal["mean", "confidence"]


@dataclass(frozen=True, eq=False)
class EnsembleModel:
    """Members of the same classes, or all of values. weights: (M,) positive, with sum 1.

    mean: p = Σ_m w_m p_m. confidence: the weight of a member differs by row, w_m (1 − H(p_m) / log K), scaled to sum 1: whoever is surer
    counts more, and a member that is undecided between all classes does not count; where all are, w_m. Values: the weighted mean.
    """

    kind: ClassVar[str] = "ensemble"

    members: tuple[Any, ...]
    weights: tuple[float, ...]
    combine: Combine = "mean"
    label: str = "ensemble"

    def __post_init__(self) -> None:
        if len(self.members) < 2 or len(self.weights) != len(self.members):
            raise ModelError(
                f"An ensemble has at least two members and as many weights, got {len(self.members)} and {len(self.weights)}."
            )
        first = self.members[0]
        if any(bool(m.classes) != bool(first.classes) for m in self.members):
            raise ModelError("The members of an ensemble all tell classes apart, or all give values.")
        aligned = tuple(align_classes(member, tuple(first.classes)) for member in self.members)
        object.__setattr__(self, "members", aligned)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.members[0].classes)

    @property
    def output(self) -> Output:
        return "probabilities" if self.classes else "values"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The raw columns that its members take; empty for images."""
        return tuple(getattr(self.members[0], "columns", ()))

    @property
    def fingerprint(self) -> str | None:
        """None when a member has none."""
        if any(member.fingerprint is None for member in self.members):
            return None
        stored: Any = self
        return fingerprint(stored)

    def complexity(self) -> dict[str, int]:
        """The members' own counts, added up."""
        total: dict[str, int] = {}
        for member in self.members:
            for name, count in (member.complexity() if hasattr(member, "complexity") else {}).items():
                if isinstance(count, int):
                    total[name] = total.get(name, 0) + count
        return total

    def __call__(self, inputs: Any) -> Floats:
        """(n, K) probabilities, or (n, 1) values."""
        said = [evaluate(member, inputs) for member in self.members]
        if not self.classes:
            return np.asarray(sum(w * values for w, values in zip(self.weights, said, strict=True)))
        p = np.stack([as_probabilities(a, m.output) for a, m in zip(said, self.members, strict=True)])  # (M, n, K)
        weights = np.repeat(np.array(self.weights)[:, None], p.shape[1], axis=1)
        if self.combine == "confidence":
            sure = weights * np.clip(1 - entr(p).sum(axis=2) / np.log(p.shape[2]), 0, None)
            total = sure.sum(axis=0)
            weights = np.where(total > 1e-12, sure / np.where(total > 1e-12, total, 1.0), weights)
        return np.asarray((weights[:, :, None] * p).sum(axis=0))

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Raises ModelError when a member was not made by distillens and has no storable form."""
        members: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for number, member in enumerate(self.members):
            if not isinstance(member, StorableModel) or member.kind not in KINDS:
                raise ModelError(f"The member {member.label!r} of the ensemble has no storable form.")
            meta, own = member.to_record()
            members.append({"kind": member.kind, "model": meta})
            arrays |= {f"{number}/{name}": array for name, array in own.items()}
        return {"label": self.label, "weights": list(self.weights), "combine": self.combine, "members": members}, arrays

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> EnsembleModel:
        from distillens.named import load_object

        members: list[Model] = []
        for number, record in enumerate(meta["members"]):
            own = {
                name.split("/", 1)[1]: array for name, array in arrays.items() if name.split("/", 1)[0] == str(number)
            }
            kind = cast("type[StorableModel]", load_object(KINDS[record["kind"]]))
            members.append(kind.from_record(record["model"], own))
        return cls(tuple(members), tuple(float(w) for w in meta["weights"]), meta["combine"], str(meta["label"]))

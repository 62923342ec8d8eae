"""What of a teacher's answers is kept on disk: all logits or the largest, layers, maps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from distillens.errors import InputError
from distillens.store import JSON
from distillens.transfer.objectives.base import Objective, Tap, View

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.data.images import Images

Kind = Literal["float32", "float16"]


class Teacher(Protocol):
    """What can be asked for a cache: a network with its own preprocessing. `models/image_network.py` has one."""

    @property
    def label(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str:
        """Content hash of weights and preprocessing."""
        ...

    @property
    def module(self) -> nn.Module: ...
    def to_tensor(self, inputs: Images) -> Tensor: ...


class MapObjective(Objective, Protocol):
    """An objective that compares maps and can say the teacher's beforehand."""

    def teacher_map(self, teacher: View) -> Tensor:
        """(B, …) the teacher's map, a constant."""
        ...


@dataclass(frozen=True)
class Stored:
    """`{top: 10, layers: [features], dtype: float16}`: what of the teacher is kept.

    top: the k largest probabilities of a row and what all others have together; None: all logits. Of k probabilities the others come
    back as equal shares of the rest: nothing is renormalised, and how much was left out is known for every row (`tail`).
    layers: taps whose activations are kept, averaged over positions (pooled) or whole. map: an objective such as
    `{kind: gradient_matching}` whose maps of the teacher are kept. dtype: numbers on disk; sums are float32 all the same.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    top: int | None = None
    layers: tuple[Tap, ...] = ()
    pooled: bool = True
    map: Any = None
    dtype: Kind = "float32"

    def __post_init__(self) -> None:
        from distillens.transfer.objectives.base import as_objective

        if self.top is not None and (type(self.top) is not int or self.top < 1):
            raise InputError(f"top is a whole number of at least 1, or nothing for all logits, got {self.top!r}.")
        if self.dtype not in ("float32", "float16"):
            raise InputError(f"dtype is float32 or float16, got {self.dtype!r}.")
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.map is not None:
            objective = as_objective(self.map)
            if not hasattr(objective, "teacher_map"):
                raise InputError(
                    f"The objective {objective.kind!r} compares no maps that could be kept; map is one of gradient_matching, "
                    "gradcam_matching, attribution_matching."
                )
            object.__setattr__(self, "map", objective)

    def to_json(self) -> JSON:
        return asdict(self) | {"layers": list(self.layers), "map": None if self.map is None else repr(self.map)}


def to_top(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest of (B, C) log-probabilities: their classes (B, k), themselves (B, k), and the log of what is left (B,)."""
    import torch

    log_p = torch.log_softmax(logits.float(), dim=1)
    values, classes = log_p.topk(k, dim=1)
    rest = log_p.scatter(1, classes, -torch.inf).logsumexp(dim=1)
    return classes, values, rest


def from_top(classes_of_top: Tensor, log_probabilities: Tensor, tail: Tensor, *, classes: int) -> Tensor:
    """(B, C) log-probabilities from what `to_top` keeps: the classes that are not there share the tail equally."""

    k = classes_of_top.shape[1]
    each = (tail - math.log(classes - k))[:, None].expand(-1, classes)
    return each.clone().scatter(1, classes_of_top.long(), log_probabilities)

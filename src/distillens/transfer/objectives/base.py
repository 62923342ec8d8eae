"""`Objective`: one knowledge-transfer loss. A frozen dataclass with its options; it *is* its recipe entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from distillens.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

Tap = str  # "layer3.1:output": a module's input or output by its path


@dataclass(frozen=True, eq=False)
class View:
    """What one model says about a batch of B rows, live or from a cache: an objective cannot tell.

    outputs: (B, K) logits, or standardised values for regression. inputs: (B, D) encoded rows. layers: activations by tap.
    explanations: (B, units) attributions where an objective asked for them.
    """

    outputs: Tensor
    inputs: Tensor
    layers: Mapping[Tap, Tensor] = field(default_factory=dict)
    explanations: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known about the B rows of a batch.

    weights: (B,) row weights, with mean 1 over all training rows. labels: (B,) class indices or standardised values as
    floats, NaN where unknown.
    """

    weights: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Loss:
    """value: scalar, differentiable. per_example: (B,) for pointwise losses, None for relational ones."""

    value: Tensor
    per_example: Tensor | None = None

    @classmethod
    def pointwise(cls, per_example: Tensor, batch: Batch) -> Loss:
        """The weighted batch mean of a pointwise loss: an unbiased estimate of its weighted mean over all rows."""
        return cls((batch.weights.to(per_example.dtype) * per_example).mean(), per_example)


@runtime_checkable
class Objective(Protocol):
    """A knowledge-transfer loss with its options.

    student_taps, teacher_taps: layers it wants to see. needs_gradient: whether it differentiates the student's inputs.
    """

    @property
    def kind(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def student_taps(self) -> tuple[Tap, ...]: ...
    @property
    def teacher_taps(self) -> tuple[Tap, ...]: ...
    @property
    def needs_gradient(self) -> bool: ...
    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss: ...


OBJECTIVES: dict[str, str] = {
    "kd": "distillens.transfer.objectives.kd:KD",
    "mse": "distillens.transfer.objectives.mse:MSE",
}


def as_objective(entry: Objective | Mapping[str, Any]) -> Objective:
    """An objective from a recipe entry such as `{kind: kd, weight: 0.5, temperature: 4}`; objectives pass through.

    Raises InputError, with a suggestion, for unknown kinds and options.
    """
    from distillens.named import resolve

    if not isinstance(entry, Mapping):
        if isinstance(entry, Objective):
            return entry
        raise InputError(f"An objective is an entry such as {{kind: kd, weight: 0.5}}, got {entry!r}.")
    options = {str(k): v for k, v in entry.items()}
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise InputError(f"An objective needs a kind, got {dict(entry)!r}.{did_you_mean('', OBJECTIVES)}")
    cls = resolve(kind, OBJECTIVES, what="objective")
    known = [f.name for f in fields(cls) if f.name != "kind"]
    for name in options:
        if name not in known:
            raise InputError(f"The objective {kind!r} has no option {name!r}.{did_you_mean(name, known)}")
    built: Objective = cls(**options)
    return built


def check_number(value: object, *, name: str, above: float | None = None, at_least: float | None = None) -> float:
    """A finite number within a bound, or an InputError that names the option."""
    number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else float("nan")
    bound = f" above {above:g}" if above is not None else f" of at least {at_least:g}" if at_least is not None else ""
    inside = (
        abs(number) < float("inf") and (above is None or number > above) and (at_least is None or number >= at_least)
    )
    if not inside:
        raise InputError(f"{name} is a number{bound}, got {value!r}.")
    return number

"""`Objective`: one knowledge-transfer loss. A frozen dataclass with its options; it *is* its recipe entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from distillens.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Tap = str  # "layer3.1:output", "block.2:output[1]", "fc:input"; the alias "features" is the input of the classifier
Taps = (
    tuple[Tap, ...] | Literal["auto"]
)  # "auto": pairs of layers chosen by transfer/layers/matching.py before training


@dataclass(frozen=True, eq=False)
class View:
    """What one model says about a batch of B rows, live or from a cache: an objective cannot tell.

    outputs: (B, K) logits, or standardised values for regression. inputs: (B, …) what the network takes, after its own
    preprocessing. layers: activations by tap. explanations: (B, …) attributions from a cache, where there are some.
    ask: other inputs (B', …) → (B', K) outputs of the same model; None where only the cache can answer.
    classifier: (K, C) weights of the linear layer that gives the outputs, the student's with gradient; None without one.
    """

    outputs: Tensor
    inputs: Tensor
    layers: Mapping[Tap, Tensor] = field(default_factory=dict)
    explanations: Tensor | None = None
    ask: Callable[[Tensor], Tensor] | None = None
    classifier: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known about the B rows of a batch.

    weights: (B,) row weights, with mean 1 over all training rows. labels: (B,) class indices or standardised values as
    floats, NaN where unknown. label_scale: what makes the weights of labelled rows have mean 1 over all training rows.
    rows: (B,) int64 positions among the training rows, for objectives with a memory. draw: for those that draw at random.
    """

    weights: Tensor
    labels: Tensor
    label_scale: float = 1.0
    rows: Tensor | None = None
    draw: Generator | None = None

    def classes(self) -> Tensor:
        """(B,) int64 class indices, 0 where the label is unknown: a NaN would come back as a NaN gradient.

        What is computed from that 0 is left out by `Loss.labelled`.
        """
        return self.labels.nan_to_num(0.0).long()


@dataclass(frozen=True, eq=False)
class Loss:
    """value: scalar, differentiable. per_example: (B,) for pointwise losses, None for relational ones."""

    value: Tensor
    per_example: Tensor | None = None

    @classmethod
    def pointwise(cls, per_example: Tensor, batch: Batch) -> Loss:
        """The weighted batch mean of a pointwise loss: an unbiased estimate of its weighted mean over all rows."""
        return cls((batch.weights.to(per_example.dtype) * per_example).mean(), per_example)

    @classmethod
    def labelled(cls, per_example: Tensor, batch: Batch) -> Loss:
        """The same over the rows whose label is known; `per_example` of the others is not looked at, NaN included."""
        known = ~batch.labels.isnan()
        weights = batch.label_scale * batch.weights.to(per_example.dtype)
        return cls((weights * per_example).where(known, 0.0).mean(), per_example)


@dataclass(frozen=True)
class Shapes:
    """What a dry run found: shapes without the batch dimension, the numbers of outputs K, and of training rows n."""

    student: Mapping[Tap, tuple[int, ...]]
    teacher: Mapping[Tap, tuple[int, ...]]
    student_outputs: int
    teacher_outputs: int
    rows: int


class Objective(Protocol):
    """A knowledge-transfer loss with its options: a `PureObjective` or a `LearnedObjective`.

    student_taps, teacher_taps: layers it wants to see, as many of one as of the other, or "auto".
    needs_gradient: whether it differentiates outputs or layers by the inputs: both models then run with gradients.

    An objective may also have `tasks`, where it is not for all of binary, multiclass and regression, `zero_when_equal`,
    True where a student equal to its teacher scores 0, and `asks`, True where it asks models about other inputs (View.ask).
    """

    @property
    def kind(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def student_taps(self) -> Taps: ...
    @property
    def teacher_taps(self) -> Taps: ...
    @property
    def needs_gradient(self) -> bool: ...


Term = Callable[[View, View, Batch], Loss]


@runtime_checkable
class PureObjective(Objective, Protocol):
    """Nothing to learn and nothing to remember: the objective itself is called as (student, teacher, batch)."""

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss: ...


@runtime_checkable
class LearnedObjective(Objective, Protocol):
    """Has projectors or a memory. They belong to the distillation, not to the student, and never reach the export."""

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:
        """A module called as (student, teacher, batch) → Loss; its parameters are trained beside the student's."""
        ...


def term_of(objective: Objective, shapes: Shapes, *, seed: int = 0) -> Term:
    """What is called in every step: the objective itself, or the module it builds for these shapes.

    The global generator of torch is left as it was. Raises InputError when an objective is neither kind.
    """
    import torch

    if isinstance(objective, LearnedObjective):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module: Term = objective.term(shapes, seed=seed)
        return module
    if isinstance(objective, PureObjective):
        return objective
    raise InputError(f"The objective {objective.kind!r} has neither __call__ nor term; one of the two is needed.")


OBJECTIVES: dict[str, str] = {
    "kd": "distillens.transfer.objectives.kd:KD",
    "mse": "distillens.transfer.objectives.mse:MSE",
    "dkd": "distillens.transfer.objectives.dkd:DKD",
    "nkd": "distillens.transfer.objectives.nkd:NKD",
    "dist": "distillens.transfer.objectives.dist:DIST",
    "mlkd": "distillens.transfer.objectives.mlkd:MLKD",
    "jsd": "distillens.transfer.objectives.jsd:JSD",
    "reverse_kl": "distillens.transfer.objectives.reverse_kl:ReverseKL",
    "rkd": "distillens.transfer.objectives.rkd:RKD",
    "sp": "distillens.transfer.objectives.sp:SP",
    "pkt": "distillens.transfer.objectives.pkt:PKT",
    "cc": "distillens.transfer.objectives.cc:CC",
    "cka": "distillens.transfer.objectives.cka:CKA",
    "crd": "distillens.transfer.objectives.crd:CRD",
    "fitnet": "distillens.transfer.objectives.fitnet:FitNet",
    "attention_transfer": "distillens.transfer.objectives.attention_transfer:AttentionTransfer",
    "review": "distillens.transfer.objectives.review:ReviewKD",
    "mgd": "distillens.transfer.objectives.mgd:MGD",
    "vid": "distillens.transfer.objectives.vid:VID",
    "simkd": "distillens.transfer.objectives.simkd:SimKD",
    "cat_kd": "distillens.transfer.objectives.cat_kd:CATKD",
    "gradient_matching": "distillens.transfer.objectives.gradient_matching:GradientMatching",
    "jacobian": "distillens.transfer.objectives.jacobian:JacobianMatching",
    "gradcam_matching": "distillens.transfer.objectives.gradcam_matching:GradCAMMatching",
    "attribution_matching": "distillens.transfer.objectives.attribution_matching:AttributionMatching",
    "noise_queries": "distillens.transfer.objectives.noise_queries:NoiseQueries",
}


def as_objective(entry: Objective | Mapping[str, Any]) -> Objective:
    """An objective from a recipe entry such as `{kind: kd, weight: 0.5, temperature: 4}`; objectives pass through.

    Raises InputError, with a suggestion, for unknown kinds and options.
    """
    from distillens.named import resolve

    if not isinstance(entry, Mapping):
        if isinstance(entry, (PureObjective, LearnedObjective)):
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


def need_classes(kind: str, outputs: Tensor) -> None:
    """InputError when (B, K) outputs are one value a row: a regression."""
    if outputs.shape[1] < 2:
        raise InputError(f"The objective {kind!r} is for classes; for regression use {{kind: mse}}.")


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

"""A multilayer perceptron: linear layers with one activation between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from distillens.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "gelu", "softplus", "tanh"]


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, activation: Activation = "relu", dropout: float = 0.0
) -> nn.Sequential:
    """Linear → activation (→ dropout) for every hidden width, then one linear layer: (B, inputs) → (B, outputs).

    Weights are drawn by torch's default initialisation from the global generator; the caller forks it.
    """
    from torch import nn

    activations: dict[str, type[nn.Module]] = {
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "softplus": nn.Softplus,
        "tanh": nn.Tanh,
    }
    layers: list[nn.Module] = []
    width = inputs
    for next_width in hidden:
        layers += [nn.Linear(width, next_width), activations[activation]()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = next_width
    return nn.Sequential(*layers, nn.Linear(width, outputs))


@dataclass(frozen=True)
class MLPSettings:
    """`{kind: mlp, hidden: [64], activation: relu, dropout: 0}` of a recipe.

    hidden: widths of the hidden layers, input side first; empty: a linear model. dropout: share of hidden units
    switched off while training, in [0, 1). Raises InputError for impossible values.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = (64,)
    activation: Activation = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kind != "mlp":
            raise InputError(f"There is no network {self.kind!r}.{did_you_mean(self.kind, ['mlp'])}")
        widths: object = self.hidden  # a recipe may have written anything
        if not isinstance(widths, (list, tuple)) or not all(type(h) is int and h > 0 for h in widths):
            raise InputError(f"hidden is a list of positive layer widths such as [64], got {self.hidden!r}.")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.activation not in get_args(Activation):
            raise InputError(
                f"There is no activation {self.activation!r}.{did_you_mean(self.activation, get_args(Activation))}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout is a share in [0, 1), got {self.dropout!r}.")

    def build(self, inputs: int, outputs: int) -> nn.Sequential:
        """A freshly initialised network (B, inputs) → (B, outputs)."""
        return mlp(inputs, self.hidden, outputs, activation=self.activation, dropout=self.dropout)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hidden": list(self.hidden)}

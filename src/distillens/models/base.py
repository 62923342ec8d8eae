"""`Model`: anything that can be queried. A teacher, a student, a control, an exported file: all the same to the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logsumexp, softmax

from distillens.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.data.base import Bools, Floats, Inputs, Ints, Table

Output = Literal["logits", "probabilities", "values"]
Scale = Literal["log_odds", "probability", "logit", "value"]

PROBABILITY_FLOOR = 1e-6  # log-odds of probabilities are clipped to about ±13.8


@runtime_checkable
class Model(Protocol):
    """Anything that can be queried with rows.

    label: what people call it. classes: names in output order; empty for regression.
    output: what `__call__` returns: logits, probabilities, or values (regression).
    fingerprint: content hash; None when it cannot be known (an endpoint, a callable).
    """

    @property
    def label(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def output(self) -> Output: ...
    @property
    def fingerprint(self) -> str | None: ...
    def __call__(self, inputs: Any) -> Floats:
        """(n, K) outputs: binary K = 2, C classes K = C, regression K = 1. inputs: a Table or Images, what it was made for."""
        ...


@runtime_checkable
class TorchModel(Model, Protocol):
    """A model that is a torch module behind a preprocessing of its own: what gradients and layers are taken from."""

    @property
    def module(self) -> nn.Module: ...
    def to_tensor(self, inputs: Any) -> Tensor:
        """(n, …) what the module takes, on its device."""
        ...

    def __call__(self, inputs: Any) -> Floats: ...


@runtime_checkable
class IntrinsicModel(Model, Protocol):
    """A model that explains itself exactly: linear, tree, additive."""

    @property
    def contribution_scale(self) -> Scale:
        """The scale on which `contributions` add up: logit (of each output), probability, or value."""
        ...

    def contributions(self, inputs: Table) -> tuple[Floats, Floats]:
        """Contributions (n, F, K) of the raw features and the base (K,): base + sum over F = the outputs on `contribution_scale`."""
        ...


@runtime_checkable
class SplitModel(Model, Protocol):
    """A model whose first layer is a sum over raw features: hidden = bias + Σ_j part_j(x_j), outputs = f(hidden).

    Methods that mix features of two rows then add parts that are known already, instead of asking about every mixture from scratch.
    """

    def first_layer(self, inputs: Table) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Parts (n, F, H) and bias (H,); None when this model's first layer is no such sum."""
        ...

    def from_hidden(self, hidden: NDArray[np.float32]) -> Floats:
        """(n, K) outputs from (n, H) sums."""
        ...


@runtime_checkable
class StorableModel(Model, Protocol):
    """A model that can be written to disk and read back without pickle (models/store.py)."""

    kind: ClassVar[str]

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """JSON-able meta and named arrays from which `from_record` rebuilds the same model, to the bit."""
        ...

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> StorableModel: ...


@dataclass(frozen=True)
class Decision:
    """How scores become decisions.

    Binary: the adverse (or positive) class is decided where its probability ≥ threshold. Multiclass: the top class.
    adverse: index of the fixed class that explanations and slices speak of; threshold: in (0, 1), binary only.
    """

    adverse: int = 1
    threshold: float = 0.5

    def __call__(self, probabilities: Floats) -> Ints:
        """(n,) decided class indices from (n, K) probabilities, K ≥ 2."""
        if probabilities.shape[1] == 2:
            adverse = probabilities[:, self.adverse] >= self.threshold
            return np.asarray(np.where(adverse, self.adverse, 1 - self.adverse), dtype=np.int64)
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def evaluate(model: Model, inputs: Inputs, *, outputs: int | None = None) -> Floats:
    """Query a model and check what comes back: (n, K) finite float64. Raises ModelError otherwise."""
    return checked_outputs(model, model(inputs), len(inputs), outputs=outputs)


def checked_outputs(model: Model, answered: NDArray[Any], n: int, *, outputs: int | None = None) -> Floats:
    """What a model answered for n rows as (n, K) finite float64. Raises ModelError otherwise."""
    raw = np.asarray(answered, dtype=np.float64)
    expected = len(model.classes) or 1 if outputs is None else outputs
    if raw.ndim == 1 and expected == 1:
        raw = raw[:, None]
    if raw.shape != (n, expected):
        raise ModelError(
            f"The model {model.label!r} should return outputs of shape ({n}, {expected}), but returned {raw.shape}."
        )
    if not np.isfinite(raw).all():
        bad = int((~np.isfinite(raw)).any(axis=1).sum())
        raise ModelError(
            f"The model {model.label!r} returned NaN or infinite outputs for {bad} of {n} rows; check its preprocessing of missing values."
        )
    return raw


def as_probabilities(outputs: Floats, output: Output) -> Floats:
    """(n, K) probabilities from logits or probabilities; ModelError for regression values."""
    if output == "logits":
        return np.asarray(softmax(outputs, axis=1), dtype=np.float64)
    if output == "probabilities":
        return outputs
    raise ModelError("A regression model has values, not probabilities.")


def as_logits(outputs: Floats, output: Output) -> Floats:
    """(n, K) centred log-probabilities: logits as they are, probabilities by log with `PROBABILITY_FLOOR`."""
    if output == "logits":
        return outputs
    if output == "probabilities":
        logs = np.log(np.clip(outputs, PROBABILITY_FLOOR, None))
        return np.asarray(logs - logs.mean(axis=1, keepdims=True), dtype=np.float64)
    raise ModelError("A regression model has values, not logits.")


def log_odds(outputs: Floats, *, output: Output, target: int | Ints) -> Floats:
    """(n,) log-odds of the target class against the rest; the value itself for regression.

    From logits z_c − logsumexp(z_others); from probabilities log p − log(1 − p) with p clipped to
    [`PROBABILITY_FLOOR`, 1 − `PROBABILITY_FLOOR`].
    """
    if output == "values":
        return np.asarray(outputs[:, 0], dtype=np.float64)
    n, k = outputs.shape
    if k == 2 and output == "logits" and np.ndim(target) == 0:  # what every masked row of a binary model goes through
        return np.asarray(outputs[:, int(target)] - outputs[:, 1 - int(target)], dtype=np.float64)
    index = np.broadcast_to(np.asarray(target, dtype=np.int64), (n,))
    rows = np.arange(n)
    if output == "probabilities":
        p = np.clip(outputs[rows, index], PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)
    chosen: Floats = outputs[rows, index]
    if k == 2:
        return np.asarray(chosen - outputs[rows, 1 - index], dtype=np.float64)
    others = outputs.copy()
    others[rows, index] = -np.inf
    return np.asarray(chosen - logsumexp(others, axis=1), dtype=np.float64)


def on_scale(outputs: Floats, *, output: Output, target: int | Ints, scale: Scale) -> Floats:
    """(n,) the model's output for the target on a named scale."""
    if output == "values" or scale == "value":
        if output != "values":
            raise ModelError("The scale 'value' is for regression; a classifier has log_odds, probability or logit.")
        return np.asarray(outputs[:, 0], dtype=np.float64)
    if scale == "log_odds":
        return log_odds(outputs, output=output, target=target)
    rows = np.arange(len(outputs))
    index = np.broadcast_to(np.asarray(target, dtype=np.int64), (len(outputs),))
    chosen = as_probabilities(outputs, output) if scale == "probability" else as_logits(outputs, output)
    return np.asarray(chosen[rows, index], dtype=np.float64)


def from_log_odds(score: Floats) -> Floats:
    """(n, 2) logits (−s/2, +s/2) of a binary model from the (n,) log-odds s of class 1."""
    return np.stack([-score / 2, score / 2], axis=1)


def log_probabilities(outputs: Floats, output: Output) -> Floats:
    """(n, K) log-probabilities, floored for models that return probabilities."""
    if output == "logits":
        return np.asarray(log_softmax(outputs, axis=1), dtype=np.float64)
    return np.asarray(np.log(np.clip(as_probabilities(outputs, output), PROBABILITY_FLOOR, 1.0)), dtype=np.float64)


def sigmoid(score: Floats) -> Floats:
    """Probability from log-odds."""
    return np.asarray(expit(score), dtype=np.float64)


def decided_positives(model_probabilities: Floats, decision: Decision) -> Bools:
    """(n,) whether the adverse class was decided."""
    return np.asarray(decision(model_probabilities) == decision.adverse)

"""A soft decision tree (Frosst & Hinton 2017): every inner node weighs all features, every leaf holds one distribution.

    p_i(x) = σ(β (w_i · e(x) + b_i))      the probability of the right branch at inner node i;  e = encoded row
    P_ℓ(x) = Π over the path to leaf ℓ of p_i or 1 − p_i,      Q_ℓ = softmax(φ_ℓ)

path "soft": the mixture Σ_ℓ P_ℓ(x) Q_ℓ. path "hard": the leaf reached by taking the likelier branch at every node, so that one path
explains the answer. (The paper takes the leaf with the greatest P_ℓ. The two differ only where some branch is nearly even.)

Nodes are numbered level by level: node i has the children 2i + 1 (left) and 2i + 2 (right); leaves follow the inner nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from distillens.data.base import Column
from distillens.errors import ModelError
from distillens.models.encoding import Encoding
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Floats, Table
    from distillens.models.base import Output

Path = Literal["hard", "soft"]

SHOWN = 4  # features of a node's question that are named


@dataclass(frozen=True, eq=False)
class SoftTreeModel:
    """A fitted soft tree of 2^depth leaves.

    weights: (2^depth − 1, D) and biases: (2^depth − 1,) of the inner nodes. leaves: (2^depth, K) logits φ. beta: inverse temperature.
    spread: (D,) standard deviation of the encoded columns in training. visits: (2^(depth+1) − 1,) share of the training weight that comes
    through each node on the hard path.
    """

    kind: ClassVar[str] = "soft_tree"

    classes: tuple[str, ...]
    label: str
    encoding: Encoding
    weights: Floats
    biases: Floats
    leaves: Floats
    beta: float
    path: Path
    spread: Floats
    visits: Floats

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ModelError(
                "A soft decision tree has distributions over classes at its leaves; it cannot predict values."
            )
        if len(self.leaves) != len(self.weights) + 1 or len(self.leaves) != 2**self.depth:
            raise ModelError(f"A soft tree of {len(self.weights)} inner nodes cannot have {len(self.leaves)} leaves.")

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.encoding.columns

    @property
    def depth(self) -> int:
        return len(self.leaves).bit_length() - 1

    @property
    def output(self) -> Output:
        return "probabilities"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @cached_property
    def distributions(self) -> Floats:
        """(leaves, K) Q."""
        return np.asarray(softmax(self.leaves, axis=1), dtype=np.float64)

    def scores(self, inputs: Table) -> Floats:
        """(n, inner nodes) w_i · e(x) + b_i; the right branch is the likelier where it is above 0."""
        return np.asarray(self.encoding(inputs.values) @ self.weights.T + self.biases, dtype=np.float64)

    def path_probabilities(self, inputs: Table, *, path: Path | None = None) -> Floats:
        """(n, leaves) P_ℓ(x); with path "hard" 1 at the leaf that is reached and 0 elsewhere."""
        scores = self.scores(inputs)
        right = (scores > 0).astype(np.float64) if (path or self.path) == "hard" else expit(self.beta * scores)
        return reach(right, self.depth)[:, len(self.weights) :]

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) probabilities."""
        return np.asarray(self.path_probabilities(inputs) @ self.distributions, dtype=np.float64)

    def describe(self) -> dict[str, Any]:
        """What people read: nested questions. An inner node has `condition` (its features by strength), `features`, `yes` (right) and `no`.

        features: every raw feature with its strength, the standard deviation of what it adds to the node's score over the training rows
        (columns taken as independent), and the weights of its encoded columns.
        """
        return {
            "form": "soft_tree",
            "scale": "probability",
            "outputs": list(self.classes),
            "leaves": len(self.leaves),
            "depth": self.depth,
            "path": self.path,
            "beta": self.beta,
            "root": self._describe(0),
        }

    def _describe(self, node: int) -> dict[str, Any]:
        inner = len(self.weights)
        if node >= inner:
            value = self.distributions[node - inner].tolist()
            return {"node": node, "value": value, "coverage": float(self.visits[node])}
        w, names = self.weights[node], self.encoding.names
        strength = np.sqrt(self.encoding.to_raw(((w * self.spread) ** 2)[None, :])[0])
        order = [int(j) for j in np.argsort(-strength, kind="stable")]
        features = [
            {
                "name": self.columns[j].name,
                "strength": float(strength[j]),
                "weights": {names[d]: float(w[d]) for d in np.flatnonzero(self.encoding.feature == j)},
            }
            for j in order
        ]
        parts = sorted(np.flatnonzero(self.spread > 0), key=lambda d: -abs(w[d] * self.spread[d]))
        terms = [f"{signed(w[d])} · [{names[d]}]" for d in parts[:SHOWN]]
        rest = " + …" if len(parts) > SHOWN else ""
        return {
            "node": node,
            "condition": f"{' '.join(terms)}{rest} {signed(self.biases[node])} > 0",
            "bias": float(self.biases[node]),
            "features": features,
            "coverage": float(self.visits[node]),
            "yes": self._describe(2 * node + 2),
            "no": self._describe(2 * node + 1),
        }

    def complexity(self) -> dict[str, int]:
        """leaves, depth (questions on a path), parameters, size_bytes."""
        free = self.leaves.shape[0] * (self.leaves.shape[1] - 1)
        return {
            "leaves": len(self.leaves),
            "depth": self.depth,
            "parameters": int(self.weights.size + self.biases.size + free),
            "size_bytes": int(sum(a.nbytes for a in self.to_record()[1].values())),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        encoding, arrays = self.encoding.to_record()
        meta = {"encoding": encoding, "classes": list(self.classes), "label": self.label, "path": self.path}
        names = ("weights", "biases", "leaves", "spread", "visits")
        return meta, arrays | {name: getattr(self, name) for name in names} | {"beta": np.array([self.beta])}

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SoftTreeModel:
        encoding = Encoding.from_record(meta["encoding"], arrays)
        return cls(tuple(meta["classes"]), meta["label"], encoding, arrays["weights"], arrays["biases"], arrays["leaves"],
                   float(arrays["beta"][0]), meta["path"], arrays["spread"], arrays["visits"])  # fmt: skip


def signed(value: float) -> str:
    """A term of a sum: + 1.2 or − 0.8."""
    return f"{'−' if value < 0 else '+'} {abs(value):.2g}"


def reach(right: Floats, depth: int) -> Floats:
    """(n, 2^(depth+1) − 1) the probability of coming through each node, from (n, 2^depth − 1) probabilities of the right branch."""
    levels = [np.ones((len(right), 1))]
    for d in range(depth):
        p = right[:, 2**d - 1 : 2 ** (d + 1) - 1]
        below = np.stack([levels[-1] * (1 - p), levels[-1] * p], axis=2)
        levels.append(below.reshape(len(right), -1))
    return np.concatenate(levels, axis=1)

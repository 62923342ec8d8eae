"""Contrastive representation distillation: a row's student and teacher embeddings recognise each other among many.

Tian, Krishnan and Isola 2020, "Contrastive Representation Distillation". Both layers pass a learned linear map
to `dim` numbers and are divided by their length: v_s, v_t. For an anchor v of one model and a bank m with one embedding of the other
model for each of the n training rows, K negatives k ≠ i and T = 0.07:
    h(i, k) = exp(v_i · m_k / T) / Z,   loss_i = −log [h_ii / (h_ii + K/n)] − Σ_k log [(K/n) / (h_ik + K/n)],
once with the student as anchor and once with the teacher, added up: noise-contrastive estimation with uniform noise 1/n.
As in RepDistiller: Z is n times the mean of exp(v · m / T) over the first batch, one for each bank, and stays; banks start at random
vectors of length 1; after a step m_i ← m_i / 2 + v_i / 2, divided by its length. Negatives are drawn with replacement, uniformly over
the rows of other classes (their default) or all other rows; here at most n − 1 of them. Their 1e-7 in the denominators is left out:
everything is a log-sigmoid here. Rows of a class not met yet count as other classes.

The labels, the banks, Z and the state of the generator are in the state, so that a training taken up again goes on exactly.
A student equal to its teacher does not score 0: the embeddings are learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Taps, check_number
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.transfer.objectives.base import Shapes


def crd_loss(positive: Tensor, negatives: Tensor, *, rows: int) -> Tensor:
    """(B,) noise-contrastive loss of log h_ii (B,) and log h_ik (B, K); rows: n, the size of the memory.

    Computed in the dtype that comes. Raises InputError for fewer than two rows and for no negatives.
    """
    import torch

    k = negatives.shape[1]
    if rows < 2 or k < 1:
        raise InputError(f"crd contrasts each row with others: at least 2 rows and 1 negative, got {rows} and {k}.")
    # h / (h + c) is the logistic function of log h − log c.
    log_c = math.log(k / rows)
    log_sigmoid = torch.nn.functional.logsigmoid
    return -log_sigmoid(positive - log_c) - log_sigmoid(log_c - negatives).sum(dim=1)


@dataclass(frozen=True)
class CRD:
    """`{kind: crd, weight: 0.8, dim: 128, negatives: 16384, temperature: 0.07}`: both models' embeddings of a row find each other.

    negatives_from: `classes` draws negatives from rows of other classes and teaches rows whose label is known; `rows` draws from all
    other rows, and teaches all. momentum: what a memory keeps of itself when its row is seen again.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = False

    kind: Literal["crd"] = "crd"
    weight: float = 1.0
    warmup: float = 0.0
    dim: int = 128
    negatives: int = 16384
    negatives_from: Literal["classes", "rows"] = "classes"
    temperature: float = 0.07
    momentum: float = 0.5
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        if self.student_taps != "auto" and len(self.student_taps) != 1:
            raise InputError(
                f"crd looks at one layer of each model, got {len(self.student_taps)}; use one entry a layer."
            )
        for name in ("dim", "negatives"):
            value: object = getattr(self, name)
            if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                raise InputError(f"{name} is a whole number of at least 1, got {value!r}.")
        if self.negatives_from not in {"classes", "rows"}:
            raise InputError(f"negatives_from is classes or rows, got {self.negatives_from!r}.")
        if check_number(self.momentum, name="momentum", at_least=0) >= 1:
            raise InputError(f"momentum is a number of at least 0 and below 1, got {self.momentum!r}.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Regressions have no other classes, but other rows."""
        return ("binary", "multiclass") if self.negatives_from == "classes" else ("binary", "multiclass", "regression")

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:
        from distillens.transfer.objectives.contrast import Contrast
        from distillens.transfer.objectives.paired import shape_pairs

        ((student, teacher),) = shape_pairs(self, shapes)
        if shapes.rows < 2:
            raise InputError(f"crd contrasts each training row with others; there are {shapes.rows}.")
        return Contrast(self, math.prod(student), math.prod(teacher), shapes.rows, seed=seed)

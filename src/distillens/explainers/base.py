"""`Explanation`: attributions with everything needed to trust and compare them; `explain`: one way to get one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Model, Scale

Need = Literal["call", "gradient", "layers", "attention"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Attributions of n rows over named units, for one target per row.

    values: (n, units). base, output, residual: (n,); residual = output − base − sum of values (completeness).
    stderr: (n, units) standard error of a sampled method; None when exact.
    units: names of the raw features or groups. target: (n,) class index per row (0 for regression).
    scale: what is being explained. method: as named in the recipe. exact: no sampling was needed.
    row_ids: (n,). background_ids: row ids of the background. budget: coalitions per row. seed. versions: of libraries used.
    """

    values: Floats
    base: Floats
    output: Floats
    residual: Floats
    stderr: Floats | None
    units: tuple[str, ...]
    target: Ints
    scale: Scale
    method: str
    exact: bool
    row_ids: Ints
    background_ids: Ints
    budget: int
    seed: int
    model_label: str = ""
    model_fingerprint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@runtime_checkable
class Explainer(Protocol):
    """A frozen dataclass with its options; it is its recipe entry."""

    kind: ClassVar[str]
    differentiable: ClassVar[bool]
    needs: ClassVar[frozenset[Need]]

    def __call__(self, model: Model, inputs: Table, *, target: Ints, background: Table, seed: int) -> Explanation: ...


EXPLAINERS: dict[str, str] = {
    "kernel_shap": "distillens.explainers.shapley:KernelShap",
    "exact_shapley": "distillens.explainers.shapley:ExactShapley",
    "intrinsic": "distillens.explainers.intrinsic:Intrinsic",
}

"""`Explanation`: attributions with everything needed to trust and compare them; `Explainer`: what makes one."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from distillens.errors import ArtefactError, InputError, MissingExtraError, did_you_mean
from distillens.store import read_record, write_record

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.models.base import Model, Scale

Need = Literal["call", "structure", "gradient", "layers", "attention"]

_ARRAYS = ("values", "base", "output", "residual", "stderr", "target", "row_ids", "background_ids")
_INTEGERS = ("target", "row_ids", "background_ids")
_RECORD = "explanation"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Attributions of n rows over named units, for one target per row.

    values: (n, units). base, output, residual: (n,); residual = output − base − sum of values (completeness).
    stderr: (n, units) standard error of a sampled method; None when exact.
    units: names of the raw features or groups. target: (n,) class index per row (0 for regression).
    scale: what is being explained. method: as named in the recipe. exact: no sampling was needed.
    row_ids: (n,). background_ids: row ids of the background. budget: coalitions per row. seed. versions: of libraries used.
    Raises InputError when the shapes do not fit.
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

    def __post_init__(self) -> None:
        shape = (len(self.row_ids), len(self.units))
        if self.values.shape != shape:
            raise InputError(
                f"Attributions of {shape[0]} rows over {shape[1]} units should have shape {shape}, not {self.values.shape}."
            )
        if self.stderr is not None and self.stderr.shape != shape:
            raise InputError(
                f"The standard errors should have the shape of the attributions, {shape}, not {self.stderr.shape}."
            )
        for name in ("base", "output", "residual", "target"):
            if getattr(self, name).shape != shape[:1]:
                raise InputError(
                    f"An explanation of {shape[0]} rows needs {name} of shape ({shape[0]},), not {getattr(self, name).shape}."
                )

    @classmethod
    def from_arrays(
        cls,
        values: Floats,
        *,
        base: float | Floats,
        output: Floats,
        units: Sequence[str],
        target: int | Ints = 0,
        scale: Scale,
        method: str,
        row_ids: Ints | None = None,
        stderr: Floats | None = None,
        background_ids: Ints | None = None,
        budget: int = 0,
        seed: int = 0,
        model_label: str = "",
        model_fingerprint: str | None = None,
    ) -> Explanation:
        """Attributions computed elsewhere: values (n, units), output (n,), one base for all rows or (n,).

        The residual is computed here. row_ids: 0 … n − 1 unless given. `exact` is whether there is no standard error.
        Raises InputError when shapes do not fit or a number is not finite.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2:
            raise InputError(f"Attributions should have shape (rows, units), not {values.shape}.")
        n = len(values)
        try:
            start = np.array(np.broadcast_to(np.asarray(base, dtype=np.float64), (n,)))
            targets = np.array(np.broadcast_to(np.asarray(target, dtype=np.int64), (n,)))
        except ValueError as error:
            raise InputError(f"base and target should be one number or one for each of the {n} rows.") from error
        end = np.asarray(output, dtype=np.float64)
        if end.shape != (n,):
            raise InputError(f"An explanation of {n} rows needs output of shape ({n},), not {end.shape}.")
        if not (np.isfinite(values).all() and np.isfinite(start).all() and np.isfinite(end).all()):
            raise InputError("Attributions, base and output should be finite; NaN or infinity came.")
        return cls(
            values=values, base=start, output=end, residual=end - start - values.sum(axis=1),
            stderr=None if stderr is None else np.asarray(stderr, dtype=np.float64), units=tuple(units), target=targets,
            scale=scale, method=method, exact=stderr is None,
            row_ids=np.arange(n, dtype=np.int64) if row_ids is None else np.asarray(row_ids, dtype=np.int64),
            background_ids=np.empty(0, dtype=np.int64) if background_ids is None else np.asarray(background_ids, dtype=np.int64),
            budget=budget, seed=seed, model_label=model_label, model_fingerprint=model_fingerprint,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.row_ids)

    def take(self, indices: Sequence[int] | Ints | Bools) -> Explanation:
        """The rows at `indices` (positions or a mask)."""
        index = (
            np.asarray(indices) if len(indices) else np.empty(0, dtype=np.int64)
        )  # an empty list has no integer dtype
        per_row = {name: getattr(self, name) for name in _ARRAYS if name != "background_ids"}
        chosen: dict[str, Any] = {name: None if a is None else a[index] for name, a in per_row.items()}
        return replace(self, **chosen)

    @classmethod
    def concatenate(cls, parts: Sequence[Explanation]) -> Explanation:
        """One explanation of all rows of several that differ in nothing but their rows. InputError otherwise."""
        if not parts:
            raise InputError("There is no explanation to put together.")
        first = parts[0]
        if len(parts) == 1:
            return first
        for part in parts:
            for name in (f.name for f in fields(cls) if f.name not in _ARRAYS):
                if getattr(part, name) != getattr(first, name):
                    raise InputError(
                        f"Explanations with different {name} ({getattr(first, name)!r} and {getattr(part, name)!r}) are not parts of one."
                    )
            if (part.stderr is None) != (first.stderr is None) or not np.array_equal(
                part.background_ids, first.background_ids
            ):
                raise InputError("Explanations with other standard errors or another background are not parts of one.")
        whole: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _ARRAYS
            if name != "background_ids" and getattr(first, name) is not None
        }
        return replace(first, **whole)

    def global_importance(self) -> Floats:
        """(units,) mean |φ| over the rows."""
        return np.asarray(np.abs(self.values).mean(axis=0), dtype=np.float64)

    def index_of(self, unit: str) -> int:
        """Position of a unit; InputError with a suggestion when there is none."""
        if unit not in self.units:
            raise InputError(f"There is no unit {unit!r}.{did_you_mean(unit, self.units)}")
        return self.units.index(unit)

    def to_frame(self, *, long: bool = False) -> pd.DataFrame:
        """Attributions as a data frame.

        Wide: a line a row (index row_id), a column a unit. Long: columns row_id, unit, attribution, stderr (NaN when exact),
        target, base and output, a line per row and unit.
        """
        import pandas as pd

        if not long:
            return pd.DataFrame(
                self.values, index=pd.Index(self.row_ids, name="row_id"), columns=pd.Index(self.units, name="unit")
            )
        n, u = self.values.shape
        error = np.full((n, u), np.nan) if self.stderr is None else self.stderr
        return pd.DataFrame(
            {
                "row_id": np.repeat(self.row_ids, u),
                "unit": list(self.units) * n,
                "attribution": self.values.reshape(-1),
                "stderr": error.reshape(-1),
                "target": np.repeat(self.target, u),
                "base": np.repeat(self.base, u),
                "output": np.repeat(self.output, u),
            }
        )

    def to_shap(self, inputs: Table | None = None) -> Any:
        """A `shap.Explanation`, for shap's plots. inputs: the explained rows, whose values the plots then show.

        Values are shown only for units that are columns of `inputs`; groups get NaN. Raises MissingExtraError without shap and
        InputError when `inputs` holds other rows.
        """
        try:
            import shap
        except ImportError as error:
            raise MissingExtraError("shap", "bench", "Turning an explanation into shap's own") from error
        data = None
        if inputs is not None:
            if not np.array_equal(inputs.row_ids, self.row_ids):
                raise InputError("The rows given are not the rows that were explained; their row ids differ.")
            data = np.full(self.values.shape, np.nan)
            for j, unit in enumerate(self.units):
                if unit in inputs.names:
                    data[:, j] = inputs.values[:, inputs.names.index(unit)]
        return shap.Explanation(
            values=self.values.copy(), base_values=self.base.copy(), data=data, feature_names=list(self.units)
        )

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """JSON-able meta and named arrays, for `store.write_record`."""
        arrays = {name: a for name in _ARRAYS if (a := getattr(self, name)) is not None}
        meta = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS}
        return {"record": _RECORD, "schema": 1} | meta | {"units": list(self.units)}, arrays

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Explanation:
        """The inverse of `to_record`. Raises ArtefactError when something is missing or is not an explanation."""
        if meta.get("record") != _RECORD or meta.get("schema") != 1:
            raise ArtefactError(
                f"This is no explanation that this version reads (record {meta.get('record')!r}, schema {meta.get('schema')!r})."
            )
        names = [f.name for f in fields(cls) if f.name not in _ARRAYS]
        missing = [n for n in names if n not in meta] + [n for n in _ARRAYS if n != "stderr" and n not in arrays]
        if missing:
            raise ArtefactError(f"The explanation is incomplete: it lacks {', '.join(missing)}.")
        given: dict[str, Any] = {name: meta[name] for name in names} | {name: arrays.get(name) for name in _ARRAYS}
        try:
            return cls(**(given | {"units": tuple(meta["units"])}))
        except InputError as error:
            raise ArtefactError(f"The explanation is damaged. {error}") from error

    def save(self, path: Path) -> None:
        """Write one safetensors record; RunError when the disk is full or the folder cannot be written."""
        write_record(Path(path), *self.to_record())

    @classmethod
    def load(cls, path: Path) -> Explanation:
        """Read what `save` wrote; ArtefactError when it is damaged, foreign or missing."""
        return cls.from_record(*read_record(Path(path)))

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary with every number written out; floats survive the round trip to the bit."""
        meta, arrays = self.to_record()
        return meta | {name: array.tolist() for name, array in arrays.items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Explanation:
        """The inverse of `to_json`. Raises ArtefactError when it is not an explanation."""
        try:
            arrays: dict[str, NDArray[Any]] = {
                name: np.asarray(record[name], dtype=np.int64 if name in _INTEGERS else np.float64)
                for name in _ARRAYS
                if record.get(name) is not None
            }
        except (TypeError, ValueError) as error:
            raise ArtefactError(f"The explanation holds something that is not a number ({error}).") from error
        for name in ("values", "stderr"):
            if name in arrays and arrays[name].size == 0:  # a list of no rows does not know how many units it had
                arrays[name] = arrays[name].reshape(-1, len(record.get("units", ())))
        return cls.from_record({k: v for k, v in record.items() if k not in _ARRAYS}, arrays)

    def __repr__(self) -> str:
        how = "exact" if self.exact else f"{self.budget} coalitions"
        return f"Explanation({self.method} of {self.model_label!r}: {len(self)} rows, {len(self.units)} units, {self.scale}, {how})"

    def _repr_html_(self) -> str:
        """A small table of mean |φ| for notebooks; names are escaped."""
        importance = self.global_importance() if len(self) else np.zeros(len(self.units))
        top = np.argsort(-importance, kind="stable")[:15]
        widest = float(importance.max(initial=0.0)) or 1.0
        lines = "".join(
            f"<tr><td>{html.escape(self.units[j])}</td><td style='text-align:right'>{importance[j]:.4g}</td>"
            f"<td><div style='background:#4c78a8;height:.7em;width:{100 * importance[j] / widest:.0f}px'></div></td></tr>"
            for j in top
        )
        more = f"<p>and {len(self.units) - len(top)} more</p>" if len(self.units) > len(top) else ""
        head = f"{self.method} · {self.model_label} · {len(self)} rows · mean |φ| on {self.scale}"
        return f"<table><caption>{html.escape(head)}</caption>{lines}</table>{more}"


@runtime_checkable
class Explainer(Protocol):
    """A frozen dataclass with its options; it is its recipe entry."""

    kind: ClassVar[str]
    differentiable: ClassVar[bool]
    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, model: Model, inputs: Table, *, target: Ints, background: Table | None, seed: int
    ) -> Explanation:
        """Explain n rows for the class index `target` (n,) of each. background: rows that stand for 'unknown', where a method needs them.

        What is drawn depends on the seed (and, if need be, on the row), never on the rows explained beside a row: many rows are
        explained in blocks.
        """
        ...


EXPLAINERS: dict[str, str] = {
    "kernel_shap": "distillens.explainers.shapley:KernelShap",
    "exact_shapley": "distillens.explainers.shapley:ExactShapley",
    "permutation_shap": "distillens.explainers.permutation:PermutationShap",
    "lime": "distillens.explainers.lime:Lime",
    "tree_shap": "distillens.explainers.trees:TreeShap",
    "intrinsic": "distillens.explainers.intrinsic:Intrinsic",
}


def library_versions(*packages: str) -> dict[str, str]:
    """Versions of distillens and of the packages named, as installed; "unknown" for code that runs without being installed."""
    return {package: _installed(package) for package in ("distillens", *packages)}


@cache  # reading it takes milliseconds, as long as a small explanation
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"

"""`Estimate`: the value, interval, n, method, seed and status of one number."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Status = Literal["ok", "insufficient", "not_applicable", "not_available"]
Sided = Literal["two", "lower", "upper"]


@dataclass(frozen=True)
class Estimate:
    """One number with everything needed to trust it.

    value, low, high: the point estimate and its interval, NaN where `status` is not "ok" (JSON: null).
    level: confidence of the interval. sided: "two", or "lower"/"upper" for a one-sided bound (the other end is infinite).
    n: rows it rests on. n_missing: rows left out because they were NaN. n_clusters: clusters, when rows are clustered.
    method: how the interval was made ("clopper-pearson", "wilson", "bootstrap-percentile", "newcombe-paired", "exact", …).
    note: one sentence where `status` needs a reason.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    level: float = 0.95
    sided: Sided = "two"
    n: int = 0
    n_missing: int = 0
    n_clusters: int | None = None
    method: str = "none"
    seed: int | None = None
    status: Status = "ok"
    note: str = ""

    @classmethod
    def missing(cls, status: Status, note: str, *, n: int = 0) -> Estimate:
        """An estimate that could not be made, and why."""
        return cls(value=math.nan, n=n, status=status, note=note)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary; NaN becomes null, an infinite bound "inf"/"-inf"."""
        return {k: _number(v) for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Estimate:
        """The inverse of `to_json`."""
        fields = {k: record[k] for k in cls.__dataclass_fields__ if k in record}
        for name in ("value", "low", "high"):
            fields[name] = math.nan if fields.get(name) is None else float(fields[name])
        return cls(**fields)

    def with_note(self, note: str) -> Estimate:
        """The same estimate with another note."""
        return replace(self, note=note)


def _number(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
    return value

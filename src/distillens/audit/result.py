"""`Audit`: everything that was found, as frozen records; JSON (schema 1), a table of rows, an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distillens.errors import ArtefactError, InputError, did_you_mean
from distillens.estimate import Estimate
from distillens.store import JSON, atomic_path, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from distillens.metrics.base import Scope, Unit

SCHEMA = 1
Outcome = Literal["pass", "review", "fail"]
Reason = Literal["clears", "beyond", "contains", "few_units", "not_task", "lacking", "no_reference", "not_assessable"]
SliceKind = Literal["column", "decision", "boundary"]
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "review": 4}


def _maybe(estimate: Estimate | None) -> JSON | None:
    return None if estimate is None else estimate.to_json()


def _read(record: JSON | None) -> Estimate | None:
    return None if record is None else Estimate.from_json(record)


@dataclass(frozen=True)
class MetricResult:
    """One metric with its references; the meaning of each field is in docs/run-directory.md."""

    name: str
    scope: Scope
    explainer: str | None
    higher_is_better: bool | None
    optimised: bool
    unit: Unit
    text: str
    estimate: Estimate
    teacher: Estimate | None = None
    chance: Estimate | None = None
    repeatability: Mapping[str, Estimate] | None = None
    normalised: float | None = None
    controls: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> JSON:
        """A JSON-able dictionary."""
        own: JSON = {
            name: getattr(self, name)
            for name in ("name", "scope", "explainer", "higher_is_better", "optimised", "unit", "text", "normalised")
        }
        repeat = None if self.repeatability is None else {k: e.to_json() for k, e in self.repeatability.items()}
        return own | {
            "estimate": self.estimate.to_json(), "teacher": _maybe(self.teacher), "chance": _maybe(self.chance),
            "repeatability": repeat, "controls": {k: e.to_json() for k, e in self.controls.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: JSON) -> MetricResult:
        """The inverse of `to_json`."""
        repeat = record["repeatability"]
        changed = {
            "estimate": Estimate.from_json(record["estimate"]), "teacher": _read(record["teacher"]),
            "chance": _read(record["chance"]),
            "repeatability": None if repeat is None else {k: Estimate.from_json(e) for k, e in repeat.items()},
            "controls": {k: Estimate.from_json(e) for k, e in record["controls"].items()},
        }  # fmt: skip
        return cls(**({k: record[k] for k in cls.__dataclass_fields__} | changed))


@dataclass(frozen=True)
class SliceResult:
    """Agreement within one slice of the rows, against the rest."""

    column: str
    level: str
    n: int
    metric: str
    estimate: Estimate
    rest: Estimate | None
    outcome: Literal["assessed", "not_assessed"]
    text: str
    p_value: float | None
    flagged: bool
    kind: SliceKind = "column"  # columns forbid a pass when unassessed or flagged, decisions when unassessed
    needed: int | None = None  # rows that the slice would have needed, where it has too few

    @property
    def forbids_pass(self) -> bool:
        """Whether a pass would overlook this slice.

        Agreement is naturally lower near the threshold and in the rarer decision, so only a declared column that is
        worse than the rest forbids a pass; the decisions have gates of their own.
        """
        return (self.outcome == "not_assessed" and self.kind != "boundary") or (self.flagged and self.kind == "column")

    def to_json(self) -> JSON:
        return asdict(self) | {"estimate": self.estimate.to_json(), "rest": _maybe(self.rest)}

    @classmethod
    def from_json(cls, record: JSON) -> SliceResult:
        changed = {"estimate": Estimate.from_json(record["estimate"]), "rest": _read(record["rest"])}
        return cls(**({k: record[k] for k in cls.__dataclass_fields__} | changed))


@dataclass(frozen=True)
class GateResult:
    """One gate: the quantity held against a limit, and the outcome.

    ratio: the bound is a ratio minus 1 instead of a difference. reason: why the outcome is what it is, for readers of any language:
    clears, beyond, contains, few_units, not_task, lacking, no_reference or not_assessable; `why` says it in English. confidence: of the
    one-sided bound. needed: units that a resampled interval needs to decide anything, where there are too few.
    """

    metric: str
    explainer: str | None
    text: str
    bound: Estimate
    limit: float
    direction: Literal[">=", "<="]
    relative_to: str | None
    margin: float | None
    outcome: Outcome
    why: str
    ratio: bool = False
    reason: Reason = "not_assessable"
    confidence: float | None = None
    needed: int | None = None

    def to_json(self) -> JSON:
        return asdict(self) | {"bound": self.bound.to_json()}

    @classmethod
    def from_json(cls, record: JSON) -> GateResult:
        return cls(
            **({k: record[k] for k in cls.__dataclass_fields__} | {"bound": Estimate.from_json(record["bound"])})
        )


@dataclass(frozen=True)
class AuditFinding:
    """Something a careful reader wants to know.

    text: in English. kind and values say the same for readers of any language: what was found, and its numbers (estimates as JSON).
    """

    severity: Literal["info", "minor", "major"]
    text: str
    kind: str = ""
    values: JSON = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Audit:
    """Student against teacher: metrics with references, slices, gates, verdict. Schema 1 of docs/run-directory.md.

    columns: the table of rows as named arrays (`rows` makes a data frame of it); empty after `from_json`.
    """

    verdict: Outcome
    task: str
    classes: tuple[str, ...]
    n: int
    decision: JSON | None
    models: JSON
    metrics: tuple[MetricResult, ...]
    slices: tuple[SliceResult, ...]
    gates: tuple[GateResult, ...]
    findings: tuple[AuditFinding, ...]
    not_assessed: tuple[JSON, ...]
    statement: JSON
    reasons: JSON | None
    calibration: JSON | None
    profile: str
    level: float
    seed: int
    verdict_why: str = ""
    overlap: JSON | None = None
    certificate: JSON | None = None
    stability: JSON | None = None
    scores: JSON | None = None
    parts: list[JSON] | None = None
    attributes: list[JSON] | None = None
    monotone: list[JSON] | None = None
    measured: JSON = field(default_factory=dict)
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    _PLAIN = ("verdict", "task", "n", "decision", "models", "statement", "reasons", "calibration", "profile", "level",
              "seed", "verdict_why", "overlap", "measured")  # fmt: skip

    _MAYBE = (
        "certificate",
        "stability",
        "scores",
        "parts",
        "attributes",
        "monotone",
    )  # absent in audits of earlier versions

    def to_json(self) -> JSON:
        """Schema 1; the same inputs give the same dictionary outside `measured`."""
        return {"schema": SCHEMA} | {name: getattr(self, name) for name in (*self._PLAIN, *self._MAYBE)} | {
            "classes": list(self.classes), "metrics": [m.to_json() for m in self.metrics],
            "slices": [s.to_json() for s in self.slices], "gates": [g.to_json() for g in self.gates],
            "findings": [asdict(f) for f in self.findings], "not_assessed": list(self.not_assessed),
            "rows": "rows.parquet",
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: JSON) -> Audit:
        """The inverse of `to_json`, without the table of rows. ArtefactError when it is no audit of this schema."""
        if record.get("schema") != SCHEMA:
            raise ArtefactError("This is not an audit of schema 1; it was written by another version or program.")
        later: JSON = {name: record.get(name) for name in cls._MAYBE}
        try:
            return cls(
                **{name: record[name] for name in cls._PLAIN}, **later, classes=tuple(record["classes"]),
                metrics=tuple(MetricResult.from_json(m) for m in record["metrics"]),
                slices=tuple(SliceResult.from_json(s) for s in record["slices"]),
                gates=tuple(GateResult.from_json(g) for g in record["gates"]),
                findings=tuple(AuditFinding(**f) for f in record["findings"]),
                not_assessed=tuple(record["not_assessed"]),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"This audit is incomplete ({error!r}); it was damaged or edited.") from error

    def save(self, folder: Path) -> None:
        """Write `audit.json` and `rows.parquet` into a folder, each whole or not at all."""
        folder = Path(folder)
        with atomic_path(folder / "rows.parquet") as part:
            self.rows.to_parquet(part, index=False)
        write_json(folder / "audit.json", self.to_json())

    @classmethod
    def load(cls, folder: Path) -> Audit:
        """Read what `save` wrote, rows included. ArtefactError names a missing or damaged file."""
        import pandas as pd
        import pyarrow

        record = read_json(Path(folder) / "audit.json")
        try:
            frame = pd.read_parquet(Path(folder) / "rows.parquet")
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise ArtefactError(f"{Path(folder) / 'rows.parquet'} is missing or damaged ({error}).") from error
        loaded = cls.from_json(record)
        columns = {str(name): frame[name].to_numpy() for name in frame.columns}
        return cls(**({name: getattr(loaded, name) for name in cls.__dataclass_fields__} | {"columns": columns}))

    @property
    def rows(self) -> pd.DataFrame:
        """One line a row: row_id, label, scores, decisions, agreement and the reason metrics of explained rows."""
        import pandas as pd

        return pd.DataFrame(dict(self.columns))

    def metric(self, name: str, explainer: str | None = None) -> MetricResult:
        """One metric by name; with several explainers the first one unless named. InputError with a suggestion."""
        found = [m for m in self.metrics if m.name == name and explainer in (None, m.explainer)]
        if not found:
            of = "" if explainer is None else f" of explainer {explainer!r}"
            raise InputError(
                f"This audit has no metric {name!r}{of}.{did_you_mean(name, {m.name for m in self.metrics})}"
            )
        return found[0]

    def exit_code(self, strict: bool = False) -> int:
        """0 pass, 1 fail, 4 review (1 with strict)."""
        return 1 if strict and self.verdict == "review" else EXIT_CODES[self.verdict]

    def _table(self) -> list[tuple[str, str, str]]:
        return [(g.metric + (f" ({g.explainer})" if g.explainer else ""), g.text, g.outcome) for g in self.gates]

    def __str__(self) -> str:
        head = f"{self.verdict.upper()}  {self.models['student']['label']} against {self.models['teacher']['label']}, n = {self.n}"
        table = self._table()
        wide = max((len(name) for name, _, _ in table), default=0)
        lines = [f"  {outcome.upper():6}  {name:{wide}}  {text}" for name, text, outcome in table]
        return "\n".join([head, *lines, *([f"  {self.verdict_why}"] if self.verdict_why else [])])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><b>{escape(outcome)}</b></td><td>{escape(name)}</td><td>{escape(text)}</td></tr>"
            for name, text, outcome in self._table()
        )
        title = f"{self.models['student']['label']} against {self.models['teacher']['label']}, n = {self.n}"
        return (
            f"<div><p><b>{escape(self.verdict.upper())}</b> {escape(title)}</p><table><thead><tr><th>outcome</th>"
            f"<th>gate</th><th>held against its limit</th></tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{escape(self.verdict_why)}</p></div>"
        )

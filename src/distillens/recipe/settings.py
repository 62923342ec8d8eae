"""The parts of a recipe whose keys are fixed, as typed models: data, task, targets, audit, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from distillens.recipe.entries import shown


def _name(value: Any) -> Any:
    """Column and class names are text; whole numbers are taken as they are written, anything else would lose something."""
    if isinstance(value, bool) or value is None:
        raise ValueError(f"write the name {shown(value)} in quotes, as it stands in the data.")
    if isinstance(value, float):
        raise ValueError(f"write the name {shown(value)} in quotes, exactly as it stands in the data.")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and not value:
        raise ValueError("a name cannot be empty.")
    return value


def _names(value: Any) -> Any:
    """One name or a list of names."""
    return [value] if isinstance(value, (str, int, float)) else value


Name = Annotated[str, BeforeValidator(_name)]
Names = Annotated[
    tuple[Name, ...], Field(strict=False), BeforeValidator(_names)
]  # a validator in front hides that it was JSON
Share = Annotated[float, Field(gt=0, lt=1)]
RoleName = Literal["feature", "weight", "group", "time", "id", "audit_only", "ignore"]
if TYPE_CHECKING:
    Roles = dict[str, tuple[str, ...]]
else:
    Roles = dict[RoleName, Names]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SplitSettings(Part):
    """At most one of time, group, column. test: share of all rows; validation: share of the others."""

    test: Share | None = None
    validation: Share | None = None
    time: Name | None = None
    test_from: Name | None = None
    group: Name | None = None
    column: Name | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> SplitSettings:
        kinds = [k for k in ("time", "group", "column") if getattr(self, k) is not None]
        if len(kinds) > 1:
            raise ValueError(f"a split goes by one thing, but {' and '.join(kinds)} were given; keep one of them.")
        if self.test_from is not None and self.time is None:
            raise ValueError("test_from says from when on rows are test rows, so it needs time: COLUMN beside it.")
        return self


Side = Annotated[int, Field(ge=1, le=4096)]
Rows = Annotated[int, Field(ge=1)]


class LimitSettings(Part):
    """How many rows of a split are kept, drawn in proportion to its classes."""

    train: Rows | None = None
    validation: Rows | None = None
    test: Rows | None = None


class DataSettings(Part):
    """source: a built-in name, a CSV or Parquet file, a folder of images or an .npz file (relative to the recipe), or package.module:function.

    roles: role → columns; None: the built-in data's own. split: as `load_dataset` takes it. Of images, size: one side in pixels or
    [height, width]; limit: how many rows of a split are kept.
    """

    source: Annotated[str, Field(min_length=1)] | None = None
    target: Name | None = None
    roles: Roles | None = None
    split: dict[str, Any] = {}
    size: Side | Annotated[tuple[Side, Side], Field(strict=False)] | None = None
    limit: LimitSettings | None = None

    @field_validator("split", mode="before")
    @classmethod
    def _as_split(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _roles_agree(self) -> DataSettings:
        role_of: dict[str, str] = {} if self.target is None else {self.target: "target"}
        for role, columns in (self.roles or {}).items():
            for column in columns:
                if column in role_of:
                    other = role_of[column]
                    both = f"the role {role} twice" if other == role else f"two roles, {other} and {role}"
                    raise ValueError(f"the column {column!r} has {both}; a column has one.")
                role_of[column] = role
        return self


Cost = Annotated[float, Field(gt=0, le=1e12)]


class Costs(Part):
    """What a wrong decision costs, in any unit: positive means that the adverse class was decided."""

    false_positive: Cost
    false_negative: Cost


class TaskSettings(Part):
    """adverse: the class that explanations and slices speak of. threshold: its decided probability, binary only.

    costs: of wrong decisions; where no threshold is given, they imply it: false_positive / (false_positive + false_negative).
    """

    kind: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    adverse: Name | None = None
    threshold: Share | None = None
    costs: Costs | None = None


PerRow = Annotated[float, Field(ge=0, le=100)]


class Candidates(Part):
    candidates: Annotated[tuple[PerRow, ...], Field(min_length=1)]


QueryKind = Literal["auto", "smear", "noise", "interpolation", "disagreement", "threshold"]
QueryKinds = Annotated[tuple[QueryKind, ...], Field(strict=False), BeforeValidator(_names)]


class NearSettings(Part):
    """How rows of the kind `threshold` are drawn: `distillens.transfer.rows.threshold.NearThreshold`."""

    bandwidth: Annotated[float, Field(gt=0, le=100)] = 1.0
    uniform: Annotated[float, Field(gt=0, le=1)] = 0.25
    weights: Literal["importance", "flat"] = "importance"


class TargetSettings(Part):
    """queries: rows made up and labelled by the teacher, per training row; auto tries 0, 1 and 4 on validation.

    kind: how they are made; of several, or of all with auto, validation chooses. stop: whether a kind is given up when validation says so.
    rounds: of disagreement. on_manifold: least score a query needs; auto: 0.05 for disagreement, 0 for the others.
    """

    origin: Literal["auto", "in_sample", "out_of_fold", "labels"] = "auto"
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    queries: Literal["auto", "none", "off"] | PerRow | Candidates = "auto"
    kind: QueryKinds = ("smear",)
    stop: Literal["validation", "none"] = "validation"
    rounds: Annotated[int, Field(ge=1, le=100)] = 5
    on_manifold: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = "auto"
    near_threshold: NearSettings = NearSettings()


class AuditSettings(Part):
    """gates: a profile's name or gates written out. slices: auto or columns. draws: bootstrap resamples.

    repeatability: explain teacher and student a second time, with other background rows, coalitions and seed.
    certificate: whether to certify regions where student and teacher decide alike, for models that are constant on boxes.
    """

    gates: str | dict[str, Any] = "relative"
    slices: Literal["auto"] | tuple[Name, ...] = "auto"
    level: Share = 0.95
    draws: Annotated[int, Field(ge=100, le=100_000)] = 2000
    repeatability: bool = True
    certificate: Literal["auto", "off"] = "auto"


class FrontierSettings(Part):
    """families: null: the readable ones and networks, as far as they are for the task. sizes: family → values of the setting that makes
    it larger. seeds: fits of each point on all training rows, and as many on resamples. queries: rows made up per training row, the same
    for all; auto: the middle one of `targets.queries`. margin: of fidelity and performance, what counts as the same.
    """

    families: tuple[str, ...] | None = None
    sizes: dict[str, tuple[Annotated[int, Field(ge=1, le=100_000)], ...]] = {}
    seeds: Annotated[int, Field(ge=1, le=50)] = 3
    queries: Literal["auto"] | Annotated[int, Field(ge=0, le=100)] = "auto"
    margin: Share = 0.02


class ReportSettings(Part):
    """What the passport says beside the numbers, in the author's words. acceptable: why what was lost may be lost.

    population, period: whom the data are about, and of when. limits: known ones. overrides: who may decide against the model.
    """

    languages: Annotated[tuple[Literal["en", "zh"], ...], Field(min_length=1)] = ("en",)
    title: str | None = None
    owner: str | None = None
    contact: str | None = None
    reviewer: str | None = None
    intended_use: str | None = None
    out_of_scope: str | None = None
    population: str | None = None
    period: str | None = None
    limits: str | None = None
    overrides: str | None = None
    valid_until: str | None = None
    acceptable: str | None = None
    licence: str | None = None

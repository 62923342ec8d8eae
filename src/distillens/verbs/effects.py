"""What one feature does to a model over its range: of a run, teacher and student side by side, or of a model file and a table."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distillens.errors import InputError, did_you_mean
from distillens.store import JSON, atomic_path

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Ints, Table
    from distillens.explainers.dependence import Dependence
    from distillens.explainers.effects import Effect
    from distillens.flow import Flow
    from distillens.models.base import Model
    from distillens.verbs.explain import Explained

EFFECTS = ("pdp", "ice", "ale", "dependence")
MOST_ROWS = 1000  # rows an effect is averaged over when none are named


@dataclass(frozen=True, eq=False)
class Effects:
    """PDP, ICE or ALE of one feature for every model. target: the class, None for regression. rows: that were averaged over."""

    method: str
    feature: str
    target: str | None
    row_ids: Ints
    models: Mapping[str, Effect]

    @property
    def scale(self) -> str:
        return next(iter(self.models.values())).scale

    def to_json(self) -> JSON:
        """The grid and every model's effect on it; for ICE the curve of every row."""
        found: JSON = {
            "schema": 1, "effect": self.method, "feature": self.feature, "target": self.target, "scale": self.scale, "rows": len(self.row_ids),
            "models": {},
        }  # fmt: skip
        for name, effect in self.models.items():
            curves = (
                {} if effect.curves is None else {"row_ids": self.row_ids.tolist(), "curves": effect.curves.tolist()}
            )
            found["models"][name] = effect.to_json() | curves
        return found

    def to_frame(self) -> pd.DataFrame:
        """A line a model and grid point; for ICE a line a model, row and grid point."""
        import pandas as pd

        pieces = []
        for name, effect in self.models.items():
            frame = effect.to_frame()
            frame.insert(0, "model", name)
            if effect.curves is not None:
                several = [
                    frame.assign(row_id=row, curve=curve)
                    for row, curve in zip(self.row_ids, effect.curves, strict=True)
                ]
                frame = pd.concat(several, ignore_index=True)
            pieces.append(frame)
        return pd.concat(pieces, ignore_index=True)


def write_effect(found: Effects | Dependence, path: Path) -> None:
    """The data as CSV, atomically; the blocks of an explanation that were kept beside it are removed."""
    from distillens.verbs.explain import kept_beside

    with atomic_path(Path(path)) as part:
        found.to_frame().to_csv(part, index=False)
    shutil.rmtree(kept_beside(Path(path)), ignore_errors=True)


def effect_of_run(
    directory: str | Path,
    effect: str,
    feature: str,
    *,
    rows: Sequence[int] | None = None,
    model: str | None = None,
    method: str | None = None,
    target: str | None = None,
    points: int = 20,
    trust_code: bool = False,
) -> Effects | Dependence:
    """An effect of one feature on the teacher and a student of a run.

    effect: pdp, ice, ale, or dependence, which is read from the run's explanations by `method` (default: its first). rows: row ids;
    None: up to 1,000 test rows (dependence: all that were explained). model: a student or "teacher"; None: the chosen student. target: a
    class (default: the adverse one of two). points: on the grid, or bins of ALE. Raises RunError, InputError.
    """
    from distillens.verbs.explain import model_name, open_run, rows_of_run

    _check(effect)
    flow = open_run(directory, trust_code=trust_code)
    name = model_name(flow, model)
    names = ["teacher"] if name == "teacher" else ["teacher", name]
    test = _table(flow.dataset.test.inputs)
    if effect == "dependence":
        if target is not None:
            raise InputError("The run's explanations speak of the run's own class; leave --adverse out.")
        return _dependence_of_run(flow, names, feature, rows, method)
    if method is not None:
        raise InputError(f"{effect.upper()} asks the model itself and no explainer; leave --method out.")
    if not (flow.run.directory / "teacher" / "model.safetensors").is_file():
        names = names[1:]  # the teacher was handed in from outside; `model_name` refuses it by name
    table = _some(test, flow.recipe.seed) if rows is None else _table(rows_of_run(flow, rows))
    decision, classes = flow.decision, flow.dataset.classes
    index = _target(classes, target, None if decision is None else decision.adverse)
    return _effects(effect, {n: flow.models[n] for n in names}, table, feature, classes, index, points)


def effect_of_file(
    model: str | Path,
    data: str | Path,
    effect: str,
    feature: str,
    *,
    rows: Sequence[int] | None = None,
    target: str | None = None,
    ignore: Sequence[str] = (),
    classes: tuple[str, ...] | None = None,
    adverse: str | None = None,
    points: int = 20,
    seed: int = 0,
    trust_code: bool = False,
) -> Effects:
    """PDP, ICE or ALE of one feature on a model made elsewhere. A dependence is made of explanations: `explain_file`, then `dependence_of`.

    rows: positions in the table; None: up to 1,000 drawn with the seed. points: on the grid, or bins of ALE. The rest as for
    `explain_file`. Raises InputError.
    """
    from distillens.models.files import open_model_file
    from distillens.verbs.audit import Named, read_rows
    from distillens.verbs.explain import picked_rows

    _check(effect)
    file = open_model_file(model, trust_code=trust_code)
    named = Named(target=target, ignore=tuple(ignore), classes=None if file.classes else classes)
    read, _ = read_rows(data, (file,), named=named)
    bound = file.bind(read.columns, read.classes, own=classes)
    table = _some(read.inputs, seed) if rows is None else picked_rows(read.inputs, rows)
    index = _target(read.classes, adverse, 1 if len(read.classes) == 2 else None)
    return _effects(effect, {bound.label: bound}, table, feature, read.classes, index, points)


def dependence_of(explained: Explained, feature: str) -> Dependence:
    """The dependence of what `explain_file` made."""
    from distillens.explainers.dependence import dependence

    return dependence({explained.model: explained.explanation}, explained.rows, feature)


def _check(effect: str) -> None:
    if effect not in EFFECTS:
        raise InputError(f"There is no effect {effect!r}.{did_you_mean(effect, EFFECTS)}")


def _dependence_of_run(
    flow: Flow, names: Sequence[str], feature: str, rows: Sequence[int] | None, method: str | None
) -> Dependence:
    from distillens.explainers.base import Explanation
    from distillens.explainers.dependence import dependence

    if not flow.explainers:
        raise InputError("The recipe of this run has no explainer, so there are no attributions to show.")
    chosen = method or next(iter(flow.explainers))
    if chosen not in flow.explainers:
        raise InputError(f"The run was not explained by {chosen!r}.{did_you_mean(chosen, flow.explainers)}")
    folder = flow.run.directory / "explanations"
    made = {name: Explanation.load(folder / f"{name}.{chosen}.safetensors") for name in names}
    if rows is not None:
        there = {int(row): i for i, row in enumerate(made["teacher"].row_ids)}
        absent = [row for row in rows if row not in there]
        if absent:
            raise InputError(f"The run did not explain row {absent[0]:,}; leave --rows out for all that it explained.")
        made = {name: one.take([there[row] for row in rows]) for name, one in made.items()}
    return dependence(made, _table(flow.dataset.test.inputs), feature)


def _table(inputs: object) -> Table:
    """The rows of a run as a table. InputError for images, which have no features to set to a value."""
    from distillens.data.base import Table

    if not isinstance(inputs, Table):
        raise InputError("Effects of a feature are for tables; this run is about images.")
    return inputs


def _some(table: Table, seed: int) -> Table:
    """At most `MOST_ROWS` rows, drawn with the seed."""
    import numpy as np

    if len(table) <= MOST_ROWS:
        return table
    return table.take(np.sort(np.random.default_rng([seed, 2]).permutation(len(table))[:MOST_ROWS]))


def _target(classes: tuple[str, ...], wanted: str | None, usual: int | None) -> int:
    """The class an effect speaks of: one for all rows."""
    if not classes:
        if wanted is not None:
            raise InputError("--adverse names a class, but the model is a regression; leave it out.")
        return 0
    if wanted is not None:
        if wanted not in classes:
            raise InputError(f"There is no class {wanted!r}.{did_you_mean(wanted, classes)}")
        return classes.index(wanted)
    if usual is None or len(classes) > 2:
        raise InputError(f"An effect speaks of one class; name it with --adverse.{did_you_mean('', classes)}")
    return usual


def _effects(
    effect: str, models: Mapping[str, Model], table: Table, feature: str, classes: tuple[str, ...], index: int, points: int
) -> Effects:  # fmt: skip
    from distillens.explainers.effects import (
        accumulated_local_effects,
        feature_grid,
        individual_conditional_expectation,
        partial_dependence,
    )

    found: dict[str, Effect] = {}
    for name, model in models.items():
        if effect == "ale":
            found[name] = accumulated_local_effects(model, table, feature, bins=points, target=index)
            continue
        grid = feature_grid(table, feature, points=points)
        ask = individual_conditional_expectation if effect == "ice" else partial_dependence
        found[name] = ask(model, table, feature, grid=grid, target=index)
    return Effects(effect, feature, classes[index] if classes else None, table.row_ids, found)

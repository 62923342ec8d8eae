"""Explain single rows: of a finished run, or of a model file and a table."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.data.base import as_table
from distillens.errors import InputError, RunError, did_you_mean
from distillens.store import JSON, atomic_path

if TYPE_CHECKING:
    from distillens.data.base import Table
    from distillens.explainers.base import Explainer, Explanation
    from distillens.explainers.sensitivity import BackgroundSensitivity
    from distillens.flow import Flow
    from distillens.models.base import Decision, Model

FIRST = 5  # rows explained when none are named


@dataclass(frozen=True, eq=False)
class Explained:
    """Explanations with what is needed to read them. decided, shares: per row the class decided and its probability, None for
    regression. background: in words. redrawn: against other draws of it, where that was asked for."""

    explanation: Explanation
    rows: Table
    model: str
    classes: tuple[str, ...]
    decided: tuple[str | None, ...]
    shares: tuple[float | None, ...]
    background: str
    redrawn: BackgroundSensitivity | None = None

    def to_json(self) -> JSON:
        """What was explained how, and per row every feature, the strongest reason first."""
        e = self.explanation
        return {
            "schema": 1,
            "model": self.model,
            "fingerprint": e.model_fingerprint,
            "method": e.method,
            "scale": e.scale,
            "exact": e.exact,
            "budget": e.budget,
            "seed": e.seed,
            "background": self.background,
            "background_draws": None if self.redrawn is None else self.redrawn.to_json(),
            "rows": [self._row(i) for i in range(len(e))],
        }

    def _row(self, i: int) -> JSON:
        e = self.explanation
        order = sorted(range(len(e.units)), key=lambda j: -abs(float(e.values[i, j])))
        return {
            "row_id": int(e.row_ids[i]),
            "target": self.classes[int(e.target[i])] if self.classes else None,
            "decided": self.decided[i],
            "probability": self.shares[i],
            "output": float(e.output[i]),
            "base": float(e.base[i]),
            "residual": float(e.residual[i]),
            "same_top": None if self.redrawn is None else float(self.redrawn.moved.same_top[i]),
            "reasons": [
                {
                    "feature": e.units[j],
                    "value": self._value(i, e.units[j]),
                    "attribution": float(e.values[i, j]),
                    "stderr": None if e.stderr is None else float(e.stderr[i, j]),
                    "spread": None if self.redrawn is None else float(self.redrawn.moved.spread[i, j]),
                }
                for j in order
            ],
        }

    def _value(self, i: int, unit: str) -> str | None:
        """A feature's value in the user's words; None for a missing value and for groups of features."""
        if unit not in self.rows.names:
            return None
        place = self.rows.names.index(unit)
        return self.rows.text_of(float(self.rows.values[i, place]), place)

    def write_csv(self, path: Path) -> None:
        """One line a row and feature: row_id, feature, value, attribution, stderr, target, base, output; spread over draws of the
        background where there are some."""
        import pandas as pd

        lines = []
        for record in self.to_json()["rows"]:
            shared = {key: record[key] for key in ("target", "base", "output")}
            lines += [{"row_id": record["row_id"]} | reason | shared for reason in record["reasons"]]
        names = ["row_id", "feature", "value", "attribution", "stderr", "target", "base", "output"]
        names += [] if self.redrawn is None else ["spread"]
        with atomic_path(Path(path)) as part:
            pd.DataFrame(lines, columns=names).to_csv(part, index=False)
        shutil.rmtree(kept_beside(Path(path)), ignore_errors=True)


def kept_beside(out: Path) -> Path:
    """Where finished blocks of rows lie while `out` is in the making: beside it, as .NAME.partial; removed when `out` is written.

    The same command given again takes them from there. They are found by what they hold, so another command leaves them alone.
    """
    return out.parent / f".{out.name}.partial"


def parse_rows(text: str | None) -> tuple[int, ...] | None:
    """`17,20-23` as row ids; None when nothing was named. InputError for anything else."""
    if text is None:
        return None
    ids: list[int] = []
    for piece in text.split(","):
        first, dash, last = (part.strip() for part in piece.strip().partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(first) > 15 or len(last) > 15:
            raise InputError(f"--rows takes row numbers and ranges like 17,20-23, not {piece.strip()[:40]!r}.")
        low, high = int(first), int(last) if dash else int(first)
        if high < low or high - low >= 100_000:
            raise InputError(f"--rows: {piece.strip()[:40]!r} is no range of at most 100,000 rows from low to high.")
        ids.extend(range(low, high + 1))
    return tuple(dict.fromkeys(ids))


def explain_run(
    directory: str | Path,
    *,
    rows: Sequence[int] | None = None,
    model: str | None = None,
    method: str | None = None,
    target: str | None = None,
    background_draws: int = 1,
    keep: Path | None = None,
    trust_code: bool = False,
) -> Explained:
    """Explain rows of a run, with the run's own background, budget and seed: stored rows get the stored numbers again.

    rows: row ids of any split; None: the first five of the test split. model: a student or "teacher"; None: the chosen student.
    method: an explainer of the recipe; None: its first. target: a class; None: the run's own.
    background_draws: 2 or more to explain the rows against so many draws of the background. keep: a folder for finished blocks of rows
    (`kept_beside`).
    Raises RunError when the folder holds no run with models, InputError for unknown rows and names.
    """
    from distillens.explainers.blocks import explain_rows

    flow = open_run(directory, trust_code=trust_code)
    name = model_name(flow, model)
    if not flow.explainers:
        raise InputError("The recipe of this run has no explainer; use explain --model FILE --data FILE.")
    chosen = method or next(iter(flow.explainers))
    if chosen not in flow.explainers:
        raise InputError(f"The run was not explained by {chosen!r}.{did_you_mean(chosen, flow.explainers)}")
    explainer = flow.explainers[chosen]
    picked = rows_of_run(flow, rows)
    classes = flow.dataset.classes
    teacher = flow.models[
        "teacher" if len(classes) > 2 else name
    ]  # two classes: one fixed class, whatever the teacher says
    index = _targets(teacher, picked, classes, flow.decision, target)
    background = flow.background(chosen)
    made = explain_rows(
        explainer, flow.models[name], picked, target=index, background=background, seed=flow.seed("explain", chosen, ""),
        keep=keep, label=name,
    )  # fmt: skip
    redrawn = _redrawn(
        made, flow.models[name], picked, explainer, index, as_table(flow.background_source(chosen)), len(background), background_draws,
        seed=flow.seed("explain", "background", "draws"), keep=keep,
    )  # fmt: skip
    decided, shares = _decided(flow.models[name], picked, classes, flow.decision)
    text = f"{len(background):,} rows of the run's own background"
    return Explained(made, picked, name, classes, decided, shares, text, redrawn)


def open_run(directory: str | Path, *, trust_code: bool) -> Flow:
    """A finished run with its data and models. RunError when there is none in the folder."""
    from distillens.flow import Flow
    from distillens.progress import Silent
    from distillens.recipe import Recipe
    from distillens.run import Run

    run = Run.open(directory)
    if not (run.directory / "data" / "dataset.safetensors").is_file():
        raise RunError(
            f"{run.directory} holds no data and models; it was written by `distillens audit`, or the run did not get that far."
        )
    recipe = Recipe.load(str(run.directory / "recipe.yaml"))
    flow = Flow(recipe, run, None, None, trust_code, Silent())
    flow.recall_teacher()
    return flow


def model_name(flow: Flow, name: str | None) -> str:
    """The student named, or the chosen one. InputError with a suggestion, RunError when it was not saved."""
    from distillens.flow import NO_TEACHER
    from distillens.store import read_json

    folder = flow.run.directory
    if name is None:
        name = str(read_json(folder / "students" / "chosen.json")["chosen"])
    if name not in (*flow.recipe.students, "teacher"):
        raise InputError(f"The run has no student {name!r}.{did_you_mean(name, (*flow.recipe.students, 'teacher'))}")
    home = folder / "teacher" if name == "teacher" else folder / "students" / name
    if name == "teacher":
        if flow.given_teacher is None and not (home / "model.safetensors").is_file():
            raise RunError(f"The run does not hold its teacher: {NO_TEACHER}.")
    elif not (home / "model.safetensors").is_file():
        raise RunError(f"The run does not hold {name!r} as a file: it is not fitted yet.")
    return name


def rows_of_run(flow: Flow, rows: Sequence[int] | None) -> Table:
    """Rows of any split by id; None: the first five of the test split. InputError for unknown ids."""
    import numpy as np

    from distillens.data.base import Table

    data = flow.dataset
    if rows is None:
        return data.test.table.take(np.arange(min(FIRST, len(data.test))))
    every = Table.concatenate([data.test.table, data.validation.table, data.train.table])
    return picked_rows(every, rows)


def picked_rows(table: Table, rows: Sequence[int]) -> Table:
    """The rows with these ids, in this order. InputError for unknown ids."""
    place = {int(row): i for i, row in enumerate(table.row_ids)}
    absent = [row for row in rows if row not in place]
    if absent:
        raise InputError(
            f"There is no row {absent[0]:,}; rows are numbered from {min(place):,} to {max(place):,} in the order of the data."
        )
    return table.take([place[row] for row in rows])


def _targets(model: Model, rows: Table, classes: tuple[str, ...], decision: Decision | None, target: str | None) -> Any:
    """The class explained in each row: the one named, the adverse one of two, the top class of several."""
    import numpy as np

    from distillens.explainers.explain import resolve_target

    if target is not None or len(classes) > 2:
        return resolve_target(model, rows, target or "predicted")
    return np.full(len(rows), decision.adverse if classes and decision is not None else 0, dtype=np.int64)


def _decided(
    model: Model, rows: Table, classes: tuple[str, ...], decision: Decision | None
) -> tuple[tuple[str | None, ...], tuple[float | None, ...]]:
    from distillens.models.base import Decision as Rule
    from distillens.models.base import as_probabilities, evaluate

    if not classes:
        return (None,) * len(rows), (None,) * len(rows)
    p = as_probabilities(evaluate(model, rows), model.output)
    index = (decision or Rule(adverse=min(1, len(classes) - 1)))(p)
    return tuple(classes[k] for k in index), tuple(float(p[i, k]) for i, k in enumerate(index))


def explain_file(
    model: str | Path,
    data: str | Path,
    *,
    rows: Sequence[int] | None = None,
    target: str | None = None,
    ignore: Sequence[str] = (),
    classes: tuple[str, ...] | None = None,
    adverse: str | None = None,
    threshold: float | None = None,
    background: str | Path | None = None,
    background_rows: int = 100,
    method: str = "auto",
    budget: int | None = None,
    background_draws: int = 1,
    seed: int = 0,
    keep: Path | None = None,
    trust_code: bool = False,
) -> Explained:
    """Explain rows of a table by a model made elsewhere; nothing is trained.

    model, data, background: as for `audit_files`. target: the column to predict, which is no feature. classes: names of the model's
    outputs in its order where its file does not name them. adverse: the class explained (default: the second of two, the model's
    top class of several). rows: positions in the table; None: the first five. background_draws: 2 or more to
    explain the rows against so many draws of the background. keep: a folder for finished blocks of rows (`kept_beside`); a
    function, which nobody can recognise later, keeps none.
    """
    import numpy as np

    from distillens.audit.answers import decision_of
    from distillens.explainers.explain import chosen_explainer, explain
    from distillens.models.files import open_model_file
    from distillens.verbs.audit import Named, read_rows

    file = open_model_file(model, trust_code=trust_code)
    named = Named(target=target, ignore=tuple(ignore), classes=None if file.classes else classes)
    read, backing = read_rows(data, (file,), named=named, background=background)
    bound = file.bind(read.columns, read.classes, own=classes)
    source = read.inputs if backing is None else backing
    drawn = np.sort(np.random.default_rng([seed, 1]).permutation(len(source))[:background_rows])
    picked = (
        read.inputs.take(np.arange(min(FIRST, len(read.inputs)))) if rows is None else picked_rows(read.inputs, rows)
    )
    decision = decision_of(read.classes, adverse, threshold) if read.classes else None
    if adverse is not None and not read.classes:
        raise InputError("--adverse names a class, but the model is a regression; leave it out.")
    index = _targets(bound, picked, read.classes, decision, adverse if len(read.classes) > 2 else None)
    explainer = chosen_explainer(method, len(read.columns), budget=budget)
    made = explain(bound, picked, method=explainer, target=index, background=source.take(drawn), seed=seed, keep=keep)
    redrawn = _redrawn(
        made, bound, picked, explainer, index, source, len(drawn), background_draws, seed=seed, keep=keep
    )
    decided, shares = _decided(bound, picked, read.classes, decision)
    place = "the data themselves" if backing is None else Path(str(background)).name
    text = f"{len(drawn):,} of {len(source):,} rows of {place}"
    return Explained(made, picked, bound.label, read.classes, decided, shares, text, redrawn)


def _redrawn(
    made: Explanation, model: Model, rows: Table, explainer: Explainer, target: Any, source: Table, count: int, number: int, *,
    seed: int, keep: Path | None,
) -> BackgroundSensitivity | None:  # fmt: skip
    """The explanation beside those against other draws of `count` rows of the source, with the same coalitions; None for one draw."""
    from distillens.explainers.sensitivity import BackgroundSensitivity, draws, explained_against

    if number < 2:
        return None
    if not len(made.background_ids):
        raise InputError(f"{made.method} looks at no background, so there is nothing to draw again.")
    others = list(draws(source, rows=count, repeats=number, seed=seed + 1).values())[1:]
    against = {f"draw {k + 2}": other for k, other in enumerate(others)}
    again = explained_against(model, rows, explainer, backgrounds=against, target=target, seed=made.seed, keep=keep)
    return BackgroundSensitivity.of({"draw 1": made} | again)

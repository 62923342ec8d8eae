"""The frontier: fitted points, what is kept and read again, the front, the answers, every task, and what cannot be asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import distillens.report.frontier as drawn
from distillens.data.base import Column, Split, Table
from distillens.errors import InputError, ModelError
from distillens.frontier.frontier import answer, frontier, mark_front
from distillens.frontier.points import Ground, Recorded, fit_point, taught
from distillens.frontier.sizes import Members, check_families, members
from distillens.intervals import Resamples
from distillens.students.network import NetworkStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")
SCHEMA = json.loads((Path(drawn.__file__).parent / "frontier.schema.json").read_text(encoding="utf-8"))


def rows(n: int, seed: int) -> Split:
    x = np.random.default_rng(seed).normal(size=(n, 3))
    return Split(Table(x, tuple(Column(f"x{j}") for j in range(3)), np.arange(n) + 1000 * seed))


@dataclass(frozen=True)
class Steps:
    """A teacher that is a staircase of the first column: trees can copy it, a linear model cannot."""

    classes: tuple[str, ...] = CLASSES
    output: Any = "probabilities"
    label: str = "steps"
    fingerprint: str | None = None

    def __call__(self, inputs: Table) -> Any:
        p = np.array([0.1, 0.8, 0.3, 0.95])[np.digitize(inputs.values[:, 0], [-0.7, 0.0, 0.7])]
        if len(self.classes) == 3:
            return np.column_stack([1 - p, p * 0.7, p * 0.3])
        return np.column_stack([1 - p, p]) if self.classes else p[:, None]


def ground(teacher: Steps | None = None, **settings: Any) -> Ground:
    teacher = teacher or Steps()
    train, seen = rows(300, 0), rows(150, 1)
    answers = teacher(seen.inputs)
    labels = answers.argmax(axis=1) if teacher.classes else answers[:, 0] + 0.1 * seen.inputs.values[:, 1]
    targets = Targets.from_outputs(
        replace(train, labels=None), teacher(train.inputs), output=teacher.output, classes=teacher.classes
    )
    given = {"queries": 0, "seeds": 2} | settings
    return Ground(targets, teacher, replace(seen, labels=labels), None, **given)


def test_larger_trees_are_closer_and_the_answer_is_the_smallest_that_copies_the_teacher() -> None:
    record = frontier(
        members(("tree", "linear"), task="binary", sizes={"tree": [8, 2, 4]}), ground(), draws=200, margin=0.05
    )
    jsonschema.validate(record, SCHEMA)
    assert json.loads(json.dumps(record)) == record
    assert [p["id"] for p in record["points"]] == ["tree-2", "tree-4", "tree-8", "linear"]
    small, right, large, linear = record["points"]
    assert [p["units"]["whole"]["value"] for p in record["points"]] == [3, 7, 15, 4]
    assert small["fidelity"]["agreement"]["value"] < 0.9 < right["fidelity"]["agreement"]["value"]
    assert right["fidelity"]["agreement"]["method"].startswith("clopper-pearson")  # both seeds say the same
    larger_is_better = large["fidelity"]["agreement"]["value"] > right["fidelity"]["agreement"]["value"]
    assert [p["front"]["whole"] for p in record["points"]] == [True, True, larger_is_better, False]
    assert linear["dominated_by"]["whole"] == ["tree-2"]
    assert record["answers"]["fidelity"]["shown"] == "tree-4"
    assert record["answers"]["performance"]["best"] == "teacher"
    assert record["teacher"]["performance"]["accuracy"]["value"] == 1
    assert right["stability"]["partition"]["value"] > 0.9  # the stairs are found again on other rows
    assert right["spread"]["seeds"]["sd"] == 0
    assert linear["stability"]["parts"] is None


def test_estimates_are_means_over_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    base = ground(queries=2, seeds=3)
    (member,) = members(("tree",), task="binary", sizes={"tree": [3]}).chosen
    point = fit_point(member, base)
    teacher = Steps()(base.validation.inputs)
    agreeing = [float(((o[:, 1] >= 0.5) == (teacher[:, 1] >= 0.5)).mean()) for o in point.outputs]
    record = frontier(Members((member,)), base, draws=200)
    found = record["points"][0]
    assert found["fidelity"]["agreement"]["value"] == pytest.approx(np.mean(agreeing))
    assert found["spread"]["seeds"]["sd"] == pytest.approx(np.std(agreeing, ddof=1))
    kl = [(teacher * (np.log(teacher) - np.log(np.clip(o, 1e-6, 1)))).sum(axis=1).mean() for o in point.outputs]
    assert found["fidelity"]["kl"]["value"] == pytest.approx(np.mean(kl))
    right = [float(((o[:, 1] >= 0.5) == base.validation.labels).mean()) for o in point.outputs]
    assert found["performance"]["accuracy"]["value"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize(("classes", "task", "fidelity", "performance"),
                         [((), "regression", "r2_to_teacher", "r2"), (("a", "b", "c"), "multiclass", "agreement", "accuracy")])  # fmt: skip
def test_every_task(classes: tuple[str, ...], task: str, fidelity: str, performance: str) -> None:
    teacher = Steps(classes=classes, output="probabilities" if classes else "values")
    chosen = members(None, task=task, given={"network": NetworkStudent(epochs=2, task_weight=0)})
    assert chosen.left_out == (("scorecard", f"for binary tasks, and this is a {task} task"),)
    few = Members(tuple(m for m in chosen.chosen if m.id in {"tree-4", "rules-4", "network-2"}), chosen.left_out)
    record = frontier(few, ground(teacher), draws=200)
    jsonschema.validate(record, SCHEMA)
    assert record["fidelity"]["metric"] == fidelity
    assert record["performance"]["metric"] == performance
    assert record["points"][0]["fidelity"][fidelity]["value"] > 0.9
    without = ground(teacher)
    record = frontier(few, replace(without, validation=replace(without.validation, labels=None)), draws=200)
    jsonschema.validate(record, SCHEMA)
    assert record["performance"] is None
    assert set(record["answers"]) == {"fidelity"}


def test_a_fitted_point_is_read_again_and_a_damaged_one_is_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = members(("tree",), task="binary", sizes={"tree": [2, 4]})
    first = frontier(chosen, ground(), draws=200, folder=tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert [path.name.rsplit("-", 1)[0] for path in kept] == ["tree-2", "tree-4"]
    fitted = []
    original = TreeStudent.fit

    def counted(self: TreeStudent, *args: Any, **options: Any) -> Any:
        fitted.append(self.max_leaves)
        return original(self, *args, **options)

    monkeypatch.setattr(TreeStudent, "fit", counted)
    assert frontier(chosen, ground(), draws=200, folder=tmp_path) == first
    assert fitted == []
    kept[1].write_bytes(kept[1].read_bytes()[:-20])
    again = frontier(chosen, ground(), draws=200, folder=tmp_path)
    assert fitted == [4] * 4  # two seeds, two resamples
    assert again | {"measured": None} == first | {"measured": None}
    frontier(chosen, ground(seed=1), draws=200, folder=tmp_path)  # another seed is another frontier
    assert len(list(tmp_path.iterdir())) == 4


def test_no_fit_sees_a_validation_row_and_none_stops_on_what_it_is_fitted_on() -> None:
    base = ground(queries=1)
    everything = set(base.targets.inputs.row_ids.tolist())
    for resample in (False, True):
        targets, stop, guide = taught(base, 3, resample=resample, holds_back=True)
        own = set(targets.inputs.row_ids[~targets.is_query].tolist())
        stopping = set(stop.inputs.row_ids.tolist())
        assert own | stopping <= everything
        assert not own & stopping
        assert stopping
        np.testing.assert_array_equal(guide(stop.inputs), Steps()(stop.inputs))
        assert targets.weights[~targets.is_query].sum() == (len(everything) if resample else len(own))
    whole, _, _ = taught(base, 3, resample=False, holds_back=False)
    assert set(whole.inputs.row_ids[~whole.is_query].tolist()) == everything


def test_clusters_are_drawn_whole() -> None:
    base = ground(groups=np.arange(300) // 10)
    for resample in (False, True):
        targets, stop, _ = taught(base, 5, resample=resample, holds_back=True)
        groups = [set((t.row_ids // 10).tolist()) for t in (targets.inputs, stop.inputs)]
        assert not groups[0] & groups[1]
        assert len(targets) == 10 * len(groups[0])


def test_recorded_answers_know_their_own_rows_only() -> None:
    table = rows(4, 0).inputs
    known = Recorded(("a", "b"), "probabilities", table.row_ids, np.eye(2)[[0, 1, 1, 0]])
    np.testing.assert_array_equal(known(table.take([2, 0])), [[0, 1], [1, 0]])
    with pytest.raises(ModelError, match="other rows"):
        known(rows(4, 1).inputs)


def test_the_front_and_the_answers_by_hand() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(400)
    resamples = Resamples(400, draws=400, seed=0)
    shares = {"a": (5, 0.60), "b": (5, 0.70), "c": (9, 0.69), "d": (20, 0.99), "e": (30, 0.985), "f": (8, 0.70)}
    close = [resamples.proportion((right < share).astype(float)) for _, share in shares.values()]
    records: list[dict[str, Any]] = [
        {"id": name, "readable": name != "d", "units": {s: {"value": size} for s in ("whole", "decision")},
         "fidelity": {"agreement": {"value": q.point}}}
        for (name, (size, _)), q in zip(shares.items(), close, strict=True)
    ]  # fmt: skip
    mark_front(records, close, "agreement", 0.95)
    assert [r["id"] for r in records if r["front"]["whole"]] == ["b", "d"]  # f is as good as b and larger
    assert records[0]["dominated_by"]["whole"] == ["b"]
    assert records[2]["dominated_by"]["whole"] in ([], ["b", "f"])
    assert records[4]["dominated_by"]["whole"] == []  # half a point behind, and these rows cannot tell
    found = answer(records, close, close[3], "d", margin=0.02, level=0.95)
    assert found == {"best": "d", "margin": 0.02, "shown": "e", "possible": "e"}
    assert answer(records, close, close[3], "d", margin=0.001, level=0.95)["shown"] is None
    records[3]["readable"] = True  # the best is as good as itself, however few the rows
    assert answer(records, close, close[3], "d", margin=0.001, level=0.95)["shown"] == "d"
    assert answer(records[:1], close[:1], close[3], "d", margin=0.02, level=0.95)["possible"] is None


def test_what_cannot_be_asked_is_said_in_one_sentence() -> None:
    with pytest.raises(InputError, match="no family 'trees' on the frontier. Did you mean 'tree'"):
        members(("trees",), task="binary")
    with pytest.raises(InputError, match="scorecard student is for binary tasks, and this is a regression task"):
        members(("scorecard",), task="regression")
    with pytest.raises(InputError, match="max_leaves must be at least 2"):
        members(("tree",), task="binary", sizes={"tree": [1]})
    assert check_families(("tree", "tree"), {"linear": [1], "rules": [2]}) == [
        "families: tree is listed twice.",
        "sizes: a linear student has one size only; leave it out.",
        "sizes.rules: rules is not among the families tree, tree.",
    ]
    assert check_families((), {}) == ["families: name at least one family, or leave the key out."]
    chosen = members(("tree",), task="binary")
    for wrong in ({"seeds": 0}, {"queries": -1}):
        with pytest.raises(InputError, match="at least one seed"):
            frontier(chosen, ground(**wrong))
    with pytest.raises(InputError, match="margin between 0 and 1"):
        frontier(chosen, ground(), margin=0)
    empty = ground()
    with pytest.raises(InputError, match="validation rows to measure it on"):
        frontier(chosen, replace(empty, validation=empty.validation.take([])))


def test_every_size_of_a_family_shares_the_options_that_were_given() -> None:
    given = {"tree": TreeStudent(max_leaves=99, min_rows=17), "network": NetworkStudent(epochs=3)}
    chosen = members(("tree", "network"), task="binary", given=given).chosen
    assert [m.student.max_leaves for m in chosen if m.family == "tree"] == [2, 4, 8, 16, 32]
    assert {m.student.min_rows for m in chosen if m.family == "tree"} == {17}
    assert [m.student.model.hidden for m in chosen if m.family == "network"] == [(2,), (8,), (32,), (128,)]
    assert {m.student.epochs for m in chosen if m.family == "network"} == {3}

"""The choice among kinds and numbers of query rows, and queries near the threshold with their weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from scipy.special import expit, logit

from distillens.data.base import Column, Split, Table
from distillens.errors import InputError, ModelError
from distillens.models.base import Decision, as_probabilities
from distillens.recipe.base import AUTO_KINDS
from distillens.recipe.settings import QueryKind
from distillens.students.linear import LinearStudent
from distillens.transfer.rows.choose import AUTO, KINDS, PATIENCE, choose_queries
from distillens.transfer.rows.queries import add_queries, distance_to_teacher, smear
from distillens.transfer.rows.threshold import NearThreshold, closeness, near_threshold
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")


def test_the_recipe_names_the_kinds_there_are() -> None:
    assert set(get_args(QueryKind)) == {*KINDS, "auto"}
    assert AUTO_KINDS == AUTO


@dataclass
class Scripted:
    """A family whose distance to an even teacher is dictated fit by fit."""

    shifts: list[float]
    model: Any
    rows: list[int]

    def fit(self, targets: Targets, *, out: Path | None = None, **rest: Any) -> Any:
        shift = self.shifts[len(self.rows)]
        self.rows.append(len(targets))
        if out is not None:
            (out / "history.json").write_text(str(len(self.rows)))
        return self.model(lambda v: np.tile([0.0, shift], (len(v), 1)), CLASSES, "logits")


@pytest.fixture
def even(model_of: Any) -> Any:
    return model_of(lambda v: np.full((len(v), 2), 0.5), CLASSES)


def search(shifts: list[float], splits: Any, model_of: Any, even: Any, **options: Any) -> Any:
    train, validation = splits(20, seed=1, classes=2), splits(10, seed=2, classes=2)
    targets = Targets.from_outputs(train, even(train.inputs), output="probabilities", classes=CLASSES)
    family = Scripted(shifts, model_of, [])
    return choose_queries(family, targets, even, validation, seed=0, **options), family


def test_kinds_are_compared_on_validation_and_all_of_it_is_recorded(
    splits: Any, model_of: Any, even: Any, tmp_path: Path
) -> None:
    #         none  smear 1, 4   noise 1, 4
    shifts = [3.0, 2.0, 2.5, 0.5, 1.0]
    found, family = search(shifts, splits, model_of, even, kinds=("smear", "noise"), out=tmp_path)
    assert [(t["kind"], t["per_row"], t["rows"]) for t in found.tried] == [
        (None, 0, 0), ("smear", 1, 20), ("smear", 4, 80), ("noise", 1, 20), ("noise", 4, 80),
    ]  # fmt: skip
    assert found.best == 3
    p = expit(np.array(shifts))
    assert [t["validation_kl"] for t in found.tried] == pytest.approx(list(-0.5 * np.log(4 * p * (1 - p))))
    assert all(0 < t["on_manifold"] <= 1 for t in found.tried[1:])
    assert family.rows == [20, 40, 100, 40, 100]
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
    assert (tmp_path / "history.json").read_text() == "4"


def test_a_kind_is_given_up_after_two_numbers_that_are_no_better(splits: Any, model_of: Any, even: Any) -> None:
    assert PATIENCE == 2
    numbers = (0, 1, 2, 3, 4)
    worse = [1.0, 2.0, 2.0]
    found, _ = search([*worse, 0.1, 0.1], splits, model_of, even, candidates=numbers)
    assert [t["per_row"] for t in found.tried] == [0, 1, 2]
    assert found.best == 0
    found, _ = search([*worse, 0.1, 0.1], splits, model_of, even, candidates=numbers, stop="none")
    assert [t["per_row"] for t in found.tried] == [0, 1, 2, 3, 4]
    assert found.best == 3  # the tie goes to fewer rows


def test_disagreement_spends_its_budget_in_rounds_and_stops(
    splits: Any, model_of: Any, even: Any, tmp_path: Path
) -> None:
    shifts = [3.0, 2.0, 1.0, 1.5, 1.5, 0.0]
    options: dict[str, Any] = {"kinds": ("disagreement",), "candidates": (0, 5), "rounds": 5, "on_manifold": 0.0}
    found, family = search(shifts, splits, model_of, even, out=tmp_path, **options)
    assert [(t["kind"], t["rows"]) for t in found.tried] == [
        (None, 0), ("disagreement", 20), ("disagreement", 40), ("disagreement", 60), ("disagreement", 80),
    ]  # fmt: skip
    assert found.best == 2
    assert len(family.rows) == 5  # the fit without queries is not repeated
    assert (tmp_path / "history.json").read_text() == "3"
    found, _ = search(shifts, splits, model_of, even, stop="none", **options)
    assert found.best == 5
    found, family = search([*shifts], splits, model_of, even, **(options | {"candidates": (5,)}))
    assert found.tried[0]["kind"] is None
    assert found.best == 2


def test_rows_that_nobody_resembles_are_not_asked_about(splits: Any, model_of: Any, even: Any) -> None:
    loose, _ = search([1.0], splits, model_of, even, candidates=(4,))
    strict, _ = search([1.0], splits, model_of, even, candidates=(4,), on_manifold=0.5)
    assert strict.tried[0]["on_manifold"] > loose.tried[0]["on_manifold"]
    assert strict.tried[0]["on_manifold"] >= 0.5
    with pytest.raises(InputError, match="between 0 and 1"):
        search([1.0], splits, model_of, even, on_manifold=2.0)


def test_without_queries_the_rows_need_be_no_table(splits: Any, model_of: Any, even: Any, monkeypatch: Any) -> None:
    def refuse(self: Any) -> Any:
        raise AssertionError("asked for a table")

    monkeypatch.setattr(Targets, "table", property(refuse))
    found, _ = search([1.0], splits, model_of, even, candidates=(0,))
    assert [t["kind"] for t in found.tried] == [None]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kinds": ("smea",)}, "Did you mean 'smear'"), ({"kinds": ()}, "no kind"), ({"candidates": (-1,)}, "negative"),
     ({"kinds": ("threshold",)}, "need a decision")],
)  # fmt: skip
def test_what_cannot_be_chosen_from_is_one_sentence(
    splits: Any, model_of: Any, even: Any, options: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        search([1.0] * 9, splits, model_of, even, **options)


# ── near the threshold ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_closeness_on_paper() -> None:
    settings = NearThreshold(bandwidth=2.0, uniform=0.2)
    found = closeness(np.array([0.0, 2.0, -40.0]) + logit(0.3), threshold=0.3, settings=settings)
    assert found == pytest.approx([1.0, 0.2 + 0.8 * np.exp(-0.5), 0.2])
    for wrong in ({"bandwidth": 0.0}, {"uniform": 0.0}, {"uniform": 1.5}, {"weights": "some"}):
        with pytest.raises(InputError):
            NearThreshold(**wrong)  # type: ignore[arg-type]


def one_feature(n: int, seed: int) -> Table:
    return Table(np.random.default_rng(seed).normal(size=(n, 1)) * 3, (Column("x"),), np.arange(n))


def test_importance_weights_give_back_the_distribution_and_flat_ones_state_theirs(model_of: Any) -> None:
    teacher = model_of(lambda v: np.stack([1 - expit(v[:, 0]), expit(v[:, 0])], axis=1), CLASSES)
    pool, decision = one_feature(2000, 0), Decision(1, 0.5)
    x = pool.values[:, 0]
    settings = NearThreshold(bandwidth=0.5, uniform=0.1)
    means = []
    for seed in range(30):
        rows, weight, record = near_threshold(pool, teacher, decision, rows=300, seed=seed, settings=settings)
        means.append(np.average(rows.values[:, 0] ** 2, weights=weight))
        assert weight.mean() == pytest.approx(1.0)
        assert 1 <= record["effective_rows"] <= len(rows)
    spread = np.std(means, ddof=1) / np.sqrt(len(means))
    assert abs(np.mean(means) - (x**2).mean()) < 4 * spread + 1e-12
    assert record["within_bandwidth"] > 2 * (np.abs(x) <= 0.5).mean()
    flat, weight, record = near_threshold(
        pool, teacher, decision, rows=50_000, seed=1, settings=NearThreshold(0.5, 0.1, "flat")
    )
    q = closeness(x, threshold=0.5, settings=settings)
    stated = np.average(x**2, weights=q)
    assert np.average(flat.values[:, 0] ** 2, weights=weight) == pytest.approx(stated, rel=0.03)
    again, same, _ = near_threshold(
        pool, teacher, decision, rows=50_000, seed=1, settings=NearThreshold(0.5, 0.1, "flat")
    )
    assert np.array_equal(again.values, flat.values)
    assert np.array_equal(same, weight)
    with pytest.raises(ModelError, match="two classes"):
        near_threshold(pool, model_of(lambda v: v, ("a", "b", "c")), decision, rows=5, seed=0, settings=settings)


def test_decisions_near_the_threshold_agree_more_often_and_little_is_lost_elsewhere(model_of: Any) -> None:
    """A planted teacher that flattens, which a linear student cannot follow everywhere, and a threshold of 0.8 on its shoulder.

    Stated for `flat`: agreement within half a unit of log-odds rises by at least 0.1, elsewhere it falls by at most 0.01, and the mean KL
    rises by at most 0.005 nats. For `importance`: neither the KL nor agreement is worse than with smeared rows by more than that.
    """

    def logit_of(v: Any) -> Any:
        return 3 * np.tanh(v[:, 0]) + 0.2 * v[:, 0] + 0.5 * v[:, 1]

    teacher = model_of(lambda v: np.stack([1 - expit(logit_of(v)), expit(logit_of(v))], axis=1), CLASSES)
    decision, columns = Decision(1, 0.8), (Column("x"), Column("z"))

    def rows(n: int, seed: int) -> Table:
        return Table(np.random.default_rng(seed).normal(size=(n, 2)) * 1.5, columns, np.arange(n))

    train, test = rows(300, 0), rows(6000, 1)
    base = Targets.from_outputs(Split(train, None), teacher(train), output="probabilities", classes=CLASSES)
    held_out, is_near = Split(test, None), np.abs(logit_of(test.values) - logit(0.8)) < 0.5
    pool = smear(train, rows=300 * 4 * 8, seed=3)
    plans: dict[str, Any] = {"smear": (smear(train, rows=1200, seed=3), None)}
    settings = [NearThreshold(0.5, 0.1, "importance"), NearThreshold(0.5, 0.1, "flat")]
    for setting in settings:
        plans[setting.weights] = near_threshold(pool, teacher, decision, rows=1200, seed=4, settings=setting)[:2]
    near, elsewhere, divergence = {}, {}, {}
    for name, (queries, weight) in plans.items():
        taught = add_queries(base, teacher, queries, share=10.0, relative=weight)  # what queries say is what is learnt
        model = LinearStudent().fit(taught, validation=held_out, teacher=teacher, seed=0)
        same = decision(as_probabilities(model(test), model.output)) == decision(teacher(test))
        near[name], elsewhere[name] = float(same[is_near].mean()), float(same[~is_near].mean())
        divergence[name] = distance_to_teacher(model, teacher, held_out)
    assert near["flat"] > near["smear"] + 0.1
    for name in ("flat", "importance"):
        assert elsewhere[name] > elsewhere["smear"] - 0.01
        assert divergence[name] < divergence["smear"] + 0.005
    assert near["importance"] > near["smear"] - 0.01

"""Inputs that do not fit: one clear sentence each."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from distillens.audit.audit import audit
from distillens.data.base import Table
from distillens.errors import InputError, ModelError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": np.zeros(5)}, "labels should have shape"),
        ({"labels": np.full(40, 2)}, "class indices from 0 to 1"),
        ({"labels": np.array(["good"] * 40)}, "coded by the teacher's classes"),
        ({"weights": np.full(40, -1.0)}, "not negative"),
        ({"groups": np.zeros(3)}, "groups should have shape"),
        ({"adverse": "bda"}, "Did you mean 'bad'"),
        ({"adverse": 2}, "index below 2"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"level": 95}, "like 0.95"),
        ({"k": 0}, "at least 1"),
        ({"draws": 5}, "100 resamples"),
        ({"tolerance": 1.0}, "regression only"),
        ({"optimised": frozenset({"klx"})}, "Did you mean 'kl'"),
        ({"slices": ["sexx"], "audit_only": pd.DataFrame({"sex": ["f"] * 40})}, "Did you mean 'sex'"),
        ({"slices": "all"}, 'must be "auto"'),
        ({"audit_only": pd.DataFrame({"sex": ["f"] * 3})}, "it has 3"),
        ({"explanations": {"exact": {}}}, "lack the teacher's"),
        ({"gates": {"agreemnt": {"min": 1}}}, "Did you mean 'agreement'"),
    ],
)
def test_options_that_do_not_fit(world, options, words: str) -> None:
    w = world(40)
    with pytest.raises(InputError, match=words):
        w.audit(w.teacher, **options)


def test_models_that_cannot_be_compared(world) -> None:
    w = world(40)
    replace = dataclasses.replace
    with pytest.raises(ModelError, match="Did you mean 'good'"):
        w.audit(replace(w.teacher, classes=("goood", "bad")), explanations=None, explainers=())
    with pytest.raises(ModelError, match="no classes"):
        w.audit(replace(w.teacher, classes=(), output="values"), explanations=None, explainers=())
    with pytest.raises(ModelError, match="do not sum to 1"):
        w.audit(replace(w.teacher, output="probabilities"), explanations=None, explainers=())
    with pytest.raises(ModelError, match="NaN"):
        w.audit(replace(w.teacher, w=w.teacher.w * np.nan), explanations=None, explainers=())
    with pytest.raises(InputError, match="one of the two models"):
        w.audit(w.teacher, controls={"student": w.teacher})


def test_rows_that_cannot_be_audited(world) -> None:
    w = world(40)
    with pytest.raises(InputError, match="no rows"):
        audit(w.teacher, w.teacher, w.inputs.take(np.zeros(0, dtype=np.int64)))
    twice = Table(w.inputs.values, w.inputs.columns, np.zeros(40, dtype=np.int64))
    with pytest.raises(InputError, match="unique"):
        audit(w.teacher, w.teacher, twice)


def test_explanations_that_cannot_be_compared(world) -> None:
    w = world(40)

    def changed(**what):
        made = w.explained(w.teacher)
        made["exact"]["student"] = dataclasses.replace(made["exact"]["student"], **what)
        return made

    for what, words in (
        ({"units": tuple("abcdef")}, "different units"),
        ({"scale": "probability"}, "different scale"),
        ({"target": np.zeros(40, dtype=np.int64)}, "different classes"),
        ({"row_ids": np.arange(40) + 10**7}, "share no row id"),
        ({"row_ids": np.full(40, 7)}, "twice"),
    ):
        with pytest.raises(InputError, match=words):
            w.audit(w.teacher, explanations=changed(**what))


def test_missing_attributions_are_counted(world) -> None:
    w = world(60)
    made = w.explained(w.teacher)
    values = made["exact"]["student"].values.copy()
    values[:4] = np.nan
    made["exact"]["student"] = dataclasses.replace(made["exact"]["student"], values=values)
    overlap = w.audit(w.teacher, explanations=made).metric("top_k_overlap").estimate
    assert (overlap.n, overlap.n_missing, overlap.value) == (56, 4, 1.0)


def test_classes_in_another_order_are_mapped(world) -> None:
    w = world(40)

    @dataclasses.dataclass(frozen=True)
    class Turned:
        label: str = "turned"
        classes: tuple[str, ...] = ("bad", "good")
        output: str = "logits"
        fingerprint: None = None

        def __call__(self, inputs):
            return w.teacher(inputs)[:, ::-1]

    made = w.audit(Turned(), explainers=("exact_shapley",), max_explained=10)
    assert made.metric("agreement").estimate.value == 1
    assert made.metric("kl").estimate.value == pytest.approx(0, abs=1e-12)
    assert made.metric("top_k_overlap").estimate.value == 1
    assert made.metric("reason_cosine").estimate.value == pytest.approx(1)
    assert made.metric("mask_correlation").estimate.value == pytest.approx(1)
    assert made.metric("top_k_overlap").repeatability["teacher"].n == 10

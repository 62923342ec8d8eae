"""An out-of-time split and a split by patient, end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import distillens
from distillens.data.saved import read_dataset

RECIPE: dict[str, Any] = {
    "name": "split",
    "teacher": {"kind": "boosted_trees", "max_rounds": 20},
    "targets": {"queries": 0},
    "students": {"tree": {"kind": "tree", "max_leaves": 6}},
    "explain": [{"kind": "kernel_shap", "budget": 14, "rows": 20, "background": {"from": "train", "rows": 8}}],
    "audit": {"draws": 200},
    "export": [],
}


def drifting(n: int = 400) -> pd.DataFrame:
    """Loans over two years whose second year follows another rule."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["income", "debt", "tenure", "noise"])
    frame["month"] = np.sort(rng.integers(0, 24, n))
    late = frame["month"] >= 18
    score = frame["income"] - frame["debt"] + np.where(late, -1.5, 1.5) * frame["tenure"]
    frame["default"] = np.where(score + 0.3 * rng.normal(size=n) < 0, "yes", "no")
    frame["month"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["month"] * 30, unit="D")
    return frame


def test_out_of_time_the_test_rows_are_the_latest_and_the_drift_shows(tmp_path: Path) -> None:
    data = {"target": "default", "roles": {"time": "month"}, "split": {"time": "month", "test_from": "2025-06-20"}}
    run = distillens.run(RECIPE | {"data": data}, data=drifting(), out=tmp_path / "run")
    dataset = read_dataset(run.directory / "data")
    latest = max(dataset.train.inputs.row_ids.max(), dataset.validation.inputs.row_ids.max())
    assert dataset.train.inputs.row_ids.max() < dataset.validation.inputs.row_ids.min()
    assert latest < dataset.test.inputs.row_ids.min()
    assert "month" not in dataset.train.inputs.names
    audited = json.loads((run.directory / "students/tree/audit.json").read_text())
    accuracy = next(m for m in audited["metrics"] if m["name"] == "accuracy")
    before = json.loads((run.directory / "teacher/teacher.json").read_text())["validation"]["accuracy"]
    assert accuracy["teacher"]["value"] < before - 0.2, "a random split would hide that the rule changed"


def visits(patients: int = 80, each: int = 6) -> pd.DataFrame:
    """Several nearly equal visits of each patient."""
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(patients), each)
    frame = pd.DataFrame(rng.normal(size=(patients, 4))[person], columns=["a", "b", "c", "d"])
    frame += 0.05 * rng.normal(size=frame.shape)
    frame["patient"] = [f"P{p:03d}" for p in person]
    sick = rng.normal(size=patients) + frame.groupby("patient")["a"].mean().to_numpy() > 0
    frame["diagnosis"] = np.where(sick[person], "ill", "well")
    return frame


def test_by_patient_nobody_is_on_both_sides_and_intervals_count_patients(tmp_path: Path) -> None:
    data = {"target": "diagnosis", "roles": {"group": "patient"}, "split": {"group": "patient"}}
    run = distillens.run(RECIPE | {"data": data, "task": {"adverse": "ill"}}, data=visits(), out=tmp_path / "run")
    dataset = read_dataset(run.directory / "data")
    groups = [set(split.groups.tolist()) for split in (dataset.train, dataset.validation, dataset.test)]  # type: ignore[union-attr]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    audited = json.loads((run.directory / "students/tree/audit.json").read_text())
    agreement = next(m["estimate"] for m in audited["metrics"] if m["name"] == "agreement")
    assert agreement["n_clusters"] == len(groups[2])
    assert agreement["n"] == len(dataset.test)
    from distillens.intervals import clopper_pearson

    naive = clopper_pearson(agreement["value"] * agreement["n"], agreement["n"])
    assert agreement["high"] - agreement["low"] > naive.high - naive.low, (
        "six visits of one patient are not six patients"
    )

"""Kill −9 at any moment, `--resume`, and the passport is the same outside `measured`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DRIVER = Path(__file__).parent / "driver.py"

RECIPE = """
name: small
seed: 3
data: {source: small.csv, target: y, roles: {audit_only: [region]}, split: {test: 0.4, validation: 0.3}}
task: {adverse: bad}
teacher: {kind: boosted_trees, max_rounds: 20}
targets: {origin: out_of_fold, folds: 3, queries: 1}
students:
  tree: {kind: tree, max_leaves: 6}
  line: {kind: linear}
explain: [{kind: kernel_shap, budget: 32, rows: 20, background: {from: train, rows: 10}}]
controls: standard
audit: {draws: 100}
export: [onnx]
report: {languages: [en]}
"""


def drive(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder / "small.yaml"), str(folder), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    rng = np.random.default_rng(0)
    n = 240
    frame = pd.DataFrame(
        {
            "income": rng.normal(size=n),
            "debt": rng.normal(size=n),
            "age": rng.normal(size=n),
            "kind": rng.choice(["a", "b"], n),
        }
    )
    score = frame["income"] - frame["debt"] + (frame["kind"] == "a") + 0.5 * rng.normal(size=n)
    frame["region"] = rng.choice(["north", "south"], n)
    frame["y"] = np.where(score > 0.5, "good", "bad")
    frame.to_csv(folder / "small.csv", index=False)
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def test_killed_early_midway_and_late_then_resumed(small: Path) -> None:
    count = int(drive(small, "count"))
    assert count > 50
    printed = drive(small, "kill", "3", str(count // 2), str(count - 4))
    assert printed.count("same passport") == 3


@pytest.mark.slow
def test_killed_at_every_moment_then_resumed(small: Path) -> None:
    count = int(drive(small, "count"))
    printed = drive(small, "kill", *(str(moment) for moment in range(1, count + 1)))
    assert printed.count("same passport") == count

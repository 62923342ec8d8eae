"""benchmarks/distill_loop.py: ratios within repeats, goals, and the page that shows a run of it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distill_loop", ROOT / "benchmarks" / "distill_loop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_rows_are_medians_of_ratios_within_repeats(benchmark: ModuleType) -> None:
    seconds = {
        "teacher": [1.0, 2.0, 4.0],
        "build": [1.1, 2.4, 4.0],
        "table, ours": [2.0] * 3,
        "table, by hand": [1.0] * 3,
    }
    for name in benchmark.STUDENTS:
        arms = ("labels", "bare KD", "live", "cached", "cached, ahead 2", "augmented, ahead 0", "augmented, ahead 2")
        seconds |= {f"{arm} {name}": [1.0, 2.0, 4.0] for arm in arms}
    seconds["live ResNet-8"] = [3.0, 2.0, 16.0]
    rows = {(row["what"], row["student"]): row for row in benchmark.report(seconds)}
    live = rows["live ÷ bare KD", "ResNet-8"]
    assert (live["median"], live["low"], live["high"], live["goal"]) == (3.0, 1.0, 4.0, 1.05)
    assert rows["(teacher + labels) ÷ labels: the ceiling", "ResNet-8×4"]["median"] == 2.0
    assert rows["build ÷ teacher", ""]["median"] == pytest.approx(1.1)
    assert ("live ÷ torchdistill", "ResNet-8") not in rows  # was not measured


def test_the_page_shows_every_goal_and_says_which_were_missed(benchmark: ModuleType) -> None:
    page = (ROOT / "docs" / "speed-of-training.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (.+?) \|.*?\| ([\d.]+) \|.*\| ≤ ([\d.]+) \| (met|missed) \|$", page, re.M)
    assert {what for what, *_ in shown} == set(benchmark.GOALS)
    for what, median, goal, said in shown:
        assert float(goal) == benchmark.GOALS[what]
        assert said == ("met" if float(median) <= float(goal) else "missed")

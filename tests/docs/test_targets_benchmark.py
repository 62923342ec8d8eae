"""benchmarks/targets.py: one real repeat, the words of its report, and that the page shows the comparisons it names."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def targets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("targets_benchmark", ROOT / "benchmarks" / "targets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_one_repeat_has_a_saturated_teacher_and_every_arm(targets: ModuleType) -> None:
    found = targets.repeat("german-credit", 0, ("tree",))
    assert found["rows"] == [700, 300]
    assert tuple(found["tree"]) == targets.ARMS
    assert json.loads(json.dumps(found)) == found
    assert found["teacher"]["agreement"] == 1.0
    learn, test, classes = targets.rows("german-credit", 0)
    assert not set(learn.inputs.row_ids) & set(test.inputs.row_ids)
    teacher = targets.TEACHER.fit(targets.Targets.from_labels(learn, classes), validation=learn, teacher=None, seed=0)
    assert targets.measures(teacher, teacher, learn)["log-loss"] < 0.01 < found["teacher"]["log-loss"]


def made_up(shift: float) -> list[dict[str, Any]]:
    """Out-of-fold students whose log-loss, AUC and agreement differ from labels by `shift`, all others by nothing."""
    arms = ("labels", "smoothed", "in-sample", "in-sample + queries", "out-of-fold", "out-of-fold + queries")
    base = [0.5, 0.51, 0.49, 0.505, 0.495]
    return [
        {
            "rows": [700, 300],
            "teacher": dict.fromkeys(("log-loss", "AUC"), 0.8),
            "tree": {
                arm: dict.fromkeys(
                    ("log-loss", "AUC", "agreement"), b + (shift + b / 100 if arm == "out-of-fold" else 0.0)
                )
                for arm in arms
            },
        }
        for b in base
    ]


def test_lower_log_loss_is_better_and_lower_auc_is_worse(targets: ModuleType) -> None:
    line = next(x for x in targets.report({"made up": made_up(-0.1)}).splitlines() if x.startswith("| out-of-fold |"))
    assert [word in cell for word, cell in zip(("better", "worse", "worse"), line.split("|")[3:8:2], strict=True)] == [
        True
    ] * 3
    assert "(98.75 %)" in line.split("|")[3]
    assert "(98.75 %)" not in line.split("|")[5]
    nothing = targets.report({"made up": made_up(-0.005)})
    assert nothing.splitlines()[-2].endswith("not separated")


def test_the_page_shows_every_table_and_arm(targets: ModuleType) -> None:
    page = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    for name in targets.DATA:
        for student in targets.STUDENTS:
            assert f"### {name}, {student} student: 50 splits" in page
    for arm in targets.ARMS:
        assert page.count(f"| {arm} | ") == (2 if arm == "smoothed" else 4)

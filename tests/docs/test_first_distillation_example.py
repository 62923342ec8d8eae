"""examples/first_distillation.py: its table, its checks, and that page and example speak of the same students."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from distillens.models.threads import one_thread

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_distillation", ROOT / "examples" / "first_distillation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_it_prints_every_part_beside_the_student_of_labels(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["first_distillation.py", "--seeds", "2"])
    state = torch.get_rng_state()
    example.main()
    assert torch.equal(torch.get_rng_state(), state)  # no global seeding
    table = capsys.readouterr().out
    page = (ROOT / "docs" / "first-distillation.md").read_text(encoding="utf-8")
    for heading in ("10→20→3, 1,000 labelled rows", "10→5→3, 100 labelled rows"):
        assert heading in table
        assert heading in page
    for arm in example.ARMS:
        assert table.count(f"  {arm.name:36}") == (2 if arm.all_rows else 4)
        assert f"  {arm.name:36}" in page


def test_the_teacher_knows_and_gives_what_it_knows(example: ModuleType) -> None:
    """With a tenth of the labels, the teacher's answers help on every one of these tasks."""
    for seed in range(2):
        with one_thread():
            taught, found = example.one_seed(seed)
        assert taught["accuracy"] > 0.55
        few = {arm: measures for (rows, size, arm), measures in found.items() if rows == 100 and size == "10→5→3"}
        labels, both = few["labels only"], few["+ teacher's probabilities"]
        assert both["log-loss"] < labels["log-loss"]
        assert both["agreement"] > labels["agreement"]


def test_a_teacher_that_moves_or_is_not_frozen_is_caught(example: ModuleType) -> None:
    teacher = example.network(20, seed=0)
    with pytest.raises(RuntimeError, match="not frozen"), example.unchanged(teacher):
        pass
    teacher.eval().requires_grad_(False)
    with pytest.raises(RuntimeError, match=r"2\.bias has changed"), example.unchanged(teacher):
        teacher[2].bias.add_(1.0)
    with example.unchanged(teacher):
        pass


def test_equal_seeds_give_equal_networks_and_students_start_alike(example: ModuleType) -> None:
    first, again, other = (example.network(5, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)

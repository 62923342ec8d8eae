"""benchmarks/explainers.py: its clock and errors, and that its page names what it prints."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from distillens.explainers.shapley import ExactShapley, KernelShap

ROOT = Path(__file__).parents[2]
OPTIONS = {"rows": 2, "repeats": 3, "features": 8, "background": 5, "budget": 80, "threads": 1, "clock": "cpu"}


@pytest.fixture(scope="module")
def explainers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("explainers_benchmark", ROOT / "benchmarks" / "explainers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_methods_take_turns_and_errors_are_distances_to_the_truth(explainers: ModuleType) -> None:
    bench = explainers.Bench(argparse.Namespace(**OPTIONS))
    truth = bench.ours(ExactShapley(), bench.b)()
    seconds, errors = bench.compared(
        {
            "exact": bench.ours(ExactShapley(), bench.b),
            "long": bench.ours(KernelShap(budget=32 * 80), bench.b),
            "short": bench.ours(KernelShap(budget=80), bench.b),
            "nothing": lambda: np.zeros_like(truth),
        },
        truth,
    )
    assert {len(took) for took in seconds.values()} == {3}
    assert errors["exact"] == 0
    assert errors["long"] < 1e-6  # all 2^8 coalitions
    assert 1e-6 < errors["short"] < 0.1
    assert errors["nothing"] == pytest.approx(np.sqrt((truth**2).mean()) / truth.std())
    known = bench.ours(ExactShapley(), bench.b, bench.known())()
    np.testing.assert_allclose(known, truth, atol=1e-5)


def test_another_model_has_its_own_rows(explainers: ModuleType) -> None:
    bench = explainers.Bench(argparse.Namespace(**OPTIONS))
    other = bench.with_model(explainers.network(8, 3), bench.x[:1], bench.b[:2])
    assert other.ours(ExactShapley(), other.b)().shape == (1, 8)
    assert bench.x.shape == (2, 8)


def test_the_page_shows_every_comparison(explainers: ModuleType) -> None:
    page = (ROOT / "docs" / "explainer-speed.md").read_text(encoding="utf-8")
    for words in ("shap Kernel", "captum", "shap Permutation", "LIME ÷ lime", "first layer known", "shared orders"):
        assert words in page, words
    for name in ("untrained network", "network, breast cancer", "boosted trees, breast cancer"):
        assert name in page

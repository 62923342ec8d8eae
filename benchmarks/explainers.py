"""KernelSHAP: rows a second of distillens ÷ shap, and our time ÷ the bare forwards of the same masked rows.

    python benchmarks/explainers.py [--rows 4] [--repeats 5] [--threads 2]

A 30-64-64-1 float32 torch network, 30 features, 100 background rows, 2,048 coalitions. Each repeat times ours, the bare forwards
and shap one after another; the medians of the paired ratios are printed with their range. The bare forwards call the same
model with the same masked rows, already made, in chunks of the same size: no explainer can be faster without calling the model less.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from distillens.data.base import Column, Floats, Table
from distillens.explainers.coalitions import coalitions
from distillens.explainers.masking import MEMORY_BYTES, rows_that_fit
from distillens.explainers.shapley import KernelShap
from distillens.models.base import Output, from_log_odds


@dataclass
class Network:
    """A small torch network with one logit, seen as a binary model."""

    module: Any
    label: str = "network"
    classes: tuple[str, ...] = ("no", "yes")
    output: Output = "logits"
    fingerprint: str | None = None

    def scores(self, values: Floats) -> Floats:
        """(n,) logit of the second class from (n, F) raw values."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.module(torch.from_numpy(values).float())[:, 0].numpy(), dtype=np.float64)

    def __call__(self, inputs: Table) -> Floats:
        return from_log_odds(self.scores(inputs.values))


def network(features: int, seed: int) -> Network:
    import torch

    sizes = (features, 64, 64, 1)
    layers: list[Any] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for a, b in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return Network(torch.nn.Sequential(*layers[:-1]).eval())


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):6.2f}   ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} paired runs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("rows", 4),
        ("repeats", 5),
        ("features", 30),
        ("background", 100),
        ("budget", 2048),
        ("threads", 2),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    columns = tuple(Column(f"x{j}") for j in range(options.features))
    x, b = (rng.normal(size=(n, options.features)) for n in (options.rows, options.background))
    inputs, background = (Table(v, columns, np.arange(len(v))) for v in (x, b))
    model = network(options.features, 0)
    explainer = KernelShap(budget=options.budget)
    target = np.ones(options.rows, dtype=np.int64)

    plan = coalitions(options.features, options.budget, 0)
    masked = np.where(plan.masks[:, None, None], x[None, :, None], b[None, None]).reshape(-1, options.features)
    chunk = rows_that_fit(options.features, MEMORY_BYTES)
    chunks = [inputs.with_values(masked[at : at + chunk]) for at in range(0, len(masked), chunk)]

    def ours() -> None:
        explainer(model, inputs, target=target, background=background, seed=0)

    def bare() -> None:
        for piece in chunks:
            model(piece)

    shap_ours: list[float] = []
    ours_bare: list[float] = []
    theirs = shap_explainer(model, b)
    speeds: dict[str, list[float]] = {"distillens": [], "shap": []}
    ours(), bare()  # warm up
    for _ in range(options.repeats):
        own, forward = seconds(ours), seconds(bare)
        ours_bare.append(own / forward)
        speeds["distillens"].append(options.rows / own)
        if theirs is not None:
            peer = seconds(lambda: theirs.shap_values(x, nsamples=options.budget, l1_reg=False, silent=True))
            shap_ours.append(peer / own)
            speeds["shap"].append(options.rows / peer)
    print(
        f"{options.rows} rows, {options.features} features, {options.background} background rows, {options.budget} coalitions"
    )
    for name, speed in speeds.items():
        if speed:
            print(f"{name:>12}: {statistics.median(speed):8.2f} rows/s")
    if shap_ours:
        print(f"distillens ÷ shap, rows/s:       {told(shap_ours)}")
    else:
        print("shap is not installed: pip install 'distillens[bench]'")
    print(f"our time ÷ time of bare forwards: {told(ours_bare)}")


def shap_explainer(model: Network, background: Floats) -> Any:
    """shap's KernelExplainer of the same score (log-odds of the second class), or None without shap."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba and IPython speak up while shap is imported
        try:
            import shap
        except ImportError:
            return None
        return shap.KernelExplainer(lambda values: model.scores(np.asarray(values)), background)


if __name__ == "__main__":
    main()

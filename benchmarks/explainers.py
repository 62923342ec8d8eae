"""How fast explanations are, and how wrong: distillens beside shap, lime and captum on one small network.

    python benchmarks/explainers.py [--rows 4] [--repeats 5] [--threads 1] [--clock wall|cpu]

A 30-64-64-1 float32 torch network, 30 features, 100 background rows, 2,048 coalitions. Every repeat times a method and its peer
one after the other; the median of the paired ratios is printed with its range. Beside each speed stands the error: the root mean
square distance of the attributions, over all repeats (each with its own seed), to those of a long run (32,768 coalitions; for LIME
200,000 samples), over the spread of the latter. Errors fall with the root of the work, so the ratio at equal error is the ratio of
speeds times the squared ratio of errors.

The bare forwards call the same model with the same masked rows, already made, in the best of four chunk sizes: no explainer of
an unknown model can be faster without calling it less. "First layer known": the same weights as a `TabularNetwork`, whose first layer is
a sum over features. Captum masks against one baseline, so there the background is its mean row. LIME explains five times as many rows.
`--clock cpu` counts the processor's time instead of the wall's, for machines that other work keeps busy; use it with one thread.
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
from distillens.explainers.lime import Lime
from distillens.explainers.permutation import PermutationShap
from distillens.explainers.shapley import KernelShap
from distillens.models.base import Model, Output, from_log_odds
from distillens.models.encoding import Encoding
from distillens.models.nets.mlp import MLPSettings
from distillens.models.torch_module import TabularNetwork

Answer = Callable[[], Floats]


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


class Bench:
    """One network, the rows to explain and a background."""

    def __init__(self, options: argparse.Namespace) -> None:
        rng = np.random.default_rng(0)
        self.options = options
        self.columns = tuple(Column(f"x{j}") for j in range(options.features))
        self.x, self.b = (rng.normal(size=(n, options.features)) for n in (options.rows, options.background))
        self.model = network(options.features, 0)
        self.clock = time.process_time if options.clock == "cpu" else time.perf_counter

    def table(self, values: Floats) -> Table:
        return Table(values, self.columns, np.arange(len(values)))

    def ours(self, explainer: Any, background: Floats, model: Model | None = None) -> Answer:
        """Explains with another seed every time."""
        rows, others, seeds = self.table(self.x), self.table(background), itertools.count()
        target, model = np.ones(len(rows), dtype=np.int64), self.model if model is None else model
        return lambda: explainer(model, rows, target=target, background=others, seed=next(seeds)).values

    def known(self) -> TabularNetwork:
        """The same network with its layers known: a model of values, so that its score is the same logit."""
        encoding = Encoding.fit(self.table(self.b), standardize=False)
        return TabularNetwork(encoding, self.model.module, MLPSettings(hidden=(64, 64)), ())

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        start = self.clock()
        result = work()
        return self.clock() - start, result

    def seconds(self, work: Callable[[], Any]) -> float:
        return self.timed(work)[0]

    def beside(self, name: str, own: Answer, peer: Answer | None, truth: Floats, *, goal: float) -> None:
        """Print both speeds, both errors and the paired ratio."""
        if peer is None:
            print(f"{name}: the peer is not installed: pip install 'distillens[bench]'")
            return
        own(), peer()  # warm up
        pairs = [(self.timed(own), self.timed(peer)) for _ in range(self.options.repeats)]
        print(name)
        errors = []
        for label, runs in zip(("distillens", "peer"), zip(*pairs, strict=True), strict=True):
            errors.append(float(np.sqrt(np.mean([(result - truth) ** 2 for _, result in runs])) / truth.std()))
            speed = len(truth) / statistics.median(took for took, _ in runs)
            print(f"    {label:>10}: {speed:9.2f} rows/s   error {errors[-1]:.4f}")
        ratios = [theirs / ours for (ours, _), (theirs, _) in pairs]
        print(f"    ratio {told(ratios)}   goal ≥ {goal}")
        print(f"    at equal error {statistics.median(ratios) * (errors[1] / errors[0]) ** 2:7.2f}")


def told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):7.2f}   ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} paired runs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rows": 4, "repeats": 5, "features": 30, "background": 100, "budget": 2048, "threads": 1}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    bench = Bench(options)
    print(
        f"{options.rows} rows, {options.features} features, {options.background} background rows, {options.budget} coalitions, "
        f"{options.threads} thread(s), {options.clock} time"
    )
    long = KernelShap(budget=32_768)
    truth = bench.ours(long, bench.b)()
    kernel = bench.ours(KernelShap(budget=options.budget), bench.b)
    bench.beside("KernelSHAP ÷ shap.KernelExplainer", kernel, shap_kernel(bench), truth, goal=4)
    faster = bench.ours(KernelShap(budget=options.budget), bench.b, bench.known())
    bench.beside("KernelSHAP, first layer known ÷ shap.KernelExplainer", faster, shap_kernel(bench), truth, goal=4)
    bare_forwards(bench, kernel)
    mean = bench.b.mean(axis=0, keepdims=True)
    single = bench.ours(KernelShap(budget=options.budget), mean)
    bench.beside(
        "KernelSHAP ÷ captum KernelShap, one baseline",
        single,
        captum_kernel(bench, mean),
        bench.ours(long, mean)(),
        goal=20,
    )
    for background, goal in ((bench.b, 1.5), (bench.b[:20], 5)):
        name = f"permutation SHAP ÷ shap.PermutationExplainer, {len(background)} background rows"
        own = bench.ours(PermutationShap(budget=options.budget), background)
        reference = truth if len(background) == len(bench.b) else bench.ours(long, background)()
        bench.beside(name, own, shap_permutation(bench, background), reference, goal=goal)
    more = Bench(argparse.Namespace(**(vars(options) | {"rows": 5 * options.rows})))
    reference = more.ours(Lime(samples=200_000), more.b)()
    more.beside("LIME ÷ lime, 5,000 samples", more.ours(Lime(), more.b), lime_tables(more), reference, goal=10)


def bare_forwards(bench: Bench, own: Answer) -> None:
    plan = coalitions(bench.options.features, bench.options.budget, 0)
    masked = np.where(plan.masks[:, None, None], bench.x[None, :, None], bench.b[None, None]).reshape(
        -1, bench.x.shape[1]
    )
    best: list[Table] = []
    fastest = float("inf")
    for size in (1024, 2048, 4096, 16_384):
        pieces = [bench.table(masked[at : at + size]) for at in range(0, len(masked), size)]
        took = min(bench.seconds(lambda p=pieces: [bench.model(piece) for piece in p]) for _ in range(3))  # type: ignore[misc]
        if took < fastest:
            fastest, best = took, pieces
    ratios = [
        bench.seconds(own) / bench.seconds(lambda: [bench.model(piece) for piece in best])
        for _ in range(bench.options.repeats)
    ]
    print(f"our time ÷ bare forwards of the same rows, {len(best[0])} at a time")
    print(f"    ratio {told(ratios)}   goal ≤ 1.2")


def shap_kernel(bench: Bench) -> Answer | None:
    """shap's KernelExplainer of the same score, or None without shap."""
    shap = quietly("shap")
    if shap is None:
        return None
    peer = shap.KernelExplainer(lambda v: bench.model.scores(np.asarray(v)), bench.b)
    return lambda: np.asarray(peer.shap_values(bench.x, nsamples=bench.options.budget, l1_reg=False, silent=True))


def shap_permutation(bench: Bench, background: Floats) -> Answer | None:
    """shap's PermutationExplainer with as many orders as our budget pays for, or None without shap."""
    shap = quietly("shap")
    if shap is None:
        return None
    features = bench.options.features
    orders = bench.options.budget // (2 * (features - 1))
    masker = shap.maskers.Independent(background, max_samples=len(background))
    peer = shap.PermutationExplainer(lambda v: bench.model.scores(np.asarray(v)), masker, seed=0)
    return lambda: np.asarray(peer(bench.x, max_evals=orders * (2 * features + 1), silent=True).values)


def captum_kernel(bench: Bench, baseline: Floats) -> Answer | None:
    """captum's KernelShap of the same module, or None without captum."""
    captum = quietly("captum.attr")
    if captum is None:
        return None
    import torch

    peer = captum.KernelShap(lambda rows: bench.model.module(rows)[:, 0])
    base = torch.from_numpy(baseline).float()

    def explain() -> Floats:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            each = [
                peer.attribute(row[None], baselines=base, n_samples=bench.options.budget, perturbations_per_eval=1024)
                for row in torch.from_numpy(bench.x).float()
            ]
        return torch.cat(each).double().numpy()

    return explain


def lime_tables(bench: Bench) -> Answer | None:
    """lime's tabular explainer of the same score without selection of features, or None without lime."""
    lime = quietly("lime.lime_tabular")
    if lime is None:
        return None
    peer = lime.LimeTabularExplainer(bench.b, mode="regression", feature_selection="none", random_state=0)

    def explain() -> Floats:
        out = np.zeros(bench.x.shape)
        for i, row in enumerate(bench.x):
            found = peer.explain_instance(
                row, bench.model.scores, num_features=bench.options.features, num_samples=5000
            )
            for j, value in found.as_map()[1]:
                out[i, j] = value
        return out

    return explain


def quietly(module: str) -> Any:
    """An imported module, or None when it is not installed; libraries that numba and IPython accompany speak up on import."""
    from importlib import import_module

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(module)
        except ImportError:
            return None


if __name__ == "__main__":
    main()

"""How fast explanations are, and how wrong: distillens beside shap, lime and captum on one small network.

    python benchmarks/explainers.py [--rows 4] [--repeats 5] [--threads 1] [--clock wall|cpu] [--only speed|equal-error]

Speed: a 30-64-64-1 float32 torch network, 30 features, 100 background rows, 2,048 coalitions. Every repeat times a method and its
peer one after the other; the median of the paired ratios is printed with its range. Beside each speed stands the error: the root
mean square distance of the attributions, over all repeats (each with its own seed), to those of a long run (32 times the budget; for
LIME 200,000 samples), over the spread of the latter. KernelSHAP and permutation SHAP are shown with coalitions of their own for
every background row (the default) and with shared ones, as in the peers; the number of model answers is the same.

Equal error: errors fall with the root of the work, so time × error² is what an explanation of a given error costs. That of our
methods is divided into that of shap's KernelExplainer or PermutationExplainer, whichever is smaller, for three models of 30
features: the network as it was initialised, one trained on the breast cancer data, and boosted trees on the same data.

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
LONG = 10**6  # seed of the long runs, far from those of the repeats


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
        self.model: Any = network(options.features, 0)
        self.clock = time.process_time if options.clock == "cpu" else time.perf_counter

    def with_model(self, model: Any, x: Floats, b: Floats) -> Bench:
        """The same options with another model, other rows and another background."""
        other = Bench(self.options)
        other.model, other.x, other.b = model, x, b
        return other

    def table(self, values: Floats) -> Table:
        return Table(values, self.columns, np.arange(len(values)))

    def ours(self, explainer: Any, background: Floats, model: Model | None = None, *, seed: int = 0) -> Answer:
        """Explains with another seed every time, the first being `seed`."""
        rows, others, seeds = self.table(self.x), self.table(background), itertools.count(seed)
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
        seconds, errors = self.compared({"distillens": own, "peer": peer}, truth)
        print(name)
        for label, took in seconds.items():
            print(f"    {label:>10}: {len(truth) / statistics.median(took):9.2f} rows/s   error {errors[label]:.4f}")
        ratios = [theirs / ours for ours, theirs in zip(seconds["distillens"], seconds["peer"], strict=True)]
        print(f"    ratio {told(ratios)}   goal ≥ {goal}", flush=True)

    def compared(self, answers: dict[str, Answer], truth: Floats) -> tuple[dict[str, list[float]], dict[str, float]]:
        """Seconds of every repeat, and the error, of methods that take turns."""
        for answer in answers.values():
            answer()  # warm up
        rounds = [{name: self.timed(answer) for name, answer in answers.items()} for _ in range(self.options.repeats)]
        missed = {name: np.mean([(r[name][1] - truth) ** 2 for r in rounds]) for name in answers}
        return {name: [r[name][0] for r in rounds] for name in answers}, {
            name: float(np.sqrt(value) / truth.std()) for name, value in missed.items()
        }


def told(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):7.2f}   ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} paired runs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rows": 4, "repeats": 5, "features": 30, "background": 100, "budget": 2048, "threads": 1}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--only", choices=("speed", "equal-error"))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    bench = Bench(options)
    print(
        f"{options.rows} rows, {options.features} features, {options.background} background rows, {options.budget} coalitions, "
        f"{options.threads} thread(s), {options.clock} time"
    )
    if options.only != "equal-error":
        speeds(bench)
    if options.only != "speed":
        equal_error(bench)


def speeds(bench: Bench) -> None:
    options = bench.options
    long, short = KernelShap(budget=32 * options.budget), KernelShap(budget=options.budget)
    shared = KernelShap(budget=options.budget, draws="shared")
    truth = bench.ours(long, bench.b, seed=LONG)()
    peer = shap_kernel(bench)
    bench.beside("KernelSHAP ÷ shap.KernelExplainer", bench.ours(short, bench.b), peer, truth, goal=4)
    bench.beside(
        "KernelSHAP, shared coalitions ÷ shap.KernelExplainer", bench.ours(shared, bench.b), peer, truth, goal=4
    )
    known = bench.ours(short, bench.b, bench.known())
    bench.beside("KernelSHAP, first layer known ÷ shap.KernelExplainer", known, peer, truth, goal=4)
    bare_forwards(bench, {"KernelSHAP": short, "KernelSHAP, shared coalitions": shared})
    mean = bench.b.mean(axis=0, keepdims=True)
    bench.beside(
        "KernelSHAP ÷ captum KernelShap, one baseline",
        bench.ours(short, mean),
        captum_kernel(bench, mean),
        bench.ours(long, mean, seed=LONG)(),
        goal=20,
    )
    for background, goal in ((bench.b, 1.5), (bench.b[:20], 5)):
        reference = truth if len(background) == len(bench.b) else bench.ours(long, background, seed=LONG)()
        for draws, name in (("own", ""), ("shared", ", shared orders")):
            bench.beside(
                f"permutation SHAP{name} ÷ shap.PermutationExplainer, {len(background)} background rows",
                bench.ours(PermutationShap(budget=options.budget, draws=draws), background),  # type: ignore[arg-type]
                shap_permutation(bench, background),
                reference,
                goal=goal,
            )
    more = Bench(argparse.Namespace(**(vars(options) | {"rows": 5 * options.rows})))
    reference = more.ours(Lime(samples=200_000), more.b)()
    more.beside("LIME ÷ lime, 5,000 samples", more.ours(Lime(), more.b), lime_tables(more), reference, goal=10)


def equal_error(bench: Bench) -> None:
    """Time for an attribution of a given error, over that of the better of shap's two explainers."""
    if shap_kernel(bench) is None:
        print("equal error: shap is not installed: pip install 'distillens[bench]'")
        return
    budget = bench.options.budget
    print("time for an equal error, shap's better explainer ÷ ours   goal ≥ 10")
    for name, here, longer in ((*each, 32) if "trees" not in each[0] else (*each, 8) for each in cases(bench)):
        long = [here.ours(kind(budget=longer * budget), here.b, seed=LONG)() for kind in (KernelShap, PermutationShap)]
        truth = (long[0] + long[1]) / 2
        apart = float(np.sqrt(np.mean((long[0] - long[1]) ** 2)) / truth.std())
        answers: dict[str, Answer] = {
            "KernelSHAP": here.ours(KernelShap(budget=budget), here.b),
            "permutation SHAP": here.ours(PermutationShap(budget=budget), here.b),
            "KernelSHAP, shared coalitions": here.ours(KernelShap(budget=budget, draws="shared"), here.b),
        }
        for label, peer in (("shap Kernel", shap_kernel(here)), ("shap Permutation", shap_permutation(here, here.b))):
            assert peer is not None
            answers[label] = peer
        seconds, errors = here.compared(answers, truth)
        cost = {label: [took * errors[label] ** 2 for took in seconds[label]] for label in answers}
        best = min(("shap Kernel", "shap Permutation"), key=lambda label: statistics.median(cost[label]))
        print(f"  {name} (two long runs by different estimators differ by {apart:.4f})")
        for label in answers:
            ratios = [theirs / ours for ours, theirs in zip(cost[label], cost[best], strict=True)]
            speed = len(truth) / statistics.median(seconds[label])
            print(f"    {label:>30}: {speed:8.2f} rows/s   error {errors[label]:.4f}   {told(ratios)}", flush=True)


def cases(bench: Bench) -> list[tuple[str, Bench]]:
    """The untrained network; a network of the same shape and boosted trees, both trained on the breast cancer data."""
    import torch
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import HistGradientBoostingClassifier

    found = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(found.target))
    x = ((found.data - found.data.mean(axis=0)) / found.data.std(axis=0))[order]
    y = 1 - found.target[order]  # 1 = malignant
    rows, others = x[400 : 400 + bench.options.rows], x[: bench.options.background]
    net = network(x.shape[1], 1)
    optimiser = torch.optim.Adam(net.module.parameters(), lr=1e-3, weight_decay=1e-3)
    inputs, labels = torch.from_numpy(x[:400]).float(), torch.from_numpy(y[:400]).float()
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(net.module(inputs)[:, 0], labels).backward()
        optimiser.step()
    trees = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(x[:400], y[:400])
    return [
        ("untrained network", bench),
        ("network, breast cancer", bench.with_model(net, rows, others)),
        ("boosted trees, breast cancer", bench.with_model(Trees(trees), rows[:2], others)),
    ]


@dataclass
class Trees:
    """Boosted trees by their log-odds, seen as a binary model."""

    fitted: Any
    label: str = "trees"
    classes: tuple[str, ...] = ("no", "yes")
    output: Output = "logits"
    fingerprint: str | None = None

    def scores(self, values: Floats) -> Floats:
        return np.asarray(self.fitted.decision_function(values), dtype=np.float64)

    def __call__(self, inputs: Table) -> Floats:
        return from_log_odds(self.scores(inputs.values))


def bare_forwards(bench: Bench, explainers: dict[str, Any]) -> None:
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
    for name, explainer in explainers.items():
        own = bench.ours(explainer, bench.b)
        own()
        ratios = [
            bench.seconds(own) / bench.seconds(lambda: [bench.model(piece) for piece in best])
            for _ in range(bench.options.repeats)
        ]
        print(f"{name}: our time ÷ bare forwards of as many masked rows, {len(best[0])} at a time")
        print(f"    ratio {told(ratios)}   goal ≤ 1.2", flush=True)


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

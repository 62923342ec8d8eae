"""Rows against single background rows: the same values as the mean game's, fewer answers, smaller errors, honest ones."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import InputError, ModelError
from distillens.explainers import cells
from distillens.explainers.cells import cell_shapley
from distillens.explainers.masking import keep_freed_memory
from distillens.explainers.pairs import kernel_pairs
from distillens.explainers.permutation import PermutationShap
from distillens.explainers.shapley import ExactShapley, KernelShap
from distillens.explainers.units import units_of

ZEROS = np.zeros(100, dtype=np.int64)


def mixed_table(rng: np.random.Generator, n: int) -> Table:
    """Two numbers, one of them with missing values, and three columns of codes, in which rows often agree."""
    values = np.column_stack([rng.normal(size=(n, 2)), rng.integers(0, 3, size=(n, 3))]).astype(float)
    values[rng.random(n) < 0.4, 1] = np.nan
    kinds = [Column("a"), Column("b"), *(Column(c, "categorical", ("x", "y", "z")) for c in "cde")]
    return Table(values, tuple(kinds), np.arange(n))


def jumpy(values: np.ndarray) -> np.ndarray:
    a, b, c, d, e = np.nan_to_num(values, nan=-2.0).T
    return a * b + np.where(c == d, e * a, -b) + (c == 1) * (d == 2) * 3.0 + np.sin(a * e) * (c + 1)


def cell_by_cell(model, inputs, background, *, budget=10_000, groups=None, target=0, scale="value", **options):
    units = units_of(inputs.columns, groups)
    return cell_shapley(
        model, inputs, background=background, units=units, target=target, scale=scale, plan=lambda u: kernel_pairs(u, budget, 0),
        seed=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("groups", [None, {"g": ["a", "d"]}])
def test_all_coalitions_of_every_cell_are_the_exact_values(rng, formula, groups):
    inputs, background = mixed_table(rng, 12), mixed_table(rng, 9)
    truth = ExactShapley(groups=groups)(formula(jumpy), inputs, target=ZEROS[:12], background=background, seed=0)
    for chunk in (1, 7, 64, None):
        phi, stderr, base, output = cell_by_cell(formula(jumpy), inputs, background, groups=groups, chunk_rows=chunk)
        np.testing.assert_allclose(phi, truth.values, atol=1e-12)
        np.testing.assert_allclose(base, truth.base)
        np.testing.assert_allclose(output, truth.output)
        assert (stderr == 0).all()


def test_every_row_has_its_own_target_and_scale(rng):
    class Three:
        label, classes, output, fingerprint = "three", ("p", "q", "r"), "logits", None

        def __call__(self, inputs):
            v = np.nan_to_num(inputs.values)
            return np.stack([jumpy(v), v[:, 0] * v[:, 2], v.sum(axis=1)], axis=1)

    inputs, background, target = mixed_table(rng, 7), mixed_table(rng, 5), np.arange(7) % 3
    for scale in ("log_odds", "probability"):
        truth = ExactShapley(scale=scale)(Three(), inputs, target=target, background=background, seed=0)
        phi, _, base, output = cell_by_cell(Three(), inputs, background, target=target, scale=scale, memory_bytes=1)
        np.testing.assert_allclose(phi, truth.values, atol=1e-12)
        np.testing.assert_allclose(base, truth.base)
        np.testing.assert_allclose(output, truth.output)


def test_the_model_is_asked_for_the_budget_and_less_where_rows_agree(rng, table, formula):
    x, b = rng.normal(size=(3, 14)), rng.normal(size=(6, 14))
    model = formula(lambda v: v.prod(axis=1))
    KernelShap(budget=300)(model, table(x), target=ZEROS[:3], background=table(b), seed=0)
    assert model.rows == 3 * 6 * 300 + 3 + 6
    x[0, 2:], b[:, 0] = b[0, 2:], x[0, 0]  # row 0 differs from background row 0 in one unit, from the others in 13
    model = formula(lambda v: v.prod(axis=1))
    e = KernelShap(budget=300)(model, table(x), target=ZEROS[:3], background=table(b), seed=0)
    assert model.rows == 17 * 300 + 3 + 6
    assert e.values[0, 0] == 0
    assert np.abs(e.residual).max() < 1e-9


@pytest.mark.parametrize("kind", [KernelShap, PermutationShap], ids=lambda k: k.kind)
def test_own_draws_err_less_than_shared_ones_for_the_same_answers(kind, rng, table, formula, smooth_function):
    x, b = table(rng.normal(size=(4, 12))), table(rng.normal(size=(40, 12)))
    run = {"target": ZEROS[:4], "background": b}
    truth = ExactShapley()(formula(smooth_function), x, seed=0, **run).values
    errors, answers = {}, {}
    for draws in ("own", "shared"):
        model = formula(smooth_function)
        found = [kind(budget=264, draws=draws)(model, x, seed=s, **run) for s in range(6)]
        errors[draws] = np.mean([(e.values - truth) ** 2 for e in found])
        answers[draws] = model.rows
        near = [np.abs(e.values - truth) < 1.96 * e.stderr for e in found]
        assert np.mean(near) > 0.85
        assert max(np.abs(e.residual).max() for e in found) < 1e-9
    assert answers["own"] < 1.2 * answers["shared"]  # walks that share their orders meet in small and large sets
    assert errors["own"] < errors["shared"] / 4


def test_two_models_answer_for_the_same_masked_rows(rng, table, formula):
    x, b = table(rng.normal(size=(2, 12))), table(rng.normal(size=(3, 12)))
    asked = []
    for f in (np.sin, np.cos):
        seen = []
        model = formula(lambda v, f=f, seen=seen: (seen.append(v.copy()), f(v).prod(axis=1))[1])
        KernelShap(budget=200)(model, x, target=ZEROS[:2], background=b, seed=3)
        asked.append(np.concatenate(seen))
    np.testing.assert_array_equal(*asked)
    cells_seen = asked[0][5:].reshape(-1, 12)
    own = np.isin(cells_seen, x.values) | np.isin(cells_seen, b.values)
    assert own.all()  # every masked value is the row's or the background row's own, to the bit


def test_background_rows_have_coalitions_of_their_own(rng, table, formula):
    x, b = table(np.ones((1, 12))), table(np.zeros((2, 12)))
    seen = []
    model = formula(lambda v: (seen.append(v.copy()), v[:, 0])[1])
    KernelShap(budget=200)(model, x, target=ZEROS[:1], background=b, seed=0)
    masked = np.concatenate(seen)[3:].astype(bool)
    first, second = masked[:200], masked[200:]
    assert (np.sort(first.sum(axis=1)) == np.sort(second.sum(axis=1))).all()
    assert len(np.unique(masked, axis=0)) > 300


def test_a_model_may_keep_what_it_was_given(rng, table, formula, smooth_function):
    x, b = table(rng.normal(size=(4, 12))), table(rng.normal(size=(5, 12)))
    kept = []
    plain = KernelShap(budget=120)
    one = plain(formula(smooth_function), x, target=ZEROS[:4], background=b, seed=0)
    model = formula(lambda v: (kept.append((v, v.copy())), smooth_function(v))[1])
    other = plain(model, x, target=ZEROS[:4], background=b, seed=0)
    np.testing.assert_array_equal(one.values, other.values)
    for given, then in kept:
        np.testing.assert_array_equal(given, then)


def test_a_known_first_layer_gives_the_same_values(rng, monkeypatch):
    pytest.importorskip("torch")
    from distillens.models.encoding import Encoding
    from distillens.models.nets.mlp import MLPSettings
    from distillens.models.torch_module import TabularNetwork, assemble

    data = mixed_table(rng, 60)
    inputs, background = data.take(np.arange(6)), data.take(np.arange(20, 33))
    for classes, activation in ((("p", "q", "r"), "relu"), ((), "gelu")):
        encoding, net = Encoding.fit(data), MLPSettings(hidden=(16, 8), activation=activation)
        model = TabularNetwork(encoding, assemble(net, encoding.width, classes, mean=3.0, scale=2.0), net, classes)
        run = {"budget": 14, "target": np.arange(6) % max(1, len(classes)), "scale": "log_odds" if classes else "value"}
        fast = cell_by_cell(model, inputs, background, **run)
        pieces = cell_by_cell(model, inputs, background, chunk_rows=5, **run)
        with monkeypatch.context() as patch:
            patch.setattr(cells, "_first_layer", lambda *_: None)
            slow = cell_by_cell(model, inputs, background, **run)
        for a, b, c in zip(fast, pieces, slow, strict=True):
            np.testing.assert_allclose(a, c, atol=5e-6)
            np.testing.assert_allclose(b, c, atol=5e-6)


def test_memory_may_run_out(rng, table, formula, smooth_function):
    x, b = table(rng.normal(size=(2, 12))), table(rng.normal(size=(3, 12)))

    def small(v):
        if len(v) > 30:
            raise MemoryError
        return smooth_function(v)

    run = {"target": ZEROS[:2], "background": b, "seed": 0}
    np.testing.assert_allclose(
        KernelShap(budget=200)(formula(small), x, **run).values,
        KernelShap(budget=200)(formula(smooth_function), x, **run).values,
        atol=1e-12,
    )


def test_freed_memory_is_kept():
    """After `keep_freed_memory`, a megabyte that is freed and taken again is not mapped again (glibc only)."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library has other rules")
    import resource

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(50):
            blocks = [np.ones(2**17) for _ in range(3)]
            del blocks
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    faults()
    assert faults() < 50 * 3 * 256 / 4  # a megabyte is 256 pages


def test_what_does_not_fit_is_refused(rng, table, formula):
    x, b = table(rng.normal(size=(2, 12))), table(rng.normal(size=(3, 12)))
    model = formula(lambda v: v[:, 0])
    with pytest.raises(InputError, match="same columns"):
        cell_by_cell(model, x, table(rng.normal(size=(3, 5))))
    with pytest.raises(InputError, match="no rows"):
        cell_by_cell(model, x, b.take([]))
    with pytest.raises(ModelError, match="NaN or infinite"):
        cell_by_cell(formula(lambda v: v[:, 0] * np.inf), x, b)
    for kind in (KernelShap, PermutationShap):
        with pytest.raises(InputError, match="own or shared"):
            kind(draws="both")

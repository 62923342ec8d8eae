from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillens import progress
from distillens.data.base import Table
from distillens.errors import InputError, ModelError
from distillens.explainers import masking
from distillens.explainers.masking import masked_means
from distillens.models.base import on_scale


def one_by_one(function, x, background, masks, weights=None):
    """The definition, a masked row at a time."""
    out = np.empty((len(x), len(masks)))
    for i in range(len(x)):
        for s, mask in enumerate(masks):
            scores = [float(function(np.where(mask, x[i], row)[None])[0]) for row in background]
            out[i, s] = np.average(scores, weights=weights)
    return out


@pytest.fixture
def case(rng):
    return rng.normal(size=(5, 6)), rng.normal(size=(7, 6)), rng.random((20, 6)) < 0.5


@pytest.fixture
def coarse(rng):
    """Few different values a column, so that many masked rows are equal."""
    x, b = rng.integers(0, 2, size=(9, 5)).astype(float), rng.integers(0, 2, size=(12, 5)).astype(float)
    x[rng.random(x.shape) < 0.1] = np.nan
    b[rng.random(b.shape) < 0.1] = np.nan
    return x, b, rng.random((30, 5)) < 0.5


def test_means_are_the_definition(case, table, formula, smooth_function):
    x, b, masks = case
    got = masked_means(formula(smooth_function), table(x), masks, background=table(b), target=0)
    np.testing.assert_allclose(got, one_by_one(smooth_function, x, b, masks), atol=1e-12)


def test_background_weights(case, table, formula, smooth_function, rng):
    x, b, masks = case
    weights = rng.random(len(b))
    weights[2] = 0
    got = masked_means(
        formula(smooth_function), table(x), masks, background=table(b), target=0, background_weights=weights
    )
    np.testing.assert_allclose(got, one_by_one(smooth_function, x, b, masks, weights), atol=1e-12)
    for bad in (weights[:-1], -weights, weights * 0, weights * np.nan):
        with pytest.raises(InputError, match="Background weights"):
            masked_means(
                formula(smooth_function), table(x), masks, background=table(b), target=0, background_weights=bad
            )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # they hold no state
@given(chunk=st.integers(1, 2000), seed=st.integers(0, 5), coarse=st.booleans())
def test_same_numbers_for_any_chunk_size_and_company(chunk, seed, coarse, table, formula, smooth_function):
    rng = np.random.default_rng(seed)
    x, b = rng.normal(size=(6, 5)), rng.normal(size=(8, 5))
    if coarse:
        x, b = np.round(x), np.round(b)
    masks = rng.random((15, 5)) < 0.5
    inputs, background = table(x), table(b)
    whole = masked_means(formula(smooth_function), inputs, masks, background=background, target=0)
    model = formula(smooth_function)
    pieces = masked_means(model, inputs, masks, background=background, target=0, chunk_rows=chunk)
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-12)
    assert model.largest <= chunk
    few = rng.permutation(6)[:2]
    alone = masked_means(
        formula(smooth_function), inputs.take(few), masks[::2], background=background, target=0, chunk_rows=chunk
    )
    np.testing.assert_allclose(alone, whole[few][:, ::2], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-12), (False, 2e-5)])
def test_chunk_sizes_with_a_torch_network(case, table, formula, double, tolerance):
    torch = pytest.importorskip("torch")
    x, b, masks = case
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float64 if double else torch.float32
    first, second = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in ((6, 64), (64, 1)))

    def network(v):
        with torch.inference_mode():
            return (torch.relu(torch.from_numpy(v).to(dtype) @ first) @ second).double().numpy()

    whole = masked_means(formula(network), table(x), masks, background=table(b), target=0)
    for chunk in (1, 3, 50, 333):
        pieces = masked_means(formula(network), table(x), masks, background=table(b), target=0, chunk_rows=chunk)
        np.testing.assert_allclose(pieces, whole, rtol=tolerance, atol=tolerance)


def test_equal_masked_rows_are_computed_once_and_change_nothing(coarse, table, formula, monkeypatch):
    x, b, masks = coarse

    def function(v):
        return np.where(np.isnan(v), 0.3, np.sin(v + np.arange(5))).prod(axis=1)

    once, every = formula(function), formula(function)
    got = masked_means(once, table(x), masks, background=table(b), target=0)
    monkeypatch.setattr(masking, "AGREEING", 99.0)
    plain = masked_means(every, table(x), masks, background=table(b), target=0)
    np.testing.assert_array_equal(got, plain)
    np.testing.assert_allclose(got, one_by_one(function, x, b, masks), atol=1e-12)
    assert every.rows == 9 * 12 * 30
    assert once.rows == sum(
        len({row.tobytes() for row in np.where(masks[:, None], own, b).reshape(-1, 5)}) for own in x
    )


def test_continuous_rows_are_not_searched(case, table, formula, smooth_function, monkeypatch):
    x, b, masks = case
    masks[:] = np.arange(6) % 2 == np.arange(20)[:, None] % 2  # neither empty nor full

    def never(*_):
        raise AssertionError("searched")

    monkeypatch.setattr(masking, "_factorize", never)
    masked_means(formula(smooth_function), table(x), masks, background=table(b), target=0)


def test_a_search_that_saves_little_is_the_last(table, formula, rng, monkeypatch):
    x, b = rng.normal(size=(6, 8)), rng.normal(size=(9, 8))
    x[:, :2] = b[:, :2] = 1.0  # rows agree in two columns, but no two of the masks differ in these only
    masks = np.array([[1, 0, 1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]], dtype=bool)
    searches = []
    monkeypatch.setattr(masking, "_factorize", lambda h: searches.append(1) or (np.arange(len(h)), np.arange(len(h))))
    model = formula(lambda v: np.sin(v).sum(axis=1))
    masked_means(model, table(x), masks, background=table(b), target=0)
    assert len(searches) == 1
    assert model.rows == 6 * 9 * 3


def test_duplicated_background_rows_weigh_double(case, table, formula, smooth_function):
    x, b, masks = case
    twice = masked_means(
        formula(smooth_function), table(x), masks, background=table(np.concatenate([b, b[:3]])), target=0
    )
    weights = np.where(np.arange(7) < 3, 2.0, 1.0)
    weighted = masked_means(
        formula(smooth_function), table(x), masks, background=table(b), target=0, background_weights=weights
    )
    np.testing.assert_allclose(twice, weighted, atol=1e-12)


def test_missing_values_reach_the_model_as_they_are(table, formula):
    x, b = np.array([[np.nan, 1.0, -1.0]]), np.array([[2.0, np.nan, 3.0]])
    seen = []

    def function(v):
        seen.append(v.copy())
        return np.isnan(v) @ np.array([1.0, 10.0, 100.0])

    masks = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    got = masked_means(formula(function), table(x), masks, background=table(b), target=0)
    np.testing.assert_array_equal(got, [[1, 10, 11, 0]])


def test_a_target_per_row_and_every_scale(case, table, formula, rng):
    x, b, masks = case
    w = rng.normal(size=(6, 3))
    targets = np.array([0, 2, 1, 2, 0])
    for output, function in (
        ("logits", lambda v: v @ w),
        ("probabilities", lambda v: np.exp(v @ w) / np.exp(v @ w).sum(1, keepdims=True)),
    ):
        model = formula(function, classes=("a", "b", "c"), output=output)
        for scale in ("log_odds", "probability", "logit"):
            got = masked_means(model, table(x), masks, background=table(b), target=targets, scale=scale)
            for i, t in enumerate(targets):

                def score(v, t=t, scale=scale, output=output, function=function):
                    return on_scale(function(v), output=output, target=int(t), scale=scale)

                np.testing.assert_allclose(got[i], one_by_one(score, x[[i]], b, masks)[0], atol=1e-10)
        with pytest.raises(ModelError, match="classifier"):
            masked_means(model, table(x), masks, background=table(b), target=0, scale="value")
    with pytest.raises(ModelError, match="predicts a value"):
        masked_means(formula(lambda v: v[:, 0]), table(x), masks, background=table(b), target=0, scale="probability")


def test_chunks_are_halved_when_memory_runs_out(case, table, formula, smooth_function):
    torch = pytest.importorskip("torch")
    x, b, masks = case
    whole = masked_means(formula(smooth_function), table(x), masks, background=table(b), target=0)
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ):

        def tight(v, error=error):
            if len(v) > 10:
                raise error
            return smooth_function(v)

        model = formula(tight)
        got = masked_means(model, table(x), masks, background=table(b), target=0, chunk_rows=100)
        np.testing.assert_allclose(got, whole, atol=1e-12)
        assert model.rows < 2 * 5 * 20 * 7 + 200  # the smaller size is kept

    coarse = table(np.round(x)), table(np.round(b))  # the search for equal rows has chunks of its own
    few = formula(tight)
    got = masked_means(few, coarse[0], masks, background=coarse[1], target=0, chunk_rows=100)
    want = masked_means(formula(smooth_function), coarse[0], masks, background=coarse[1], target=0)
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert few.rows < 5 * 20 * 7

    def never(v):
        raise MemoryError

    with pytest.raises(ModelError, match="single row"):
        masked_means(formula(never), table(x), masks, background=table(b), target=0)


def test_a_failing_model_leaves_nothing_behind(case, table, formula):
    x, b, masks = case
    x0, b0, m0 = x.copy(), b.copy(), masks.copy()
    calls, open_tasks = [], []

    class Watch:
        def start(self, label, total, unit):
            open_tasks.append(label)
            return label

        def advance(self, key, amount):
            calls.append(amount)

        def stop(self, key):
            open_tasks.remove(key)

    def fails(v):
        if len(calls) > 3:
            raise ZeroDivisionError("broken model")
        return v[:, 0]

    with progress.listening(Watch()), pytest.raises(ZeroDivisionError, match="broken model"):
        masked_means(formula(fails), table(x), masks, background=table(b), target=0, chunk_rows=20)
    assert not open_tasks
    np.testing.assert_array_equal(x, x0)
    np.testing.assert_array_equal(b, b0)
    np.testing.assert_array_equal(masks, m0)
    with pytest.raises(ModelError, match="NaN or infinite"):
        masked_means(formula(lambda v: v[:, 0] * np.nan), table(x), masks, background=table(b), target=0)


def test_progress_counts_every_coalition(case, table, formula, smooth_function):
    x, b, masks = case
    seen = {"total": 0, "done": 0}

    class Watch:
        def start(self, label, total, unit):
            seen["total"] = total

        def advance(self, key, amount):
            seen["done"] += amount

        def stop(self, key):
            pass

    with progress.listening(Watch()):
        masked_means(formula(smooth_function), table(x), masks, background=table(b), target=0, chunk_rows=30)
    assert seen == {"total": 100, "done": 100}


def test_groups_mask_their_columns_together(case, table, formula, smooth_function):
    x, b, _ = case
    masks = np.array([[True, False, False, True, False]])
    got = masked_means(
        formula(smooth_function), table(x), masks, background=table(b), target=0, groups={"both": ["x5", "x0"]}
    )
    columns = np.array([[True, False, False, True, False, True]])
    np.testing.assert_allclose(got, one_by_one(smooth_function, x, b, columns), atol=1e-12)


def test_shapes_that_do_not_fit_are_refused(case, table, formula, smooth_function):
    x, b, masks = case
    model, inputs, background = formula(smooth_function), table(x), table(b)
    with pytest.raises(InputError, match="shape"):
        masked_means(model, inputs, masks[:, :4], background=background, target=0)
    with pytest.raises(InputError, match="same columns"):
        masked_means(model, inputs, masks, background=table(b, names=tuple("abcdef")), target=0)
    with pytest.raises(InputError, match="no rows"):
        masked_means(model, inputs, masks, background=background.take(np.arange(0)), target=0)
    with pytest.raises(InputError, match="chunk_rows"):
        masked_means(model, inputs, masks, background=background, target=0, chunk_rows=0)
    with pytest.raises(InputError, match="Did you mean 'x1'"):
        masked_means(model, inputs, masks, background=background, target=0, groups={"g": ["x11"]})
    with pytest.raises(InputError, match="one only"):
        masked_means(model, inputs, masks, background=background, target=0, groups={"g": ["x1"], "h": ["x1"]})
    with pytest.raises(InputError, match="another name"):
        masked_means(model, inputs, masks, background=background, target=0, groups={"x3": ["x1"]})


def test_no_rows_give_no_means(case, table, formula, smooth_function):
    x, b, masks = case
    empty: Table = table(x).take(np.arange(0))
    assert masked_means(formula(smooth_function), empty, masks, background=table(b), target=0).shape == (0, 20)


def test_a_model_may_keep_the_rows_it_was_asked(case, table, formula, smooth_function):
    x, b, masks = case
    kept = []

    def keeps(v):
        kept.append(v)  # no copy
        return smooth_function(v)

    masked_means(formula(keeps), table(x), masks, background=table(b), target=0, chunk_rows=35)
    assert len(kept) > 3
    shown = np.concatenate(kept)
    want = np.where(masks[:, None, None], x[:, None], b).reshape(-1, 6)
    np.testing.assert_array_equal(np.unique(shown, axis=0), np.unique(want, axis=0))


def test_blocks_of_rows_are_the_same_means(case, table, formula, smooth_function):
    x, b, masks = case
    whole = masked_means(formula(smooth_function), table(x), masks, background=table(b), target=0)
    for memory_bytes in (1, 64 * 20 * 2, 2**20):
        blocks = list(
            masking.masked_blocks(
                formula(smooth_function), table(x), masks, background=table(b), target=0, memory_bytes=memory_bytes
            )
        )
        most = max(1, memory_bytes // (64 * 20))
        assert [rows.start for rows, _ in blocks] == list(range(0, 5, most))
        np.testing.assert_allclose(np.concatenate([means for _, means in blocks]), whole, atol=1e-12)


def test_a_known_first_layer_gives_the_same_means(rng, monkeypatch):
    """Every kind of column, missing and unseen values, several chunk sizes; the slow way asks about every masked row."""
    pytest.importorskip("torch")
    from distillens.data.base import Column
    from distillens.models.encoding import Encoding
    from distillens.models.nets.mlp import MLPSettings
    from distillens.models.torch_module import TabularNetwork, assemble

    columns = (
        Column("a"),
        Column("c", "categorical", ("x", "y", "z")),
        Column("b", "boolean", ("n", "y")),
        Column("d"),
    )
    values = np.column_stack([rng.normal(size=40), rng.integers(0, 3, 40), rng.integers(0, 2, 40), rng.normal(size=40)])
    values[:6, 0] = values[4:9, 1] = values[7:12, 2] = np.nan
    data = Table(values.astype(float), columns, np.arange(40))
    odd = data.values[:7].copy()
    odd[0, 1] = odd[1, 2] = -1
    inputs, background = Table(odd, columns, np.arange(7)), data.take(np.arange(10, 31))
    masks = rng.random((25, 3)) < 0.5
    for classes, activation in ((("p", "q", "r"), "relu"), (("p", "q"), "tanh"), ((), "gelu")):
        encoding, net = Encoding.fit(data), MLPSettings(hidden=(16, 8), activation=activation)
        model = TabularNetwork(encoding, assemble(net, encoding.width, classes, mean=3.0, scale=2.0), net, classes)
        target = np.arange(7) % max(1, len(classes))
        run = {
            "background": background,
            "target": target,
            "groups": {"g": ["a", "b"]},
            "background_weights": np.arange(21.0),
        }
        fast = masked_means(model, inputs, masks, **run)
        for chunk in (1, 50, 10_000):
            pieces = masked_means(model, inputs, masks, chunk_rows=chunk, **run)
            np.testing.assert_allclose(pieces, fast, atol=2e-6)
        with monkeypatch.context() as patch:
            patch.setattr(masking._Split, "of", classmethod(lambda *_: None))
            slow = masked_means(model, inputs, masks, **run)
        np.testing.assert_allclose(fast, slow, atol=5e-6)
    linear = MLPSettings(hidden=())
    plain = TabularNetwork(encoding, assemble(linear, encoding.width, ("p", "q")), linear, ("p", "q"))
    assert plain.first_layer(inputs) is None
    assert masked_means(plain, inputs, masks, **(run | {"target": 1})).shape == (7, 25)

"""Networks over tables: shapes, state, batch mates, and the round trip through a file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from distillens.data.base import Column, Table
from distillens.errors import ArtefactError, InputError, ModelError
from distillens.models.base import StorableModel
from distillens.models.encoding import Encoding
from distillens.models.nets.mlp import MLPSettings, mlp
from distillens.models.store import fingerprint, load_model, save_model
from distillens.models.torch_module import BATCH, TabularNetwork, assemble, evaluating

COLUMNS = (
    Column("age"),
    Column("colour", "categorical", ("red", "green", "blue")),
    Column("owns", "boolean", ("no", "yes")),
)


def table(rows: int = 40, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    values = np.stack([rng.normal(50, 10, rows), rng.integers(-1, 3, rows), rng.integers(0, 2, rows)], axis=1).astype(
        float
    )
    values[::7, 0] = np.nan
    return Table(values, COLUMNS, np.arange(rows))


def network(*, classes: tuple[str, ...] = ("a", "b", "c"), dropout: float = 0.0, seed: int = 0) -> TabularNetwork:
    encoding = Encoding.fit(table())
    net = MLPSettings(hidden=(16, 8), activation="softplus", dropout=dropout)
    return TabularNetwork(
        encoding, assemble(net, encoding.width, classes, mean=100.0, scale=7.0, seed=seed), net, classes, "net"
    )


@pytest.mark.parametrize("rows", [0, 1, 5, 40])
def test_answers_one_row_of_logits_for_every_row(rows: int) -> None:
    model = network()
    inputs = table().take(np.arange(rows))
    outputs = model(inputs)
    assert outputs.shape == (rows, 3)
    assert outputs.dtype == np.float64
    with torch.no_grad():
        expected = model.module(model.to_tensor(inputs)).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_regression_answers_in_the_users_units() -> None:
    model = network(classes=())
    with torch.no_grad():
        standardised = model.module[:-1](model.to_tensor(table())).numpy()  # type: ignore[index]
    np.testing.assert_allclose(model(table()), standardised * 7.0 + 100.0, rtol=1e-5)
    assert (model.output, model.classes) == ("values", ())


def test_a_rows_answer_does_not_depend_on_its_batch_mates() -> None:
    model = network()
    big = table(BATCH + 300, seed=1)
    together = model(big)
    for i in (0, 17, BATCH - 1, BATCH, BATCH + 299):
        np.testing.assert_allclose(model(big.take(np.array([i])))[0], together[i], rtol=0, atol=2e-6)


def test_calling_leaves_modes_and_gradients_alone_and_switches_dropout_off() -> None:
    model = network(dropout=0.5)
    model.module.train()
    model.module[0].eval()  # type: ignore[index]
    modes = [part.training for part in model.module.modules()]
    first, second = model(table()), model(table())
    np.testing.assert_array_equal(first, second)
    assert [part.training for part in model.module.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.module.parameters())


def test_modes_come_back_when_the_body_raises() -> None:
    module = mlp(3, [4], 2, dropout=0.1)
    with pytest.raises(ZeroDivisionError), evaluating(module):
        assert not module.training
        raise ZeroDivisionError
    assert all(part.training for part in module.modules())


def test_several_threads_get_the_same_answers() -> None:
    model = network(dropout=0.5)
    model.module.train()
    expected = model(table())
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: model(table()), range(24)):
            np.testing.assert_array_equal(got, expected)
    assert model.module.training


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c"), ()])
def test_survives_the_disk_to_the_bit(tmp_path: Path, classes: tuple[str, ...]) -> None:
    model = network(classes=classes)
    assert isinstance(model, StorableModel)
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert isinstance(again, TabularNetwork)
    np.testing.assert_array_equal(again(table(seed=3)), model(table(seed=3)))
    assert (again.label, again.classes, again.columns, again.net) == (
        model.label,
        model.classes,
        model.columns,
        model.net,
    )
    assert again.fingerprint == model.fingerprint == fingerprint(model)


def test_fingerprint_sees_a_weight_and_not_the_label() -> None:
    model = network()
    before = model.fingerprint
    other = TabularNetwork(model.encoding, model.module, model.net, model.classes, "another name")
    assert other.fingerprint == before
    with torch.no_grad():
        next(model.module.parameters())[0, 0] += 1e-3
    assert model.fingerprint != before


def test_a_record_with_missing_weights_is_an_error(tmp_path: Path) -> None:
    from distillens.store import write_record

    meta, arrays = network().to_record()
    del arrays["module.0.weight"]
    write_record(tmp_path / "model.safetensors", {"kind": "network", "model": meta}, arrays)
    with pytest.raises(ArtefactError, match="incomplete network"):
        load_model(tmp_path / "model.safetensors")


def test_other_columns_are_refused() -> None:
    other = Table(table().values, (Column("years"), *COLUMNS[1:]), np.arange(40))
    with pytest.raises(ModelError, match="years"):
        network()(other)


def test_initial_weights_depend_on_the_seed_alone_and_the_global_generator_is_untouched() -> None:
    before = torch.get_rng_state()
    first, again, other = (network(seed=s)(table()) for s in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_complexity_counts_the_parameters() -> None:
    width = Encoding.fit(table()).width
    expected = width * 16 + 16 + 16 * 8 + 8 + 8 * 3 + 3
    assert network().complexity() == {
        "parameters": expected,
        "hidden": sum(network().net.hidden),
        "size_bytes": 4 * expected,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": (0,)}, "positive layer widths"),
        ({"hidden": 64}, "positive layer widths"),
        ({"hidden": "64"}, "positive layer widths"),
        ({"activation": "rellu"}, "Did you mean 'relu'"),
        ({"dropout": 1.0}, "share in"),
        ({"kind": "cnn"}, "no network 'cnn'"),
    ],
)
def test_impossible_settings_say_why(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        MLPSettings(**options)  # type: ignore[arg-type]


def test_runs_in_onnx_as_it_does_here(tmp_path: Path) -> None:
    """The graph that gets exported takes (n, D) encoded float32 rows, for any n."""
    onnxruntime = pytest.importorskip("onnxruntime")
    import warnings

    for classes in (("a", "b", "c"), ()):
        model = network(classes=classes)
        encoded = model.to_tensor(table())
        path = tmp_path / f"{len(classes)}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch's exporter, about its own internals
            warnings.simplefilter("ignore", FutureWarning)
            torch.onnx.export(
                model.module, (encoded[:2],), str(path), input_names=["rows"], dynamo=True, verbose=False,
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )  # fmt: skip
        (got,) = onnxruntime.InferenceSession(path).run(None, {"rows": encoded.numpy()})
        np.testing.assert_allclose(got, model(table()), rtol=1e-4, atol=1e-4)


def test_one_thread_is_for_the_block_only_also_when_blocks_overlap() -> None:
    from distillens.models.threads import one_thread

    before = torch.get_num_threads()
    torch.set_num_threads(3)  # so that one and "as before" are different everywhere
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            with one_thread():
                pass
            assert torch.get_num_threads() == 1  # the outer block is still open
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == before

    def work(_: int) -> int:
        with one_thread():
            torch.ones(64, 64) @ torch.ones(64, 64)
        return torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(50))) == {before}
    assert torch.get_num_threads() == before

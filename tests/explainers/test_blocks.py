"""Explanations of many rows: the same numbers in blocks, after a kill, and in little memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from distillens import progress
from distillens.errors import BudgetWarning, DistillensWarning, InputError, RunError
from distillens.explainers import blocks, masking
from distillens.explainers.base import Explanation
from distillens.explainers.blocks import explain_rows, explanation_key, rows_a_block
from distillens.explainers.explain import explain
from distillens.explainers.lime import Lime
from distillens.explainers.permutation import PermutationShap
from distillens.explainers.shapley import ExactShapley, KernelShap

METHODS = [
    KernelShap(budget=64), KernelShap(budget=4096), ExactShapley(), PermutationShap(budget=64), Lime(samples=60),
    Lime(samples=60, sampling="gaussian"), Lime(samples=60, sampling="around_row"),
]  # fmt: skip


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a block, whatever the method."""
    monkeypatch.setattr(blocks, "MOST_ROWS", 2)


@pytest.fixture
def case(rng, table):
    return table(rng.normal(size=(7, 7)), first_id=100), table(rng.normal(size=(5, 7)), first_id=900)


def same(a: Explanation, b: Explanation) -> None:
    """To the bit, in everything."""
    first, second = a.to_record(), b.to_record()
    assert first[0] == second[0]
    assert first[1].keys() == second[1].keys()
    for name in first[1]:
        assert first[1][name].tobytes() == second[1][name].tobytes(), name


def explained(method, model, case, keep=None, seed=3, **more):
    x, b = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        return explain_rows(
            method, model, x, target=np.zeros(len(x), dtype=np.int64), background=b, seed=seed, keep=keep, **more
        )


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_rows_do_not_depend_on_their_block(method, size, case, formula, smooth_function, monkeypatch):
    x, b = case
    model = formula(smooth_function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        whole = method(model, x, target=np.zeros(7, dtype=np.int64), background=b, seed=3)
    monkeypatch.setattr(blocks, "MOST_ROWS", size)
    got = explained(method, model, case)
    assert got.to_record()[0] == whole.to_record()[0]
    for name in ("row_ids", "background_ids", "target"):
        np.testing.assert_array_equal(getattr(got, name), getattr(whole, name))
    for name in ("values", "base", "output", "residual"):
        np.testing.assert_allclose(getattr(got, name), getattr(whole, name), rtol=0, atol=1e-9)
    if whole.stderr is None:
        assert got.stderr is None
    else:
        np.testing.assert_allclose(got.stderr, whole.stderr, rtol=0, atol=1e-9)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("method", [KernelShap(budget=64), Lime(samples=60, sampling="around_row")], ids=repr)
def test_killed_before_any_rename_and_resumed_gives_the_same_bits(
    method, case, formula, smooth_function, small_blocks, tmp_path
):
    model = formula(smooth_function, fingerprint="smooth")
    whole = explained(method, model, case)
    asked, rename = model.rows, os.replace
    for kill_at in range(1, 5):
        keep = tmp_path / f"killed-{kill_at}"
        pid = os.fork()
        if not pid:
            seen = 0

            def counted(*paths: object, kill_at: int = kill_at) -> None:
                nonlocal seen
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                rename(*paths)  # type: ignore[arg-type]

            os.replace = counted
            explained(method, model, case, keep)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status)
        done = len(list(keep.rglob("*.safetensors")))
        assert done == kill_at - 1  # at most the block that was being written is lost
        model.rows = 0
        same(explained(method, model, case, keep), whole)
        assert model.rows <= asked * (4 - done) / 4 + 5  # the last block has one row instead of two
        model.rows = 0
        same(explained(method, model, case, keep), whole)
        assert model.rows == 0
        shutil.rmtree(keep)


def test_a_float32_network_gives_the_same_bits_after_an_interruption(rng, table, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from distillens.models.callable import CallableModel

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)).eval()

    def ask(inputs):
        with torch.no_grad():
            return net(torch.from_numpy(inputs.values.astype(np.float32))).double().numpy()

    monkeypatch.setattr(blocks, "MOST_ROWS", 4)
    case = table(rng.normal(size=(11, 12))), table(rng.normal(size=(9, 12)))
    whole = explained(KernelShap(budget=200), CallableModel(ask, (), "values", "net", fingerprint="net"), case)
    calls = 0

    def failing(inputs):
        nonlocal calls
        calls += 1
        if calls > 6:  # in the second block
            raise KeyboardInterrupt
        return ask(inputs)

    with pytest.raises(KeyboardInterrupt):
        explained(
            KernelShap(budget=200), CallableModel(failing, (), "values", "net", fingerprint="net"), case, tmp_path
        )
    assert list(tmp_path.rglob("*.safetensors"))
    resumed = explained(KernelShap(budget=200), CallableModel(ask, (), "values", "net", fingerprint="net"), case, tmp_path)  # fmt: skip
    same(resumed, whole)


def test_a_damaged_or_foreign_block_is_worked_again_and_named(case, formula, smooth_function, small_blocks, tmp_path):
    model = formula(smooth_function, fingerprint="smooth")
    whole = explained(KernelShap(budget=64), model, case, tmp_path)
    first, second, *_ = sorted(tmp_path.rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-3])
    with pytest.warns(DistillensWarning, match=f"{first.name}.*explained again"):
        same(explained(KernelShap(budget=64), model, case, tmp_path), whole)
    first.write_bytes(second.read_bytes())  # whole, but of other rows
    with pytest.warns(DistillensWarning, match=f"{first.name} is a block of another explanation"):
        same(explained(KernelShap(budget=64), model, case, tmp_path), whole)
    same(explained(KernelShap(budget=64), model, case, tmp_path), whole)  # it was written anew, without a warning


def test_the_key_holds_all_that_the_numbers_depend_on(case, formula, smooth_function, table, monkeypatch):
    x, b = case
    zeros, model = np.zeros(7, dtype=np.int64), formula(smooth_function, fingerprint="a")
    moved = table(x.values + 1e-12, first_id=100)
    asked = [
        (KernelShap(), model, x, zeros, b, 0),
        (KernelShap(budget=2047), model, x, zeros, b, 0),
        (PermutationShap(), model, x, zeros, b, 0),
        (KernelShap(), formula(smooth_function, fingerprint="b"), x, zeros, b, 0),
        (KernelShap(), formula(smooth_function, fingerprint="a", classes=("n", "y"), output="logits"), x, zeros, b, 0),
        (KernelShap(), model, moved, zeros, b, 0),
        (KernelShap(), model, table(x.values, first_id=101), zeros, b, 0),
        (KernelShap(), model, table(x.values, first_id=100, names=tuple("abcdefg")), zeros, b, 0),
        (KernelShap(), model, x, zeros + 1, b, 0),
        (KernelShap(), model, x, zeros, b.take([0, 1, 2]), 0),
        (KernelShap(), model, x, zeros, None, 0),
        (KernelShap(), model, x, zeros, b, 1),
    ]
    keys = [explanation_key(*one) for one in asked]
    assert len(set(keys)) == len(keys)
    assert explanation_key(*asked[0]) == keys[0]
    monkeypatch.setattr(blocks, "code_version", lambda _: "other code")
    assert explanation_key(*asked[0]) != keys[0]


def test_a_model_that_nobody_can_recognise_keeps_nothing(case, formula, smooth_function, small_blocks, tmp_path):
    explained(KernelShap(budget=64), formula(smooth_function), case, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_says_so(case, formula, smooth_function, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        explained(KernelShap(budget=64), formula(smooth_function, fingerprint="smooth"), case, tmp_path)


def test_a_small_budget_is_said_once_also_when_all_blocks_are_kept(
    case, formula, smooth_function, small_blocks, tmp_path
):
    x, b = case
    model = formula(smooth_function, fingerprint="smooth")
    for _ in range(2):
        with pytest.warns(BudgetWarning) as caught:
            explain(model, x, method=KernelShap(budget=60), background=b, keep=tmp_path)
        assert len(caught) == 1
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


class Watching:
    def __init__(self) -> None:
        self.bars: list[tuple[str, int | None, str]] = []
        self.steps: list[int] = []

    def start(self, label, total, unit):
        self.bars.append((label, total, unit))

    def advance(self, key, amount):
        self.steps.append(amount)

    def stop(self, key):
        pass


def test_one_bar_counts_rows_and_what_was_kept_is_not_counted_again(
    case, formula, smooth_function, small_blocks, tmp_path
):
    model, watching = formula(smooth_function, fingerprint="smooth"), Watching()
    with progress.listening(watching):
        explained(KernelShap(budget=64), model, case, tmp_path, label="net")
    assert watching.bars == [("net", 7, "rows")]  # the engine's own bars are part of it
    assert sum(watching.steps) == 7
    sorted(tmp_path.rglob("*.safetensors"))[1].unlink()
    again = Watching()
    with progress.listening(again):
        explained(KernelShap(budget=64), model, case, tmp_path, label="net")
    assert again.bars == [("net", 2, "rows (5 kept)")]
    assert sum(again.steps) == 2


def test_rows_are_counted_inside_a_block(case, formula, smooth_function, monkeypatch):
    monkeypatch.setattr(masking, "CACHED_ROWS", 100)
    watching = Watching()
    with progress.listening(watching):
        explained(KernelShap(budget=64), formula(smooth_function), case)
    assert len(watching.bars) == 1
    assert len(watching.steps) > 1
    assert sum(watching.steps) == 7


def test_time_left_of_rows_names_the_rate():
    assert progress.time_left(1000, 40, 5.0, 5.0, "rows") == "40/1,000 rows · 8 a second · 2 min 00 s left"
    assert progress.time_left(500, 0, 0.0, 3.0, "rows (40 kept)") == "0/500 rows (40 kept) · 3.0 s so far"


def test_a_block_holds_less_the_more_a_row_costs(rng, table):
    x, b = table(rng.normal(size=(3, 30))), table(rng.normal(size=(100, 30)))
    assert rows_a_block(KernelShap(budget=2048), x, b) == 20
    assert rows_a_block(KernelShap(budget=100_000), x, b) == 1
    assert rows_a_block(KernelShap(budget=2048), table(x.values[:, :3]), b) == blocks.MOST_ROWS
    assert rows_a_block(Lime(), x, b) == blocks.MOST_ROWS


def test_memory_does_not_grow_with_rows_times_coalitions(rng, table, formula, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_ROWS", 16)
    background, model = table(rng.normal(size=(4, 14))), formula(lambda v: v.sum(axis=1))

    def peak(rows: int) -> int:
        x = table(rng.normal(size=(rows, 14)))
        tracemalloc.start()
        explained(KernelShap(budget=1000), model, (x, background))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)
    few, many = peak(32), peak(320)
    record = 8 * 14 * 2 + 8 * 6  # attributions, errors, and six numbers a row
    assert many - few < 4 * 288 * record  # the record and its copy; rows × coalitions would be 2.3 MB
    assert 4 * 288 * record < 288 * 1000 * 8 / 4


def test_parts_of_different_explanations_are_not_put_together(case, formula, smooth_function):
    a = explained(KernelShap(budget=64), formula(smooth_function), case)
    b = explained(KernelShap(budget=64), formula(smooth_function), case, seed=4)
    with pytest.raises(InputError, match="different seed"):
        Explanation.concatenate([a, b])
    with pytest.raises(InputError, match="no explanation"):
        Explanation.concatenate([])
    x, background = case
    other = explained(KernelShap(budget=64), formula(smooth_function), (x, background.take([0, 1])))
    with pytest.raises(InputError, match="another background"):
        Explanation.concatenate([a, other])


MANY = """
import resource, sys, time
import numpy as np
from distillens.data.base import Column, Table
from distillens.explainers.blocks import explain_rows
from distillens.explainers.shapley import KernelShap
from distillens.models.callable import CallableModel

rows, folder = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
columns = tuple(Column(f"x{j}") for j in range(30))
x = Table(rng.normal(size=(rows, 30)), columns, np.arange(rows))
background = Table(rng.normal(size=(100, 30)), columns, np.arange(100))
first, second = rng.normal(size=(30, 8)) / 5, rng.normal(size=(8, 2))
model = CallableModel(lambda t: np.maximum(t.values @ first, 0) @ second, ("no", "yes"), "logits", "net", fingerprint="net")
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.monotonic()
made = explain_rows(
    KernelShap(budget=2048), model, x, target=np.ones(rows, dtype=np.int64), background=background, seed=0, keep=folder
)
print(len(made), before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.monotonic() - started)
"""


@pytest.mark.slow
def test_a_thousand_rows_of_thirty_features_in_less_than_two_gigabytes(tmp_path: Path) -> None:
    """KernelSHAP, 2,048 coalitions, 100 background rows: 205 million masked rows."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, "1000", str(tmp_path / "kept")], capture_output=True, text=True, check=True
    )
    rows, before, peak, seconds = (float(word) for word in done.stdout.split())
    print(f"{rows:.0f} rows: {peak:.0f} MiB at the peak ({before:.0f} before), {seconds:.0f} s")
    assert rows == 1000
    assert peak < 2048

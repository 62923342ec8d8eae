"""A training that is killed goes on to the same weights, bit for bit; one of another kind is not taken for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distillens.errors import ArtefactError, NonFiniteLossError, RunError
from distillens.objectives import KD
from distillens.transfer.training.checkpoint import NAME
from distillens.transfer.training.feed import Fed, Rows
from distillens.transfer.training.loop import fit
from distillens.transfer.training.schedule import Schedule

N, BATCH, EPOCHS = 40, 16, 3
STEPS = 3 * EPOCHS  # 16, 16 and 8 rows an epoch


class Killed(BaseException):
    """In place of a signal: nothing of the training runs after it."""


class Stops(Rows):
    """Rows that raise when they are fetched for the k-th time."""

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        left = COUNT["left"]
        COUNT["left"] = left - 1
        if left == 0:
            raise Killed
        return super().fetch(rows, epoch=epoch)


COUNT = {"left": -1}


def rows() -> Rows:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, 1, 6, 6, generator=draw)
    labels = (x.mean(dim=(1, 2, 3)) > 0).float()
    labels[:5] = torch.nan
    return Stops(x, 3 * torch.randn(N, 2, generator=draw), labels, torch.rand(N, generator=draw) + 0.5)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Dropout(0.3), nn.Linear(4, 2),
        )  # fmt: skip


def train(folder: Path | None, *, stop: int = -1, identity: str = "", **changes: Any) -> tuple[nn.Module, Any]:
    module, data = network(), rows()
    options = {"decay": "cosine", "batch_size": BATCH, "weight_decay": 1e-2, "warmup": 1.5, "micro_batch": 10} | changes
    COUNT["left"] = stop
    history = fit(
        module, data, task_weight=0.5, objectives=(KD(),), schedule=Schedule(EPOCHS, 1e-2, **options), seed=3, folder=folder,
        identity=identity, every=0.0, validate=lambda m: float(m(data.inputs).square().mean()),
    )  # fmt: skip
    return module, history


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "sgd", "ema": 0.9, "clip": 0.5}, {"keep": "last", "precision": "bf16", "micro_batch": None}],
    ids=["adamw", "sgd-ema-clip", "last-bf16"],
)
def test_killed_at_any_step_and_resumed_it_ends_with_the_same_weights(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole, history = train(None, **changes)
    fetches = 1 + (
        STEPS if changes.get("micro_batch", 10) is None else 2 * STEPS - EPOCHS
    )  # 1 dry run; 10 + 6 rows, 10 + 6, 8
    for stop in range(0, fetches, 2):
        folder = tmp_path / str(stop)
        with pytest.raises(Killed):
            train(folder, stop=stop, **changes)
        again, resumed_history = train(folder, **changes)
        assert resumed_history == history
        for name, value in bits(again).items():
            assert torch.equal(value, bits(whole)[name]), (stop, name)


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    whole, history = train(tmp_path)
    COUNT["left"] = -1
    again, seen = train(tmp_path, stop=1)  # the dry run fetches once, and nothing else does
    assert seen == history
    assert all(torch.equal(value, bits(whole)[name]) for name, value in bits(again).items())


def test_a_checkpoint_of_another_training_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    train(tmp_path)
    for changes in ({"weight_decay": 0.5}, {"identity": "another teacher"}):
        with pytest.raises(RunError, match="belongs to a training with other data, models or settings"):
            train(tmp_path, **changes)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    path = tmp_path / NAME
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=NAME):
        train(tmp_path)


def test_a_loss_that_is_not_finite_names_the_last_good_state(tmp_path: Path) -> None:
    def validate(module: nn.Module) -> float:
        return float("nan") if (tmp_path / NAME).exists() else 1.0

    data = rows()
    COUNT["left"] = -1
    with pytest.raises(NonFiniteLossError, match=rf"after epoch 1.*{NAME}"):
        fit(network(), data, task_weight=1.0, objectives=(), schedule=Schedule(2, 1e-2, batch_size=8), seed=0, folder=tmp_path,
            every=0.0, validate=validate)  # fmt: skip


SCRIPT = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import torch
    import test_training_resume as t
    module, history = t.train(Path(sys.argv[1]), ema=0.9)
    torch.save(t.bits(module), sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_for_real(tmp_path: Path) -> None:
    """kill −9 at moments spread over the training, until it gets through."""
    whole, _ = train(None, ema=0.9)
    out = tmp_path / "weights.pt"
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(SCRIPT),
        str(tmp_path / "folder"),
        str(Path(__file__).parent),
        str(out),
    ]
    killed = 0
    while not out.exists():
        process = subprocess.Popen(command)
        path = tmp_path / "folder" / NAME
        before = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None:
            if killed < 6 and path.exists() and path.stat().st_mtime_ns != before:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
        assert out.exists() or process.returncode == -signal.SIGKILL
    assert killed >= 1
    again = torch.load(out, weights_only=True)
    assert all(torch.equal(value, again[name]) for name, value in bits(whole).items())

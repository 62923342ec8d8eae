"""Two processes on a CPU train to the weights of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import os
import sys
sys.path.insert(0, sys.argv[1])
import torch
import test_training_options as t

module = t.network()
history = t.train(module, epochs=2, batch_size=16, micro_batch=5)
rank = os.environ.get("RANK", "0")
torch.save({"weights": t.flat(module), "history": list(history)}, f"{sys.argv[2]}.{rank}")
"""


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    here, out = str(Path(__file__).parent), tmp_path / "out"
    alone = [sys.executable, str(script), here, str(tmp_path / "one")]
    pair = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        here,
        str(out),
    ]
    subprocess.run(alone, check=True)
    subprocess.run(pair, check=True)
    one = torch.load(tmp_path / "one.0", weights_only=True)
    for rank in (0, 1):
        both = torch.load(f"{out}.{rank}", weights_only=True)
        torch.testing.assert_close(both["weights"], one["weights"], rtol=1e-5, atol=1e-6)
        for a, b in zip(both["history"], one["history"], strict=True):
            assert a == pytest.approx(b, rel=1e-5)

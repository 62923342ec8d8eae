"""What an exported file costs to run: its size, the time of one row, rows per second in batches. Measured here, on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.models.onnx import OnnxModel

if TYPE_CHECKING:
    from distillens.data.base import Inputs
    from distillens.models.onnx_image import ImageOnnxModel

WARM_UP = 10


def footprint(
    exported: OnnxModel | ImageOnnxModel | Path | str,
    inputs: Inputs,
    *,
    seed: int,
    calls: int = 200,
    batch: int = 1024,
    seconds: float = 0.3,
) -> dict[str, Any]:
    """Measure the whole file (raw values and texts in, answers out), without the time to put the inputs together.

    inputs: rows to draw from (at least one). calls: single rows timed; batch: rows a call for the throughput, measured for about `seconds`.
    Returns size_bytes, p50_ms and p99_ms of single rows, batch_rows_per_s, calls, batch. All are measured: they differ from run to run.
    """
    model = (OnnxModel.load(exported) if isinstance(exported, (str, Path)) else exported).as_whole_file()
    generator = np.random.default_rng(seed)
    rows = [model.feeds(inputs.take([int(i)])) for i in generator.integers(len(inputs), size=calls + WARM_UP)]
    run = model.run_feeds
    times = []
    for feeds in rows:
        start = time.perf_counter()
        run(feeds)
        times.append(time.perf_counter() - start)
    single = np.array(times[WARM_UP:]) * 1e3

    feeds = model.feeds(inputs.take(generator.integers(len(inputs), size=batch)))
    run(feeds)
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds or not done:
        run(feeds)
        done += batch
    return {
        "size_bytes": model.size_bytes,
        "p50_ms": float(np.quantile(single, 0.5)),
        "p99_ms": float(np.quantile(single, 0.99)),
        "batch_rows_per_s": done / max(spent, 1e-9),
        "calls": calls,
        "batch": batch,
    }

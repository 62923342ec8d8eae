"""`Targets` on disk: one record, round trip to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distillens.data.base import Column, Inputs, Table
from distillens.data.images import Images
from distillens.errors import ArtefactError
from distillens.estimate import Estimate
from distillens.store import read_record, write_record
from distillens.transfer.targets import Targets


def save_targets(targets: Targets, path: Path) -> None:
    """Write targets as one safetensors record."""
    meta = {
        "columns": [column.to_json() for column in getattr(targets.inputs, "columns", ())],
        "output": targets.output,
        "classes": list(targets.classes),
        "origin": targets.origin,
        "saturation": None if targets.saturation is None else targets.saturation.to_json(),
    }
    arrays: dict[str, NDArray[Any]] = {
        **targets.inputs.arrays,
        "outputs": targets.outputs,
        "weights": targets.weights,
        "is_query": targets.is_query,
    }
    if targets.labels is not None:
        arrays["labels"] = targets.labels
    write_record(path, meta, arrays)


def read_targets(path: Path) -> Targets:
    """Read what `save_targets` wrote. ArtefactError when the file is damaged or foreign."""
    meta, arrays = read_record(path)
    try:
        inputs: Inputs
        if "pixels" in arrays:
            inputs = Images(arrays["pixels"], arrays["row_ids"])
        else:
            columns = tuple(Column.from_json(column) for column in meta["columns"])
            inputs = Table(arrays["values"], columns, arrays["row_ids"])
        return Targets(
            inputs=inputs,
            outputs=arrays["outputs"],
            output=meta["output"],
            classes=tuple(meta["classes"]),
            weights=arrays["weights"],
            labels=arrays.get("labels"),
            origin=meta["origin"],
            is_query=arrays["is_query"],
            saturation=None if meta["saturation"] is None else Estimate.from_json(meta["saturation"]),
        )
    except KeyError as error:
        raise ArtefactError(f"{path} holds no targets: {error} is missing.") from error

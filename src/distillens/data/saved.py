"""A data set on disk: one record with the coded splits, a JSON for readers, a Parquet file for the audit_only columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column, Dataset, Finding, Inputs, Split, Table
from distillens.data.images import Images
from distillens.errors import ArtefactError
from distillens.store import JSON, atomic_path, file_hash, read_record, write_json, write_record

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
RECORD, SUMMARY, AUDIT_ONLY = "dataset.safetensors", "dataset.json", "audit_only.parquet"


def dataset_summary(dataset: Dataset) -> JSON:
    """The contents of dataset.json (docs/run-directory.md) but for the decision, which the pipeline adds."""
    splits = {name: cast(Split, getattr(dataset, name)) for name in SPLITS}
    counts: dict[str, dict[str, int]] = {}
    target_range: dict[str, float] | None = None
    labels = {name: np.asarray(split.labels) for name, split in splits.items() if split.labels is not None}
    if dataset.classes:
        counts = {name: {c: int((y == k).sum()) for k, c in enumerate(dataset.classes)} for name, y in labels.items()}
    elif labels:
        every = np.concatenate(list(labels.values()))
        target_range = {"low": float(every.min()), "high": float(every.max())}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "task": dataset.task,
        "classes": list(dataset.classes),
        "target": dataset.target,
        "fingerprint": dataset.fingerprint,
        "roles": dict(dataset.roles),
        "columns": [column.to_json() for column in dataset.columns],
        "images": _image_summary(dataset),
        "rows": {name: len(split) for name, split in splits.items()},
        "class_counts": counts,
        "target_range": target_range,
        "findings": [finding.to_json() for finding in dataset.findings],
    }


def _image_summary(dataset: Dataset) -> JSON | None:
    """Size, channels and a few pictures of each class; None for a table."""
    inputs = dataset.train.inputs
    if not isinstance(inputs, Images):
        return None
    from distillens.data.pictures.sheet import contact_sheet

    channels, height, width = inputs.shape
    return {"channels": channels, "height": height, "width": width, "sheet": contact_sheet(dataset)}


def save_dataset(dataset: Dataset, folder: Path, *, decision: Mapping[str, Any] | None = None) -> None:
    """Write dataset.safetensors, dataset.json and, where there are such columns, audit_only.parquet into `folder` (RUN/data).

    The record is written last: a folder that has it is whole. Raises RunError when the disk is full.
    """
    folder = Path(folder)
    arrays: dict[str, NDArray[Any]] = {}
    for name in SPLITS:
        split: Split = getattr(dataset, name)
        arrays |= {f"{name}.{k}": v for k, v in split.inputs.arrays.items()}
        arrays |= {f"{name}.{k}": v for k in ("labels", "weights", "groups") if (v := getattr(split, k)) is not None}
    summary = dataset_summary(dataset)
    meta = {
        "format": "distillens.dataset",
        "schema": 1,
        "dataset": summary,
        "audit_only": _save_audit_only(dataset, folder / AUDIT_ONLY),
    }
    write_json(folder / SUMMARY, summary | {"decision": None if decision is None else dict(decision)})
    write_record(folder / RECORD, meta, arrays)


def _save_audit_only(dataset: Dataset, path: Path) -> JSON | None:
    """One row a row of the data, by row id; returns what is needed to find and check it."""
    import pandas as pd

    frames = []
    for name in SPLITS:
        split: Split = getattr(dataset, name)
        if split.audit_only is None:
            path.unlink(missing_ok=True)
            return None
        frames.append(split.audit_only.set_axis(pd.Index(split.inputs.row_ids), axis=0))
    frame = pd.concat(frames)
    index = "row_id"
    while index in frame.columns:  # somebody's own column may have that name
        index += "_"
    with atomic_path(path) as part:
        frame.rename_axis(index).to_parquet(part, engine="pyarrow")
    return {"columns": list(frame.columns), "index": index, "sha256": file_hash(path)}


def read_dataset(folder: Path) -> Dataset:
    """The inverse of `save_dataset`. ArtefactError when a file is missing, damaged, foreign or changed."""
    folder = Path(folder)
    meta, arrays = read_record(folder / RECORD)
    if meta.get("format") != "distillens.dataset" or meta.get("schema") != 1:
        raise ArtefactError(f"{folder / RECORD} holds no data set that this version can read.")
    try:
        summary = meta["dataset"]
        columns = tuple(Column.from_json(c) for c in summary["columns"])
        extra = _read_audit_only(folder / AUDIT_ONLY, meta["audit_only"])
        splits = {}
        for name in SPLITS:
            ids = arrays[f"{name}.row_ids"]
            splits[name] = Split(
                _inputs(arrays, name, columns),
                arrays.get(f"{name}.labels"),
                arrays.get(f"{name}.weights"),
                arrays.get(f"{name}.groups"),
                None if extra is None else extra.loc[ids].reset_index(drop=True),
            )
        dataset = Dataset(
            splits["train"], splits["validation"], splits["test"], summary["task"], tuple(summary["classes"]), summary["target"],
            name=summary["name"], source=summary["source"], licence=summary["licence"], citation=summary["citation"],
            roles=dict(summary["roles"]), findings=tuple(
                Finding(f["kind"], f["column"], f["text"], f["severity"], f.get("values", {})) for f in summary["findings"]
            ),
        )  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ArtefactError(
            f"{folder / RECORD} is incomplete ({error!r}); it was written by an incompatible version."
        ) from error
    if dataset.fingerprint != summary["fingerprint"]:
        raise ArtefactError(f"{folder / RECORD} does not have the fingerprint it was written with.")
    return dataset


def _inputs(arrays: dict[str, NDArray[Any]], name: str, columns: tuple[Column, ...]) -> Inputs:
    """The images of a split where there are some, its table otherwise."""
    ids = arrays[f"{name}.row_ids"]
    if f"{name}.pixels" in arrays:
        return Images(arrays[f"{name}.pixels"], ids)
    return Table(arrays[f"{name}.values"], columns, ids)


def _read_audit_only(path: Path, record: JSON | None) -> pd.DataFrame | None:
    import pandas as pd

    if record is None:
        return None
    if not path.is_file():
        raise ArtefactError(f"{path} does not exist.")
    if file_hash(path) != record["sha256"]:
        raise ArtefactError(f"{path} does not match its checksum: it was changed or damaged after writing.")
    frame = pd.read_parquet(path, engine="pyarrow")
    return frame[list(record["columns"])].rename_axis(None)

"""Tables and images: read, checked, split and coded. Names are imported when first used, so that listing built-in data loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillens.data.base import Column, Dataset, Finding, Split, Table
    from distillens.data.builtin import BUILTIN, builtin_names
    from distillens.data.images import Images
    from distillens.data.load import load_dataset
    from distillens.data.pictures.load import load_images
    from distillens.data.saved import dataset_summary, read_dataset, save_dataset
    from distillens.data.sketch import Sketch
    from distillens.data.table import encode_frame, learn_columns

_HOME = {
    "Column": "base", "Dataset": "base", "Finding": "base", "Split": "base", "Table": "base",
    "BUILTIN": "builtin", "builtin_names": "builtin", "load_dataset": "load",
    "Images": "images", "load_images": "pictures.load",
    "dataset_summary": "saved", "read_dataset": "saved", "save_dataset": "saved",
    "Sketch": "sketch", "encode_frame": "table", "learn_columns": "table",
}  # fmt: skip

__all__ = [
    "BUILTIN", "Column", "Dataset", "Finding", "Images", "Sketch", "Split", "Table", "builtin_names", "dataset_summary", "encode_frame",
    "learn_columns", "load_dataset", "load_images", "read_dataset", "save_dataset",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"distillens.data.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

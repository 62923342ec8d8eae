"""What the contract checks share: a promise, the state of the world around a call, and recipe entries."""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

PYTHONS, FILTERS = "The state of Python's random generator", "The list of warning filters"
AT_IMPORT = (PYTHONS, FILTERS)  # what importing a library may change


def require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)


@contextlib.contextmanager
def untouched(model: Any = None) -> Iterator[None]:
    """AssertionError when the block changes something global, or the mode of `model.module`.

    Global: the random states of `random`, NumPy and (when it is loaded) torch, torch's thread count and gradient mode,
    and the warning filters. When the block is the first to import some library, Python's generator and the filters are not
    compared: libraries draw and add filters while they are imported, which is theirs to answer for.
    """
    before, loaded = _globals(model), len(sys.modules)
    yield
    for (what, was), (_, now) in zip(before, _globals(model), strict=True):
        excused = what in AT_IMPORT and len(sys.modules) > loaded
        require(was == now or excused, f"{what} changed and was not restored.")


def _globals(model: Any) -> list[tuple[str, object]]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (the global state is what is watched)
    assert isinstance(numpy_state, dict)
    torch = sys.modules.get("torch")
    module = getattr(model, "module", None)
    parts = module.modules() if torch is not None and isinstance(module, torch.nn.Module) else ()
    return [
        (PYTHONS, random.getstate()),
        ("The state of NumPy's global generator", (repr(numpy_state["state"]), numpy_state["gauss"])),
        ("The state of torch's global generator", None if torch is None else torch.get_rng_state().numpy().tobytes()),
        ("Torch's thread count", None if torch is None else torch.get_num_threads()),
        ("Torch's gradient mode", None if torch is None else torch.is_grad_enabled()),
        (FILTERS, list(warnings.filters)),
        ("The mode (training or not) of the model", [part.training for part in parts]),
    ]


def check_entry(entry: Any) -> None:
    """Students, explainers and objectives are their recipe entries: documented frozen dataclasses."""
    cls = type(entry)
    require(is_dataclass(cls), f"{cls.__name__} should be a dataclass: it is its own recipe entry.")
    require(cls.__dataclass_params__.frozen, f"{cls.__name__} should be frozen: a recipe is not edited in place.")
    require(bool((cls.__doc__ or "").strip()), f"{cls.__name__} should have a docstring.")
    require(isinstance(entry.kind, str) and bool(entry.kind), f"{cls.__name__}.kind should be a name.")
    require(replace(entry) == entry, f"Equal settings should make equal {cls.__name__} objects.")

"""distillens: distil a model into one small or readable enough to ship, and show whether it still decides for the same reasons.

    import distillens

    run = distillens.run("german-credit")        # a recipe: built-in name, YAML file or dictionary
    run.verdict, run.directory                   # "pass", "review" or "fail"; the passport lies in the directory

The names below are imported when they are first used, so that `import distillens` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distillens.audit.audit import audit
    from distillens.audit.result import Audit
    from distillens.data.base import Dataset, Table
    from distillens.data.load import load_dataset
    from distillens.estimate import Estimate
    from distillens.explainers.base import Explanation
    from distillens.explainers.explain import explain
    from distillens.pipeline import run
    from distillens.recipe import Recipe
    from distillens.run import Run
    from distillens.transfer.training.transfer import Transfer
    from distillens.verbs.distil import distill

__version__ = "0.1.0"
__all__ = [
    "Audit", "Dataset", "Estimate", "Explanation", "Recipe", "Run", "Table", "Transfer", "__version__", "audit", "distill", "explain",
    "load_dataset", "run",
]  # fmt: skip

_HOMES = {
    "run": "distillens.pipeline",
    "distill": "distillens.verbs.distil",
    "explain": "distillens.explainers.explain",
    "audit": "distillens.audit.audit",
    "Recipe": "distillens.recipe",
    "Run": "distillens.run",
    "Explanation": "distillens.explainers.base",
    "Audit": "distillens.audit.result",
    "Estimate": "distillens.estimate",
    "Table": "distillens.data.base",
    "Dataset": "distillens.data.base",
    "load_dataset": "distillens.data.load",
    "Transfer": "distillens.transfer.training.transfer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distillens' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


class _Package(ModuleType):
    """Keeps `distillens.run` and `distillens.audit` functions.

    Importing the modules `distillens.run` and `distillens.audit` binds them on the package under the same names; that
    binding is left out here. `from distillens.run import Run` does not need it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

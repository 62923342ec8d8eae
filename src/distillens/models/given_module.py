"""A torch module that somebody trained elsewhere, asked about tables.

What it is asked with: (n, F) float32, the F features in the order of the table, numbers as they are, booleans as 0 and 1, missing and
unseen as NaN. Columns of text have codes that only the table knows, and a module cannot have been trained on them, so they need
a declared preprocessing: an attribute `preprocess` of the module, a function from a data frame with the user's names and values to (n, D)
numbers. With `preprocess`, that is what the module is asked with, whatever the columns are.
What it answers: (n, K) logits; of two classes also (n,) or (n, 1) log-odds of the second; values for regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import ModelError
from distillens.models.callable import CallableModel
from distillens.models.memory import let_memory_errors_pass
from distillens.models.opened import numbers, places_of, require_numbers
from distillens.store import content_hash

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats, Table
    from distillens.models.base import Model

BATCH = 16_384  # rows a forward pass


def given_module(module: Any, columns: tuple[Column, ...], classes: tuple[str, ...], label: str) -> Model:
    """The module as a model of tables of `columns`. classes: names of its outputs in its order; () for regression.

    Raises ModelError for columns of text without `preprocess`, and when asked, for answers of another shape.
    """
    preprocess = getattr(module, "preprocess", None)
    places = places_of(columns, features=None, width=None, label=label)
    if preprocess is None:
        require_numbers(columns, places, label=label)

    def rows_of(inputs: Table) -> Floats:
        if preprocess is None:
            return numbers(inputs, places)
        from distillens.models.estimator import frame_of

        try:
            rows = np.asarray(preprocess(frame_of(inputs)), dtype=np.float64)
        except Exception as error:  # the user's own code may raise anything; its traceback stays attached
            let_memory_errors_pass(error)
            raise ModelError(f"The preprocess of {label} raised {type(error).__name__}: {error}") from error
        if rows.ndim != 2 or len(rows) != len(inputs):
            raise ModelError(
                f"The preprocess of {label} should return ({len(inputs)}, D) numbers, but returned {rows.shape}."
            )
        return rows

    def ask(inputs: Table) -> Floats:
        import torch

        from distillens.models.torch_module import evaluating

        first = next(iter(module.parameters()), None)
        rows = torch.from_numpy(np.ascontiguousarray(rows_of(inputs), dtype=np.float32))
        try:
            with evaluating(module), torch.no_grad():
                parts = [module(part if first is None else part.to(first.device)) for part in torch.split(rows, BATCH)]
                answers: Floats = torch.cat(parts).double().cpu().numpy()
        except (RuntimeError, TypeError, AttributeError) as error:
            let_memory_errors_pass(error)
            raise ModelError(f"The torch module {label} could not be asked about these rows: {error}") from error
        if len(classes) == 2 and answers.size == len(inputs):
            score = answers.reshape(-1)
            return np.column_stack([-score / 2, score / 2])
        return answers

    return CallableModel(
        ask, classes, "logits" if classes else "values", label, fingerprint=_fingerprint(module, columns)
    )


def _fingerprint(module: Any, columns: tuple[Column, ...]) -> str:
    """Hash of the weights, of the module's printed structure and of the columns; code that neither shows is not in it."""
    arrays = {
        str(name): np.ascontiguousarray(value.detach().cpu().float().numpy())
        for name, value in module.state_dict().items()
        if hasattr(value, "detach")
    }
    return content_hash({"module": repr(module), "columns": [column.to_json() for column in columns]}, arrays)

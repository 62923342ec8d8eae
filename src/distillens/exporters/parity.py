"""Does the exported file answer as the model it was made from?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.models.base import as_probabilities, evaluate
from distillens.models.onnx import OnnxModel

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Inputs
    from distillens.models.base import Decision, Model


def parity(
    model: Model, exported: Model, inputs: Inputs, *, decision: Decision | None, tolerance: float = 1e-5
) -> dict[str, Any]:
    """Compare answers row by row; an `OnnxModel` is run as a whole file, texts included.

    Returns rows; max_abs_difference (of probabilities, or of values in the user's units); flips: rows decided otherwise
    (0 for regression, which decides nothing); flips_beyond_tolerance: those of them that the model itself does not hold for a near tie,
    |p − threshold| > tolerance, or for several classes: the two likeliest further apart than tolerance; tolerance.
    """
    if isinstance(exported, OnnxModel):
        exported = exported.as_whole_file()
    own, other = evaluate(model, inputs), evaluate(exported, inputs)
    flips = clear = np.zeros(len(inputs), dtype=np.bool_)
    if model.output != "values":
        own, other = as_probabilities(own, model.output), as_probabilities(other, exported.output)
        if decision is not None or len(model.classes) > 2:
            flips, clear = _flips(own, other, decision, tolerance)
    return {
        "rows": len(inputs),
        "max_abs_difference": float(np.abs(own - other).max()) if len(inputs) else 0.0,
        "flips": int(flips.sum()),
        "flips_beyond_tolerance": int((flips & clear).sum()),
        "tolerance": tolerance,
    }


def _flips(own: Floats, other: Floats, decision: Decision | None, tolerance: float) -> tuple[Bools, Bools]:
    """(n,) rows decided otherwise, and (n,) rows whose decision by the model itself is no near tie."""
    from distillens.models.base import Decision

    decide = decision or Decision()
    if own.shape[1] == 2:
        margin = np.abs(own[:, decide.adverse] - decide.threshold)
    else:
        top = np.sort(own, axis=1)
        margin = top[:, -1] - top[:, -2]
    return decide(own) != decide(other), margin > tolerance

"""Every knowledge-transfer loss under one name: `from distillens.objectives import kd_loss`.

Pure functions take and return torch tensors; the dataclasses of the same methods are recipe entries.
"""

from distillens.transfer.objectives.base import (
    OBJECTIVES,
    Batch,
    LearnedObjective,
    Loss,
    Objective,
    PureObjective,
    Shapes,
    View,
)
from distillens.transfer.objectives.kd import KD, kd_loss, standardize_logits
from distillens.transfer.objectives.mse import MSE, mse_loss

__all__ = [
    "KD", "MSE", "OBJECTIVES", "Batch", "LearnedObjective", "Loss", "Objective", "PureObjective", "Shapes", "View", "kd_loss",
    "mse_loss", "standardize_logits",
]  # fmt: skip

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
from distillens.transfer.objectives.dist import DIST, dist_loss
from distillens.transfer.objectives.dkd import DKD, dkd_loss
from distillens.transfer.objectives.jsd import JSD, jsd_loss
from distillens.transfer.objectives.kd import KD, kd_loss, standardize_logits
from distillens.transfer.objectives.mlkd import MLKD, mlkd_loss
from distillens.transfer.objectives.mse import MSE, mse_loss
from distillens.transfer.objectives.nkd import NKD, nkd_loss
from distillens.transfer.objectives.reverse_kl import ReverseKL, reverse_kl_loss
from distillens.transfer.objectives.schedule import Progress, objective_at

__all__ = [
    "DIST",
    "DKD",
    "JSD",
    "KD",
    "MLKD",
    "MSE",
    "NKD",
    "OBJECTIVES",
    "Batch",
    "LearnedObjective",
    "Loss",
    "Objective",
    "Progress",
    "PureObjective",
    "ReverseKL",
    "Shapes",
    "View",
    "dist_loss",
    "dkd_loss",
    "jsd_loss",
    "kd_loss",
    "mlkd_loss",
    "mse_loss",
    "nkd_loss",
    "objective_at",
    "reverse_kl_loss",
    "standardize_logits",
]

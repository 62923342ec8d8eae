"""Objectives: one knowledge-transfer method a file."""

from distillens.transfer.objectives.base import OBJECTIVES, Batch, Loss, Objective, View, as_objective

__all__ = ["OBJECTIVES", "Batch", "Loss", "Objective", "View", "as_objective"]

"""A teacher's classifier inside a student, behind a projector (Chen et al. 2022, "Knowledge Distillation with the Reused Teacher Classifier")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ReusedClassifier(nn.Module):
    """Features of the student → projector, which is learned → the teacher's linear layer, which stays as it is."""

    def __init__(self, project: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.project = project
        self.reused = _empty(classifier.in_features, classifier.out_features, bias=classifier.bias is not None)
        self.reused.load_state_dict(classifier.state_dict())
        self.reused.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.reused(self.project(features))
        return out

    def folded(self) -> nn.Linear:
        """One linear layer with the same function, trainable. The projector must be linear (plus a constant), as those of vectors are."""
        weight = self.reused.weight
        inputs = next(p for p in self.project.parameters() if p.ndim == 2).shape[1]
        basis = torch.eye(inputs, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            constant = self(basis.new_zeros(1, inputs))
            folded = _empty(inputs, self.reused.out_features).to(weight.device, weight.dtype)
            folded.weight.copy_((self(basis) - constant).T)
            folded.bias.copy_(constant[0])
        return folded


def _empty(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A layer whose weights are about to be overwritten; no generator is drawn from."""
    make: Any = nn.utils.skip_init
    layer: nn.Linear = make(nn.Linear, inputs, outputs, bias=bias)
    return layer

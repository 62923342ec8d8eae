"""The precision of losses: float32, or float64 where an input is, whatever the autocast dtype around them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def wide(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their dtypes and at least in float32; the teacher detached."""
    import torch

    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Autocast switched off on the device of `tensor`: it would run matrix products of float32 in half precision."""
    import torch

    return torch.autocast(tensor.device.type, enabled=False)

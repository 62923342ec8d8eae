"""Libraries of networks for images, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session")
def vision() -> Iterator[None]:
    """torchvision and timm, importable. Skips where one is not installed.

    A torchvision whose compiled part was built for another torch refuses to be imported for want of two operators, which no
    network for classification uses; they are declared for the tests.
    """
    for name in ("torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed (the extra 'vision')")
    declared = None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
    yield
    del declared

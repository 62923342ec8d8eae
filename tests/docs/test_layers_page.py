"""The page on layers does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "layers.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "page"}
    generator = torch.get_rng_state()
    found = list(re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M))
    assert len(found) >= 6
    for block in found:
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block.group(1), str(PAGE), "exec"), namespace)
    assert torch.equal(generator, torch.get_rng_state())
    said = capsys.readouterr().out
    assert "{'stages.0:output': (16, 16, 16), 'stages.2:output': (64, 4, 4), 'features': (64,)}" in said
    assert "Debiased linear CKA on 64 rows" in said
    assert "agreement with the teacher before training on 64 rows" in said
    assert float(namespace["sensitivity"].abs().sum()) > 0


def test_the_sizes_of_the_table_are_those_of_the_networks() -> None:
    from distillens.models.nets.base import as_image_net, initialised

    for entry, shown in (
        ({"kind": "resnet", "depth": 20}, "0.28 M"),
        ({"kind": "wide_resnet", "depth": 40, "width": 2}, "2.26 M"),
        ({"kind": "vit", "patch": 4}, "2.71 M"),
    ):
        module = initialised(as_image_net(entry), (3, 32, 32), 100)
        assert f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M" == shown
        assert shown in PAGE.read_text(encoding="utf-8")

"""The page on inheriting runs, and its example does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "inherit.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "page"}
    generator = torch.get_rng_state()
    (block,) = re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M)
    exec(compile("\n" * text[: block.start(1)].count("\n") + block.group(1), str(PAGE), "exec"), namespace)
    assert torch.equal(generator, torch.get_rng_state())
    assert "agreement with the teacher before training on 300 rows" in capsys.readouterr().out
    fresh, taken = namespace["agreements"]
    assert fresh < 0.4 < 0.6 < taken

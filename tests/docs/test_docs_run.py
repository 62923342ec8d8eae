"""The pages of the documentation do what they say: their code blocks run, in order, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXECUTED = ("first-distillation.md",)


def blocks(page: str) -> list[tuple[int, str]]:
    """(line number, code) of every python block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        (text[: m.start(1)].count("\n"), m.group(1)) for m in re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M)
    ]


@pytest.mark.parametrize("page", EXECUTED)
def test_every_block_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    found = blocks(page)
    assert len(found) >= 5
    namespace: dict[str, Any] = {"__name__": "page"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small are done before a second core has woken up
    try:
        with torch.random.fork_rng(devices=[]):
            for line, code in found:
                # Blank lines before the code make a traceback point at the page's own lines.
                exec(compile("\n" * line + code, str(DOCS / page), "exec"), namespace)
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "it was not trained" in said
    assert "The student ignores its teacher" in said
    assert "taken  0.weight ← 0.weight 20×10" in said
    assert namespace["accuracy"](namespace["student"]) > 0.6
    assert namespace["network_student"].complexity()["parameters"] == 10 * 5 + 5 + 5 * 3 + 3

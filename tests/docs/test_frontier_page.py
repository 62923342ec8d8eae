"""docs/frontier.md does what it says: its code runs in order, and its table counts as the code counts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "frontier.md"


def test_every_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "page"}
    found = list(re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M))
    assert len(found) == 4
    for m in found:
        exec(compile("\n" * text[: m.start(1)].count("\n") + m.group(1), str(PAGE), "exec"), namespace)
    said = capsys.readouterr().out
    assert "on the front" in said
    assert "('tree-32', 20)" in said
    assert [p["id"] for p in namespace["record"]["points"]][:3] == ["tree-2", "tree-4", "tree-8"]
    assert "</html>" in namespace["page"]
    assert namespace["picture"].startswith("<svg")


def test_the_page_speaks_of_every_family_and_measure() -> None:
    from distillens.frontier.sizes import FAMILIES
    from distillens.report.frontier import STABILITIES

    text = PAGE.read_text(encoding="utf-8")
    assert [f for f in FAMILIES if f"| {f.replace('_', ' ')} |" not in text] == []
    assert sum(line.startswith("| same ") for line in text.splitlines()) == len(STABILITIES)

"""Loops of one's own: a bare one, Lightning's and Hugging Face's end with the same weights; and their page says what they do."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distillens.models.threads import one_thread

ROOT = Path(__file__).parents[2]
LOOPS = ROOT / "examples" / "own_loops"
PAGE = ROOT / "docs" / "own-loops.md"
LIBRARIES = {"bare": "torch", "lightning_module": "lightning", "hugging_face": "transformers"}


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of examples as scripts in it see it, and the global generator as it was."""
    monkeypatch.syspath_prepend(str(LOOPS))
    with torch.random.fork_rng(devices=[]), one_thread():
        yield
    for name in ("task", *LIBRARIES):
        sys.modules.pop(name, None)


def library(name: str) -> None:
    """Skips where the library is not installed, or cannot be imported for another one's sake."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # built for another torch: both libraries look at it, and want none of the missing operators
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        KEPT.append(declared)


KEPT: list[Any] = []


def weights(name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = importlib.import_module(name).trained().state_dict()
    return state


@pytest.mark.usefixtures("loops")
def test_a_bare_loop_teaches_and_trains_projectors_too() -> None:
    started = importlib.import_module("task").distillation()
    before, after = started.state_dict(), weights("bare")
    assert all(not torch.equal(before[name], value) for name, value in after.items())
    assert any(name.startswith("terms.fitnet") for name in after)
    assert "Debiased linear CKA on 32 rows" in str(started.matching)


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", ["lightning_module", "hugging_face"])
@pytest.mark.usefixtures("loops")
def test_in_other_peoples_loops_the_same_batches_give_the_same_weights(name: str) -> None:
    library(LIBRARIES[name])
    ours, theirs = weights("bare"), weights(name)
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_the_page_shows_the_examples_and_its_own_blocks_run() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = list(re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M))
    assert len(found) >= 6
    shown = "".join(path.read_text(encoding="utf-8") for path in LOOPS.glob("*.py"))
    namespace: dict[str, Any] = {"__name__": "page"}
    copied = 0
    with torch.random.fork_rng(devices=[]), one_thread():
        for block in found:
            code = block.group(1)
            if "(lightning.LightningModule)" in code or "(transformers.Trainer)" in code:
                assert code.strip() in shown
                copied += 1
                continue
            exec(compile("\n" * text[: block.start(1)].count("\n") + code, str(PAGE), "exec"), namespace)
    assert copied == 2
    torch.testing.assert_close(namespace["in_parts"], namespace["at_once"], rtol=1e-5, atol=1e-7)
    assert torch.equal(namespace["distributed"], namespace["at_once"])

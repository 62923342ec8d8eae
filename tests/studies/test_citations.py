"""References: every entry is whole, and every paper is one that the method's own file names."""

from __future__ import annotations

import importlib
import re

import pytest

from distillens.studies.citations import BIBTEX, KEYS, STATISTICS, entries_for
from distillens.transfer.objectives.base import OBJECTIVES


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_papers_are_those_of_the_methods_docstring(kind: str) -> None:
    module = importlib.import_module(OBJECTIVES[kind].partition(":")[0])
    said = f"{module.__doc__} {(getattr(module, OBJECTIVES[kind].partition(':')[2])).__doc__}"
    for key in KEYS[kind]:
        entry = BIBTEX[key]
        author = re.search(r"author = \{(.*?)( and |\},)", entry)
        year = re.search(r"year = \{(\d{4})\}", entry)
        assert author is not None
        assert year is not None
        assert author.group(1).split()[-1] in said, (key, author.group(1))
        assert year.group(1) in said, key


def test_every_entry_has_authors_title_year_and_a_place() -> None:
    assert set(BIBTEX) == {key for keys in KEYS.values() for key in keys} | set(STATISTICS)
    for key, entry in BIBTEX.items():
        assert entry.startswith(("@misc{" + key + ",", "@inproceedings{" + key + ",", "@article{" + key + ","))
        assert all(f"  {field} = {{" in entry for field in ("author", "title", "year"))
        assert any(f"  {field} = {{" in entry for field in ("booktitle", "journal", "eprint"))
        assert entry.count("{") == entry.count("}")


def test_entries_come_once_and_methods_of_ones_own_have_none() -> None:
    found = entries_for(["gradcam_matching", "gradient_matching", "mine:Own"])
    assert [re.match(r"@\w+\{(\w+),", entry).group(1) for entry in found] == [  # type: ignore[union-attr]
        "parchami2024good", "selvaraju2017gradcam", "czarnecki2017sobolev", *STATISTICS,
    ]  # fmt: skip

"""What the documentation says exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distillens.recipe import Recipe
from distillens.recipe.entries import read_entry
from distillens.students.base import STUDENTS
from distillens.transfer.objectives.base import OBJECTIVES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def keys(node: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    """Dotted names of the fixed keys of the recipe."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].split("/")[-1]]
    found: list[str] = []
    for name, inner in node.get("properties", {}).items():
        below = keys(inner, schema, f"{path}{name}.")
        found += below or [path + name]
    return found


def test_every_key_of_the_recipe_is_in_its_page() -> None:
    schema = Recipe.json_schema()
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    names = keys(schema, schema)
    assert len(names) > 25
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_objective_is_in_its_page_and_the_page_has_no_others() -> None:
    page = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    listed = [name for line in page.splitlines() for name in re.findall(r"^\| `(\w+)` \|", line)]
    assert sorted(listed) == sorted(OBJECTIVES)


def test_the_entries_on_the_page_of_objectives_are_entries() -> None:
    page = (ROOT / "docs" / "objectives.md").read_text(encoding="utf-8")
    from distillens.recipe.text import parse_yaml

    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (student,) = parse_yaml(text, what="docs/objectives.md")["students"].values()
    problems = read_entry(student, STUDENTS, what="student", path="students.net")[1]
    assert problems == []
    assert set(re.findall(r"from distillens\.objectives import (\w+), (\w+)", page)) == {("DKD", "dkd_loss")}


def test_the_recipe_on_the_page_is_a_recipe() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    text = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert text is not None
    from distillens.recipe.text import parse_yaml

    recipe = Recipe.load(parse_yaml(text.group(1), what="docs/recipe.md"))
    assert set(recipe.students) == {"ebm", "tree", "net"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


def test_the_pages_of_the_site_exist() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert listed
    assert [name for name in listed if not (ROOT / "docs" / name).exists()] == []
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= set(listed), "a page nobody finds"

"""Arrows point one way: the imports of the package are read and every one of them must go down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "distillens"

# Lower may not know higher; rooms of one rank may not know each other, but for the first, which are files that all may use.
RANKS = (
    {"errors", "store", "estimate", "intervals", "similarity", "progress", "named", "plain", "run"},
    {"data"},
    {"models"},
    {"explainers"},
    {"transfer", "metrics"},
    {"students", "audit", "exporters", "report", "objectives"},
    {"frontier"},
    {"recipe"},
    {"flow", "testing", "studies"},
    {"pipeline"},
    {"verbs"},
    {"cli"},
    {"__main__"},
)
NEVER = {
    ("audit", "transfer"),
    ("audit", "students"),
    ("report", "models"),
    ("metrics", "transfer"),
    ("transfer", "metrics"),
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rank(name: str) -> int:
    for level, names in enumerate(RANKS):
        if name in names:
            return level
    raise AssertionError(f"src/distillens/{name} stands in no rank: say in this test where it belongs")


def imported_rooms(source: str) -> set[str]:
    """Every room of distillens a file imports, wherever in the file, type-only imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("distillens.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the arrows; write the whole name"
            module = node.module or ""
            if module == "distillens":
                found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
            elif module.startswith("distillens."):
                found.add(module.split(".")[1])
    return found


def violations(importer: str, rooms: set[str]) -> list[str]:
    wrong = []
    for other in sorted(rooms - {importer}):
        higher = rank(other) > rank(importer)
        stranger = rank(other) == rank(importer) != 0
        if higher or stranger or (importer, other) in NEVER:
            wrong.append(f"{importer} imports {other}")
    return wrong


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_there_is_something_to_read() -> None:
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_points_upward(path: Path) -> None:
    assert violations(room(path), imported_rooms(path.read_text(encoding="utf-8"))) == []


def test_the_reader_sees_imports_inside_functions_and_type_blocks() -> None:
    source = "def f():\n    from distillens.audit.audit import audit\n    import distillens.cli\n"
    assert imported_rooms(source) == {"audit", "cli"}
    assert violations("models", {"audit", "data"}) == ["models imports audit"]
    assert violations("audit", {"transfer"}) == ["audit imports transfer"]


def test_only_the_capture_room_registers_hooks() -> None:
    callers = [
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if "register_forward" in path.read_text(encoding="utf-8")
        or "register_full_backward" in path.read_text(encoding="utf-8")
    ]
    assert [name for name in callers if name != "models/capture.py"] == []

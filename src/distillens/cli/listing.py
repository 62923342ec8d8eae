"""What `distillens list` shows: the members of every open set, each with the first sentence of its documentation.

Sources are parsed, not imported: a list must be there at once, and must not need the libraries its members use.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from distillens.errors import InputError, did_you_mean

Items = list[tuple[str, str]]


def list_of(kind: str) -> Items:
    """(name, one sentence) of every member of a set. InputError for a set that does not exist."""
    if kind not in SETS:
        raise InputError(f"There is no list of {kind!r}.{did_you_mean(kind, SETS)}")
    return SETS[kind]()


def _students() -> Items:
    from distillens.students.base import STUDENTS

    return _described(STUDENTS)


def _teachers() -> Items:
    from distillens.students.base import TEACHERS

    return _described(TEACHERS)


def _objectives() -> Items:
    from distillens.transfer.objectives.base import OBJECTIVES

    return _described(OBJECTIVES)


def _explainers() -> Items:
    from distillens.explainers.base import EXPLAINERS

    return _described(EXPLAINERS)


def _exporters() -> Items:
    from distillens.exporters.base import EXPORTERS

    return _described(EXPORTERS)


def _metrics() -> Items:
    from distillens.metrics.base import METRICS

    return [(name, f"{metric.text} [{metric.scope}]") for name, metric in METRICS.items()]


def _gates() -> Items:
    from distillens.audit.gates import PROFILES

    return [(name, profile.text) for name, profile in PROFILES.items()]


def _recipes() -> Items:
    from distillens.recipe import builtin_recipes
    from distillens.recipe.text import read_yaml

    return [(name, str(read_yaml(path).get("title", ""))) for name, path in builtin_recipes().items()]


def _data() -> Items:
    from distillens.data.builtin import BUILTIN, BUILTIN_IMAGES

    return [(name, f"{record.title} [{record.licence}]") for name, record in (BUILTIN | BUILTIN_IMAGES).items()]


SETS: dict[str, Callable[[], Items]] = {
    "students": _students, "teachers": _teachers, "objectives": _objectives, "explainers": _explainers, "metrics": _metrics,
    "recipes": _recipes, "exporters": _exporters, "gates": _gates, "data": _data,
}  # fmt: skip


def _described(known: Mapping[str, str]) -> Items:
    return [(name, describe(path)) for name, path in known.items()]


def describe(path: str) -> str:
    """The first sentence said about `package.module:Class`: of the module, or of the class where the module says nothing."""
    module, _, name = path.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    owner = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    options = [node.target.id for node in owner.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
               and "ClassVar" not in ast.unparse(node.annotation) and node.target.id != "kind"] if owner else []  # fmt: skip
    text = " ".join(
        (ast.get_docstring(tree) or (ast.get_docstring(owner) if owner else "") or "").split("\n\n")[0].split()
    )
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[0].rstrip(":")
    return f"{sentence} Options: {', '.join(options)}." if options else sentence

"""A soft decision tree: its questions by number, nested, and what each of them adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from markupsafe import Markup

from distillens.report.words import Words, name

Json = Mapping[str, Any]

MOST_NODES, MOST_FEATURES = 31, 5


def soft_tree(w: Words, d: Json, nested: Callable[[Json], Markup]) -> dict[str, Any]:
    """The questions of a described soft tree nested by number as `rules`, and a line a question; nested: draws a node of a tree."""
    nodes = [
        {
            "number": node["node"] + 1,
            "condition": name(node["condition"]),
            "coverage": w.percent(node["coverage"]),
            "features": [(name(f["name"]), w.number(f["strength"], 2)) for f in node["features"][:MOST_FEATURES]],
        }
        for node in sorted(_inner(d["root"]), key=lambda node: int(node["node"]))[:MOST_NODES]
    ]
    return {"rules": nested(_numbered(w, d["root"])), "nodes": nodes, "path": d["path"]}


def _inner(node: Json) -> Iterator[Json]:
    """Every question."""
    if "condition" in node:
        yield node
        for answer in ("yes", "no"):
            yield from _inner(node[answer])


def _numbered(w: Words, node: Json) -> Json:
    """The same tree with its questions called by their numbers and strongest feature."""
    if "condition" not in node:
        return node
    strongest = node["features"][0]["name"] if node["features"] else ""
    condition = w("soft_tree.numbered", {"number": node["node"] + 1, "feature": strongest})
    return {**node, "condition": condition, "yes": _numbered(w, node["yes"]), "no": _numbered(w, node["no"])}

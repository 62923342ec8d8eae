"""A decision tree as a drawing: the root at the left, every leaf on a line of its own at the right, so that nothing can overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from distillens.report.svg import box, figure, line, path, shorten, tag, words
from distillens.report.words import Words

Json = Mapping[str, Any]

MOST_LEAVES = 64
# pixels: height of a leaf, head, width of the leaf columns; of a level at least and at most; room for yes and no on the way to the next
ROW, TOP, LEAF, SMALLEST, LARGEST, WAY = 42.0, 26.0, 270.0, 112.0, 200.0, 28.0


@dataclass(eq=False)
class _Node:
    source: Json
    depth: int
    answer: str = ""  # yes or no, on the way from its parent
    y: float = 0.0
    children: list[_Node] = field(default_factory=list)


def tree_drawing(
    w: Words, d: Json, outputs: Sequence[str], *, adverse: str | None = None, parts: Sequence[Json] | None = None
) -> Markup:
    """The tree of a described student; empty beyond `MOST_LEAVES`, where only the nested rules can be read.

    adverse: the class whose probability stands at each leaf (default: the last). parts: rows, agreement and precision of each leaf.
    """
    leaves: list[_Node] = []
    root = _placed(d["root"], 0, "", leaves)
    if len(leaves) > MOST_LEAVES or len(leaves) < 2:
        return Markup("")
    depth = max(leaf.depth for leaf in leaves)
    level = min(LARGEST, max(SMALLEST, (980 - LEAF) / depth))
    width, height = depth * level + LEAF, TOP + ROW * len(leaves) + 4
    known = {part["part"]: part for part in parts or ()}
    right = depth * level
    at = outputs.index(adverse) if adverse in outputs else len(outputs) - 1
    head = w("tree.head_value") if len(outputs) == 1 else w("tree.head", {"output": outputs[at]})
    drawn: list[Markup] = [words(right + 14, 14, head, "t muted", limit=150, size=11)]
    if known:
        drawn.append(words(width - 78, 14, w("tree.head_rows"), "t muted", anchor="end", size=11))
        drawn.append(words(width, 14, w("tree.head_right"), "t muted", anchor="end", size=11))
    for node in _walk(root):
        drawn += _edges(w, node, level, right)
        if node.children:
            drawn += _question(node, level)
    for leaf in leaves:
        drawn += _leaf(w, leaf, right, width, at, known.get(leaf.source.get("node")))
    spoken = w("tree.spoken", {"leaves": w.number(len(leaves)), "depth": w.number(depth)})
    return figure(width, height, w("tree.drawing"), spoken, drawn, css="tree-drawing")


def _placed(source: Json, depth: int, answer: str, leaves: list[_Node]) -> _Node:
    """The node with its children; leaves take the lines from top to bottom, a question stands halfway between its answers."""
    node = _Node(source, depth, answer)
    if "condition" in source:
        node.children = [_placed(source[way], depth + 1, way, leaves) for way in ("yes", "no")]
        node.y = sum(child.y for child in node.children) / 2
    else:
        node.y = TOP + ROW * (len(leaves) + 0.5)
        leaves.append(node)
    return node


def _walk(node: _Node) -> list[_Node]:
    return [node, *(inner for child in node.children for inner in _walk(child))]


def _edges(w: Words, node: _Node, level: float, right: float) -> list[Markup]:
    """Elbows to both answers, named yes and no; a leaf's line runs on to the column of leaves."""
    out = []
    x = node.depth * level
    for child in node.children:
        end = child.depth * level if child.children else right
        elbow = x + level - WAY
        out.append(
            path(
                [(x + 4, node.y), (elbow, node.y), (elbow, child.y), (end + (4 if child.children else 8), child.y)],
                "edge",
            )
        )
        out.append(words(elbow + 3, child.y - 3, w(f"answer.{child.answer}"), "t muted", size=10))
    return out


def _question(node: _Node, level: float) -> list[Markup]:
    """The feature above the line, the rest of the condition below it, each as much as there is room for."""
    text, feature = str(node.source["condition"]), str(node.source.get("feature", ""))
    x, room = node.depth * level + 6, level - WAY - 10
    rest = text.removeprefix(feature).strip()
    first, second = (feature, rest) if feature and rest != text else (text, "")
    out = [tag("circle", {"cx": node.depth * level + 4, "cy": node.y, "r": 3, "class": "knot"})]
    above, second_above = _two_lines(first, room)
    lines = [words(x, node.y - (16 if second_above else 4), above, "t strong", limit=room, size=11)]
    lines += [words(x, node.y - 4, second_above, "t strong", limit=room, size=11)] if second_above else []
    lines += [words(x, node.y + 12, second, "t", limit=room, size=11)] if second else []
    full = shorten(second_above or above, room, 11) == (second_above or above) and shorten(second, room, 11) == second
    return out + (lines if full else [tag("g", {}, tag("title", {}, text), Markup("").join(lines))])


def _two_lines(text: str, room: float) -> tuple[str, str]:
    """A name broken where it fits, after an underscore, a hyphen or a space if there is one."""
    if shorten(text, room, 11) == text:
        return text, ""
    fits = max(1, len(shorten(text, room + 11, 11)) - 1)
    at = max((text.rfind(mark, 2, fits) + 1 for mark in "_- "), default=0)
    at = at if at >= 3 else fits
    return text[:at].strip(), text[at:].strip()


def _leaf(w: Words, leaf: _Node, right: float, width: float, at: int, part: Json | None) -> list[Markup]:
    value = leaf.source["value"]
    y, x = leaf.y, right + 14
    out = [line(right + 10, y + ROW / 2, width, y + ROW / 2, "grid")]
    if len(value) == 1:
        out.append(words(x, y + 4, w.number(float(value[0])), "t strong", size=12))
    else:
        share = min(1.0, max(0.0, float(value[at])))
        out += [
            box(x, y - 5, 90, 10, "track", radius=2), box(x, y - 5, 90 * share, 10, "student bar", radius=2),
            words(x + 96, y + 4, w.percent(share), "t strong", size=12),
        ]  # fmt: skip
    if part is not None:
        out.append(words(width - 78, y + 4, w.number(int(part["n"])), "t value", anchor="end", size=11))
        right_share = part["precision"] or part["agreement"]
        if right_share.get("status") == "ok" and right_share.get("value") is not None:
            out += [
                words(width, y, w.percent(right_share["value"]), "t value", anchor="end", size=11),
                words(
                    width,
                    y + 12,
                    w.span(right_share["low"], right_share["high"], "share"),
                    "t muted",
                    anchor="end",
                    size=9,
                ),
            ]
    return out

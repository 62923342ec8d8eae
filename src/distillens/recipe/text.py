"""A recipe as text: YAML in and out, and `--set key.sub=value`.

Read as YAML 1.2 core values by a loader that knows nothing but text, numbers, true/false, null, lists and mappings:
`yes`, `no` and `on` stay text (they are class names more often than truth values), so do dates and codes such as 007;
`1e-3` is a number. Tags, anchors, duplicate keys and files beyond `LARGEST_FILE` are refused. No code is ever run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from distillens.errors import RecipeError

LARGEST_FILE = 1_000_000  # bytes; a recipe of a thousand lines has about 50,000
DEEPEST = 50

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_RESOLVERS = (("null", _NULL, ["~", "n", "N", ""]), ("bool", _BOOL, list("tTfF")), ("int", _INT, list("-+0123456789")),
              ("float", _FLOAT, list("-+0123456789.")))  # fmt: skip


_TAG = "tag:yaml.org,2002:"


class _Refused(yaml.YAMLError):
    """Something that YAML allows and a recipe does not."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark


class _Loader(yaml.SafeLoader):
    """Plain values only."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML keeps them on the class; filled below, once)
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _Refused(
                f"the anchor or alias {event.anchor!r} is not allowed in a recipe; write the values out",
                event.start_mark,
            )
        return super().compose_node(parent, index)

    def mapping(self, node: Any) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _Refused(f"expected a mapping here, not a {node.id}", node.start_mark)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: Any = self.construct_object(key_node, deep=True)
            if isinstance(key, int) and not isinstance(key, bool):
                key = str(key)
            if not isinstance(key, str):
                raise _Refused(f"the key {key!r} is not text; put it in quotes", key_node.start_mark)
            if key in found:
                raise _Refused(f"the key {key!r} appears twice; keep one of the two", key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=True)
        return found

    def sequence(self, node: Any) -> list[Any]:
        if not isinstance(node, yaml.SequenceNode):
            raise _Refused(f"expected a list here, not a {node.id}", node.start_mark)
        return [self.construct_object(item, deep=True) for item in node.value]

    def number(self, node: Any) -> int | float:
        text = self.construct_scalar(node)
        try:
            return (
                int(text)
                if node.tag.endswith(":int")
                else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            )
        except ValueError:
            raise _Refused(f"{text[:40]!r} is not a number that can be read", node.start_mark) from None

    def text(self, node: Any) -> str:
        return str(self.construct_scalar(node))

    def truth(self, node: Any) -> bool:
        return str(self.construct_scalar(node)).lower() == "true"

    def nothing(self, node: Any) -> None:
        self.construct_scalar(node)

    def refuse(self, node: Any) -> None:
        tag = str(node.tag).replace(_TAG, "!!")
        raise _Refused(
            f"the tag {tag!r} is not allowed; a recipe holds plain values and never runs code", node.start_mark
        )


for _name, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern.pattern})$"), _first)
_Loader.add_constructor(_TAG + "null", _Loader.nothing)
_Loader.add_constructor(_TAG + "bool", _Loader.truth)
_Loader.add_constructor(_TAG + "int", _Loader.number)
_Loader.add_constructor(_TAG + "float", _Loader.number)
_Loader.add_constructor(_TAG + "str", _Loader.text)
_Loader.add_constructor(_TAG + "map", _Loader.mapping)
_Loader.add_constructor(_TAG + "seq", _Loader.sequence)
_Loader.add_constructor(None, _Loader.refuse)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 readers would take for anything but text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the name is PyYAML's)
        return True

    def text(self, data: str) -> Any:
        """Line breaks of every kind and control characters as escapes: in other quotes YAML would fold them."""
        return self.represent_scalar(_TAG + "str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.text)
for _name, _pattern, _first in _RESOLVERS:
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern.pattern})$"), _first)


def parse_yaml(text: str, *, what: str) -> Any:
    """Plain values from YAML text. RecipeError, with line and column, for everything else."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError:
        raise RecipeError(f"{what}: it is nested too deeply for a recipe.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = str(
            getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        ).splitlines()[0]
        lead = "" if isinstance(error, _Refused) else "this is not valid YAML: "
        raise RecipeError(f"{what}{where}: {lead}{problem}.") from None
    except ValueError as error:  # a character that PyYAML cannot build, such as \U00110000
        raise RecipeError(f"{what}: this is not valid YAML: {str(error).splitlines()[0]}.") from None


def read_yaml(path: Path) -> Any:
    """Plain values from a YAML file. RecipeError when it is missing, not text, too large or not plain YAML."""
    try:
        if path.is_dir():
            raise RecipeError(f"{path} is a folder; a recipe is one YAML file.")
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise RecipeError(f"{path} has {size:,} bytes; a recipe has at most {LARGEST_FILE:,}. Is it a data file?")
        return parse_yaml(path.read_bytes().decode("utf-8-sig"), what=str(path))
    except UnicodeDecodeError:
        raise RecipeError(f"{path} is not UTF-8 text; a recipe is a YAML file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"{path} cannot be read: {reason}.") from None


def dump_yaml(value: Any) -> str:
    """Block YAML in the order of the mappings; equal values give equal text, and `parse_yaml` reads them back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def scalar_yaml(value: str | int | float | bool | None) -> str:
    """One value on one line, quoted where it must be: column names and class names are anybody's text."""
    return (
        yaml.dump([value], Dumper=_Dumper, allow_unicode=True, width=math.inf, default_flow_style=True)
        .strip()[1:-1]
        .strip()
    )


def comment(text: str) -> str:
    """One line that stays a comment: no line breaks, no control characters, cut short."""
    kept = "".join(ch if ch.isprintable() else " " for ch in text)
    return kept if len(kept) <= 100 else kept[:99] + "…"


def plain(value: Any, path: str, problems: list[str], depth: int = 0) -> Any:
    """A copy made of dict, list, str, int, float, bool and None; what is not plain is added to `problems`."""
    if depth > DEEPEST:
        problems.append(f"{path}: it is nested too deeply for a recipe.")
        return None
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            problems.append(f"{path}: {ascii(value)[:60]} is not valid Unicode text.")
            return ""
        return str(value)
    if isinstance(value, int):
        if abs(value) >= 2**63:
            problems.append(
                f"{path}: the number {str(value)[:20]}… is too large."
                if abs(value) < 10**4000
                else f"{path}: the number is too large."
            )
            return 0
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            problems.append(f"{path}: expected a finite number, got {value}.")
            return 0.0
        return float(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(k): plain(v, join(path, k), problems, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, join(path, i), problems, depth + 1) for i, v in enumerate(value)]
    if type(value).__module__.startswith("numpy") and getattr(value, "ndim", 1) == 0:
        return plain(value.item(), path, problems, depth + 1)
    problems.append(
        f"{path or 'recipe'}: a {type(value).__name__} cannot stand in a recipe; write text, numbers, lists and mappings."
    )
    return None


def join(path: str, key: Hashable) -> str:
    """`students` + `tree` → `students.tree`; keys that could be misread in quotes."""
    text = str(key) if re.fullmatch(r'[^."\[\]\s\x00-\x1f]+', str(key)) else json.dumps(str(key), ensure_ascii=False)
    return f"{path}.{text}" if path else text


def split_key(key: str) -> list[str] | None:
    """`students.tree.monotone."a.b"` → its parts; brackets `[0]` count as parts. None when it cannot be read."""
    parts = re.findall(r'"([^"]*)"|\[(\d+)\]|([^."\[\]]+)', key)
    rebuilt = re.sub(r'"[^"]*"|\[\d+\]|[^."\[\]]+', "x", key)
    return ["".join(p) for p in parts] if re.fullmatch(r"x(\.?x)*", rebuilt) else None


def apply_overrides(raw: Any, overrides: Sequence[str]) -> list[str]:
    """Change plain `raw` in place by `key.sub=value` texts, values read as YAML; returns the problems."""
    problems: list[str] = []
    for text in overrides:
        key, separator, written = text.partition("=")
        parts = split_key(key.strip())
        if not separator or not parts:
            problems.append(f"--set {text}: write --set key.sub=value, for instance --set students.tree.max_leaves=8.")
            continue
        try:
            value = plain(parse_yaml(written, what=f"--set {key.strip()}"), key.strip(), problems)
        except RecipeError as error:
            problems.extend(error.problems)
            continue
        problem = _assign(raw, parts, value)
        if problem:
            problems.append(f"--set {key.strip()}: {problem}")
    return problems


def _assign(raw: Any, parts: list[str], value: Any) -> str:
    """Put a value at its place; returns what is wrong, "" for nothing."""
    here, path = raw, ""
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if isinstance(here, list):
            if not part.isdecimal():
                return f"{path} is a list; name an entry by its number from 0, not {part!r}."
            index = int(part)
            if index > len(here) or (index == len(here) and not last):
                return f"{path} has {len(here)} {'entry' if len(here) == 1 else 'entries'}; there is no number {index} (they count from 0)."
            if last:
                here[index : index + 1] = [value]
            else:
                here = here[index]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            else:
                if here.get(part) is None:
                    here[part] = {}
                here = here[part]
        else:
            return f"{path or 'the recipe'} is {here!r}, which has no keys of its own."
        path = join(path, part)
    return ""

"""Entries of a recipe that name a member of an open set: `{kind: tree, max_leaves: 16}`; and pydantic's findings in plain words.

A member is a frozen dataclass, and the dataclass *is* the entry: its fields are the options, its annotations their types,
its `__post_init__` their limits. What is wrong is collected, one sentence each, with the path of the key.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from distillens.errors import InputError, RecipeError, did_you_mean
from distillens.named import load_object, resolve
from distillens.recipe.text import join

Entry = dict[str, Any]

_EXPECTED = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number", "int_parsing_size": "a smaller whole number",
    "float_type": "a number", "float_parsing": "a number", "finite_number": "a finite number", "string_type": "text",
    "bool_type": "true or false", "bool_parsing": "true or false", "list_type": "a list", "tuple_type": "a list", "set_type": "a list",
    "dict_type": "a mapping of keys to values", "mapping_type": "a mapping of keys to values", "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values", "dataclass_type": "a mapping of keys to values", "none_required": "nothing",
}  # fmt: skip
_BOUNDS = {"greater_than": ("a number above", "gt"), "greater_than_equal": ("a number of at least", "ge"), "less_than": ("a number below", "lt"),
           "less_than_equal": ("a number of at most", "le"), "too_short": ("a list with at least", "min_length"),
           "too_long": ("a list with at most", "max_length"), "string_too_short": ("text of at least", "min_length"),
           "string_too_long": ("text of at most", "max_length")}  # fmt: skip
_COUNTED = {
    "too_short": " entries",
    "too_long": " entries",
    "string_too_short": " characters",
    "string_too_long": " characters",
}


def sentences(error: ValidationError, raw: Any, root: type, *, path: str = "") -> list[str]:
    """What pydantic found, one sentence for each place, in the words of this project.

    raw: what was validated. root: the model or dataclass it was validated as; its fields give the suggestions.
    """
    places: dict[str, list[Any]] = {}
    for found in error.errors(include_url=False, include_context=True):
        steps, here = [], raw
        for step in found["loc"]:
            inside = (isinstance(here, Mapping) and step in here) or (
                isinstance(here, list) and isinstance(step, int) and step < len(here)
            )
            if not inside:  # the name of a member of a union, or of a key that is missing
                continue
            here = here[step]
            steps.append(step)
        if found["type"] in {"missing", "missing_argument"}:
            steps.append(found["loc"][-1])
        place = path
        for step in steps:
            place = join(place, step)
        unknown = found["loc"][-1:] == ("[key]",)  # a key that is not one of a mapping's allowed keys
        places.setdefault(place, []).append(({**found, "type": "unknown_key"} if unknown else found, steps, here))
    written = []
    for place, many in places.items():
        found, steps, here = many[0]
        if any(other.startswith(place + ".") for other in places):
            continue  # what is wrong lies deeper, and is reported there
        if found["type"] in {"missing", "missing_argument"}:
            written.append(f"{place}: this key is required.")
        elif found["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            written.append(f"{place}: unknown key.{did_you_mean(str(steps[-1]), known_keys(root, steps[:-1]))}")
        elif found["type"] == "unknown_key":
            options = re.findall(r"'([^']*)'", str((found.get("ctx") or {}).get("expected")))
            written.append(f"{place}: unknown key.{did_you_mean(str(steps[-1]), options)}")
        elif any(f["type"] == "value_error" for f, *_ in many):
            written.append(f"{place}: {next(f for f, *_ in many if f['type'] == 'value_error')['ctx']['error']}")
        else:
            options = [
                o
                for f, *_ in many
                if f["type"] == "literal_error"
                for o in re.findall(r"'([^']*)'", f["ctx"]["expected"])
            ]
            expected = list(dict.fromkeys(_expected(f) for f, *_ in many))
            hint = did_you_mean(here, options) if isinstance(here, str) and options and len(expected) == 1 else ""
            lead = f"{shown(here)} is not known." if hint else f"expected {' or '.join(expected)}, got {shown(here)}."
            written.append(f"{place}: {lead}{hint}")
    return written


def _expected(found: Any) -> str:
    kind, context = found["type"], found.get("ctx") or {}
    if kind == "literal_error":
        return str(context["expected"])
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        if kind == "too_short" and context[name] == 1:
            return "at least one entry"
        return f"{words} {context[name]:g}{_COUNTED.get(kind, '')}"
    return _EXPECTED.get(kind, "another kind of value")


def shown(value: Any) -> str:
    """A value in a sentence, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "…"


def known_keys(root: Any, steps: Sequence[Any]) -> list[str]:
    """The keys allowed at a place below a model or dataclass."""
    here = root
    for step in steps:
        fields = _fields(here)
        here = (
            fields[step]
            if step in fields
            else next((a for a in reversed(get_args(_member(here, containers=True)))), None)
        )
    return list(_fields(here))


def _member(annotation: Any, *, containers: bool = False) -> Any:
    """Of `A | B | None` the member that has keys (or entries)."""
    if get_origin(annotation) in {Union, UnionType}:
        for option in get_args(annotation):
            if _fields(option) or (containers and get_origin(option) in {dict, list, tuple}):
                return option
    return annotation


def _fields(annotation: Any) -> dict[str, Any]:
    kind = annotation
    if get_origin(annotation) in {Union, UnionType}:
        kind = next((a for a in get_args(annotation) if isinstance(a, type)
                     and (dataclasses.is_dataclass(a) or issubclass(a, BaseModel))), None)  # fmt: skip
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.init}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {f.alias or name: f.annotation for name, f in kind.model_fields.items()}
    return {}


@lru_cache(maxsize=64)
def _adapter(member: type) -> TypeAdapter[Any]:
    return TypeAdapter(member)


def read_entry(
    entry: Any, known: Mapping[str, str], *, what: str, path: str, trust_code: bool = False
) -> tuple[Any, list[str]]:
    """The dataclass behind a plain entry, or None, and what is wrong with it.

    A `kind` of the form package.module:Name gives (None, []) unless code is trusted: it cannot be looked into before.
    """
    if not isinstance(entry, Mapping):
        return None, [f"{path}: expected a mapping such as {{kind: {next(iter(known), '…')}}}, got {shown(entry)}."]
    options = dict(entry)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        given = "is required" if kind is None else f"expected a name, got {shown(kind)}"
        return None, [f"{join(path, 'kind')}: {given}; it says which {what} this is.{did_you_mean('', known)}"]
    if kind not in known and ":" not in kind:
        return None, [f"{join(path, 'kind')}: there is no {what} {kind!r}.{did_you_mean(kind, known)}"]
    if kind not in known and not trust_code:
        return None, []
    try:
        member = resolve(kind, known, what=what, trust_code=trust_code)
    except InputError as error:
        return None, [f"{join(path, 'kind')}: {error}"]
    if not (isinstance(member, type) and dataclasses.is_dataclass(member)):
        return None, [
            f"{join(path, 'kind')}: {kind} is not a dataclass; an entry's options are the fields of a frozen dataclass."
        ]
    return _build(member, options, path)


def _build(member: type, options: Entry, path: str) -> tuple[Any, list[str]]:
    problems: list[str] = []
    names = [f.name for f in dataclasses.fields(member) if f.init and f.name != "kind"]
    for key in [k for k in options if k not in names]:
        problems.append(f"{join(path, key)}: unknown key.{did_you_mean(key, names)}")
        del options[key]
    if isinstance(options.get("objectives"), list) and "objectives" in names:
        problems += _objectives(options, path)
    if "model" in options and "model" in names and "objectives" in names:
        problems += _net(options, path)
    if isinstance(options.get("members"), list) and "members" in names:
        problems += _members(options, path)
    if isinstance(options.get("monotone"), dict) and "monotone" in names:
        for feature, sign in options["monotone"].items():
            if isinstance(sign, bool) or sign not in (-1, 0, 1):
                problems.append(
                    f"{join(join(path, 'monotone'), feature)}: expected +1 (rising), -1 (falling) or 0 (free), got {shown(sign)}."
                )
        options["monotone"] = {
            f: s for f, s in options["monotone"].items() if not isinstance(s, bool) and s in (-1, 0, 1)
        }
    try:
        adapter = _adapter(member)
    except PydanticUserError as error:
        return None, [
            *problems,
            f"{join(path, 'kind')}: the options of {member.__name__} cannot be read from its annotations ({error.message.splitlines()[0]}).",
        ]
    try:
        built = adapter.validate_json(json.dumps(options), strict=True)
    except ValidationError as error:
        return None, problems + sentences(error, options, member, path=path)
    except InputError as error:
        return None, [*problems, f"{path}: {error}"]
    return (None if problems else built), problems


def _objectives(options: Entry, path: str) -> list[str]:
    """Objectives are entries inside an entry; each is looked at by itself, so that all problems show at once."""
    from distillens.transfer.objectives.base import OBJECTIVES

    problems: list[str] = []
    for position, entry in enumerate(options["objectives"]):
        problems += read_entry(entry, OBJECTIVES, what="objective", path=join(join(path, "objectives"), position))[1]
    if problems:
        del options["objectives"]
    return problems


def _members(options: Entry, path: str) -> list[str]:
    """Teachers inside a teacher; each is looked at by itself."""
    from distillens.students.base import TEACHERS

    problems: list[str] = []
    for position, entry in enumerate(options["members"]):
        problems += read_entry(entry, TEACHERS, what="teacher", path=join(join(path, "members"), position))[1]
    if problems:
        del options["members"]
    return problems


def _net(options: Entry, path: str) -> list[str]:
    """A network is an entry inside an entry, or a name such as timm:NAME; looked into here, built by the student itself."""
    from distillens.students.network import NETS

    entry = options["model"]
    if isinstance(entry, str):
        return []
    if isinstance(entry, Mapping) and entry.get("kind") == "code":
        return []
    given = {"kind": "mlp", **entry} if isinstance(entry, Mapping) else entry
    problems = read_entry(given, NETS, what="network", path=join(path, "model"))[1]
    if problems:
        del options["model"]
    return problems


def resolved(entry: Entry, built: Any) -> Entry:
    """The entry with every default written out; an entry that could not be looked into stays as it is."""
    if built is None:
        return entry
    options: Entry = _plain(built)
    options.pop("kind", None)
    return {"kind": entry["kind"], **options}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}  # of members of an open set, often no field
        return kind | {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    return value


def build_entry(entry: Entry, known: Mapping[str, str], *, what: str, path: str, trust_code: bool) -> Any:
    """The dataclass of an entry. RecipeError for options that do not fit, UntrustedCodeError for code nobody trusts."""
    kind = entry.get("kind")
    if isinstance(kind, str) and kind not in known and ":" in kind and not trust_code:
        resolve(kind, known, what=what)  # raises, and says how to trust it
    built, problems = read_entry(entry, known, what=what, path=path, trust_code=trust_code)
    if problems:
        raise RecipeError(problems)
    return built


def entry_schemas(known: Mapping[str, str]) -> dict[str, tuple[type, TypeAdapter[Any]]]:
    """Name → dataclass and adapter of every member of an open set, for the JSON schema."""
    members = {name: load_object(path) for name, path in known.items()}
    return {name: (member, _adapter(member)) for name, member in members.items()}

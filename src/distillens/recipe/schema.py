"""The JSON Schema of a recipe: what editors complete and check, with the options of every built-in family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from distillens.explainers.base import EXPLAINERS
from distillens.exporters.base import EXPORTERS
from distillens.named import load_object
from distillens.students.base import STUDENTS, TEACHERS

_CODE = {
    "type": "object",
    "title": "code",
    "properties": {"kind": {"type": "string", "pattern": ":"}},
    "required": ["kind"],
}
_CLASSES = {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 2}
_OUTSIDE = tuple(
    {
        "type": "object",
        "title": key,
        "properties": {key: {"type": "string"}, "classes": _CLASSES},
        "required": [key],
        "additionalProperties": False,
    }
    for key in ("use", "file")
)


def recipe_schema(recipe: type[BaseModel]) -> dict[str, Any]:
    """The schema of the model, in which entries of open sets are one of their members or code."""
    schema = recipe.model_json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    properties = schema["properties"]
    properties["students"] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": _one_of(STUDENTS, definitions),
    }
    properties["teacher"] = _one_of(TEACHERS, definitions, *_OUTSIDE)
    properties["explain"] = {"type": "array", "items": _one_of(EXPLAINERS, definitions)}
    properties["export"] = {
        "type": "array",
        "items": {"anyOf": [{"enum": sorted(EXPORTERS)}, {"type": "string", "pattern": ":"}]},
    }
    schema["required"] = [key for key in schema["required"] if key != "name"]  # without one, the file's name
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _one_of(known: Mapping[str, str], definitions: dict[str, Any], *more: dict[str, Any]) -> dict[str, Any]:
    """One of the members of an open set; what their options need is added to `definitions`."""
    options = []
    for name, path in known.items():
        body = TypeAdapter(load_object(path)).json_schema(ref_template="#/$defs/{model}")
        definitions |= body.pop("$defs", {})
        own = {key: value for key, value in body.get("properties", {}).items() if key != "kind"}
        required = [key for key in body.get("required", ()) if key != "kind"]
        options.append({"title": name, "type": "object", "properties": {"kind": {"const": name}} | own,
                        "required": ["kind", *required], "additionalProperties": False})  # fmt: skip
    return {"oneOf": [*options, *more, _CODE]}

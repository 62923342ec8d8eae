"""What an exported file says about itself: one JSON text in the metadata of the ONNX file, under the key `distillens`.

The graph's own names are short and plain (`x0_age`), because runtimes and generated code are picky about names; the user's names,
categories and classes stand here, whatever characters they hold.

    {schema, distillens, kind, label, fingerprint, task, output, classes[], decision{adverse, adverse_class, threshold} | null,
     inputs[{input, feature, kind, dtype, shape, categories[], missing, unseen}], outputs[{name, dtype, shape, meaning}]}

`missing` and `unseen` say what to feed: for float32 inputs NaN is missing (written "NaN"); for text inputs `missing` is the text
that means missing, and any text that is no category counts as unseen (`unseen` is one that certainly is none).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distillens.data.base import Column
from distillens.errors import ArtefactError, ModelError
from distillens.models.base import Decision, Output

SCHEMA = 1
KEY = "distillens"  # of the metadata entry
LONGEST = 40  # characters of a column's name in its input's name

# Booleans whose values are these are fed as numbers 0 and 1; others (no/yes, female/male) as text.
PLAIN_BOOLEANS = (("0", "1"), ("0.0", "1.0"), ("false", "true"))


@dataclass(frozen=True)
class RawInput:
    """One input of the graph, (rows, 1), for one raw feature.

    name: in the graph. dtype: float32 for numbers (NaN = missing), string for categories. missing, unseen: texts that mean
    that; None for float32.
    """

    name: str
    column: Column
    dtype: Literal["float32", "string"]
    missing: str | None = None
    unseen: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "input": self.name,
            "feature": self.column.name,
            "kind": self.column.kind,
            "dtype": self.dtype,
            "shape": ["rows", 1],
            "categories": list(self.column.categories),
            "missing": "NaN" if self.missing is None else self.missing,
            "unseen": self.unseen,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> RawInput:
        column = Column(str(record["feature"]), record["kind"], tuple(str(c) for c in record["categories"]))
        dtype = record["dtype"]
        if dtype not in ("float32", "string") or column.kind not in ("numeric", "categorical", "boolean"):
            raise ValueError(f"an input of dtype {dtype!r} and kind {column.kind!r}")
        text = dtype == "string"
        return cls(str(record["input"]), column, dtype, record["missing"] if text else None, record["unseen"] if text else None)  # fmt: skip


def raw_inputs(columns: Sequence[Column]) -> tuple[RawInput, ...]:
    """The inputs for F raw features. ModelError when two features, or two categories of one, share a name."""
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ModelError(
            f"Two features are called {twice[0]!r}; a file whose inputs are found by name needs different names. Rename one."
        )
    return tuple(_raw_input(j, column) for j, column in enumerate(columns))


def _raw_input(j: int, column: Column) -> RawInput:
    plain = unicodedata.normalize("NFKD", column.name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:LONGEST].strip("_")
    name = f"x{j}_{safe}" if safe else f"x{j}"
    number = column.kind == "numeric" or (
        column.kind == "boolean" and tuple(c.strip().lower() for c in column.categories) in PLAIN_BOOLEANS
    )
    if number:
        return RawInput(name, column, "float32")
    if len(set(column.categories)) < len(column.categories):
        raise ModelError(
            f"The feature {column.name!r} lists a category twice; text could not be mapped back to one code."
        )
    missing = _free("", column.categories)
    return RawInput(name, column, "string", missing, _free("(unseen)", (*column.categories, missing)))


def _free(text: str, taken: Sequence[str]) -> str:
    """`text` where no category has it, otherwise "(missing)", "((missing))", … until none has."""
    if text in taken:
        text = text or "(missing)"
    while text in taken:
        text = f"({text})"
    return text


@dataclass(frozen=True)
class Description:
    """Everything above, typed."""

    kind: str
    label: str
    fingerprint: str | None
    output: Output
    classes: tuple[str, ...]
    inputs: tuple[RawInput, ...]
    outputs: tuple[Mapping[str, Any], ...]
    decision: Decision | None = None
    version: str = ""

    @property
    def task(self) -> str:
        """binary, multiclass or regression."""
        return "regression" if not self.classes else "binary" if len(self.classes) == 2 else "multiclass"

    def to_json(self) -> dict[str, Any]:
        decided = self.decision
        return {
            "schema": SCHEMA,
            "distillens": self.version,
            "kind": self.kind,
            "label": self.label,
            "fingerprint": self.fingerprint,
            "task": self.task,
            "output": self.output,
            "classes": list(self.classes),
            "decision": None
            if decided is None
            else {
                "adverse": decided.adverse,
                "adverse_class": self.classes[decided.adverse],
                "threshold": decided.threshold if len(self.classes) == 2 else None,
            },
            "inputs": [i.to_json() for i in self.inputs],
            "outputs": [dict(o) for o in self.outputs],
        }

    @classmethod
    def from_json(cls, record: Any, *, source: str) -> Description:
        """The inverse of `to_json`; ArtefactError, naming `source`, when it does not fit."""
        try:
            if record["schema"] != SCHEMA:
                raise ArtefactError(
                    f"{source} describes itself in schema {record['schema']!r}, but this version of distillens reads schema {SCHEMA}; "
                    "export the model again."
                )
            decided = record["decision"]
            decision = None
            if decided is not None:
                threshold = 0.5 if decided["threshold"] is None else float(decided["threshold"])
                decision = Decision(int(decided["adverse"]), threshold)
            output = record["output"]
            if output not in ("logits", "probabilities", "values"):
                raise ValueError(f"output {output!r}")
            return cls(
                str(record["kind"]),
                str(record["label"]),
                record["fingerprint"],
                output,
                tuple(str(c) for c in record["classes"]),
                tuple(RawInput.from_json(i) for i in record["inputs"]),
                tuple(record["outputs"]),
                decision,
                str(record["distillens"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(
                f"{source} holds a damaged description of its inputs and outputs ({error!r}); export the model again."
            ) from error

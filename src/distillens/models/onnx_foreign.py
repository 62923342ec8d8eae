"""ONNX files that other programs wrote: one float matrix in, or one input per feature; probabilities, logits or values out.

Which output answers, and on which scale, is read from the graph: the maps of scikit-learn's converters (ZipMap) name their classes;
a matrix called probabilities, or made by Softmax, Sigmoid or a classifier operator, is one of probabilities; any other is taken as
logits, and refused when it looks like probabilities after all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillens.errors import ArtefactError, ModelError
from distillens.models.onnx_session import ask, first_line
from distillens.models.opened import ModelFile, listed, places_of, shortened
from distillens.store import file_hash

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats, Ints, Table
    from distillens.models.base import Output

NUMBERS = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}  # fmt: skip
TEXT = "tensor(string)"
CLASSIFIERS = ("LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier")
PASSING = (
    "Identity",
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Normalizer",
    "ZipMap",
    "ArrayFeatureExtractor",
)
BATCH = 4_096  # rows a call
Form = Literal["maps", "matrix"]


@dataclass(frozen=True)
class Answer:
    """The output that answers. form: one map a row, or a matrix. probabilities: whether the graph says so."""

    name: str
    form: Form
    probabilities: bool


@dataclass(frozen=True, eq=False)
class ForeignOnnxModel:
    """A session with the way rows go in and answers come out.

    places: where the features stand in the table. inputs: (name, type, rank) of each input. keys: of the maps, in class order.
    order: of the columns of a matrix, where its classes are label codes in another order.
    """

    session: Any = field(repr=False)
    inputs: tuple[tuple[str, str, int], ...]
    places: Ints
    answer: Answer
    keys: tuple[Any, ...]
    order: tuple[int, ...] | None
    classes: tuple[str, ...]
    label: str
    fingerprint: str

    @property
    def output(self) -> Output:
        if not self.classes:
            return "values"
        return "probabilities" if self.answer.probabilities else "logits"

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) probabilities or logits, or (n, 1) values. ModelError when the file cannot answer these rows."""
        n = len(inputs)
        starts = range(0, n, BATCH)
        pieces = [self._answers(inputs.take(np.arange(start, min(start + BATCH, n)))) for start in starts]
        answers = np.concatenate(pieces) if pieces else np.empty((0, len(self.classes) or 1))
        if self.output == "logits" and n >= 2 and np.allclose(answers.sum(axis=1), 1, atol=1e-4) and answers.min() >= 0:
            raise ModelError(
                f"The answers of {self.label} look like probabilities, but the file does not say so; call its output 'probabilities'."
            )
        if self.output == "probabilities" and n and (answers.min() < -1e-4 or answers.max() > 1 + 1e-4):
            raise ModelError(
                f"{self.label} returned probabilities outside 0 … 1; its output is not what its name says."
            )
        return answers

    def _answers(self, inputs: Table) -> Floats:
        try:
            found = ask(self.session, [self.answer.name], self._feeds(inputs))[0]
        except MemoryError:  # whoever asked can ask about fewer rows
            raise
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise ModelError(f"{self.label} could not be asked about these rows: {first_line(error)}") from error
        if self.answer.form == "maps":
            return np.array([[row[key] for key in self.keys] for row in found], dtype=np.float64)
        return self._matrix(np.asarray(found, dtype=np.float64), len(inputs))

    def _matrix(self, found: Floats, n: int) -> Floats:
        count = len(self.classes) or 1
        matrix = found.reshape(n, -1) if found.ndim != 2 else found
        if matrix.shape == (n, 1) and count == 2:  # the second class alone
            if self.answer.probabilities:
                return np.hstack([1 - matrix, matrix])
            return np.hstack([-matrix / 2, matrix / 2])
        if matrix.shape != (n, count):
            what = f"{count} classes: {listed(self.classes)}" if self.classes else "a regression"
            raise ModelError(f"{self.label} answers with {found.shape[1:]} numbers a row, but this is {what}.")
        return matrix if self.order is None else matrix[:, list(self.order)]

    def _feeds(self, inputs: Table) -> dict[str, NDArray[Any]]:
        values = inputs.values
        if len(self.inputs) == 1 and self.inputs[0][2] == 2 and len(self.places) != 1:
            name, kind, _ = self.inputs[0]
            return {name: self._numbers(inputs, self.places, kind)}
        feeds = {}
        for (name, kind, rank), place in zip(self.inputs, self.places, strict=True):
            if kind == TEXT:
                texts = [inputs.text_of(v, int(place)) for v in values[:, place]]
                column: NDArray[Any] = np.array(["" if t is None else t for t in texts], dtype=object)[:, None]
            else:
                column = self._numbers(inputs, np.array([place]), kind)
            feeds[name] = column if rank == 2 else column[:, 0]
        return feeds

    def _numbers(self, inputs: Table, places: Ints, kind: str) -> NDArray[Any]:
        values = inputs.values[:, places]
        if kind in ("tensor(int64)", "tensor(int32)", "tensor(bool)") and not np.isfinite(values).all():
            raise ModelError(f"{self.label} takes whole numbers, but some are missing in these rows.")
        with np.errstate(over="ignore"):
            return values.astype(NUMBERS[kind])


def open_foreign(proto: Any, session: Any, path: Path) -> ModelFile:
    """What a checked graph says. ModelError for inputs or outputs that no table can be matched with."""
    inputs = tuple((i.name, i.type, len(i.shape)) for i in session.get_inputs())
    single = len(inputs) == 1
    for name, kind, rank in inputs:
        if (kind not in NUMBERS and kind != TEXT) or rank not in (1, 2) or (single and kind == TEXT):
            raise ModelError(
                f"{path.name} has an input {shortened(name)} of type {kind} and {rank} dimensions; distillens feeds one float matrix of "
                "rows × features, or one column per feature."
            )
    width: int | None = len(inputs)
    if single:
        shape = session.get_inputs()[0].shape
        width = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
    features = None if single else tuple(name for name, _, _ in inputs)
    answer, keys, outputs = _answer(proto, session, path)
    classes = None if not keys else tuple(_text(key) for key in keys)
    order: tuple[int, ...] | None = None
    if classes is not None and sorted(classes) == sorted(str(k) for k in range(len(classes))):  # label codes
        order = tuple(classes.index(str(k)) for k in range(len(classes)))
        keys, classes = tuple(keys[k] for k in order), None
    digest = file_hash(path)

    def make(columns: tuple[Column, ...], names: tuple[str, ...]) -> ForeignOnnxModel:
        places = places_of(columns, features=features, width=width, label=path.name)
        _check_kinds(columns, places, inputs, path)
        return ForeignOnnxModel(session, inputs, places, answer, keys, order, names, path.name, digest)

    return ModelFile("ONNX", path.name, features, width, None, () if outputs == 1 else classes, outputs, make)


def _check_kinds(columns: Sequence[Column], places: Ints, inputs: Sequence[tuple[str, str, int]], path: Path) -> None:
    from distillens.models.opened import require_numbers

    for j, place in enumerate(places):
        name, kind, _ = inputs[0 if len(inputs) == 1 else j]
        if kind != TEXT:
            require_numbers(columns, np.array([place]), label=path.name)
        elif columns[place].kind == "numeric":
            raise ModelError(f"{path.name} wants text for {shortened(name)}, but the column holds numbers.")


def _text(key: Any) -> str:
    return key if isinstance(key, str) else str(int(key))


def _answer(proto: Any, session: Any, path: Path) -> tuple[Answer, tuple[Any, ...], int | None]:
    """The output that answers, the class keys the graph names, and K where the graph says it."""
    keys = _class_keys(proto, path)
    outputs = session.get_outputs()
    maps = [o for o in outputs if o.type.startswith("seq(map(")]
    if maps:
        if not keys:
            raise ModelError(f"{path.name} answers with maps, but its graph does not name the classes.")
        return Answer(maps[0].name, "maps", True), keys, len(keys)
    floats = [o for o in outputs if o.type in ("tensor(float)", "tensor(double)")]
    said = [o for o in floats if _says_probabilities(proto, o.name)]
    chosen = (said or floats)[:1]
    if not chosen or (len(floats) > 1 and not said):
        names = ", ".join(f"{shortened(o.name)} ({o.type})" for o in outputs[:5])
        raise ModelError(
            f"{path.name} has no output that is clearly the answer (it has {names}); keep one float output, called 'probabilities' for a classifier."
        )
    wide = chosen[0].shape[1] if len(chosen[0].shape) == 2 and isinstance(chosen[0].shape[1], int) else None
    if keys:
        return Answer(chosen[0].name, "matrix", bool(said)), keys, len(keys)
    if wide is not None and wide > 1:
        return Answer(chosen[0].name, "matrix", bool(said)), (), wide
    if wide == 1 and not said:  # a value, or the logit of two classes: the data say which
        return Answer(chosen[0].name, "matrix", False), (), None
    return Answer(chosen[0].name, "matrix", bool(said)), (), 2 if wide == 1 else None


def _class_keys(proto: Any, path: Path) -> tuple[Any, ...]:
    """Class labels that the graph's operators name, in output order; all operators must agree."""
    from onnx import helper

    found: set[tuple[Any, ...]] = set()
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("classlabels_strings", "classlabels_int64s", "classlabels_ints"):
                values = helper.get_attribute_value(attribute)
                keys = tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else int(v) for v in values)
                if keys and (node.op_type in CLASSIFIERS or node.op_type == "ZipMap"):
                    found.add(keys)
    words = {keys for keys in found if isinstance(keys[0], str)}
    found = words or found  # a classifier on codes before a ZipMap with names
    if len(found) > 1:
        raise ModelError(f"{path.name} names its classes in two different orders; export one classifier alone.")
    return next(iter(found), ())


def _says_probabilities(proto: Any, output: str) -> bool:
    if "prob" in output.lower():
        return True
    made = {name: node for node in proto.graph.node for name in node.output}
    node = made.get(output)
    while node is not None and node.op_type in PASSING and node.input:
        node = made.get(node.input[0])
    return node is not None and node.op_type in ("Softmax", "Sigmoid", *CLASSIFIERS)


def check_self_contained(proto: Any, path: Path) -> None:
    """ArtefactError when some number of the graph, its branches or its functions is kept in another file."""
    import onnx

    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtefactError(f"{path} keeps its numbers in other files; only self-contained files are read.")


def _tensors(proto: Any) -> Iterator[Any]:
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs.extend([attribute.g, *attribute.graphs] if attribute.type in (5, 10) else [])

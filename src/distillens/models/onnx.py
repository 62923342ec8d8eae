"""`OnnxModel`: a file exported by distillens, run by onnxruntime and queried like any other model.

The file takes texts for categories and gives several outputs. Explanations ask about millions of masked rows, and handing that
many texts to a runtime costs as much as the model itself. So the file is opened twice: as it is (`whole_file=True`: texts in, all
outputs out, as a user would call it), and cut down: category codes go in where the answers of its text look-ups would, and only
the output that `Model` speaks of comes out. Nothing between the two is touched, and on loading every category, the missing and the
unseen text are put through the look-ups that were cut off: they must give exactly those codes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import UNSEEN, Column, Table, as_table
from distillens.errors import ArtefactError, ModelError
from distillens.models.base import Output
from distillens.models.encoding import as_float32
from distillens.models.onnx_description import KEY, Description, RawInput
from distillens.models.onnx_session import ask, open_session, parse
from distillens.models.recoded import match_column, recode

if TYPE_CHECKING:
    from distillens.data.base import Floats, Inputs, Ints
    from distillens.models.base import Decision

ANSWER: dict[Output, str] = {
    "logits": "logits",
    "probabilities": "probabilities",
    "values": "value",
}  # output of the file
BATCH = 4_096  # rows a call: they stay in the processor's cache


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A loaded file; make one with `OnnxModel.load`.

    description: what the file says about itself. fingerprint: SHA-256 of the file. size_bytes: of the file.
    whole_file: run the file as it is, text look-ups included. threads: of onnxruntime; None = its own choice.
    """

    kind: ClassVar[str] = "onnx"

    path: Path
    label: str
    description: Description
    fingerprint: str
    size_bytes: int
    threads: int | None
    whole_file: bool
    _whole: Any = field(repr=False)
    _short: Any = field(repr=False)

    @classmethod
    def load(cls, path: str | Path, *, label: str | None = None, threads: int | None = None) -> OnnxModel:
        """Open a file written by `OnnxExport`.

        Raises ArtefactError when the file does not exist, is damaged, points to other files, or was not exported by distillens.
        """
        path = Path(path)
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from error
        proto = _parse(payload, path)
        description = _described(proto, path)
        whole = open_session(payload, path, threads=threads)
        _check_interface(whole, description, path)
        _check_lookups(proto, description, path)
        short = open_session(_cut_down(proto, description), path, threads=threads)
        return cls(
            path,
            label or description.label,
            description,
            hashlib.sha256(payload).hexdigest(),
            len(payload),
            threads,
            False,
            whole,
            short,
        )

    def as_whole_file(self) -> OnnxModel:
        """The same model, run from texts, as a user would call it."""
        return replace(self, whole_file=True)

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(i.column for i in self.description.inputs)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def output(self) -> Output:
        return self.description.output

    @property
    def decision(self) -> Decision | None:
        """How the file itself decides; None when it was exported without."""
        return self.description.decision

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) logits, probabilities or values. ModelError when a column the file wants is not there or of another kind."""
        return np.asarray(self._run(inputs, ANSWER[self.output]), dtype=np.float64)

    def decide(self, inputs: Table) -> Ints:
        """(n,) class indices as the file itself decides; ModelError when it was exported without a decision."""
        if self.decision is None:
            raise ModelError(f"{self.path} was exported without a decision; export it again with one.")
        return np.asarray(self.as_whole_file()._run(inputs, "decision")[:, 0], dtype=np.int64)

    def feeds(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """What to feed to onnxruntime for these rows: by input name, (n, 1) float32, or texts (of objects) for the whole file."""
        table = as_table(inputs, what=f"The file {self.path}")
        feeds: dict[str, NDArray[Any]] = {}
        for one in self.description.inputs:
            codes = self._codes(table, one)
            if one.dtype == "string" and self.whole_file:
                assert one.missing is not None
                assert one.unseen is not None
                texts = np.array([*one.column.categories, one.unseen, one.missing], dtype=object)
                count = len(one.column.categories)
                place = np.where(codes < 0, count, codes)
                feeds[one.name] = texts[np.where(np.isnan(place), count + 1, place).astype(np.int64)][:, None]
            else:
                feeds[one.name] = as_float32(codes).astype(np.float32)[:, None]
        return feeds

    def complexity(self) -> dict[str, int]:
        return {"size_bytes": self.size_bytes}

    def run_feeds(self, feeds: dict[str, NDArray[Any]], outputs: list[str] | None = None) -> list[NDArray[Any]]:
        """One call of onnxruntime with what `feeds` returned; all outputs (of the whole file: all it has), or those named.

        MemoryError when an allocation failed.
        """
        session = self._whole if self.whole_file else self._short
        answers: list[NDArray[Any]] = ask(session, outputs, feeds)
        return answers

    def _run(self, inputs: Table, output: str) -> NDArray[Any]:
        n = len(inputs)
        batches = (np.arange(start, min(start + BATCH, n)) for start in range(0, max(n, 1), BATCH))
        pieces = [self.run_feeds(self.feeds(inputs.take(rows)), [output])[0] for rows in batches]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _codes(self, inputs: Table, one: RawInput) -> Floats:
        """(n,) the rows' values of one column, as codes of this file's categories."""
        place, codes = match_column(one.column, inputs.columns, label=self.label)
        values = inputs.values[:, place]
        return values if codes is None else recode(values, codes)


def _parse(payload: bytes, path: Path) -> Any:
    import onnx

    proto = parse(payload, path)
    attributes = [a for node in proto.graph.node for a in node.attribute]
    tensors = [*proto.graph.initializer, *(a.t for a in attributes)]
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in tensors):
        raise ArtefactError(f"{path} keeps its numbers in other files; only self-contained files are read.")
    # places where references to other files could hide, and which no exporter of ours writes
    if proto.functions or proto.graph.sparse_initializer or any(a.type in (a.GRAPH, a.GRAPHS) for a in attributes):
        raise ArtefactError(
            f"{path} holds functions, sub-graphs or sparse numbers, which files exported by distillens never do."
        )
    return proto


def _described(proto: Any, path: Path) -> Description:
    texts = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    if len(texts) != 1:
        raise ArtefactError(
            f"{path} is an ONNX file, but was not exported by distillens: its metadata have no entry {KEY!r}. "
            "Wrap it as a callable to audit it."
        )
    try:
        record = json.loads(texts[0])
    except json.JSONDecodeError as error:
        raise ArtefactError(f"{path} holds a damaged description ({error}); export the model again.") from error
    return Description.from_json(record, source=str(path))


def _check_interface(session: Any, description: Description, path: Path) -> None:
    """The description must speak of this graph: same inputs and types, and the outputs it names."""
    types = {"float32": "tensor(float)", "string": "tensor(string)"}
    wanted = {i.name: types[i.dtype] for i in description.inputs}
    found = {i.name: i.type for i in session.get_inputs()}
    needed = {"values": {"value"}, "probabilities": {"probabilities"}, "logits": {"probabilities", "logits"}}[
        description.output
    ]
    if description.decision is not None:
        needed = needed | {"decision"}
    if wanted != found or not needed <= {o.name for o in session.get_outputs()}:
        raise ArtefactError(
            f"{path} describes inputs or outputs that its graph does not have; it was changed after the export."
        )


def _check_lookups(proto: Any, description: Description, path: Path) -> None:
    """Every text the look-ups know, and one they do not, must give the code that the description says. ArtefactError otherwise."""
    import onnx
    from onnx import TensorProto, helper

    texts = {i.name: i for i in description.inputs if i.dtype == "string"}
    lookups = {n.input[0]: n for n in proto.graph.node if n.op_type == "LabelEncoder" and n.input[0] in texts}
    readers = [name for node in proto.graph.node for name in node.input if name in texts]
    if sorted(readers) != sorted(texts) or set(lookups) != set(texts):
        raise ArtefactError(
            f"{path} reads its texts in a way distillens does not write; it was changed after the export."
        )
    if not texts:
        return
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    inputs = [helper.make_tensor_value_info(name, TensorProto.STRING, ["rows", 1]) for name in texts]
    outputs = [helper.make_tensor_value_info(lookups[name].output[0], TensorProto.FLOAT, ["rows", 1]) for name in texts]
    alone.graph.CopyFrom(helper.make_graph(list(lookups.values()), "look-ups", inputs, outputs))
    session = open_session(alone.SerializeToString(), path, threads=1)
    rows = 2 + max(len(one.column.categories) for one in texts.values())
    feeds = {}
    for name, one in texts.items():
        tried = [*one.column.categories, one.missing]
        feeds[name] = np.array(tried + [one.unseen] * (rows - len(tried)), dtype=object)[:, None]
    found = session.run([output.name for output in outputs], feeds)
    for one, codes in zip(texts.values(), found, strict=True):
        expected = np.full(rows, UNSEEN, dtype=np.float32)
        count = len(one.column.categories)
        expected[: count + 1] = [*range(count), np.nan]
        if not np.array_equal(codes[:, 0], expected, equal_nan=True):
            raise ArtefactError(
                f"{path} maps the texts of {one.column.name!r} to other codes than its description says; it was changed after the export."
            )


def _cut_down(proto: Any, description: Description) -> bytes:
    """The same graph with codes as inputs in place of texts, and only the answer as output."""
    import onnx
    from onnx import TensorProto, helper

    texts = {i.name for i in description.inputs if i.dtype == "string"}
    short = onnx.ModelProto()
    short.CopyFrom(proto)
    del short.graph.node[:], short.graph.input[:], short.graph.output[:]
    answer = ANSWER[description.output]
    wanted, leading = {answer}, set()
    for place, node in reversed(list(enumerate(proto.graph.node))):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            leading.add(place)
    for place, node in enumerate(proto.graph.node):
        if place not in leading:  # onnxruntime would run it for nobody
            continue
        # the code takes the text's name, so that both graphs are fed by the same names
        if node.op_type == "LabelEncoder" and node.input[0] in texts:
            node = helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
        short.graph.node.append(node)
    short.graph.input.extend(
        helper.make_tensor_value_info(i.name, TensorProto.FLOAT, ["rows", 1]) for i in description.inputs
    )
    short.graph.output.extend(o for o in proto.graph.output if o.name == answer)
    payload: bytes = short.SerializeToString()
    return payload

"""An allocation that fails reaches whoever can ask about fewer rows, whatever model stands between."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import ModelError
from distillens.explainers.masking import masked_means
from distillens.models.files import load_model_file, open_object
from distillens.models.memory import let_memory_errors_pass, out_of_memory
from distillens.models.onnx_session import ask, open_session

COLUMNS = tuple(Column(f"x{j}") for j in range(3))
MOST = 10  # rows the models below can bear
MESSAGE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code. BFCArena: Failed to allocate memory for requested buffer"
)


class RefusalError(Exception):
    """onnxruntime's own exception is of no other type either."""


class Tight:
    """A session that cannot take more than ten rows."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def run(self, outputs: Any, feeds: Any) -> Any:
        if any(len(array) > MOST for array in feeds.values()):
            raise RefusalError(MESSAGE)
        return self.session.run(outputs, feeds)


def graph(folder: Path, nodes: list[Any], *initializers: Any, shape: tuple[Any, ...] = (None, 1)) -> Path:
    import onnx
    from onnx import TensorProto, helper

    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, list(shape))], list(initializers),
    )  # fmt: skip
    path = folder / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def foreign(folder: Path) -> Any:
    from onnx import TensorProto, helper

    weight = helper.make_tensor("W", TensorProto.FLOAT, [3, 1], [1.0, -2.0, 0.5])
    path = graph(folder, [helper.make_node("MatMul", ["X", "W"], ["value"])], weight)
    model: Any = load_model_file(path, columns=COLUMNS, classes=())
    return dataclasses.replace(model, session=Tight(model.session))


def own(folder: Path) -> Any:
    from distillens.exporters.onnx import OnnxExport
    from distillens.models.onnx import OnnxModel
    from distillens.students.linear import LinearStudent
    from distillens.transfer.targets import Targets

    rng = np.random.default_rng(0)
    x = Table(rng.normal(size=(40, 3)), COLUMNS, np.arange(40))
    from distillens.data.base import Split

    split = Split(x, x.values[:, 0] - x.values[:, 1])
    fitted = LinearStudent().fit(Targets.from_labels(split, ()), validation=split, teacher=None, seed=0, out=folder)
    OnnxExport()(fitted, folder / "own.onnx", decision=None)
    model = OnnxModel.load(folder / "own.onnx", threads=1)
    return dataclasses.replace(model, _short=Tight(model._short))


def function(folder: Path) -> Any:
    del folder

    def ask_about(frame: Any) -> Any:
        if len(frame) > MOST:
            raise MemoryError
        return frame["x0"] - frame["x1"]

    return open_object(ask_about, "function").bind(COLUMNS, ())


def module(folder: Path) -> Any:
    del folder
    import torch

    class Narrow(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(3, 1)

        def forward(self, x: Any) -> Any:
            if len(x) > MOST:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")
            return self.line(x)

    torch.manual_seed(0)
    return open_object(Narrow().eval(), "module").bind(COLUMNS, ())


@pytest.mark.parametrize("make", [foreign, own, function, module])
def test_the_engine_asks_about_fewer_rows(make: Any, tmp_path: Path) -> None:
    model = make(tmp_path)
    rng = np.random.default_rng(1)
    x, b = (Table(rng.normal(size=(n, 3)), COLUMNS, np.arange(n)) for n in (4, 8))
    masks = rng.random((6, 3)) < 0.5
    with pytest.raises(MemoryError):
        model(x.take(np.zeros(MOST + 1, dtype=np.int64)))
    got = masked_means(model, x, masks, background=b, target=0)
    for i in range(4):
        for s, mask in enumerate(masks):
            mixed = b.with_values(np.where(mask, x.values[i], b.values))
            np.testing.assert_allclose(got[i, s], model(mixed)[:, 0].mean(), atol=1e-5)


def test_what_onnxruntime_raises_is_such_an_error(tmp_path: Path) -> None:
    """Four petabytes: no machine has them, and asking for them takes no time."""
    from onnx import TensorProto, helper

    shape = helper.make_tensor("S", TensorProto.INT64, [3], [1 << 20, 1 << 30, 1])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1, 1, 1], [1.0])
    nodes = [
        helper.make_node("Expand", ["one", "S"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["X", "sum"], ["value"]),
    ]
    path = graph(tmp_path, nodes, shape, one, shape=(None, 3))
    try:
        session = open_session(path.read_bytes(), path)  # constant folding may find out already
    except MemoryError:
        return
    with pytest.raises(MemoryError, match="Failed to allocate memory"):
        ask(session, None, {"X": np.zeros((1, 3), dtype=np.float32)})


def test_other_errors_stay_what_they_are() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("std::bad_alloc"))
    assert not out_of_memory(ValueError("shapes do not fit"))
    assert not out_of_memory(ModelError("The model 'a' ran out of memory on a single row."))
    let_memory_errors_pass(ValueError("shapes do not fit"))
    with pytest.raises(MemoryError, match="CUDA out of memory"):
        let_memory_errors_pass(RuntimeError("CUDA out of memory. Tried to allocate\nmore"))

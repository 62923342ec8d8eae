"""onnxruntime: a graph from bytes, a session of it, and one call; its errors as sentences, its allocation failures as MemoryError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distillens.errors import ArtefactError
from distillens.models.memory import let_memory_errors_pass


def parse(payload: bytes, path: Path) -> Any:
    """The graph in a file's bytes. ArtefactError when they are none."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load_model_from_string(payload)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ArtefactError(f"{path} is not an ONNX file, or damaged ({error}).") from error
    if not proto.graph.node:
        raise ArtefactError(f"{path} is not an ONNX file, or damaged: it holds no graph.")
    return proto


def open_session(payload: bytes, path: Path, *, threads: int | None = None) -> Any:
    """A session on the CPU. threads: None = onnxruntime's own choice. ArtefactError when it cannot run the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; nothing needs to be printed as well
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base
        let_memory_errors_pass(error)
        raise ArtefactError(
            f"{path} cannot be run by onnxruntime {onnxruntime.__version__}: {first_line(error)}"
        ) from error


def ask(session: Any, outputs: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
    """One call. outputs: None = all. MemoryError when an allocation failed; onnxruntime's own errors otherwise."""
    try:
        answers: list[Any] = session.run(outputs, feeds)
    except Exception as error:
        let_memory_errors_pass(error)
        raise
    return answers


def first_line(error: Exception) -> str:
    """The first line of what an error says, at most 200 characters; its type when it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__

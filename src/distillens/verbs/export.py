"""Write a student of a finished run as a file of another format, and check that the file answers as the student."""

from __future__ import annotations

from pathlib import Path

from distillens.errors import InputError
from distillens.store import JSON


def export_student(
    directory: str | Path,
    *,
    student: str | None = None,
    kind: str = "onnx",
    out: str | Path | None = None,
    force: bool = False,
    trust_code: bool = False,
) -> JSON:
    """Export a student (None: the chosen one; "teacher" too) and compare the file with it on the test rows.

    out: the file (default NAME.KIND here). force: replace it if it exists.
    Returns {student, format, path, bytes, sha256, inputs, opset, parity | None}. Raises InputError for unknown names and a file in
    the way, ModelError for a model that has no such form, RunError as `open_run`.
    """
    from distillens.exporters.base import EXPORTERS
    from distillens.exporters.parity import parity
    from distillens.models.onnx import OnnxModel
    from distillens.named import resolve
    from distillens.verbs.explain import model_name, open_run

    exporter = resolve(kind, EXPORTERS, what="exporter", trust_code=trust_code)()
    flow = open_run(directory, trust_code=trust_code)
    name = model_name(flow, student)
    path = Path(f"{name}.{exporter.kind}") if out is None else Path(out)
    if path.is_dir():
        raise InputError(f"{path} is a folder; --out names the file to write.")
    if path.exists() and not force:
        raise InputError(f"{path} is there already; --force replaces it.")
    result = exporter(flow.models[name], path, decision=flow.decision)
    same = None
    if exporter.kind == "onnx":
        same = parity(flow.models[name], OnnxModel.load(path), flow.dataset.test.inputs, decision=flow.decision)
    record: JSON = {"student": name, "format": exporter.kind, "path": str(path)} | result.to_json() | {"parity": same}
    return record

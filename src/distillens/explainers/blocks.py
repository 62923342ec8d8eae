"""Explanations of many rows: worked in blocks, each kept on disk when it is done, so that an interruption costs one block.

A row's explanation depends on the row, the model, the background, the settings and the seed, never on the rows explained beside
it: coalitions, orders and samples are drawn from the seed and shared by all rows. So rows can be explained a block at a time.
Where blocks begin depends on the number of rows, the method's budget and the size of the background, and on nothing that may
differ between two attempts: a resumed explanation goes through the same calls as an uninterrupted one and gives the same bits, also
for float32 networks, whose last bits differ with the shape of a batch.

A kept block lies in KEEP/KEY/FIRST-ROW.safetensors. KEY is a hash of all that the numbers depend on: the model's fingerprint, the rows
and the background to the bit, target, settings, seed, code and library versions. A block that is damaged or of another
explanation is worked again, with a warning that names the file. A model without a fingerprint (a function, an endpoint) cannot be
known to be the same one later, so none of its blocks are kept.

Memory: a block's masked rows go through the engine in chunks of a fixed size (masking.py), and what is left of a block are (rows, units)
numbers. Nothing grows with rows × coalitions.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens import errors
from distillens.data.images import Images
from distillens.errors import ArtefactError, DistillensWarning, InputError
from distillens.explainers.base import Explanation, library_versions
from distillens.models.patched import as_patches
from distillens.progress import shared, task
from distillens.run import code_version
from distillens.store import content_hash, file_hash, read_record, write_record

if TYPE_CHECKING:
    from distillens.data.base import Inputs, Ints, Table
    from distillens.explainers.base import Explainer
    from distillens.models.base import Model

FORWARDS = 2**22  # masked rows a block: seconds for a small model
MOST_ROWS = 512  # of methods whose work does not grow with coalitions × background
CODE = ("data", "models", "explainers")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "onnxruntime")


def explain_rows(
    explainer: Explainer,
    model: Model,
    inputs: Inputs,
    *,
    target: Ints,
    background: Inputs | None,
    seed: int,
    keep: Path | None = None,
    label: str = "",
) -> Explanation:
    """Explain every row of `inputs`, a block at a time, with a bar that counts rows.

    inputs, background: tables; or images, whose patches are then explained, by methods that mix rows.
    target: (n,) class index per row. keep: a folder for finished blocks; those of an earlier attempt at the same explanation are taken
    from it. Whoever gave the folder removes it once the explanation is safe. label: of the bar.
    Raises InputError, ModelError and what else the explainer raises; RunError when a block cannot be written.
    """
    n = len(inputs)
    if n == 0:
        raise InputError("There are no rows to explain.")
    if isinstance(inputs, Images):
        if not getattr(explainer, "mixes_rows", False):
            raise InputError(
                f"The explainer {explainer.kind!r} works on tables; images are explained by kernel_shap, permutation_shap or exact_shapley."
            )
        if background is None or not isinstance(background, Images):
            raise InputError(
                f"The explainer {explainer.kind!r} needs images as background: what stands for an unknown patch."
            )
        model, inputs, background = as_patches(model, inputs, background)
    elif isinstance(background, Images):
        raise InputError("Rows of a table need rows of a table as background, and images came.")
    targets = np.array(np.broadcast_to(np.asarray(target, dtype=np.int64), (n,)))
    size = rows_a_block(explainer, inputs, background)
    blocks = [slice(at, min(n, at + size)) for at in range(0, n, size)]
    kept: dict[int, Explanation] = {}
    folder, key = None, ""
    said: dict[tuple[str, str], None] = {}  # a warning that every block repeats is said once
    if keep is not None and model.fingerprint is not None:
        key = explanation_key(explainer, model, inputs, targets, background, seed)
        folder = Path(keep) / key[:32]
        kept = {b.start: made for b in blocks if (made := _kept(folder, key, b, said)) is not None}
    left = n - sum(len(made) for made in kept.values())
    unit = "rows" if left == n else f"rows ({n - left:,} kept)"
    parts: list[Explanation] = []
    with task(label or f"{explainer.kind} of {model.label}", total=left, unit=unit) as advance:
        for block in blocks:
            if block.start in kept:
                parts.append(kept[block.start])
                continue
            own: dict[tuple[str, str], None] = {}
            with shared(advance, block.stop - block.start), _heard(own):
                part = explainer(
                    model,
                    inputs if len(blocks) == 1 else inputs.take(np.arange(block.start, block.stop)),
                    target=targets[block],
                    background=background,
                    seed=seed,
                )
            said |= own
            if folder is not None:
                meta, arrays = part.to_record()
                about = {"key": key, "start": block.start, "stop": block.stop, "warnings": [list(w) for w in own]}
                write_record(_file(folder, block), meta | {"block": about}, arrays)
            parts.append(part)
    for category, text in said:
        warnings.warn(text, getattr(errors, category, DistillensWarning), stacklevel=2)
    return Explanation.concatenate(parts)


def rows_a_block(explainer: Explainer, inputs: Table, background: Table | None) -> int:
    """How many rows one block holds: as many as take `FORWARDS` masked rows, between 1 and `MOST_ROWS`."""
    budget: object = getattr(explainer, "budget", None)
    if not isinstance(budget, int) or background is None:
        return MOST_ROWS
    coalitions: int = min(budget, 2 ** min(len(inputs.columns), 60))
    return max(1, min(MOST_ROWS, FORWARDS // max(1, coalitions * len(background))))


def explanation_key(
    explainer: Explainer, model: Model, inputs: Table, target: Ints, background: Table | None, seed: int
) -> str:
    """SHA-256 of everything that the numbers of an explanation depend on."""
    kind: Any = type(explainer)
    settings = {f.name: getattr(explainer, f.name) for f in fields(kind)} if is_dataclass(kind) else repr(explainer)
    meta = {
        "method": f"{kind.__module__}:{kind.__qualname__}", "settings": settings, "seed": seed,
        "model": [model.fingerprint, model.label, list(model.classes), model.output],
        "columns": [column.to_json() for column in inputs.columns], "forwards": [FORWARDS, MOST_ROWS],
        "code": [code_version(CODE), _own_code(kind)], "libraries": library_versions(*LIBRARIES),
    }  # fmt: skip
    arrays = {"values": inputs.values, "row_ids": inputs.row_ids, "target": target}
    if background is not None:
        arrays |= {"background": background.values, "background_ids": background.row_ids}
    return content_hash(meta, arrays)


def _own_code(kind: type) -> str | None:
    """The hash of the file of an explainer that is not ours; None for ours, whose code is hashed anyway."""
    if kind.__module__.startswith("distillens."):
        return None
    try:
        source = inspect.getsourcefile(kind)
    except TypeError:  # typed into a shell
        source = None
    return None if source is None or not Path(source).is_file() else file_hash(Path(source))


def _file(folder: Path, block: slice) -> Path:
    return folder / f"{block.start:09d}.safetensors"


def _kept(folder: Path, key: str, block: slice, said: dict[tuple[str, str], None]) -> Explanation | None:
    """The block of an earlier attempt; None when there is none that can be used."""
    path = _file(folder, block)
    if not path.exists():
        return None
    try:
        meta, arrays = read_record(path)
        about: Any = meta.get("block") or {}
        if (about.get("key"), about.get("start"), about.get("stop")) != (key, block.start, block.stop):
            raise ArtefactError(f"{path} is a block of another explanation.")
        made = Explanation.from_record(meta, arrays)
    except ArtefactError as error:
        said[("DistillensWarning", f"{error} These rows are explained again.")] = None
        return None
    said.update({(str(category), str(text)): None for category, text in about["warnings"]})
    return made


@contextlib.contextmanager
def _heard(into: dict[tuple[str, str], None]) -> Iterator[None]:
    """Collects the warnings of distillens in `into` and passes on everyone else's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DistillensWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, DistillensWarning):
            into[(warning.category.__name__, str(warning.message))] = None
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

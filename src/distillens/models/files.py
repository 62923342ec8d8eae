"""Models made elsewhere, from files of their own formats: `load_model_file`.

No format here can run code that its author chose, with one exception that must be allowed by name: `package.module:name`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import ArtefactError, InputError, ModelError, UntrustedCodeError, did_you_mean
from distillens.models.memory import let_memory_errors_pass
from distillens.models.opened import ModelFile

if TYPE_CHECKING:
    from distillens.data.base import Column, Table
    from distillens.models.base import Model

# what a file may be, by its ending
KINDS: dict[str, str] = {
    ".onnx": "an ONNX file",
    ".json": "an XGBoost model (booster.save_model)",
    ".ubj": "an XGBoost model (booster.save_model)",
    ".txt": "a LightGBM model (booster.save_model)",
    ".skops": "a scikit-learn estimator or pipeline (skops.io.dump)",
    ".safetensors": "a model that distillens wrote",
}
# what is never opened, and what to do instead
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"),
        "Opening a pickle runs whatever code its author put there; save the estimator with skops.io.dump as .skops, or export it as .onnx",
    ),
    **dict.fromkeys(
        (".pt", ".pth", ".ckpt", ".bin", ".mar"),
        "torch files are pickles, and opening one runs whatever code its author put there; export the module with torch.onnx.export as .onnx",
    ),
    **dict.fromkeys(
        (".h5", ".hdf5", ".keras", ".pb", ".tflite"),
        "TensorFlow and Keras files may hold code; export the model as .onnx (tf2onnx)",
    ),
    **dict.fromkeys(
        (".pmml", ".mlmodel", ".cbm", ".rds", ".gguf"), "This format is not read; export the model as .onnx"
    ),
}
LARGEST = 2 << 30  # bytes


def load_model_file(
    path: str | Path,
    *,
    columns: tuple[Column, ...],
    classes: tuple[str, ...],
    own_classes: tuple[str, ...] | None = None,
    trust_code: bool = False,
) -> Model:
    """A model made elsewhere, for tables of `columns`, with its outputs in the order of `classes` (() for regression).

    path: a file (see `KINDS`), or package.module:name of a function, a fitted estimator, a torch module or a Model, which is code
    and runs with trust_code only. own_classes: the names of its outputs in its order, where the file does not name them.
    Features are found by name where the file has names, otherwise by position with their number checked.
    Raises ArtefactError for files that are missing, damaged or foreign, ModelError for features or classes that do not fit,
    UntrustedCodeError for code that nobody trusted, MissingExtraError without the library that reads the file.
    """
    return open_model_file(path, trust_code=trust_code).bind(columns, classes, own=own_classes)


def open_model_file(path: str | Path, *, trust_code: bool = False) -> ModelFile:
    """Open a file or a callable without data; see `load_model_file`."""
    written = str(path)
    file = Path(written)
    suffix = file.suffix.lower()
    if suffix in REFUSED:
        raise UntrustedCodeError(f"{file.name[-80:]} is not opened. {REFUSED[suffix]}.")
    if suffix not in KINDS and ":" in written and not _exists(file):
        return _open_code(written, trust_code=trust_code)
    if suffix not in KINDS:
        if _exists(file) and file.is_dir():
            raise ArtefactError(f"{written[-160:]} is a folder, not a model file.")
        known = "; ".join(f"{ending}: {what}" for ending, what in KINDS.items())
        raise InputError(
            f"{file.name[-80:]!r} is not a kind of model file that distillens reads. Known: {known}; package.module:name: code."
        )
    require_file(file)
    if suffix == ".onnx":
        return _open_onnx(file)
    if suffix in (".json", ".ubj"):
        from distillens.models.xgboost import open_xgboost

        return open_xgboost(file)
    if suffix == ".txt":
        from distillens.models.lightgbm import open_lightgbm

        return open_lightgbm(file)
    if suffix == ".skops":
        from distillens.models.skops import open_skops

        return open_skops(file)
    return _open_own(file)


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name longer than the file system takes, or with a NUL
        return False


def require_file(file: Path) -> None:
    """ArtefactError when there is no such file, or one that is empty, too large or cannot be read."""
    shown = str(file)[-160:]
    try:
        if file.is_dir():
            raise ArtefactError(f"{shown} is a folder, not a model file.")
        if not file.is_file():
            near = [p.name for p in file.parent.iterdir() if p.suffix.lower() in KINDS] if file.parent.is_dir() else []
            raise ArtefactError(f"There is no file {shown}.{did_you_mean(file.name[:200], near)}")
        size = file.stat().st_size
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if size == 0:
        raise ArtefactError(f"{shown} is empty; expected {KINDS[file.suffix.lower()]}.")
    if size > LARGEST:
        raise ArtefactError(
            f"{shown} is larger than {LARGEST >> 30} GiB; distillens does not read models of that size."
        )


def _open_own(file: Path) -> ModelFile:
    from distillens.models.recoded import RecodedModel
    from distillens.models.store import load_model

    model: Any = load_model(file)
    encoding = getattr(model, "encoding", None)
    columns: tuple[Column, ...] | None = getattr(model, "columns", None if encoding is None else encoding.columns)

    def make(given: tuple[Column, ...], classes: tuple[str, ...]) -> Model:
        del classes  # it has its own
        return model if columns is None or columns == given else RecodedModel(model, columns, given)

    return ModelFile(
        "distillens", file.name, None if columns is None else tuple(c.name for c in columns),
        None if columns is None else len(columns), columns, tuple(model.classes), len(model.classes) or 1, make,
    )  # fmt: skip


def _open_onnx(file: Path) -> ModelFile:
    """Ours when its metadata say so, otherwise that of another program."""
    from distillens.models.onnx import OnnxModel
    from distillens.models.onnx_description import KEY
    from distillens.models.onnx_foreign import check_self_contained, open_foreign
    from distillens.models.onnx_session import open_session, parse

    payload = file.read_bytes()
    proto = parse(payload, file)
    if any(entry.key == KEY for entry in proto.metadata_props):
        model = OnnxModel.load(file)
        return ModelFile(
            "ONNX, exported by distillens", file.name, tuple(c.name for c in model.columns), len(model.columns),
            model.columns, model.classes, len(model.classes) or 1, lambda *_: model,
        )  # fmt: skip
    check_self_contained(proto, file)
    return open_foreign(proto, open_session(payload, file), file)


def _open_code(written: str, *, trust_code: bool) -> ModelFile:
    """`package.module:name`: what `open_object` takes, by name."""
    from distillens.named import resolve

    thing = resolve(written, {}, what="model", trust_code=trust_code)
    if isinstance(thing, type):
        raise ModelError(f"{written} is a class; name a function, a fitted estimator or a model made of it.")
    return open_object(thing, written)


def bound(
    thing: Any,
    *,
    columns: tuple[Column, ...],
    classes: tuple[str, ...],
    own_classes: tuple[str, ...] | None = None,
    trust_code: bool = False,
) -> Model:
    """A file, `package.module:name` or an object as a model of tables of `columns`; see `load_model_file` and `open_object`."""
    if isinstance(thing, (str, Path)):
        return load_model_file(thing, columns=columns, classes=classes, own_classes=own_classes, trust_code=trust_code)
    named = type(thing).__name__ if not hasattr(thing, "__name__") else str(thing.__name__)
    return open_object(thing, named).bind(columns, classes, own=own_classes)


def open_object(thing: Any, written: str) -> ModelFile:
    """A Model, a fitted estimator, a torch module, or a function from a data frame to numbers, as an opened file.

    written: what it is called in sentences. Raises ModelError for anything else.
    """
    from distillens.models.base import Model as ModelProtocol

    if isinstance(thing, ModelProtocol):
        return ModelFile(
            "code", written, None, None, None, tuple(thing.classes), len(thing.classes) or 1, lambda *_: thing
        )
    if hasattr(thing, "get_params") and hasattr(thing, "predict"):
        from distillens.models.skops import opened_estimator

        return opened_estimator(thing, written, "code")
    if not callable(thing):
        what = "The model" if written == type(thing).__name__ else written
        raise ModelError(
            f"{what} is a {type(thing).__name__}; expected a function from a data frame to one number a class and row."
        )
    named = getattr(thing, "classes", None)
    classes = None if named is None else tuple(str(name) for name in named)

    def make(columns: tuple[Column, ...], names: tuple[str, ...]) -> Model:
        if hasattr(thing, "modules"):
            from distillens.models.given_module import given_module

            return given_module(thing, columns, names, written)
        return _function(thing, names, written)

    return ModelFile("code", written, None, None, None, classes, None, make)


def _function(function: Any, classes: tuple[str, ...], label: str) -> Model:
    """A function of a data frame with the user's own names and values: probabilities (n, K), or (n,) of the second of two
    classes; values (n,) for regression."""
    from distillens.models.callable import CallableModel
    from distillens.models.estimator import frame_of

    def ask(inputs: Table) -> np.ndarray[Any, Any]:
        try:
            answers = np.asarray(function(frame_of(inputs)), dtype=np.float64)
        except Exception as error:  # the user's own code may raise anything; its traceback stays attached
            let_memory_errors_pass(error)
            raise ModelError(f"{label} raised {type(error).__name__}: {error}") from error
        if len(classes) == 2 and answers.shape in ((len(inputs),), (len(inputs), 1)):
            answers = np.column_stack([1 - answers.reshape(-1), answers.reshape(-1)])
        if (
            classes
            and answers.size
            and (
                answers.min() < -1e-6
                or answers.max() > 1 + 1e-6
                or (answers.ndim == 2 and abs(answers.sum(axis=1) - 1).max() > 1e-3)
            )
        ):
            raise ModelError(f"{label} should return probabilities that add up to 1 in every row, and does not.")
        return answers

    return CallableModel(ask, classes, "probabilities" if classes else "values", label)

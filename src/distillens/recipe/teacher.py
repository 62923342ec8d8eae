"""A teacher that comes from elsewhere: `teacher: {file: model.onnx}` or `teacher: {use: package.module:name}`.

Reading the entry opens no file and runs no code. What `use` names may be a Model, a fitted or unfitted scikit-learn estimator, a torch module,
a function of a data frame, a student family, or a factory: a class, or a function without required parameters, that returns one of these.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillens.errors import InputError, RecipeError, UntrustedCodeError, did_you_mean
from distillens.recipe.entries import Entry, shown
from distillens.recipe.text import join

OUTSIDE = ("file", "use")


def read_outside(teacher: Entry) -> list[str]:
    """What is wrong with an entry that has the key `file` or `use`; `classes` is made a list of texts."""
    key, *other = [key for key in OUTSIDE if key in teacher]
    known = (key, "classes")
    problems = [
        f"{join('teacher', name)}: a teacher comes from a file or from code; keep one of the two." for name in other
    ]
    problems += [
        f"{join('teacher', name)}: unknown key beside {key}; a teacher from elsewhere takes no options but classes."
        for name in teacher
        if name not in known and name not in OUTSIDE
    ]
    written = teacher[key]
    if key == "use":
        if not (isinstance(written, str) and re.fullmatch(r"[\w.]+:\w+", written)):
            problems.append(f"teacher.use: expected package.module:factory, got {shown(written)}.")
    else:
        problems += _file(written)
    classes = teacher.get("classes")
    if classes is not None:
        texts = isinstance(classes, list) and all(
            isinstance(c, (str, int)) and not isinstance(c, bool) for c in classes
        )
        if not texts or len(classes) < 2 or len({str(c) for c in classes}) < len(classes):
            problems.append(
                f"teacher.classes: expected the names of the teacher's outputs in its order, each once, got {shown(classes)}."
            )
        else:
            teacher["classes"] = [str(c) for c in classes]
    return problems


def _file(written: Any) -> list[str]:
    from distillens.models.files import KINDS, REFUSED

    if not isinstance(written, str) or not written:
        return [f"teacher.file: expected the name of a model file, got {shown(written)}."]
    suffix = Path(written).suffix.lower()
    if suffix in REFUSED:
        return [f"teacher.file: {Path(written).name[-80:]} is not opened. {REFUSED[suffix]}."]
    if suffix in KINDS:
        return []
    if re.fullmatch(r"[\w.]+:\w+", written):
        return [f"teacher.file: {written} names code, not a file; write teacher: {{use: {written}}}."]
    return [
        f"teacher.file: {Path(written).name[-80:]!r} is not a kind of model file that distillens reads; known: {', '.join(KINDS)}."
        f"{did_you_mean(suffix, KINDS)}"
    ]


def outside_entry(given: str | Path, base_dir: Path | None) -> dict[str, str]:
    """The entry of a teacher named by itself, as on the command line: a file, or package.module:name. A file is written as seen from
    `base_dir`, the recipe's folder, where paths of a recipe start."""
    written = str(given)
    if ":" in written and not Path(written).suffix and not Path(written).exists():
        return {"use": written}
    if base_dir is None:
        return {"file": Path(written).as_posix()}
    try:
        return {"file": Path(os.path.relpath(written, base_dir)).as_posix()}
    except ValueError:  # another drive
        return {"file": Path(written).resolve().as_posix()}


def teacher_file(teacher: Mapping[str, Any], base_dir: Path | None) -> Path | None:
    """The file that the entry names; it need not exist."""
    if "file" not in teacher:
        return None
    return Path(teacher["file"]) if base_dir is None else base_dir / teacher["file"]


def made_by(path: str, *, trust_code: bool) -> Any:
    """What `teacher: {use: …}` names, or what it makes when it is a factory. UntrustedCodeError unless code is trusted."""
    from distillens.named import load_object

    if not trust_code:
        raise UntrustedCodeError(
            f"teacher.use: {path} would run code that is not part of distillens; pass --trust-code if you trust it."
        )
    thing = load_object(path)
    if not is_factory(thing):
        return thing
    try:
        return thing()
    except InputError:
        raise
    except Exception as error:  # the user's own code may raise anything; its traceback stays attached
        raise RecipeError(f"teacher.use: {path} raised {type(error).__name__}: {error}") from error


def is_factory(thing: Any) -> bool:
    """Whether to call it for a teacher: a class, or a function without required parameters. A model, an estimator and a module are no factories."""
    if isinstance(thing, type):
        return True
    if (
        not callable(thing)
        or hasattr(thing, "get_params")
        or hasattr(thing, "modules")
        or hasattr(thing, "fingerprint")
    ):
        return False
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return False
    return not any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def is_family(thing: Any) -> bool:
    """Whether it learns from `Targets` (a student family), rather than being a model or an estimator."""
    return hasattr(thing, "fit") and not hasattr(thing, "get_params") and not hasattr(thing, "modules")

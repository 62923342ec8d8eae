"""Open sets are dictionaries `name → "module:Class"`: strings, so that listing and checking never import what they name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from distillens.errors import InputError, UntrustedCodeError, did_you_mean


def load_object(path: str) -> Any:
    """Import `package.module:Name`. InputError when the module or the name does not exist."""
    module, separator, name = path.partition(":")
    if not separator or not module or not name:
        raise InputError(f"{path!r} does not name code; write package.module:Name.")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise InputError(f"{path!r} cannot be imported: {error}. Is it installed, or on PYTHONPATH?") from error
    except AttributeError as error:
        raise InputError(f"{module!r} has no {name!r}.") from error


def resolve(name: str, known: Mapping[str, str], *, what: str, trust_code: bool = False) -> Any:
    """The object behind a name of an open set, or behind `package.module:Name` when code is trusted."""
    if name in known:
        return load_object(known[name])
    if ":" in name:
        if not trust_code:
            raise UntrustedCodeError(
                f"The {what} {name!r} would run code that is not part of distillens; pass --trust-code if you trust it."
            )
        return load_object(name)
    raise InputError(f"There is no {what} {name!r}.{did_you_mean(name, known)}")

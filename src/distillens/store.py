"""Arrays and JSON on disk: atomic, checksummed, without pickle.

A *record* is a JSON-able dictionary (`meta`) with named NumPy arrays. It is stored as one safetensors file whose
header carries the meta; a SHA-256 of meta and arrays (`content_hash`) is in the header too and checked on reading.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import ArtefactError, RunError

if TYPE_CHECKING:
    import numpy as np

JSON = dict[str, Any]
HEADER = "distillens"  # the one entry of a record's safetensors header


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN and infinities become null."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v) for v in value), key=repr)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def content_hash(meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """SHA-256 over the canonical meta and every array's name, dtype, shape and bytes."""
    import numpy as np

    digest = hashlib.sha256(canonical_json(meta).encode())
    for name in sorted(arrays or {}):
        array = np.ascontiguousarray((arrays or {})[name])
        digest.update(f"\x00{name}\x00{array.dtype.str}\x00{array.shape}\x00".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder; on success it is fsynced and renamed to `path`, otherwise removed.

    Raises RunError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror}. Free some space or choose another --out.") from error
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another --out."
        ) from error
    finally:
        part.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Make a rename durable (POSIX keeps directory entries apart from file contents)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; NaN and infinities become null."""
    write_text(path, json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is an ArtefactError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} does not exist.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtefactError(
            f"{path} is not valid JSON ({error}); it was damaged or not written by distillens."
        ) from error


def write_record(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Write meta and arrays as one safetensors file; returns its content hash. Arrays: bool, ints, floats."""
    import numpy as np
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    digest = content_hash(meta, contiguous)
    # One header entry: safetensors writes several in no fixed order, and equal records shall be equal files.
    payload = save(contiguous, metadata={HEADER: canonical_json({"meta": meta, "sha256": digest})})
    with atomic_path(path) as part:
        part.write_bytes(payload)
    return digest


def read_record(path: Path) -> tuple[JSON, dict[str, np.ndarray]]:
    """Read what `write_record` wrote; any damage is an ArtefactError that names the file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(str(path), framework="np") as stream:
            header = stream.metadata() or {}
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path} does not exist.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged or not a distillens record ({error}).") from error
    if HEADER not in header:
        raise ArtefactError(f"{path} is a safetensors file, but not a distillens record: its header has no {HEADER!r}.")
    try:
        record = json.loads(header[HEADER])
        meta, digest = record["meta"], record["sha256"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} has a damaged header ({error}).") from error
    if content_hash(meta, arrays) != digest:
        raise ArtefactError(f"{path} does not match its own checksum: it was changed or damaged after writing.")
    return meta, arrays

"""IDX files, as MNIST and its relatives come: `train-images-idx3-ubyte[.gz]` and three more.

Format: two zero bytes, a type (8: unsigned bytes), the number of axes; then each length as four bytes, most significant first; then the numbers.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.pictures.arrays import reader
from distillens.data.pictures.source import TEST, TRAIN, ImageSource, require_space
from distillens.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from distillens.data.builtin import BuiltinImages

FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_NAME = re.compile(r"(train|t10k|test)-(images|labels)[.-]idx[13]-ubyte(\.gz)?")
_DEEPEST = 3
_WHOLE = {("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels")}

Files = dict[tuple[str, str], Path]


def find(folder: Path) -> Files:
    """(train | test, images | labels) → file, of the IDX files in a folder or below. DataError when one is there twice."""
    found: Files = {}
    for root, folders, files in os.walk(folder):
        depth = len(Path(root).relative_to(folder).parts)
        folders[:] = sorted(n for n in folders if not n.startswith(".")) if depth < _DEEPEST else []
        for name in sorted(files):
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            key = ("train" if match[1] == "train" else "test", match[2])
            if key in found:
                both = " and ".join(p.relative_to(folder).as_posix() for p in (found[key], Path(root) / name))
                raise DataError(f"{folder.name} holds {both}; keep one, or name the folder of one of them.")
            found[key] = Path(root) / name
    return found


def from_files(folder: Path, written: str, *, classes: tuple[str, ...] | None = None) -> ImageSource:
    """Training and, where it is there, test images of a folder. Classes are the labels' numbers where nothing else is known."""
    files = find(folder)
    pixels: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    parts: list[NDArray[np.int64]] = []
    for name, number in (("train", TRAIN), ("test", TEST)):
        have = [kind for kind in ("images", "labels") if (name, kind) in files]
        if not have and name == "test":
            continue
        if len(have) < 2:
            lacking = " and ".join(kind for kind in ("images", "labels") if kind not in have)
            raise DataError(
                f"{written} lacks the {lacking} of the {name} part; expected {_file(name, 'images')} and {_file(name, 'labels')}."
            )
        images, told = read_idx(files[name, "images"], axes=3), read_idx(files[name, "labels"], axes=1)
        if len(images) != len(told):
            raise DataError(
                f"{files[name, 'images'].name} holds {len(images):,} images and {files[name, 'labels'].name} {len(told):,} labels; they must be equally many."
            )
        pixels.append(images)
        labels.append(told)
        parts.append(np.full(len(told), number, dtype=np.int64))
    if len({p.shape[1:] for p in pixels}) > 1:
        raise DataError(f"The training and test images of {written} have different sizes.")
    every = np.concatenate(labels).astype(np.int64)
    if not len(every):
        raise DataError(f"The IDX files of {written} hold no images.")
    if classes is None:
        present = np.unique(every)
        classes, every = tuple(str(v) for v in present), np.searchsorted(present, every).astype(np.int64)
    elif int(every.max()) >= len(classes):
        raise DataError(f"The labels of {written} go up to {int(every.max())}, but there are {len(classes)} classes.")
    return ImageSource(
        every, classes, reader(np.concatenate(pixels)[:, None]), folder.resolve().name or "images", f"{len(every):,} images in {written} (IDX)",
        np.concatenate(parts) if len(parts) > 1 else None,
    )  # fmt: skip


def _file(part: str, kind: str) -> str:
    return f"{'train' if part == 'train' else 't10k'}-{'images-idx3' if kind == 'images' else 'labels-idx1'}-ubyte[.gz]"


def read_idx(path: Path, *, axes: int) -> NDArray[Any]:
    """The numbers of an IDX file of unsigned bytes, gzipped or not. DataError for any other file, and for one that is cut short."""
    name = path.name
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] != 8 or head[3] != axes:
                shown = head.hex(" ") or "nothing"
                what = f"{'images' if axes == 3 else 'labels'} does (00 00 08 {axes:02x})"
                raise DataError(f"{name} does not begin as an IDX file of {what}, but with {shown}; fetch it again.")
            lengths = stream.read(4 * axes)
            if len(lengths) < 4 * axes:
                raise DataError(f"{name} is cut short in its header; fetch it again.")
            shape = struct.unpack(f">{axes}I", lengths)
            require_space(shape[0], shape[1:])
            if axes == 3 and 0 in shape[1:]:
                raise DataError(f"{name} says that its images are {shape[1]}×{shape[2]}; it is damaged.")
            expected = int(np.prod(shape, dtype=np.int64))
            body = stream.read(expected + 1)
    except (EOFError, OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise DataError(f"{name} is damaged or cut short ({reason}); fetch it again.") from error
    if len(body) != expected:
        what = "is cut short" if len(body) < expected else "goes on after its end"
        raise DataError(f"{name} {what}: its header promises {expected:,} bytes; fetch it again.")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def fashion_mnist(record: BuiltinImages) -> ImageSource:
    """Fashion-MNIST from the system's folder of data sets. DataError that says how to get it when it is not there."""
    from dataclasses import replace

    for folder in system_folders():
        if folder.is_dir() and set(find(folder)) == _WHOLE:
            opened = from_files(folder, "fashion-mnist", classes=FASHION_CLASSES)
            return replace(
                opened, name="fashion-mnist", text=record.title, licence=record.licence, citation=record.citation
            )
    raise DataError(
        "Fashion-MNIST is not on this machine: install Debian's package dataset-fashion-mnist (apt install dataset-fashion-mnist), "
        "or give source: FOLDER with its four IDX files."
    )


def system_folders() -> tuple[Path, ...]:
    """Where systems keep data sets: datasets/fashion-mnist below each folder of XDG_DATA_HOME and XDG_DATA_DIRS."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return tuple(Path(base) / "datasets" / "fashion-mnist" for base in (home, *shared.split(":")) if base)

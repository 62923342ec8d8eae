"""`ImageSource`: labels first, pixels when asked for; and which kind of source a text or an object is.

Labels are known before a single picture is decoded, so that splits and limits are drawn first and only what is used is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.data.builtin import BUILTIN, BUILTIN_IMAGES
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from distillens.data.base import Finding, Ints
    from distillens.data.images import Pixels

Size = tuple[int, int]  # (height, width)
Reader = Callable[["Ints", "Size | None"], "tuple[Pixels, tuple[Finding, ...]]"]

TRAIN, VALIDATION, TEST = 0, 1, 2
TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq")
ARRAYS_ENDING = ".npz"
LARGEST = 4 * 2**30  # bytes of pixels that are read at most


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Pictures somewhere, with what is known about them before they are read.

    labels: (n,) class indices, −1 where there is none. classes: names in label order. read: positions and a common (height, width), or
    None for the pictures' own, to pixels (m, C, H, W) and what was found while reading. part: (n,) 0 training, 1 validation, 2 test, where
    the source says so; None where everything is one heap. Rows are numbered in this order: their positions are the row ids.
    """

    labels: Ints
    classes: tuple[str, ...]
    read: Reader
    name: str
    text: str
    part: Ints | None = None
    licence: str = ""
    citation: str = ""
    findings: tuple[Finding, ...] = ()


def is_image_text(source: str) -> bool:
    """Whether a source named in a recipe can only be images, because it is no table by its name; no disk is touched."""
    if source in BUILTIN_IMAGES:
        return True
    if source in BUILTIN or ":" in source:
        return False
    return Path(source).suffix.lower() not in TABLE_ENDINGS


def is_image_source(source: Any, *, base_dir: Path | None = None) -> bool:
    """Whether `load_dataset` should read images: built-in ones, a folder, an .npz file, (pixels, labels) or a torch data set."""
    if isinstance(source, (str, Path)):
        text = str(source)
        if text in BUILTIN_IMAGES:
            return True
        if text in BUILTIN:
            return False
        suffix = Path(text).suffix.lower()
        return suffix == ARRAYS_ENDING or (suffix not in TABLE_ENDINGS and (Path(base_dir or "") / text).is_dir())
    if isinstance(source, tuple):
        return len(source) == 2
    if isinstance(source, (list, dict)) or hasattr(source, "columns") or hasattr(source, "dtype"):
        return False
    return hasattr(source, "__len__") and hasattr(source, "__getitem__")


def open_images(
    source: Any, *, test: Any = None, classes: Sequence[str] | None = None, base_dir: Path | None = None
) -> ImageSource:
    """Open an image source of any kind; DataError in one sentence for what cannot be used.

    test, classes: beside arrays and torch data sets only.
    """
    from distillens.data.pictures import arrays, folders, idx

    if not isinstance(source, (str, Path)):
        return arrays.from_python(source, test=test, classes=classes)
    if test is not None or classes is not None:
        raise DataError("test and classes go with arrays and torch data sets; files and folders say these themselves.")
    written = str(source)
    if written in BUILTIN_IMAGES:
        record = BUILTIN_IMAGES[written]
        return arrays.digits(record) if written == "digits" else idx.fashion_mnist(record)
    path = Path(base_dir or "") / written
    if path.is_dir():
        return idx.from_files(path, written) if idx.find(path) else folders.from_folder(path, written)
    if not path.is_file():
        near = did_you_mean(written, (*BUILTIN, *BUILTIN_IMAGES))
        raise DataError(f"There is no file or folder {written}, and no built-in data of that name.{near}")
    if path.suffix.lower() != ARRAYS_ENDING:
        raise DataError(f"{written} is a file; images come as a folder, or as one {ARRAYS_ENDING} file.")
    return arrays.from_npz(path, written)


def refuse_unlabelled(count: int, what: str) -> None:
    """DataError when there are images without a label: every row of a split has one."""
    if count:
        raise DataError(
            f"{count:,} image{'s' if count > 1 else ''} of {what} {'have' if count > 1 else 'has'} no label (the folder unlabelled, or the label −1); "
            "every image needs one, so label them or move them elsewhere."
        )


def require_space(count: int, shape: tuple[int, ...]) -> None:
    """DataError when that many images of this shape (of bytes) are more than is read into memory."""
    size = count
    for length in shape:
        size *= length
    if size > LARGEST:
        raise DataError(
            f"{count:,} images of {'×'.join(map(str, shape))} take {size / 2**30:,.1f} GB, more than the {LARGEST / 2**30:.0f} GB that are read; "
            "give a smaller size, or a limit."
        )


def visible(folder: Path) -> Iterator[Path]:
    """What lies in a folder, by name; hidden entries (.DS_Store, ._x) and Thumbs.db are nobody's pictures."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"The folder {folder.name} cannot be read: {error.strerror or error}.") from error
    yield from (folder / name for name in names if not name.startswith(".") and name.lower() != "thumbs.db")


def folder_hash(folder: Path) -> str:
    """SHA-256 of the names and bytes of all visible files below a folder."""
    found = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root) / name
            if name.startswith(".") or not path.is_file():
                continue
            with path.open("rb") as stream:
                found.update(
                    os.fsencode(path.relative_to(folder)) + b"\0" + hashlib.file_digest(stream, "sha256").digest()
                )
    return found.hexdigest()

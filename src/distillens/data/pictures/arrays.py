"""Images that are arrays already: `.npz` files, (pixels, labels) and torch data sets from Python, and the digits of scikit-learn.

Pixels are (n, H, W), (n, C, H, W) or (n, H, W, C) with 1 or 3 channels (channels first where both would fit), of type uint8; numbers between 0 and 1
are taken when they are 255ths, as torchvision's ToTensor makes them, because then nothing is lost.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.data.pictures.resize import cut, resized, resized_finding
from distillens.data.pictures.source import TEST, TRAIN, ImageSource, refuse_unlabelled, require_space
from distillens.data.table import sorted_texts
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from distillens.data.base import Finding, Ints
    from distillens.data.builtin import BuiltinImages
    from distillens.data.images import Pixels
    from distillens.data.pictures.source import Reader, Size

KEYS = ("pixels", "labels", "classes", "part")
PARTS = ("train", "validation", "test")


def reader(pixels: Pixels) -> Reader:
    """Reads from an array in memory; resizes where another size is asked for."""

    def read(rows: Ints, size: Size | None) -> tuple[Pixels, tuple[Finding, ...]]:
        taken = pixels[rows]
        have = (int(pixels.shape[2]), int(pixels.shape[3]))
        if size is None or size == have:
            return taken, ()
        require_space(len(rows), (int(pixels.shape[1]), *size))
        n = len(rows)
        return resized(taken, size), (resized_finding(n, n if cut(have, size) else 0, n, size),)

    return read


def from_npz(path: Path, written: str) -> ImageSource:
    """`pixels` and `labels`, and where they are there `classes` (names) and `part` (train, validation or test of every image)."""
    try:
        with zipfile.ZipFile(path) as packed:
            require_space(1, (sum(member.file_size for member in packed.infolist()),))
        with np.load(path, allow_pickle=False) as stored:
            unknown = [key for key in stored.files if key not in KEYS]
            missing = [key for key in KEYS[:2] if key not in stored.files]
            if missing:
                hint = did_you_mean(unknown[0], KEYS) if unknown else ""
                raise DataError(
                    f"{written} has no array {missing[0]!r}; it should hold pixels and labels, and may hold classes and part.{hint}"
                )
            arrays = {key: stored[key] for key in KEYS if key in stored.files}
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
        reason = (
            "it holds Python objects, which are not read" if "allow_pickle" in str(error) else "damaged, or no .npz"
        )
        raise DataError(f"{written} cannot be read as NumPy arrays ({reason}).") from error
    pixels = to_pixels(arrays["pixels"], f"The array pixels of {written}")
    names = [str(name) for name in arrays["classes"].tolist()] if "classes" in arrays else None
    labels, classes = to_labels(arrays["labels"], names, len(pixels), written)
    part = None
    if "part" in arrays:
        texts = [str(text) for text in np.atleast_1d(arrays["part"]).tolist()]
        wrong = next((text for text in texts if text not in PARTS), None)
        if wrong is not None or len(texts) != len(labels):
            raise DataError(
                f"The array part of {written} should say train, validation or test for each of {len(labels):,} images."
            )
        part = np.array([PARTS.index(text) for text in texts], dtype=np.int64)
    return ImageSource(labels, classes, reader(pixels), path.stem, f"{len(labels):,} images in {written}", part)


def from_python(source: Any, *, test: Any = None, classes: Sequence[str] | None = None) -> ImageSource:
    """(pixels, labels), or anything with a length whose items are (image, label), as torch data sets are; `test` likewise."""
    pixels, told, own = _pairs(source, "The images")
    names = list(classes) if classes is not None else own
    part = None
    if test is not None:
        more, labels, _ = _pairs(test, "The test images")
        if more.shape[1:] != pixels.shape[1:]:
            raise DataError(
                f"The test images have the shape {more.shape[1:]}, the others {pixels.shape[1:]}; they must be equal."
            )
        part = np.repeat(np.array([TRAIN, TEST], dtype=np.int64), [len(pixels), len(more)])
        pixels, told = np.concatenate([pixels, more]), np.concatenate([told, labels])
    coded, known = to_labels(told, names, len(pixels), "the images given")
    return ImageSource(coded, known, reader(pixels), "images", f"{len(coded):,} images from Python", part)


def _pairs(source: Any, what: str) -> tuple[Pixels, NDArray[Any], list[str] | None]:
    if isinstance(source, tuple):
        if len(source) != 2:
            raise DataError(f"{what} come as (pixels, labels), two arrays; got {len(source)}.")
        return to_pixels(source[0], what), _array(source[1]), None
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise DataError(
            f"{what} come as (pixels, labels) or as a data set with a length, not as a {type(source).__name__}."
        )
    items: list[NDArray[Any]] = []
    labels: list[Any] = []
    for i in range(len(source)):
        item = source[i]
        if not (isinstance(item, (tuple, list)) and len(item) == 2):
            raise DataError(f"{what}: item {i} should be (image, label), not a {type(item).__name__}.")
        image = _array(item[0])
        if items and image.shape != items[0].shape:
            raise DataError(
                f"{what}: item {i} has the shape {image.shape}, the first {items[0].shape}; give the data set a transform that makes them equal."
            )
        items.append(image)
        labels.append(_array(item[1]).item())
    if not items:
        raise DataError(f"{what}: there are none.")
    own = getattr(source, "classes", None)
    names = [str(name) for name in own] if isinstance(own, (list, tuple)) else None
    return to_pixels(np.stack(items), what), np.asarray(labels), names


def _array(value: Any) -> NDArray[Any]:
    """A NumPy array of an array, a tensor or a Pillow picture."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def to_pixels(array: Any, what: str) -> Pixels:
    """(n, C, H, W) uint8. DataError for other shapes, and for numbers that would lose something."""
    found = _array(array)
    if found.ndim == 3:
        found = found[:, None]
    elif found.ndim == 4 and found.shape[1] not in (1, 3) and found.shape[3] in (1, 3):
        found = found.transpose(0, 3, 1, 2)
    if found.ndim != 4 or found.shape[1] not in (1, 3) or 0 in found.shape:
        raise DataError(
            f"{what} should have the shape (n, H, W), (n, 1 or 3, H, W) or (n, H, W, 1 or 3), not {np.shape(_array(array))}."
        )
    if found.dtype == np.uint8:
        return np.ascontiguousarray(found)
    if found.dtype.kind == "f" and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1:
        scaled = found.astype(np.float64) * 255
        whole = np.rint(scaled)
        if np.abs(scaled - whole).max() < 1e-3:  # float32 holds 255ths to 1e-5 of a step
            return np.ascontiguousarray(whole.astype(np.uint8))
    raise DataError(
        f"{what} should be whole numbers from 0 to 255 of type uint8 (or 255ths of them between 0 and 1), not {found.dtype} "
        f"from {found.min()} to {found.max()}; normalisation is the models' own business."
    )


def to_labels(labels: Any, classes: Sequence[str] | None, n: int, what: str) -> tuple[Ints, tuple[str, ...]]:
    """(n,) class indices and class names: those given, else the labels' own values in order."""
    found = _array(labels)
    if found.shape == (n, 1):
        found = found[:, 0]
    if found.shape != (n,):
        raise DataError(f"{n:,} images need as many labels, got an array of shape {found.shape}.")
    if found.dtype.kind == "f" and np.isnan(found).any():
        refuse_unlabelled(int(np.isnan(found).sum()), what)
    if found.dtype.kind == "f" and (found == np.round(found)).all():
        found = found.astype(np.int64)
    if found.dtype.kind not in "iubU" and not (found.dtype == object and all(isinstance(v, str) for v in found)):
        raise DataError(f"Labels should be whole numbers or texts, not {found.dtype}.")
    numbers = found.dtype.kind in "iub"
    if numbers and found.dtype.kind == "i":
        refuse_unlabelled(int((found == -1).sum()), what)
    if classes is None:
        texts = [str(v) for v in found.tolist()]
        names = sorted_texts(set(texts))
        index = {name: k for k, name in enumerate(names)}
        return np.array([index[t] for t in texts], dtype=np.int64), names
    names = tuple(str(name) for name in classes)
    if len(set(names)) < len(names) or "" in names:
        raise DataError("The names of the classes must differ, and none may be empty.")
    if not numbers:
        index = {name: k for k, name in enumerate(names)}
        wrong = next((str(t) for t in found.tolist() if t not in index), None)
        if wrong is not None:
            raise DataError(f"There is no class {wrong!r}.{did_you_mean(wrong, names)}")
        return np.array([index[t] for t in found.tolist()], dtype=np.int64), names
    if n and (int(found.min()) < 0 or int(found.max()) >= len(names)):
        raise DataError(
            f"Labels of {len(names)} classes go from 0 to {len(names) - 1}, but these go from {found.min()} to {found.max()}."
        )
    return found.astype(np.int64), names


def digits(record: BuiltinImages) -> ImageSource:
    """The 1,797 digits of scikit-learn: 8×8 counts from 0 to 16, scaled to 0 … 255 and rounded."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return ImageSource(
        bunch.target.astype(np.int64), tuple(str(k) for k in range(10)), reader(pixels), "digits", record.title,
        licence=record.licence, citation=record.citation,
    )  # fmt: skip

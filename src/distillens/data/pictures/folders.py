"""A folder a class: `FOLDER/CLASS/picture.png`, or `FOLDER/train/CLASS/…` beside `FOLDER/test/CLASS/…`. Read by Pillow.

Order: training, validation, test; then classes; then file names; each by code points. Pictures are turned as their EXIF says and put on white
where they are transparent. They are grey when every pixel of every picture is. Links to pictures are followed.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.base import Finding
from distillens.data.pictures.resize import cut, fitted, pillow, resized, resized_finding
from distillens.data.pictures.source import (
    TEST,
    TRAIN,
    VALIDATION,
    ImageSource,
    refuse_unlabelled,
    require_space,
    visible,
)
from distillens.data.table import sorted_texts
from distillens.errors import DataError

if TYPE_CHECKING:
    from distillens.data.images import Pixels
    from distillens.data.pictures.source import Size

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
UNLABELLED = ("unlabelled", "unlabeled")
MOST_PIXELS = 50_000_000  # of one picture; a file of a few bytes can claim to unfold into terabytes
GREY = ("1", "L", "LA", "La")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Picture:
    """One file of the folder. named: its path below the folder, for messages."""

    path: Path
    named: str
    cls: str
    part: int


def from_folder(folder: Path, written: str) -> ImageSource:
    """List the pictures of a folder; they are read when asked for. DataError when there is no folder a class."""
    found, others = _listed(folder, written)
    unlabelled = sum(p.cls == "" for p in found)
    refuse_unlabelled(unlabelled, written)
    if not found:
        raise DataError(
            f"{written} holds no images; expected one folder a class with {', '.join(ENDINGS[:3])} … files in it, or IDX files "
            "(a table is one CSV or Parquet file)."
        )
    classes = sorted_texts({p.cls for p in found})
    index = {name: k for k, name in enumerate(classes)}
    found.sort(key=lambda p: (p.part, index[p.cls], p.path.name))
    parts = np.array([p.part for p in found], dtype=np.int64)
    findings: tuple[Finding, ...] = ()
    if others:
        text = f"{others:,} other file(s) in the class folders, not images by their ending, were left aside."
        findings = (Finding("not_images", None, text, "info", {"rows": others}),)
    return ImageSource(
        np.array([index[p.cls] for p in found], dtype=np.int64),
        classes,
        lambda rows, size: read_pictures([found[i] for i in rows], size),
        folder.resolve().name or "images",
        f"{len(found):,} images in {written}",
        parts if _is_split(folder) else None,
        findings=findings,
    )


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in visible(folder) if entry.is_dir()]


def _is_split(folder: Path) -> bool:
    """Whether the folders are parts such as train and test, rather than classes."""
    names = [name.lower() for name in _names(folder)]
    return "train" in names and all(name in PARTS or name in UNLABELLED for name in names)


def _listed(folder: Path, written: str) -> tuple[list[Picture], int]:
    """Every picture, and how many other files there are in class folders."""
    found: list[Picture] = []
    others = 0
    split = _is_split(folder)
    if split and "test" not in [name.lower() for name in _names(folder)]:
        raise DataError(
            f"{written} has the folder train and no folder test; add one, or put the class folders directly into {written} to have a test set drawn."
        )
    for entry in visible(folder):
        if not entry.is_dir():
            if entry.suffix.lower() in ENDINGS:
                raise DataError(
                    f"{written}/{entry.name} lies beside the class folders; every image lies in the folder of its class."
                )
            continue
        if entry.name.lower() in UNLABELLED:
            found += [Picture(p, "", "", TRAIN) for p in visible(entry) if p.suffix.lower() in ENDINGS]
        elif split:
            for cls in visible(entry):
                if cls.is_dir() and cls.name.lower() in UNLABELLED:
                    found += [Picture(p, "", "", TRAIN) for p in visible(cls) if p.suffix.lower() in ENDINGS]
                elif cls.is_dir():
                    others += _add(cls, folder, PARTS[entry.name.lower()], found)
                elif cls.suffix.lower() in ENDINGS:
                    raise DataError(
                        f"{written}/{entry.name}/{cls.name} lies beside the class folders; every image lies in the folder of its class."
                    )
        else:
            others += _add(entry, folder, TRAIN, found)
    return found, others


def _add(cls: Path, folder: Path, part: int, found: list[Picture]) -> int:
    """Add the pictures of one class folder; returns how many other files it has."""
    try:
        cls.name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"A class folder has a name that is not valid Unicode: {ascii(cls.name)[:60]}; rename it."
        ) from None
    others = 0
    for path in visible(cls):
        named = path.relative_to(folder).as_posix()
        if path.is_dir():
            raise DataError(
                f"{named} is a folder inside a class folder; images lie directly in the folder of their class."
            )
        if path.suffix.lower() in ENDINGS:
            found.append(Picture(path, named, cls.name, part))
        else:
            others += 1
    return others


def read_pictures(pictures: Sequence[Picture], size: Size | None) -> tuple[Pixels, tuple[Finding, ...]]:
    """(m, C, H, W) pixels in one size: the one asked for, else the commonest. DataError names a file that cannot be read."""
    image = pillow()
    arrays: list[Pixels] = []
    sizes: list[Size] = []
    clear, held = 0, 0
    for picture in pictures:
        opened, see_through = _decoded(picture, image)
        clear += see_through
        sizes.append((opened.height, opened.width))
        array = np.asarray(opened if size is None else fitted(opened, size))
        arrays.append(array)
        held += array.nbytes
        require_space(1, (held,)) if size is None else require_space(len(pictures), array.shape)
    common = size or min(Counter(sizes).items(), key=lambda item: (-item[1], item[0][0] * item[0][1], item[0]))[0]
    if size is None:
        arrays = [_in_size(array, common) for array in arrays]
    pixels = _stacked(arrays)
    findings = []
    other = [have for have in sizes if have != common]
    if other:
        findings.append(resized_finding(len(other), sum(cut(have, common) for have in other), len(sizes), common))
    if clear:
        text = f"{clear:,} of {len(sizes):,} images have transparent pixels; they were put on white."
        findings.append(Finding("transparent", None, text, "info", {"rows": clear, "n": len(sizes)}))
    return pixels, tuple(findings)


def _decoded(picture: Picture, image: Any) -> tuple[Any, bool]:
    """A Pillow picture of mode L or RGB, grey where it is grey, and whether some of it was transparent."""
    from PIL import ImageOps

    name = picture.named
    try:
        if picture.path.stat().st_size == 0:
            raise DataError(f"{name} is empty; expected a picture.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about sizes (looked at below) and odd metadata
            with image.open(picture.path) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise DataError(
                        f"{name} has {opened.width:,}×{opened.height:,} pixels; at most {MOST_PIXELS:,} are read. Shrink it first."
                    )
                if getattr(opened, "n_frames", 1) > 1:
                    raise DataError(f"{name} holds {opened.n_frames} pictures; save each as a file of its own.")
                if opened.mode in DEEP:
                    raise DataError(f"{name} has more than 8 bits a pixel (mode {opened.mode}); save it with 8.")
                opened.load()
                turned = ImageOps.exif_transpose(opened)
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything for broken files
        if isinstance(error, image.DecompressionBombError):
            raise DataError(f"{name} claims more pixels than the {MOST_PIXELS:,} that are read.") from error
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        reason = reason.split(str(picture.path))[0].strip(" '\"") or "no known format"
        raise DataError(f"{name} cannot be read as a picture ({reason}); repair or remove it.") from error
    see_through = False
    if turned.has_transparency_data:
        full = turned.convert("RGBA")
        see_through = full.getextrema()[3][0] < 255
        white = image.new("RGBA", full.size, "white")
        turned = image.alpha_composite(white, full).convert("RGB") if see_through else full.convert("RGB")
    if turned.mode in GREY:
        return turned.convert("L"), see_through
    turned = turned.convert("RGB")
    array: Pixels = np.asarray(turned, dtype=np.uint8)
    if (array[..., :1] == array[..., 1:]).all():
        turned = turned.getchannel(0)
    return turned, see_through


def _in_size(array: Pixels, size: Size) -> Pixels:
    if array.shape[:2] == size:
        return array
    channels = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    made = resized(channels[None], size)[0]
    again: Pixels = made[0] if array.ndim == 2 else made.transpose(1, 2, 0)
    return again


def _stacked(arrays: list[Pixels]) -> Pixels:
    """One channel where all are grey, otherwise three."""
    if all(array.ndim == 2 for array in arrays):
        return np.stack(arrays)[:, None]
    require_space(len(arrays), (3, *arrays[0].shape[:2]))
    pixels = np.empty((len(arrays), 3, *arrays[0].shape[:2]), dtype=np.uint8)
    for i, array in enumerate(arrays):
        pixels[i] = array if array.ndim == 2 else array.transpose(2, 0, 1)
    return pixels

"""Images that are arrays already, IDX files, and what comes along."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from distillens.data.builtin import BUILTIN_IMAGES
from distillens.data.load import load_dataset
from distillens.data.pictures.load import load_images
from distillens.data.pictures.source import folder_hash, is_image_text
from distillens.data.saved import read_dataset, save_dataset
from distillens.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 5, 4), dtype=np.uint8)
LABELS = np.arange(60) % 3


def every(dataset):
    """Pixels and labels by row id."""
    splits = (dataset.train, dataset.validation, dataset.test)
    order = np.argsort(np.concatenate([s.inputs.row_ids for s in splits]))
    pixels = np.concatenate([s.inputs.pixels for s in splits])[order]
    return pixels, np.concatenate([s.labels for s in splits])[order]


def test_digits_are_those_of_scikit_learn(tmp_path):
    data = load_dataset(source="digits")
    pixels, labels = every(data)
    bunch = load_digits()
    assert np.array_equal(labels, bunch.target)
    assert pixels.max() == 255
    assert np.array_equal(np.rint(pixels[:, 0] / 255 * 16), bunch.images)
    assert (len(data.train), len(data.validation), len(data.test)) == (881, 377, 539)
    assert (data.task, data.classes, data.target, data.columns) == ("multiclass", tuple("0123456789"), "class", ())
    assert data.licence == BUILTIN_IMAGES["digits"].licence
    save_dataset(data, tmp_path)
    assert read_dataset(tmp_path).fingerprint == data.fingerprint == load_dataset(source="digits").fingerprint
    assert load_dataset(source="digits", seed=1).fingerprint != data.fingerprint


def test_a_split_is_by_class_and_every_row_is_in_one_part():
    data = load_images((PIXELS, LABELS), split={"test": 0.2, "validation": 0.25})
    parts = [getattr(data, name) for name in ("train", "validation", "test")]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[12] * 3, [4] * 3, [4] * 3]
    ids = np.concatenate([part.inputs.row_ids for part in parts])
    assert sorted(ids.tolist()) == list(range(60))
    for part in parts:
        assert np.array_equal(part.inputs.pixels[:, 0], PIXELS[part.inputs.row_ids])
        assert np.array_equal(part.labels, LABELS[part.inputs.row_ids])


def test_one_pixel_or_one_label_changes_the_fingerprint():
    before = load_images((PIXELS, LABELS)).fingerprint
    pixels, labels = PIXELS.copy(), LABELS.copy()
    pixels[17, 2, 3] ^= 1
    assert load_images((pixels, LABELS)).fingerprint != before
    labels[0] = 1
    assert load_images((PIXELS, labels)).fingerprint != before


def test_channels_come_first_or_last_and_255ths_are_whole_numbers():
    colour = RNG.integers(0, 256, (60, 7, 6, 3), dtype=np.uint8)
    last, _ = every(load_images((colour, LABELS)))
    first, _ = every(load_images((colour.transpose(0, 3, 1, 2), LABELS)))
    scaled, _ = every(load_images(((colour / 255).astype(np.float32), LABELS)))
    assert np.array_equal(last, colour.transpose(0, 3, 1, 2))
    assert np.array_equal(first, last)
    assert np.array_equal(scaled, last)


class Pictures:
    """What torch data sets look like."""

    classes = ("ant", "bee", "cow")

    def __init__(self, pixels, labels):
        import torch

        self.pixels, self.labels = torch.tensor(pixels[:, None] / 255.0, dtype=torch.float32), labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.pixels[i], int(self.labels[i])


def test_a_torch_data_set_with_a_test_set_of_its_own():
    data = load_images(Pictures(PIXELS[:45], LABELS[:45]), test=Pictures(PIXELS[45:], LABELS[45:]))
    assert data.classes == ("ant", "bee", "cow")
    assert data.test.inputs.row_ids.tolist() == list(range(45, 60))
    assert np.array_equal(every(data)[0][:, 0], PIXELS)
    assert len(load_dataset(source=Pictures(PIXELS, LABELS)).train) == 29


@pytest.mark.parametrize(
    ("pixels", "labels", "says"),
    [
        (PIXELS.astype(float), LABELS, "type uint8"),
        (PIXELS / 300, LABELS, "type uint8"),
        (PIXELS.astype(np.int64) - 5, LABELS, "type uint8"),
        (PIXELS[:, 0], LABELS, "should have the shape"),
        (RNG.integers(0, 255, (60, 4, 4, 4), dtype=np.uint8), LABELS, "should have the shape"),
        (PIXELS, LABELS[:-1], "60 images need as many labels"),
        (PIXELS, np.where(LABELS == 0, -1, LABELS), "20 images of the images given have no label"),
        (PIXELS, np.where(LABELS == 0, np.nan, LABELS), "no label"),
        (PIXELS, LABELS + 0.5, "whole numbers or texts"),
        (PIXELS, np.zeros(60, dtype=int), "only the class '0'"),
        (PIXELS[:0], LABELS[:0], "should have the shape"),
    ],
)
def test_arrays_that_would_lose_something_are_refused(pixels, labels, says):
    with pytest.raises(DataError, match=says):
        load_images((pixels, labels))


def test_labels_may_be_texts_and_classes_may_be_named():
    texts = np.array(["猫", "a b", "<b>"])[LABELS]
    data = load_images((PIXELS, texts))
    assert data.classes == tuple(sorted(["猫", "a b", "<b>"]))
    named = load_images((PIXELS, LABELS), classes=["x", "y", "z"])
    assert (named.classes, every(named)[1].tolist()) == (("x", "y", "z"), LABELS.tolist())
    with pytest.raises(DataError, match="from 0 to 1"):
        load_images((PIXELS, LABELS), classes=["x", "y"])
    with pytest.raises(DataError, match="is a binary task"):
        load_images((PIXELS[LABELS < 2], LABELS[LABELS < 2]), task="multiclass")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"roles": {"id": ["a"]}}, "no roles"),
        ({"split": {"group": "a"}}, "cannot be split by group"),
        ({"split": {"tset": 0.3}}, "Did you mean 'test'"),
        ({"task": "regression"}, "multiclass task, not regression"),
        ({"limit": {"train": 0}}, "at least 1"),
    ],
)
def test_what_only_tables_have_is_refused(options, says):
    with pytest.raises(DataError, match=says):
        load_dataset(source=(PIXELS, LABELS), **options)


def test_what_only_images_have_is_refused_for_tables():
    with pytest.raises(DataError, match="size is for images"):
        load_dataset(source="wine", size=8)


def test_npz_files_and_their_parts(tmp_path):
    path = tmp_path / "some 图.npz"
    part = np.array(["train"] * 40 + ["test"] * 20)
    np.savez(path, pixels=PIXELS, labels=LABELS, classes=["x", "y", "z"], part=part)
    data = load_dataset(source="some 图.npz", base_dir=tmp_path)
    assert data.test.inputs.row_ids.tolist() == list(range(40, 60))
    assert data.classes == ("x", "y", "z")
    np.savez(path, pixel=PIXELS, labels=LABELS)
    with pytest.raises(DataError, match="Did you mean 'pixels'"):
        load_dataset(source=path)
    np.savez(path, pixels=PIXELS, labels=np.array([{}] * 60, dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        load_dataset(source=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read as NumPy arrays"):
        load_dataset(source=path)


# ── IDX ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────
def idx(array) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def idx_folder(tmp_path: Path, *, pack=gzip.compress, ending=".gz", labels=LABELS) -> Path:
    home = tmp_path / "idx"
    (home / "raw").mkdir(parents=True)
    for name, rows in (("train", slice(0, 45)), ("t10k", slice(45, 60))):
        (home / "raw" / f"{name}-images-idx3-ubyte{ending}").write_bytes(pack(idx(PIXELS[rows])))
        (home / "raw" / f"{name}-labels-idx1-ubyte{ending}").write_bytes(pack(idx(labels[rows])))
    return home


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, ".gz"), (bytes, "")], ids=["gzip", "plain"])
def test_idx_files_anywhere_in_a_folder(tmp_path, pack, ending):
    data = load_dataset(source=idx_folder(tmp_path, pack=pack, ending=ending))
    assert data.test.inputs.row_ids.tolist() == list(range(45, 60))
    pixels, labels = every(data)
    assert np.array_equal(pixels[:, 0], PIXELS)
    assert np.array_equal(labels, LABELS)


TRAIN_IMAGES = "raw/train-images-idx3-ubyte.gz"


def cut_inside(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content)[:-7])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda c: c[: len(c) // 2], "damaged or cut short"),
        (lambda c: c[:-5], "damaged or cut short"),
        (lambda c: c[:30] + b"\xff\xff\xff" + c[33:], "damaged or cut short|begin|promises"),
        (cut_inside, "promises 900 bytes"),
        (lambda c: gzip.compress(gzip.decompress(c) + b"\0"), "goes on after its end"),
        (lambda c: gzip.compress(b"PK\3\4" + bytes(100)), r"but with 50 4b 03 04"),
        (lambda c: gzip.compress(idx(LABELS)), r"00 00 08 01"),
        (lambda c: b"", "but with nothing"),
        (lambda c: gzip.compress(b"\0\0\x08\x03\0\0"), "cut short in its header"),
        (lambda c: gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**15, 2**15)), "more than the 4 GB"),
        (lambda c: gzip.compress(idx(PIXELS[:44])), "44 images .* 45 labels"),
    ],
    ids=["half", "end", "flipped", "rows", "more", "zip", "labels", "empty", "header", "huge", "fewer"],
)
def test_damaged_idx_files_are_one_sentence(tmp_path, spoil, says):
    home = idx_folder(tmp_path)
    (home / TRAIN_IMAGES).write_bytes(spoil((home / TRAIN_IMAGES).read_bytes()))
    with pytest.raises(DataError, match=says) as caught:
        load_dataset(source=home)
    assert "train-images-idx3-ubyte.gz" in str(caught.value) or "more than the 4 GB" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_idx_folders_that_lack_a_file_or_hold_two_sets(tmp_path):
    home = idx_folder(tmp_path)
    (home / "raw" / "t10k-labels-idx1-ubyte.gz").rename(home / "raw" / "kept")
    with pytest.raises(DataError, match="lacks the labels of the test part"):
        load_dataset(source=home)
    (home / "raw" / "kept").rename(home / "t10k-labels-idx1-ubyte.gz")
    assert len(load_dataset(source=home).test) == 15
    (home / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    with pytest.raises(DataError, match=r"holds train-images-idx3-ubyte and raw/train-images-idx3-ubyte\.gz; keep one"):
        load_dataset(source=home)


def test_fashion_mnist_is_found_in_the_systems_folder_or_its_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "other"))
    with pytest.raises(DataError, match="dataset-fashion-mnist"):
        load_dataset(source="fashion-mnist")
    (tmp_path / "datasets").mkdir()
    idx_folder(tmp_path, labels=np.arange(60) % 10).rename(tmp_path / "datasets" / "fashion-mnist")
    data = load_dataset(source="fashion-mnist", limit={"train": 20})
    assert (data.classes[:2], len(data.classes), len(data.train)) == (("T-shirt/top", "trouser"), 10, 20)


def test_the_hash_of_a_folder_sees_names_and_bytes_but_no_hidden_files(tmp_path):
    home = idx_folder(tmp_path)
    before = folder_hash(home)
    (home / ".hidden").write_text("x")
    assert folder_hash(home) == before
    (home / "raw" / "new").write_bytes(b"")
    assert folder_hash(home) != before


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("digits", True),
        ("wine", False),
        ("a.npz", True),
        ("a.csv", False),
        ("folder/", True),
        ("./folder", True),
        ("m:f", False),
    ],
)
def test_which_texts_can_only_be_images(text, image):
    assert is_image_text(text) == image

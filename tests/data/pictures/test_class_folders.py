"""A folder a class: what is read is what Pillow reads; what cannot be read is one sentence."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from distillens.data.load import load_dataset
from distillens.data.saved import read_dataset, save_dataset
from distillens.errors import DataError, MissingExtraError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def folder(tmp_path: Path, *, classes=("cat", "dog"), n=8, size=(6, 5), colour=False, below="") -> Path:
    home = tmp_path / "pictures"
    for name in classes:
        place = home / below / name
        place.mkdir(parents=True, exist_ok=True)
        for i in range(n):
            shape = (*size, 3) if colour else size
            Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{i:02}.png")
    return home


def every(dataset):
    """Pixels and labels by row id."""
    splits = (dataset.train, dataset.validation, dataset.test)
    ids = np.concatenate([s.inputs.row_ids for s in splits])
    order = np.argsort(ids)
    assert np.array_equal(ids[order], np.arange(len(ids)))
    pixels = np.concatenate([s.inputs.pixels for s in splits])[order]
    return pixels, np.concatenate([s.labels for s in splits])[order]


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_pixels_are_those_that_pillow_reads_in_the_order_of_names(tmp_path, colour):
    home = folder(tmp_path, colour=colour)
    pixels, labels = every(load_dataset(source=home))
    files = sorted(home.glob("*/*.png"))
    assert labels.tolist() == [["cat", "dog"].index(f.parent.name) for f in files]
    for found, file in zip(pixels, files, strict=True):
        wanted = np.asarray(Image.open(file))
        assert np.array_equal(found.transpose(1, 2, 0) if colour else found[0], wanted)


def test_names_are_anybodys_text_and_survive_saving(tmp_path):
    classes = ("猫 猫", "<script>alert(1)</script> 'x' \"y\"".replace("/", "∕"), "a b")
    home = folder(tmp_path, classes=classes)
    (home / "a b" / "00.png").rename(home / "a b" / "'q' <b> 图.png")
    data = load_dataset(source=home)
    assert data.classes == tuple(sorted(classes))
    assert data.task == "multiclass"
    save_dataset(data, tmp_path / "saved")
    again = read_dataset(tmp_path / "saved")
    assert again.fingerprint == data.fingerprint
    assert np.array_equal(again.train.inputs.pixels, data.train.inputs.pixels)


def test_one_pixel_and_one_label_change_the_fingerprint(tmp_path):
    home = folder(tmp_path)
    before = load_dataset(source=home).fingerprint
    assert load_dataset(source=home).fingerprint == before
    file = home / "dog" / "03.png"
    pixels = np.array(Image.open(file))
    pixels[2, 2] ^= 1
    Image.fromarray(pixels).save(file)
    assert load_dataset(source=home).fingerprint != before


def test_grey_pictures_saved_in_colour_are_grey_and_one_coloured_pixel_makes_all_colour(tmp_path):
    home = folder(tmp_path)
    grey = every(load_dataset(source=home))[0]
    for file in home.glob("*/*.png"):
        Image.open(file).convert("RGB").save(file)
    assert np.array_equal(every(load_dataset(source=home))[0], grey)
    pixels = np.array(Image.open(home / "cat" / "00.png"))
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(home / "cat" / "00.png")
    coloured = every(load_dataset(source=home))[0]
    assert coloured.shape[1] == 3
    assert np.array_equal(coloured[1:], np.repeat(grey[1:], 3, axis=1))


def test_mixed_sizes_take_the_commonest_and_say_how_many(tmp_path):
    home = folder(tmp_path, size=(6, 6))
    whole = RNG.integers(0, 256, (12, 12), dtype=np.uint8)
    Image.fromarray(whole).save(home / "cat" / "00.png")
    Image.fromarray(RNG.integers(0, 256, (6, 20), dtype=np.uint8)).save(home / "cat" / "01.png")
    data = load_dataset(source=home)
    pixels, _ = every(data)
    assert pixels.shape[2:] == (6, 6)
    wanted = np.asarray(Image.fromarray(whole).resize((6, 6), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels[0, 0], wanted)
    wide = np.asarray(Image.open(home / "cat" / "01.png"))
    assert np.array_equal(pixels[1, 0], wide[:, 7:13])  # the middle; nothing is squeezed
    (found,) = [f for f in data.findings if f.kind == "resized"]
    assert dict(found.values) == {"rows": 2, "n": 16, "height": 6, "width": 6, "cropped": 1}
    assert found.severity == "warning"


def test_a_size_asked_for_is_the_size_of_all(tmp_path):
    home = folder(tmp_path)
    assert load_dataset(source=home, size=4).train.inputs.shape == (1, 4, 4)
    assert load_dataset(source=home, size=[3, 7]).train.inputs.shape == (1, 3, 7)
    for size in (0, True, 2.5, [1, 2, 3], 10**6):
        with pytest.raises(DataError, match="size is a number of pixels"):
            load_dataset(source=home, size=size)


def test_folders_train_and_test_are_what_they_say_and_validation_is_drawn(tmp_path):
    folder(tmp_path, n=10, below="train")
    home = folder(tmp_path, n=5, below="test")
    data = load_dataset(source=home)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 6, 10)
    assert data.test.inputs.row_ids.tolist() == list(range(20, 30))
    with pytest.raises(DataError, match=r"leave out split\.test"):
        load_dataset(source=home, split={"test": 0.3})
    (home / "test").rename(home / "val")
    with pytest.raises(DataError, match="no folder test"):
        load_dataset(source=home)


def test_hidden_files_are_skipped_others_counted_and_links_followed(tmp_path):
    home = folder(tmp_path)
    before = every(load_dataset(source=home))[0]
    (home / "cat" / ".DS_Store").write_bytes(b"x")
    (home / "cat" / "._00.png").write_bytes(b"x")
    (home / ".cache").mkdir()
    (home / "dog" / "notes.txt").write_text("x")
    target = tmp_path / "elsewhere.png"
    (home / "dog" / "07.png").rename(target)
    (home / "dog" / "07.png").symlink_to(target)
    data = load_dataset(source=home)
    assert np.array_equal(every(data)[0], before)
    assert [f.values["rows"] for f in data.findings if f.kind == "not_images"] == [1]
    target.unlink()
    with pytest.raises(DataError, match=r"dog/07\.png cannot be read"):
        load_dataset(source=home)


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not a picture", "cannot be read as a picture"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read as a picture"),
        (huge_png(9_000, 9_000), "at most 50,000,000"),
        (huge_png(90_000, 90_000), "50,000,000"),
    ],
    ids=["nothing", "text", "a head alone", "large", "a bomb"],
)
def test_a_broken_file_is_one_sentence_with_its_name(tmp_path, content, says):
    home = folder(tmp_path)
    (home / "cat" / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        load_dataset(source=home)
    assert str(caught.value).startswith("cat/broken.png ")
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_deep_pixels_and_animations_are_refused(tmp_path):
    home = folder(tmp_path, size=(40, 40))
    bad = home / "cat" / "bad.png"
    bad.write_bytes((home / "cat" / "00.png").read_bytes()[:600])
    with pytest.raises(DataError, match=r"cat/bad\.png cannot be read"):
        load_dataset(source=home)
    Image.fromarray(np.full((40, 40), 60_000, dtype=np.uint16)).save(bad)
    with pytest.raises(DataError, match="more than 8 bits"):
        load_dataset(source=home)
    bad.unlink()
    frames = [Image.fromarray(np.full((40, 40), 100 * i, dtype=np.uint8)) for i in range(2)]
    frames[0].save(home / "cat" / "bad.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 2 pictures"):
        load_dataset(source=home)


def test_transparent_pixels_are_put_on_white_and_turned_pictures_upright(tmp_path):
    home = folder(tmp_path, size=(6, 6))
    glass = np.zeros((6, 6, 4), dtype=np.uint8)
    glass[3:, :, 3] = 255
    Image.fromarray(glass).save(home / "cat" / "00.png")
    upright = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(upright).save(home / "cat" / "01.png", exif=exif)
    data = load_dataset(source=home)
    pixels, _ = every(data)
    assert (pixels[0, 0, :3] == 255).all()
    assert (pixels[0, 0, 3:] == 0).all()
    assert np.array_equal(pixels[1, 0], upright[::-1, ::-1])
    assert [f.values["rows"] for f in data.findings if f.kind == "transparent"] == [1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda h: (h / "unlabelled").mkdir() or (h / "cat" / "00.png").rename(h / "unlabelled" / "a.png"), "no label"),
        (lambda h: (h / "cat" / "00.png").rename(h / "00.png"), "beside the class folders"),
        (lambda h: (h / "cat" / "inner").mkdir(), "inside a class folder"),
        (lambda h: [p.unlink() for p in (h / "dog").iterdir()], "only the class 'cat'"),
        (lambda h: [p.unlink() for p in sorted((h / "dog").iterdir())[1:]], "'dog' has 1 row"),
        (lambda h: [p.unlink() for p in h.glob("*/*")], "holds no images"),
    ],
    ids=["unlabelled", "beside", "nested", "one class", "one image", "none"],
)
def test_what_is_no_class_folder_is_one_sentence(tmp_path, spoil, says):
    home = folder(tmp_path, n=12)
    spoil(home)
    with pytest.raises(DataError, match=says):
        load_dataset(source=home)


def test_a_limit_keeps_row_ids_and_reads_only_what_it_keeps(tmp_path):
    home = folder(tmp_path, n=20)
    whole = load_dataset(source=home)
    some = load_dataset(source=home, limit={"train": 8, "test": 4})
    assert (len(some.train), len(some.validation), len(some.test)) == (8, len(whole.validation), 4)
    assert set(some.train.inputs.row_ids) < set(whole.train.inputs.row_ids)
    assert "8 of 20 train rows, 4 of 12 test rows drawn by class" in some.source
    gone = sorted(set(whole.train.inputs.row_ids) - set(some.train.inputs.row_ids))[0]
    file = sorted(home.glob("*/*.png"))[gone]
    file.write_bytes(b"broken")
    assert load_dataset(source=home, limit={"train": 8, "test": 4}).fingerprint == some.fingerprint
    with pytest.raises(DataError, match="Did you mean 'train'"):
        load_dataset(source=home, limit={"trian": 8})
    with pytest.raises(DataError, match="less than one row for each"):
        load_dataset(source=home, limit={"train": 1})


def test_the_same_picture_in_two_splits_with_two_labels_or_of_one_colour_is_found(tmp_path):
    home = folder(tmp_path, n=12)
    same = np.arange(30, dtype=np.uint8).reshape(6, 5)
    for file in [*sorted((home / "cat").iterdir())[:10], home / "dog" / "00.png"]:
        Image.fromarray(same).save(file)
    Image.fromarray(np.full((6, 5), 9, dtype=np.uint8)).save(home / "dog" / "05.png")
    data = load_dataset(source=home)
    found = {(f.kind, f.values.get("part")): f.values["rows"] for f in data.findings}
    hashes = {name: getattr(data, name).inputs.hashes for name in ("train", "validation", "test")}
    known = set(hashes["train"]) | set(hashes["validation"])
    assert found["duplicate_images", "test"] == sum(h in known for h in hashes["test"]) > 0
    assert found["contradicted_images", None] == 11
    assert found["constant_images", None] == 1


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    home = folder(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"distillens\[vision\]"):
        load_dataset(source=home)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable for an administrator")
def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path):
    home = folder(tmp_path)
    (home / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read"):
            load_dataset(source=home)
    finally:
        (home / "cat").chmod(0o755)

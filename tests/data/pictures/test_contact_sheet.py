"""The contact sheet: PNG files that another decoder reads back to the same pixels."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest

from distillens.data.pictures.load import load_images
from distillens.data.pictures.sheet import GAP, contact_sheet, png
from distillens.data.saved import dataset_summary

RNG = np.random.default_rng(0)


def decoded(data: bytes) -> np.ndarray:
    """(C, H, W) of a PNG without filters, chunk by chunk, checksums looked at."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    channels = {0: 1, 2: 3}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels).transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_read_back(channels):
    picture = RNG.integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    assert np.array_equal(decoded(png(picture)), picture)


def test_pillow_reads_it_too():
    image = pytest.importorskip("PIL.Image")
    picture = RNG.integers(0, 256, (3, 5, 7), dtype=np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(png(picture)))), picture.transpose(1, 2, 0))


def test_each_class_shows_its_first_training_images():
    pixels = RNG.integers(0, 256, (60, 6, 5), dtype=np.uint8)
    data = load_images((pixels, np.arange(60) % 2), classes=["<b>", "猫"])
    strips = contact_sheet(data)
    assert [(s["class"], s["count"]) for s in strips] == [("<b>", 8), ("猫", 8)]
    for k, strip in enumerate(strips):
        shown = decoded(base64.b64decode(strip["png"]))
        ids = sorted(data.train.inputs.row_ids[data.train.labels == k])[:8]
        for i, row in enumerate(ids):
            assert np.array_equal(shown[0, :, i * (5 + GAP) : i * (5 + GAP) + 5], pixels[row])
    assert dataset_summary(data)["images"] == {"channels": 1, "height": 6, "width": 5, "sheet": strips}


def test_large_images_are_averaged_down():
    pixels = np.kron(RNG.integers(0, 256, (20, 40, 30), dtype=np.uint8), np.ones((1, 3, 3), dtype=np.uint8))
    data = load_images((pixels, np.arange(20) % 2))
    shown = decoded(base64.b64decode(contact_sheet(data)[0]["png"]))
    row = sorted(data.train.inputs.row_ids[data.train.labels == 0])[0]
    assert np.array_equal(shown[0, :, :30], pixels[row, ::3, ::3])

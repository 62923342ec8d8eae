"""Images, and views of them that depend on (seed, row, view) alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from distillens.data.images import Images
from distillens.data.views import Augmentation, uniforms
from distillens.errors import DataError, InputError

EVERYTHING = Augmentation(crop=3, flip=True, colour=0.3, erase=0.5)


def images(n: int = 12, *, channels: int = 3, size: int = 16) -> Images:
    rng = np.random.default_rng(0)
    return Images(rng.integers(1, 256, (n, channels, size, size), dtype=np.uint8), np.arange(100, 100 + n))


def test_images_are_taken_with_their_row_ids() -> None:
    whole = images()
    some = whole.take([3, 1])
    assert (len(some), some.shape) == (2, (3, 16, 16))
    assert some.row_ids.tolist() == [103, 101]
    assert np.array_equal(some.pixels[0], whole.pixels[3])
    assert len(whole.take([])) == 0
    assert len(whole.take(whole.row_ids > 108)) == 3


def test_hashes_are_of_pixels_alone() -> None:
    whole = images()
    moved = Images(whole.pixels[::-1].copy(), whole.row_ids)
    assert np.array_equal(moved.hashes[::-1], whole.hashes)
    changed = whole.pixels.copy()
    changed[4, 2, 15, 15] ^= 1
    assert np.flatnonzero(Images(changed, whole.row_ids).hashes != whole.hashes).tolist() == [4]


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)],
    ids=["floats", "three axes", "channels last"],
)
def test_other_pixels_are_refused(pixels: Any) -> None:
    with pytest.raises(DataError, match="uint8 and shape"):
        Images(pixels, np.arange(2))


@pytest.mark.parametrize(
    "augment",
    [EVERYTHING, Augmentation(crop=2), Augmentation(flip=True), Augmentation(colour=0.5), Augmentation(erase=1.0)],
    ids=["everything", "crop", "flip", "colour", "erase"],
)
def test_a_view_is_a_function_of_seed_row_and_view(augment: Augmentation) -> None:
    whole = images(40)
    shown = augment(whole.pixels, whole.row_ids, view=5, seed=7)
    order = np.random.default_rng(1).permutation(40)
    permuted = augment(whole.pixels[order], whole.row_ids[order], view=5, seed=7)
    assert np.array_equal(permuted, shown[order])
    alone = np.concatenate(
        [augment(whole.pixels[i : i + 1], whole.row_ids[i : i + 1], view=5, seed=7) for i in range(40)]
    )
    assert np.array_equal(alone, shown)
    assert shown.dtype == np.uint8
    assert shown.shape == whole.pixels.shape
    for other in ({"view": 6, "seed": 7}, {"view": 5, "seed": 8}):
        assert not np.array_equal(augment(whole.pixels, whole.row_ids, **other), shown)
    assert not np.array_equal(augment(whole.pixels, whole.row_ids + 1, view=5, seed=7), shown)


def test_nothing_changes_by_default_and_the_image_itself_never_does() -> None:
    whole = images()
    before = whole.pixels.copy()
    assert np.array_equal(Augmentation()(whole.pixels, whole.row_ids, view=3, seed=0), before)
    EVERYTHING(whole.pixels, whole.row_ids, view=3, seed=0)
    assert np.array_equal(whole.pixels, before)


def test_crops_are_all_windows_equally_often() -> None:
    pixels = np.zeros((3600, 1, 8, 8), np.uint8)
    pixels[:, 0, 4, 4] = 255
    shown = Augmentation(crop=1)(pixels, np.arange(3600), view=0, seed=0)
    places = np.argwhere(shown[:, 0] == 255)[:, 1:]
    counts = np.unique(places, axis=0, return_counts=True)
    assert counts[0].tolist() == [[i, j] for i in (3, 4, 5) for j in (3, 4, 5)]
    assert stats.chisquare(counts[1]).pvalue > 1e-3


def test_flips_happen_in_half_of_the_views_and_mirror_left_and_right() -> None:
    pixels = np.zeros((2000, 1, 2, 5), np.uint8)
    pixels[:, :, :, 0] = 9
    shown = Augmentation(flip=True)(pixels, np.arange(2000), view=0, seed=0)
    flipped = shown[:, 0, 0, 4] == 9
    assert np.array_equal(shown[flipped], pixels[flipped][..., ::-1])
    assert np.array_equal(shown[~flipped], pixels[~flipped])
    assert stats.binomtest(int(flipped.sum()), 2000).pvalue > 1e-3


def test_colours_stay_within_their_factors() -> None:
    pixels = np.full((500, 3, 4, 4), 100, np.uint8)  # of one grey: contrast changes nothing
    shown = Augmentation(colour=0.2)(pixels, np.arange(500), view=0, seed=0)
    factors = shown[:, 0, 0, 0] / 100
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2
    dark = Augmentation(colour=1.0)(np.full((50, 1, 2, 2), 250, np.uint8), np.arange(50), view=0, seed=0)
    assert dark.max() == 255  # clipped, not wrapped


def test_erased_is_a_rectangle_of_the_mean_colour() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 100, (300, 1, 20, 20), dtype=np.uint8) * 2 + 50  # even numbers
    pixels[:, :, 0, 0] += np.uint8(1)
    augment = Augmentation(erase=0.5)
    shown = augment(pixels, np.arange(300), view=0, seed=0)
    changed = (shown != pixels)[:, 0]
    erased = changed.any(axis=(1, 2))
    assert stats.binomtest(int(erased.sum()), 300).pvalue > 1e-3
    for i in np.flatnonzero(erased):
        rows, columns = np.flatnonzero(changed[i].any(axis=1)), np.flatnonzero(changed[i].any(axis=0))
        box = shown[i, 0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.unique(box).tolist() == [round(float(pixels[i].mean()))]
        assert box.size <= 0.2 * 400 * 1.3


def test_uniforms_are_uniform_and_independent() -> None:
    drawn = uniforms(3, np.arange(5000), 2, 4)
    for j in range(4):
        assert stats.kstest(drawn[:, j], "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06
    neighbours = uniforms(3, np.arange(5000), 3, 4)
    assert abs(np.corrcoef(drawn[:, 0], neighbours[:, 0])[0, 1]) < 0.06
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.06
    assert np.array_equal(uniforms(3, np.arange(5), 2, 1, first=3)[:, 0], drawn[:5, 3])


def test_epochs_go_round_the_views() -> None:
    assert [Augmentation(flip=True, views=3).view_of(epoch) for epoch in range(5)] == [0, 1, 2, 0, 1]
    assert [Augmentation(flip=True).view_of(epoch) for epoch in range(3)] == [0, 1, 2]
    assert [Augmentation().view_of(epoch) for epoch in range(3)] == [0, 0, 0]


def test_the_fingerprint_is_of_what_views_show() -> None:
    assert Augmentation(crop=2).fingerprint(0) != Augmentation(crop=2).fingerprint(1)
    assert Augmentation(crop=2).fingerprint(0) != Augmentation(crop=3).fingerprint(0)
    assert Augmentation(crop=2, views=4).fingerprint(0) == Augmentation(crop=2).fingerprint(0)
    assert Augmentation().fingerprint(0) == Augmentation().fingerprint(1)


@pytest.mark.parametrize("wrong", [{"crop": -1}, {"colour": 2.0}, {"erase": -0.1}, {"views": 1.5}, {"crop": True}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)

"""Images explained by their patches: the same methods as for tables, and values that can be written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from distillens.audit.audit import audit
from distillens.data.base import Column, Table
from distillens.data.images import Images
from distillens.errors import InputError
from distillens.explainers.explain import explain
from distillens.explainers.masking import masked_means
from distillens.models.base import Output
from distillens.models.patched import as_patches


def images(n: int, *, size: int = 8, seed: int = 0, channels: int = 1) -> Images:
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8), np.arange(n) + 100 * seed)


@dataclass
class Bright:
    """Log-odds of class 1: a weighted sum of pixels; additive over patches, so that Shapley values are known."""

    weights: Any
    label: str = "bright"
    classes: tuple[str, ...] = ("dark", "bright")
    output: Output = "logits"
    fingerprint: str | None = "bright"

    def __call__(self, inputs: Images) -> Any:
        score = (inputs.pixels / 255 * self.weights).sum(axis=(1, 2, 3))
        return np.stack([-score / 2, score / 2], axis=1)


def bright(*, size: int = 8, channels: int = 1, seed: int = 5) -> Bright:
    return Bright(np.random.default_rng(seed).normal(size=(channels, size, size)))


def test_patches_tile_the_image() -> None:
    shown = images(2, size=28)
    assert (shown.patch, len(shown.columns), shown.names[0], shown.names[-1]) == (
        4,
        49,
        "row 1 column 1",
        "row 7 column 7",
    )
    counts = np.bincount(shown.patch_of_pixel.reshape(-1))
    assert counts.tolist() == [16] * 49
    odd = Images(np.zeros((1, 3, 10, 9), np.uint8), np.zeros(1, np.int64))
    assert odd.patch == 2
    assert len(odd.columns) == 25
    assert set(np.unique(odd.patch_of_pixel)) == set(range(25))


def test_a_mixture_is_put_together_from_the_pictures_named() -> None:
    rows, background = images(3, channels=3), images(4, channels=3, seed=1)
    seen: list[Images] = []

    class Spy(Bright):
        def __call__(self, inputs: Images) -> Any:
            seen.append(inputs)
            return super().__call__(inputs)

    patched, table, other = as_patches(Spy(np.ones((3, 8, 8))), rows, background)
    assert other is not None
    np.testing.assert_allclose(patched(table), Bright(np.ones((3, 8, 8)))(rows))
    mixed = table.values[:1].copy()
    mixed[0, 5] = other.values[2, 5]
    patched(table.with_values(mixed))
    inside = rows.patch_of_pixel == 5
    assert np.array_equal(seen[-1].pixels[0][:, inside], background.pixels[2][:, inside])
    assert np.array_equal(seen[-1].pixels[0][:, ~inside], rows.pixels[0][:, ~inside])


@pytest.mark.parametrize("method", ["kernel_shap", "permutation_shap"])
def test_shapley_values_of_an_additive_image_model_are_sums_over_the_patch(method: str) -> None:
    model, rows, background = bright(channels=3), images(4, channels=3), images(9, channels=3, seed=1)
    made = explain(model, rows, method=method, target=1, background=background, seed=0)
    above = (rows.pixels / 255 - background.pixels.mean(axis=0) / 255) * model.weights
    expected = np.stack(
        [above[:, :, rows.patch_of_pixel == j].sum(axis=(1, 2)) for j in range(len(rows.columns))], axis=1
    )
    np.testing.assert_allclose(made.values, expected, atol=1e-6 if method == "permutation_shap" else 1e-3)
    assert made.units == rows.names
    assert np.array_equal(made.row_ids, rows.row_ids)
    assert np.array_equal(made.background_ids, background.row_ids)
    assert np.abs(made.residual).max() < 1e-9


def test_masked_means_replace_patches_by_those_of_the_background() -> None:
    model, rows, background = bright(), images(2), images(5, seed=1)
    masks = np.array([[True] * 16, [False] * 16, [j != 3 for j in range(16)]])
    means = masked_means(model, rows, masks, background=background, target=1)
    np.testing.assert_allclose(means[:, 0], model(rows)[:, 1] * 2)
    np.testing.assert_allclose(means[:, 1], (model(background)[:, 1] * 2).mean())
    assert not np.allclose(means[:, 2], means[:, 0])


def test_methods_for_tables_say_so() -> None:
    model, rows = bright(), images(3)
    with pytest.raises(InputError, match="'lime' works on tables"):
        explain(model, rows, method="lime", target=1, background=images(5, seed=1))
    with pytest.raises(InputError, match="needs images as background"):
        explain(
            model,
            rows,
            method="kernel_shap",
            target=1,
            background=Table(np.zeros((2, 1)), (Column("a"),), np.arange(2)),
        )


def test_two_image_models_are_audited_as_any_others() -> None:
    rows, background = images(60), images(20, seed=1)
    teacher, other = bright(), bright(seed=6)
    labels = (teacher(rows)[:, 1] > 0).astype(np.int64)
    same = audit(
        teacher,
        teacher,
        rows,
        labels,
        background=background,
        explainers=("permutation_shap",),
        max_explained=12,
        draws=200,
    )
    by_name = {m.name: m for m in same.metrics}
    assert by_name["agreement"].estimate.value == 1.0
    assert by_name["top_k_overlap"].estimate.value == 4.0 or by_name["top_k_overlap"].estimate.value == 1.0
    assert by_name["mask_correlation"].estimate.value == pytest.approx(1.0)
    assert by_name["deletion_ratio"].estimate.value == pytest.approx(1.0)
    assert same.reasons is not None
    assert "brightness" in same.reasons["worst_rows"][0]["items"][0]["value"]
    differs = audit(
        teacher,
        other,
        rows,
        labels,
        background=background,
        explainers=("permutation_shap",),
        max_explained=12,
        draws=200,
    )
    wrong = {m.name: m for m in differs.metrics}
    assert wrong["agreement"].estimate.value < 0.8
    assert wrong["mask_correlation"].estimate.value < 0.6
    assert differs.verdict != "pass"

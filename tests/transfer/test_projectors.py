"""Projectors between layers of every kind, against loops and against each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from distillens.errors import InputError
from distillens.transfer.layers.projectors import (
    AttentionPool,
    ResizedConvolution,
    grid_of,
    projector,
    resize,
    tokens_to_maps,
)

SHAPES = [(5,), (1,), (4, 6), (5, 6), (7, 3), (1, 4), (3, 4, 4), (2, 1, 1), (6, 5, 3), (4, 2, 7)]
POSSIBLE = [
    (s, t) for s, t in itertools.product(SHAPES, SHAPES) if len(s) > 1 or len(t) == 1 or t in {(1, 4), (2, 1, 1)}
]


@pytest.mark.parametrize(("student", "teacher"), POSSIBLE, ids=str)
def test_every_pair_of_kinds_meets_and_learns(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = projector(student, teacher)
    for rows in (3, 1):
        features = torch.randn(rows, *student, requires_grad=True)
        out = module(features)
        assert out.shape == (rows, *teacher)
        (out * torch.randn_like(out)).sum().backward()
        assert features.grad is not None
        assert features.grad.isfinite().all()
    positions = math.prod(student[:1] if len(student) == 2 else student[1:])
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if positions > 1 or not name.endswith(("queries", "key.weight")):  # one position needs no attention
            assert parameter.grad.any(), name


@pytest.mark.parametrize(("student", "teacher"), POSSIBLE[::3], ids=str)
def test_the_same_seed_makes_the_same_projector_and_rows_do_not_mix(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    torch.manual_seed(3)
    one = projector(student, teacher)
    torch.manual_seed(3)
    two = projector(student, teacher)
    rows = torch.randn(4, *student)
    assert torch.equal(one(rows), two(rows))
    torch.testing.assert_close(one(rows)[2:3], one(rows[2:3]))


def test_bfloat16_is_projected_in_float32_also_inside_autocast() -> None:
    for student, teacher in [((5,), (3,)), ((3, 4, 4), (2, 2, 2)), ((5, 6), (3, 4, 4)), ((3, 4, 4), (5, 6))]:
        module = projector(student, teacher)
        rows = torch.randn(2, *student)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = module(rows)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, module(rows))
        assert module(rows.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (), (0,), (3, 0, 2)])
def test_impossible_shapes_are_one_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"no positions|shape \(D,\)"):
        projector((4,), shape)


def test_grids_of_tokens() -> None:
    assert grid_of((196, 8)) == grid_of((197, 8)) == (14, 14)
    assert grid_of((198, 8)) is None
    assert grid_of((8, 3, 5)) == (3, 5)
    assert grid_of((8,)) is None
    tokens = torch.arange(10.0).reshape(1, 5, 2)
    assert tokens_to_maps(tokens).tolist() == [[[[2, 4], [6, 8]], [[3, 5], [7, 9]]]]
    assert torch.equal(tokens_to_maps(tokens[:, 1:]), tokens_to_maps(tokens))
    with pytest.raises(InputError, match="7 tokens are no square grid"):
        tokens_to_maps(torch.zeros(1, 7, 2))


def test_resizing_averages_where_it_shrinks_and_interpolates_where_it_grows() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resize(maps, (2, 2)).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    grown = resize(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    assert grown.tolist() == [[[[0.0, 0.25, 0.75, 1.0]]]]
    assert resize(maps, (2, 8)).shape == (1, 1, 2, 8)
    assert torch.equal(resize(maps, (4, 4)), maps)


def test_the_convolution_is_one_linear_map_for_every_position() -> None:
    module = ResizedConvolution(3, 2, (4, 4))
    maps = torch.randn(2, 3, 4, 4)
    w, b = (p.detach().double().numpy() for p in module.parameters())
    expected = np.einsum("oc,bchw->bohw", w[:, :, 0, 0], maps.double().numpy()) + b[:, None, None]
    np.testing.assert_allclose(module(maps).detach().numpy(), expected, atol=1e-5)
    for grid in ((2, 2), (7, 9), (3, 6)):
        module.grid = grid
        torch.testing.assert_close(module(maps), resize(module.convolution(maps), grid))


def test_attention_pooling_by_loops() -> None:
    module = AttentionPool(4, 3, 2)
    with torch.no_grad():
        module.queries.mul_(50)  # far from plain averaging
    tokens = torch.randn(2, 5, 4)
    q, k, v, bias = (p.detach().double().numpy() for p in module.parameters())
    x, expected = tokens.double().numpy(), np.zeros((2, 2, 3))
    for row, position in itertools.product(range(2), range(2)):
        scores = np.array([q[position] @ (k @ x[row, t]) / 2 for t in range(5)])
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        expected[row, position] = sum(shares[t] * (v @ x[row, t] + bias) for t in range(5))
    np.testing.assert_allclose(module(tokens).detach().numpy(), expected, atol=1e-5)


def test_patches_of_a_transformer_and_pixels_of_a_map_keep_their_places() -> None:
    module = projector((1, 3, 3), (10, 1))  # one channel, nine patches behind a class token
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    tokens = module(torch.arange(9.0).reshape(1, 1, 3, 3))[0, :, 0]
    assert tokens[1:].tolist() == list(range(9))

"""Networks for images: sizes known from the literature, shapes, names of layers, seeds, and entries of recipes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from distillens.errors import InputError
from distillens.models.capture import dry_run, list_taps
from distillens.models.nets.base import IMAGE_NETS, as_image_net, initialised

SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"kind": "cnn", "channels": [4, 8, 12], "activation": "softplus"},
    "resnet": {"kind": "resnet", "depth": 8},
    "wide_resnet": {"kind": "wide_resnet", "depth": 10, "width": 1},
    "mobilenet_v2": {"kind": "mobilenet_v2", "width": 0.25},
    "vit": {"kind": "vit", "patch": 4, "width": 24, "depth": 2, "heads": 3},
}


def size(entry: dict[str, Any], shape: tuple[int, int, int] = (3, 32, 32), classes: int = 100) -> int:
    return sum(p.numel() for p in initialised(as_image_net(entry), shape, classes).parameters())


def x(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Millions of parameters with 100 classes, as tables of the literature on distillation give them (He et al. 2016 for 10 classes:
# 0.27, 0.46, 0.66, 0.85, 1.7; Zagoruyko and Komodakis 2016: WRN-40-1 0.6, WRN-40-2 2.2, WRN-28-10 36.5).
PUBLISHED = [
    ({"kind": "resnet", "depth": 8}, 0.08),
    ({"kind": "resnet", "depth": 14}, 0.18),
    ({"kind": "resnet", "depth": 20}, 0.28),
    ({"kind": "resnet", "depth": 32}, 0.47),
    ({"kind": "resnet", "depth": 44}, 0.67),
    ({"kind": "resnet", "depth": 56}, 0.86),
    ({"kind": "resnet", "depth": 110}, 1.74),
    ({"kind": "resnet", "depth": 8, "width": 4}, 1.23),
    ({"kind": "resnet", "depth": 32, "width": 4}, 7.43),
    ({"kind": "wide_resnet", "depth": 16, "width": 1}, 0.18),
    ({"kind": "wide_resnet", "depth": 16, "width": 2}, 0.70),
    ({"kind": "wide_resnet", "depth": 40, "width": 1}, 0.57),
    ({"kind": "wide_resnet", "depth": 40, "width": 2}, 2.26),
    ({"kind": "mobilenet_v2", "width": 0.5}, 0.81),
]


@pytest.mark.parametrize(
    ("entry", "millions"), PUBLISHED, ids=lambda v: "-".join(map(str, v.values())) if isinstance(v, dict) else None
)
def test_networks_have_the_published_sizes(entry: dict[str, Any], millions: float) -> None:
    assert round(size(entry) / 1e6, 2) == millions


def test_deit_tiny_has_its_published_size() -> None:
    assert size({"kind": "vit", "patch": 16, "width": 192, "depth": 12, "heads": 3}, (3, 224, 224), 1000) == 5_717_416


@pytest.mark.parametrize("kind", sorted(SMALL))
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 20, 36)])
def test_any_channels_and_sizes_give_one_row_of_logits_an_image(kind: str, shape: tuple[int, int, int]) -> None:
    module = initialised(as_image_net(SMALL[kind]), shape, 7)
    assert not module.training
    with torch.no_grad():
        outputs = module(x(5, *shape))
    assert outputs.shape == (5, 7)
    torch.testing.assert_close(
        module(x(5, *shape)[2:3]).detach(), outputs[2:3], rtol=1e-4, atol=1e-5
    )  # rows do not mix
    assert float((outputs[0] - outputs[1]).abs().max()) > 1e-4
    module.train()
    module(x(5, *shape)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_weights_depend_on_the_seed_alone_and_leave_the_generator(kind: str) -> None:
    net = as_image_net(SMALL[kind])
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = initialised(net, (3, 32, 32), 4, seed=1).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    again = initialised(net, (3, 32, 32), 4, seed=1).state_dict()
    other = initialised(net, (3, 32, 32), 4, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_names_of_layers_are_those_of_the_documentation() -> None:
    resnet = initialised(as_image_net({"kind": "resnet", "depth": 14, "width": 2}), (3, 32, 32), 10)
    assert dry_run(resnet, x(2, 3, 32, 32), ["stem:output", "stages.0:output", "stages.1:output", "stages.2:output",
                                             "stages.2.1.act2:input", "pool:output", "features", "classifier:output"]) == {
        "stem:output": (16, 32, 32), "stages.0:output": (32, 32, 32), "stages.1:output": (64, 16, 16), "stages.2:output": (128, 8, 8),
        "stages.2.1.act2:input": (128, 8, 8), "pool:output": (128, 1, 1), "features": (128,), "classifier:output": (10,),
    }  # fmt: skip
    wide = initialised(as_image_net({"kind": "wide_resnet", "depth": 16, "width": 2}), (3, 32, 32), 10)
    assert dry_run(wide, x(2, 3, 32, 32), ["stem:output", "stages.0.1:output", "stages.2:output", "act:output", "features"]) == {
        "stem:output": (16, 32, 32), "stages.0.1:output": (32, 32, 32), "stages.2:output": (128, 8, 8), "act:output": (128, 8, 8),
        "features": (128,),
    }  # fmt: skip
    mobile = initialised(as_image_net({"kind": "mobilenet_v2", "width": 0.5}), (3, 32, 32), 10)
    shapes = [dry_run(mobile, x(2, 3, 32, 32), [f"stages.{i}:output"])[f"stages.{i}:output"] for i in range(7)]
    assert shapes == [(8, 16, 16), (12, 16, 16), (16, 8, 8), (32, 4, 4), (48, 4, 4), (80, 2, 2), (160, 2, 2)]
    assert dry_run(mobile, x(2, 3, 32, 32), ["features"]) == {"features": (1280,)}
    vit = initialised(as_image_net(SMALL["vit"]), (3, 32, 32), 10)
    a = "blocks.1.attention"
    assert dry_run(vit, x(2, 3, 32, 32), ["patches:output", "blocks.0:output", f"{a}.query:output", f"{a}.scores:output",
                                          f"{a}.weights:output", "features"]) == {
        "patches:output": (24, 8, 8), "blocks.0:output": (65, 24), f"{a}.query:output": (65, 24), f"{a}.scores:output": (3, 65, 65),
        f"{a}.weights:output": (3, 65, 65), "features": (24,),
    }  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_no_layer_is_called_twice_so_that_every_tap_is_plain(kind: str) -> None:
    layers = list_taps(initialised(as_image_net(SMALL[kind]), (3, 32, 32), 4), x(2, 3, 32, 32))
    assert len(layers) > 10
    assert not [layer.tap for layer in layers if "#" in layer.tap]


def test_the_transformer_is_the_attention_of_torch() -> None:
    vit = initialised(as_image_net(SMALL["vit"]), (3, 32, 32), 10)
    own: Any = vit.get_submodule("blocks.0.attention")
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    peer = nn.MultiheadAttention(24, 3, batch_first=True)
    peer.in_proj_weight.data = torch.cat([own.query.weight, own.key.weight, own.value.weight]).detach()
    peer.in_proj_bias.data = torch.cat([own.query.bias, own.key.bias, own.value.bias]).detach()
    peer.out_proj.load_state_dict(own.project.state_dict())
    tokens = x(2, 9, 24)
    expected, weights = peer(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(own(tokens), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dry_values(own, tokens), weights, rtol=1e-4, atol=1e-5)


def dry_values(attention: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    from distillens.models.capture import capture

    with torch.no_grad(), capture(attention, ["weights:output"]) as layers:
        attention(tokens)
    return layers["weights:output"]


def test_a_residual_block_is_the_papers_formula() -> None:
    resnet = initialised(as_image_net({"kind": "resnet", "depth": 8}), (3, 32, 32), 10)
    block: Any = resnet.get_submodule("stages.1.0")
    with torch.no_grad():
        for norm in (block.norm1, block.norm2, block.shortcut[1]):
            norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
            norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    h = x(2, 16, 6, 6)

    def conv(z: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:  # unfolded, as one matrix product
        k = weight.shape[-1]
        columns = nn.functional.unfold(z, k, padding=k // 2, stride=stride)
        return (weight.flatten(1) @ columns).unflatten(2, (z.shape[2] // stride, -1))

    def norm(z: torch.Tensor, n: Any) -> torch.Tensor:
        return (z - n.running_mean.view(-1, 1, 1)) / (n.running_var.view(-1, 1, 1) + 1e-5).sqrt()

    inner = norm(conv(h, block.conv1.weight, 2), block.norm1).clamp(min=0)
    outer = norm(conv(inner, block.conv2.weight, 1), block.norm2)
    expected = (outer + norm(conv(h, block.shortcut[0].weight, 2), block.shortcut[1])).clamp(min=0)
    torch.testing.assert_close(block(h), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_entries_go_to_json_and_back(kind: str) -> None:
    net = as_image_net(SMALL[kind])
    assert as_image_net(json.loads(json.dumps(net.to_json()))) == net
    assert as_image_net(net) is net
    assert as_image_net(kind) == as_image_net({"kind": kind})
    assert set(SMALL) | {"library"} == set(IMAGE_NETS)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "resnet", "depth": 21}, "6n \\+ 2, such as 20 or 26, got 21"),
        ({"kind": "resnet", "depth": 2}, "at least 8"),
        ({"kind": "resnet", "width": 0}, "width is a whole number"),
        ({"kind": "resnet", "width": True}, "width is a whole number"),
        ({"kind": "resnet", "dept": 20}, "Did you mean 'depth'"),
        ({"kind": "wide_resnet", "depth": 20}, "6n \\+ 4, such as 16 or 22"),
        ({"kind": "mobilenet_v2", "width": 0}, "at least 1/16"),
        ({"kind": "mobilenet_v2", "width": float("nan")}, "at least 1/16"),
        ({"kind": "mobilenet_v2", "expansion": 1.5}, "expansion is a whole number"),
        ({"kind": "vit", "heads": 5}, "heads must divide width"),
        ({"kind": "vit", "patch": "4"}, "patch is a whole number"),
        ({"kind": "cnn", "channels": []}, "a list of whole numbers"),
        ({"kind": "cnn", "channels": [4, 0]}, "channels is a whole number"),
        ({"kind": "cnn", "activation": "swish"}, "relu, gelu, softplus"),
        ({"kind": "resnett"}, "Did you mean 'resnet'"),
        ({"kind": "mlp"}, "is for tables"),
        ({}, "no network for images None"),
        (7, "is an entry such as"),
        ("restnet", "Did you mean 'resnet'"),
    ],
)  # fmt: skip
def test_impossible_settings_are_said(entry: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_image_net(entry)


def test_a_patch_that_does_not_divide_and_shapes_that_are_none() -> None:
    with pytest.raises(InputError, match="must divide height and width; the images are 30×32"):
        initialised(as_image_net("vit"), (3, 30, 32), 2)
    for shape in ((32, 32), (0, 4, 4), (3, 4.0, 4)):
        with pytest.raises(InputError, match="channels, height, width"):
            initialised(as_image_net("resnet"), shape, 2)  # type: ignore[arg-type]


def test_the_plain_network_is_its_layers_written_out() -> None:
    net: Any = initialised(as_image_net({"kind": "cnn", "channels": [4, 6], "activation": "softplus"}), (1, 9, 9), 3)
    with torch.no_grad():
        for layer in net.layers:
            layer[1].running_mean.normal_(generator=torch.Generator().manual_seed(1))
            layer[1].running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    h = x(2, 1, 9, 9)
    for layer, stride in zip(net.layers, (2, 1), strict=True):  # 9 → 5 pixels, and 5 are too few to halve
        columns = nn.functional.unfold(h, 3, padding=1, stride=stride)
        h = (layer[0].weight.flatten(1) @ columns).unflatten(2, (5, 5))
        norm = layer[1]
        h = (h - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + 1e-5).sqrt()
        h = (1 + h.exp()).log()
    expected = h.mean(dim=(2, 3)) @ net.classifier.weight.T + net.classifier.bias
    torch.testing.assert_close(net(x(2, 1, 9, 9)), expected, rtol=1e-4, atol=1e-4)
    assert dry_run(net, x(2, 1, 9, 9), ["layers.0:output", "layers.1:output", "features"]) == {
        "layers.0:output": (4, 5, 5), "layers.1:output": (6, 5, 5), "features": (6,),
    }  # fmt: skip

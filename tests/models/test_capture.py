"""Taps: what they name, what they give under wrappers and in-place operations, and that nothing stays behind."""

from __future__ import annotations

import gc
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distillens.errors import InputError
from distillens.models.capture import Tapped, capture, dry_run, list_taps, unwrapped

Pair = namedtuple("Pair", ["first", "second"])


class Net(nn.Module):
    """Convolution, norm, in-place ReLU, a part that returns a tuple, a part called twice, and one never called."""

    def __init__(self, checkpointed: bool | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.twice = nn.ReLU()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.spare = nn.Linear(1, 1)
        self.fc = nn.Linear(5, 2)
        self.checkpointed = checkpointed

    def forward(self, x: Tensor, *, shift: Tensor | None = None) -> Tensor:
        stem = self.stem
        if self.checkpointed is not None:
            x = checkpoint(stem, x, use_reentrant=self.checkpointed)
        else:
            x = stem(x)
        x = self.act(self.norm(x))
        x = self.twice(self.twice(x - 0.5) - 0.1)
        steps, (last, _) = self.lstm(x.flatten(2).transpose(1, 2))
        h = steps[:, -1] + last[0]
        return self.fc(h if shift is None else h + shift)


def net(seed: int = 0, **options: Any) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(**options)


def images(n: int = 6) -> Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def hooks_of(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_values_are_those_at_the_call_although_a_later_layer_works_in_place() -> None:
    model, x = net().eval(), images()
    nn.init.constant_(model.norm.bias, -0.3)
    with torch.no_grad():
        before = model.stem[1](model.stem[0](x))
        expected = model.norm(model.stem[2](before.clone()))
    assert float(expected.min()) < 0  # else the in-place ReLU would leave no trace
    for grad in (False, True):
        with torch.set_grad_enabled(grad), capture(model, ["stem.1:output", "norm:output", "act:input"]) as layers:
            outputs = model(x)
        torch.testing.assert_close(layers["stem.1:output"], before, rtol=0, atol=0)
        torch.testing.assert_close(layers["norm:output"], expected, rtol=0, atol=0)
        torch.testing.assert_close(layers["act:input"], expected, rtol=0, atol=0)
        torch.testing.assert_close(outputs, model(x), rtol=0, atol=0)


def test_outputs_can_be_differentiated_by_what_was_captured() -> None:
    model, x = net().eval(), images()
    with capture(model, ["norm:output", "fc:input"]) as layers:
        outputs = model(x)
    (gradient,) = torch.autograd.grad(outputs[:, 1].sum(), layers["fc:input"], retain_graph=True)
    torch.testing.assert_close(gradient, model.fc.weight[1].expand(6, 5))
    (through,) = torch.autograd.grad(outputs.sum(), layers["norm:output"])
    # the network after the norm, written out
    h = layers["norm:output"].detach().requires_grad_()
    z = torch.relu(torch.relu(torch.relu(h) - 0.5) - 0.1)
    steps, (last, _) = model.lstm(z.flatten(2).transpose(1, 2))
    (expected,) = torch.autograd.grad(model.fc(steps[:, -1] + last[0]).sum(), h)
    torch.testing.assert_close(through, expected)
    assert float(expected.abs().sum()) > 0


def test_a_loss_on_a_captured_layer_reaches_the_layers_before_it_and_only_those() -> None:
    model = net()
    with capture(model, ["norm:output"]) as layers:
        model(images())
    layers["norm:output"].square().sum().backward()
    assert model.stem[0].weight.grad is not None
    assert model.fc.weight.grad is None


def test_parts_of_tuples_named_arguments_and_the_network_itself() -> None:
    model, x = net().eval(), images()
    shift = torch.ones(6, 5)
    taps = [
        "lstm:output[0]",
        "lstm:output[1][0]",
        "lstm:output[1][-1]",
        ":output",
        ":input[shift]",
        ":input",
        ":input[0]",
    ]
    for grad in (False, True):
        with torch.set_grad_enabled(grad), capture(model, taps) as layers:
            outputs = model(x, shift=shift)
        shapes = {tap: tuple(value.shape) for tap, value in layers.items()}
        assert shapes == {
            "lstm:output[0]": (6, 16, 5), "lstm:output[1][0]": (1, 6, 5), "lstm:output[1][-1]": (1, 6, 5), ":output": (6, 2),
            ":input[shift]": (6, 5), ":input": (6, 3, 4, 4), ":input[0]": (6, 3, 4, 4),
        }  # fmt: skip
        torch.testing.assert_close(layers[":output"], outputs, rtol=0, atol=0)
        torch.testing.assert_close(layers[":input"], x, rtol=0, atol=0)
        torch.testing.assert_close(outputs, model(x, shift=shift), rtol=0, atol=0)


def test_named_tuples_lists_and_dictionaries_keep_their_type() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"pair": Pair(x + 1, [x * 2, x * 3])}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            made = self.inner(x)
            assert type(made) is dict
            assert isinstance(made["pair"], Pair)
            made["pair"].second[1].zero_()  # in place, after the tap
            return made["pair"].first

    x = torch.ones(2, 3)
    model = Outer()
    with capture(model, ["inner:output[pair][1][1]"]) as layers:
        model(x)
    torch.testing.assert_close(layers["inner:output[pair][1][1]"], x * 3)


def test_features_are_the_input_of_the_last_linear_layer() -> None:
    model, x = net().eval(), images()
    with torch.no_grad(), capture(model, ["features"]) as layers:
        outputs = model(x)
    torch.testing.assert_close(model.fc(layers["features"]), outputs)
    with pytest.raises(InputError, match=r"last nn\.Linear"):
        dry_run(nn.Sequential(nn.ReLU()), torch.ones(1, 1), ["features"])


def test_calls_are_counted() -> None:
    model, x = net().eval(), images()
    with torch.no_grad(), capture(model, ["twice:output#1", "twice:output#2", "twice:output#last"]) as layers:
        model(x)
    torch.testing.assert_close(torch.relu(layers["twice:output#1"] - 0.1), layers["twice:output#2"])
    torch.testing.assert_close(layers["twice:output#2"], layers["twice:output#last"], rtol=0, atol=0)
    with pytest.raises(InputError, match=r"called 2 times.*'twice:output#last'"), capture(model, ["twice:output"]):
        model(x)
    with (
        pytest.raises(InputError, match="asks for call 3 of 'twice', which was called 2"),
        capture(model, ["twice:output#3"]),
    ):
        model(x)


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("fcc:output", "has no layer 'fcc'.*Did you mean 'fc'"),
        ("stem.7:output", "has no layer 'stem.7'.*Did you mean 'stem.[012]'"),
        ("nothing.like.it:output", "Known: .*'fc'"),
        ("fc", "'fc' is not a tap.*'fc:output'"),
        ("fc:weights", "is not a tap"),
        ("relu:output#0", "is not a tap"),
        (3, "is not a tap"),
        ("lstm:output", r"no tensor but a tuple of \[0\]: a tensor \(6, 16, 5\).*write 'lstm:output\[0\]'"),
        ("lstm:output[1]", r"write 'lstm:output\[1\]\[0\]'"),
        ("lstm:output[4]", r"there is no \[4\]"),
        ("fc:output[mask]", r"there is no \[mask\]"),
        ("fc:input[mask]", r"there is no \[mask\]"),
        ("spare:output", "'spare:output' never fired"),
        ("lstm:output[1][0]", r"\(1, 6, 5\) for 6 rows"),
    ],
)
def test_what_cannot_be_tapped_is_said(tap: Any, message: str) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        dry_run(model, images(), [tap])
    assert hooks_of(model) == 0
    assert model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_hooks_are_gone_when_the_body_or_the_network_raises() -> None:
    model = net()
    with pytest.raises(KeyError), capture(model, ["fc:input", "norm:output"]):
        raise KeyError("body")
    with pytest.raises(RuntimeError), capture(model, ["fc:input"]):
        model(torch.ones(2, 9, 4, 4))
    with Tapped(model, ["fc:input"]) as tapped, pytest.raises(RuntimeError):
        tapped(torch.ones(2, 9, 4, 4))
    assert hooks_of(model) == 0
    with pytest.raises(InputError), capture(model, ["fc:input", "fcc:input"]):
        pass
    assert hooks_of(model) == 0


def test_captures_nest() -> None:
    model, x = net().eval(), images()
    with capture(model, ["norm:output"]) as outer:
        with capture(model, ["norm:output", "fc:input"]) as inner:
            outputs = model(x)
        torch.testing.assert_close(outer["norm:output"], inner["norm:output"], rtol=0, atol=0)
        for layers in (outer, inner):
            (gradient,) = torch.autograd.grad(outputs.sum(), layers["norm:output"], retain_graph=True)
            assert float(gradient.abs().sum()) > 0
        first = outer["norm:output"]
        model(x + 1)
        assert not torch.equal(outer["norm:output"], first)  # the latest pass counts
        assert "fc:input" not in outer


def test_parts_called_without_the_whole_are_seen() -> None:
    model, x = net().eval(), images()
    with torch.no_grad(), capture(model, ["stem.0:output"]) as layers:
        model.stem(x)
    torch.testing.assert_close(layers["stem.0:output"], model.stem[0](x))


def test_a_change_in_place_under_another_name_is_an_error() -> None:
    class Sly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            h = x * 2
            y = self.part(h)
            h.add_(1)
            return y + h

    x = torch.ones(2, 3)
    model = Sly()
    x.requires_grad_()
    with pytest.raises(InputError, match="changed in place later"), capture(model, ["part:output"]):
        model(x)
    with torch.no_grad(), capture(model, ["part:output"]) as layers:
        model(x)
    torch.testing.assert_close(layers["part:output"], 2 * x)  # a copy: right anyhow


def expected_step(model: Net, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Outputs, captured features and gradients of outputs² + stem², computed by hand without any capture."""
    h = model.stem[1](model.stem[0](x))
    rest = torch.relu(torch.relu(torch.relu(model.norm(torch.relu(h))) - 0.5) - 0.1)
    steps, (last, _) = model.lstm(rest.flatten(2).transpose(1, 2))
    outputs = model.fc(steps[:, -1] + last[0])
    (outputs.square().sum() + h.square().sum()).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return outputs.detach(), h.detach(), grads


@pytest.mark.parametrize(
    "how", ["plain", "compiled outside", "compiled inside", "checkpointed", "distributed", "accumulated"]
)
def test_tapped_returns_activations_with_gradients_under(how: str, tmp_path: Path) -> None:
    x = images()
    outputs, layer, grads = expected_step(net(), x)
    model = net(checkpointed=False if how == "checkpointed" else None)
    inner: nn.Module = model
    if how == "compiled inside":
        inner = torch.compile(model, backend="aot_eager")
    with Tapped(inner, ["stem.1:output"]) as tapped:
        called: Any = torch.compile(tapped, backend="aot_eager") if how == "compiled outside" else tapped
        if how == "distributed":
            torch.distributed.init_process_group(
                "gloo", store=torch.distributed.FileStore(str(tmp_path / "s"), 1), rank=0, world_size=1
            )
            model.spare.requires_grad_(False)
            called = nn.parallel.DistributedDataParallel(tapped)
        try:
            if how == "accumulated":
                model.eval(), tapped(x), model.train()  # an earlier pass leaves nothing behind
                answers, layers = tapped(x)
                tapped(x + 1)  # neither does a later one before the backward pass
            else:
                answers, layers = called(x)
            (answers.square().sum() + layers["stem.1:output"].square().sum()).backward()
        finally:
            if how == "distributed":
                torch.distributed.destroy_process_group()
    torch.testing.assert_close(answers.detach(), outputs)
    torch.testing.assert_close(layers["stem.1:output"].detach(), layer)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == grads.keys()
    for name, gradient in grads.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)
    assert hooks_of(model) == 0


def test_a_network_that_was_compiled_and_used_before_it_is_tapped_is_an_error() -> None:
    compiled = torch.compile(nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)), backend="aot_eager")
    compiled(torch.ones(5, 3))
    with Tapped(compiled, ["0:output"]) as tapped, pytest.raises(InputError, match="compiled before it was tapped"):
        tapped(torch.ones(5, 3))


def test_reentrant_checkpointing_hides_gradients_and_is_an_error() -> None:
    with Tapped(net(checkpointed=True), ["stem.1:output"]) as tapped:
        with pytest.raises(InputError, match="use_reentrant=False"):
            tapped(images().requires_grad_())
        with torch.no_grad():
            tapped(images().requires_grad_())  # nothing is to be learned here


def test_a_network_between_tapped_calls_and_a_forgotten_one() -> None:
    model, x = net().eval(), images()
    tapped = Tapped(model, ["fc:input", "fc:input"])
    assert tapped.taps == ("fc:input",)
    _, first = tapped(x)
    model(x + 1)
    _, again = tapped(x)
    torch.testing.assert_close(first["fc:input"], again["fc:input"], rtol=0, atol=0)
    assert hooks_of(model) == 1
    del tapped
    gc.collect()
    assert hooks_of(model) == 0


def test_wrappers_are_looked_through() -> None:
    model = net()
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))
    assert unwrapped(wrapped) is model
    inside = nn.Sequential(torch.compile(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), backend="eager"))
    assert dry_run(inside, torch.ones(4, 2), ["0.0:output", "0:output"]) == {"0.0:output": (3,), "0:output": (3,)}


def test_shapes_and_the_list_of_all_taps() -> None:
    model, x = net(), images(3)
    assert dry_run(model, x, ["norm:output", "fc:output"]) == {"norm:output": (4, 4, 4), "fc:output": (2,)}
    assert dry_run(model, {"x": x}, ["fc:input", ":input[x]"]) == {"fc:input": (5,), ":input[x]": (3, 4, 4)}
    layers = list_taps(model, x)
    assert [layer.tap for layer in layers] == [
        "stem.0:output", "stem.1:output", "stem.2:output", "stem:output", "norm:output", "act:output", "twice:output#1",
        "twice:output#2", "lstm:output[0]", "fc:output", ":output",
    ]  # fmt: skip
    shapes = dry_run(model, x, [layer.tap for layer in layers])
    assert shapes == {layer.tap: layer.shape for layer in layers}
    assert [layer.kind for layer in layers if not layer.leaf] == ["Sequential", "Net"]
    assert model.training
    assert hooks_of(model) == 0

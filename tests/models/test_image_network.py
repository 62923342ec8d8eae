"""Networks over images: what they answer, what they leave alone, and the way through a file."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distillens.data.base import Column, Table
from distillens.data.images import Images
from distillens.errors import ArtefactError, InputError, ModelError, UntrustedCodeError
from distillens.models.base import Model, StorableModel, TorchModel, evaluate
from distillens.models.callable import align_classes, class_order
from distillens.models.image_network import ImageNetwork
from distillens.models.nets.base import as_image_net
from distillens.models.nets.library import CodeNet
from distillens.models.preprocess import Preprocess
from distillens.models.store import load_model, save_model
from distillens.transfer.layers.inherit import fold_classifier, reuse_classifier

CLASSES = ("cat", "dog", "owl")


def images(n: int = 7, channels: int = 3, size: int = 10) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return Images(pixels, np.arange(100, 100 + n))


def network(entry: Any = None, *, classes: tuple[str, ...] = CLASSES, seed: int = 0, size: int = 8) -> ImageNetwork:
    net = as_image_net(entry or {"kind": "resnet", "depth": 8})
    return ImageNetwork.fresh(net, Preprocess((size, size), (0.4,), (0.3,)), classes, seed=seed, label="net")


@pytest.mark.parametrize("n", [0, 1, 7])
def test_logits_are_those_of_the_module_on_preprocessed_pixels(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = network(size=10), images(n)
    expected = np.zeros((0, 3))
    if n:
        with torch.no_grad():
            expected = model.module((torch.from_numpy(inputs.pixels.copy()) / 255 - 0.4) / 0.3).double().numpy()
    outputs = model(inputs)
    assert outputs.dtype == np.float64
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("distillens.models.image_network.NUMBERS", 1)  # one image a batch
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-4, atol=1e-5)


def test_sizes_and_channels_are_the_models_own_business() -> None:
    model = network()
    assert model.to_tensor(images(4, 1, 20)).shape == (4, 3, 8, 8)
    assert model(images(4, 1, 20)).shape == (4, 3)


def test_it_is_a_model_and_the_module_is_left_as_it_was() -> None:
    model = network()
    for protocol in (Model, TorchModel, StorableModel):
        assert isinstance(model, protocol)
    model.module.train()
    model.module.get_submodule("stages.0").eval()
    modes = [part.training for part in model.module.modules()]
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    state = torch.get_rng_state()
    model(images())
    assert [part.training for part in model.module.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert model.complexity()["size_bytes"] == 4 * sum(p.numel() for p in model.module.parameters())
    with pytest.raises(ModelError, match="looks at images and was given a Table"):
        model(Table(np.zeros((2, 1)), (Column("a"),), np.arange(2)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entry", [{"kind": "wide_resnet", "depth": 10, "width": 1}, {"kind": "vit", "width": 12, "depth": 1, "heads": 2}]
)
def test_through_a_file_to_the_bit(entry: dict[str, Any], tmp_path: Path) -> None:
    model: Any = network(entry, seed=3)
    model.module.train()(model.to_tensor(images()))  # moves running statistics
    model.module.eval()
    save_model(model, tmp_path / "m.safetensors")
    again: Any = load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again(images()), model(images()))
    assert (again.classes, again.label, again.net, again.preprocess) == (CLASSES, "net", model.net, model.preprocess)
    assert again.fingerprint == model.fingerprint
    assert not again.module.training
    assert ImageNetwork.load(tmp_path / "m.safetensors").fingerprint == model.fingerprint
    assert again.module.state_dict().keys() == model.module.state_dict().keys()
    assert all(v.shape == again.module.state_dict()[n].shape for n, v in model.module.state_dict().items())


def test_the_fingerprint_is_of_weights_preprocessing_and_classes_not_of_the_label() -> None:
    model = network()
    same = ImageNetwork(model.preprocess, model.module, model.net, CLASSES, "another name")
    assert same.fingerprint == model.fingerprint
    assert network(seed=1).fingerprint != model.fingerprint
    assert ImageNetwork(Preprocess((8, 8)), model.module, model.net, CLASSES).fingerprint != model.fingerprint
    assert ImageNetwork(model.preprocess, model.module, model.net, CLASSES[::-1]).fingerprint != model.fingerprint
    with torch.no_grad():
        model.module.state_dict()["stem.1.running_mean"].add_(1e-3)
    assert model.fingerprint != network().fingerprint


def test_classes_in_another_order() -> None:
    model: Any = network()
    wanted = ("owl", "cat", "dog")
    np.testing.assert_array_equal(class_order(model, wanted), [2, 0, 1])
    aligned: Any = align_classes(model, wanted)
    np.testing.assert_array_equal(evaluate(aligned, images()), model(images())[:, [2, 0, 1]])  # type: ignore[arg-type]
    assert align_classes(model, CLASSES) is model
    with pytest.raises(ModelError, match="a class 'dog' that the data do not have"):
        class_order(model, ("cat", "owl", "fox"))


def test_code_in_a_file_is_run_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("own_nets")
    module.make = lambda channels, height, width, outputs: nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, outputs)
    )
    monkeypatch.setitem(sys.modules, "own_nets", module)
    model: Any = ImageNetwork.fresh(CodeNet("own_nets:make", module.make), Preprocess((8, 8)), CLASSES)
    save_model(model, tmp_path / "m.safetensors")
    for load in (load_model, ImageNetwork.load):
        with pytest.raises(UntrustedCodeError, match="own_nets:make"):
            load(tmp_path / "m.safetensors")
    trusted = ImageNetwork.load(tmp_path / "m.safetensors", trust_code=True)
    np.testing.assert_array_equal(trusted(images()), model(images()))


def test_files_and_modules_that_do_not_fit(tmp_path: Path) -> None:
    from distillens.store import write_record

    model = network()
    meta, arrays = model.to_record()
    arrays.pop("module.stem.0.weight")
    write_record(tmp_path / "part.safetensors", {"kind": "image_network", "model": meta}, arrays)
    for load in (load_model, ImageNetwork.load):
        with pytest.raises(ArtefactError, match=r"incomplete.*stem\.0\.weight"):
            load(tmp_path / "part.safetensors")
    write_record(tmp_path / "other.safetensors", {"kind": "tree", "model": {}}, {})
    with pytest.raises(ArtefactError, match="no network for images, but 'tree'"):
        ImageNetwork.load(tmp_path / "other.safetensors")
    for classes in ((), ("a",), ("a", "a")):
        with pytest.raises(InputError, match="at least two different classes"):
            network(classes=classes)
    wrong = ImageNetwork(model.preprocess, model.module, model.net, ("a", "b"))
    with pytest.raises(ModelError, match=r"\(7, 2\) logits, but answered \(7, 3\)"):
        wrong(images())


def test_a_reused_classifier_is_folded_before_it_is_stored(tmp_path: Path) -> None:
    student, teacher = network(), network({"kind": "wide_resnet", "depth": 10, "width": 2}, seed=1)
    x = student.to_tensor(images())
    reuse_classifier(student.module, teacher.module, x, x)
    before = student(images())
    with pytest.raises(ModelError, match="fold_classifier"):
        save_model(student, tmp_path / "m.safetensors")  # type: ignore[arg-type]
    fold_classifier(student.module)
    save_model(student, tmp_path / "m.safetensors")  # type: ignore[arg-type]
    again: Any = load_model(tmp_path / "m.safetensors")
    np.testing.assert_allclose(again(images()), before, rtol=1e-4, atol=1e-5)

"""Networks of torchvision, timm and trusted code: built without downloads, with weights from files that run no code."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distillens.errors import (
    ArtefactError,
    DependencyError,
    InputError,
    MissingExtraError,
    ModelError,
    UntrustedCodeError,
)
from distillens.models.nets.base import as_image_net, initialised
from distillens.models.nets.library import CodeNet, load_weights, read_weights, stated_preprocessing
from distillens.models.preprocess import Preprocess


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(
    "name", ["torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5", "timm:resnet10t", "timm:test_vit"]
)
def test_library_networks_take_channels_sizes_and_classes(name: str) -> None:
    net = as_image_net(name)
    before = torch.get_rng_state()
    module = initialised(net, (1, 64, 64), 5, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert module(images).shape == (2, 5)
    torch.testing.assert_close(initialised(net, (1, 64, 64), 5, seed=1)(images), module(images), rtol=0, atol=0)
    stated = stated_preprocessing(net)
    assert stated is not None
    assert stated.channels == 3
    assert as_image_net(net.to_json()) == net


@pytest.mark.usefixtures("vision")
def test_what_libraries_state_about_preprocessing() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert stated_preprocessing(as_image_net("torchvision:resnet18")) == Preprocess((224, 224), *imagenet)
    assert stated_preprocessing(as_image_net("torchvision:inception_v3")) == Preprocess((299, 299), *imagenet)
    half = (0.5, 0.5, 0.5)
    assert stated_preprocessing(as_image_net("timm:vit_tiny_patch16_224")) == Preprocess((224, 224), half, half)
    assert stated_preprocessing(as_image_net("resnet")) is None


@pytest.mark.usefixtures("vision")
def test_the_own_transformer_is_timms_with_the_same_weights() -> None:
    import timm

    peer = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=3, img_size=32, depth=2)
    own = initialised(as_image_net({"kind": "vit", "patch": 16, "width": 192, "depth": 2, "heads": 3}), (3, 32, 32), 3)
    given = {
        n: torch.randn(v.shape, generator=torch.Generator().manual_seed(v.numel())) * 0.1
        for n, v in peer.state_dict().items()
    }
    peer.load_state_dict(given)
    words = {
        "patches.": "patch_embed.proj.", "token": "cls_token", "position": "pos_embed", "classifier.": "head.",
        "attention.project.": "attn.proj.", "mlp.0.": "mlp.fc1.", "mlp.2.": "mlp.fc2.",
    }  # fmt: skip
    mine = {}
    for name in own.state_dict():
        theirs = name
        for word, other in words.items():
            theirs = theirs.replace(word, other)
        for i, part in enumerate(("query", "key", "value")):
            if f"attention.{part}." in name:
                stacked = given[name.replace(f"attention.{part}.", "attn.qkv.")]
                mine[name] = stacked[192 * i : 192 * (i + 1)]
                break
        else:
            mine[name] = given[theirs]
    own.load_state_dict(mine)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(own(images), peer.eval()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("vision")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet17", "torchvision has no network 'resnet17'.*Did you mean 'resnet1"),
        ("timm:resnet10tt", "Did you mean 'resnet10t'"),
        ("torchvision:vit_b_32", "takes square images; these are 64×32"),
        ("timm:vit_tiny_patch16_224x", "timm has no network"),
    ],
)
def test_unknown_and_impossible_library_networks(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        initialised(as_image_net(name), (3, 64, 32), 2)


@pytest.mark.parametrize("weights", ["pretrained", "https://example.org/w.safetensors", "DEFAULT"])
def test_weights_are_never_downloaded(weights: str) -> None:
    with pytest.raises(InputError, match="never downloaded"):
        as_image_net({"kind": "library", "name": "timm:resnet10t", "weights": weights})


def test_entries_of_libraries_that_are_none() -> None:
    with pytest.raises(InputError, match="Did you mean 'torchvision'"):
        as_image_net({"kind": "library", "name": "torchvison:resnet18"})
    with pytest.raises(InputError, match="cannot be made of"):
        as_image_net({"kind": "library"})


def test_a_missing_and_a_broken_library_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"'timm'.*distillens\[vision\]"):
        initialised(as_image_net("timm:resnet10t"), (3, 8, 8), 2)
    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(DependencyError, match=r"nms does not exist\); install the release of torchvision"):
        initialised(as_image_net("torchvision:resnet18"), (3, 8, 8), 2)


def small(classes: int = 3, seed: int = 0) -> nn.Module:
    return initialised(as_image_net({"kind": "resnet", "depth": 8}), (3, 8, 8), classes, seed=seed)


@pytest.mark.parametrize("form", ["safetensors", "pt", "nested", "parallel"])
def test_weights_come_from_files(form: str, tmp_path: Path) -> None:
    source, target = small(seed=1), small(seed=2)
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    state: Any = source.state_dict()
    if form == "safetensors":
        save_file(state, file)
    elif form == "parallel":
        torch.save({"model": {f"module.{n}": v for n, v in state.items()}, "epoch": 3}, file)
    else:
        torch.save({"state_dict": state} if form == "nested" else state, file)
    load_weights(target, file)
    images = torch.ones(2, 3, 8, 8)
    torch.testing.assert_close(target(images), source(images), rtol=0, atol=0)


def test_other_classes_leave_the_classifier_fresh_only_when_asked(tmp_path: Path) -> None:
    source, target = small(5, seed=1), small(3, seed=2)
    file = tmp_path / "w.safetensors"
    save_file(source.state_dict(), file)
    before = {n: v.clone() for n, v in target.state_dict().items()}
    with pytest.raises(ArtefactError, match=r"'classifier.weight' is \(5, 64\) in the file and \(3, 64\).*fresh_head"):
        load_weights(target, file)
    assert all(torch.equal(before[n], v) for n, v in target.state_dict().items())
    load_weights(target, file, fresh_head=True)
    for name, value in target.state_dict().items():
        wanted = before[name] if name.startswith("classifier.") else source.state_dict()[name]
        torch.testing.assert_close(value, wanted, rtol=0, atol=0)


class Dangerous:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Dangerous()))
    torch.save({"model": Dangerous()}, tmp_path / "zip.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("hello, hello, hello")
    for name in ("code.pt", "zip.pt", "module.pt", "empty.pt"):
        with pytest.raises(ArtefactError, match="more than tensors, or is damaged"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ArtefactError, match="not a safetensors file"):
        read_weights(tmp_path / "text.safetensors")
    with pytest.raises(ArtefactError, match="There is no file"):
        read_weights(tmp_path / "none.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(ArtefactError, match="no state dict"):
        read_weights(tmp_path / "list.pt")
    save_file({"other": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ArtefactError, match="weights of another network: it has no 'stem.0.weight'"):
        load_weights(small(), tmp_path / "other.safetensors")
    extra = {**small().state_dict(), "extra": torch.ones(1)}
    save_file(extra, tmp_path / "extra.safetensors")
    with pytest.raises(ArtefactError, match="has 'extra', which the network has not"):
        load_weights(small(), tmp_path / "extra.safetensors")


def test_code_is_run_only_when_trusted() -> None:
    for entry in ("somewhere.nets:make", {"kind": "code", "use": "somewhere.nets:make"}):
        with pytest.raises(UntrustedCodeError, match="--trust-code"):
            as_image_net(entry)
    with pytest.raises(InputError, match="kind: code, use"):
        as_image_net({"kind": "code", "use": "a:b", "more": 1}, trust_code=True)
    with pytest.raises(InputError, match="cannot be imported"):
        as_image_net("not_a_package_at_all:make", trust_code=True)
    net = CodeNet(
        "here:make",
        lambda channels, height, width, outputs: nn.Sequential(
            nn.Flatten(), nn.Linear(channels * height * width, outputs)
        ),
    )
    assert initialised(net, (2, 3, 4), 5)(torch.ones(6, 2, 3, 4)).shape == (6, 5)
    assert net.to_json() == {"kind": "code", "use": "here:make"}
    for factory, message in ((lambda **_: 3, "returned a int"), (lambda: 3, "raised TypeError"), (3, "is no function")):
        with pytest.raises(InputError, match=message):
            initialised(CodeNet("here:make", factory), (2, 3, 4), 5)  # type: ignore[arg-type]


def test_preprocessing_scales_resizes_and_changes_channels() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3, 6, 6), dtype=np.uint8)
    plain = Preprocess((6, 6))(pixels).numpy()
    np.testing.assert_allclose(plain, pixels / 255, rtol=1e-6)
    scaled = Preprocess((6, 6), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))(pixels).numpy()
    expected = (pixels / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.6, 0.7])[:, None, None]
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6)
    grey = Preprocess((6, 6), channels=1)(pixels).numpy()
    np.testing.assert_allclose(
        grey[:, 0], (pixels * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1) / 255, rtol=1e-5
    )
    np.testing.assert_allclose(
        Preprocess((6, 6))(pixels[:, :1]).numpy(), np.repeat(pixels[:, :1] / 255, 3, axis=1), rtol=1e-6
    )
    half = Preprocess((3, 3))(np.full((2, 3, 6, 6), 51, dtype=np.uint8)).numpy()
    assert half.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(half, 0.2, rtol=1e-5)
    with pytest.raises(ModelError, match="takes 3 channels and the images have 2"):
        Preprocess((6, 6))(pixels[:, :2])
    again = Preprocess.from_json(Preprocess((6, 7), (0.1,), (0.5,), 2).to_json())
    assert again == Preprocess((6, 7), (0.1, 0.1), (0.5, 0.5), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 4)}, "in pixels"), ({"size": 32}, "list of numbers"), ({"size": (4, 4), "channels": 0}, "channels is"),
        ({"size": (4, 4), "mean": (0.1, 0.2)}, "one for each of 3 channels"), ({"size": (4, 4), "std": (0.0,)}, "std is above 0"),
        ({"size": (4, 4), "mean": (float("nan"),)}, "mean is finite"), ({"size": (4, 4), "std": ("a",)}, "list of numbers"),
    ],
)  # fmt: skip
def test_impossible_preprocessing(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocess(**options)

"""Networks by name: recipe entries that build freshly initialised modules.

images   {kind: cnn, channels: [16, 32, 64]}
         {kind: resnet, depth: 20}   {kind: wide_resnet, depth: 40, width: 2}   {kind: mobilenet_v2, width: 0.5}
         {kind: vit, patch: 4}       torchvision:resnet18   timm:convnext_atto   package.module:factory (trusted code)
tables   {kind: mlp, hidden: [64]}   (its own dataclass in mlp.py; it takes a width instead of an image shape)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from distillens.errors import InputError, did_you_mean
from distillens.named import load_object, resolve

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]  # channels, height, width

IMAGE_NETS: dict[str, str] = {
    "cnn": "distillens.models.nets.cnn:CNNSettings",
    "resnet": "distillens.models.nets.resnet:ResNetSettings",
    "wide_resnet": "distillens.models.nets.wide_resnet:WideResNetSettings",
    "mobilenet_v2": "distillens.models.nets.mobilenet:MobileNetV2Settings",
    "vit": "distillens.models.nets.vit:ViTSettings",
    "library": "distillens.models.nets.library:LibraryNet",
}


@runtime_checkable
class ImageNet(Protocol):
    """The settings of a network for images: a frozen dataclass that is its recipe entry."""

    @property
    def kind(self) -> str: ...

    def build(self, shape: Shape, outputs: int) -> nn.Module:
        """A module (B, C, H, W) → (B, outputs), with weights from torch's global generator, which the caller forks."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What `as_image_net` needs to make equal settings."""
        ...


def as_image_net(entry: ImageNet | Mapping[str, Any] | str, *, trust_code: bool = False) -> ImageNet:
    """Settings from a recipe entry: a mapping with a kind, a kind alone, or `torchvision:NAME`, `timm:NAME`, `package.module:factory`.

    Raises InputError, with a suggestion, for unknown kinds and options; UntrustedCodeError for code that nobody trusted.
    """
    if isinstance(entry, str):
        if entry.partition(":")[0] in ("torchvision", "timm"):
            entry = {"kind": "library", "name": entry}
        elif ":" in entry:
            entry = {"kind": "code", "use": entry}
        else:
            entry = {"kind": entry}
    if not isinstance(entry, Mapping):
        if isinstance(entry, ImageNet):
            return entry
        raise InputError(f"A network is an entry such as {{kind: resnet, depth: 20}}, got {entry!r}.")
    options = {str(k): v for k, v in entry.items()}
    kind = options.pop("kind", None)
    if kind == "code":
        return _from_code(options, trust_code=trust_code)
    if not isinstance(kind, str) or kind not in IMAGE_NETS:
        hint = " 'mlp' is for tables." if kind == "mlp" else did_you_mean(str(kind or ""), IMAGE_NETS)
        raise InputError(f"There is no network for images {kind!r}.{hint}")
    cls = load_object(IMAGE_NETS[kind])
    known = [f.name for f in fields(cls) if f.name != "kind"]
    for name in options:
        if name not in known:
            raise InputError(f"The network {kind!r} has no option {name!r}.{did_you_mean(name, known)}")
    try:
        net: ImageNet = cls(**options)
    except TypeError as error:  # a required option is missing
        raise InputError(f"The network {kind!r} cannot be made of {options!r}: {error}.") from error
    return net


def _from_code(options: dict[str, Any], *, trust_code: bool) -> ImageNet:
    from distillens.models.nets.library import CodeNet

    use = options.pop("use", None)
    if not isinstance(use, str) or options:
        raise InputError(f"Code is named as {{kind: code, use: package.module:factory}}; got {use!r} and {options!r}.")
    return CodeNet(use, resolve(use, {}, what="network", trust_code=trust_code))


def initialised(net: ImageNet, shape: Shape, outputs: int, *, seed: int = 0) -> nn.Module:
    """A freshly initialised module in eval mode. Its weights depend on `seed` only; the global generator is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = net.build(checked_shape(shape), outputs)
    return module.eval()


def checked_shape(shape: Shape) -> Shape:
    """(channels, height, width) as positive whole numbers. InputError otherwise."""
    given: tuple[object, ...] = shape
    if len(given) != 3 or not all(isinstance(size, int) and size > 0 for size in given):
        raise InputError(f"The shape of an image is (channels, height, width), got {shape!r}.")
    return shape


def whole(value: object, *, name: str, at_least: int = 1) -> None:
    """InputError unless `value` is a whole number of at least `at_least`."""
    if type(value) is not int or value < at_least:
        raise InputError(f"{name} is a whole number of at least {at_least}, got {value!r}.")


def initialise_convolutions(module: nn.Module) -> None:
    """Kaiming normal by fan-out for convolutions (He et al. 2015, for ReLU); norms at 1 and 0; linear layers as torch made them.

    The fan-out of a convolution with groups is that of one group. Published code leaves the groups out, so that each depthwise
    convolution of an untrained MobileNet shrinks its signal by the square root of its number of channels.
    """
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.out_channels // part.groups * part.weight[0, 0].numel()
            nn.init.normal_(part.weight, std=(2 / fan_out) ** 0.5)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)

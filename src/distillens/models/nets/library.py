"""Networks of other libraries, and of the user's own code: `torchvision:NAME`, `timm:NAME`, `package.module:factory`.

Nothing is downloaded, ever: weights come from a file that somebody put there, as .safetensors, or as a torch file of which
only tensors are read (`weights_only=True`).
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from distillens.errors import ArtefactError, DependencyError, InputError, MissingExtraError, ModelError, did_you_mean
from distillens.models.nets.base import Shape
from distillens.models.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class LibraryNet:
    """`{kind: library, name: "timm:resnet10t", weights: file.safetensors, fresh_head: true}`, or the name alone.

    weights: a file with a state dict of this network; None: a fresh one. fresh_head: tensors of the classifier (the last linear
    layer) whose shape differs, because the file knows other classes, are left as initialised; all others must fit.
    For channels other than 3, torchvision's first convolution is replaced by a fresh one; timm makes its own.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str
    kind: Literal["library"] = "library"
    weights: str | None = None
    fresh_head: bool = False

    def __post_init__(self) -> None:
        name: object = self.name  # a recipe may have written anything
        library, separator, model = str(name).partition(":")
        if not isinstance(name, str) or not separator or not model or library not in LIBRARIES:
            raise InputError(f"name is torchvision:NAME or timm:NAME, got {name!r}.{did_you_mean(library, LIBRARIES)}")
        if self.weights is None:
            return
        if str(self.weights) in ("pretrained", "default", "DEFAULT", "imagenet") or "://" in str(self.weights):
            raise InputError(
                f"Weights are never downloaded; save them to a .safetensors file and give its path, instead of {self.weights!r}."
            )

    def build(self, shape: Shape, outputs: int) -> nn.Module:
        """Raises InputError for unknown names, MissingExtraError, DependencyError, ArtefactError for weights that do not fit."""
        library, _, model = self.name.partition(":")
        module = (_torchvision if library == "torchvision" else _timm)(model, shape, outputs)
        if self.weights is not None:
            load_weights(module, Path(self.weights), fresh_head=self.fresh_head)
        return module

    def to_json(self) -> dict[str, Any]:
        """The architecture; where first weights came from is no part of it."""
        return {"kind": "library", "name": self.name}


@dataclass(frozen=True, eq=False)
class CodeNet:
    """`package.module:factory` of trusted code: factory(channels=…, height=…, width=…, outputs=…) → a torch module."""

    use: str
    factory: Callable[..., Any]
    kind: ClassVar[str] = "code"

    def build(self, shape: Shape, outputs: int) -> nn.Module:
        from torch import nn

        if not callable(self.factory):
            raise InputError(f"{self.use} is no function; name one that returns a torch module.")
        try:
            module = self.factory(channels=shape[0], height=shape[1], width=shape[2], outputs=outputs)
        except Exception as error:  # the user's own code may raise anything; its traceback stays attached
            raise ModelError(f"{self.use} raised {type(error).__name__}: {error}") from error
        if not isinstance(module, nn.Module):
            raise ModelError(f"{self.use} returned a {type(module).__name__}; expected a torch module.")
        return module

    def to_json(self) -> dict[str, Any]:
        return {"kind": "code", "use": self.use}


def stated_preprocessing(net: object) -> Preprocess | None:
    """Size, mean and standard deviation that a library states for a network's published weights; None when it states none."""
    if not isinstance(net, LibraryNet):
        return None
    library, _, model = net.name.partition(":")
    if library == "timm":
        timm = _imported("timm")
        _known(model, timm.list_models(), "timm")
        config = timm.get_pretrained_cfg(model)
        if config is None:
            return None
        channels, height, width = config.input_size
        return Preprocess((height, width), tuple(config.mean), tuple(config.std), channels)
    models = _imported("torchvision").models
    _known(model, models.list_models(module=models), "torchvision")
    weights = models.get_model_weights(model)
    if not len(weights):
        return None
    transforms = weights.DEFAULT.transforms()  # a description; nothing is downloaded
    size = int(transforms.crop_size[0])
    return Preprocess((size, size), tuple(transforms.mean), tuple(transforms.std), 3)


def _imported(library: str) -> Any:
    """The library, with a sentence when it is missing or broken. Importing it draws from no generator of ours."""
    from importlib import import_module

    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        missing = (error.name or library).partition(".")[0]
        raise MissingExtraError(missing, "vision", f"A network of {library}") from error
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DependencyError(
            library, f"A network of {library}", reason,
            "install the release of torchvision that was built for the installed torch",
        ) from error  # fmt: skip


def _known(model: str, names: list[str], library: str) -> None:
    if model not in names:
        raise InputError(f"{library} has no network {model!r}.{did_you_mean(model, names)}")


def _torchvision(model: str, shape: Shape, outputs: int) -> nn.Module:
    models = _imported("torchvision").models
    _known(model, models.list_models(module=models), "torchvision")
    options: dict[str, Any] = {"weights": None, "num_classes": outputs}
    if model.startswith("vit_"):
        options["image_size"] = _square(shape, model)
    elif model in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    module: nn.Module = models.get_model(model, **options)
    if shape[0] != 3:
        _replace_first_convolution(module, shape[0])
    return module


def _timm(model: str, shape: Shape, outputs: int) -> nn.Module:
    timm = _imported("timm")
    _known(model, timm.list_models(), "timm")
    options: dict[str, Any] = {"pretrained": False, "num_classes": outputs, "in_chans": shape[0]}
    config = timm.get_pretrained_cfg(model)
    if config is not None and config.fixed_input_size:
        options["img_size"] = shape[1:]
    try:
        module: nn.Module = timm.create_model(model, **options)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise InputError(f"timm cannot make {model!r} for images {shape[1]}×{shape[2]}: {error}.") from error
    return module


def _square(shape: Shape, model: str) -> int:
    if shape[1] != shape[2]:
        raise InputError(f"torchvision's {model!r} takes square images; these are {shape[1]}×{shape[2]}.")
    return shape[1]


def _replace_first_convolution(module: nn.Module, channels: int) -> None:
    """Another number of input channels. InputError when the network does not begin with a plain convolution of 3."""
    from torch import nn

    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            if part.in_channels != 3 or part.groups != 1:
                break
            like: Any = part  # the attributes of a made convolution are typed more loosely than what makes one
            fresh = nn.Conv2d(
                channels, like.out_channels, like.kernel_size, like.stride, like.padding, like.dilation,
                bias=like.bias is not None, padding_mode=like.padding_mode,
            )  # fmt: skip
            nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
            if fresh.bias is not None:
                nn.init.zeros_(fresh.bias)
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, fresh)
            return
    raise InputError(f"This network cannot take {channels} channels: it does not begin with a convolution of 3.")


def load_weights(module: nn.Module, file: Path, *, fresh_head: bool = False) -> None:
    """Put the tensors of a file into a module, in place; nothing is changed when they do not all fit.

    The file holds a state dict, alone or under "state_dict" or "model", with or without the prefix "module.".
    Raises ArtefactError for files that are missing, damaged or foreign, and for tensors that do not fit.
    """
    from distillens.models.capture import classifier_path

    given = read_weights(file)
    own = module.state_dict()
    head = classifier_path(module) + "." if fresh_head else None
    if head is not None:
        other = [n for n in given if n.startswith(head) and n in own and given[n].shape != own[n].shape]
        given = {n: own[n] if n in other else v for n, v in given.items()}
    missing = [n for n in own if n not in given and not n.endswith("num_batches_tracked")]
    foreign = [n for n in given if n not in own]
    misshapen = [n for n in own if n in given and given[n].shape != own[n].shape]
    if missing or foreign:
        which = f"it has no {missing[0]!r}" if missing else f"it has {foreign[0]!r}, which the network has not"
        raise ArtefactError(
            f"{file.name} holds weights of another network: {which} ({len(missing)} missing, {len(foreign)} foreign tensors)."
        )
    if misshapen:
        name = misshapen[0]
        raise ArtefactError(
            f"{file.name}: {name!r} is {tuple(given[name].shape)} in the file and {tuple(own[name].shape)} in the network; where only the "
            "classes differ, fresh_head: true leaves the classifier as initialised."
        )
    module.load_state_dict(given, strict=False)  # strict but for counters that old files lack


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a torch file read with `weights_only=True`, by name."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not os.path.isfile(file):
        raise ArtefactError(f"There is no file {file} with weights.")
    try:
        if file.suffix.lower() == ".safetensors":
            read: Any = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # about foreign pickles, which raise as well
                read = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ArtefactError(f"{file.name} is not a safetensors file, or damaged ({error}).") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ArtefactError(
            f"{file.name} holds more than tensors, or is damaged; only state dicts are read (torch.save(model.state_dict(), …), "
            "or better a .safetensors file)."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(read, Mapping) and isinstance(read.get(key), Mapping):
            read = read[key]
    if not isinstance(read, Mapping) or not read or not all(isinstance(v, torch.Tensor) for v in read.values()):
        raise ArtefactError(f"{file.name} holds no state dict: expected names with tensors.")
    return {str(name).removeprefix("module."): value for name, value in read.items()}

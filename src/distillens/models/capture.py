"""Layers seen without touching model code. The only file that registers hooks.

A *tap* names one tensor that passes through a network during a forward pass:

    layer3.1:output                          what the module at the path `layer3.1` returns
    fc:input                                 what it is given (the first argument)
    encoder.layer.2.attention:output[1]      part 1 of a returned tuple; `[name]` of a dictionary; `[1][0]` inside a part
    decoder:input[1], decoder:input[mask]    the second argument, the argument `mask`
    relu:output#2, relu:output#last          the second, the last call of a module that one forward pass calls several times
    :output                                  what the whole network returns
    features                                 alias: the input of the last `nn.Linear` in module order, which is the classifier
                                             of most networks; where it is not, write the tap out

Paths are those of the plain network: wrappers (`DistributedDataParallel`, `torch.compile`, checkpointing) are looked through.

The values are those at the moment of the call, also when a later operation works in place (`ReLU(inplace=True)`): without
gradients a copy is kept; with gradients the tensor itself is kept, so that outputs can be differentiated by it, and the
network goes on with a copy. A module that is called several times needs `#`: guessing which call was meant would be silent.
"""

from __future__ import annotations

import contextlib
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from distillens.errors import ModelError, did_you_mean
from distillens.models.torch_module import evaluating

Tap = str
FEATURES = "features"
LAST = -1  # `#last`

_GRAMMAR = re.compile(
    r"(?P<path>[^:#\[\]]*):(?P<side>input|output)(?P<index>(\[[^\[\]]+\])*)(#(?P<call>[1-9]\d*|last))?"
)
_WRAPPERS = frozenset(("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"))


@dataclass(frozen=True, eq=False)
class _Place:
    """A tap found in a network. call: which of the module's calls; None: it must be the only one."""

    tap: Tap
    path: str
    module: nn.Module
    side: Literal["input", "output"]
    index: tuple[int | str, ...]
    call: int | None


@dataclass(frozen=True)
class Layer:
    """A tensor a module returned. shape: without the first dimension. kind: the module's class. leaf: it has no parts of its own."""

    tap: Tap
    path: str
    kind: str
    shape: tuple[int, ...]
    leaf: bool


def unwrapped(module: nn.Module) -> nn.Module:
    """The plain network inside `DistributedDataParallel`, `DataParallel` and `torch.compile`."""
    while True:
        if isinstance(module, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner: Any = module.module
        else:
            inner = next((module._modules[name] for name in _WRAPPERS if name in module._modules), None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def paths_of(module: nn.Module) -> dict[str, nn.Module]:
    """Every path of the plain network and the module there, in module order; "" is the network itself."""
    found: dict[str, nn.Module] = {}
    for name, part in unwrapped(module).named_modules(remove_duplicate=False):
        # a wrapper and what it wraps share a path, and the wrapped one comes last
        found[".".join(word for word in name.split(".") if word not in _WRAPPERS)] = part
    return found


def classifier_path(module: nn.Module) -> str:
    """The path of the last `nn.Linear` in module order. ModelError when there is none."""
    linear = [path for path, part in paths_of(module).items() if isinstance(part, nn.Linear)]
    if not linear:
        raise ModelError(
            "The tap 'features' is the input of the last nn.Linear, and this network has none; write the tap out, such as 'head:input'."
        )
    return linear[-1]


def resolve_tap(module: nn.Module, tap: Tap) -> _Place:
    """Where a tap is in a network. ModelError, with a suggestion, when the tap cannot be read or the path does not exist."""
    if tap == FEATURES:
        path = classifier_path(module)
        return _Place(tap, path, paths_of(module)[path], "input", (), None)
    read = _GRAMMAR.fullmatch(str(tap))  # a recipe may have written anything
    known = paths_of(module)
    if read is None:
        hint = f"{tap}:output" if tap in known else "layer3.1:output"
        raise ModelError(
            f"{tap!r} is not a tap; write a path with :input or :output, such as {hint!r}, or 'features' for the input of the classifier."
        )
    path = read["path"]
    if path not in known:
        raise ModelError(f"The network has no layer {path!r} (tap {tap!r}).{did_you_mean(path, _shown(known, path))}")
    words = re.findall(r"\[([^\]]+)\]", read["index"])
    index = tuple(int(word) if re.fullmatch(r"-?\d+", word) else word for word in words)
    call = None if read["call"] is None else LAST if read["call"] == "last" else int(read["call"])
    return _Place(tap, path, known[path], "input" if read["side"] == "input" else "output", index, call)


def _shown(known: Iterable[str], wrong: str) -> list[str]:
    """Paths worth suggesting: those of the same depth first, then the upper ones."""
    names = [name for name in known if name]
    same = [name for name in names if name.count(".") == wrong.count(".")]
    return same or [name for name in names if name.count(".") <= 1]


@contextlib.contextmanager
def capture(module: nn.Module, taps: Iterable[Tap]) -> Iterator[dict[Tap, Tensor]]:
    """Inside the block, every forward pass of `module` leaves its activations in the dictionary; the latest pass counts.

    Hooks are removed at the end, also when the body raises. Passes of parts of the network (`model.forward_features(x)`) count
    too. Inside a compiled or distributed training step use `Tapped`, which returns the activations.
    Raises ModelError for taps that cannot be found; after the pass for one that never fired, that is no tensor, that was called
    several times without `#`, or that was changed in place in a way that could not be undone.
    """
    recorder = _Recorder([resolve_tap(module, tap) for tap in dict.fromkeys(taps)])
    root = unwrapped(module)
    with contextlib.ExitStack() as hooks:
        recorder.attach(hooks)
        recorder.begin()

        def begin(*_: object) -> None:
            recorder.begin()

        def end(*_: object) -> None:
            # recomputation by gradient checkpointing in the backward pass comes later, and is not looked at
            recorder.end()

        hooks.callback(root.register_forward_pre_hook(begin, prepend=True).remove)
        hooks.callback(root.register_forward_hook(end).remove)
        yield recorder.layers
        recorder.end()


class Tapped(nn.Module):
    """A network whose forward returns (its outputs, {tap: activation}).

    Because activations are returned and not left on the side, it may be compiled, distributed, checkpointed and called
    several times before a backward pass:  `torch.compile(Tapped(net, taps))`, `DistributedDataParallel(Tapped(net, taps))`.
    Between calls the network answers as if it were not tapped. `close()`, the end of a `with` block, or forgetting the object removes
    the hooks. Not for several threads at once. Raises ModelError as `capture` does, and when an activation of a pass
    with gradients has none (reentrant checkpointing; use_reentrant=False has them).
    """

    def __init__(self, module: nn.Module, taps: Iterable[Tap]) -> None:
        super().__init__()
        self.module = module
        self.taps = tuple(dict.fromkeys(taps))
        self._recorder = _Recorder([resolve_tap(module, tap) for tap in self.taps])
        hooks = contextlib.ExitStack()
        self._hooks = weakref.finalize(self, hooks.close)
        try:
            self._recorder.attach(hooks)
        except BaseException:
            self.close()
            raise

    def forward(self, *inputs: Any, **named: Any) -> tuple[Any, dict[Tap, Tensor]]:  # whatever the network takes
        self._recorder.begin()
        try:
            outputs = self.module(*inputs, **named)
            self._recorder.require_gradients()
            return outputs, dict(self._recorder.end())
        finally:
            self._recorder.forget()

    def close(self) -> None:
        """Remove the hooks; the network is as it was."""
        self._hooks()

    def __enter__(self) -> Tapped:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(eq=False)
class _Recorder:
    """What hooks saw during one forward pass."""

    places: Sequence[_Place]
    active: bool = False
    layers: dict[Tap, Tensor] = field(default_factory=dict)
    calls: dict[Tap, int] = field(default_factory=dict)
    versions: dict[Tap, int] = field(default_factory=dict)  # of autograd's count of changes in place
    with_gradients: bool = False
    without: list[Tap] = field(default_factory=list)

    def attach(self, hooks: contextlib.ExitStack) -> None:
        for place in self.places:
            if place.side == "output":
                hooks.callback(place.module.register_forward_hook(self._output_hook(place)).remove)
            else:
                handle = place.module.register_forward_pre_hook(self._input_hook(place), with_kwargs=True)
                hooks.callback(handle.remove)

    def begin(self) -> None:
        self.forget()
        self.layers.clear()
        self.active = True
        self.with_gradients = torch.is_grad_enabled()

    def forget(self) -> None:
        """Hold on to nothing between passes. The dictionary of `capture` stays as it is."""
        self.active = False
        self.calls, self.versions, self.without = {}, {}, []

    def end(self) -> dict[Tap, Tensor]:
        """The layers of the pass that ends here, checked. Nothing happens when it was checked before."""
        if not self.active:
            return self.layers
        self.active = False
        for place in self.places:
            calls = self.calls.get(place.tap, 0)
            if place.tap not in self.layers:
                raise ModelError(_never(place, calls))
            if calls > 1 and place.call is None:
                raise ModelError(
                    f"The layer {place.path!r} was called {calls} times in one forward pass; say which call is meant: "
                    f"'{place.tap}#1' … '{place.tap}#{calls}', or '{place.tap}#last'."
                    if place.tap != FEATURES
                    else f"The classifier {place.path!r} was called {calls} times; write '{place.path}:input#1' or '#last'."
                )
        for tap, version in self.versions.items():
            if self.layers[tap]._version != version:
                raise ModelError(
                    f"What {tap!r} names is changed in place later in the network, by code that holds it under another name; "
                    "tap the layer after it, or remove the in-place operation."
                )
        return self.layers

    def require_gradients(self) -> None:
        if self.without:
            raise ModelError(
                f"{self.without[0]!r} was computed without gradients inside a pass with gradients: nothing can be learned through it. "
                "Use checkpointing with use_reentrant=False, remove torch.no_grad from the network, or tap another layer."
            )

    def keep(self, place: _Place, tensor: Tensor) -> Tensor | None:
        """Keep a tensor; what the network goes on with instead, if anything."""
        self.calls[place.tap] = calls = self.calls.get(place.tap, 0) + 1
        if place.call is not None and place.call not in (LAST, calls):
            return None
        if not torch.is_grad_enabled():
            if self.with_gradients:
                self.without.append(place.tap)
            self.layers[place.tap] = tensor.clone()
            return None
        self.layers[place.tap] = tensor
        if not torch.compiler.is_compiling() and not tensor.is_inference():
            self.versions[place.tap] = tensor._version
        return tensor.clone()

    def _output_hook(self, place: _Place) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if not self.active:
                return None
            instead = self.keep(place, _picked(place, output, place.index))
            return None if instead is None else _with_part(output, place.index, instead)

        return hook

    def _input_hook(self, place: _Place) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if not self.active:
                return None
            first: tuple[int | str, ...] = place.index or ((0,) if inputs or not named else (next(iter(named)),))
            given: Any = inputs if isinstance(first[0], int) else named
            instead = self.keep(place, _picked(place, given, first))
            if instead is None:
                return None
            changed = _with_part(given, first, instead)
            return (changed, named) if given is inputs else (inputs, changed)

        return hook


def _never(place: _Place, calls: int) -> str:
    if calls:
        return f"{place.tap!r} asks for call {place.call} of {place.path!r}, which was called {calls} time(s) in this forward pass."
    return (
        f"The tap {place.tap!r} never fired: the forward pass did not call the layer {place.path!r} (or the network was compiled "
        "before it was tapped; compile the tapped network instead)."
    )


def _picked(place: _Place, value: Any, index: tuple[int | str, ...]) -> Tensor:
    """The tensor at `index` inside what a layer gave or got. ModelError that lists what is there."""
    found = value
    for word in index:
        try:
            found = found[word]
        except (KeyError, IndexError, TypeError):
            raise ModelError(f"{place.tap!r}: there is no [{word}] in {_described(value)}.") from None
    if isinstance(found, Tensor):
        return found
    example = next((tap for tap, _ in _tensors(found, place.tap.split("#")[0])), None)
    hint = f"; write {example!r} for one of them" if example else "; tap another layer"
    raise ModelError(f"The {place.side} of {place.path!r} is no tensor but {_described(found)}{hint}.")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of " + ", ".join(
            f"[{key}]: {_described(part)}" for key, part in value.items()
        )
    if isinstance(value, (tuple, list)):
        parts = ", ".join(f"[{i}]: {_described(part)}" for i, part in enumerate(value))
        return f"a {type(value).__name__} of {parts}" if parts else f"an empty {type(value).__name__}"
    return f"a {type(value).__name__}"


def _tensors(value: Any, tap: Tap) -> Iterator[tuple[Tap, Tensor]]:
    """Every tensor inside a value, with its tap."""
    if isinstance(value, Tensor):
        yield tap, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _tensors(part, f"{tap}[{key}]")
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from _tensors(part, f"{tap}[{i}]")


def _with_part(value: Any, index: tuple[int | str, ...], part: Tensor) -> Any:
    """The same structure with another tensor at `index`; what was given is not changed."""
    if not index:
        return part
    word: Any = index[0]
    inner = _with_part(value[word], index[1:], part)
    if isinstance(value, tuple):
        parts = list(value)
        parts[word] = inner
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [inner if i == word % len(value) else other for i, other in enumerate(value)]
    if type(value) is dict:
        return {**value, word: inner}
    keys = list(value.keys())  # output classes of text libraries: dictionaries that are also indexed by position
    named = {key: value[key] for key in keys} | {keys[word] if isinstance(word, int) else word: inner}
    return type(value)(**named)


def call(module: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> Any:
    """What a network returns for a tensor, or for named tensors."""
    return module(**inputs) if isinstance(inputs, Mapping) else module(inputs)


def rows_of(inputs: Tensor | Mapping[str, Tensor]) -> int:
    """B: the length of the first dimension. ModelError when there is no tensor."""
    first = next(iter(inputs.values()), None) if isinstance(inputs, Mapping) else inputs
    if first is None:
        raise ModelError("A network cannot be asked about nothing: the inputs hold no tensor.")
    return len(first)


def dry_run(
    module: nn.Module, inputs: Tensor | Mapping[str, Tensor], taps: Iterable[Tap]
) -> dict[Tap, tuple[int, ...]]:
    """The shape of each tapped activation without the batch dimension, from one pass over a few rows in eval mode.

    The network is left as it was. Raises ModelError as `capture`, and when the first dimension is not the rows.
    """
    n = rows_of(inputs)
    with evaluating(module), torch.no_grad(), capture(module, taps) as layers:
        call(module, inputs)
    for tap, value in layers.items():
        if value.ndim == 0 or len(value) != n:
            raise ModelError(
                f"{tap!r} has the shape {tuple(value.shape)} for {n} rows; the first dimension of an activation must be the rows."
            )
    return {tap: tuple(value.shape[1:]) for tap, value in layers.items()}


def list_taps(module: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """Every tensor that some module returns, in the order in which modules finish, from one pass over a few rows in eval mode.

    Calls of one module after the first have `#2`, … (and the first `#1`). Outputs whose first dimension is not the rows are left
    out. The network is left as it was.
    """
    n = rows_of(inputs)
    seen: list[tuple[str, nn.Module, Any]] = []
    with contextlib.ExitStack() as hooks, evaluating(module), torch.no_grad():
        for path, part in {id(part): (path, part) for path, part in reversed(paths_of(module).items())}.values():

            def note(_: nn.Module, __: Any, output: Any, path: str = path, part: nn.Module = part) -> None:
                shapes = [(tap, tuple(value.shape)) for tap, value in _tensors(output, f"{path}:output")]
                seen.append((path, part, shapes))

            hooks.callback(part.register_forward_hook(note).remove)
        call(module, inputs)
    times = [path for path, _, _ in seen]
    layers: list[Layer] = []
    for position, (path, part, shapes) in enumerate(seen):
        which = f"#{times[: position + 1].count(path)}" if times.count(path) > 1 else ""
        for tap, shape in shapes:
            if shape and shape[0] == n:
                layers.append(Layer(tap + which, path, type(part).__name__, shape[1:], not any(part.children())))
    return tuple(layers)

"""A narrower and shallower network made of the most important units of a larger one.

Samragh et al. 2023, "Weight subcloning: direct initialization of transformers using larger pretrained ones": units are ranked by
the mean magnitude of their activations on data, one ranking wherever the same units are read and written (a residual stream has one
for all of its blocks), the leading ones are kept, in order of rank, and blocks are taken out to fit the depth. Because every layer
follows one consistent permutation, a student of the teacher's own size computes exactly the teacher's function.

Here, and departing from the paper: blocks are taken evenly, first and last included (the paper takes them out of the middle); attention
heads are ranked first, then the dimensions inside each; weights are not rescaled for the smaller number of summands; instead, in
networks with batch norm, the running statistics are estimated anew on the same data where units were dropped (`recalibrate`).

Supported are the multilayer perceptrons, ResNets, wide ResNets and ViTs of distillens (models/nets); for others a consistent permutation
would have to be guessed from the code. `select_weights` and `copy_by_name` take any network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distillens.errors import ModelError
from distillens.transfer.layers.inherit import Inheritance, Taken, evenly_spaced

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.models.capture import Tap

SUPPORTED = "perceptrons (mlp), resnet, wide_resnet and vit of distillens"
NORM = ("weight", "bias", "running_mean", "running_var")
BATCH = 128


@dataclass
class _Plan:
    """Which units go together. Groups are named after the teacher's layers.

    tensors: tensor of the student → (tensor of the teacher, {axis: group}). taps: group → where its units are active in the teacher.
    heads: groups whose units come in attention heads → (heads of the teacher, heads of the student).
    """

    tensors: dict[str, tuple[str, dict[int, str]]] = field(default_factory=dict)
    taps: dict[str, tuple[Tap, ...]] = field(default_factory=dict)
    heads: dict[str, tuple[int, int]] = field(default_factory=dict)

    def linear(self, student: str, teacher: str, *, out: str | None, into: str | None, bias: bool = True) -> None:
        """A linear layer or a convolution that reads the units of one group and writes those of another; None: all of them."""
        axes = {axis: group for axis, group in ((0, out), (1, into)) if group is not None}
        self.tensors[f"{student}.weight"] = (f"{teacher}.weight", axes)
        if bias:
            self.tensors[f"{student}.bias"] = (f"{teacher}.bias", {} if out is None else {0: out})

    def norm(self, student: str, teacher: str, group: str, names: tuple[str, ...] = NORM) -> None:
        for name in names:
            self.tensors[f"{student}.{name}"] = (f"{teacher}.{name}", {0: group})


def subclone(
    student: nn.Module,
    teacher: nn.Module,
    teacher_inputs: Tensor,
    *,
    student_inputs: Tensor | None = None,
    recalibrate: bool = True,
) -> Inheritance:
    """Fill the student with the teacher's most important units, in place. Both must be of the same supported kind.

    teacher_inputs: (n, …) rows after the teacher's preprocessing, on which units are ranked; a few hundred will do. student_inputs: the
    same rows after the student's, for `recalibrate`; None: the teacher's. The number of classes must be the same. The teacher is left
    as it was. Raises ModelError, before anything is changed, for other networks and sizes that do not fit.
    """
    import torch

    plan = _plan(student, teacher)
    own, given = student.state_dict(), teacher.state_dict()
    sizes = _sizes(plan, own, given)
    order = _rankings(plan, teacher, teacher_inputs, sizes)
    values: dict[str, Tensor] = {}
    for name, (source, axes) in plan.tensors.items():
        value = given[source]
        for axis, group in axes.items():
            value = value.index_select(axis, order[group].to(value.device))
        if value.shape != own[name].shape:
            raise ModelError(
                f"{name!r} is {tuple(own[name].shape)} in the student and would be {tuple(value.shape)} from the teacher's {source!r}; "
                "inputs, patches, kernels and classes must be the same."
            )
        values[name] = value.detach().clone()
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    if recalibrate and any(own[n].shape != given[s].shape for n, (s, _) in plan.tensors.items()):
        _estimate_norms(student, teacher_inputs if student_inputs is None else student_inputs)
    taken = tuple(
        Taken(name, source, tuple(own[name].shape), part=own[name].shape != given[source].shape)
        for name, (source, _) in plan.tensors.items()
    )
    used = {source for source, _ in plan.tensors.values()}
    fresh = tuple(n for n in own if n not in plan.tensors and not n.endswith("num_batches_tracked"))
    return Inheritance(taken, fresh, tuple(n for n in given if n not in used and not n.endswith("num_batches_tracked")))


def _plan(student: nn.Module, teacher: nn.Module) -> _Plan:
    from torch import nn

    from distillens.models.nets.resnet import ResNet
    from distillens.models.nets.vit import ViT
    from distillens.models.nets.wide_resnet import WideResNet

    if isinstance(student, ResNet) and isinstance(teacher, ResNet):
        return _resnet(student, teacher)
    if isinstance(student, WideResNet) and isinstance(teacher, WideResNet):
        return _wide_resnet(student, teacher)
    if isinstance(student, ViT) and isinstance(teacher, ViT):
        return _vit(student, teacher)
    if all(isinstance(m, nn.Sequential) and any(isinstance(p, nn.Linear) for p in m) for m in (student, teacher)):
        return _perceptron(student, teacher)
    raise ModelError(
        f"subclone knows {SUPPORTED}, both networks of one kind; got a {type(student).__name__} for a student and a {type(teacher).__name__} for "
        "a teacher. Other networks: select_weights or copy_by_name."
    )


def _perceptron(student: nn.Module, teacher: nn.Module) -> _Plan:
    from torch import nn

    plan = _Plan()
    layers: list[list[str]] = []
    for module, whose in ((student, "student"), (teacher, "teacher")):
        strange = [n for n, part in module.named_children() if part.state_dict() and not isinstance(part, nn.Linear)]
        last = list(dict(module.named_children()))[-1:]
        if [n for n in strange if n not in last]:  # the last part may bring values back to the user's units
            raise ModelError(
                f"subclone knows {SUPPORTED}; the {whose} has a layer {strange[0]!r} that is none of theirs."
            )
        layers.append([n for n, part in module.named_children() if isinstance(part, nn.Linear)])
    if len(layers[0]) != len(layers[1]):
        raise ModelError(
            f"A perceptron keeps its depth; the student has {len(layers[0])} linear layers and the teacher {len(layers[1])}."
        )
    before = None
    for i, (own, source) in enumerate(zip(*layers, strict=True)):
        group = source if i + 1 < len(layers[1]) else None
        if group is not None:
            plan.taps[group] = (f"{layers[1][i + 1]}:input",)
        bias = getattr(student.get_submodule(own), "bias", None) is not None
        plan.linear(own, source, out=group, into=before, bias=bias)
        before = group
    for name in student.state_dict():
        if name not in plan.tensors:
            plan.tensors[name] = (name, {})
    return plan


def _paired_blocks(student: nn.Module, teacher: nn.Module, path: str) -> Iterator[tuple[str, str]]:
    """Paths of the blocks of one stage, each with the teacher's block it is taken from."""
    own, given = (len(list(m.get_submodule(path).children())) for m in (student, teacher))
    if own > given:
        raise ModelError(
            f"{path!r} has {own} blocks in the student and {given} in the teacher; the student must be the smaller one."
        )
    for i, j in enumerate(evenly_spaced(own, given)):
        block, source = f"{path}.{i}", f"{path}.{j}"
        different = set(student.get_submodule(block).state_dict()) ^ set(teacher.get_submodule(source).state_dict())
        if different:
            raise ModelError(
                f"The student's {block!r} and the teacher's {source!r} differ in {sorted(different)[0]!r}: one has a shortcut that the other "
                "lacks, because their stems are wide in different proportion; choose other widths."
            )
        yield block, source


def _resnet(student: nn.Module, teacher: nn.Module) -> _Plan:
    plan = _Plan()
    stream = "stem"
    plan.taps["stem"] = ("stem:output",)
    plan.linear("stem.0", "stem.0", out="stem", into=None, bias=False)
    plan.norm("stem.1", "stem.1", "stem")
    for stage in ("stages.0", "stages.1", "stages.2"):
        for i, (own, source) in enumerate(_paired_blocks(student, teacher, stage)):
            after = stream
            if i == 0 and f"{source}.shortcut.0.weight" in teacher.state_dict():
                after = stage
                plan.taps[stage] = tuple(f"{stage}.{j}:output" for j, _ in enumerate(_children(teacher, stage)))
                plan.linear(f"{own}.shortcut.0", f"{source}.shortcut.0", out=after, into=stream, bias=False)
                plan.norm(f"{own}.shortcut.1", f"{source}.shortcut.1", after)
            elif i == 0:  # the stem's units go on through this stage
                plan.taps[stream] += tuple(f"{stage}.{j}:output" for j, _ in enumerate(_children(teacher, stage)))
            plan.taps[f"{source} inside"] = (f"{source}.conv2:input",)
            plan.linear(f"{own}.conv1", f"{source}.conv1", out=f"{source} inside", into=stream, bias=False)
            plan.norm(f"{own}.norm1", f"{source}.norm1", f"{source} inside")
            plan.linear(f"{own}.conv2", f"{source}.conv2", out=after, into=f"{source} inside", bias=False)
            plan.norm(f"{own}.norm2", f"{source}.norm2", after)
            stream = after
    plan.linear("classifier", "classifier", out=None, into=stream)
    return plan


def _wide_resnet(student: nn.Module, teacher: nn.Module) -> _Plan:
    plan = _Plan()
    stream = "stem"
    plan.taps["stem"] = ("stem:output",)
    plan.linear("stem", "stem", out="stem", into=None, bias=False)
    for stage in ("stages.0", "stages.1", "stages.2"):
        for i, (own, source) in enumerate(_paired_blocks(student, teacher, stage)):
            after = stream
            if i == 0 and f"{source}.shortcut.weight" in teacher.state_dict():
                after = stage
                plan.taps[stage] = tuple(f"{stage}.{j}:output" for j, _ in enumerate(_children(teacher, stage)))
                plan.linear(f"{own}.shortcut", f"{source}.shortcut", out=after, into=stream, bias=False)
            elif i == 0:
                plan.taps[stream] += tuple(f"{stage}.{j}:output" for j, _ in enumerate(_children(teacher, stage)))
            plan.norm(f"{own}.norm1", f"{source}.norm1", stream)
            plan.taps[f"{source} inside"] = (f"{source}.conv2:input",)
            plan.linear(f"{own}.conv1", f"{source}.conv1", out=f"{source} inside", into=stream, bias=False)
            plan.norm(f"{own}.norm2", f"{source}.norm2", f"{source} inside")
            plan.linear(f"{own}.conv2", f"{source}.conv2", out=after, into=f"{source} inside", bias=False)
            stream = after
    plan.norm("norm", "norm", stream)
    plan.linear("classifier", "classifier", out=None, into=stream)
    return plan


def _vit(student: nn.Module, teacher: nn.Module) -> _Plan:
    plan = _Plan()
    plan.taps["stream"] = tuple(f"blocks.{j}:output" for j, _ in enumerate(_children(teacher, "blocks")))
    plan.linear("patches", "patches", out="stream", into=None)
    for name in ("token", "position"):
        plan.tensors[name] = (name, {2: "stream"})
    for own, source in _paired_blocks(student, teacher, "blocks"):
        inside, hidden = f"{source}.attention", f"{source}.mlp"
        attention: Any = student.get_submodule(f"{own}.attention")
        other: Any = teacher.get_submodule(inside)
        plan.heads[inside] = (other.heads, attention.heads)
        plan.taps[inside], plan.taps[hidden] = (f"{inside}.project:input",), (f"{hidden}.2:input",)
        for part in ("query", "key", "value"):
            plan.linear(f"{own}.attention.{part}", f"{inside}.{part}", out=inside, into="stream")
        plan.linear(f"{own}.attention.project", f"{inside}.project", out="stream", into=inside)
        plan.linear(f"{own}.mlp.0", f"{hidden}.0", out=hidden, into="stream")
        plan.linear(f"{own}.mlp.2", f"{hidden}.2", out="stream", into=hidden)
        for norm in ("norm1", "norm2"):
            plan.norm(f"{own}.{norm}", f"{source}.{norm}", "stream", NORM[:2])
    plan.norm("norm", "norm", "stream", NORM[:2])
    plan.linear("classifier", "classifier", out=None, into="stream")
    return plan


def _children(module: nn.Module, path: str) -> list[nn.Module]:
    return list(module.get_submodule(path).children())


def _sizes(plan: _Plan, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """For each group (units in the teacher, units in the student). ModelError where the student has more, or two counts disagree."""
    sizes: dict[str, tuple[int, int]] = {}
    for name, (source, axes) in plan.tensors.items():
        if name not in own or source not in given:
            raise ModelError(
                f"The {'student' if name not in own else 'teacher'} has no tensor {name if name not in own else source!r}."
            )
        for axis, group in axes.items():
            size = (given[source].shape[axis], own[name].shape[axis])
            if sizes.setdefault(group, size) != size:
                raise ModelError(
                    f"{name!r} keeps {size[1]} of {size[0]} units where others keep {sizes[group][1]} of {sizes[group][0]}."
                )
            if size[1] > size[0]:
                raise ModelError(
                    f"{name!r} has {size[1]} units and the teacher's {source!r} {size[0]}; the student must be the smaller one."
                )
    return sizes


def _rankings(
    plan: _Plan, teacher: nn.Module, inputs: Tensor, sizes: Mapping[str, tuple[int, int]]
) -> dict[str, Tensor]:
    """For each group the positions of the units that are kept, the most important first."""
    import torch

    from distillens.models.capture import capture
    from distillens.models.torch_module import evaluating

    if len(inputs) == 0:
        raise ModelError("Units are ranked by their activations on data; at least one row is needed.")
    total = {group: torch.zeros(size, dtype=torch.float64) for group, (size, _) in sizes.items()}
    taps = [tap for group in plan.taps for tap in plan.taps[group]]
    with evaluating(teacher), torch.no_grad():
        for batch in torch.split(inputs, BATCH):
            with capture(teacher, taps) as layers:
                teacher(batch)
            for group, names in plan.taps.items():
                for tap in names:
                    total[group] += _magnitudes(layers[tap]) * (len(batch) / len(inputs))
    return {group: _leading(total[group], sizes[group][1], plan.heads.get(group)) for group in sizes}


def _magnitudes(layer: Tensor) -> Tensor:
    """(D,) mean absolute activation of each unit of (B, D), (B, T, D) or (B, D, H, W), over rows and positions."""
    units = 1 if layer.ndim == 4 else layer.ndim - 1
    return layer.double().abs().mean(dim=[axis for axis in range(layer.ndim) if axis != units]).cpu()


def _leading(importance: Tensor, count: int, heads: tuple[int, int] | None) -> Tensor:
    """Positions of the `count` most important units, of equals the first; with heads: heads by their sum, then units in each."""
    import torch

    if heads is None:
        return importance.argsort(descending=True, stable=True)[:count]
    given, kept = heads
    if kept > given or count % kept or len(importance) % given or count // kept > len(importance) // given:
        raise ModelError(
            f"{kept} heads of {count // max(kept, 1)} units cannot be taken from {given} heads of {len(importance) // given}; the student must be smaller."
        )
    by_head = importance.reshape(given, -1)
    chosen = by_head.sum(dim=1).argsort(descending=True, stable=True)[:kept]
    inside = by_head[chosen].argsort(dim=1, descending=True, stable=True)[:, : count // kept]
    return torch.cat([head * by_head.shape[1] + units for head, units in zip(chosen, inside, strict=True)])


def _estimate_norms(module: nn.Module, inputs: Tensor) -> None:
    """Running statistics of batch norms from these rows alone, layer after layer in one pass over all batches."""
    import torch
    from torch import nn

    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms or len(inputs) < 2:
        return
    momenta = [part.momentum for part in norms]
    modes = [(part, part.training) for part in module.modules()]
    size = len(inputs) if len(inputs) < 2 * BATCH else BATCH
    try:
        module.eval()
        for part in norms:
            part.reset_running_stats()
            part.momentum = None  # the plain average over batches
            part.train()
        with torch.no_grad():
            for batch in torch.split(inputs, size):
                if len(batch) == size:  # a short last one would count as much as a whole one
                    module(batch)
    finally:
        for part, momentum in zip(norms, momenta, strict=True):
            part.momentum = momentum
        for any_part, training in modes:
            any_part.training = training

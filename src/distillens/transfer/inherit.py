"""Parameters taken over: a student network that starts from pieces of its teacher instead of from random numbers.

- `copy_layers`: whole layers, evenly spread over the teacher's depth (Sanh et al. 2019, "DistilBERT", section 2, who
  take every other layer; their code takes layers 0, 2, 4, 7, 9, 11 of 12, which is what even spreading gives);
- `copy_by_name`: whatever has the same name and shape, or the same name behind another prefix;
- `select_weights`: evenly spaced elements of every dimension (Xu et al. 2024, "Initializing Models with Larger Ones",
  uniform selection), for a student that is narrower. Because the choice depends on nothing but the two widths, the
  units a layer keeps are the ones the next layer listens to.

Values are copied: student and teacher share no memory. Every function says what was taken and what starts afresh;
whether it helped is for a comparison to say, against the same student without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from distillens.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Taken:
    """One tensor that was taken over. student, teacher: names in each state dict. part: elements were selected from a larger one."""

    student: str
    teacher: str
    shape: tuple[int, ...]
    part: bool = False


@dataclass(frozen=True)
class Inheritance:
    """What a student took from its teacher.

    taken: tensors with values from the teacher. fresh: the student's tensors that kept their own initial values.
    unused: the teacher's tensors that nothing was taken from.
    """

    taken: tuple[Taken, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"taken  {t.student} ← {t.teacher} {'×'.join(map(str, t.shape)) or 'scalar'}{' (selected)' if t.part else ''}"
            for t in self.taken
        ]
        return "\n".join(lines + [f"fresh  {name}" for name in self.fresh])

    def to_json(self) -> dict[str, Any]:
        return {
            "taken": [asdict(t) | {"shape": list(t.shape)} for t in self.taken],
            "fresh": list(self.fresh),
            "unused": list(self.unused),
        }


def evenly_spaced(count: int, of: int) -> tuple[int, ...]:
    """`count` of the positions 0 … of − 1, first and last among them: round(i (of − 1) / (count − 1)), halves up.

    Raises ModelError when there are fewer positions than asked for.
    """
    if not 1 <= count <= of:
        raise ModelError(f"{count} of {of} cannot be selected; the student must be the smaller one.")
    if count == 1:
        return (0,)
    return tuple((2 * i * (of - 1) + count - 1) // (2 * (count - 1)) for i in range(count))


def copy_layers(student: nn.Module, teacher: nn.Module, *, layers: Sequence[int] | None = None) -> Inheritance:
    """Give every layer of the student the values of one layer of the teacher, in place.

    The layers of a module are its direct children that hold parameters or buffers, in order; hand in the stacks themselves
    (`model.encoder.layer`). layers: which teacher layer each student layer takes, first layer first, negative numbers counting
    from the end; None: evenly spread. Raises ModelError, before anything is changed, when counts or shapes do not fit.
    """
    own, given = _layers(student), _layers(teacher)
    if not own or not given:
        raise ModelError(f"The {'student' if not own else 'teacher'} has no layers that hold parameters.")
    chosen = evenly_spaced(len(own), len(given)) if layers is None else tuple(layers)
    if len(chosen) != len(own):
        raise ModelError(f"The student has {len(own)} layers and {len(chosen)} of the teacher's were named for them.")
    pairs: dict[str, str] = {}
    for (name, layer), position in zip(own, chosen, strict=True):
        if not -len(given) <= position < len(given):
            raise ModelError(f"The teacher has {len(given)} layers, numbered from 0; there is no layer {position}.")
        source, other = given[position]
        missing = set(layer.state_dict()) ^ set(other.state_dict())
        if missing:
            raise ModelError(
                f"The student's layer {name!r} and the teacher's {source!r} hold different tensors: {sorted(missing)}."
            )
        pairs |= {f"{name}.{key}": f"{source}.{key}" for key in layer.state_dict()}
    return _take(student, teacher, pairs)


def copy_by_name(student: nn.Module, teacher: nn.Module, *, prefixes: Mapping[str, str] | None = None) -> Inheritance:
    """Take every tensor that has the same name and shape in both networks, in place; the others start afresh.

    prefixes: {prefix in the student: prefix in the teacher}, for the same part under another name; "" stands for all names.
    Raises ModelError when a prefix fits nothing, or when nothing at all can be taken.
    """
    own, given = student.state_dict(), teacher.state_dict()
    pairs: dict[str, str] = {}
    for prefix, source in ({"": ""} if prefixes is None else prefixes).items():
        for side, names, wanted in (("student", own, prefix), ("teacher", given, source)):
            if not any(name.startswith(wanted) for name in names):
                raise ModelError(f"No tensor of the {side} begins with {wanted!r}.{did_you_mean(wanted, names)}")
        for name, tensor in own.items():
            other = source + name.removeprefix(prefix)
            if name.startswith(prefix) and other in given and given[other].shape == tensor.shape:
                pairs[name] = other
    if not pairs:
        raise ModelError(
            "Nothing has the same name and shape in both networks; for a narrower student use select_weights."
        )
    return _take(student, teacher, pairs)


def select_weights(student: nn.Module, teacher: nn.Module) -> Inheritance:
    """Fill a narrower student with evenly spaced elements of the tensors of the same names, in place.

    Raises ModelError, before anything is changed, when a tensor is missing in the teacher or is larger in the student.
    """
    own, given = student.state_dict(), teacher.state_dict()
    for name, tensor in own.items():
        if name not in given:
            raise ModelError(f"The teacher has no tensor {name!r} to select from.{did_you_mean(name, given)}")
        if given[name].ndim != tensor.ndim or any(s > t for s, t in zip(tensor.shape, given[name].shape, strict=True)):
            raise ModelError(
                f"{name!r} is {tuple(tensor.shape)} in the student and {tuple(given[name].shape)} in the teacher; "
                "it can be selected only from a tensor that is nowhere smaller."
            )
    return _take(student, teacher, {name: name for name in own}, select=True)


def _layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in module.named_children() if child.state_dict()]


def _take(student: nn.Module, teacher: nn.Module, pairs: Mapping[str, str], *, select: bool = False) -> Inheritance:
    """Copy teacher tensors into the student's; all shapes are checked before the first one is."""
    import torch

    own, given = student.state_dict(), teacher.state_dict()  # tensors that share the modules' memory
    values: dict[str, Tensor] = {}
    for name, source in pairs.items():
        value = given[source]
        if select:
            for axis, (count, of) in enumerate(zip(own[name].shape, value.shape, strict=True)):
                where = torch.tensor(evenly_spaced(count, of), device=value.device)
                value = value.index_select(axis, where)
        if value.shape != own[name].shape:
            raise ModelError(
                f"{name!r} is {tuple(own[name].shape)} in the student and {source!r} is {tuple(value.shape)} in the teacher; "
                "whole tensors can only be copied between equal shapes (select_weights fills a narrower one)."
            )
        values[name] = value.detach().clone()
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    taken = tuple(
        Taken(name, source, tuple(own[name].shape), part=own[name].shape != given[source].shape)
        for name, source in pairs.items()
    )
    used = set(pairs.values())
    return Inheritance(taken, tuple(n for n in own if n not in pairs), tuple(n for n in given if n not in used))

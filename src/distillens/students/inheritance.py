"""`inherit`: what a network student takes over from its teacher before it is trained (transfer/layers/inherit.py), as an option of a recipe.

Only a student with a teacher inherits. The undistilled control is trained without one, so it starts from random numbers; the control with
permuted answers inherits as the student does, because only the answers may differ between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from distillens.errors import InputError, did_you_mean
from distillens.store import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from distillens.data.base import Inputs
    from distillens.models.base import Model
    from distillens.transfer.layers.inherit import Inheritance

How = Literal["copy_layers", "select_weights", "subclone", "reuse_classifier", "prefix"]
FILE = "inherit.json"
ASKED = 2000  # validation rows on which the agreement before training is counted, at most
_BELONGS = {"stack": "copy_layers", "teacher_stack": "copy_layers", "layers": "copy_layers", "prefixes": "prefix", "rows": "subclone"}  # fmt: skip


@dataclass(frozen=True)
class Inherit:
    """`{how: copy_layers, stack: blocks}`, `{how: select_weights}`, `{how: subclone}`, `{how: reuse_classifier}`, `{how: prefix}`.

    stack: for copy_layers, the path of the student's list of layers; "": the network's own parts. teacher_stack: the teacher's, where it has
    another path. layers: which teacher layer each student layer takes; None: evenly spread. What lies outside the stack is taken
    where it has the same name and shape. prefixes: for prefix, {prefix in the student: prefix in the teacher}; empty: all names.
    rows: for subclone, training rows on which units are ranked. InputError for options that do not belong to `how`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    how: How = "subclone"
    stack: str = ""
    teacher_stack: str | None = None
    layers: tuple[int, ...] | None = None
    prefixes: dict[str, str] = field(default_factory=dict)
    rows: int = 512

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise InputError(f"inherit.how: there is no {self.how!r}.{did_you_mean(str(self.how), get_args(How))}")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))
        plain: dict[str, Any] = {"stack": "", "teacher_stack": None, "layers": None, "prefixes": {}, "rows": 512}
        for name, owner in _BELONGS.items():
            if self.how != owner and getattr(self, name) != plain[name]:
                raise InputError(f"inherit.{name} is an option of {owner}; leave it out with how: {self.how}.")
        if type(self.rows) is not int or self.rows < 1:
            raise InputError(f"inherit.rows is a whole number of at least 1, got {self.rows!r}.")

    @property
    def same_inputs(self) -> bool:
        """Whether the first layer is taken over, so that the student has to see its inputs as the teacher does."""
        return self.how != "reuse_classifier"

    def to_json(self) -> dict[str, Any]:
        """The options that belong to `how`."""
        own = {name for name, owner in _BELONGS.items() if owner == self.how}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name == "how" or f.name in own}


def inheriting_from(inherit: Inherit | None, teacher: Model | None, *, out: Path | None) -> Any:
    """The teacher that a student takes weights from, as a network; None without `inherit` or without a teacher, which `out` then records.

    Raises InputError for a teacher that is no network.
    """
    if inherit is None:
        return None
    if teacher is None:
        if out is not None:
            why = "trained without a teacher: nothing was taken over"
            write_json(Path(out) / FILE, {**inherit.to_json(), "applied": False, "why": why})
        return None
    from distillens.models.base import TorchModel

    if not isinstance(teacher, TorchModel):
        raise InputError(
            f"inherit takes weights of the teacher, which has to be a network of ours; {teacher.label!r} can only be asked: leave inherit out."
        )
    return teacher


def some(inputs: Inputs, count: int) -> Inputs:
    """At most `count` rows, evenly spread: rows may be in order of their class."""
    import numpy as np

    return inputs.take(np.unique(np.linspace(0, len(inputs) - 1, min(count, len(inputs))).astype(np.int64)))


def take_over(
    inherit: Inherit, student: nn.Module, teacher: nn.Module, *, rows: tuple[Tensor, Tensor], fresh_rows: tuple[Tensor, Tensor],
    seed: int, out: Path | None,
) -> Inheritance:  # fmt: skip
    """Fill the student in place, and write what was taken to `out/inherit.json`.

    rows: some training rows as the student and as the teacher take them; fresh_rows: validation rows, for the agreement before training.
    Raises ModelError, before anything is changed, for pairs of networks that `how` does not fit.
    """
    from distillens.transfer.layers.inherit import copy_by_name, reuse_classifier, select_weights, with_agreement
    from distillens.transfer.layers.subclone import subclone

    own, given = rows
    if inherit.how == "select_weights":
        report = select_weights(student, teacher)
    elif inherit.how == "subclone":
        report = subclone(student, teacher, given, student_inputs=own)
    elif inherit.how == "reuse_classifier":
        report = reuse_classifier(student, teacher, own, given, seed=seed)
    elif inherit.how == "prefix":
        report = copy_by_name(student, teacher, prefixes=inherit.prefixes or None)
    else:
        report = _stack(inherit, student, teacher)
    report = with_agreement(report, student, teacher, *fresh_rows)
    if out is not None:
        write_json(Path(out) / FILE, {**inherit.to_json(), "applied": True, **report.to_json()})
    return report


def _stack(inherit: Inherit, student: nn.Module, teacher: nn.Module) -> Inheritance:
    """Layers of a stack, and around it whatever has the same name and shape."""
    from distillens.errors import ModelError
    from distillens.models.capture import paths_of
    from distillens.transfer.layers.inherit import Inheritance, Taken, copy_by_name, copy_layers

    paths = (inherit.stack, inherit.stack if inherit.teacher_stack is None else inherit.teacher_stack)
    parts = []
    for module, path, whose, key in zip(
        (student, teacher), paths, ("student", "teacher"), ("stack", "teacher_stack"), strict=True
    ):
        known = paths_of(module)
        if path and path not in known:
            raise ModelError(f"inherit.{key}: the {whose} has no layers {path!r}.{did_you_mean(path, known)}")
        parts.append(known[path] if path else module)
    inside = copy_layers(parts[0], parts[1], layers=inherit.layers)
    if not inherit.stack:
        return inside
    dots = [f"{path}." if path else "" for path in paths]
    taken = tuple(replace(t, student=dots[0] + t.student, teacher=dots[1] + t.teacher) for t in inside.taken)
    own, given = student.state_dict(), teacher.state_dict()
    around = [n for n in own if not n.startswith(dots[0]) and n in given and given[n].shape == own[n].shape]
    if around:
        copy_by_name(student, teacher, prefixes={name: name for name in around})
    taken += tuple(Taken(name, name, tuple(own[name].shape)) for name in around)
    names, sources = {t.student for t in taken}, {t.teacher for t in taken}
    return Inheritance(taken, tuple(n for n in own if n not in names), tuple(n for n in given if n not in sources))


def as_inherit(entry: Inherit | Mapping[str, Any] | None) -> Inherit | None:
    """From a plain entry; InputError, with a suggestion, for options that it does not have."""
    if entry is None or isinstance(entry, Inherit):
        return entry
    known = [f.name for f in fields(Inherit)]
    for name in entry:
        if name not in known:
            raise InputError(f"inherit has no option {name!r}.{did_you_mean(str(name), known)}")
    return Inherit(**entry)

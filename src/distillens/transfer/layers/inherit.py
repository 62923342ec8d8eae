"""Parameters taken over: a student network that starts from pieces of its teacher instead of from random numbers.

- `copy_layers`: whole layers, evenly spread over the teacher's depth (Sanh et al. 2019, "DistilBERT", section 2, who
  take every other layer; their code takes layers 0, 2, 4, 7, 9, 11 of 12, which is what even spreading gives);
- `copy_by_name`: whatever has the same name and shape, or the same name behind another prefix;
- `select_weights`: evenly spaced elements of every dimension (Xu et al. 2024, "Initializing Models with Larger Ones",
  uniform selection), for a student that is narrower. Because the choice depends on nothing but the two widths, the
  units a layer keeps are the ones the next layer listens to;
- `reuse_classifier`: the teacher's last layer, frozen, behind a projector (Chen et al. 2022, SimKD);
- `subclone` (subclone.py): the most important units.

Values are copied: student and teacher share no memory. Every function says what was taken and what starts afresh;
whether it helped is for a comparison to say, against the same student without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
class Agreement:
    """How alike two networks answer before any training. rows: asked.

    same_class: share of rows with the same top class, None for one output. correlation: Pearson's, of all outputs together, after each
    row (where there are several outputs) and then each output is centred; None where one network says the same about every row.
    """

    rows: int
    same_class: float | None
    correlation: float | None


@dataclass(frozen=True)
class Inheritance:
    """What a student took from its teacher.

    taken: tensors with values from the teacher. fresh: the student's tensors that kept their own initial values.
    unused: the teacher's tensors that nothing was taken from. agreement: with the teacher before training (`with_agreement`).
    """

    taken: tuple[Taken, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    agreement: Agreement | None = None

    def __str__(self) -> str:
        lines = [
            f"taken  {t.student} ← {t.teacher} {'×'.join(map(str, t.shape)) or 'scalar'}{' (selected)' if t.part else ''}"
            for t in self.taken
        ]
        lines += [f"fresh  {name}" for name in self.fresh]
        if self.agreement is not None:
            same, like = self.agreement.same_class, self.agreement.correlation
            lines.append(
                f"agreement with the teacher before training on {self.agreement.rows} rows: "
                + ("" if same is None else f"same class {same:.3f}, ")
                + f"correlation of outputs {'not defined' if like is None else f'{like:.3f}'}"
            )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "taken": [asdict(t) | {"shape": list(t.shape)} for t in self.taken],
            "fresh": list(self.fresh),
            "unused": list(self.unused),
            "agreement": None if self.agreement is None else asdict(self.agreement),
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


def reuse_classifier(
    student: nn.Module, teacher: nn.Module, student_inputs: Tensor, teacher_inputs: Tensor, *, seed: int = 0
) -> Inheritance:
    """Put the teacher's classifier, frozen, behind a fresh projector in place of the student's, in place.

    The classifier is the last linear layer of each network. Afterwards the tap "features" names the input of the teacher's classifier in both,
    which is what the objective `simkd` compares. student_inputs, teacher_inputs: a few rows, for the shapes. seed: of the projector.
    `fold_classifier` makes one plain layer of both after training. Raises ModelError when features are no vectors, or were reused before.
    """
    import torch

    from distillens.models.capture import classifier_path, dry_run
    from distillens.models.reused import ReusedClassifier
    from distillens.transfer.layers.projectors import projector

    own, given = classifier_path(student), classifier_path(teacher)
    parent, _, name = own.rpartition(".")
    if not own or isinstance(student.get_submodule(parent), ReusedClassifier):
        raise ModelError("The student is nothing but its classifier, or has reused one already.")
    shapes = [
        dry_run(m, x[:2], ["features"])["features"] for m, x in ((student, student_inputs), (teacher, teacher_inputs))
    ]
    if len(shapes[0]) != 1 or len(shapes[1]) != 1:
        raise ModelError(
            f"The features before a reused classifier are vectors; the student's are {shapes[0]}, the teacher's {shapes[1]}."
        )
    source: Any = teacher.get_submodule(given)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        project = projector(shapes[0], shapes[1])
    device = next(student.parameters()).device
    setattr(student.get_submodule(parent), name, ReusedClassifier(project, source).to(device))
    pairs = {f"{own}.reused.{key}": f"{given}.{key}" for key in source.state_dict()}
    return _take(student, teacher, pairs)


def fold_classifier(student: nn.Module) -> None:
    """Make one linear layer of a reused classifier and its projector, in place: the same function, the student's own structure.

    Raises ModelError when the student has not reused a classifier.
    """
    from distillens.models.reused import ReusedClassifier

    for path, part in student.named_modules():
        if isinstance(part, ReusedClassifier):
            parent, _, name = path.rpartition(".")
            setattr(student.get_submodule(parent), name, part.folded())
            return
    raise ModelError("The student has no reused classifier to fold; see reuse_classifier.")


def with_agreement(
    report: Inheritance, student: nn.Module, teacher: nn.Module, student_inputs: Tensor, teacher_inputs: Tensor
) -> Inheritance:
    """The report with the student's agreement with the teacher on these rows; call it before training.

    student_inputs, teacher_inputs: (n, …) the same rows, each after its own preprocessing. Both networks are left as they were.
    Raises ModelError when they answer with different numbers of outputs, or there are no rows.
    """
    import numpy as np
    import torch

    from distillens.models.torch_module import evaluating

    if len(student_inputs) != len(teacher_inputs) or len(student_inputs) == 0:
        raise ModelError(f"Agreement is counted on the same rows; got {len(student_inputs)} and {len(teacher_inputs)}.")
    answers = []
    for module, inputs in ((student, student_inputs), (teacher, teacher_inputs)):
        with evaluating(module), torch.no_grad():
            answers.append(np.concatenate([module(batch).double().cpu().numpy() for batch in torch.split(inputs, 256)]))
    own, given = answers
    if own.shape != given.shape:
        raise ModelError(f"The student has {own.shape[1]} outputs and the teacher {given.shape[1]}; they cannot agree.")
    several = own.shape[1] > 1
    same = float((own.argmax(axis=1) == given.argmax(axis=1)).mean()) if several else None
    centred = []
    for values in answers:
        moved = values - values.mean(axis=1, keepdims=True) if several else values
        moved = moved - moved.mean(axis=0)
        still = np.abs(moved).max() <= 1e-9 * np.abs(values).max()  # rounding must not correlate with anything
        centred.append(np.zeros_like(moved) if still else moved)
    a, b = centred
    norms = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return replace(report, agreement=Agreement(len(own), same, float((a * b).sum()) / norms if norms > 0 else None))


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

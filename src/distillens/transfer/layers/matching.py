"""Which layer of the teacher each layer of the student should follow: what `"auto"` taps become before training.

1. *Candidates* are the layers at which a network has finished something, not every ReLU (`candidate_layers`).
2. Every pair is compared by debiased linear CKA (Kornblith et al. 2019; similarity.py), on flattened activations: likeness
   of the geometry of rows, so that layers of any two widths, sizes and kinds can be compared. It is accumulated over
   mini-batches by averaging unbiased HSIC (Nguyen, Raghu and Kornblith 2021, "Do Wide and Deep Networks Learn the Same
   Things?", equation 3), so that only one batch of activations is held at a time.
3. *Pairs*: each student layer gets one teacher layer and the order is kept; of all such pairings the one with the largest
   total CKA (dynamic programming). No teacher layer is used twice, unless the student has more candidates.

The student is compared as it is initialised. Networks with random weights already keep much of the geometry of their inputs,
in the order of depth; the numbers say which layers are at a similar depth of processing, not that anything was learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from distillens.errors import InputError, ModelError
from distillens.similarity import cka_of, hsic_unbiased

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.models.capture import Layer, Tap
    from distillens.transfer.objectives.base import Shapes

ROWS = 2000  # more change the second digit of a CKA at most
BATCH = 128


@dataclass(frozen=True, eq=False)
class Matching:
    """Candidate layers of both networks, how alike they are, and which were paired.

    student, teacher: taps in order of depth. student_shapes, teacher_shapes: of their activations, without the rows.
    cka: (S, T) debiased linear CKA, NaN where a layer did not vary. pairs: for every student layer the position of its teacher layer.
    rows: how many were compared; batches of `batch` rows.
    """

    student: tuple[Tap, ...]
    teacher: tuple[Tap, ...]
    student_shapes: tuple[tuple[int, ...], ...]
    teacher_shapes: tuple[tuple[int, ...], ...]
    cka: NDArray[np.float64]
    pairs: tuple[int, ...]
    rows: int
    batch: int

    @property
    def student_taps(self) -> tuple[Tap, ...]:
        """The student's side of the pairs."""
        return self.student

    @property
    def teacher_taps(self) -> tuple[Tap, ...]:
        """The teacher's side of the pairs, one for each of `student_taps`."""
        return tuple(self.teacher[position] for position in self.pairs)

    def __str__(self) -> str:
        """A table of CKA, student layers down, teacher layers across; chosen pairs in brackets."""
        names = [f"{tap} {_size(shape)}" for tap, shape in zip(self.student, self.student_shapes, strict=True)]
        width = max(len(name) for name in names)
        heads = [f"t{j + 1}" for j in range(len(self.teacher))]
        lines = [
            f"Debiased linear CKA on {self.rows} rows; pairs in [ ].",
            " " * width + "".join(f"{h:>8}" for h in heads),
        ]
        for i, name in enumerate(names):
            cells = ["   –  " if np.isnan(value) else f"{value:.2f}" for value in self.cka[i]]
            shown = [f"[{cell.strip()}]" if j == self.pairs[i] else f"{cell} " for j, cell in enumerate(cells)]
            lines.append(f"{name:<{width}}" + "".join(f"{cell:>8}" for cell in shown))
        lines += [
            f"{head} = {tap} {_size(shape)}"
            for head, tap, shape in zip(heads, self.teacher, self.teacher_shapes, strict=True)
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "student": [{"tap": t, "shape": list(s)} for t, s in zip(self.student, self.student_shapes, strict=True)],
            "teacher": [{"tap": t, "shape": list(s)} for t, s in zip(self.teacher, self.teacher_shapes, strict=True)],
            "cka": [[None if np.isnan(v) else float(v) for v in row] for row in self.cka],
            "pairs": [
                {"student": s, "teacher": t, "cka": None if np.isnan(self.cka[i, j]) else float(self.cka[i, j])}
                for i, (s, t, j) in enumerate(zip(self.student_taps, self.teacher_taps, self.pairs, strict=True))
            ],
            "rows": self.rows,
            "batch": self.batch,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Matching:
        student, teacher = (tuple(layer["tap"] for layer in record[side]) for side in ("student", "teacher"))
        shapes = [tuple(tuple(layer["shape"]) for layer in record[side]) for side in ("student", "teacher")]
        cka = np.array([[np.nan if v is None else v for v in row] for row in record["cka"]], dtype=np.float64)
        pairs = tuple(teacher.index(pair["teacher"]) for pair in record["pairs"])
        return cls(student, teacher, shapes[0], shapes[1], cka, pairs, int(record["rows"]), int(record["batch"]))


def match_layers(
    student: nn.Module,
    teacher: nn.Module,
    student_inputs: Tensor | Mapping[str, Tensor],
    teacher_inputs: Tensor | Mapping[str, Tensor],
    *,
    student_taps: Sequence[Tap] | None = None,
    teacher_taps: Sequence[Tap] | None = None,
    rows: int = ROWS,
    batch: int = BATCH,
) -> Matching:
    """Pair layers of two networks on the same rows, each after its own preprocessing.

    student_inputs, teacher_inputs: (n, …) tensors, or named ones, of the same n rows in the same order; the first `rows` are used,
    so shuffle before. student_taps, teacher_taps: candidates in order of depth; None: `candidate_layers`. batch: rows compared at a
    time, at least 4; a remainder of fewer than half a batch is left out. Both networks run in eval mode and are left as they were.
    Raises InputError when rows differ or are too few, or when a network has no candidates.
    """
    import torch

    from distillens.models.capture import call, capture, dry_run, rows_of
    from distillens.models.torch_module import evaluating

    n = rows_of(student_inputs)
    if rows_of(teacher_inputs) != n:
        raise InputError(
            f"Layers are compared on the same rows; the student was given {n} and the teacher {rows_of(teacher_inputs)}."
        )
    if batch < 4 or min(n, rows) < 4:
        raise InputError(
            f"Layers are compared on at least 4 rows at a time, got {min(n, rows)} rows in batches of {batch}."
        )
    n = min(n, rows)
    batch = min(batch, n)
    taps, shapes = [], []
    for module, inputs, named, whose in (
        (student, student_inputs, student_taps, "student"),
        (teacher, teacher_inputs, teacher_taps, "teacher"),
    ):
        few = _rows(inputs, 0, 2)
        wanted = candidate_layers(module, few) if named is None else tuple(dict.fromkeys(named))
        if not wanted:
            raise InputError(f"The {whose} has no layers to pair; name its taps.")
        found = dry_run(module, few, wanted)
        taps.append(wanted)
        shapes.append(tuple(found[tap] for tap in wanted))

    cross = np.zeros((len(taps[0]), len(taps[1])))
    own = [np.zeros(len(side)) for side in taps]
    used = 0
    with evaluating(student), evaluating(teacher), torch.no_grad():
        for start in range(0, n, batch):
            stop = min(start + batch, n)
            if stop - start < max(4, batch / 2):
                break  # too few to estimate from; would count as much as a whole batch
            grams = []
            for module, inputs, side in ((student, student_inputs, taps[0]), (teacher, teacher_inputs, taps[1])):
                with capture(module, side) as layers:
                    call(module, _rows(inputs, start, stop))
                grams.append([_gram(layers[tap]) for tap in side])
            for total, side_grams in zip(own, grams, strict=True):
                total += [hsic_unbiased(gram, gram) for gram in side_grams]
            cross += [[hsic_unbiased(a, b) for b in grams[1]] for a in grams[0]]
            used += stop - start
    cka = np.array(
        [[cka_of(cross[i, j], own[0][i], own[1][j]) for j in range(len(own[1]))] for i in range(len(own[0]))]
    )
    return Matching(taps[0], taps[1], shapes[0], shapes[1], cka, monotone_pairs(cka), used, batch)


def monotone_pairs(likeness: NDArray[np.float64]) -> tuple[int, ...]:
    """For each of S rows of an (S, T) matrix one column, with the order kept and the largest total; of equals the earliest.

    Strictly increasing columns when S ≤ T, otherwise columns may repeat. NaN counts as 0. ModelError for an empty matrix.
    """
    if likeness.ndim != 2 or 0 in likeness.shape:
        raise ModelError(f"Layers of two networks are needed to pair them, got a matrix of shape {likeness.shape}.")
    value = np.nan_to_num(likeness, nan=0.0)
    count, columns = value.shape
    step = 1 if count <= columns else 0
    best = np.full((count, columns), -np.inf)  # of pairing rows 0 … i with row i at column j
    came = np.zeros((count, columns), dtype=np.int64)
    best[0] = value[0]
    for i in range(1, count):
        for j in range(columns):
            before = best[i - 1, : j + 1 - step]
            if before.size:
                came[i, j] = int(before.argmax())
                best[i, j] = before[came[i, j]] + value[i, j]
    chosen = [int(best[-1].argmax())]
    for i in range(count - 1, 0, -1):
        chosen.append(int(came[i, chosen[-1]]))
    return tuple(reversed(chosen))


def candidate_layers(module: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> tuple[Tap, ...]:
    """The layers worth pairing, in order of depth: where a network has finished something.

    - *Blocks* are parts with parts of their own, of a class of their own (a residual block, a transformer block, a stage), that stand
      in a sequence or list or beside others of their class; outermost ones only, and every call of those that are called several
      times. Without blocks (plain stacks such as VGG, perceptrons): every linear or convolutional layer together with what
      follows it up to the next (norm, activation, pooling).
    - Of maps (C, H, W) the last one at each resolution; of token sequences and vectors every one. Maps with their channels last, as in
      Swin transformers, cannot be told from others by their shape: CKA does not mind, objectives on maps do.
    - The classifier is left out: its outputs are compared by losses on outputs.
    """
    from torch import nn

    from distillens.models.capture import FEATURES, list_taps, paths_of, resolve_tap

    known = paths_of(module)
    classifier = resolve_tap(module, FEATURES).path if any(isinstance(p, nn.Linear) for p in known.values()) else None
    layers = [layer for layer in list_taps(module, inputs) if layer.path and len(layer.shape) in (1, 2, 3)]
    outputs = [i for i, layer in enumerate(layers) if layer.path == classifier]
    layers = layers[: outputs[-1]] if outputs else layers

    blocks = [path for path, part in known.items() if _is_block(known, path, part)]
    outermost = {path for path in blocks if not any(path.startswith(f"{other}.") for other in blocks)}
    finished: list[Layer] = []
    for layer in layers:
        if layer.path in outermost and not any(_call(layer) == _call(other) for other in finished):
            finished.append(layer)  # of a block that returns several tensors, the first
    if not finished:
        for layer in (layer for layer in layers if layer.leaf):
            weighted = any(p.ndim > 1 for p in known[layer.path].parameters(recurse=False))
            if weighted or not finished:
                finished.append(layer)
            else:
                finished[-1] = layer
    kept: list[Layer] = []
    for layer in finished:
        if kept and len(layer.shape) == len(kept[-1].shape) == 3 and layer.shape[1:] == kept[-1].shape[1:]:
            kept[-1] = layer
        else:
            kept.append(layer)
    return tuple(layer.tap for layer in kept)


def _call(layer: Layer) -> tuple[str, str]:
    return layer.path, layer.tap.partition("#")[2]


def _is_block(known: Mapping[str, nn.Module], path: str, part: nn.Module) -> bool:
    from torch import nn

    parent = known.get(path.rpartition(".")[0]) if path else None
    sequences = (nn.Sequential, nn.ModuleList)
    if parent is None or isinstance(part, sequences) or not any(True for _ in part.children()):
        return False
    return isinstance(parent, sequences) or sum(type(sibling) is type(part) for sibling in parent.children()) > 1


def _gram(activations: Tensor) -> NDArray[np.float64]:
    """(B, B) inner products of centred, flattened activations; zeros where a layer does not vary."""
    flat = activations.detach().flatten(1).double()
    centred = flat - flat.mean(dim=0)
    if float(centred.abs().max()) <= 1e-6 * float(flat.abs().max()):  # float32 rounding of a constant layer
        centred = centred.new_zeros(centred.shape)
    scale = float(centred.square().mean()) or 1.0  # no overflow in products of products; CKA does not see it
    gram: NDArray[np.float64] = ((centred @ centred.T) / scale).cpu().numpy()
    return gram


def _rows(inputs: Tensor | Mapping[str, Tensor], start: int, stop: int) -> Any:
    if isinstance(inputs, Mapping):
        return {name: value[start:stop] for name, value in inputs.items()}
    return inputs[start:stop]


def _size(shape: tuple[int, ...]) -> str:
    return "(" + "×".join(map(str, shape)) + ")"


class _Pairs(Protocol):
    """What `with_taps` needs of a matching: names of layers, as many of one network as of the other."""

    @property
    def student_taps(self) -> tuple[Tap, ...]: ...
    @property
    def teacher_taps(self) -> tuple[Tap, ...]: ...


Told = TypeVar("Told")


def with_taps(objective: Told, matching: _Pairs) -> Told:
    """The objective with `"auto"` taps replaced by the pairs; an objective without "auto" is returned as it is."""
    wants = [getattr(objective, name, ()) == "auto" for name in ("student_taps", "teacher_taps")]
    if not any(wants):
        return objective
    if not all(wants):
        raise InputError(
            f'The objective {getattr(objective, "kind", objective)!r} names taps of one network and "auto" for the other; name both, or '
            'write "auto" for both.'
        )
    if (
        not is_dataclass(objective)
        or isinstance(objective, type)
        or not {"student_taps", "teacher_taps"} <= {f.name for f in fields(objective)}
    ):
        raise InputError(
            f"{type(objective).__name__} has taps that cannot be replaced; they must be fields of its dataclass."
        )
    return replace(objective, student_taps=matching.student_taps, teacher_taps=matching.teacher_taps)


def pair_auto(
    objectives: Sequence[Told],
    student: nn.Module,
    teacher: nn.Module,
    student_inputs: Tensor | Mapping[str, Tensor],
    teacher_inputs: Tensor | Mapping[str, Tensor],
) -> tuple[tuple[Told, ...], Matching | None]:
    """All objectives with their `"auto"` taps replaced, and the matching that did it; None where no objective asks for one.

    student_inputs, teacher_inputs: as `match_layers` takes them. Raises what `match_layers` and `with_taps` raise.
    """
    if not any(getattr(objective, "student_taps", ()) == "auto" for objective in objectives):
        return tuple(objectives), None
    matching = match_layers(student, teacher, student_inputs, teacher_inputs)
    return tuple(with_taps(objective, matching) for objective in objectives), matching


def found_shapes(
    objectives: Sequence[Any],
    student: nn.Module,
    teacher: nn.Module,
    student_inputs: Tensor | Mapping[str, Tensor],
    teacher_inputs: Tensor | Mapping[str, Tensor],
    *,
    rows: int,
) -> Shapes:
    """What a dry run on a few rows finds for the taps of all objectives: their shapes and the numbers of outputs, before training.

    rows: number of training rows. Raises InputError for taps that do not exist, never fire or are no tensors, and for "auto".
    """
    import torch

    from distillens.models.capture import call, dry_run
    from distillens.models.torch_module import evaluating
    from distillens.transfer.objectives.base import Shapes

    found, outputs = [], []
    for module, inputs, side in ((student, student_inputs, "student_taps"), (teacher, teacher_inputs, "teacher_taps")):
        few = _rows(inputs, 0, 2)
        taps: list[Tap] = []
        for objective in objectives:
            if getattr(objective, side) == "auto":
                raise InputError(
                    f'The objective {objective.kind!r} still has taps "auto"; pair layers first (match_layers, with_taps).'
                )
            taps += getattr(objective, side)
        found.append(dry_run(module, few, taps) if taps else {})
        with evaluating(module), torch.no_grad():
            answered = call(module, few)
        outputs.append(int(answered.shape[1]))
    return Shapes(found[0], found[1], outputs[0], outputs[1], rows)


def shapes_text(objectives: Sequence[Any], shapes: Shapes) -> str:
    """One line for every pair of tapped layers: `fitnet  stages.2:output (64×8×8) ← layer3:output (256×8×8)`."""
    lines = [
        f"{objective.kind}  {s} {_size(shapes.student[s])} ← {t} {_size(shapes.teacher[t])}"
        for objective in objectives
        for s, t in zip(objective.student_taps, objective.teacher_taps, strict=True)
    ]
    return "\n".join(lines)

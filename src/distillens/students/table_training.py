"""A network student (or teacher) for tables: what students/network.py does once it has seen that the rows are a table.

Where objectives need only answers, the targets have them. Objectives that look inside ask a teacher network live in every step, with
its own encoding of the rows. Where gradients by the inputs are compared, further inputs asked about, or first layers taken over, the
student takes the teacher's encoding for its own, so that both speak of the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.data.base import as_table
from distillens.errors import DataError, InputError, ModelError
from distillens.models.encoding import Encoding
from distillens.models.nets.mlp import MLPSettings
from distillens.models.nets.rescale import Rescale
from distillens.models.torch_module import TabularNetwork, assemble
from distillens.store import write_json
from distillens.students.inheritance import ASKED, inheriting_from, some, take_over
from distillens.students.live_teacher import compares_inputs, live_teacher
from distillens.transfer.layers.inherit import fold_classifier
from distillens.transfer.training import loop

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.students.network import NetworkStudent
    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.targets import Targets
    from distillens.transfer.training.feed import Rows


def fit_table(
    student: NetworkStudent, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None
) -> TabularNetwork:
    """Train on a table; raises what `NetworkStudent.fit` raises, and InputError where the teacher cannot show what an objective asks for."""
    if not isinstance(student.model, MLPSettings):
        raise InputError(
            f"The network {student.model.kind!r} is for images; for tables use {{kind: mlp, hidden: [64]}}."
        )
    if student.augment.changes or student.preprocess != type(student.preprocess)():
        raise InputError("augment and preprocess are for images; leave them out for tables.")
    classes, taught = targets.classes, targets.origin != "labels"
    objectives: tuple[Objective, ...] = student.objectives_for(classes) if taught else ()
    live = live_teacher(objectives, targets, teacher)
    parent = inheriting_from(student.inherit, teacher, out=out)
    encoding, (centre, spread) = _encoding(student, targets, objectives, live, parent), _standard(targets, parent)
    module = assemble(student.model, encoding.width, classes, mean=centre, scale=spread, seed=seed)
    if parent is not None and student.inherit is not None:
        seen, fresh = (
            as_table(some(*part)) for part in ((targets.table, student.inherit.rows), (validation.inputs, ASKED))
        )
        take_over(
            student.inherit, module, parent.module, seed=seed, out=out,
            rows=(_tensor(encoding(seen.values)), parent.to_tensor(seen)),
            fresh_rows=(_tensor(encoding(fresh.values)), parent.to_tensor(fresh)),
        )  # fmt: skip
    trained = module if classes else module[:-1]  # training sees standardised values; slices share their layers
    history = loop.fit(
        trained, _rows(targets, encoding, centre, spread, live=live), objectives=objectives,
        task_weight=student.task_weight if taught else 1.0, schedule=student.schedule(len(targets)),
        validate=_validation(validation, teacher, encoding, classes, centre, spread), seed=seed, label=student.label,
        teacher=None if live is None else _answering(live, centre, spread), out=out,
    )  # fmt: skip
    if parent is not None and student.inherit is not None and student.inherit.how == "reuse_classifier":
        fold_classifier(module)
    if out is not None:
        write_json(Path(out) / "history.json", list(history))
    return TabularNetwork(encoding, module, student.model, classes, student.label, history)


def _encoding(
    student: NetworkStudent, targets: Targets, objectives: tuple[Objective, ...], live: Any, parent: Any
) -> Encoding:
    """The student's own, or its teacher's where both have to see the same inputs."""
    inherits = parent is not None and student.inherit is not None and student.inherit.same_inputs
    if not inherits and (live is None or not compares_inputs(objectives)):
        return Encoding.fit(targets.table, weights=targets.weights)
    theirs = getattr(parent if inherits else live, "encoding", None)
    if not isinstance(theirs, Encoding):
        raise InputError(
            f"Input gradients, noise queries and first layers taken over need a teacher whose encoding of columns the student can take; "
            f"{(parent if inherits else live).label!r} has none: use objectives on layers or answers."
        )
    return theirs


def _answering(teacher: Any, centre: float, spread: float) -> nn.Module:
    """The teacher's module with answers as the student learns them: logits, or values standardised as the student's are."""
    from torch import nn

    module: nn.Module = teacher.module
    if teacher.classes:
        return module
    last = module[-1] if isinstance(module, nn.Sequential) else None
    if not isinstance(last, Rescale) or not isinstance(module, nn.Sequential):
        raise ModelError(
            f"The layers of {teacher.label!r} cannot teach a regression: its last layer does not say how values are standardised."
        )
    # The same layers under the same names; only the last, which brings values to the user's units, brings them on to the student's.
    scaled = Rescale((float(last.mean) - centre) / spread, float(last.scale) / spread)
    return nn.Sequential(*list(module.children())[:-1], scaled).eval()


def _standard(targets: Targets, parent: Any) -> tuple[float, float]:
    """Weighted mean and standard deviation of the values to be learned (1 when they are all equal); those of a network inherited from."""
    import numpy as np

    if targets.classes:
        return 0.0, 1.0
    if parent is not None and isinstance(last := list(parent.module.children())[-1], Rescale):
        return float(last.mean), float(last.scale)
    labels = targets.labels
    values = targets.outputs[:, 0] if labels is None else np.where(np.isnan(labels), targets.outputs[:, 0], labels)
    mean = float(np.average(values, weights=targets.weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=targets.weights)))
    return mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0


def _rows(targets: Targets, encoding: Encoding, centre: float, spread: float, *, live: Any) -> Rows:
    """Training rows with the teacher's answers, or with what a live teacher takes: of the rows that it was asked about."""
    import numpy as np

    from distillens.transfer.training.feed import Rows

    labels = np.full(len(targets), np.nan) if targets.labels is None else targets.labels
    answers = theirs = None
    if live is not None:
        asked = targets.table if targets.asked is None else as_table(targets.asked)
        theirs = live.to_tensor(asked).cpu()
    elif targets.origin != "labels":
        answers = _tensor(targets.logits if targets.classes else (targets.outputs - centre) / spread)
    labels = labels if targets.classes else (labels - centre) / spread
    return Rows(
        _tensor(encoding(targets.table.values)),
        answers,
        _tensor(labels),
        _tensor(targets.weights),
        teacher_inputs=theirs,
    )


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _validation(
    split: Split, teacher: Model | None, encoding: Encoding, classes: tuple[str, ...], centre: float, spread: float
) -> Callable[[nn.Module], float]:
    """The weighted mean validation loss of a module, as a function of the module.

    KL(teacher ‖ student) in nats, or the squared error of standardised values; against the labels without a teacher.
    """
    import numpy as np

    from distillens.models.base import as_logits, evaluate
    from distillens.transfer.objectives.kd import kd_loss
    from distillens.transfer.objectives.mse import mse_loss
    from distillens.transfer.training.transfer import task_loss

    if len(split) == 0:
        raise DataError("Validation has no rows; a network needs some to choose its epoch.")
    inputs = _tensor(encoding(split.table.values))
    weights = _tensor(np.ones(len(split)) if split.weights is None else split.weights)
    weights = weights / weights.sum()
    if teacher is None:
        if split.labels is None:
            raise DataError(
                "Validation rows have no labels and no teacher was given; one of the two is needed to choose the epoch."
            )
        labels = _tensor(split.labels if classes else (np.asarray(split.labels, dtype=np.float64) - centre) / spread)
        return lambda module: float((weights * task_loss(module(inputs), labels)).sum())
    if tuple(teacher.classes) != classes:
        raise ModelError(f"The teacher's classes {list(teacher.classes)} are not the student's {list(classes)}.")
    outputs: Floats = evaluate(teacher, split.inputs)
    if classes:
        logits = _tensor(as_logits(outputs, teacher.output))
        return lambda module: float((weights * kd_loss(module(inputs), logits, temperature=1.0)).sum())
    values = _tensor((outputs - centre) / spread)
    return lambda module: float((weights * mse_loss(module(inputs), values)).sum())

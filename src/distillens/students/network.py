"""Networks as students, and as teachers: the settings, which are the recipe entry.

Trained on labels, on what a teacher says and shows, or both: for tables a multilayer perceptron, in table_training.py; for images any
network of models/nets, in image_training.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from distillens.data.views import Augmentation
from distillens.errors import InputError, did_you_mean
from distillens.models.nets.base import IMAGE_NETS, ImageNet, as_image_net
from distillens.models.nets.mlp import MLPSettings
from distillens.students.inheritance import Inherit, as_inherit
from distillens.transfer.objectives.base import Objective, as_objective, check_number

if TYPE_CHECKING:
    from distillens.data.base import Split
    from distillens.models.base import Model
    from distillens.models.image_network import ImageNetwork
    from distillens.models.torch_module import TabularNetwork
    from distillens.transfer.targets import Targets
    from distillens.transfer.training.schedule import Schedule


@dataclass(frozen=True)
class Looks:
    """`{size: [32, 32], mean: [0.5], std: [0.25], channels: 1}`: how a network for images looks at pixels (models/preprocess.py).

    What is not given is taken from the data: their size, channels, and the mean and standard deviation of training pixels on [0, 1].
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int | None = None


NETS: dict[str, str] = {"mlp": "distillens.models.nets.mlp:MLPSettings", **IMAGE_NETS}


@dataclass(frozen=True)
class NetworkStudent:
    """`{kind: network, model: {kind: mlp, hidden: [64]}, task_weight: 0.5, objectives: [{kind: kd, weight: 0.5, temperature: 4}]}`.

    Trained on loss = task_weight · (cross-entropy, or squared error of standardised values, on known labels) +
    Σ weight_i · objective_i against the teacher's answers. On targets made from labels (a teacher, an undistilled
    control) there is no teacher to follow, and the loss is the task loss alone.

    model: `{kind: mlp, …}` for tables; for images `{kind: resnet, depth: 8}`, `timm:NAME` and the others of models/nets/base.py.
    objectives: entries or objects; "auto": `kd` with temperature 4 for classes, `mse` for regression, weight 1.
    epochs: at most; training stops after `patience` epochs without a better validation loss, and the best epoch is
    kept. decay: of the learning rate over the epochs. batch_size: rows a step; "auto": about an eighth of the rows,
    a power of two between 32 and 512. optimizer, momentum, warmup, clip, ema, precision, keep and micro_batch: see
    transfer/training/schedule.py. augment, preprocess: for images, see data/views.py and models/preprocess.py; mean and standard deviation
    are those of the training pixels unless given. inherit: `{how: subclone}`, what is taken over from the teacher before training
    (students/inheritance.py); a fit without a teacher starts from random numbers. monotone: not possible with networks; here so that asking is a clear error.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    kind: ClassVar[str] = "network"
    readable: ClassVar[bool] = False

    model: Any = field(default_factory=MLPSettings)
    task_weight: float = 0.5
    objectives: tuple[Any, ...] | Literal["auto"] = "auto"
    epochs: int = 200
    learning_rate: float = 3e-3
    decay: Literal["cosine", "constant"] = "cosine"
    batch_size: int | Literal["auto"] = "auto"
    weight_decay: float = 1e-2
    patience: int = 20
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    warmup: float = 0.0
    clip: float | None = None
    ema: float | None = None
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    keep: Literal["best", "last"] = "best"
    micro_batch: int | None = None
    augment: Augmentation = field(default_factory=Augmentation)
    preprocess: Looks = field(default_factory=lambda: Looks())
    inherit: Inherit | None = None
    monotone: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.model, MLPSettings):
            object.__setattr__(self, "model", _net_settings(self.model))
        for name, kind in (("augment", Augmentation), ("preprocess", Looks)):
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, _options(kind, getattr(self, name), name))
        object.__setattr__(self, "inherit", as_inherit(self.inherit))
        if self.objectives != "auto":
            if isinstance(self.objectives, (str, Mapping)):
                raise InputError(
                    f'objectives is "auto" or a list such as [{{kind: kd, weight: 0.5}}], got {self.objectives!r}.'
                )
            object.__setattr__(self, "objectives", tuple(as_objective(entry) for entry in self.objectives))
        check_number(self.task_weight, name="task_weight", at_least=0)
        check_number(self.learning_rate, name="learning_rate", above=0)
        check_number(self.weight_decay, name="weight_decay", at_least=0)
        if self.batch_size != "auto" and (type(self.batch_size) is not int or self.batch_size < 1):
            raise InputError(f"batch_size is a whole number of at least 1, got {self.batch_size!r}.")
        self.schedule(1)  # whose options are checked there
        if self.monotone:
            raise InputError(
                "A network cannot be held monotone; use a linear, tree or additive student for that, or remove monotone."
            )
        if self.task_weight == 0 and self.objectives != "auto" and not any(o.weight > 0 for o in self.objectives):
            raise InputError(
                "A network with task_weight 0 and no objective of positive weight has nothing to learn from."
            )

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> TabularNetwork | ImageNetwork:
        """Train on targets; with `out`, the history is written to `out/history.json`, pairs of layers to `matching.json` and what was taken
        over to `inherit.json`.

        The epoch is chosen on `validation`: by the divergence from the teacher's answers (KL, or squared error) when a
        teacher is given, by the task loss otherwise. Raises DataError, ModelError, TransferError, NonFiniteLossError.
        """
        from distillens.data.images import Images

        if isinstance(targets.inputs, Images):
            from distillens.students.image_training import fit_images

            return fit_images(self, targets, validation=validation, teacher=teacher, seed=seed, out=out)
        from distillens.students.table_training import fit_table

        return fit_table(self, targets, validation=validation, teacher=teacher, seed=seed, out=out)

    @property
    def label(self) -> str:
        """`network 256×256`, `network resnet depth 8 width 1`."""
        if isinstance(self.model, MLPSettings):
            return " ".join(["network", "×".join(map(str, self.model.hidden))]).strip()
        shown = [
            f"{k} {v}" for k, v in self.model.to_json().items() if k != "kind" and isinstance(v, (int, float, str))
        ]
        return " ".join(["network", self.model.kind, *shown])

    @property
    def image_net(self) -> ImageNet:
        """The settings of a network for images. InputError when they are those of one for tables."""
        if isinstance(self.model, MLPSettings):
            raise InputError(
                "The network 'mlp' is for tables; for images use {kind: resnet, depth: 8} or another of models/nets."
            )
        net: ImageNet = self.model
        return net

    def schedule(self, rows: int) -> Schedule:
        """How long and how fast, for so many training rows."""
        from distillens.transfer.training.schedule import Schedule

        return Schedule(
            self.epochs, self.learning_rate, self.decay, self._batch_size(rows), self.weight_decay, self.patience,
            optimizer=self.optimizer, momentum=self.momentum, warmup=self.warmup, clip=self.clip, ema=self.ema,
            precision=self.precision, keep=self.keep, micro_batch=self.micro_batch,
        )  # fmt: skip

    def objectives_for(self, classes: tuple[str, ...]) -> tuple[Objective, ...]:
        """The objectives of a task; "auto" resolved. InputError when one does not fit the task."""
        from distillens.transfer.objectives.kd import KD
        from distillens.transfer.objectives.mse import MSE

        if self.objectives == "auto":
            return (KD(),) if classes else (MSE(),)
        task = "regression" if not classes else "binary" if len(classes) == 2 else "multiclass"
        for objective in self.objectives:
            if task not in getattr(objective, "tasks", (task,)):
                other = "; use {kind: mse}" if task == "regression" else ""
                raise InputError(f"The objective {objective.kind!r} is not for {task}{other}.")
        return self.objectives

    def _batch_size(self, n: int) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        return int(min(512, max(32, 2 ** ((n // 8).bit_length() - 1) if n >= 8 else 1)))


def _net_settings(entry: object) -> Any:
    """MLPSettings, or the settings of a network for images, from a recipe entry."""
    if isinstance(entry, Mapping) and entry.get("kind", "mlp") == "mlp":
        return _options(MLPSettings, entry, "The network 'mlp'")
    if isinstance(entry, (str, Mapping, ImageNet)):
        return as_image_net(entry)
    raise InputError(
        f"model is an entry such as {{kind: mlp, hidden: [64]}} or {{kind: resnet, depth: 8}}, got {entry!r}."
    )


def _options(kind: type[Any], entry: Mapping[str, Any], what: str) -> Any:
    """A settings dataclass from a plain mapping; InputError, with a suggestion, for options it does not have."""
    known = [f.name for f in fields(kind)]
    for name in entry:
        if name not in known:
            raise InputError(f"{what} has no option {name!r}.{did_you_mean(str(name), known)}")
    return kind(**entry)

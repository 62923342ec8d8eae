"""A training on disk, so that it can be killed at any moment and goes on with the same numbers.

One record (store.py): the weights of student, projectors and memories, their average and the best of them, the optimizer, and
where the training stands. Shuffles, dropout and other draws are functions of (seed, epoch, step), so that no generator needs saving.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.errors import ArtefactError, RunError
from distillens.store import read_record, write_record

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "training.safetensors"
State = dict[str, "Tensor"]


@dataclass
class Position:
    """Where a training stands. step: the next one, from 0 over all epochs; batch: the next one of the epoch.

    sums: of the terms over the rows of the epoch so far. history: one record for every finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    waited: int = 0
    stopped: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def save(
    folder: Path,
    position: Position,
    *,
    identity: str,
    states: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    scaler: Mapping[str, Any] | None,
) -> None:
    """Write the training atomically: a kill leaves this state or the one before. RunError when the disk is full.

    identity: hash of everything the training depends on. states: named dictionaries of tensors (weights, average, best).
    """
    arrays = {f"{kind}/{name}": _array(tensor) for kind, state in states.items() for name, tensor in state.items()}
    numbers: dict[str, Any] = {}
    for index, entry in optimizer.state_dict()["state"].items():
        for name, value in entry.items():
            if hasattr(value, "shape"):
                arrays[f"optimizer/{index}/{name}"] = _array(value)
            else:
                numbers[f"{index}/{name}"] = value
    where = asdict(position) | {"best_loss": None if position.best_loss == float("inf") else position.best_loss}
    meta = {"identity": identity, "position": where, "optimizer": numbers, "kinds": sorted(states), "scaler": scaler}
    write_record(Path(folder) / NAME, meta, arrays)


def load(
    folder: Path, *, identity: str, optimizer: torch.optim.Optimizer
) -> tuple[Position, dict[str, State], Any] | None:
    """The training in `folder` with the optimizer's state put back, or None when there is none.

    Raises RunError when it is another training's, ArtefactError when it is damaged.
    """
    import torch

    path = Path(folder) / NAME
    if not path.exists():
        return None
    meta, arrays = read_record(path)
    if meta.get("identity") != identity:
        raise RunError(
            f"{path} belongs to a training with other data, models or settings; remove it, or train in another folder."
        )
    try:
        where = meta["position"]
        position = Position(
            **(where | {"best_loss": float("inf") if where["best_loss"] is None else where["best_loss"]})
        )
        states: dict[str, State] = {kind: {} for kind in meta["kinds"]}
        entries: dict[int, dict[str, Any]] = {}
        for name, array in arrays.items():
            kind, rest = name.split("/", 1)
            tensor = torch.from_numpy(array.copy())
            if kind == "optimizer":
                index, field_name = rest.split("/", 1)
                entries.setdefault(int(index), {})[field_name] = tensor
            else:
                states[kind][rest] = tensor
        for name, number in meta["optimizer"].items():
            index, field_name = name.split("/", 1)
            entries.setdefault(int(index), {})[field_name] = number
        optimizer.load_state_dict(optimizer.state_dict() | {"state": entries})
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} is no training of this version ({error}); remove it to start again.") from error
    return position, states, meta["scaler"]


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().numpy().copy()

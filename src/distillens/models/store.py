"""Models on disk, without pickle: one safetensors record whose meta names the kind."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from distillens.errors import ArtefactError, did_you_mean
from distillens.models.base import Model, StorableModel
from distillens.store import content_hash, read_record, write_record

KINDS: dict[str, str] = {
    "boosted_trees": "distillens.models.boosted:BoostedTrees",
    "linear": "distillens.models.linear:LinearModel",
    "tree": "distillens.models.tree:TreeModel",
    "additive": "distillens.models.additive:AdditiveModel",
    "scorecard": "distillens.models.scorecard:ScorecardModel",
    "rules": "distillens.models.rules:RuleListModel",
    "soft_tree": "distillens.models.soft_tree:SoftTreeModel",
    "network": "distillens.models.torch_module:TabularNetwork",
    "image_network": "distillens.models.image_network:ImageNetwork",
    "ensemble": "distillens.models.ensemble:EnsembleModel",
    "constant": "distillens.models.constant:ConstantModel",
}


def fingerprint(model: StorableModel) -> str:
    """Content hash of a storable model: equal for equal kind, settings, columns, classes and numbers; the label is not part of it."""
    meta, arrays = model.to_record()
    return content_hash({"kind": model.kind} | {k: v for k, v in meta.items() if k != "label"}, arrays)


def save_model(model: Model, path: Path) -> None:
    """Write a model made by distillens to `path` (a .safetensors file). ArtefactError for models that cannot be stored."""
    if not isinstance(model, StorableModel) or model.kind not in KINDS:
        raise ArtefactError(
            f"The model {model.label!r} ({type(model).__name__}) has no storable form; only models made by distillens can be saved."
        )
    meta, arrays = model.to_record()
    write_record(path, {"kind": model.kind, "model": meta}, arrays)


def load_model(path: Path) -> Model:
    """Read what `save_model` wrote. ArtefactError when the file is damaged, foreign or of an unknown kind."""
    meta, arrays = read_record(path)
    kind = meta.get("kind")
    if kind not in KINDS or "model" not in meta:
        raise ArtefactError(
            f"{path} holds no model this version knows (kind {kind!r}).{did_you_mean(str(kind), KINDS)}"
        )
    from distillens.named import load_object

    cls = cast("type[StorableModel]", load_object(KINDS[kind]))
    try:
        return cls.from_record(meta["model"], arrays)
    except (KeyError, TypeError, IndexError) as error:
        raise ArtefactError(
            f"{path} holds an incomplete {kind} model ({error!r}); it was written by an incompatible version."
        ) from error

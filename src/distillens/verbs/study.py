"""A study file carried out: read the data, train, and write results and tables (studies/conduct.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distillens.errors import RecipeError
from distillens.store import JSON

if TYPE_CHECKING:
    from distillens.progress import Observer
    from distillens.studies.study import Study


def is_study(path: str | Path) -> bool:
    """Whether a path is a study file: YAML with `study` or `mechanisms`. RecipeError for YAML that cannot be read."""
    # Looked at here first: the study's own module knows pydantic and every objective.
    if Path(path).suffix.lower() not in {".yaml", ".yml"}:
        return False
    from distillens.studies.study import is_study as found

    return found(Path(path))


def compare_mechanisms(
    source: Study | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    trust_code: bool = False,
    observer: Observer | None = None,
) -> tuple[JSON, Path]:
    """results.json of a study, and the folder where everything lies (default: studies/NAME).

    source: a study or its file. resume: go on with what is in the folder. overrides: `key.sub=value`. Raises InputError.
    """
    from distillens.data.load import load_dataset
    from distillens.studies.conduct import conduct
    from distillens.studies.study import Study

    study = source if isinstance(source, Study) else Study.load(source, overrides=overrides)
    data = study.data
    if data.source is None:
        raise RecipeError("data.source: this key is required; it names built-in images, a folder or a file.")
    limit = None if data.limit is None else {str(part): rows for part, rows in data.limit.items()}
    split = None if data.split is None else {str(part): share for part, share in data.split.items()}
    dataset = load_dataset(
        source=data.source, size=data.size, limit=limit, split=split, seed=study.seed, base_dir=study.base_dir,
        trust_code=trust_code,
    )  # fmt: skip
    return conduct(study, dataset, out=out, resume=resume, trust_code=trust_code, observer=observer)

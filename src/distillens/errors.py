"""Every error and warning distillens raises on purpose.

    DistillensError               exit code 3: something inside went wrong
    ├── InputError                exit code 2: what came in cannot be used
    │   ├── RecipeError           a recipe; carries every problem at once
    │   ├── DataError             a table, a column, a split
    │   ├── ModelError            a model's classes, shapes or outputs
    │   ├── ArtefactError         a file that is corrupt, foreign or of another version
    │   ├── RunError              a run directory: locked, stale, not one, disk full
    │   ├── MissingExtraError     an optional dependency is not installed
    │   ├── DependencyError       one is installed and cannot be loaded
    │   └── UntrustedCodeError    a recipe names code and --trust-code was not given
    ├── TransferError             exit code 1: the transfer itself failed, as a verdict can
    │   ├── NoInfluenceError      the student ignores its teacher
    │   └── NonFiniteLossError    the loss became inf or NaN
    DistillensWarning             a sentence that says what to do
    ├── SaturationWarning         in-sample targets equal the labels
    ├── DataWarning               duplicates, id-like, constant or leaking columns
    └── BudgetWarning             too few samples for a stable number

A message is one clear sentence or two: what was expected, what came, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class DistillensError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 3


class InputError(DistillensError):
    """What came in cannot be used."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe with one or more problems; `problems` lists them all, one sentence each."""

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        head = (
            "The recipe has a problem" if len(self.problems) == 1 else f"The recipe has {len(self.problems)} problems"
        )
        super().__init__(head + ":\n" + "\n".join(f"  - {problem}" for problem in self.problems))


class DataError(InputError):
    """A table, a column or a split that cannot be used."""


class ModelError(InputError):
    """A model whose classes, shapes or outputs do not fit."""


class ArtefactError(InputError):
    """A file that is corrupt, foreign or written by an incompatible version."""


class RunError(InputError):
    """A run directory that is locked, stale or not one."""


class MissingExtraError(InputError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'distillens[{extra}]'."
        )


class DependencyError(InputError):
    """An optional dependency is installed, but cannot be loaded."""

    def __init__(self, package: str, purpose: str, reason: str, remedy: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is installed but cannot be loaded ({reason}); {remedy}."
        )


class UntrustedCodeError(InputError):
    """A recipe names code to run and nobody said that it is trusted."""


class TransferError(DistillensError):
    """The transfer itself failed: nothing is wrong with the program or its input, but the student is no student."""

    exit_code = 1


class NoInfluenceError(TransferError):
    """The student does not change when the teacher's answers do."""


class NonFiniteLossError(TransferError):
    """The loss became inf or NaN."""


class DistillensWarning(UserWarning):
    """Base of all warnings raised on purpose."""


class SaturationWarning(DistillensWarning):
    """In-sample targets are (nearly) the labels: distilling from them teaches nothing."""


class DataWarning(DistillensWarning):
    """Something about the data that a careful reader wants to know."""


class BudgetWarning(DistillensWarning):
    """Too few samples for a stable number."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest known name, otherwise ` Known: …`, ready to append to a sentence."""
    names = sorted(str(k) for k in known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    shown = ", ".join(repr(n) for n in names[:12]) + (", …" if len(names) > 12 else "")
    return f" Known: {shown}." if names else ""

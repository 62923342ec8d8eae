"""Running out of memory, as the libraries behind models say it.

The masking engine asks a model about as many rows at once as should fit, and about half as many when they do not. For that an
allocation that failed must reach it, whatever stands between: models that turn other people's errors into sentences let this one pass.
"""

from __future__ import annotations

import sys

from distillens.errors import DistillensError

# torch on a CPU raises a plain RuntimeError, onnxruntime its own Fail, both with nothing but a text to tell them by
SAID = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad_alloc", "bad allocation")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is an allocation that failed: MemoryError, torch's, or by what it says. Our own errors never are."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # nothing can raise torch's error without torch having been imported
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return not isinstance(error, DistillensError) and any(words in text for words in SAID)


def let_memory_errors_pass(error: BaseException) -> None:
    """Raises MemoryError when `error` is an allocation that failed; comes back for every other error."""
    if isinstance(error, MemoryError):
        raise error
    if out_of_memory(error):
        raise MemoryError(str(error).strip().partition("\n")[0]) from error

"""One thread for small networks, for a moment.

Layers of a few hundred units are done before a second core has woken up; when other work wants the cores, waiting for it
at every layer costs a hundredfold (measured on two busy cores: 42 s instead of 0.3 s for a small student). One
thread is also what makes results the same on any number of cores.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

_lock = threading.Lock()
_inside = 0  # threads with an open block in this process
_outside = 1  # torch's thread count before the first of them
_own = threading.local()  # how many blocks this thread has open, one inside the other


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch works with one thread inside the block, and with as many as before after the calling thread's outermost block.

    Torch counts per calling thread, so each restores its own; a block inside a block changes nothing.
    """
    global _inside, _outside
    import torch

    depth = getattr(_own, "depth", 0)
    if depth == 0:
        with _lock:
            if _inside == 0:
                _outside = torch.get_num_threads()
            _inside += 1
            torch.set_num_threads(1)
    _own.depth = depth + 1
    try:
        yield
    finally:
        _own.depth = depth
        if depth == 0:
            with _lock:
                _inside -= 1
                torch.set_num_threads(_outside)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's matrix products use one thread inside the block, and as many as before after it. The whole process is concerned."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache  # looking for the libraries takes milliseconds
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()

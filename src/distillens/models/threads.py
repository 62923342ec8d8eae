"""One thread for small networks, for a moment.

Layers of a few hundred units are done before a second core has woken up; when other work wants the cores, waiting for it
at every layer costs a hundredfold (measured on two busy cores: 42 s instead of 0.3 s for a small student). One
thread is also what makes results the same on any number of cores.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0  # blocks open in this process
_outside = 1  # torch's thread count before the first of them


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch works with one thread inside the block, and with as many as before when the last open block has ended."""
    global _inside, _outside
    import torch

    with _lock:
        if _inside == 0:
            _outside = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            torch.set_num_threads(_outside)

"""Kills a run at chosen moments and resumes it; started by test_kill.py in a process of its own.

    python driver.py RECIPE FOLDER count           how many moments there are
    python driver.py RECIPE FOLDER kill 3 17 40    kill before the 3rd, 17th and 40th, resume, compare

A moment is a rename or an fsync: just before either, everything since the last one is still at risk. Each run is a
forked child, so that libraries are imported once; the parent computes nothing, because thread pools do not survive a fork.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import distillens.audit.audit
import distillens.data.load
import distillens.explainers.blocks
import distillens.exporters.onnx
import distillens.models.onnx
import distillens.pipeline
import distillens.report.passport
import distillens.students.boosted
import distillens.students.linear
import distillens.students.tree

RENAME, SYNC = os.replace, os.fsync
distillens.explainers.blocks.FORWARDS = 2000  # the few rows explained here make two blocks


def child(recipe: str, out: Path, kill_at: int | None, *, resume: bool) -> int:
    """Run in a forked child; returns its wait status. kill_at: the moment before which it kills itself."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    seen = 0

    def moment() -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def rename(*paths: object) -> None:
        moment()
        RENAME(*paths)  # type: ignore[arg-type]

    def sync(descriptor: int) -> None:
        moment()
        SYNC(descriptor)

    os.replace, os.fsync = rename, sync  # type: ignore[assignment]
    try:
        distillens.pipeline.run(recipe, out=out, resume=resume)
    except BaseException as error:  # noqa: BLE001 (a forked child must never return into the parent's stack)
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    (out.parent / f"{out.name}.moments").write_text(str(seen))
    os._exit(0)


def evidence(out: Path) -> Any:
    passport = json.loads((out / "passport.json").read_text(encoding="utf-8"))
    passport.pop("measured")
    return passport


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, as paths."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in sorted(a.keys() | b.keys()) for d in differences(a.get(key), b.get(key), f"{path}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}[{i}]")]
    return [] if a == b else [f"{path}: {str(a)[:60]} against {str(b)[:60]}"]


def main() -> None:
    recipe, folder, mode, *moments = sys.argv[1:]
    whole = Path(folder) / "whole"
    if not (whole / "passport.json").exists():
        shutil.rmtree(whole, ignore_errors=True)
        assert child(recipe, whole, None, resume=False) == 0, "the uninterrupted run failed"
    if mode == "count":
        print((Path(folder) / "whole.moments").read_text())
        return
    for moment in moments:
        out = Path(folder) / f"killed-{moment}"
        status = child(recipe, out, int(moment), resume=False)
        assert os.WIFSIGNALED(status), f"moment {moment}: the run was not killed"
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert child(recipe, out, None, resume=True) == 0, f"moment {moment}: the resumed run failed"
        different = differences(evidence(whole), evidence(out))
        assert not different, f"moment {moment}: the passport differs after resuming: {different[:8]}"
        assert not (out / ".partial").exists(), f"moment {moment}: blocks of finished stages are left"
        shutil.rmtree(out)
        print(f"moment {moment}: same passport", flush=True)


if __name__ == "__main__":
    main()

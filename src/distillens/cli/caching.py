"""`distillens cache build | verify | info`: a teacher's answers to views of images, on disk."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from distillens.cli.options import Debug, Json, Quiet, Seed, TrustCode
from distillens.errors import InputError

cache = typer.Typer(
    name="cache",
    help="A teacher's answers to images, asked once and kept on disk.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Teacher = Annotated[str | None, typer.Option("--teacher", metavar="FILE",
    help="A network for images that distillens wrote (.safetensors).", show_default=False)]  # fmt: skip
Pictures = Annotated[str | None, typer.Option("--images", metavar="DATA",
    help="A folder, an .npz file, or built-in images; of a source with parts, its training images.", show_default=False)]  # fmt: skip


@cache.command()
def build(
    source: Annotated[str | None, typer.Argument(metavar="[RUN|RECIPE]", show_default=False,
        help="The folder of a run, or a recipe: keeps what its students will look for. Or give --teacher and --images.")] = None,
    teacher: Teacher = None, images: Pictures = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", show_default=False,
        help="Of --teacher: the cache. Of a recipe: its run (default: runs/NAME).")] = None,
    views: Annotated[int, typer.Option("--views", min=1, help="How many views of each image.")] = 1,
    crop: Annotated[int, typer.Option("--crop", min=0, help="Pixels by which views are shifted at most.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Half of the views are mirrored.")] = False,
    colour: Annotated[float, typer.Option("--colour", min=0, max=1, help="How far brightness and contrast vary.")] = 0.0,
    erase: Annotated[float, typer.Option("--erase", min=0, max=1, help="Share of the views with a rectangle painted over.")] = 0.0,
    top: Annotated[int | None, typer.Option("--top", min=1, show_default=False,
        help="Keep the K largest probabilities and what the rest have together (default: all logits).")] = None,
    layers: Annotated[list[str] | None, typer.Option("--layer", metavar="TAP", help="Keep a layer, averaged over positions; may be repeated.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the numbers on disk: float32 or float16.")] = "float32",
    precision: Annotated[str, typer.Option("--precision", help="In which the teacher answers: float32 or bf16.")] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu, or auto for a GPU where there is one.")] = "cpu",
    seed: Seed = 0, quiet: Quiet = False, as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False,
) -> int:  # fmt: skip
    """Ask a teacher once about every view of every image, and keep what it says; goes on where it was stopped."""
    del debug  # looked at by `main`

    told: Literal["float32", "bf16"] = (
        "bf16" if _one_of("--precision", precision, ("float32", "bf16")) == "bf16" else "float32"
    )
    where: Literal["cpu", "auto"] = "auto" if _one_of("--device", device, ("cpu", "auto")) == "auto" else "cpu"
    if source is not None:
        _only_with_teacher(teacher, images, {"--views": views != 1, "--crop": crop, "--flip": flip, "--colour": colour, "--erase": erase,
                                             "--top": top, "--layer": layers, "--dtype": dtype != "float32", "--seed": seed})  # fmt: skip
        from distillens.verbs.cache import build_for

        with _shown(silent=quiet or as_json) as observer:
            made = build_for(source, out=out, trust_code=trust_code, observer=observer)
    else:
        if teacher is None or images is None or out is None:
            raise InputError(
                "Give the folder of a run or a recipe, or --teacher FILE with --images DATA and --out DIR."
            )
        changed = {"--crop": crop, "--flip": flip, "--colour": colour, "--erase": erase}
        if views > 1 and not any(changed.values()):
            raise InputError(f"{views} views of an image are all the same without --crop, --flip, --colour or --erase.")
        from distillens.data.views import Augmentation
        from distillens.transfer.answers.stored import Stored
        from distillens.verbs.cache import build_from_files

        augmentation = Augmentation(crop=crop, flip=flip, colour=colour, erase=erase, views=views)
        kind: Literal["float32", "float16"] = (
            "float16" if _one_of("--dtype", dtype, ("float32", "float16")) == "float16" else "float32"
        )
        with _shown(silent=quiet or as_json):
            info = build_from_files(
                teacher, images, out, augmentation=augmentation, stored=Stored(top, tuple(layers or ()), dtype=kind), seed=seed,
                precision=told, device=where,
            )  # fmt: skip
        made = [info | {"folder": str(out)}]
    if as_json:
        _print_json(made)
    else:
        for info in made:
            typer.echo(info["folder"] if quiet else f"{info['folder']}: {_sentence(info)}")
    return 0


@cache.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a cache.", show_default=False)],
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The run it is of: its teacher is asked again.", show_default=False)] = None,
    teacher: Teacher = None, images: Pictures = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Images that the teacher is asked about again.")] = 64,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False,
) -> int:  # fmt: skip
    """Check every byte of a cache, and ask the teacher again about a sample."""
    del debug  # looked at by `main`
    from distillens.plain import number
    from distillens.verbs.cache import verify as verify_folder

    with _shown(silent=quiet or as_json):
        done = verify_folder(folder, run=run, teacher=teacher, images=images, rows=rows, trust_code=trust_code)
    if as_json:
        _print_json(done.info | {"asked_again": done.asked, "largest_difference": done.difference})
    elif not quiet:
        typer.echo(f"Every byte of {folder} is as it was written: {_sentence(done.info)}")
        if done.difference is None:
            typer.echo("The teacher was not asked again; give the run, or --teacher and --images.")
        else:
            typer.echo(
                f"The teacher says the same about {done.asked:,} images in every view, to within {number(done.difference)}."
            )
    return 0


@cache.command()
def info(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a cache.", show_default=False)],
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> int:  # fmt: skip
    """Say what a cache holds and of whom."""
    del debug  # looked at by `main`
    from distillens.transfer.answers.cache import cache_info

    found = cache_info(folder)
    if as_json:
        _print_json(found)
    elif quiet:
        typer.echo("whole" if found["whole"] else "unfinished")
    else:
        from distillens.cli.terminal import print_pairs

        seen = found.get("shown", {}).get("augmentation", {})
        changes = (
            ", ".join(f"{name} {value}" for name, value in seen.items() if value and name != "views")
            or "the images as they are"
        )
        print_pairs([
            ("teacher", f"{found['teacher']}, classes {', '.join(found['classes'])}"), ("holds", _sentence(found)), ("views", changes),
            ("precision", found["parts"]["precision"]), ("fingerprint", found["identity"]),
        ])  # fmt: skip
    return 0


@contextlib.contextmanager
def _shown(*, silent: bool) -> Iterator[Any]:
    """Bars with the time left on standard error while the block runs; gives the observer of a run."""
    from distillens.cli.terminal import Lines
    from distillens.cli.terminal import Quiet as Unseen
    from distillens.progress import listening

    lines = Lines()
    watching = Unseen() if silent else lines
    try:
        with listening(watching):
            yield watching
    finally:
        lines.close()


def _sentence(found: dict[str, Any]) -> str:
    kept = found["stored"]
    what = "all logits" if kept["top"] is None else f"the {kept['top']} largest probabilities"
    what += "".join(f", {tap}" for tap in kept["layers"]) + (", maps" if kept["map"] is not None else "")
    views = f"{found['views']} views" if found["views"] > 1 else "1 view"
    state = "" if found["whole"] else " (unfinished: build goes on)"
    return f"{found['rows']:,} images, {views} of each, {what} as {kept['dtype']}, {found['shards']:,} shards, {found['bytes']:,} bytes{state}"


def _only_with_teacher(teacher: str | None, images: str | None, given: dict[str, Any]) -> None:
    for option, value in {"--teacher": teacher, "--images": images, **given}.items():
        if value:
            raise InputError(f"{option} goes without a run or recipe, which say themselves what their students see.")


def _one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InputError(f"{option} is {' or '.join(known)}, got {value!r}.")
    return value


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

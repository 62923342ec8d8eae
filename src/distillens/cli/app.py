"""The command line: `distillens run | init | check | report | list`.

Exit codes: 0 pass, 1 fail, 4 review (1 with --strict), 2 bad input, 3 something inside went wrong, 130 interrupted.
Results go to standard output, progress and errors to standard error. An error is one sentence; --debug adds the traceback.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from distillens import __version__
from distillens.cli.on_models import register
from distillens.errors import DistillensError, RecipeError

EXIT_CODES = {"pass": 0, "fail": 1, "review": 4}
INTERRUPTED = 130

app = typer.Typer(
    name="distillens",
    help="Distil a model into one small or readable enough to ship, and show whether it still decides for the same reasons.",
    epilog="Start with: distillens run breast-cancer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one value of the recipe, e.g. students.tree.max_leaves=8; may be repeated.",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Use this seed instead of the recipe's.", min=0, max=2**32 - 1)
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where to write (default: runs/NAME).", show_default=False)
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in the folder; what changed is worked anew.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error and the warnings of libraries.")]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Allow package.module:Name in the recipe to run.")]
Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="FILE",
        help="A model file, or package.module:name with --trust-code, in place of the recipe's teacher.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A YAML file, or the name of a built-in recipe (distillens list recipes).",
        show_default=False,
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"distillens {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


@app.command()
def run(
    recipe: RecipeName, changes: Set = None, out: Out = None, seed: Seed = None, resume: Resume = False, quiet: Quiet = False,
    as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False, teacher: Teacher = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 instead of 4 when the verdict is review.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 when the run completes, whatever the verdict.")] = False,
) -> int:  # fmt: skip
    """Run a recipe from data to passport."""
    del debug  # looked at by `main`
    from distillens.cli.terminal import Lines, show_verdict, verdict_line
    from distillens.cli.terminal import Quiet as Unseen
    from distillens.pipeline import run as run_pipeline
    from distillens.progress import listening
    from distillens.recipe import Recipe
    from distillens.recipe.check import untrusted

    loaded = Recipe.load(recipe, overrides=changes or ())
    loaded = loaded if teacher is None else loaded.with_teacher(teacher)
    if not trust_code and (problems := untrusted(loaded)):
        raise RecipeError(problems)
    lines = Lines()
    silent = quiet or as_json
    with contextlib.ExitStack() as stack:
        stack.callback(lines.close)
        stack.enter_context(listening(Unseen() if silent else lines))
        done = run_pipeline(
            loaded, out=out, seed=seed, resume=resume, trust_code=trust_code, observer=Unseen() if silent else lines
        )
    if as_json:
        _print_json(done.passport)
    elif quiet:
        typer.echo(verdict_line(done))
    else:
        show_verdict(done)
    if exit_zero:
        return 0
    return 1 if strict and done.verdict != "pass" else EXIT_CODES[done.verdict]


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A CSV or Parquet file, or a folder of images.", show_default=False)],
    target: Annotated[str | None, typer.Option("--target", metavar="COL", help="The column to predict; not needed for images.", show_default=False)] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The recipe to write.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the recipe if it exists.")] = False,
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="FILE", help="A model file to distil from.", show_default=False)] = None,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> int:  # fmt: skip
    """Look at a table or at images and write a commented recipe for them."""
    del debug  # looked at by `main`
    from distillens.recipe.sketch import write_recipe

    written = write_recipe(data, target, out=out, force=force, teacher=teacher)
    if as_json:
        _print_json({"recipe": str(out), "task": written.task, "rows": written.rows, "adverse": written.adverse})
    elif quiet:
        typer.echo(str(out))
    else:
        from distillens.plain import clean

        typer.echo(
            f"Wrote {out}: {written.rows:,} rows, {written.task}, target {clean(written.target)}. Read it, then:"
        )
        typer.echo(f"  distillens check {_shell(out)}")
        typer.echo(f"  distillens run {_shell(out)}")
    return 0


@app.command()
def check(
    recipe: RecipeName, changes: Set = None, out: Out = None, seed: Seed = None, resume: Resume = False, quiet: Quiet = False,
    as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False, teacher: Teacher = None,
) -> int:  # fmt: skip
    """Check a recipe, its data and its surroundings without training."""
    del debug  # looked at by `main`
    from distillens.recipe.check import check as check_recipe

    overrides = list(changes or ()) + ([] if seed is None else [f"seed={seed}"])
    checked = check_recipe(recipe, overrides=overrides, out=out, resume=resume, trust_code=trust_code, teacher=teacher)
    if as_json:
        _print_json(checked.to_json())
        return 2 if checked.problems else 0
    if checked.problems:
        raise RecipeError(checked.problems)
    if quiet:
        return 0
    from distillens.cli.terminal import cost_words, print_pairs
    from distillens.plain import clean

    pairs = list(checked.lines.items())
    if checked.cost is not None:
        pairs.append(("takes about", cost_words(checked.cost.seconds, checked.cost.controls, checked.cost.fits)))
    print_pairs(pairs)
    for warning in checked.warnings:
        typer.echo(f"warning: {clean(warning)}", err=True)
    typer.echo(f"The recipe can be run: distillens run {_shell(recipe)}")
    return 0


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> int:  # fmt: skip
    """Write the passport of a run again, from its folder alone."""
    del debug  # looked at by `main`
    from distillens.cli.terminal import show_verdict, verdict_line
    from distillens.recipe.text import read_yaml
    from distillens.report.passport import write_passport
    from distillens.run import Run

    done = Run.open(directory)
    recipe = read_yaml(directory / "recipe.yaml")
    part = recipe.get("report") if isinstance(recipe, dict) else None
    languages = (part.get("languages") if isinstance(part, dict) else None) or ["en"]
    if not isinstance(languages, list) or not all(isinstance(language, str) for language in languages):
        raise RecipeError([f"{directory / 'recipe.yaml'}: report.languages should be a list such as [en, zh]."])
    with done.locked():
        write_passport(directory, languages=tuple(languages))
    if as_json:
        _print_json(done.passport)
    elif quiet:
        typer.echo(verdict_line(done))
    else:
        show_verdict(done)
    return 0


@app.command("list")
def list_members(
    kind: Annotated[str, typer.Argument(metavar="WHAT", help="students, teachers, objectives, explainers, metrics, recipes, …", show_default=False)],
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> int:  # fmt: skip
    """List what a recipe can name."""
    del debug  # looked at by `main`
    from distillens.cli.listing import list_of

    items = list_of(kind)
    if as_json:
        _print_json({"kind": kind, "items": [{"name": name, "text": text} for name, text in items]})
    elif quiet:
        for name, _ in items:
            typer.echo(name)
    else:
        from distillens.cli.terminal import print_pairs

        print_pairs(items)
    return 0


register(app)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _shell(path: Path | str) -> str:
    from shlex import quote

    return quote(str(path))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code. Errors become one sentence on standard error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # a process of our own
        # OpenMP threads that wait shall sleep: on a busy machine they spin against each other, up to a hundred times slower.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    debug = "--debug" in arguments
    try:
        with _library_warnings(shown=debug):
            result = typer.main.get_command(app)(args=arguments, prog_name="distillens", standalone_mode=False)
            sys.stdout.flush()
        if result == INTERRUPTED:  # Typer turns Ctrl-C into this result
            raise KeyboardInterrupt
        return int(result or 0)
    except KeyboardInterrupt:
        return _fail(_interrupted(arguments), INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe (head, less) has left
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except DistillensError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except Exception as error:  # noqa: BLE001 (the last resort: one sentence instead of a page of internals)
        if _is_usage(error):
            return _usage(error)
        text = " ".join(str(error).split())
        advice = "please report it with the traceback above" if debug else "run again with --debug to see where"
        return _fail(
            f"something inside distillens went wrong ({type(error).__name__}{': ' + text if text else ''}); {advice}.",
            3,
            debug=debug,
        )


def _interrupted(arguments: Sequence[str]) -> str:
    if arguments[:1] in (["explain"], ["audit"]) and any(a == "--out" or a.startswith("--out=") for a in arguments):
        return f"interrupted; finished rows are kept. To go on: distillens {' '.join(map(_shell, arguments))}"
    if arguments[:2] == ["cache", "build"]:
        return f"interrupted; whole shards are kept. To go on: distillens {' '.join(map(_shell, arguments))}"
    if arguments[:1] == ["frontier"]:
        again = [text for text in arguments if text != "--resume"]
        return f"interrupted; fitted students are kept. To go on: distillens {' '.join(map(_shell, again))} --resume"
    if "run" not in arguments:
        return "interrupted; nothing was changed."
    again = [text for text in arguments if text != "--resume"]
    return f"interrupted; finished stages are kept. To go on: distillens {' '.join(map(_shell, again))} --resume"


def _is_usage(error: Exception) -> bool:
    """Whether the argument parser raised it: Typer brings its own copy of Click or uses an installed one."""
    return hasattr(error, "exit_code") and (
        hasattr(error, "format_message") or type(error).__name__ in {"Abort", "Exit"}
    )


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(error.format_message() + "\n")
        return 0
    text = error.format_message() if hasattr(error, "format_message") else "stopped"
    sentence = " ".join(text.split())
    return _fail(f"{sentence}{'' if sentence.endswith(('.', '?', '!')) else '.'} See: distillens --help", 2)


def _fail(text: str, code: int, *, debug: bool = False) -> int:
    from distillens.plain import clean

    if debug:
        import traceback

        traceback.print_exc()
    lines = [clean(line) for line in text.splitlines()]
    sys.stderr.write("error: " + "\n".join(lines) + "\n")
    return code


@contextlib.contextmanager
def _library_warnings(*, shown: bool) -> Iterator[None]:
    """Warnings of libraries speak to programmers; they are shown with --debug. Those of distillens always are."""
    from distillens.errors import DistillensWarning

    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", DistillensWarning)
            warnings.showwarning = _one_sentence
        yield


def _one_sentence(message: Any, category: Any, filename: Any, lineno: Any, file: Any = None, line: Any = None) -> None:
    del category, filename, lineno, file, line
    sys.stderr.write(f"warning: {' '.join(str(message).split())}\n")


if __name__ == "__main__":
    sys.exit(main())

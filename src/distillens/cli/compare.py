"""`distillens compare RUN... | STUDY.yaml`: finished runs side by side, or a study of transfer mechanisms from beginning to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from distillens.cli.options import Debug, Json, Quiet, TrustCode
from distillens.errors import InputError


def compare(
    sources: Annotated[list[Path], typer.Argument(metavar="RUN...|STUDY",
        help="Folders of runs, or of audits written with --out; or one study of transfer mechanisms, a YAML file.", show_default=False)],
    every: Annotated[bool, typer.Option("--all", help="Every student of each run, not the chosen one alone.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Of a study: print LaTeX tables.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Of a study: where it goes (default: studies/NAME).", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Of a study: go on in its folder; what is finished is kept.")] = False,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of a study: change one value; may be repeated.")] = None,
    trust_code: TrustCode = False, quiet: Quiet = False, as_json: Json = False, debug: Debug = False,
) -> int:  # fmt: skip
    """Compare finished runs, or transfer mechanisms by a study; with intervals."""
    del debug  # looked at by `main`
    from distillens.verbs.study import is_study

    studies = [source for source in sources if is_study(source)]
    if studies and len(sources) > 1:
        raise InputError(f"{studies[0]} is a study, and a study is compared alone; give it without other runs.")
    if studies:
        if every:
            raise InputError("--all is for runs; a study always shows all of its mechanisms.")
        return _study(studies[0], out, resume, changes or (), trust_code, quiet, (as_json, as_markdown, as_latex))
    given = {"--latex": as_latex, "--out": out is not None, "--resume": resume, "--set": bool(changes)}
    if option := next((name for name, used in given.items() if used), None):
        raise InputError(
            f"{option} goes with a study; {sources[0]} is none (a YAML file with the key study or mechanisms)."
        )
    return _runs(sources, every=every, as_markdown=as_markdown, quiet=quiet, as_json=as_json)


def _runs(runs: Sequence[Path], *, every: bool, as_markdown: bool, quiet: bool, as_json: bool) -> int:
    from distillens.verbs.compare import cells, compare_runs, markdown

    compared = compare_runs(runs, every=every)
    if as_json:
        _print_json(compared)
    elif as_markdown:
        typer.echo(markdown(compared), nl=False)
    else:
        _show(*cells(compared))
        for note in () if quiet else compared["notes"]:
            typer.echo(f"  {note}")
    return 0


def _study(
    path: Path, out: Path | None, resume: bool, changes: Sequence[str], trust_code: bool, quiet: bool, formats: tuple[bool, bool, bool]
) -> int:  # fmt: skip
    from distillens.cli.terminal import Lines
    from distillens.cli.terminal import Quiet as Unseen
    from distillens.progress import listening
    from distillens.verbs.study import compare_mechanisms

    as_json, as_markdown, as_latex = formats
    silent = quiet or as_json
    lines = Lines()
    try:
        with listening(Unseen() if silent else lines):
            results, folder = compare_mechanisms(
                path, out=out, resume=resume, overrides=changes, trust_code=trust_code, observer=Unseen() if silent else lines
            )  # fmt: skip
    finally:
        lines.close()
    if as_json:
        _print_json(results)
    elif as_markdown or as_latex:
        typer.echo((folder / ("table.tex" if as_latex else "table.md")).read_text(encoding="utf-8"), nl=False)
    else:
        _show_study(results, folder, quiet=quiet)
    return 0


def _show_study(results: Mapping[str, Any], folder: Path, *, quiet: bool) -> None:
    from distillens.studies.table import bibtex_of, cells, difference_cells, notes

    _show(*cells(results))
    for reference in results["references"]:
        typer.echo(f"\nDifferences to {reference}:")
        _show(*difference_cells(results, reference))
    if quiet:
        return
    typer.echo("")
    for note in notes(results):
        typer.echo(f"  {note}")
    typer.echo(f"\n{bibtex_of(results)}\nTables, rows and references: {folder}")


def _show(header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Columns aligned by spaces; the same on a terminal and in a file."""
    from distillens.plain import clean

    table = [[clean(cell) for cell in line] for line in (header, *lines)]
    widths = [max(len(line[j]) for line in table) for j in range(len(header))]
    for line in table:
        typer.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_json(record: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

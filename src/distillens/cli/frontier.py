"""`distillens frontier RECIPE|RUN`: how readable can the student be at the same performance?"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from distillens.cli.options import Debug, Json, Quiet, TrustCode
from distillens.errors import InputError

MARKS = {"front": ("●", "green"), "within": ("○", ""), "behind": ("·", "dim")}
TITLES = {"parts": "same parts", "partition": "same groups", "decisions": "same answers"}


def frontier(
    source: Annotated[str, typer.Argument(metavar="RECIPE|RUN",
        help="The folder of a run, whose teacher and targets are used, or a recipe.", show_default=False)],
    families: Annotated[str | None, typer.Option("--families", metavar="A,B", show_default=False,
        help="Among tree, rules, scorecard, additive, linear, network, soft_tree (default: the recipe's; else all but linear and soft_tree).")] = None,
    sizes: Annotated[list[str] | None, typer.Option("--sizes", metavar="FAMILY=N,N", help="Sizes of a family, like tree=2,4,8; may be repeated.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, max=50, show_default=False,
        help="Fits of each point, and as many on resampled rows (default: 3).")] = None,
    queries: Annotated[int | None, typer.Option("--queries", min=0, max=100, show_default=False,
        help="Rows made up per training row (default: as in the recipe).")] = None,
    margin: Annotated[float | None, typer.Option("--margin", help="Loss that still counts as the same (default: 0.02).", show_default=False)] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of a recipe; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR",
        help="Of a recipe: where the run goes (default: runs/NAME). Of a run: where the files go (default: RUN/frontier).", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in the folder of a recipe's run; a run goes on by itself.")] = False,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False,
) -> int:  # fmt: skip
    """Find how readable the student can be: families and sizes by fidelity and by what a person must read."""
    del debug  # looked at by `main`
    from distillens.cli.terminal import Lines
    from distillens.cli.terminal import Quiet as Unseen
    from distillens.progress import listening
    from distillens.recipe import Recipe
    from distillens.report.frontier import front_words
    from distillens.verbs.frontier import frontier_of

    given = {"families": _list(families), "sizes": _sizes(sizes), "seeds": seeds, "queries": queries, "margin": margin}
    options = {key: value for key, value in given.items() if value is not None}
    is_run = Path(source).is_dir()
    if is_run and changes:
        raise InputError("--set goes with a recipe; a run has its recipe already.")
    loaded: Any = source if is_run else Recipe.load(source, overrides=changes or ())
    silent = quiet or as_json
    lines = Lines()
    try:
        with listening(Unseen() if silent else lines):
            record, folder = frontier_of(
                loaded,
                options=options,
                out=out,
                resume=resume,
                trust_code=trust_code,
                observer=Unseen() if silent else lines,
            )
    finally:
        lines.close()
    if as_json:
        sys.stdout.write(json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    elif quiet:
        typer.echo(front_words(record))
    else:
        show(record, folder)
    return 0


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _sizes(texts: Sequence[str] | None) -> dict[str, list[int]] | None:
    """`tree=2,4,8` as numbers. InputError for anything else."""
    found: dict[str, list[int]] = {}
    for text in texts or ():
        family, equals, values = text.partition("=")
        numbers = [value.strip() for value in values.split(",")]
        if (
            not equals
            or not family.strip()
            or not all(n.isdecimal() and len(n) < 7 for n in numbers)
            or family.strip() in found
        ):
            raise InputError(f"--sizes takes FAMILY=N,N, each family once, like tree=2,4,8; got {text[:60]!r}.")
        found[family.strip()] = [int(n) for n in numbers]
    return found or None


def show(record: Mapping[str, Any], folder: Path) -> None:
    """The points, smallest first, those on the front marked; the answers; where the files lie."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from distillens.cli.terminal import console, print_pairs, relative
    from distillens.plain import clean
    from distillens.report.frontier import frontier_answers, frontier_table, state
    from distillens.report.frontier_figure import point_name
    from distillens.report.words import Words

    w, to = Words("en"), console(sys.stdout)
    rows = {row["id"]: row for row in frontier_table(w, record)["rows"]}
    points = {p["id"]: p for p in record["points"]}
    names = {m: w.metric(record[m]["metric"]) for m in ("fidelity", "performance") if record[m] is not None}
    columns = {"decision": "one decision", "whole": "whole model"} | names | {"spread": "refits, SD"}
    columns |= {key: title for key, title in TITLES.items() if any(row.get(key, "—") != "—" for row in rows.values())}
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shown.add_column("")
    shown.add_column("student", no_wrap=True)
    for key, title in columns.items():
        shown.add_column(title, justify="left" if key in names else "right", overflow="fold")
    for name, row in rows.items():
        mark, colour = MARKS[state(points[name])]
        cells = [Text(clean(row[key]).replace("\u202f", ""), style="bold" if row["front"] else "") for key in columns]
        shown.add_row(Text(mark, style=colour), Text(clean(point_name(w, points[name], short=True))), *cells)
    to.print()
    to.print(shown)
    to.print(Text("  ● on the front   ○ not clearly behind it   · clearly behind", style="dim"))
    to.print()
    for text in frontier_answers(w, record):
        to.print(Text("  " + clean(text)))
    to.print(
        Text(
            f"  Measured on {record['rows']['n']:,} validation rows, for choosing; judge the student you choose on test rows."
        )
    )
    to.print()
    print_pairs(
        [
            (path.suffix[1:], relative(path))
            for name in ("html", "svg", "csv", "json")
            if (path := folder / f"frontier.{name}").is_file()
        ]
    )

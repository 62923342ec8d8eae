"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error and the warnings of libraries.")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Allow package.module:name as a model; it runs its code.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything drawn at random.", min=0, max=2**32 - 1)]
Data = Annotated[
    str | None, typer.Option("--data", metavar="FILE", help="A CSV or Parquet file of rows.", show_default=False)
]
Target = Annotated[
    str | None, typer.Option("--target", metavar="COL", help="The column to predict; no feature.", show_default=False)
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="COL", help="A column that is no feature; may be repeated.")
]
Adverse = Annotated[
    str | None,
    typer.Option(
        "--adverse",
        metavar="CLASS",
        help="The class that is decided and explained (default: the second of two).",
        show_default=False,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Probability of the adverse class from which it is decided.  [default: 0.5]",
        show_default=False,
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        metavar="FILE",
        help='Rows that stand for "unknown" in explanations, best the training rows (default: rows of --data).',
        show_default=False,
    ),
]
BackgroundDraws = Annotated[
    int,
    typer.Option(
        "--background-draws",
        help="Draw the background so often, and say how much the reasons move; each draw is one more explanation.",
        min=1,
        max=100,
    ),
]
BackgroundRows = Annotated[int, typer.Option("--background-rows", help="How many of them to draw.", min=1)]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget", help="Coalitions a row (default: 2048, or all where they are fewer).", show_default=False, min=2
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="A,B",
        help="Every class in the order of its code, where neither file nor rows tell.",
        show_default=False,
    ),
]

"""The commands about models that exist: `distillens audit | explain | export`. Registered by app.py."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from distillens.cli.caching import cache
from distillens.cli.compare import compare
from distillens.cli.frontier import frontier
from distillens.cli.options import (
    Adverse,
    Background,
    BackgroundDraws,
    BackgroundRows,
    Budget,
    Classes,
    Data,
    Debug,
    Ignore,
    Json,
    Quiet,
    Seed,
    Target,
    Threshold,
    TrustCode,
)
from distillens.errors import InputError

ROWS_SHOWN = 20  # of an explanation on the terminal, where a file holds all of them
EXIT_CODES = {"pass": 0, "fail": 1, "review": 4}


def audit(
    teacher: Annotated[str, typer.Option("--teacher", metavar="FILE",
        help="The model to be faithful to: .onnx, .json or .ubj (XGBoost), .txt (LightGBM), .skops, .safetensors, or module:name.", show_default=False)],
    student: Annotated[str, typer.Option("--student", metavar="FILE", help="The model that shall replace it; the same kinds.", show_default=False)],
    data: Annotated[str, typer.Option("--data", metavar="FILE", help="A CSV or Parquet file of rows that neither was trained on.", show_default=False)],
    target: Target = None, adverse: Adverse = None, threshold: Threshold = None,
    audit_only: Annotated[list[str] | None, typer.Option("--audit-only", metavar="COL", help="A column for slices, never a feature; may be repeated.")] = None,
    group: Annotated[str | None, typer.Option("--group", metavar="COL",
        help="Rows with the same value belong together (one patient).", show_default=False)] = None,
    weight: Annotated[str | None, typer.Option("--weight", metavar="COL", help="The weight of each row.", show_default=False)] = None,
    ignore: Ignore = None, classes: Classes = None,
    teacher_classes: Annotated[str | None, typer.Option("--teacher-classes", metavar="A,B",
        help="The teacher's outputs in its order, where its file does not name them.", show_default=False)] = None,
    student_classes: Annotated[str | None, typer.Option("--student-classes", metavar="A,B", help="The same for the student.", show_default=False)] = None,
    control: Annotated[list[str] | None, typer.Option("--control", metavar="ROLE=FILE",
        help="A reference model: twin (the teacher refitted) or undistilled (the student fitted on labels); may be repeated.")] = None,
    gates: Annotated[str, typer.Option("--gates", help="relative, low_stakes, high_stakes, edge, or METRIC>=LIMIT,METRIC<=LIMIT.")] = "relative",
    explain: Annotated[str, typer.Option("--explain", metavar="METHOD", help="How reasons are found: auto, exact_shapley, kernel_shap, …, or none.")] = "auto",
    explain_rows: Annotated[int, typer.Option("--explain-rows", help="How many rows to explain.", min=2)] = 100,
    budget: Budget = None, background: Background = None, background_rows: BackgroundRows = 50,
    repeatability: Annotated[bool, typer.Option("--repeatability/--no-repeatability",
        help="Explain both models a second time, against other background rows: how much reasons move by themselves.")] = True,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR",
        help="Write audit, rows and passport there (default: only print).", show_default=False)] = None,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 instead of 4 when the verdict is review.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 when the audit completes, whatever the verdict.")] = False,
) -> int:  # fmt: skip
    """Audit a student against its teacher; both may be made elsewhere."""
    del debug  # looked at by `main`
    from distillens.run import Run
    from distillens.verbs.audit import Named, audit_files, write_audit

    if out is not None:
        _require_free(out)
    named = Named(target, tuple(audit_only or ()), tuple(ignore or ()), group, weight, _names(classes, "--classes"))
    with _shown(silent=quiet or as_json):
        done = audit_files(
            teacher, student, data, named=named, background=background, controls=_controls(control),
            teacher_classes=_names(teacher_classes, "--teacher-classes"),
            student_classes=_names(student_classes, "--student-classes"), adverse=adverse, threshold=threshold,
            gates=_gates(gates), method=explain, explained=explain_rows, background_rows=background_rows, budget=budget,
            repeatability=repeatability, seed=seed, keep=None if out is None else Run(out).partial("explain"), trust_code=trust_code,
        )  # fmt: skip
    result = done.audit
    if out is not None:
        command = {
            "teacher": teacher, "student": student, "data": data, "target": target, "adverse": adverse, "threshold": threshold,
            "background": done.background, "gates": gates, "explain": explain, "explain_rows": explain_rows, "budget": budget,
            "repeatability": repeatability, "seed": seed,
        }  # fmt: skip
        write_audit(done, out, name=out.resolve().name, command=command, seed=seed)
    if as_json:
        _print_json(result.to_json() | {"background": done.background, "assumed_classes": dict(done.assumed)})
    else:
        _show_audit(done, out, quiet=quiet)
        if out is not None and not quiet:
            typer.echo(f"  passport    {Run.open(out).directory / 'passport.html'}")
    if exit_zero:
        return 0
    return 1 if strict and result.verdict != "pass" else EXIT_CODES[result.verdict]


def explain(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The folder of a run; or give --model and --data.", show_default=False)] = None,
    rows: Annotated[str | None, typer.Option("--rows", metavar="N,N-N",
        help="Row numbers, like 17,20-23 (default: the first five; of a run, of its test rows).", show_default=False)] = None,
    student: Annotated[str | None, typer.Option("--student", metavar="NAME",
        help="Of a run: the student, or teacher (default: the chosen student).", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="FILE",
        help="A model made elsewhere; the kinds of distillens audit.", show_default=False)] = None,
    data: Data = None, target: Target = None, ignore: Ignore = None, classes: Classes = None, adverse: Adverse = None,
    threshold: Threshold = None,
    method: Annotated[str | None, typer.Option("--method", help="The explainer (default: auto; of a run, its first).", show_default=False)] = None,
    budget: Budget = None, background: Background = None, background_rows: BackgroundRows = 100,
    background_draws: BackgroundDraws = 1, seed: Seed = 0,
    effect: Annotated[str | None, typer.Option("--effect", metavar="KIND",
        help="Instead of rows, one feature over its range: pdp, ice, ale, or dependence (attribution against value).", show_default=False)] = None,
    feature: Annotated[str | None, typer.Option("--feature", metavar="NAME", help="The feature of --effect.", show_default=False)] = None,
    points: Annotated[int, typer.Option("--points", help="Grid points of --effect, or bins of ale.", min=2, max=1000)] = 20,
    top: Annotated[int, typer.Option("--top", help="Reasons a row to print; JSON and CSV hold all.", min=1)] = 4,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE",
        help="Write every reason of every row, or the effect, as CSV.", show_default=False)] = None,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False,
) -> int:  # fmt: skip
    """Explain single rows: the main reasons, with signs and standard errors; or one feature over its range, with --effect."""
    del debug  # looked at by `main`
    from distillens.verbs.effects import dependence_of, effect_of_file, effect_of_run
    from distillens.verbs.explain import explain_file, explain_run, kept_beside, parse_rows

    picked = parse_rows(rows)
    keep = None if out is None else kept_beside(out)
    if (run is None) == (model is None):
        raise InputError("Give either the folder of a run, or --model FILE with --data FILE.")
    if (effect is None) != (feature is None):
        raise InputError("--effect KIND and --feature NAME go together.")
    if run is not None:
        given = {"--data": data, "--target": target, "--ignore": ignore, "--classes": classes, "--threshold": threshold,
                 "--budget": budget, "--background": background}  # fmt: skip
        _refuse(given, "goes with --model; a run has its own data, background and budget")
    else:
        _refuse({"--student": student}, "goes with the folder of a run")
        if model is None or data is None:
            raise InputError("--model FILE needs --data FILE: the rows to explain.")
        if effect == "dependence" and picked is None:
            raise InputError("--effect dependence of a file needs rows to explain: --rows 0-99.")
        if effect not in (None, "dependence"):
            given = {"--method": method, "--budget": budget, "--background": background, "--threshold": threshold}
            _refuse(given, f"goes with explanations; --effect {effect} asks the model itself")
    with _shown(silent=quiet or as_json):
        found: Any
        if run is not None and effect is not None and feature is not None:
            found = effect_of_run(
                run, effect, feature, rows=picked, model=student, method=method, target=adverse, points=points, trust_code=trust_code,
            )  # fmt: skip
        elif run is not None:
            found = explain_run(
                run, rows=picked, model=student, method=method, target=adverse, background_draws=background_draws, keep=keep,
                trust_code=trust_code,
            )  # fmt: skip
        elif effect not in (None, "dependence"):
            found = effect_of_file(
                str(model), str(data), str(effect), str(feature), rows=picked, target=target, ignore=ignore or (),
                classes=_names(classes, "--classes"), adverse=adverse, points=points, seed=seed, trust_code=trust_code,
            )  # fmt: skip
        else:
            found = explain_file(
                str(model), str(data), rows=picked, target=target, ignore=ignore or (), classes=_names(classes, "--classes"),
                adverse=adverse, threshold=threshold, background=background, background_rows=background_rows,
                method=method or "auto", budget=budget, background_draws=background_draws, seed=seed, keep=keep, trust_code=trust_code,
            )  # fmt: skip
    if effect is not None and feature is not None:
        _show_effect(
            found if run is not None or effect != "dependence" else dependence_of(found, feature),
            out,
            as_json=as_json,
            quiet=quiet,
        )
        return 0
    if out is not None:
        found.write_csv(out)
    if as_json:
        _print_json(found.to_json())
    else:
        _show_reasons(found.to_json(), top=top, quiet=quiet, rows=None if out is None else ROWS_SHOWN)
        if out is not None and not quiet:
            typer.echo(f"\n  reasons  {out}")
    return 0


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    student: Annotated[str | None, typer.Option("--student", metavar="NAME",
        help="Which student (default: the chosen one), or teacher.", show_default=False)] = None,
    kind: Annotated[str, typer.Option("--format", help="The format (distillens list exporters).")] = "onnx",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write (default: NAME.FORMAT here).", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    quiet: Quiet = False, as_json: Json = False, debug: Debug = False, trust_code: TrustCode = False,
) -> int:  # fmt: skip
    """Write a student of a run as a file that runs without distillens."""
    del debug  # looked at by `main`
    from distillens.plain import number
    from distillens.verbs.export import export_student

    done = export_student(run, student=student, kind=kind, out=out, force=force, trust_code=trust_code)
    if as_json:
        _print_json(done)
    elif quiet:
        typer.echo(done["path"])
    else:
        same = done["parity"]
        checked = ""
        if same is not None:
            checked = f" · on {same['rows']:,} test rows at most {number(same['max_abs_difference'])} away, {same['flips']} decisions differ"
        typer.echo(f"Wrote {done['path']}: {done['student']} as {done['format']}, {done['bytes']:,} bytes{checked}")
    return 0


def register(app: typer.Typer) -> None:
    """Put the commands on the application, after those of a run."""
    for command in (audit, explain, export, compare):
        app.command()(command)
    app.command("frontier")(frontier)
    app.add_typer(cache)


# ── reading options ─────────────────────────────────────────────────────────────────────────────────────────────────
def _names(text: str | None, option: str) -> tuple[str, ...] | None:
    """`good,bad` as names; a name with a comma is written in double quotes, as in CSV."""
    if text is None:
        return None
    names = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"{option} takes two or more different names with commas between them, like good,bad; got {text[:80]!r}."
        )
    return names


def _controls(texts: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        role, equals, path = text.partition("=")
        if not equals or not role or not path or role in found:
            raise InputError(f"--control takes ROLE=FILE, each role once, like twin=twin.onnx; got {text[:80]!r}.")
        found[role] = path
    return found


def _gates(text: str) -> str | dict[str, Any]:
    """A profile's name, or `agreement>=0.95,brier<=0.2` as a mapping."""
    if not any(sign in text for sign in "<>="):
        return text
    found: dict[str, Any] = {}
    for piece in text.split(","):
        sign = ">=" if ">=" in piece else "<="
        name, _, limit = (part.strip() for part in piece.partition(sign))
        try:
            if sign not in piece:
                raise ValueError
            found.setdefault(name, {})["min" if sign == ">=" else "max"] = float(limit)
        except ValueError:
            raise InputError(f"--gates takes limits like agreement>=0.95,brier<=0.2; got {piece[:60]!r}.") from None
    return found


def _refuse(given: Mapping[str, Any], why: str) -> None:
    for option, value in given.items():
        if value is not None and value != []:
            raise InputError(f"{option} {why}.")


def _require_free(out: Path) -> None:
    """Before anything is computed: the folder must be new or empty."""
    from distillens.run import Run

    existed = out.exists()
    Run.create(out, resume=False)
    if not existed:
        with contextlib.suppress(OSError):
            out.rmdir()


# ── printing ────────────────────────────────────────────────────────────────────────────────────────────────────────
@contextlib.contextmanager
def _shown(*, silent: bool) -> Iterator[None]:
    """Bars on standard error while the block runs."""
    from distillens.cli.terminal import Lines
    from distillens.cli.terminal import Quiet as Unseen
    from distillens.progress import listening

    lines = Lines()
    try:
        with listening(Unseen() if silent else lines):
            yield
    finally:
        lines.close()


def _print_json(value: Any) -> None:
    from distillens.store import canonical_json

    plain = json.loads(canonical_json(value))  # NaN and infinities become null, as in the files
    sys.stdout.write(json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _show_audit(done: Any, out: Path | None, *, quiet: bool) -> None:
    """The gates, the verdict with its reason, and what the numbers rest on."""
    from rich.text import Text

    from distillens.cli.terminal import COLOURS, console, gate_table
    from distillens.plain import clean, interval

    del out
    record = done.audit.to_json()
    shown = [m for m in record["metrics"] if m["name"] in ("agreement", "r2_to_teacher", "top_k_overlap")]
    line = "   ".join(f"{m['name'].replace('_', ' ')} {interval(m['estimate'])}" for m in shown)
    if quiet:
        typer.echo(f"{record['verdict'].upper().ljust(6)}   {line}")
        return
    to = console(sys.stdout)
    if record["gates"]:
        to.print()
        to.print(gate_table(record))
    to.print()
    word = Text(record["verdict"].upper(), style=COLOURS[record["verdict"]] + " bold")
    to.print(Text.assemble("  ", ("verdict".ljust(12), "bold"), word, "   " + clean(line)))
    to.print(Text(f"  {'why'.ljust(12)}{clean(record['verdict_why'])}"))
    models = record["models"]
    names = [f"{clean(models[role]['label'])} ({done.kinds[role]})" for role in ("student", "teacher")]
    to.print(Text(f"  {'of'.ljust(12)}{names[0]} against {names[1]}, n = {record['n']:,}"))
    decision = record["decision"]
    if decision is not None:
        to.print(
            Text(
                f"  {'decides'.ljust(12)}{clean(decision['adverse'])} where its probability is at least {decision['threshold']:g}"
            )
        )
    for role, assumed in done.assumed.items():
        order = ", ".join(clean(name) for name in assumed)
        hint = f"; --{role}-classes says otherwise" if role in ("teacher", "student") else ""
        to.print(Text(f"  {'classes'.ljust(12)}the {role}'s file numbers its classes; taken as {order}{hint}"))
    to.print(Text(f"  {'background'.ljust(12)}{clean(done.background)}"))
    for finding in record["findings"]:
        to.print(Text(f"  {finding['severity'].ljust(12)}{clean(finding['text'])}"))


def _show_effect(found: Any, out: Path | None, *, as_json: bool, quiet: bool) -> None:
    from distillens.cli.effects import show_dependence, show_effects
    from distillens.verbs.effects import Effects, write_effect

    if out is not None:
        write_effect(found, out)  # removes the blocks kept beside it, too
    if as_json:
        _print_json(found.to_json())
    elif isinstance(found, Effects):
        show_effects(found, quiet=quiet)
    else:
        show_dependence(found, quiet=quiet)
    if out is not None and not (quiet or as_json):
        typer.echo(f"\n  effect  {out}")


def _show_reasons(record: Mapping[str, Any], *, top: int, quiet: bool, rows: int | None) -> None:
    """On the terminal. rows: how many at most, where a file holds them all."""
    from distillens.plain import clean, number

    if not quiet:
        how = "exact" if record["exact"] else f"{record['budget']:,} coalitions a row"
        typer.echo(f"{clean(record['model'])} by {record['method']} ({how}); background: {clean(record['background'])}")
        if (redrawn := record["background_draws"]) is not None:
            ranks = redrawn["rank_correlation"]
            typer.echo(
                f"against {len(redrawn['backgrounds'])} draws of it two draws name the same main reason in {redrawn['same_top']:.0%} of rows"
                + ("" if ranks is None else f", and their rankings correlate with {number(ranks)}")
            )
    for row in record["rows"][:rows]:
        said = ""
        if row["decided"] is not None:
            said = f": decides {clean(row['decided'])} with {number(row['probability'])}"
        of = "" if row["target"] is None else f" of {clean(row['target'])}"
        scale = record["scale"].replace("_", "-")
        typer.echo(
            f"\nrow {row['row_id']}{said}; {scale}{of} {number(row['output'])}, {number(row['base'])} when nothing is known"
        )
        for reason in row["reasons"][:top]:
            noise = reason["stderr"] or 0.0
            error = f" ± {noise:.2g}" if noise > 1e-9 * abs(reason["attribution"]) else ""  # rounding is no uncertainty
            value = "" if reason["value"] is None else f" = {clean(reason['value'])}"
            moves = "" if reason["spread"] is None else f"  (moves by {reason['spread']:.2g} with the background)"
            typer.echo(f"  {_signed(reason['attribution'])}{error}  {clean(reason['feature'])}{value}{moves}")
        rest = row["reasons"][top:]
        if rest:
            typer.echo(f"  {_signed(sum(r['attribution'] for r in rest))}  {len(rest)} others together")
    if rows is not None and len(record["rows"]) > rows:
        typer.echo(f"\n{len(record['rows']) - rows:,} more rows are in the file.")


def _signed(value: float) -> str:
    """`+0.91`, `−0.044`: three significant digits, a real minus sign; what rounding left of nothing is `+0`."""
    return f"{value if abs(value) > 1e-12 else 0.0:+.3g}".replace("-", "−").rjust(8)

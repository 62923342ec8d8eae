"""The results of a study as Markdown and LaTeX tables, with the sentences without which the numbers mean little."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distillens.plain import clean
from distillens.studies.citations import entries_for

WORDS = {"accuracy": "accuracy", "agreement": "agreement", "saliency": "saliency", "explainer": "explainer"}


def cells(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and lines: a mechanism with its means, its differences to the references with corrected p, and seconds a run."""
    measures = [m for m in WORDS if m not in results["unavailable"]]
    header = ["mechanism", "chosen", *measures]
    header += [f"{m} − {r}" for r in results["references"] for m in measures[:1]] + ["seconds"]
    lines = []
    for mechanism in results["mechanisms"]:
        line = [mechanism["name"], chosen_words(mechanism)]
        line += [_mean(mechanism["measures"][m]) for m in measures]
        line += [
            difference_words(_found(results, mechanism["name"], r, m))
            for r in results["references"]
            for m in measures[:1]
        ]
        lines.append([*line, f"{mechanism['seconds']:.1f}"])
    return header, lines


def difference_cells(results: Mapping[str, Any], reference: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines: for one reference the differences of every mechanism on every measure."""
    measures = [m for m in WORDS if m not in results["unavailable"]]
    lines = [[mechanism["name"], *(difference_words(_found(results, mechanism["name"], reference, m)) for m in measures)]
             for mechanism in results["mechanisms"] if mechanism["name"] != reference]  # fmt: skip
    return ["mechanism", *measures], lines


def chosen_words(mechanism: Mapping[str, Any]) -> str:
    """`weights 0.3`: what tuning chose."""
    return ", ".join(f"{key} {value:g}" for key, value in mechanism["chosen"].items()) or "as written"


def _found(results: Mapping[str, Any], name: str, reference: str, measure: str) -> Mapping[str, Any] | None:
    return next((d for d in results["differences"] if (d["mechanism"], d["reference"], d["measure"]) == (name, reference, measure)), None)  # fmt: skip


def _mean(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return ""
    spread = f" ± {found['seed_sd']:.3f}" if found["seed_sd"] is not None else ""
    return f"{found['mean']:.3f}{spread}"


def difference_words(found: Mapping[str, Any] | None) -> str:
    """`+0.012 (+0.004 to +0.020), p 0.031`, p corrected; `*` below 1 − level."""
    if found is None:
        return ""
    estimate = found["estimate"]
    if estimate["value"] is None or found["p"] is None:
        return "not available" if estimate["value"] is None else f"{estimate['value']:+.3f} (no interval)"
    mark = " *" if found["p_holm"] < 1 - estimate["level"] else ""
    same = " ≈" if found.get("equivalent") else ""
    p = "p < 0.001" if found["p_holm"] < 0.001 else f"p {found['p_holm']:.3f}"
    return f"{estimate['value']:+.3f} ({estimate['low']:+.3f} to {estimate['high']:+.3f}), {p}{mark}{same}"


def notes(results: Mapping[str, Any]) -> list[str]:
    """What is true of every number in the tables."""
    teacher, level = results["teacher"], results["level"]
    said = [
        f"{results['seeds']} seeds, {results['test_rows']:,} test rows, last epoch of {results['epochs']}; ± is the deviation between seeds. "
        f"Teacher: {teacher['parameters']:,} parameters, test accuracy {teacher['test_accuracy']:.3f}, training accuracy {teacher['training_accuracy']:.3f}; "
        f"students: {results['mechanisms'][0]['parameters']:,} parameters.",
        "saliency: cosine with the teacher's input gradients. explainer: cosine with the teacher's attributions of patches by "
        f"{results['explainer'].replace('_', ' ')}, which no objective was trained on. Both for the teacher's top class.",
        f"Differences are paired over seeds and test rows, both drawn from many (crossed random effects, Hillis's degrees of freedom); intervals are "
        f"{level:.0%} and not corrected, p values are Holm's over the mechanisms of one measure and one reference; * is p < {1 - level:.2g}.",
        "They cover other seeds and other test rows, not another teacher, other training rows or other configurations.",
        f"{results['budget']} configurations of every mechanism were tried on validation rows and chosen by {results['by']}, with a seed of its own: "
        "learning rates for labels, and what is said in the column chosen for the others, at the rate that was best for labels."
        if results["budget"] > 1
        else "No configuration was tuned.",
    ]
    if results["labelled_per_class"] is not None:
        said.append(
            f"{results['labelled_per_class']} training rows of every class have a label, drawn anew for every seed; the others are seen by mechanisms "
            "that need none. "
            "The baseline is trained on the labelled rows alone, with as many steps."
        )
    if results["equivalence"] is not None:
        said.append(
            f"≈: the {1 - 2 * (1 - level):.0%} interval lies within ±{results['equivalence']:g}, not corrected for several mechanisms."
        )
    if results["seeds"] < results["seeds_planned"]:
        said.append(
            f"{results['seeds_planned']} seeds were planned; the study was stopped before the others were done."
        )
    if results["seeds"] == 2:
        said.append(
            "With two seeds such intervals cover about 90% in simulation instead of 95%; take more before anything rests on them."
        )
    if results["seeds"] == 1:
        said.append("With one seed there are no intervals: how much training again moves the numbers is not known.")
    return said


def markdown(results: Mapping[str, Any]) -> str:
    """Both tables and the notes; names cannot break the table."""
    parts = [f"## {_escaped(results['study'])}", "", *_markdown_table(*cells(results))]
    for reference in results["references"]:
        parts += ["", f"Differences to `{reference}`:", "", *_markdown_table(*difference_cells(results, reference))]
    return "\n".join([*parts, "", *(line for note in notes(results) for line in (_escaped(note), ""))]).rstrip() + "\n"


def _markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [[_escaped(cell) for cell in line] for line in (header, *lines)]
    rows.insert(1, ["---"] * len(header))
    return ["| " + " | ".join(row) + " |" for row in rows]


def _escaped(text: str) -> str:
    plain = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", plain)


_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "≈": r"$\approx$", "<": r"$<$",
          ">": r"$>$", "×": r"$\times$", "*": r"$^{*}$"}  # fmt: skip


def tex(text: str) -> str:
    """Text whose characters mean nothing to LaTeX."""
    return "".join(_LATEX.get(character, character) for character in clean(text))


def latex(results: Mapping[str, Any]) -> str:
    """Both tables as LaTeX (booktabs), each in a table environment with the notes as its caption."""
    caption = f"{results['study']}. " + " ".join(notes(results))
    parts = [_latex_table(*cells(results), caption=caption, label=f"tab:{results['name']}")]
    for reference in results["references"]:
        said, label = f"{results['study']}: differences to {reference}.", f"tab:{results['name']}-{reference}"
        parts += [_latex_table(*difference_cells(results, reference), caption=said, label=label)]
    return "\n".join(["% needs \\usepackage{booktabs}", *parts])


def _latex_table(header: Sequence[str], lines: Sequence[Sequence[str]], *, caption: str, label: str) -> str:
    columns = "ll" + "r" * (len(header) - 2) if header[1:2] == ["chosen"] else "l" + "r" * (len(header) - 1)
    body = [" & ".join(tex(cell) for cell in line) + r" \\" for line in lines]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(tex(cell) for cell in header) + r" \\",
        r"\midrule", *body, r"\bottomrule", r"\end{tabular}", rf"\caption{{{tex(caption)}}}", rf"\label{{{label}}}", r"\end{table}", "",
    ])  # fmt: skip


def bibtex_of(results: Mapping[str, Any]) -> str:
    """Entries of the methods that the study used and of its statistics."""
    kinds = [entry["kind"] for mechanism in results["mechanisms"] for entry in mechanism["objectives"]]
    return "\n\n".join(entries_for(dict.fromkeys(kinds))) + "\n"

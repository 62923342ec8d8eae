"""What should a readable student learn from: labels, or which of the teacher's answers?

    python benchmarks/targets.py [--repeats 10] [--students tree,additive] [--data breast-cancer,german-credit] [--out FILE.json]
    python benchmarks/targets.py --read FILE.json FILE.json       the report of runs made before

Named before the run
--------------------
Teacher: boosted trees that know their training rows by heart (100 rounds of 31 leaves, no penalty, one row a leaf).
Students: a tree of at most 16 leaves with at least 5 rows in each; an additive model without pairs (2 outer bags).
Each repeat draws 70 % of the rows to learn from and 30 % to test on, stratified by class, and fits one teacher and
every student on the same rows. No arm looks at further rows; nothing is tuned.

Arms (what the student learns from)
    labels                  one-hot labels: no teacher at all
    smoothed                labels moved 5 % of the way to the class shares (tree only): does a student gain because a teacher
                            knows something, or only because it is not allowed to be certain?
    in-sample               the teacher's answers on the rows it was fitted on
    in-sample + queries     and 4 smeared rows a training row, labelled by the teacher
    out-of-fold             answers of 5 refits, each about the rows it has not seen
    out-of-fold + queries   and 4 smeared rows a training row, labelled by the teacher

Measured on the test rows: log-loss (nats, lower is better), AUC, agreement with the teacher's decisions at 0.5.
Primary comparison, one for each data set and student: log-loss of out-of-fold minus labels, at level 1 − 0.05 / 4 (Bonferroni).
Secondary, each at 95 % and not corrected for their number: every other arm and measure minus labels, and of
log-loss also out-of-fold minus smoothed (tree) and out-of-fold + queries minus out-of-fold.
Intervals: corrected resampled t (Nadeau and Bengio 2003). "better" and "worse" are said only when the interval excludes 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distillens import load_dataset
from distillens.data.base import Split, Table
from distillens.estimate import Estimate
from distillens.intervals import corrected_resampled_t
from distillens.metrics.performance import log_loss, roc_auc
from distillens.models.base import Model, as_probabilities, evaluate, log_probabilities
from distillens.students.additive import AdditiveStudent
from distillens.students.boosted import BoostedTreesFamily
from distillens.students.tree import TreeStudent
from distillens.transfer.out_of_fold import out_of_fold
from distillens.transfer.rows.queries import with_queries
from distillens.transfer.targets import Targets

DATA = ("breast-cancer", "german-credit")
TEACHER = BoostedTreesFamily(max_rounds=100, learning_rate=0.2, max_leaves=31, min_rows=1, l2=0.0, tune=False)
STUDENTS: dict[str, Any] = {
    "tree": TreeStudent(max_leaves=16, min_rows=5),
    "additive": AdditiveStudent(outer_bags=2, interactions=0),
}
ARMS = ("labels", "smoothed", "in-sample", "in-sample + queries", "out-of-fold", "out-of-fold + queries")
MEASURES = {"log-loss": -1, "AUC": +1, "agreement": +1}  # sign: +1 when higher is better
PRIMARY = ("out-of-fold", "labels", "log-loss")
MORE = (("out-of-fold", "smoothed", "log-loss"), ("out-of-fold + queries", "out-of-fold", "log-loss"))
QUERIES, SMOOTHING, FOLDS = 4, 0.05, 5


def rows(name: str, seed: int) -> tuple[Split, Split, tuple[str, ...]]:
    """Rows to learn from (70 %), rows to test on (30 %), class names."""
    data = load_dataset(source=name, split={"test": 0.3, "validation": 0.3}, seed=seed)
    parts = (data.train, data.validation)
    learn = Split(
        Table.concatenate([part.inputs for part in parts]), np.concatenate([np.asarray(p.labels) for p in parts])
    )
    return learn, Split(data.test.inputs, data.test.labels), data.classes


def arms(learn: Split, classes: tuple[str, ...], teacher: Model, seed: int) -> dict[str, Targets]:
    labels = Targets.from_labels(learn, classes)
    shares = labels.outputs.mean(axis=0)
    answers = evaluate(teacher, learn.inputs)
    inside = Targets.from_outputs(learn, answers, output=teacher.output, classes=classes, origin="in_sample")
    # The refits take their settings as they are; with tune=False the rows handed in as validation are not looked at.
    outside = out_of_fold(
        TEACHER, learn, validation=learn, classes=classes, folds=FOLDS, seed=seed, output=teacher.output
    )
    return {
        "labels": labels,
        "smoothed": replace(labels, outputs=(1 - SMOOTHING) * labels.outputs + SMOOTHING * shares),
        "in-sample": inside,
        "in-sample + queries": with_queries(inside, teacher, per_row=QUERIES, seed=seed),
        "out-of-fold": outside,
        "out-of-fold + queries": with_queries(outside, teacher, per_row=QUERIES, seed=seed),
    }


def measures(student: Model, teacher: Model, test: Split) -> dict[str, float]:
    labels = np.asarray(test.labels, dtype=np.int64)
    outputs, taught = evaluate(student, test.inputs), evaluate(teacher, test.inputs)
    probabilities = as_probabilities(outputs, student.output)
    decided = as_probabilities(taught, teacher.output).argmax(axis=1)
    once = np.ones((1, len(test)))
    return {
        "log-loss": float(log_loss(log_probabilities(outputs, student.output), labels).mean()),
        "AUC": float(roc_auc(probabilities[:, 1], labels == 1)(once)[0]),
        "agreement": float((probabilities.argmax(axis=1) == decided).mean()),
    }


def repeat(name: str, seed: int, students: tuple[str, ...]) -> dict[str, Any]:
    """One split: {student: {arm: {measure: value}}}, the teacher under its own name, and the rows of each side."""
    learn, test, classes = rows(name, seed)
    teacher = TEACHER.fit(Targets.from_labels(learn, classes), validation=learn, teacher=None, seed=seed)
    targets = arms(learn, classes, teacher, seed)
    found: dict[str, Any] = {"rows": [len(learn), len(test)], "teacher": measures(teacher, teacher, test)}
    for student in students:
        found[student] = {
            arm: measures(
                STUDENTS[student].fit(targets[arm], validation=learn, teacher=teacher, seed=seed), teacher, test
            )
            for arm in ARMS
            if arm != "smoothed" or student == "tree"  # an additive model of labels fits classes, not shares
        }
    return found


def compare(
    repeats: list[dict[str, Any]], student: str, arm: str, other: str, measure: str, *, level: float = 0.95
) -> Estimate:
    """arm − other over the repeats."""
    train, test = repeats[0]["rows"]
    differences = np.array([r[student][arm][measure] - r[student][other][measure] for r in repeats])
    return corrected_resampled_t(differences, train=train, test=test, level=level)


def told(estimate: Estimate, sign: int) -> str:
    if estimate.status != "ok":
        return estimate.note
    low, high = (sign * estimate.low, sign * estimate.high)
    word = "better" if min(low, high) > 0 else "worse" if max(low, high) < 0 else "not separated"
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}] {word}"


def report(results: Mapping[str, list[dict[str, Any]]]) -> str:
    lines: list[str] = []
    for name, repeats in results.items():
        n, m = repeats[0]["rows"]
        teacher = ", ".join(f"{k} {np.mean([r['teacher'][k] for r in repeats]):.3f}" for k in ("log-loss", "AUC"))
        for student in (s for s in STUDENTS if s in repeats[0]):
            lines += ["", f"### {name}, {student} student: {len(repeats)} splits of {n} / {m} rows", ""]
            lines += [f"Teacher on test rows: {teacher}. Means, and differences from labels with intervals.", ""]
            lines += [
                "| learns from | log-loss | − labels | AUC | − labels | agreement | − labels |",
                "|---|---|---|---|---|---|---|",
            ]
            for arm in repeats[0][student]:
                cells = [arm]
                for measure, sign in MEASURES.items():
                    cells.append(f"{np.mean([r[student][arm][measure] for r in repeats]):.3f}")
                    primary = (arm, "labels", measure) == PRIMARY
                    made = compare(repeats, student, arm, "labels", measure, level=0.9875 if primary else 0.95)
                    text = "" if arm == "labels" else told(made, sign)
                    cells.append(f"**{text}** (98.75 %)" if primary else text)
                lines.append("| " + " | ".join(cells) + " |")
            lines.append("")
            for arm, other, measure in MORE:
                if other in repeats[0][student]:
                    made = compare(repeats, student, arm, other, measure)
                    lines.append(f"- {measure}, {arm} minus {other}: {told(made, MEASURES[measure])}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--students", default=",".join(STUDENTS))
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--out", type=Path, help="write every single number as JSON")
    parser.add_argument("--read", type=Path, nargs="+", help="do not run: report these files")
    asked = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for path in asked.read or ():
        results |= json.loads(path.read_text())
    for name in asked.data.split(",") if not asked.read else ():
        started = time.perf_counter()
        results[name] = []
        for seed in range(asked.repeats):
            results[name].append(repeat(name, seed, tuple(asked.students.split(","))))
            if asked.out is not None:
                asked.out.write_text(json.dumps(results))
        print(f"{name}: {asked.repeats} repeats in {time.perf_counter() - started:.0f} s", flush=True)
    print(report(results))


if __name__ == "__main__":
    main()

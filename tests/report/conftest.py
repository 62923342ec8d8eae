"""Synthetic run directories in the layout of docs/run-directory.md, with names as hostile as data can hold.

One long file: test modules do not import each other, and every test here needs the same whole run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'
CLOSING = "</title></style></script><b>x"
LONG = "a very long name " * 12
EMOJI = "income 💶 ⚠️"
ARABIC = "الدخل الشهري\u202e txt"
BRACES = "{p.manifest} {{ 7*7 }} %s **bold** [[twin|x]]"
HOSTILE = (SCRIPT, IMAGE, CLOSING, LONG, EMOJI, ARABIC, BRACES)

FEATURES = (
    "duration in months",
    "credit amount",
    "status of account",
    SCRIPT,
    "savings",
    "purpose",
    IMAGE,
    ARABIC,
    EMOJI,
    LONG,
    BRACES,
    "employment",
)


def estimate(value: float | None, half: float = 0.03, n: int = 300, **changes: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (round(value - half, 6), round(value + half, 6))
    base = {
        "value": value,
        "low": low,
        "high": high,
        "level": 0.95,
        "sided": "two",
        "n": n,
        "n_missing": 0,
        "n_clusters": None,
        "method": "wilson",
        "seed": 0,
        "status": "ok" if value is not None else "insufficient",
        "note": "" if value is not None else "too few rows",
    }
    return base | changes


def metric(
    name: str,
    scope: str,
    value: float,
    *,
    unit: str = "share",
    explainer: str | None = None,
    up: bool | None = True,
    **more: Any,
) -> dict[str, Any]:
    return {
        "name": name,
        "scope": scope,
        "explainer": explainer,
        "higher_is_better": up,
        "optimised": False,
        "unit": unit,
        "text": f"{name} is {value}",
        "estimate": estimate(value),
        "teacher": None,
        "chance": None,
        "repeatability": None,
        "normalised": None,
        "controls": {},
    } | more


def _controls(scale: float, offset: float = 0.0) -> dict[str, Any]:
    values = {"twin": 0.93, "undistilled": 0.83, "random_teacher": 0.6, "constant": 0.71}
    return {name: estimate(round(offset + scale * value, 4), 0.025) for name, value in values.items()}


def _reasons(rng: np.random.Generator, decisions: tuple[str, str] | None) -> dict[str, Any]:
    size = np.sort(rng.gamma(1.2, 0.35, len(FEATURES)))[::-1]
    student = np.abs(size * rng.normal(1.0, 0.22, len(FEATURES)))
    rows = []
    for i in range(12):
        phi = rng.normal(0, 0.6, len(FEATURES)) * size
        items = [
            {
                "unit": FEATURES[j],
                "value": SCRIPT if j == 5 else f"{rng.gamma(2, 900):.4g}",
                "teacher": float(phi[j]),
                "student": float(phi[j] + rng.normal(0, 0.12)),
            }
            for j in np.argsort(-np.abs(phi))[:8]
        ]
        pick = rng.integers(0, 2, 2)
        rows.append(
            {
                "row_id": int(17 + 13 * i),
                "distance": float(round(0.95 - 0.04 * i, 4)),
                "items": items,
                "teacher_decision": decisions[pick[0]] if decisions else float(round(rng.normal(150, 30), 2)),
                "student_decision": decisions[pick[1]] if decisions else float(round(rng.normal(150, 30), 2)),
            }
        )
    return {
        "method": "kernel_shap",
        "scale": "log_odds" if decisions else "value",
        "target": decisions[1] if decisions else "value",
        "rows": 200,
        "units": list(FEATURES),
        "k": 4,
        "importance": {"teacher": size.tolist(), "student": student.tolist(), "undistilled": None},
        "worst_rows": rows,
        "exact": False,
        "median_stderr": 0.021,
    }


def _bins(rng: np.random.Generator, spread: float) -> list[dict[str, Any]]:
    mean = np.linspace(0.05, 0.93, 9)
    return [
        {
            "mean": float(m),
            "observed": float(np.clip(m + rng.normal(0, spread), 0, 1)),
            "n": int(20 + 60 * abs(m - 0.5)),
        }
        for m in mean
    ]


def audit(task: str, *, verdict: str = "review", seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    classes = {"binary": ["good", "bad"], "multiclass": ["setosa", CLOSING, "virginica"], "regression": []}[task]
    metrics: list[dict[str, Any]] = []
    if task == "regression":
        metrics += [
            metric("r2_to_teacher", "prediction", 0.91, unit="value", controls=_controls(1.0)),
            metric("rmse_to_teacher", "prediction", 14.2, unit="value", up=False, estimate=estimate(14.2, 1.1)),
            metric("within_tolerance", "prediction", 0.84, controls=_controls(0.95)),
            metric(
                "rmse",
                "performance",
                54.1,
                unit="value",
                up=False,
                estimate=estimate(54.1, 3),
                teacher=estimate(52.3, 3),
                controls={"undistilled": estimate(56.0, 3)},
            ),
            metric("r2", "performance", 0.44, unit="value", teacher=estimate(0.47, 0.08), controls=_controls(0.45)),
        ]
    else:
        metrics += [
            metric("agreement", "prediction", 0.887, controls=_controls(1.0), teacher=None),
            metric("cohen_kappa", "prediction", 0.71, unit="value", controls=_controls(0.8)),
            metric("kl", "prediction", 0.031, unit="nats", up=False, estimate=estimate(0.031, 0.006)),
            metric("bad_flips", "prediction", 0.041, up=False, estimate=estimate(0.041, 0.02)),
            metric("unheard_of_metric", "prediction", 0.5, text=SCRIPT),
            metric("accuracy", "performance", 0.743, teacher=estimate(0.757), controls=_controls(0.8)),
            metric("log_loss", "performance", 0.52, unit="nats", up=False, teacher=estimate(0.50), controls={}),
            metric(
                "brier",
                "calibration",
                0.171,
                unit="value",
                up=False,
                teacher=estimate(0.166),
                controls={"undistilled": estimate(0.18)},
            ),
        ]
    if task == "binary":
        metrics += [
            metric(
                "agreement_adverse",
                "prediction",
                0.79,
                estimate=estimate(0.79, 0.08, n=84),
                controls={"twin": estimate(0.87, 0.06), "undistilled": estimate(0.64, 0.08)},
            ),
            metric(
                "roc_auc", "performance", 0.781, unit="value", teacher=estimate(0.792, 0.05), controls=_controls(0.85)
            ),
            metric(
                "calibration_slope",
                "calibration",
                0.93,
                unit="value",
                up=None,
                estimate=estimate(0.93, 0.17),
                teacher=estimate(1.04, 0.2),
            ),
        ]
    again = {"teacher": estimate(0.94, 0.01), "student": estimate(0.92, 0.012)}
    metrics += [
        metric(
            "top_k_overlap",
            "reasons",
            0.806,
            explainer="kernel_shap",
            chance=estimate(0.44, 0.02),
            repeatability=again,
            normalised=0.762,
            controls={"undistilled": estimate(0.66, 0.03), "twin": estimate(0.86, 0.02)},
        ),
        metric(
            "sign_agreement",
            "reasons",
            0.77,
            explainer="kernel_shap",
            chance=estimate(0.31, 0.02),
            repeatability=again,
            normalised=0.75,
            optimised=True,
        ),
        metric(
            "reason_spearman",
            "reasons",
            0.74,
            unit="value",
            explainer="kernel_shap",
            chance=estimate(0.22, 0.04),
            repeatability=again,
            normalised=0.74,
        ),
        metric(
            "mask_correlation",
            "behaviour",
            0.88,
            unit="value",
            controls={"twin": estimate(0.91), "undistilled": estimate(0.7)},
        ),
    ]
    main = "r2_to_teacher" if task == "regression" else "agreement"
    value = 0.91 if task == "regression" else 0.887
    gates = [
        {
            "metric": main,
            "explainer": None,
            "text": f"{main} not below the twin by more than 0.05",
            "bound": estimate(value - 0.93, 0.033),
            "limit": -0.05,
            "direction": ">=",
            "relative_to": "twin",
            "margin": 0.05,
            "outcome": "review",
            "why": "The interval contains the limit.",
        },
        {
            "metric": "top_k_overlap",
            "explainer": "kernel_shap",
            "text": "reasons",
            "bound": estimate(0.806, 0.02),
            "limit": 0.6,
            "direction": ">=",
            "relative_to": None,
            "margin": None,
            "outcome": "pass",
            "why": f"The whole interval clears the limit {SCRIPT}.",
        },
        {
            "metric": "mask_correlation",
            "explainer": None,
            "text": "behaviour",
            "bound": estimate(0.88 - 0.7, 0.05),
            "limit": 0.0,
            "direction": ">=",
            "relative_to": "undistilled",
            "margin": 0.0,
            "outcome": "pass",
            "why": "Better than without a teacher.",
        },
        {
            "metric": "accuracy" if task != "regression" else "rmse",
            "explainer": None,
            "text": "performance",
            "bound": estimate(0.7, low=0.68, high="inf", sided="lower"),
            "limit": 0.72,
            "direction": ">=",
            "relative_to": None,
            "margin": None,
            "outcome": "fail",
            "why": "Beyond the limit.",
        },
        {
            "metric": "agreement_adverse",
            "explainer": None,
            "text": "adverse",
            "bound": estimate(None),
            "limit": 0.8,
            "direction": ">=",
            "relative_to": None,
            "margin": None,
            "outcome": "review",
            "why": "Too few rows.",
        },
    ]
    return {
        "schema": 1,
        "verdict": verdict,
        "task": task,
        "classes": classes,
        "n": 300,
        "decision": {"adverse": "bad", "adverse_index": 1, "threshold": 0.5} if task == "binary" else None,
        "models": {
            "teacher": {"label": "boosted trees", "fingerprint": "a" * 64, "output": "logits"},
            "student": {"label": SCRIPT, "fingerprint": "b" * 64, "output": "logits"},
            "controls": {},
        },
        "metrics": metrics,
        "slices": [
            {
                "column": "age_in_years",
                "level": "< 30",
                "n": 96,
                "metric": main,
                "estimate": estimate(0.87, 0.06, 96),
                "rest": estimate(0.89, 0.04, 204),
                "outcome": "assessed",
                "text": "ok",
                "p_value": 0.41,
                "flagged": False,
            },
            {
                "column": IMAGE,
                "level": SCRIPT,
                "n": 41,
                "metric": main,
                "estimate": estimate(0.71, 0.13, 41),
                "rest": estimate(0.91, 0.03, 259),
                "outcome": "assessed",
                "text": SCRIPT,
                "p_value": 0.0007,
                "flagged": True,
            },
            {
                "column": "foreign_worker",
                "level": "yes",
                "n": 11,
                "metric": main,
                "estimate": estimate(None, n=11),
                "rest": None,
                "outcome": "not_assessed",
                "text": "11 rows",
                "p_value": None,
                "flagged": False,
            },
        ],
        "gates": gates,
        "findings": [
            {
                "severity": "major",
                "text": "An additive model fitted on the labels alone is as accurate as the student.",
            },
            {"severity": "info", "text": f"Feature {SCRIPT} dominates."},
        ],
        "not_assessed": [
            {"what": "foreign_worker = yes", "why": "11 rows, 30 needed."},
            {"what": IMAGE, "why": SCRIPT},
        ],
        "statement": {
            "kept": ["ranking of rows", "main reasons"],
            "lost": ["accuracy at the threshold", SCRIPT],
            "unknown": ["foreign workers (11 rows)"],
        },
        "reasons": _reasons(rng, None if task == "regression" else ("good", "bad")),
        "calibration": None
        if task == "regression"
        else {"bins": {"teacher": _bins(rng, 0.03), "student": _bins(rng, 0.05)}},
        "profile": "relative",
        "level": 0.95,
        "rows": "rows.parquet",
        "seed": 0,
        **_evidence(task),
        "measured": {"seconds": {"reasons": 1.2 + seed}},
    }


def _evidence(task: str) -> dict[str, Any]:
    """What reviewers ask for beside the metrics: stability, bands, directions."""

    def index(value: float) -> dict[str, Any]:
        return {"psi": estimate(value), "bins": 10, "unshifted": 0.09}

    share = {
        "share": 0.1,
        "rows": 0.2,
        "broken": estimate(0.2),
        "worst": [{"row_id": 7, "low": "1", "high": SCRIPT, "change": -0.4}],
    }
    bands = [
        {"low": z - 0.5, "high": z, "n": 100, "adverse": n, "rate": estimate(n / 100), "predicted": 0.3}
        for z, n in ((2, 60), (0, 20), (-1, 30))
    ]
    scored = {
        "classes": {"good": [0.5, 0.3, 0.2], "bad": [0.1, 0.3, 0.6]}, "bands": bands,
        "decided": {key: estimate(0.4) for key in ("adverse", "missed", "caught", "refused")},
    }  # fmt: skip
    broken = {"feature": SCRIPT, "sign": 1, "rows": 300, "steps": 20, "models": {"teacher": share, "student": share}}
    return {
        "stability": {
            "reference_rows": 490, "rows": 300, "scores": {} if task == "multiclass" else {"teacher": index(0.07), "student": index(0.12)},
            "features": [{"name": name} | index(0.01 * i) for i, name in enumerate(FEATURES)],
        },
        "scores": {"edges": [-2.0, -1.0, 1.0, 2.5], "teacher": scored, "student": scored} if task == "binary" else None,
        "parts": None, "attributes": None, "monotone": [] if task == "multiclass" else [broken],
        "certificate": {"kind": "bound", "why": None, "text": "t", "about": "tolerance" if task == "regression" else "decision", "over": "rows",
                        "n": 300, "agree": 0.8, "disagree": 0.1, "undecided": 0.1, "budget": 9, "used": 9, "disagreements": [
                            {"rows": 4, "share": 0.1, "where": [f"{SCRIPT} ≤ 1"]}],
                        "cells": {"count": 1e30, "agree": 0.5, "disagree": 0.1, "undecided": 0.4}},
    }  # fmt: skip


def _card(name: str, role: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "role": role,
        "kind": kind,
        "label": f"{kind} {name}",
        "settings": {},
        "fingerprint": hashlib.sha256(name.encode()).hexdigest(),
        "readable": False,
        "complexity": {"parameters": 4000, "size_bytes": 32000},
        "history": None,
        "validation": {"agreement": 0.9},
        "described": None,
    } | more


def tree_description() -> dict[str, Any]:
    def leaf(p: float) -> dict[str, Any]:
        return {"node": 9, "value": [1 - p, p]}

    right = {
        "node": 3,
        "feature": SCRIPT,
        "condition": f"{SCRIPT} = {CLOSING}",
        "threshold": 0.5,
        "value": [0.5, 0.5],
        "yes": leaf(0.81),
        "no": leaf(0.34),
    }
    left = {
        "node": 1,
        "feature": "credit amount",
        "condition": "credit amount ≤ 3914 or missing",
        "threshold": 3914,
        "value": [0.8, 0.2],
        "yes": leaf(0.12),
        "no": leaf(0.45),
    }
    root = {
        "node": 0,
        "feature": "duration in months",
        "condition": "duration in months ≤ 22.5",
        "threshold": 22.5,
        "value": [0.7, 0.3],
        "yes": left,
        "no": right,
    }
    return {"form": "tree", "scale": "probability", "outputs": ["good", "bad"], "leaves": 4, "depth": 2, "root": root}


def additive_description() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    terms = []
    for i, name in enumerate(FEATURES):
        if i % 3 == 2:
            bins = ["(missing)", "no", "< 1 year", "1 to 4 years", SCRIPT, "(unseen)"]
            feature = {"name": name, "kind": "categorical", "bins": bins, "cuts": [], "bounds": [0.0, 0.0]}
            scores = rng.normal(0, 0.4, len(bins))
        else:
            cuts = np.sort(rng.gamma(2, 20, 14))
            feature = {
                "name": name,
                "kind": "numeric",
                "bins": ["x"] * 17,
                "cuts": cuts.tolist(),
                "bounds": [0.0, float(cuts[-1] * 1.2)],
            }
            scores = np.cumsum(rng.normal(0, 0.12, 17))
        terms.append({"features": [feature], "importance": float(1 - i / 20), "scores": [[float(s)] for s in scores]})
    first, second = terms[0]["features"][0], terms[2]["features"][0]
    terms.append({"features": [first, second], "importance": 0.05, "scores": rng.normal(0, 0.1, (17, 6, 1)).tolist()})
    return {"form": "additive", "scale": "log-odds", "outputs": ["bad"], "intercepts": [-0.9], "terms": terms}


def linear_description() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    rows = [
        {
            "name": f,
            "feature": f,
            "coefficients": [float(v := rng.normal(0, 1))],
            "per_unit": [v / 10],
            "training_mean": 0.1,
        }
        for f in FEATURES
    ]
    return {"form": "linear", "scale": "value", "outputs": ["value"], "intercepts": [152.1], "coefficients": rows}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def build_run(root: Path, task: str = "binary", *, created: str = "2026-11-23T10:00:00Z", seconds: float = 1.0) -> Path:
    """A whole run. `created` and `seconds` stand for everything that differs between identical runs."""
    classes = {"binary": ["good", "bad"], "multiclass": ["setosa", CLOSING, "virginica"], "regression": []}[task]
    write(
        root / "manifest.json",
        {
            "schema": 1,
            "name": "german-credit",
            "title": f"German credit {SCRIPT}",
            "distillens": "0.1.0",
            "python": "3.12.1",
            "packages": {"numpy": "2.4.0", SCRIPT: "1"},
            "platform": f"Linux-{created}",
            "seed": 0,
            "recipe_sha256": "c" * 64,
            "created": created,
        },
    )
    (root / "recipe.yaml").write_text(
        "seed: 0\nreport:\n  languages: [en, zh]\n  owner: Credit Risk <script>\n", encoding="utf-8"
    )
    files: dict[str, dict[str, Any]] = {}
    files["data/dataset.json"] = {
        "name": "german-credit",
        "source": f"UCI {IMAGE}",
        "licence": "CC BY 4.0",
        "citation": f"Hofmann (1994) {CLOSING}",
        "task": task,
        "classes": classes,
        "target": "creditability",
        "fingerprint": "d" * 64,
        "roles": {"age_in_years": "audit_only", IMAGE: "audit_only", FEATURES[0]: "feature"},
        "columns": [{"name": f, "kind": "numeric", "categories": []} for f in FEATURES],
        "rows": {"train": 490, "validation": 210, "test": 300},
        "class_counts": {"test": dict.fromkeys(classes, 100)},
        "target_range": None,
        "findings": [
            {"kind": "duplicate_rows", "column": None, "text": "3 rows are equal.", "severity": "warning"},
            {"kind": "something_new", "column": SCRIPT, "text": f"{SCRIPT} looks odd.", "severity": "info"},
        ],
        "decision": {"adverse": "bad", "adverse_index": 1, "threshold": 0.5}
        if task == "binary"
        else {"adverse": "setosa", "adverse_index": 0, "threshold": 0.5}
        if task == "multiclass"
        else None,
    }
    files["teacher/teacher.json"] = _card("teacher", "teacher", "boosted_trees")
    files["targets/targets.json"] = {
        "origin": "out_of_fold",
        "rows": 490,
        "saturation": estimate(0.2),
        "in_sample_entropy": 0.11,
        "held_out_entropy": 0.46,
        "saturated": True,
        "folds": 5,
        "text": "saturated",
    }
    forms = {
        "ebm": ("additive", additive_description(), 900),
        "tree": ("tree", tree_description(), 11),
        "line": ("linear", linear_description(), 13),
        "net": ("network", None, 5000),
    }
    for i, (name, (kind, description, parameters)) in enumerate(forms.items()):
        home = f"students/{name}"
        files[f"{home}/student.json"] = _card(
            name,
            "student",
            kind,
            described=description,
            readable=description is not None,
            complexity={"parameters": parameters, "size_bytes": parameters * 8, "nonzero": parameters},
            targets={
                "origin": "out_of_fold",
                "rows": 490,
                "queries": 980,
                "queries_tried": [{"per_row": 2, "validation_kl": 0.1}],
            },
            influence={"change": 0.4, "permuted_agreement": 0.55, "agreement": 0.9},
        )
        made = audit(task, verdict=("review", "fail", "fail", "pass")[i], seed=i)
        made["metrics"][0]["estimate"] = estimate(0.887 - 0.02 * i)
        made["measured"] = {"seconds": {"reasons": seconds}}
        files[f"{home}/audit.json"] = made
        exported = audit(task, seed=i) | {"measured": {"seconds": {"reasons": seconds}}}
        files[f"{home}/export/export.json"] = {
            "format": "onnx",
            "file": "model.onnx",
            "bytes": 21400 + i,
            "sha256": "e" * 64,
            "opset": 17,
            "inputs": [{"input": f"input_{j}", "feature": f, "dtype": "float32"} for j, f in enumerate(FEATURES)],
            "parity": {
                "rows": 300,
                "max_abs_difference": 3.1e-07,
                "flips": 0,
                "flips_beyond_tolerance": 0,
                "tolerance": 1e-05,
            },
            "audit": exported,
            "measured": {"p50_ms": 0.041 * seconds, "p99_ms": 0.09 * seconds, "batch_rows_per_s": 410_000.0 * seconds},
        }
    files["students/chosen.json"] = {
        "chosen": "ebm",
        "by": "validation kl",
        "scores": {"ebm": 0.03, "tree": 0.08, "line": 0.07, "net": 0.05},
    }
    files["controls/twin/control.json"] = _card("twin", "twin", "boosted_trees")
    files["controls/ebm.undistilled/control.json"] = _card("ebm.undistilled", "undistilled", "additive")
    for path, value in files.items():
        write(root / path, value)
    for stage in ("data", "teacher", "targets", "students/ebm", "choose", "audit/ebm", "export/ebm"):
        own = {p: hashlib.sha256((root / p).read_bytes()).hexdigest() for p in files if _stage_of(p) == stage}
        write(
            root / "stages" / f"{stage.replace('/', '.')}.json",
            {
                "stage": stage,
                "key": hashlib.sha256(stage.encode()).hexdigest(),
                "inputs": {},
                "outputs": own,
                "seconds": seconds,
                "finished": created,
                "summary": f"took {seconds}",
            },
        )
    _write_rows(root / "students" / "ebm" / "rows.parquet", files["students/ebm/audit.json"])
    return root


def _stage_of(path: str) -> str:
    return {
        "data/dataset.json": "data",
        "teacher/teacher.json": "teacher",
        "targets/targets.json": "targets",
        "students/chosen.json": "choose",
        "students/ebm/student.json": "students/ebm",
        "students/ebm/audit.json": "audit/ebm",
        "students/ebm/export/export.json": "export/ebm",
    }.get(path, "")


def _write_rows(path: Path, made: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = [row["row_id"] for row in made["reasons"]["worst_rows"]]
    labels = [float(i % 2) if made["classes"] else 140.5 for i in range(len(ids))]
    pq.write_table(pa.table({"row_id": ids, "label": labels}), path)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return build_run


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture(scope="session", params=["binary", "multiclass", "regression"])
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One complete run of each task; read only, copy it before changing anything."""
    return build_run(tmp_path_factory.mktemp(request.param), request.param)

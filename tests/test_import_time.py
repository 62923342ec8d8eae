"""`import distillens`, help, lists and checks stay light: what they import is looked at, not the clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "sklearn",
    "pandas",
    "scipy",
    "interpret",
    "onnx",
    "onnxruntime",
    "shap",
    "plotly",
    "matplotlib",
    "pyarrow",
    "safetensors",
)


def imported_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has imported after running some code."""
    tail = "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.strip().splitlines()[-1]))


def cli(*argv: str) -> str:
    return f"from distillens.cli.app import main\nassert main({list(argv)!r}) == 0"


def test_importing_the_package_imports_nothing_beyond_the_standard_library() -> None:
    third_party = imported_by("import distillens") - imported_by("pass") - sys.stdlib_module_names
    assert third_party <= {"distillens"}


@pytest.mark.parametrize(
    "argv", [("--help",), ("run", "--help"), ("cache", "build", "--help"), ("--version",)], ids=" ".join
)
def test_help_imports_no_library_for_computing(argv: tuple[str, ...]) -> None:
    assert not imported_by(cli(*argv)) & {*HEAVY, "numpy"}


@pytest.mark.parametrize(
    "what", ["students", "teachers", "objectives", "explainers", "metrics", "recipes", "exporters", "gates", "data"]
)
def test_lists_import_no_library_for_computing(what: str) -> None:
    assert not imported_by(cli("list", what)) & set(HEAVY)


def test_loading_a_recipe_imports_no_library_for_computing() -> None:
    assert not imported_by("from distillens.recipe import Recipe\nRecipe.load('breast-cancer')") & set(HEAVY)


def test_check_reads_the_data_and_never_imports_torch() -> None:
    seen = imported_by(cli("check", "german-credit"))
    assert "pandas" in seen
    assert not seen & (set(HEAVY) - {"pandas", "pyarrow", "scipy"})
    assert not imported_by(cli("check", "breast-cancer")) & {"torch", "interpret", "onnx", "onnxruntime"}

"""What `import distillens` offers."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import distillens

EXPECTED = {
    "Audit", "Dataset", "Estimate", "Explanation", "Recipe", "Run", "Table", "Transfer", "__version__", "audit", "distill", "explain", "load_dataset", "run",
}  # fmt: skip


def test_the_public_names_are_exactly_these() -> None:
    assert set(distillens.__all__) == EXPECTED
    assert set(distillens.__all__) <= set(dir(distillens))


@pytest.mark.parametrize("name", sorted(EXPECTED - {"__version__"}))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    member = getattr(distillens, name)
    assert not inspect.ismodule(member)
    assert member.__name__ == name
    assert member.__module__.startswith("distillens.")
    assert inspect.getdoc(member)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        distillens.nothing  # noqa: B018


def test_functions_are_not_hidden_by_the_modules_of_the_same_name() -> None:
    run_module = importlib.import_module("distillens.run")
    audit_package = importlib.import_module("distillens.audit")
    assert inspect.ismodule(run_module)
    assert inspect.ismodule(audit_package)
    assert inspect.isfunction(distillens.run)
    assert inspect.isfunction(distillens.audit)
    assert run_module.Run is distillens.Run
    code = """
import distillens.run, distillens.audit.audit, distillens.pipeline as pipeline
import distillens
from distillens import audit, run
assert distillens.run is run is pipeline.run
assert callable(audit)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_the_packages_own() -> None:
    from importlib.metadata import version

    assert distillens.__version__ == version("distillens")

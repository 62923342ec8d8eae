"""Data that come with distillens, its dependencies or the system, with target, roles, adverse class, licence and citation.

Importing this module loads nothing: `list` and `check` need only the names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Builtin:
    """One built-in table. roles: pairs of role and columns, as a recipe would write them. adverse: None for regression and multiclass."""

    title: str
    target: str
    load: Callable[[], pd.DataFrame]
    licence: str
    citation: str
    roles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    adverse: str | None = None

    def copy_roles(self) -> dict[str, list[str]]:
        """Role → columns, as `load_dataset` takes it."""
        return {role: list(columns) for role, columns in self.roles}


def _german_credit() -> pd.DataFrame:
    from distillens.data.read import read_csv

    return read_csv(Path(__file__).with_name("german_credit.csv"))


def _breast_cancer() -> pd.DataFrame:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer(as_frame=True)
    frame: pd.DataFrame = bunch.data.copy()
    frame["diagnosis"] = [str(bunch.target_names[code]) for code in bunch.target]
    return frame


def _wine() -> pd.DataFrame:
    from sklearn.datasets import load_wine

    bunch = load_wine(as_frame=True)
    frame: pd.DataFrame = bunch.data.copy()
    frame["cultivar"] = [f"cultivar {code + 1}" for code in bunch.target]
    return frame


def _diabetes() -> pd.DataFrame:
    from sklearn.datasets import load_diabetes

    # scaled=False: the units of the paper, not centred and divided columns that nobody can read
    bunch = load_diabetes(as_frame=True, scaled=False)
    words = {
        "bp": "blood_pressure", "s1": "total_cholesterol", "s2": "ldl", "s3": "hdl",
        "s4": "cholesterol_to_hdl", "s5": "log_triglycerides", "s6": "glucose",
    }  # fmt: skip
    frame: pd.DataFrame = bunch.data.rename(columns=words)
    frame["progression"] = bunch.target
    return frame


BUILTIN: dict[str, Builtin] = {
    "breast-cancer": Builtin(
        title="Breast Cancer Wisconsin (Diagnostic): 569 biopsies, 30 measurements of cell nuclei",
        target="diagnosis",
        load=_breast_cancer,
        licence="CC BY 4.0",
        citation="W. Wolberg, O. Mangasarian, N. Street, W. Street: Breast Cancer Wisconsin (Diagnostic). "
        "UCI Machine Learning Repository, 1993. doi 10.24432/C5DW2B. As shipped by scikit-learn.",
        adverse="malignant",
    ),
    "german-credit": Builtin(
        title="Statlog (German Credit Data): 1,000 applicants for credit, 20 attributes",
        target="creditability",
        load=_german_credit,
        licence="CC BY 4.0",
        citation="Hans Hofmann: Statlog (German Credit Data). UCI Machine Learning Repository, 1994. doi 10.24432/C5NC77.",
        roles=(("audit_only", ("age_in_years", "personal_status_and_sex", "foreign_worker")),),
        adverse="bad",
    ),
    "wine": Builtin(
        title="Wine: 178 wines of three cultivars, 13 chemical measurements",
        target="cultivar",
        load=_wine,
        licence="CC BY 4.0",
        citation="S. Aeberhard, M. Forina: Wine. UCI Machine Learning Repository, 1992. doi 10.24432/C5PC7J. As shipped by scikit-learn.",
    ),
    "diabetes": Builtin(
        title="Diabetes: 442 patients, 10 baseline measurements, disease progression after one year",
        target="progression",
        load=_diabetes,
        licence="not stated by its authors; shipped by scikit-learn under BSD-3-Clause",
        citation="B. Efron, T. Hastie, I. Johnstone, R. Tibshirani: Least Angle Regression. Annals of Statistics 32 (2004) 407-499. "
        "As shipped by scikit-learn.",
    ),
}


@dataclass(frozen=True)
class BuiltinImages:
    """One built-in set of images; `data/pictures` reads it."""

    title: str
    licence: str
    citation: str


BUILTIN_IMAGES: dict[str, BuiltinImages] = {
    "digits": BuiltinImages(
        title="Optical Recognition of Handwritten Digits: 1,797 images of 8×8 pixels, ten digits",
        licence="CC BY 4.0",
        citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998. "
        "doi 10.24432/C50P49. The test part, as shipped by scikit-learn.",
    ),
    "fashion-mnist": BuiltinImages(
        title="Fashion-MNIST: 70,000 images of 28×28 pixels, ten kinds of clothing (Debian's package dataset-fashion-mnist)",
        licence="MIT",
        citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms. "
        "arXiv:1708.07747, 2017.",
    ),
}


def builtin_names() -> tuple[str, ...]:
    """Names of the built-in data, tables first, without loading any."""
    return (*BUILTIN, *BUILTIN_IMAGES)

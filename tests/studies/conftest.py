"""A study so small that it takes a few seconds: digits of 8×8 pixels and networks of a few hundred parameters."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from distillens.data.base import Dataset
from distillens.data.load import load_dataset

ENTRY: dict[str, Any] = {
    "study": "digits",
    "data": {"source": "digits", "limit": {"train": 320, "validation": 100, "test": 120}},
    "teacher": {"model": {"kind": "cnn", "channels": [12, 24]}, "schedule": {"epochs": 12}},
    "student": {"kind": "cnn", "channels": [4, 8], "activation": "softplus"},
    "schedule": {"epochs": 3, "learning_rate": 0.02, "batch_size": 64},
    "seeds": 2,
    "tune": {"budget": 2, "weights": [1, 3], "learning_rates": [1, 2], "epochs": 1},
    "measure": {"saliency_rows": 30, "explained_rows": 2, "background": 2, "budget": 100},
    "mechanisms": [
        {"name": "kd", "objectives": [{"kind": "kd"}]},
        {
            "name": "attention",
            "objectives": [
                {
                    "kind": "attention_transfer",
                    "weight": 100,
                    "student_taps": ["layers.0:output"],
                    "teacher_taps": ["layers.0:output"],
                }
            ],
        },
        {"name": "gradient", "objectives": [{"kind": "gradient_matching"}]},
        {"name": "queries", "objectives": [{"kind": "noise_queries", "draws": 1}]},
    ],
}


@pytest.fixture
def entry() -> dict[str, Any]:
    """A study file as a dictionary, for tests to change."""
    return copy.deepcopy(ENTRY)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset(source="digits", limit=ENTRY["data"]["limit"])

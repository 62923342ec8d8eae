"""Contract checks for models, students, explainers, objectives and metrics, for the tests of whoever writes one.

    from distillens.testing import check_model

    def test_my_model():
        check_model(MyModel(...), table)

Each check uses the thing a few times for real and raises AssertionError with one sentence on the first promise that is
broken; errors of the thing itself pass through. A check that passes says that the thing fits in, not that it is any good.
"""

from distillens.testing.base import untouched
from distillens.testing.members import check_explainer, check_metric, check_model, check_student
from distillens.testing.objectives import check_objective

__all__ = [
    "check_explainer",
    "check_metric",
    "check_model",
    "check_objective",
    "check_student",
    "untouched",
]

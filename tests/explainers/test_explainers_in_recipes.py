from __future__ import annotations

import pytest

from distillens.recipe.base import Recipe
from distillens.recipe.check import check

RECIPE = {
    "data": {"source": "breast-cancer"},
    "task": {"adverse": "malignant"},
    "teacher": {"kind": "boosted_trees"},
    "students": {"small": {"kind": "tree"}},
    "explain": [
        {"kind": "tree_shap", "game": "path_dependent"},
        {"kind": "permutation_shap", "budget": 600},
        {"kind": "lime", "sampling": "gaussian", "samples": 2000},
    ],
    "export": [],
}


def tree_problems(recipe):
    return [problem for problem in check(Recipe.load(recipe)).problems if "tree_shap" in problem]


def test_options_are_read_from_a_recipe():
    built = Recipe.load(RECIPE).build_explainers()
    assert list(built) == ["tree_shap", "permutation_shap", "lime"]
    assert built["tree_shap"].game == "path_dependent"
    assert built["lime"].samples == 2000
    assert not tree_problems(RECIPE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"teacher": {"kind": "network"}}, "teacher (network)"),
        ({"students": {"small": {"kind": "tree"}, "ebm": {"kind": "additive"}}}, "students.ebm (additive)"),
    ],
    ids=["teacher", "student"],
)
def test_tree_shap_of_other_models_is_found_before_the_run(change, named):
    (problem,) = tree_problems(RECIPE | change)
    assert named in problem
    assert problem.startswith("explain.0: ")


def test_an_export_is_no_obstacle_because_the_file_is_left_to_explainers_that_ask():
    assert not tree_problems(RECIPE | {"export": ["onnx"]})


def test_intrinsic_contributions_need_every_model_of_a_run_to_have_some():
    own = RECIPE | {"explain": [{"kind": "intrinsic"}]}
    (problem,) = [text for text in check(Recipe.load(own)).problems if "intrinsic" in text]
    assert "teacher (boosted_trees)" in problem
    assert "kernel_shap" in problem

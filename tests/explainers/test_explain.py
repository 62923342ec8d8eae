from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from distillens.errors import InputError, ModelError, UntrustedCodeError
from distillens.explainers.base import EXPLAINERS, Explainer
from distillens.explainers.explain import explain, resolve_target
from distillens.explainers.intrinsic import Intrinsic
from distillens.explainers.shapley import ExactShapley, KernelShap
from distillens.named import load_object


@pytest.fixture
def binary(rng, linear):
    return linear(rng.normal(size=(4, 2)), rng.normal(size=2), ("good", "bad"), "logits", contribution_scale="logit")


@pytest.fixture
def multiclass(rng, linear):
    return linear(rng.normal(size=(4, 3)), rng.normal(size=3), ("a", "b", "c"), "logits", contribution_scale="logit")


@pytest.fixture
def rows(rng, table):
    return table(rng.normal(size=(6, 4)))


@pytest.fixture
def background(rng, table):
    return table(rng.normal(size=(10, 4)))


def test_members_are_explainers():
    for name, path in EXPLAINERS.items():
        member = load_object(path)()
        assert member.kind == name
        assert isinstance(member, Explainer)


def test_auto_is_exact_where_it_fits(binary, rows, background, rng, table, formula, smooth_function):
    assert explain(binary, rows, background=background).method == "exact_shapley"
    wide = table(rng.normal(size=(2, 12)))
    e = explain(formula(smooth_function), wide, background=wide)
    assert e.method == "kernel_shap"
    assert not e.exact
    assert e.budget == 2048
    assert explain(formula(smooth_function), wide, background=wide, budget=5000).method == "exact_shapley"


def test_options_reach_the_explainer(binary, rows, background):
    e = explain(
        binary, rows, method="kernel_shap", background=background, budget=50, seed=7, scale="probability", target="good"
    )
    assert (e.method, e.scale, e.seed, set(e.target)) == ("kernel_shap", "probability", 7, {0})
    np.testing.assert_array_equal(e.background_ids, background.row_ids)
    given = explain(binary, rows, method=KernelShap(groups={"g": ["x0", "x1"]}), background=background)
    assert given.units == ("g", "x2", "x3")
    with pytest.raises(InputError, match="has no option 'budget'"):
        explain(binary, rows, method="intrinsic", budget=50)


def test_names_are_checked(binary, rows, background):
    with pytest.raises(InputError, match="Did you mean 'kernel_shap'"):
        explain(binary, rows, method="kernelshap", background=background)
    with pytest.raises(UntrustedCodeError):
        explain(binary, rows, method="os:system", background=background)
    for wrong in (KernelShap, 3, None):
        with pytest.raises(InputError, match="method should be"):
            explain(binary, rows, method=wrong, background=background)


@pytest.mark.parametrize("method", ["kernel_shap", "exact_shapley", "auto"])
def test_shapley_methods_need_a_background_and_rows(binary, rows, background, method):
    with pytest.raises(InputError, match="needs background rows"):
        explain(binary, rows, method=method)
    with pytest.raises(InputError, match="no rows to explain"):
        explain(binary, rows.take(np.arange(0)), method=method, background=background)


def test_targets(binary, multiclass, rows, formula):
    assert set(resolve_target(binary, rows)) == {1}
    assert set(resolve_target(binary, rows, "good")) == {0}
    np.testing.assert_array_equal(resolve_target(multiclass, rows), multiclass(rows).argmax(axis=1))
    np.testing.assert_array_equal(resolve_target(multiclass, rows, "predicted"), multiclass(rows).argmax(axis=1))
    np.testing.assert_array_equal(resolve_target(multiclass, rows, [0, 1, 2, 2, 1, 0]), [0, 1, 2, 2, 1, 0])
    assert set(resolve_target(formula(lambda v: v[:, 0]), rows, "anything")) == {0}
    named = formula(lambda v: v[:, :2], classes=("predicted", "other"), output="logits")
    assert set(resolve_target(named, rows, "predicted")) == {0}
    for wrong, text in (
        ("godo", "Did you mean 'good'"),
        (2, "run from 0 to 1"),
        (-1, "run from 0"),
        ([0, 1], "class index"),
        (0.5, "class index"),
    ):
        with pytest.raises(InputError, match=text):
            resolve_target(binary, rows, wrong)


def test_opposite_classes_have_opposite_log_odds(binary, rows, background):
    bad, good = (explain(binary, rows, background=background, target=t) for t in ("bad", "good"))
    np.testing.assert_allclose(bad.values, -good.values, atol=1e-12)


class TestIntrinsic:
    def test_two_classes_on_log_odds(self, binary, rows):
        e = explain(binary, rows, method="intrinsic")
        assert e.scale == "log_odds"
        assert e.exact
        assert np.abs(e.residual).max() < 1e-12
        np.testing.assert_allclose(e.values, rows.values * (binary.weight[:, 1] - binary.weight[:, 0]))
        np.testing.assert_allclose(e.output, binary(rows)[:, 1] - binary(rows)[:, 0])
        assert np.abs(explain(binary, rows, method="intrinsic", scale="logit").residual).max() < 1e-12

    def test_several_classes_on_the_logit(self, multiclass, rows):
        e = explain(multiclass, rows, method="intrinsic", target=[0, 1, 2, 0, 1, 2])
        assert e.scale == "logit"
        assert np.abs(e.residual).max() < 1e-12
        np.testing.assert_allclose(e.values[2], rows.values[2] * multiclass.weight[:, 2])
        with pytest.raises(InputError, match="add up on the scale logit"):
            explain(multiclass, rows, method="intrinsic", scale="log_odds")

    def test_values(self, rng, linear, rows):
        e = Intrinsic()(linear(rng.normal(size=(4, 1)), np.array([2.0])), rows, target=np.zeros(6, dtype=np.int64))
        assert e.scale == "value"
        assert np.abs(e.residual).max() < 1e-12
        assert set(e.base) == {2.0}

    def test_probabilities(self, linear, rows, table):
        # a stump on x0: contributions on the probability scale, as trees have them
        weight = np.array([[-0.2, 0.2], [0, 0], [0, 0], [0, 0]])
        stump = linear(weight, np.array([0.5, 0.5]), ("a", "b"), "probabilities", contribution_scale="probability")
        e = explain(stump, table(np.sign(rows.values)), method="intrinsic")
        assert e.scale == "probability"
        assert np.abs(e.residual).max() < 1e-12

    def test_shapley_of_a_linear_model_is_its_centred_contribution(self, binary, rows, background):
        own, shapley = explain(binary, rows, method="intrinsic"), explain(binary, rows, background=background)
        centre = explain(binary, background, method="intrinsic").values.mean(axis=0)
        np.testing.assert_allclose(own.values - centre, shapley.values, atol=1e-10)

    def test_wrong_contributions_show_in_the_residual_or_are_refused(self, binary, rows, formula):
        binary.contributions = lambda inputs: (inputs.values[:, :, None] * 2 * binary.weight[None], binary.bias)
        assert np.abs(explain(binary, rows, method="intrinsic").residual).max() > 0.1
        binary.contributions = lambda inputs: (inputs.values, binary.bias)
        with pytest.raises(ModelError, match="contributions of shape"):
            explain(binary, rows, method="intrinsic")
        with pytest.raises(ModelError, match="does not explain itself"):
            explain(formula(lambda v: v[:, 0]), rows, method="intrinsic")

    @pytest.mark.parametrize("options", [{"rows": 0}, {"scale": "logodds"}], ids=str)
    def test_nonsense_settings(self, options):
        with pytest.raises(InputError, match="intrinsic"):
            Intrinsic(**options)


def test_two_models_share_coalitions_and_background(rng, table, formula, smooth_function):
    """A student that equals its teacher has equal attributions, also when they are sampled."""
    x, b = table(rng.normal(size=(3, 13))), table(rng.normal(size=(6, 13)))
    teacher = explain(formula(smooth_function), x, background=b, budget=300, seed=5)
    student = explain(formula(lambda v: smooth_function(v) * 1.0), x, background=b, budget=300, seed=5)
    other = explain(formula(smooth_function), x, background=b, budget=300, seed=6)
    np.testing.assert_array_equal(teacher.values, student.values)
    assert not np.array_equal(teacher.values, other.values)
    assert np.abs(teacher.values - other.values).max() < 8 * teacher.stderr.max()


def test_global_random_state_is_left_alone(binary, rows, background):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (that is what is checked)
    explain(binary, rows, method=KernelShap(), background=background)
    explain(binary, rows, method=ExactShapley(), background=background)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_settings_are_read_without_heavy_libraries():
    code = (
        "import sys; from distillens.explainers.explain import explain; from distillens.explainers.shapley import KernelShap; "
        "from distillens.explainers.intrinsic import Intrinsic; KernelShap(); Intrinsic(); "
        "print([m for m in ('torch', 'sklearn', 'pandas', 'shap', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""`inherit` in a student's entry: what is taken over, what is recorded, and who does not inherit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from distillens.data.base import Split
from distillens.data.images import Images
from distillens.errors import InputError, ModelError, RecipeError
from distillens.models.callable import CallableModel
from distillens.models.image_network import ImageNetwork
from distillens.models.preprocess import Preprocess
from distillens.recipe import Recipe
from distillens.store import read_json
from distillens.students.network import NetworkStudent
from distillens.transfer.targets import Targets

CLASSES = tuple(str(digit) for digit in range(10))
NET = {"kind": "resnet", "depth": 8, "width": 2}
WIDE = {"kind": "resnet", "depth": 8, "width": 3}
VIT = {"kind": "vit", "patch": 2, "width": 24, "depth": 4, "heads": 2}


def splits() -> tuple[Split, Split, Split]:
    data = load_digits()
    pixels = np.rint(data.images * 255 / 16).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(pixels))

    def part(index: Any) -> Split:
        return Split(Images(pixels[index], index.astype(np.int64)), data.target[index])

    return part(order[:300]), part(order[300:500]), part(order[500:600])


def targets_of(teacher: Any) -> Targets:
    train = splits()[0]
    return Targets.from_outputs(train, teacher(train.inputs), output=teacher.output, classes=CLASSES)


def fitted(net: dict[str, Any], **options: Any) -> ImageNetwork:
    student = NetworkStudent(model=net, epochs=3, batch_size=32, **options)
    made = student.fit(Targets.from_labels(splits()[0], CLASSES), validation=splits()[1], teacher=None, seed=0)
    assert isinstance(made, ImageNetwork)
    return made


@pytest.fixture(scope="module")
def wide() -> ImageNetwork:
    return fitted(WIDE, preprocess={"mean": [0.2], "std": [0.4]})


@pytest.fixture(scope="module")
def vit() -> ImageNetwork:
    return fitted(VIT)


def learn(teacher: Any, inherit: dict[str, Any], out: Path, net: dict[str, Any] = NET, **options: Any) -> ImageNetwork:
    student = NetworkStudent(
        model=net, epochs=1, batch_size=100, objectives=[{"kind": "kd"}], inherit=inherit, **options
    )
    made = student.fit(targets_of(teacher), validation=splits()[1], teacher=teacher, seed=1, out=out)
    assert isinstance(made, ImageNetwork)
    return made


@pytest.mark.parametrize("how", ["subclone", "select_weights", "reuse_classifier"])
def test_a_narrower_network_starts_from_its_teacher(wide: ImageNetwork, tmp_path: Path, how: str) -> None:
    student = learn(wide, {"how": how}, tmp_path)
    record = read_json(tmp_path / "inherit.json")
    assert (record["how"], record["applied"], record["agreement"]["rows"]) == (how, True, 200)
    assert bool(record["fresh"]) == (how == "reuse_classifier")
    own = ImageNetwork.fresh(student.net, student.preprocess, CLASSES)
    assert set(student.module.state_dict()) == set(own.module.state_dict())  # a reused classifier is folded
    again = ImageNetwork.from_record(*student.to_record())
    assert np.array_equal(again(splits()[2].inputs), student(splits()[2].inputs))  # type: ignore[arg-type]
    # What starts from the teacher's first layer looks at pixels as the teacher does.
    assert (student.preprocess == wide.preprocess) == (how != "reuse_classifier")


def test_a_student_of_the_teachers_size_agrees_with_it_before_training(vit: ImageNetwork, tmp_path: Path) -> None:
    for inherit in ({"how": "subclone"}, {"how": "prefix"}, {"how": "copy_layers", "stack": "blocks"}):
        learn(vit, inherit, tmp_path, VIT)
        record = read_json(tmp_path / "inherit.json")
        assert record["agreement"]["same_class"] == 1.0
        assert record["agreement"]["correlation"] == pytest.approx(1.0)
        assert record["fresh"] == record["unused"] == []


def test_layers_of_a_stack_and_what_lies_around_it(vit: ImageNetwork, tmp_path: Path) -> None:
    inherit = {"how": "copy_layers", "stack": "blocks", "layers": [1, -1]}
    learn(vit, inherit, tmp_path, VIT | {"depth": 2}, learning_rate=1e-12, weight_decay=0.0)
    record = read_json(tmp_path / "inherit.json")
    taken = {entry["student"]: entry["teacher"] for entry in record["taken"]}
    assert taken["blocks.0.attention.query.weight"] == "blocks.1.attention.query.weight"
    assert taken["blocks.1.mlp.0.bias"] == "blocks.3.mlp.0.bias"
    assert taken["position"] == "position"
    assert taken["classifier.weight"] == "classifier.weight"
    assert record["fresh"] == []
    assert {name.split(".")[1] for name in record["unused"]} == {"0", "2"}
    assert record["layers"] == [1, -1]


def test_preprocessing_that_the_entry_names_is_kept(wide: ImageNetwork, tmp_path: Path) -> None:
    student = learn(wide, {"how": "subclone"}, tmp_path, preprocess={"mean": [0.5]})
    assert student.preprocess == Preprocess((8, 8), (0.5,), (0.4,), 1)


def test_without_a_teacher_nothing_is_taken_over_and_that_is_recorded(tmp_path: Path) -> None:
    plain, inheriting = (
        NetworkStudent(model=NET, epochs=1, inherit=inherit).fit(
            Targets.from_labels(splits()[0], CLASSES), validation=splits()[1], teacher=None, seed=4, out=tmp_path
        )
        for inherit in (None, {"how": "subclone"})
    )
    assert plain.fingerprint == inheriting.fingerprint
    record = read_json(tmp_path / "inherit.json")
    assert record["applied"] is False
    assert "without a teacher" in record["why"]


def test_pairs_that_cannot_be_taken_over_say_why(wide: ImageNetwork, vit: ImageNetwork, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="both networks of one kind"):
        learn(vit, {"how": "subclone"}, tmp_path)
    with pytest.raises(ModelError, match="the student has no layers 'block'. Did you mean 'blocks'"):
        learn(vit, {"how": "copy_layers", "stack": "block"}, tmp_path, VIT)
    with pytest.raises(ModelError, match="larger in the student|selected only from"):
        learn(fitted(NET), {"how": "select_weights"}, tmp_path, WIDE)
    black_box = CallableModel(lambda images: wide(images), CLASSES, output="logits", label="black box")
    with pytest.raises(InputError, match="'black box' can only be asked: leave inherit out"):
        learn(black_box, {"how": "subclone"}, tmp_path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"how": "subclon"}, "Did you mean 'subclone'"),
        ({"how": "subclone", "row": 3}, "Did you mean 'rows'"),
        ({"how": "subclone", "stack": "blocks"}, "inherit.stack is an option of copy_layers"),
        ({"how": "subclone", "rows": 0}, "inherit.rows is a whole number"),
        ({"how": "prefix", "layers": [1]}, "inherit.layers is an option of copy_layers"),
    ],
)
def test_options_are_checked(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        NetworkStudent(inherit=entry)  # type: ignore[arg-type]


def test_in_a_recipe() -> None:
    student = {"kind": "network", "inherit": {"how": "copy_layers", "stack": "blocks", "layers": [0, 2]}}
    raw = {"data": {"source": "wine"}, "teacher": {"kind": "network"}, "students": {"net": student}}
    recipe = Recipe.load(raw)
    again = Recipe.load({**raw, "students": recipe.students})
    assert again.build_student("net") == recipe.build_student("net") == NetworkStudent(inherit=student["inherit"])  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="teacher.inherit: a teacher is trained on the labels"):
        Recipe.load({**raw, "teacher": {"kind": "network", "inherit": {"how": "subclone"}}})
    with pytest.raises(RecipeError, match="students.net.inherit.how"):
        Recipe.load({**raw, "students": {"net": {"kind": "network", "inherit": {"how": "clone"}}}})

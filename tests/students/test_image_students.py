"""Networks for images as students and teachers, and their ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from distillens.data.base import Split
from distillens.data.images import Images
from distillens.errors import ArtefactError, InputError, ModelError
from distillens.exporters.footprint import footprint
from distillens.exporters.onnx import OnnxExport
from distillens.exporters.parity import parity
from distillens.models.base import Decision
from distillens.models.callable import CallableModel
from distillens.models.image_network import ImageNetwork
from distillens.models.nets.base import as_image_net
from distillens.models.onnx_image import ImageOnnxModel
from distillens.models.preprocess import Preprocess
from distillens.models.store import load_model, save_model
from distillens.students.network import NetworkStudent
from distillens.transfer.answers.kept import WithAnswers
from distillens.transfer.influence import influence, permuted
from distillens.transfer.targets import Targets

CLASSES = tuple(str(digit) for digit in range(10))
NET = {"kind": "resnet", "depth": 8}


def splits() -> tuple[Split, Split, Split]:
    data = load_digits()
    pixels = np.rint(data.images * 255 / 16).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(pixels))

    def part(index: Any) -> Split:
        return Split(Images(pixels[index], index.astype(np.int64)), data.target[index])

    return part(order[:500]), part(order[500:700]), part(order[700:1000])


@pytest.fixture(scope="module")
def teacher() -> ImageNetwork:
    train, validation, _ = splits()
    student = NetworkStudent(model=NET, epochs=6, batch_size=32)
    return student.fit(Targets.from_labels(train, CLASSES), validation=validation, teacher=None, seed=0)  # type: ignore[return-value]


def targets_of(teacher: Any) -> Targets:
    train = splits()[0]
    return Targets.from_outputs(train, teacher(train.inputs), output=teacher.output, classes=CLASSES)


def fit(teacher: Any, targets: Targets | None = None, *, seed: int = 1, **changes: Any) -> ImageNetwork:
    student = NetworkStudent(
        **({"model": NET, "epochs": 3, "batch_size": 32, "objectives": [{"kind": "kd"}]} | changes)
    )
    made = student.fit(targets or targets_of(teacher), validation=splits()[1], teacher=teacher, seed=seed)
    assert isinstance(made, ImageNetwork)
    return made


def test_teacher_and_student_learn_and_come_back_from_disk(teacher: ImageNetwork, tmp_path: Path) -> None:
    test = splits()[2]
    assert (teacher(test.inputs).argmax(1) == test.labels).mean() > 0.95
    student = fit(teacher)
    assert (student(test.inputs).argmax(1) == teacher(test.inputs).argmax(1)).mean() > 0.93
    assert [set(h) for h in student.history] == [{"epoch", "train", "validation", "task", "kd"}] * 3
    assert student.preprocess.shape == (1, 8, 8)
    assert 0.25 < student.preprocess.mean[0] < 0.35  # of the training pixels
    save_model(student, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert np.array_equal(again(test.inputs), student(test.inputs))
    assert again.fingerprint == student.fingerprint


def test_answers_kept_on_disk_teach_as_the_live_teacher_does(teacher: ImageNetwork, tmp_path: Path) -> None:
    test = splits()[2].inputs
    augment = {"crop": 1, "views": 2}
    live = fit(teacher, augment=augment)
    kept = WithAnswers(teacher, tmp_path)
    first = fit(kept, augment=augment)
    np.testing.assert_allclose(first(test), live(test), atol=2e-3)
    assert len(list(tmp_path.glob("*/info.json"))) == 1
    fit(kept, permuted(targets_of(teacher), 3), augment=augment, seed=2)
    assert len(list(tmp_path.glob("*/info.json"))) == 1  # the same answers, dealt out otherwise
    plain = fit(teacher)
    assert not np.allclose(plain(test), live(test), atol=1e-2)


@pytest.mark.parametrize(
    "augment", [{}, {"crop": 1}, {"crop": 1, "views": 2}], ids=["plain", "endless views", "two views"]
)
def test_permuted_answers_mislead_also_with_a_live_teacher(
    teacher: ImageNetwork, tmp_path: Path, augment: dict[str, Any]
) -> None:
    test = splits()[2].inputs
    asked = WithAnswers(teacher, tmp_path)
    taught = fit(asked, augment=augment, task_weight=0.0)
    misled = fit(asked, permuted(targets_of(teacher), 0), augment=augment, task_weight=0.0)
    found = influence(taught, misled, teacher, test, None)
    assert found.relative > 0.3
    assert found.agreement > 0.9
    assert found.permuted_agreement < 0.4


def test_objectives_on_layers_and_gradients_are_taught_live(teacher: ImageNetwork) -> None:
    student = fit(
        teacher,
        objectives=[
            {"kind": "kd"},
            {"kind": "rkd", "weight": 0.1},
            {"kind": "fitnet", "weight": 0.1, "student_taps": ["stages.1:output"], "teacher_taps": ["stages.1:output"]},
            {
                "kind": "gradcam_matching",
                "weight": 0.1,
                "student_taps": ["stages.2:output"],
                "teacher_taps": ["stages.2:output"],
            },
        ],
    )
    assert set(student.history[-1]) >= {"kd", "rkd", "fitnet", "gradcam_matching"}
    assert all("terms" not in name for name in student.to_record()[1])
    test = splits()[2].inputs
    assert (student(test).argmax(1) == teacher(test).argmax(1)).mean() > 0.9


def test_any_model_that_answers_about_images_can_teach(teacher: ImageNetwork) -> None:
    black_box = CallableModel(lambda images: teacher(images), CLASSES, output="logits", label="black box")
    for augment in ({}, {"crop": 1}):
        student = fit(black_box, targets_of(teacher), augment=augment)
        test = splits()[2].inputs
        assert (student(test).argmax(1) == teacher(test).argmax(1)).mean() > 0.9
    with pytest.raises(InputError, match="'rkd' looks inside its teacher"):
        fit(black_box, targets_of(teacher), objectives=[{"kind": "rkd"}])


def test_networks_for_tables_and_for_images_are_told_apart(teacher: ImageNetwork) -> None:
    with pytest.raises(InputError, match="'mlp' is for tables"):
        fit(teacher, model={"kind": "mlp"})


@pytest.mark.parametrize(
    ("look", "stored"),
    [
        (Preprocess((8, 8), channels=1), (1, 8, 8)),
        (Preprocess((8, 8), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)), (1, 8, 8)),
        (Preprocess((8, 8), (0.3,), (0.7,), 1), (3, 8, 8)),
    ],
    ids=["grey", "grey for colour", "colour for grey"],
)
def test_a_file_takes_stored_pixels_and_answers_as_the_network(
    tmp_path: Path, look: Preprocess, stored: tuple[int, int, int]
) -> None:
    network = ImageNetwork.fresh(as_image_net(NET), look, ("no", "yes"), seed=3)
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (30, *stored), dtype=np.uint8), np.arange(30))
    decision = Decision(0, 0.4)
    result = OnnxExport()(network, tmp_path / "model.onnx", decision=decision, shape=stored)
    exported = ImageOnnxModel.load(tmp_path / "model.onnx")
    assert (exported.classes, exported.decision, exported.size_bytes) == (network.classes, decision, result.bytes)
    np.testing.assert_allclose(exported(images), network(images), atol=1e-5)
    logits, probabilities, decided = exported.run_feeds(exported.feeds(images))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(decided, decision(probabilities))
    assert logits.dtype == np.float64
    assert parity(network, exported, images, decision=decision)["flips_beyond_tolerance"] == 0
    measured = footprint(exported, images, seed=0, calls=3, seconds=0.01)
    assert measured["size_bytes"] == result.bytes
    again = OnnxExport()(network, tmp_path / "again.onnx", decision=decision, shape=stored)
    assert again.sha256 == result.sha256
    with pytest.raises(ModelError, match="takes images of shape"):
        exported(Images(np.zeros((1, 1, 9, 9), np.uint8), np.zeros(1, np.int64)))


def test_a_transformers_file_takes_any_number_of_images(tmp_path: Path) -> None:
    net = as_image_net({"kind": "vit", "patch": 4, "width": 8, "depth": 1, "heads": 2})
    network = ImageNetwork.fresh(net, Preprocess((8, 8), channels=1), ("no", "yes"), seed=3)
    OnnxExport()(network, tmp_path / "model.onnx")
    exported = ImageOnnxModel.load(tmp_path / "model.onnx")
    for count in (1, 2, 5):
        images = Images(np.random.default_rng(count).integers(0, 256, (count, 1, 8, 8), np.uint8), np.arange(count))
        np.testing.assert_allclose(exported(images), network(images), atol=1e-5)


def test_a_network_that_counts_its_images_is_refused(tmp_path: Path) -> None:
    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(1, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.token.expand(len(x), -1) + x.mean(dim=(1, 2, 3))[:, None]

    network = ImageNetwork(Preprocess((8, 8), channels=1), Counting(), as_image_net("resnet"), ("no", "yes"))
    with pytest.raises(ModelError, match="torch (exported the network .* for a fixed number|cannot export)"):
        OnnxExport()(network, tmp_path / "model.onnx")


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    network = ImageNetwork.fresh(as_image_net(NET), Preprocess((8, 8), channels=1), ("no", "yes"))
    path = tmp_path / "model.onnx"
    OnnxExport()(network, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match="model.onnx"):
        ImageOnnxModel.load(path)
    path.write_bytes(whole.replace(b'"shape":[1,8,8]', b'"shape":[1,9,8]'))
    with pytest.raises(ArtefactError, match="changed after the export"):
        ImageOnnxModel.load(path)
    with pytest.raises(ArtefactError, match="cannot be read"):
        ImageOnnxModel.load(tmp_path / "nothing.onnx")

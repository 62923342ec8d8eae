"""`distillens cache build | verify | info`: from a model file and images, for a run, and what is refused in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillens.cli.app import main
from distillens.data.base import Column, Split, Table
from distillens.data.images import Images
from distillens.models.image_network import ImageNetwork
from distillens.models.nets.resnet import ResNetSettings
from distillens.models.preprocess import Preprocess
from distillens.models.store import save_model
from distillens.students.tree import TreeStudent
from distillens.transfer.answers.kept import WithAnswers, kept_answers
from distillens.transfer.targets import Targets

N = 60
VIEWS = ("--views", "3", "--crop", "1", "--flip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, 8, 8), dtype=np.uint8)
    part = np.array(["train"] * 40 + ["test"] * 20)
    np.savez(home / "data.npz", pixels=pixels, labels=np.arange(N) % 3, part=part)
    np.savez(home / "heap.npz", pixels=pixels, labels=np.arange(N) % 3)
    np.savez(home / "other.npz", pixels=pixels ^ 1, labels=np.arange(N) % 3, part=part)
    for seed in (0, 1):
        net = ImageNetwork.fresh(ResNetSettings(depth=8), Preprocess((8, 8), channels=1), ("0", "1", "2"), seed=seed)
        save_model(net, home / f"teacher{seed}.safetensors")
    return home


def build(folder: Path, out: Path, *more: str, teacher: int = 0, data: str = "data.npz") -> int:
    return main(
        ["cache", "build", "--teacher", str(folder / f"teacher{teacher}.safetensors"), "--images", str(folder / data), "--out", str(out), *more]
    )  # fmt: skip


def told(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    return said.out + said.err


def asked_again(folder: Path, cache: Path, *, teacher: int = 0, data: str = "data.npz") -> int:
    return main(
        [
            "cache",
            "verify",
            str(cache),
            "--teacher",
            str(folder / f"teacher{teacher}.safetensors"),
            "--images",
            str(folder / data),
        ]
    )


def test_built_from_a_file_and_images_it_is_shown_and_checked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers"
    assert build(folder, out, *VIEWS, "--dtype", "float16") == 0
    assert f"{out}: 40 images, 3 views of each, all logits as float16, 1 shards" in told(capsys)
    assert main(["cache", "info", str(out)]) == 0
    said = told(capsys)
    assert "classes 0, 1, 2" in said
    assert "crop 1, flip True" in said
    assert main(["cache", "info", str(out), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["rows"], record["views"], record["whole"]) == (40, 3, True)
    assert main(["cache", "verify", str(out)]) == 0
    assert "was not asked again" in told(capsys)
    assert asked_again(folder, out) == 0
    assert "says the same about 40 images in every view" in told(capsys)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert build(folder, out, *VIEWS, "--dtype", "float16", "--quiet") == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_cache_that_is_not_what_it_should_be_is_one_sentence_with_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, other = tmp_path / "good", tmp_path / "other"
    assert build(folder, good, *VIEWS) == build(folder, other, "--top", "1") == 0
    told(capsys)
    shard = "shard-00000.safetensors"

    def refused(words: str, *, name: str, run: Any) -> None:
        assert run() == 2
        said = told(capsys)
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert words in said
        assert name in said

    refused("the teacher (its weights", name="info.json", run=lambda: asked_again(folder, good, teacher=1))
    refused("other pixels for 40 of 40", name=str(good), run=lambda: asked_again(folder, good, data="other.npz"))
    refused("Choose another folder", name="info.json", run=lambda: build(folder, good, *VIEWS, "--seed", "4"))
    damaged = bytearray((good / shard).read_bytes())
    damaged[-5] ^= 1
    (good / shard).write_bytes(damaged)
    refused("checksum", name=shard, run=lambda: main(["cache", "verify", str(good)]))
    shutil.copy(other / shard, good / shard)
    refused("of another cache", name=shard, run=lambda: main(["cache", "verify", str(good)]))
    (good / shard).unlink()
    refused("not finished", name=shard, run=lambda: main(["cache", "verify", str(good)]))
    assert main(["cache", "info", str(good), "--quiet"]) == 0
    assert told(capsys) == "unfinished\n"
    assert build(folder, good, *VIEWS) == 0  # goes on
    assert main(["cache", "verify", str(good), "--quiet"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build"], "Give the folder of a run or a recipe"),
        (["build", "--teacher", "t.safetensors", "--images", "d.npz", "--out", "o", "--views", "3"], "all the same without --crop"),
        (["build", "--teacher", "t.safetensors", "--images", "d.npz", "--out", "o", "--dtype", "int8"], "float32 or float16"),
        (["build", "--teacher", "t.safetensors", "--images", "d.npz", "--out", "o"], "There is no file t.safetensors"),
        (["build", "--teacher", "t.onnx", "--images", "d.npz", "--out", "o"], "no network for images that distillens wrote"),
        (["build", "breast-cancer", "--flip"], "--flip goes without a run or recipe"),
        (["build", "breast-cancer"], "limited number of changed views"),
        (["verify", "nothing"], "does not exist"),
        (["verify", "nothing", "--rows", "0"], "--rows"),
        (["info", "."], "info.json"),
        (["erase"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["cache", *arguments]) == 2
    assert words in told(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_network_for_images_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x, columns = rng.normal(size=(60, 2)), (Column("a"), Column("b"))
    split = Split(Table(x, columns, np.arange(60)), (x[:, 0] > 0).astype(np.int64))
    targets = Targets.from_labels(split, ("no", "yes"))
    tree = TreeStudent(min_rows=5).fit(targets, validation=split, teacher=None, seed=0)
    save_model(tree, tmp_path / "tree.safetensors")
    arguments = [
        "--teacher",
        str(tmp_path / "tree.safetensors"),
        "--images",
        str(folder / "data.npz"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(["cache", "build", *arguments]) == 2
    assert "a cache is of a network for images" in told(capsys)


def test_for_a_recipe_it_keeps_what_the_students_look_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"kind": "network", "model": {"kind": "resnet", "depth": 8}, "epochs": 1, "batch_size": 16}
    views = {"flip": True, "crop": 1, "views": 2}
    recipe = {
        "name": "pictures", "data": {"source": str(folder / "heap.npz"), "target": "digit"}, "teacher": small,
        "students": {"one": small | {"augment": views}, "two": small | {"augment": views, "epochs": 2}, "three": small},
    }  # fmt: skip
    path, home = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(json.dumps(recipe))
    assert main(["cache", "build", str(path), "--out", str(home), "--json"]) == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["views"] == 2
    assert Path(made["folder"]).parent == home / "answers"
    before = {file: file.stat().st_mtime_ns for file in Path(made["folder"]).iterdir()}
    assert main(["cache", "build", str(home), "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == made["folder"]

    from distillens.verbs.explain import open_run

    flow = open_run(home, trust_code=False)
    images = flow.dataset.train.inputs
    assert isinstance(images, Images)
    teacher = flow.teacher_of("one")
    assert isinstance(teacher, WithAnswers)
    cache = kept_answers(teacher, images, flow.recipe.build_student("one").augment)
    assert cache is not None
    assert str(cache.folder) == made["folder"]
    assert {file: file.stat().st_mtime_ns for file in Path(made["folder"]).iterdir()} == before
    assert main(["cache", "verify", made["folder"], str(home)]) == 0
    assert "says the same about" in told(capsys)
    assert main(["cache", "build", str(home), "--out", str(tmp_path / "x")]) == 2
    assert "--out goes with a recipe" in told(capsys)

"""The teacher's answers on disk: the same as asked now, and never those of something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distillens.data.images import Images
from distillens.data.views import Augmentation
from distillens.errors import ArtefactError, InputError
from distillens.objectives import KD
from distillens.store import content_hash
from distillens.transfer.answers import cache as caching
from distillens.transfer.answers.build import build_cache, verify_cache
from distillens.transfer.answers.cache import cache_info, teacher_cache
from distillens.transfer.answers.stored import Stored, from_top, to_top
from distillens.transfer.training.image_feed import ImageFeed
from distillens.transfer.training.loop import fit
from distillens.transfer.training.schedule import Schedule

AUGMENT = Augmentation(crop=1, flip=True, views=2)


@dataclass
class Net:
    """A small teacher with a preprocessing of its own."""

    module: nn.Module
    scale: float = 255.0
    label: str = "teacher"
    classes: tuple[str, ...] = ("a", "b", "c", "d")
    asked: list[int] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return content_hash(
            {"scale": self.scale}, {name: value.numpy() for name, value in self.module.state_dict().items()}
        )

    def to_tensor(self, inputs: Images) -> Tensor:
        self.asked.append(len(inputs))
        return torch.from_numpy(inputs.pixels).float() / self.scale


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(
            nn.Sequential(
                nn.Conv2d(1, 5, 3),
                nn.BatchNorm2d(5),
                nn.Tanh(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(20, 4),
            )
        )


def images(n: int = 23) -> Images:
    rng = np.random.default_rng(0)
    return Images(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), np.arange(1000, 1000 + n))


def build(folder: Path, teacher: Net | None = None, **changes: Any) -> caching.TeacherCache:
    options: dict[str, Any] = {"augmentation": AUGMENT, "seed": 3, "batch_size": 6, "shard_rows": 10} | changes
    return build_cache(teacher or net(), options.pop("images", images()), folder, **options)


def asked_now(teacher: Net, rows: Images, view: int, augment: Augmentation = AUGMENT) -> Tensor:
    shown = Images(augment(rows.pixels, rows.row_ids, view=view, seed=3), rows.row_ids)
    with torch.no_grad():
        return teacher.module.eval()(teacher.to_tensor(shown))


def test_answers_are_those_of_the_teacher_for_exactly_that_view(tmp_path: Path) -> None:
    teacher, whole = net(), images()
    cache = build(tmp_path, teacher)
    for order in (np.arange(23), np.random.default_rng(1).permutation(23)[:15]):
        rows = whole.take(order)
        where = cache.positions(rows)
        for view in (0, 1):
            answers = cache.answers(where, view=view, inputs=torch.zeros(len(rows)))
            torch.testing.assert_close(answers.outputs, asked_now(teacher, rows, view), rtol=1e-5, atol=1e-6)
    assert not torch.equal(
        cache.answers(where, view=0, inputs=where).outputs, cache.answers(where, view=1, inputs=where).outputs
    )
    assert verify_cache(cache, teacher, whole, augmentation=AUGMENT, seed=3) < 1e-5
    info = cache_info(tmp_path)
    assert (info["rows"], info["views"], info["shards"], info["whole"], info["teacher"]) == (23, 2, 3, True, "teacher")
    assert info["bytes"] > 23 * 2 * 4 * 4


def test_layers_are_kept_whole_or_averaged_over_positions(tmp_path: Path) -> None:
    teacher, whole = net(), images()
    stored = Stored(layers=("2:output", "features"))
    pooled = build(tmp_path / "pooled", teacher, stored=stored)
    entire = build(tmp_path / "whole", teacher, stored=replace(stored, pooled=False, dtype="float16"))
    where = pooled.positions(whole)
    small, large = (
        pooled.answers(where, view=0, inputs=where).layers,
        entire.answers(where, view=0, inputs=where).layers,
    )
    assert large["2:output"].shape == (23, 5, 6, 6)
    assert large["2:output"].dtype == torch.float32
    torch.testing.assert_close(small["2:output"], large["2:output"].mean(dim=(2, 3)), rtol=1e-2, atol=2e-3)
    assert small["features"].shape == (23, 20)
    assert verify_cache(entire, teacher, whole, augmentation=AUGMENT, seed=3) < 1e-2


def test_the_largest_and_a_tail(tmp_path: Path) -> None:
    teacher, whole = net(), images()
    cache = build(tmp_path, teacher, stored=Stored(top=2))
    answers = cache.answers(cache.positions(whole), view=1, inputs=torch.zeros(23)).outputs
    exact = torch.log_softmax(asked_now(teacher, whole, 1), dim=1)
    torch.testing.assert_close(answers.exp().sum(dim=1), torch.ones(23))
    torch.testing.assert_close(answers.topk(2)[0], exact.topk(2)[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(answers.logsumexp(1), torch.zeros(23), atol=1e-5, rtol=0)
    smallest = answers.sort(dim=1)[0][:, :2]
    torch.testing.assert_close(smallest[:, 0], smallest[:, 1])  # the two that are not kept share what is left
    torch.testing.assert_close(smallest.exp().sum(1), exact.sort(dim=1)[0][:, :2].exp().sum(1), rtol=1e-4, atol=1e-6)
    assert verify_cache(cache, teacher, whole, augmentation=AUGMENT, seed=3) < 1e-4
    extreme = torch.tensor([[200.0, 0.0, -100.0]])
    assert bool(torch.isfinite(from_top(*to_top(extreme, 2), classes=3)).all())


def changed_teacher() -> dict[str, Any]:
    teacher = net()
    with torch.no_grad():
        next(teacher.module.parameters())[0, 0, 0, 0] += 1e-6
    return {"teacher": teacher}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (changed_teacher(), "the teacher"),
        ({"teacher": Net(net().module, scale=128.0)}, "the teacher"),
        ({"seed": 4}, "the augmentation or its seed"),
        ({"augmentation": replace(AUGMENT, crop=2)}, "the augmentation or its seed"),
        ({"augmentation": replace(AUGMENT, views=3)}, "2 views of each row, and 3"),
        ({"stored": Stored(dtype="float16")}, "what is to be stored"),
        ({"precision": "bf16"}, "the precision"),
    ],
    ids=["a weight", "preprocessing", "seed", "augmentation", "views", "dtype", "precision"],
)
def test_a_cache_of_something_else_is_not_opened(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    build(tmp_path)
    asked: dict[str, Any] = {"teacher": net(), "augmentation": AUGMENT, "seed": 3}
    teacher_cache(tmp_path, **asked)
    with pytest.raises(ArtefactError, match=words):
        teacher_cache(tmp_path, **(asked | changes))
    with pytest.raises(ArtefactError, match=r"Choose another folder"):
        build(tmp_path, **changes)


def test_other_pixels_and_other_rows_are_noticed(tmp_path: Path) -> None:
    cache, whole = build(tmp_path), images()
    pixels = whole.pixels.copy()
    pixels[7, 0, 3, 3] ^= 1
    with pytest.raises(ArtefactError, match="other pixels for 1 of 23 images .row id 1007"):
        cache.positions(Images(pixels, whole.row_ids))
    with pytest.raises(ArtefactError, match="no answers for 23 of 23"):
        cache.positions(Images(whole.pixels, whole.row_ids + 500))
    with pytest.raises(ArtefactError, match="the images changed"):
        build(tmp_path, images=Images(pixels, whole.row_ids))
    with pytest.raises(InputError, match="views 0 to 1"):
        cache.answers(cache.positions(whole), view=2, inputs=torch.zeros(23))


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    build(tmp_path)
    path = tmp_path / "shard-00001.safetensors"
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(place % 8)
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match=r"shard-00001|shard 1"):
            teacher_cache(tmp_path, teacher=net(), augmentation=AUGMENT, seed=3).positions(images())


def test_missing_foreign_and_moved_shards_are_named(tmp_path: Path) -> None:
    build(tmp_path / "a")
    build(tmp_path / "b", seed=4)
    shard = tmp_path / "a" / "shard-00001.safetensors"
    kept = shard.read_bytes()

    def opened() -> caching.TeacherCache:
        return teacher_cache(tmp_path / "a", teacher=net(), augmentation=AUGMENT, seed=3)

    shard.unlink()
    with pytest.raises(ArtefactError, match=r"1 of 3 shards are missing .shard-00001"):
        opened()
    shard.write_bytes((tmp_path / "b" / shard.name).read_bytes())
    with pytest.raises(ArtefactError, match="is of another cache"):
        opened().positions(images())
    with pytest.raises(ArtefactError, match="is of another cache"):
        build(tmp_path / "a")
    shard.write_bytes((tmp_path / "a" / "shard-00000.safetensors").read_bytes())
    with pytest.raises(ArtefactError, match="is shard 0 under another name"):
        opened().positions(images())
    shard.write_bytes(kept)
    opened().positions(images())
    info = tmp_path / "a" / "info.json"
    info.write_text(info.read_text().replace('"rows": 23', '"rows": 22'))
    with pytest.raises(ArtefactError, match="changed after it was written"):
        opened()
    with pytest.raises(ArtefactError, match="does not exist"):
        cache_info(tmp_path / "nothing")


def test_a_build_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    build(tmp_path / "whole")
    build(tmp_path / "part")
    (tmp_path / "part" / "shard-00002.safetensors").unlink()
    teacher = net()
    build(tmp_path / "part", teacher)
    assert sum(teacher.asked) == 2 * 3  # two views of the three rows that were missing
    for path in sorted((tmp_path / "whole").iterdir()):
        assert path.read_bytes() == (tmp_path / "part" / path.name).read_bytes()


def test_what_cannot_be_cached_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set views"):
        build(tmp_path, augmentation=Augmentation(flip=True))
    with pytest.raises(InputError, match="row id of its own"):
        build(tmp_path, images=Images(images().pixels, np.zeros(23, np.int64)))
    with pytest.raises(InputError, match="keeps them all"):
        build(tmp_path, stored=Stored(top=4))
    with pytest.raises(InputError, match="compares no maps"):
        Stored(map={"kind": "kd"})
    assert not (tmp_path / "info.json").exists()


def student() -> nn.Module:
    return net(1).module


def test_a_student_learns_the_same_from_the_cache_as_from_the_live_teacher(tmp_path: Path) -> None:
    """Two views, four epochs: equal weights but for rounding of the teacher's answers in batches of another size."""
    teacher, whole = net(), images()
    labels, weights = torch.full((23,), torch.nan), torch.ones(23)
    cache = build(tmp_path, teacher)
    shared = {"student": lambda shown: torch.from_numpy(shown.pixels).float() / 255, "augmentation": AUGMENT, "seed": 3}
    live = ImageFeed(whole, labels, weights, teacher=teacher.to_tensor, **shared)
    cached = ImageFeed(whole, labels, weights, cache=cache, **shared)
    modules = []
    for feed, module in ((live, teacher.module), (cached, None)):
        trained = student()
        fit(trained, feed, objectives=(KD(),), task_weight=0, schedule=Schedule(4, 1e-2, batch_size=8), seed=0, teacher=module,
            validate=lambda m: 1.0)  # fmt: skip
        modules.append(trained)
    for one, other in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    untrained = student()
    assert not torch.allclose(next(untrained.parameters()), next(modules[0].parameters()), atol=1e-4)


SCRIPT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import test_teacher_cache as t
    t.build(Path(sys.argv[1]), shard_rows=1, stored=t.Stored(layers=("2:output",), pooled=False))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_for_real_a_build_goes_on(tmp_path: Path) -> None:
    """kill −9 whenever a few more files have appeared: what is there in the end is what an undisturbed build leaves."""
    build(tmp_path / "whole", shard_rows=1, stored=Stored(layers=("2:output",), pooled=False))
    folder = tmp_path / "part"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), str(Path(__file__).parent)]
    killed = 0
    for wanted in (1, 5, 9, 14, 20):
        process = subprocess.Popen(command)
        while process.poll() is None and (not folder.exists() or len(list(folder.iterdir())) < wanted):
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    subprocess.run(command, check=True)
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "gradient_matching"},
        {"kind": "gradcam_matching", "student_taps": ("2:output",), "teacher_taps": ("2:output",)},
        {"kind": "attribution_matching", "steps": 3},
    ],
    ids=lambda entry: entry["kind"],
)
def test_frozen_maps_teach_as_live_ones_do(tmp_path: Path, entry: dict[str, Any]) -> None:
    """The objective of a batch is the same whether the teacher's map comes from disk or is made now."""
    from distillens.transfer.training.transfer import Transfer

    teacher, whole = net(), images()
    cache = build(tmp_path, teacher, stored=Stored(map=entry))
    feed = ImageFeed(
        whole,
        torch.zeros(23),
        torch.ones(23),
        teacher.to_tensor,
        teacher.to_tensor,
        cache=cache,
        augmentation=AUGMENT,
        seed=3,
    )
    fed = feed.fetch(torch.arange(12), epoch=1)
    assert fed.teacher is not None
    assert fed.teacher.explanations is not None
    learner = student().eval()
    live = Transfer(teacher.module, learner, [entry], task_weight=0, example=fed.inputs)
    assert isinstance(
        teacher_cache(tmp_path, teacher=teacher, augmentation=AUGMENT, seed=3, stored=Stored(map=entry)).has_maps, bool
    )
    objective = next(iter(live.objectives.values()))
    now = live.step(fed.inputs)
    shown = fed.inputs.detach().requires_grad_()
    outputs, layers = live._student_pass[0](shown)
    from distillens.objectives import Batch, View

    kept = objective(View(outputs, shown, layers, ask=learner), fed.teacher, Batch(torch.ones(12), torch.zeros(12)))  # type: ignore[operator]
    torch.testing.assert_close(kept.value.detach(), next(iter(now.terms.values())), rtol=1e-3, atol=1e-5)
    assert float(kept.value.detach()) > 0.01

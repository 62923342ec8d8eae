"""What `Transfer` and the loop find out by themselves: pairs of layers, shapes of stored layers; and what they leave alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distillens.errors import InputError
from distillens.objectives import KD, FitNet, NoiseQueries, View
from distillens.transfer.layers.matching import Matching, pair_auto
from distillens.transfer.training.feed import Fed, Rows
from distillens.transfer.training.loop import PAIRS, fit
from distillens.transfer.training.schedule import Schedule
from distillens.transfer.training.transfer import Transfer


class Drawing(nn.Module):
    """Draws from the global generator in every pass, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1)
        return x


class Block(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


def net(width: int, blocks: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        maps = nn.Sequential(*(Block(1 if i == 0 else width, width) for i in range(blocks)))
        return nn.Sequential(maps, Drawing(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))


def pictures(n: int = 24) -> Tensor:
    return torch.randn(n, 1, 12, 12, generator=torch.Generator().manual_seed(2))


def test_auto_taps_are_paired_on_the_example_and_nothing_else_changes() -> None:
    teacher, student, x = net(6, 3, 0).train(), net(4, 2, 1).train(), pictures()
    student[0][1].eval()
    before = copy.deepcopy(student.state_dict()), [p.training for p in (*teacher.modules(), *student.modules())]
    state = torch.get_rng_state()
    (expected, _), matching = pair_auto([FitNet(), KD()], student, teacher, x, x)
    torch.set_rng_state(state)
    transfer = Transfer(teacher, student, [{"kind": "fitnet"}, KD()], example=x)
    assert torch.equal(state, torch.get_rng_state())
    assert [p.training for p in (*teacher.modules(), *student.modules())] == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in student.state_dict().items())
    assert transfer.matching is not None
    assert matching is not None
    assert transfer.objectives["fitnet"].student_taps == expected.student_taps == matching.student_taps
    assert str(transfer.matching) == str(matching)
    assert "Debiased linear CKA on 24 rows" in str(transfer.matching)
    transfer(x, torch.zeros(24).long()).backward()
    assert Transfer(teacher, student, [KD()]).matching is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Transfer(net(6, 3, 0), net(4, 2, 1), [FitNet()]), 'fitnet. asks for layers by "auto", which are paired on `example`'),
        (lambda: Transfer(None, net(4, 2, 1), [FitNet()], example=pictures()), "paired on the teacher itself, which is not here"),
        (lambda: Transfer(net(6, 3, 0), net(4, 2, 1), [FitNet()], example=pictures(3)), "at least 4 rows"),
        (lambda: Transfer(None, net(4, 2, 1), [hint()], example=pictures(), teacher_answers=View(torch.zeros(2, 3), pictures(2))),
         "hold no layers, and an objective looks at '0.0:output'"),
    ],
)  # fmt: skip
def test_pairs_that_cannot_be_found_are_said_in_a_sentence(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def hint() -> FitNet:
    return FitNet(student_taps=("0.0:output",), teacher_taps=("0.0:output",))


def train(feed: Any, *, teacher: nn.Module | None, objectives: Any = (), **options: Any) -> nn.Module:
    module = net(4, 2, 1)
    settings = {"task_weight": 0.5, "schedule": Schedule(2, 1e-2, batch_size=8), "seed": 0, "validate": lambda m: 1.0}
    fit(module, feed, objectives=objectives, teacher=teacher, **(settings | options))
    return module


def test_the_loop_pairs_layers_on_training_rows_and_says_which(tmp_path: Path) -> None:
    x, labels, weights = pictures(), torch.zeros(24), torch.ones(24)
    feed, teacher = Rows(x, None, labels, weights), net(6, 3, 0)
    auto = train(feed, teacher=teacher, objectives=(FitNet(),), out=tmp_path)
    matching = Matching.from_json(json.loads((tmp_path / PAIRS).read_text()))
    assert matching.rows == 24
    named = FitNet(student_taps=matching.student_taps, teacher_taps=matching.teacher_taps)
    again = train(feed, teacher=teacher, objectives=(named,))
    assert all(torch.equal(one, other) for one, other in zip(auto.parameters(), again.parameters(), strict=True))


class Stored(Rows):
    """A teacher's answers with a layer, as a cache gives them."""

    def fetch(self, rows: Tensor, *, epoch: int) -> Fed:
        del epoch
        inputs = self.inputs[rows]
        with torch.no_grad():
            network = TEACHER.eval()
            layer = network[0][0](inputs)
            return Fed(inputs, None, View(network(inputs), inputs, {"0.0:output": layer}))

    @property
    def teaches(self) -> bool:
        return True


TEACHER = net(6, 3, 0)


def test_stored_layers_teach_without_a_teacher_as_live_ones_do() -> None:
    x, labels, weights = pictures(), torch.zeros(24), torch.ones(24)
    live = train(Rows(x, None, labels, weights), teacher=TEACHER, objectives=(hint(),))
    stored = train(Stored(x, None, labels, weights), teacher=None, objectives=(hint(),))
    for one, other in zip(live.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_forward_takes_all_that_step_takes() -> None:
    teacher, student, x = net(6, 3, 0), net(4, 2, 1).eval(), pictures(8)
    transfer = Transfer(teacher, student, [NoiseQueries(draws=1)], task_weight=0)
    by_forward = transfer(x, draw=torch.Generator().manual_seed(5))
    assert torch.equal(by_forward, transfer.step(x, draw=torch.Generator().manual_seed(5)).loss)
    assert not torch.equal(by_forward, transfer(x, draw=torch.Generator().manual_seed(6)))


def test_questions_do_not_move_the_students_running_statistics() -> None:
    teacher, x = net(6, 3, 0), pictures(8)
    states = []
    for objectives in ([KD()], [KD(), NoiseQueries(sigma=3.0, draws=2)]):
        student = net(4, 2, 1).train()
        Transfer(teacher, student, objectives)(
            x, torch.zeros(8).long(), draw=torch.Generator().manual_seed(0)
        ).backward()
        assert all(part.track_running_stats for part in student.modules() if isinstance(part, nn.BatchNorm2d))
        states.append(dict(student.named_buffers()))
    assert int(states[1]["0.0.norm.num_batches_tracked"]) == 1
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_a_validation_that_never_changes_keeps_the_last_epoch() -> None:
    feed = Rows(pictures(), None, torch.arange(24) % 3, torch.ones(24))
    weights = [
        torch.cat(
            [p.detach().flatten() for p in train(feed, teacher=None, schedule=schedule, task_weight=1.0).parameters()]
        )
        for schedule in (Schedule(3, 1e-2, batch_size=8), Schedule(3, 1e-2, batch_size=8, keep="last"))
    ]
    assert torch.equal(*weights)


def test_settings_of_a_launcher_do_not_scale_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Rows(pictures(), None, torch.arange(24) % 3, torch.ones(24))
    sgd = Schedule(1, 1e-1, batch_size=8, optimizer="sgd", momentum=0.0)
    plain = train(feed, teacher=None, schedule=sgd, task_weight=1.0)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    launched = train(feed, teacher=None, schedule=sgd, task_weight=1.0)
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), launched.parameters(), strict=True))

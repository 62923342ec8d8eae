"""Noise queries: both models are asked around every row, and the student learns the teacher's answers there, too.

    mean over `draws` of kd_loss(student(x + σ ε), teacher(x + σ ε)),   ε standard normal,   per example;
for a regression the squared error. Srinivas and Fleuret 2018, "Knowledge Transfer with Jacobian Matching", proposition 1: to second order in σ this
matches outputs and Jacobians, so it is the black-box twin of `jacobian` and `gradient_matching`, and the control that stands
beside them: what an explanation loss gains over it is more than extra questions would have given. It needs no gradient of
either model by its inputs, only `View.ask`.

σ is in units of the teacher's inputs. Both models see the same noise: where the student takes the same pixels with another mean and standard
deviation a channel, its noise is multiplied by the ratio of the deviations of both inputs over the batch (see input_gradients.py).
Where grids differ the noise is drawn on the smaller one and repeated on the larger, where the numbers of channels differ it is the
same in all channels and counted in the deviation of each: then both see it. Drawn from the batch's generator. A student with batch
normalisation in training mode is asked in that mode; `Transfer` keeps its running statistics those of the rows themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Tap, check_number
from distillens.transfer.objectives.input_gradients import in_deviations, in_teachers_units, smaller_grid
from distillens.transfer.objectives.kd import kd_loss
from distillens.transfer.objectives.mse import mse_loss
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from distillens.transfer.objectives.base import Batch, View


def shared_noise(student_inputs: Tensor, teacher_inputs: Tensor, *, draw: Generator) -> tuple[Tensor, Tensor]:
    """The same standard normal noise for both models' inputs (B, …), in units of the teacher's where channels agree.

    Raises InputError for inputs that cannot be brought together: whole numbers, and other shapes than images.
    """
    import torch

    s, t = student_inputs, teacher_inputs
    if not (s.is_floating_point() and t.is_floating_point()):
        raise InputError("noise_queries adds noise to inputs, and these are whole numbers (indices).")
    if s.shape != t.shape and not (s.ndim == t.ndim == 4 and len(s) == len(t)):
        raise InputError(
            f"noise_queries needs both models to take the same inputs, or images; got {tuple(s.shape)} and {tuple(t.shape)}."
        )
    same = s.shape[1] == t.shape[1]
    grid = smaller_grid(s, t)
    noise = torch.randn((len(s), s.shape[1] if same else 1, *grid), generator=draw, device=draw.device).to(s.device)

    def on_grid_of(inputs: Tensor) -> Tensor:
        size = inputs.shape[2:]
        large = noise if noise.shape[2:] == size else torch.nn.functional.interpolate(noise, size=size, mode="nearest")
        return large.expand(len(inputs), inputs.shape[1], *size)

    if same:
        return in_teachers_units(on_grid_of(s), s, t), on_grid_of(t)
    return in_deviations(on_grid_of(s), s, grid), in_deviations(on_grid_of(t), t, grid)


@dataclass(frozen=True)
class NoiseQueries:
    """`{kind: noise_queries, sigma: 0.3, draws: 4, temperature: 4}`: the teacher's answers around every row.

    sigma: of the noise, in units of the teacher's inputs. draws: questions a row and step, to both models.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True
    asks: ClassVar[bool] = True

    kind: Literal["noise_queries"] = "noise_queries"
    weight: float = 1.0
    warmup: float = 0.0
    temperature: float = 4.0
    final_temperature: float | None = None
    sigma: float = 0.3
    draws: int = 4

    def __post_init__(self) -> None:
        check_schedule(self)
        check_number(self.sigma, name="sigma", above=0)
        if type(self.draws) is not int or self.draws < 1:
            raise InputError(f"draws is a whole number of at least 1, got {self.draws!r}.")

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        import torch

        if batch.draw is None:
            raise InputError(
                "noise_queries draws noise and needs Batch.draw, a torch.Generator; in a loop of your own: transfer.step(x, y, draw=generator).loss"
            )
        if student.ask is None or teacher.ask is None:
            whose = "student" if student.ask is None else "teacher"
            raise InputError(
                f"noise_queries asks the {whose} about new inputs, and only stored answers are at hand; give the model itself."
            )
        terms = []
        for _ in range(self.draws):
            own, other = shared_noise(student.inputs, teacher.inputs, draw=batch.draw)
            with torch.no_grad():
                answers = teacher.ask((teacher.inputs.detach() + self.sigma * other).to(teacher.inputs.dtype))
            said = student.ask((student.inputs.detach() + self.sigma * own).to(student.inputs.dtype))
            terms.append(
                mse_loss(said, answers) if said.shape[1] == 1 else kd_loss(said, answers, temperature=self.temperature)
            )
        return Loss.pointwise(torch.stack(terms).mean(dim=0), batch)

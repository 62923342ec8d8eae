"""What explanation objectives ask a network: how much the score of a class changes with its inputs.

The class is the teacher's top class for both models, so that both explain the same decision, also where the student decides otherwise.
The score is by default the log-odds z_c − log Σ_{k≠c} exp z_k: two networks with the same probabilities have the same
log-odds, while their logits may differ by any function of the input. `logit` is z_c, as in most papers. For a regression it is the value.

Units. Each model takes inputs after its own preprocessing. Where that is an affine map a channel (x_s = a_c x_t + b_c: other means and standard
deviations of the same pixels, other codings of the same numbers), ∂/∂x_t = a_c ∂/∂x_s, and because a_c differs between channels the
cosine of two raw gradients changes with it. So the student's gradient is multiplied by the ratio of the standard deviations of
both models' inputs, channel by channel (feature by feature for tables), over the batch and its pixels: that is |a_c| without
anybody having to say it, and exactly 1 where both take the same inputs. A channel that is constant in the batch keeps its
units. The alternative, maps summed over channels, would not need the ratio to be right as exactly, but throws away which
channel decides and lets channels of opposite sign cancel; it is used only where the numbers of channels differ (grey against
colour): then every channel counts in standard deviations of its own, and channels are summed.

Sizes. Gradients of pixels are averaged onto the smaller grid: moving one large pixel moves all small ones inside, so that its gradient is
their sum, and between a sum and a mean of equally many the cosine knows no difference. Deviations are then those of both inputs
averaged onto the smaller grid, and the ratio is exact where one model's input is the average of the other's; for other ways of
resizing it is close, and what all channels share of the error cancels in the cosine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.dkd import other_logits
from distillens.transfer.objectives.maps import on_common_grid

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import View

Scale = Literal["log_odds", "logit"]
CONSTANT = 1e-3  # a channel whose deviation is a smaller share of its largest value has units that rounding would blur


def check_scale(scale: object) -> None:
    """InputError unless `log_odds` or `logit`."""
    if scale not in {"log_odds", "logit"}:
        raise InputError(f"scale is log_odds or logit, got {scale!r}.")


def top_class(outputs: Tensor) -> Tensor:
    """(B,) int64 class of the largest of (B, K) outputs; 0 for a regression."""
    return outputs.detach().argmax(dim=1)


def class_scores(outputs: Tensor, target: Tensor, *, scale: Scale = "log_odds") -> Tensor:
    """(B,) the score of class `target` (B,) in float32 or wider, from (B, K) logits; the value itself for K = 1."""
    import torch

    z = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    if z.shape[1] == 1:
        return z[:, 0]
    own = z.gather(1, target[:, None])[:, 0]
    return own if scale == "logit" else own - other_logits(z, target).logsumexp(dim=1)


def gradient_by(scores: Tensor, by: Tensor, *, create_graph: bool, what: str) -> Tensor:
    """(B, …) ∂ scores[b] / ∂ by[b], for a network whose rows do not influence each other.

    Batch normalisation in training mode breaks that: then the influence of a row on the others' scores is in it as well.
    create_graph: keep what is needed to differentiate the result again. what: names `by` in errors. Raises InputError when
    `by` has no graph to the scores.
    """
    import torch

    if not by.is_floating_point():
        raise InputError(
            f"The {what} are whole numbers and have no gradient; explain at the layer behind the embedding, as gradcam_matching does."
        )
    if not (by.requires_grad and scores.requires_grad):
        raise InputError(
            f"There is no gradient by the {what}: the network has to run on inputs that require gradients, outside torch.no_grad "
            "(training does so for objectives with needs_gradient; in a loop of your own call inputs.requires_grad_() before the model). "
            "Stored answers of a teacher have none; store its maps beside them, or give the teacher itself."
        )
    (gradient,) = torch.autograd.grad(scores.sum(), by, create_graph=create_graph, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise InputError(
            f"The outputs do not depend on the {what} that were given: hand over the very tensor the network took."
        )
    result: Tensor = gradient if create_graph else gradient.detach()
    return result


def input_gradient(view: View, target: Tensor, *, scale: Scale = "log_odds", create_graph: bool, whose: str) -> Tensor:
    """(B, …) gradient of a model's class scores by its own inputs. Raises InputError when the inputs have no graph."""
    return gradient_by(
        class_scores(view.outputs, target, scale=scale),
        view.inputs,
        create_graph=create_graph,
        what=f"{whose}'s inputs",
    )


def in_teachers_units(gradient: Tensor, inputs: Tensor, teacher_inputs: Tensor) -> Tensor:
    """The student's gradient (B, C, …) by its own inputs as a gradient by the teacher's, which may have another grid."""
    if inputs.ndim == teacher_inputs.ndim == 4 and inputs.shape != teacher_inputs.shape:
        inputs, teacher_inputs = on_common_grid(inputs.detach(), teacher_inputs.detach())
    ratio = _deviation(inputs) / _deviation(teacher_inputs)
    known = _varies(inputs) & _varies(teacher_inputs)
    return gradient * ratio.where(known, 1.0).reshape(1, -1, *[1] * (gradient.ndim - 2)).to(gradient.dtype)


def in_deviations(gradient: Tensor, inputs: Tensor, grid: tuple[int, ...]) -> Tensor:
    """A gradient (B, C, …) for a change of one standard deviation of each channel over the batch, free of anybody's units.

    grid: (H, W) onto which images are averaged before their deviation is taken.
    """
    from distillens.transfer.layers.projectors import resize

    if inputs.ndim == 4 and tuple(inputs.shape[2:]) != grid:
        inputs = resize(inputs.detach(), (grid[0], grid[1]))
    return gradient * _deviation(inputs).reshape(1, -1, *[1] * (gradient.ndim - 2)).to(gradient.dtype)


def comparable_gradients(
    student_gradient: Tensor, student_inputs: Tensor, teacher_gradient: Tensor, teacher_inputs: Tensor
) -> tuple[Tensor, Tensor]:
    """Both gradients in common units and on a common grid; see the top of this file. Raises InputError where there are none."""
    if student_inputs.shape[1] == teacher_inputs.shape[1]:
        student_gradient = in_teachers_units(student_gradient, student_inputs, teacher_inputs)
    elif teacher_gradient.shape[1:2] == teacher_inputs.shape[1:2] and teacher_gradient.ndim == teacher_inputs.ndim:
        grid = smaller_grid(student_inputs, teacher_inputs)
        student_gradient = in_deviations(student_gradient, student_inputs, grid)
        teacher_gradient = in_deviations(teacher_gradient, teacher_inputs, grid)
    return comparable_maps(student_gradient, teacher_gradient)


def comparable_maps(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Attributions of inputs brought together: as they are where shapes agree; else images on the smaller grid.

    Images: (B, C, H, W), or (B, H, W) where channels are summed already; channels are summed where their numbers differ.
    Raises InputError for anything else of different shapes.
    """
    if student.shape == teacher.shape:
        return student, teacher
    images = [maps[:, None] if maps.ndim == 3 else maps for maps in (student, teacher)]
    if any(maps.ndim != 4 for maps in images) or len(student) != len(teacher):
        raise InputError(
            f"Explanations of the same rows and inputs were expected, got shapes {tuple(student.shape)} and {tuple(teacher.shape)}: only images "
            "of different sizes can be brought together; for other inputs both models have to take the same ones."
        )
    if images[0].shape[1] != images[1].shape[1]:
        images = [maps.sum(dim=1, keepdim=True) for maps in images]
    return on_common_grid(images[0], images[1])


def smaller_grid(student: Tensor, teacher: Tensor) -> tuple[int, ...]:
    """The smaller of each size behind the channels of two (B, C, …)."""
    return tuple(min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:], strict=False))


def _channels(inputs: Tensor) -> Tensor:
    """(B, C, …) → (C, everything else), in float32 or wider, without a graph."""
    import torch

    return inputs.detach().to(torch.promote_types(inputs.dtype, torch.float32)).transpose(0, 1).flatten(1)


def _deviation(inputs: Tensor) -> Tensor:
    """(C,) population standard deviation of each channel over rows and pixels."""
    return _channels(inputs).std(dim=1, correction=0)


def _varies(inputs: Tensor) -> Tensor:
    """(C,) whether a channel's deviation stands out from rounding."""
    return _deviation(inputs) > CONSTANT * _channels(inputs).abs().amax(dim=1)

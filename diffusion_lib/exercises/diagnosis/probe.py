"""The model on which samplers are examined: exact for known images. It records every call.

The posterior mean over a dataset of one image is that image, whatever xt and t are. So the noise in every xt is known, and a right
sampler ends at the image.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from diffusion_lib.denoiser import Prediction
from diffusion_lib.exercises.diagnosis.running import Draw, Draws, EnoughError
from diffusion_lib.process import TARGETS
from diffusion_lib.schedules import Schedule

BATCH, SHAPE = 8, (1, 16, 16)


class Call(NamedTuple):
    """One call of the model by a sampler."""

    xt: Tensor  # (B, C, H, W) float32 on the CPU
    t: float  # as given; NaN if the images of one batch have different ones
    is_fraction: bool  # given as a float that is not an integer
    labelled: bool
    grad: bool  # whether torch recorded a graph
    graph: bool  # whether xt was part of one
    training: bool
    draws: list[Draw]  # the noise drawn since the previous call


class Recorder:
    """The calls of one run. Copies of the model share it."""

    def __init__(self, draws: Draws, limit: int):
        self.draws, self.limit, self.calls = draws, limit, list[Call]()

    def __deepcopy__(self, memo: dict) -> "Recorder":
        return self


class Probe(nn.Module):
    """An exact denoiser of known images, or, with `predicts`, the network that answers with such a tensor.

    images: from the shape (C, H, W) of one image to the image, (1, C, H, W), that all of a batch is made of.
    unlabelled: the same for calls without labels, where that is another image.
    """

    def __init__(
        self,
        schedule: Schedule,
        predicts: str | None,
        images: Callable[[tuple[int, ...]], Tensor],
        recorder: Recorder,
        unlabelled: Callable[[tuple[int, ...]], Tensor] | None = None,
    ):
        super().__init__()
        self.schedule, self.predicts, self.image_shape = schedule, predicts, SHAPE
        self.images, self.unlabelled, self.recorder = images, unlabelled, recorder
        self.class_names, self.num_classes = (), 10
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, xt: Tensor, t: int | float | Tensor, y: Tensor | None = None, **more) -> Prediction | Tensor:
        """Called like a denoiser or a network."""
        with torch._C.DisableTorchFunction():  # what is computed here is not the reader's noise
            return self._answer(xt, t, y if y is not None else more.get("class_labels"))

    def _answer(self, xt: Tensor, t: int | float | Tensor, y: Tensor | None) -> Prediction | Tensor:
        if len(self.recorder.calls) >= self.recorder.limit:
            raise EnoughError
        numbers: Any = t.detach().flatten().tolist() if isinstance(t, Tensor) else t if isinstance(t, list | tuple) else [t]
        levels = [float(each) for each in numbers]
        labelled = y is not None and bool((torch.as_tensor(y) >= 0).any())
        fraction = not all(isinstance(each, int) for each in numbers) and self._are_fractions(levels)
        levels = [each * self.schedule.T for each in levels] if fraction else levels
        one = len(set(levels)) == 1
        self._note(xt, float(levels[0]) if one else float("nan"), fraction, labelled)
        image = (self.unlabelled if self.unlabelled and not labelled else self.images)(tuple(xt.shape[1:]))
        x0 = image.double()
        signal: Any
        noise: Any
        if one:
            signal, noise = level(self.schedule, max(levels[0], 1))
        else:
            column = (-1, *[1] * (xt.ndim - 1))
            pairs = torch.tensor([level(self.schedule, max(each, 1)) for each in levels], dtype=torch.float64)
            signal, noise = (each.view(column) for each in pairs.unbind(1))
        eps = (xt.detach().to("cpu", torch.float64) - signal * x0) / noise
        nothing = 0 * self.weight.to(xt.device, xt.dtype) + 0 * xt  # so that a graph grows where gradients are on, as with any network

        def like_xt(answer: Tensor) -> Tensor:
            return answer.to(xt.device, xt.dtype) + nothing

        if self.predicts is None:
            return Prediction(like_xt(x0), like_xt(eps))
        a, b = TARGETS[self.predicts](signal, noise)
        return like_xt(a * x0 + b * eps)

    def _note(self, xt: Tensor, t: float, fraction: bool, labelled: bool) -> None:
        values = xt.detach().to("cpu", torch.float32, copy=True)
        draws, graph = self.recorder.draws.take(), xt.grad_fn is not None
        self.recorder.calls.append(Call(values, t, fraction, labelled, torch.is_grad_enabled(), graph, self.training, draws))

    def _are_fractions(self, levels: list[float]) -> bool:
        """Whether these floats are fractions of T. A chain of fractions may begin at 1.0."""
        begins = all(call.is_fraction for call in self.recorder.calls) and self.schedule.T > 1
        return all(0 <= each <= 1 for each in levels) and (begins or any(each != round(each) for each in levels))


def level(schedule: Schedule, t: float) -> tuple[float, float]:
    """signal and noise at t: interpolated between integers, and constant outside 0..T."""
    tables = _TABLES.get(schedule)
    if tables is None:
        tables = _TABLES.setdefault(schedule, list(zip(schedule.signal.tolist(), schedule.noise.tolist(), strict=True)))
    t = min(max(t, 0.0), float(schedule.T))
    low = min(int(t), schedule.T - 1)
    (signal, noise), rest = tables[low], t - low
    return signal + rest * (tables[low + 1][0] - signal), noise + rest * (tables[low + 1][1] - noise)


_TABLES: WeakKeyDictionary[Schedule, list[tuple[float, float]]] = WeakKeyDictionary()  # as Python floats, which are faster to read


@cache
def one_image(shape: tuple[int, ...]) -> Tensor:
    """The image that the chain should end at, (1, C, H, W): values in [-0.7, 0.5], on a dark ground.

    So that an x0_hat that is off is not clipped to [-1, 1], which would hide by how much; and so that a result that is stretched to its
    own extremes shows.
    """
    random = torch.Generator().manual_seed(11)
    image = 1.2 * torch.rand(1, *shape, generator=random) - 0.7
    image[torch.rand(1, *shape, generator=random) < 0.35] = -0.7
    image.view(-1)[:2] = torch.tensor([0.5, -0.7])[: image.numel()]
    return image


@cache
def strong_image(shape: tuple[int, ...]) -> Tensor:
    """An image that goes beyond the range at both ends, (1, C, H, W): in [-1.3, 1.3]."""
    return 2.6 / 1.2 * (one_image(shape) + 0.1)


@cache
def other_image(shape: tuple[int, ...]) -> Tensor:
    """Another image, (1, C, H, W) in [-0.5, 0.5], for the model without a class."""
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(12)) - 0.5

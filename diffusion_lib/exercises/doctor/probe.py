"""A model for the doctor's patients: exact for images that are known, and it notes every call.

The posterior mean over a dataset of one image is that image, whatever xt and t are. So the noise in every xt is known, and a right
sampler ends at the image.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.denoiser import Prediction
from diffusion_lib.exercises.doctor.running import Draw, Draws, EnoughError
from diffusion_lib.process import TARGETS
from diffusion_lib.schedules import Schedule

BATCH, SHAPE = 8, (1, 16, 16)


class Call(NamedTuple):
    """One call of the model by a sampler."""

    xt: Tensor  # (B, C, H, W) float32 on the CPU
    t: float  # as it was given; NaN where images of one batch were given different ones
    is_fraction: bool  # given as a float that is no integer
    labelled: bool
    grad: bool  # whether torch recorded a graph
    graph: bool  # whether xt was part of one
    training: bool
    draws: list[Draw]  # the noise that was drawn since the call before


class Recorder:
    """The calls of one run. Copies of the model share it."""

    def __init__(self, draws: Draws, limit: int):
        self.draws, self.limit, self.calls = draws, limit, list[Call]()

    def __deepcopy__(self, memo: dict) -> "Recorder":
        return self


class Probe(nn.Module):
    """An exact denoiser of known images, or, with `predicts`, the network that answers with such a tensor.

    images: from the shape (C, H, W) of one image to (N, C, H, W); image i of a batch is made of image i modulo N.
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
        """As a denoiser, or a network, is called."""
        draws = self.recorder.draws
        draws.paused = True
        try:
            return self._answer(xt, t, y if y is not None else more.get("class_labels"))
        finally:
            draws.paused = False

    def _answer(self, xt: Tensor, t: int | float | Tensor, y: Tensor | None) -> Prediction | Tensor:
        if len(self.recorder.calls) >= self.recorder.limit:
            raise EnoughError
        levels = torch.as_tensor(t).detach().to("cpu", torch.float64).flatten()
        labelled = y is not None and bool((torch.as_tensor(y) >= 0).any())
        self._note(xt, levels, labelled)
        image = (self.unlabelled if self.unlabelled and not labelled else self.images)(tuple(xt.shape[1:]))
        x0 = image[torch.arange(len(xt)) % len(image)].to(torch.float64)
        signal, noise = (self._at(table, levels, x0) for table in (self.schedule.signal, self.schedule.noise))
        exact = xt.detach().to("cpu", torch.float64)
        eps = (exact - signal * x0) / noise
        nothing = 0 * self.weight.to(xt.device, xt.dtype).sum()  # so that a graph grows, as with any network

        def like_xt(answer: Tensor) -> Tensor:
            return answer.to(xt.device, xt.dtype if xt.is_floating_point() else torch.float32) + nothing + 0 * xt

        if self.predicts is None:
            return Prediction(like_xt(x0), like_xt(eps))
        a, b = TARGETS[self.predicts](signal, noise)
        return like_xt(a * x0 + b * eps)

    def _at(self, table: Tensor, levels: Tensor, x0: Tensor) -> Tensor:
        """table at these levels, between integers on a line; outside 1..T that of the nearest."""
        levels = self._scaled(levels).nan_to_num(1).clamp(1, self.schedule.T)
        low = levels.floor().long()
        rest = levels - low
        value = table[low] * (1 - rest) + table[(low + 1).clamp(max=self.schedule.T)] * rest
        return value.expand(len(x0)).view(-1, *[1] * (x0.ndim - 1)) if len(value) in (1, len(x0)) else value[0]

    def _scaled(self, levels: Tensor) -> Tensor:
        return levels * self.schedule.T if _is_fraction(levels) else levels

    def _note(self, xt: Tensor, levels: Tensor, labelled: bool) -> None:
        scaled = self._scaled(levels)
        t = float(scaled[0]) if len(levels) and bool((scaled == scaled[0]).all()) else float("nan")
        values = xt.detach().to("cpu", torch.float32, copy=True)
        graph = xt.grad_fn is not None
        draws = self.recorder.draws.take()
        call = Call(values, t, _is_fraction(levels), labelled, torch.is_grad_enabled(), graph, self.training, draws)
        self.recorder.calls.append(call)


def one_image(shape: tuple[int, ...]) -> Tensor:
    """The image that the chain should end at, (1, C, H, W): values over all of [-1, 1] on a black ground."""
    random = torch.Generator().manual_seed(11)
    image = 2 * torch.rand(1, *shape, generator=random) - 1
    image[torch.rand(1, *shape, generator=random) < 0.35] = -1.0
    image.view(-1)[:2] = torch.tensor([1.0, -1.0])[: image.numel()]
    return image


def dim_and_strong(shape: tuple[int, ...]) -> Tensor:
    """Two images, (2, C, H, W): one whose values stay in [-0.7, 0.3], and one whose values go up to 1.2 times the range."""
    image = one_image(shape)
    return torch.cat([0.5 * image - 0.2, 1.2 * image])


def other_image(shape: tuple[int, ...]) -> Tensor:
    """Another image, (1, C, H, W), for a model that is not given a class: in [-0.5, 0.5]."""
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(12)) - 0.5


def _is_fraction(levels: Tensor) -> bool:
    """Whether these are fractions of T: none above 1, and one no integer."""
    return len(levels) > 0 and bool((levels <= 1).all() and (levels > 0).any() and (levels != levels.round()).any())

"""The network and the images on which training loops are examined. Both are known, so what a loop does can be read from the calls.

Images are constant on blocks of 4 x 4 pixels. So whatever varies inside a block is noise, and the blocks' means tell which image it was.
"""

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lib.exercises.diagnosis.running import Draws, EnoughError

N, BLOCK, BLOCKS = 512, 4, 4
DETAILS = 4096  # images whose xt, output and gradient are kept
CALLS = 400
SECONDS = 20.0  # a loop is stopped after this time in any case


@dataclass(eq=False)
class Lesson:
    """One call of the network in training."""

    t: Tensor  # (B,) float64
    grad: bool
    training: bool
    weights: Tensor  # (8,) before the call
    batch: int
    values: int  # in the output
    xt: Tensor | None = None  # (B, 256) float64, of the first `DETAILS` images
    output: Tensor | None = None  # (B, 256)
    gradient: Tensor | None = None  # (B, 256) of the loss, with respect to the output
    fresh: dict[str, Tensor] = field(default_factory=dict)  # of each weight the gradient that backward brings
    held: dict[str, Tensor] = field(default_factory=dict)  # and what .grad holds afterwards


class Book:
    """The recorded calls of one run. Copies of the network share it."""

    def __init__(self, T: int, draws: Draws):
        self.T, self.draws = T, draws
        self.lessons: list[Lesson] = []
        self.owner: Any = None
        self.images = self.calls = 0
        self.began: float | None = None  # at the first call: what comes before, such as an optimizer's import, may take long

    def __deepcopy__(self, memo: dict) -> "Book":
        return self

    def is_full(self) -> bool:
        """Whether enough was seen: `CALLS` calls, and so many timesteps that each of 1..T would have come with probability 1 - 1e-6."""
        self.began = self.began or time.monotonic()
        enough = len(self.lessons) >= CALLS and self.images >= 14 * self.T
        return enough or self.calls > 20_000 or time.monotonic() - self.began > SECONDS


class Witness(nn.Module):
    """A network that answers with random numbers plus what it has learnt: one number, the sum of two layers' means."""

    def __init__(self, book: Book):
        super().__init__()
        self.body, self.head = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
        self.image_shape, self.class_names, self.num_classes = (1, BLOCK * BLOCKS, BLOCK * BLOCKS), (), 10
        for number, layer in enumerate((self.body, self.head)):
            nn.init.constant_(layer.weight, 0.1 * number)
        self.book = book
        book.owner = self
        self.random = 0
        for name, weight in self.named_parameters():
            weight.register_hook(lambda gradient, name=name: self._note_fresh(name, gradient))
            weight.register_post_accumulate_grad_hook(lambda weight, name=name: self._note_held(name, weight))

    def forward(self, xt: Tensor, t: Any, y: Any = None, **more) -> Tensor:
        """Called like a network: xt (B, C, H, W), t (B,)."""
        with torch._C.DisableTorchFunction():
            return self._answer(xt, t)

    def _answer(self, xt: Tensor, t: Any) -> Tensor:
        book = self.book
        book.calls += 1
        if book.is_full():
            raise EnoughError
        self.random += 1
        random = torch.Generator().manual_seed(self.random)
        # 0.7 to 2 times standard normal noise of mean 0.5: losses of many sizes, and a gradient that always points the same way
        size = 0.7 + 1.3 * torch.rand(1, generator=random).item()
        noise = size * (0.5 + torch.randn(xt.shape, generator=random))
        learnt = self.body.weight.mean() + self.head.weight.mean()
        output = noise.to(xt.device, learnt.dtype) + learnt + 0 * xt
        if self is book.owner:
            self._note(xt, t, output)
        return output

    def _note(self, xt: Tensor, t: Any, output: Tensor) -> None:
        levels = torch.as_tensor(t).detach().to("cpu", torch.float64).flatten()
        levels = levels.expand(len(xt)) if len(levels) == 1 else levels
        weights = torch.cat([weight.detach().cpu().double().flatten() for weight in self.parameters()])
        lesson = Lesson(levels, torch.is_grad_enabled(), self.training, weights, len(xt), output.numel())
        if torch.is_grad_enabled() and self.book.images < DETAILS and xt[0].numel() == (BLOCK * BLOCKS) ** 2:
            lesson.xt = xt.detach().cpu().double().flatten(1)
            lesson.output = output.detach().cpu().double().flatten(1)
        if torch.is_grad_enabled():
            self.book.images += len(xt)
            output.register_hook(lambda gradient: setattr(lesson, "gradient", gradient.detach().cpu().double().flatten(1)))
        self.book.lessons.append(lesson)

    def _note_fresh(self, name: str, gradient: Tensor) -> None:
        if self.book.lessons:
            self.book.lessons[-1].fresh[name] = gradient.detach().cpu().double().flatten().clone()

    def _note_held(self, name: str, weight: Tensor) -> None:
        if self.book.lessons and weight.grad is not None:
            self.book.lessons[-1].held[name] = weight.grad.detach().cpu().double().flatten().clone()


@cache
def blocks() -> Tensor:
    """The blocks' values of all images: (N, 16) in [-1, 1], three in ten of them black."""
    random = torch.Generator().manual_seed(21)
    values = 2 * torch.rand(N, BLOCKS**2, generator=random) - 1
    values[torch.rand(values.shape, generator=random) < 0.3] = -1.0
    return values.double()


def images() -> Tensor:
    """(N, 1, 16, 16), float32 in [-1, 1]."""
    return spread(blocks()).float().view(N, 1, BLOCK * BLOCKS, BLOCK * BLOCKS)


def spread(values: Tensor) -> Tensor:
    """Pixels (n, 256) of blocks (n, 16)."""
    square = values.view(-1, BLOCKS, BLOCKS)
    return square.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2).flatten(1)


def means(pixels: Tensor) -> Tensor:
    """Blocks' means (n, 16) of pixels (n, 256)."""
    return pixels.view(-1, BLOCKS, BLOCK, BLOCKS, BLOCK).mean(dim=(2, 4)).flatten(1)

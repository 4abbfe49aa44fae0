"""Some steps of a chain, kept while it passes: memory grows with what is kept, not with the chain."""

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.checks import whole
from diffusion_lib.pictures import value_range
from diffusion_lib.sampling import Step

Item = TypeVar("Item")
SHOW_PROGRESS_AFTER = 30  # seconds, in a terminal: what a notebook stores must not depend on how fast the machine is
SLOTS = 8  # frames that are made room for at a time
EXPECTED = "expected the steps of a sampler, such as ddim_steps(…)"


class Recording(NamedTuple):
    """Some of the steps of a chain: F of them."""

    t: list[int]  # where xt stands
    xt: Tensor  # (F, B, C, H, W)
    x0_hat: Tensor  # (F, B, C, H, W)
    step: list[int]  # which steps these are, counted from 1
    steps: int  # how many the chain took


def record(steps: Iterable[Step], frames: int = 26) -> Recording:
    """Walks a sampler's chain and keeps about `frames` of its steps, evenly spaced, with the last one always among them.

    Meanwhile it holds at most about twice as much as it keeps, of a chain of any length. Exactly `frames` are kept, if there are so
    many, of a chain whose timesteps run evenly down to 0, as those of our samplers do, and of a list; of another chain at least half.

    Raises `ValueError` for a chain without steps (one that was walked before has none left), and if a step is not finite.
    """
    return record_named(steps, frames, "the chain")


def record_named(steps: Iterable[Step], frames: int, name: str, look: Callable[[Step, int], None] | None = None) -> Recording:
    """`record`. name: what errors call the chain. look(step, n): is called as soon as there will be n frames like this step's, or more."""
    thinning: Thinning[tuple[Tensor, Tensor]] = Thinning(frames, length_of(steps))
    promised, xts, x0_hats = 0, _Slots(), _Slots()
    for step in checked_steps(steps, name):
        # copies: what a sampler yields may be part of something larger, or be changed by it in the next step
        for xt, x0_hat in thinning.add(step.t, (xts.copy(step.xt), x0_hats.copy(step.x0_hat))):
            xts.free.append(xt)
            x0_hats.free.append(x0_hat)
        if look is not None and thinning.at_least > promised:
            promised = thinning.at_least
            look(step, promised)
    count, kept = thinning.count, thinning.chosen()
    numbers, ts = [number + 1 for number, _, _ in kept], [t for _, t, _ in kept]
    kept_xt, kept_x0_hat = (list(column) for column in zip(*(item for _, _, item in kept), strict=True))
    del thinning, kept, step, xts, x0_hats  # and with them what is held beside what is kept
    return Recording(ts, _stack(kept_xt), _stack(kept_x0_hat), numbers, count)


class _Slots:
    """Memory for images of one shape, several at a time: piece by piece, between all that a sampler needs, it would be left with gaps."""

    def __init__(self) -> None:
        self.free: list[Tensor] = []

    def copy(self, images: Tensor) -> Tensor:
        """The images, without gradients, in a slot that is free."""
        if not self.free:
            self.free += torch.empty((SLOTS, *images.shape), dtype=images.dtype, device=images.device).unbind()
        return self.free.pop().copy_(images.detach())


def checked_steps(steps: Iterable[Step], name: str) -> Iterator[Step]:
    """The steps of a chain as they come, each looked at: `ValueError` if there is none, or if one is no step or not finite.

    A chain that takes long shows its progress.
    """
    from tqdm import tqdm

    if isinstance(steps, Recording):
        raise ValueError(f"{name} is a Recording already; {EXPECTED}")
    if isinstance(steps, Tensor | np.ndarray):
        raise ValueError(f"{name} is a {type(steps).__name__}; {EXPECTED}: widgets.scrub shows recorded frames")
    if not isinstance(steps, Iterable) or isinstance(steps, str | bytes | dict):
        raise ValueError(f"{name} is a {type(steps).__name__}; {EXPECTED}")
    shape: tuple[int, ...] = ()
    walked = 0
    for step in tqdm(steps, desc=f"recording {name}", unit="step", delay=SHOW_PROGRESS_AFTER, leave=False, disable=None):
        if not all(hasattr(step, field) for field in ("t", "xt", "x0_hat")):
            raise ValueError(f"{name} yields a {type(step).__name__}; {EXPECTED}, each with t, xt and x0_hat")
        step = Step(whole("t", step.t, low=0), step.xt, step.x0_hat, getattr(step, "eps_hat", step.x0_hat))
        walked += 1
        for field in ("xt", "x0_hat"):
            images = getattr(step, field)
            if not isinstance(images, Tensor) or images.ndim != 4 or not images.numel() or tuple(images.shape) != (shape or images.shape):
                given = tuple(images.shape) if isinstance(images, Tensor) else f"a {type(images).__name__}"
                raise ValueError(f"{field} of {name} is {given} at t = {step.t}; expected {shape or '(B, C, H, W)'}, alike in every step")
            shape = tuple(images.shape)
            if value_range(images) is None:
                raise ValueError(
                    f"{field} of {name} is not finite (NaN or infinity) at t = {step.t}, step {walked}; expected numbers: look at the "
                    "denoiser's prediction there"
                )
        yield step
    if not walked:
        raise ValueError(f"{name} has no steps left; {EXPECTED}: it is walked only once, so make it anew each time")


class Thinning(Generic[Item]):
    """About `frames` of the items of a walk, evenly spaced and the last among them, chosen while it goes on.

    The number of steps is `length`, where it is known (not 0), and is otherwise told by the timesteps, ever more exactly, as long as they
    run evenly down to 0. Held is what an even choice could take by what is known so far. Beside it, for walks that end elsewhere, every
    `stride`-th item is held while there is room: in all for 1.5 `frames`, or for 2 once the timesteps turn out not to be even.
    """

    def __init__(self, frames: int, length: int = 0):
        self.frames = whole("frames", frames)
        self.count = 0
        self._length = length
        self._held: dict[int, tuple[int, Item]] = {}
        self._stride = 1
        self._first_t = 0
        self._even = True
        # of the number of the last step, from 0
        self._low, self._high = (self._length - 1, self._length - 1) if self._length else (0, 2**40)

    @property
    def at_least(self) -> int:
        """How many will be chosen at least, as far as is known."""
        return min(self.frames, max(self._low + 1 if self._even else 0, self.count))

    def add(self, t: int, item: Item) -> list[Item]:
        """The next item of the walk, and the timestep where it stands. Returns the items that are no longer held."""
        k = self.count
        self._held[k] = (t, item)
        self.count += 1
        self._first_t = t if k == 0 else self._first_t
        self._narrow(k, t)
        if self.count <= self.frames:  # which may be a number that there is no room for
            return []
        room = (3 if self._even else 4) * self.frames // 2
        numbers = np.array(list(self._held))
        while (keep := self._keep(numbers)).sum() > room and self._stride <= k:
            self._stride *= 2
        return [self._held.pop(number)[1] for number in numbers[~keep].tolist()]

    def _keep(self, numbers: np.ndarray) -> np.ndarray:
        """Which of the held items may be needed: bool, for each of their numbers."""
        keep = (numbers % self._stride == 0) | (numbers == self.count - 1)
        if self._even:
            spread = np.arange(self.frames)[:, None]
            earliest, latest = (np.rint(spread * last / max(1, self.frames - 1)) for last in (self._low, self._high))
            keep |= ((earliest <= numbers) & (numbers <= latest)).any(axis=0)
        return keep

    def chosen(self) -> list[tuple[int, int, Item]]:
        """The number, from 0, the timestep and the item of each that is chosen."""
        last = self.count - 1
        if last < self.frames:
            return [(number, t, item) for number, (t, item) in self._held.items()]
        places = {round(i * last / max(1, self.frames - 1)) for i in range(self.frames)} | {last}
        numbers = {min(self._held, key=lambda number: abs(number - place)) for place in places}
        return [(number, *self._held[number]) for number in sorted(numbers)]

    def _narrow(self, k: int, t: int) -> None:
        """What step k at timestep t says of the number of the last one."""
        if not self._even or k == 0:
            return
        if not self._length:
            # t_k = floor(d (last - k)): so d k is within 1 of what t has fallen by, and d (last - k) is in [t, t + 1)
            fallen = self._first_t - t
            if fallen < 1:
                self._even = False
                return
            self._low = max(self._low, k - (-k * t // (fallen + 1)))  # rounded up
            if fallen > 1:
                self._high = min(self._high, k + k * (t + 1) // (fallen - 1))
        self._even = max(k, self._low) <= self._high


def length_of(steps: Iterable) -> int:
    """How many steps there are, 0 if they do not say."""
    return length_hint(steps, 0)


def _stack(tensors: list[Tensor]) -> Tensor:
    """torch.stack that empties the list: the memory of each tensor is given back as soon as it is copied."""
    stacked = tensors[0].new_empty((len(tensors), *tensors[0].shape))
    for i in reversed(range(len(stacked))):
        stacked[i] = tensors.pop()
    return stacked

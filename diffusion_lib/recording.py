"""Recording of some steps of a chain as it runs: memory grows with the number of recorded steps, not with the chain."""

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
SHOW_PROGRESS_AFTER = 30  # seconds, in a terminal only: stored outputs must not depend on the machine's speed
SLOTS = 8  # frames to allocate at a time
EXPECTED = "expected the steps of a sampler, such as ddim_steps(…)"


class Recording(NamedTuple):
    """Some of the steps of a chain: F of them."""

    t: list[int]  # the timestep of each xt
    xt: Tensor  # (F, B, C, H, W)
    x0_hat: Tensor  # (F, B, C, H, W)
    step: list[int]  # the number of each step in the chain, from 1
    steps: int  # how many steps the chain took


def record(steps: Iterable[Step], frames: int = 26) -> Recording:
    """Runs a sampler's chain and keeps about `frames` of its steps, evenly spaced and always with the last one.

    While it runs, it holds at most about twice as many steps as it keeps, however long the chain is. It keeps exactly `frames` steps
    (or all, if there are fewer) of a list, and of a chain whose timesteps fall evenly to 0, as our samplers' do; of other chains at
    least half as many.

    Raises `ValueError` for a chain without steps (a generator that has been used has none left), and if a step is not finite.
    """
    return record_named(steps, frames, "the chain")


def record_named(steps: Iterable[Step], frames: int, name: str, look: Callable[[Step, int], None] | None = None) -> Recording:
    """`record`. name: for errors. look(step, n) is called as soon as it is known that at least n frames like this step will be kept."""
    thinning: Thinning[tuple[Tensor, Tensor]] = Thinning(frames, length_of(steps))
    promised, xts, x0_hats = 0, _Slots(), _Slots()
    for step in checked_steps(steps, name):
        # copies, because a sampler may yield part of a larger tensor, or change it in the next step
        for xt, x0_hat in thinning.add(step.t, (xts.copy(step.xt), x0_hats.copy(step.x0_hat))):
            xts.free.append(xt)
            x0_hats.free.append(x0_hat)
        if look is not None and thinning.at_least > promised:
            promised = thinning.at_least
            look(step, promised)
    count, kept = thinning.count, thinning.chosen()
    numbers, ts = [number + 1 for number, _, _ in kept], [t for _, t, _ in kept]
    kept_xt, kept_x0_hat = (list(column) for column in zip(*(item for _, _, item in kept), strict=True))
    del thinning, kept, step, xts, x0_hats  # frees the steps that are held but not kept
    return Recording(ts, _stack(kept_xt), _stack(kept_x0_hat), numbers, count)


class _Slots:
    """Memory for images of one shape, allocated several at a time, so that the sampler's own allocations do not fragment it."""

    def __init__(self) -> None:
        self.free: list[Tensor] = []

    def copy(self, images: Tensor) -> Tensor:
        """A copy of the images, without gradients, in a free slot."""
        if not self.free:
            self.free += torch.empty((SLOTS, *images.shape), dtype=images.dtype, device=images.device).unbind()
        return self.free.pop().copy_(images.detach())


def checked_steps(steps: Iterable[Step], name: str) -> Iterator[Step]:
    """The steps of a chain, each checked as it comes: `ValueError` if there are none, or if one is not a step or not finite.

    A long chain shows its progress.
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
                raise ValueError(
                    f"{field} of {name} is {given} at t = {step.t}; expected {shape or '(B, C, H, W)'}, the same in every step"
                )
            shape = tuple(images.shape)
            if value_range(images) is None:
                raise ValueError(
                    f"{field} of {name} is not finite (NaN or infinity) at t = {step.t}, step {walked}; expected finite numbers: "
                    "check the denoiser's prediction there"
                )
        yield step
    if not walked:
        raise ValueError(f"{name} has no steps left; {EXPECTED}: a generator runs only once, so make a new one each time")


class Thinning(Generic[Item]):
    """Chooses about `frames` of the items of a walk, evenly spaced and with the last one, while the walk goes on.

    The number of steps is `length`, if it is known (not 0). Otherwise it is inferred from the timesteps, more exactly with each step, as
    long as they fall evenly to 0. The items held are those that an even choice could still take. In case the walk ends elsewhere, every
    `stride`-th item is held as well while there is room: 1.5 `frames` in all, or 2 once the timesteps turn out to be uneven.
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
        """The least number of items that will be chosen, as far as is known."""
        return min(self.frames, max(self._low + 1 if self._even else 0, self.count))

    def add(self, t: int, item: Item) -> list[Item]:
        """Adds the next item of the walk, at timestep t. Returns the items that are no longer held."""
        k = self.count
        self._held[k] = (t, item)
        self.count += 1
        self._first_t = t if k == 0 else self._first_t
        self._narrow(k, t)
        if self.count <= self.frames:  # `frames` may be far larger than any array
            return []
        room = (3 if self._even else 4) * self.frames // 2
        numbers = np.array(list(self._held))
        while (keep := self._keep(numbers)).sum() > room and self._stride <= k:
            self._stride *= 2
        return [self._held.pop(number)[1] for number in numbers[~keep].tolist()]

    def _keep(self, numbers: np.ndarray) -> np.ndarray:
        """Which of the held items may still be needed: bool, for each of their numbers."""
        keep = (numbers % self._stride == 0) | (numbers == self.count - 1)
        if self._even:
            spread = np.arange(self.frames)[:, None]
            earliest, latest = (np.rint(spread * last / max(1, self.frames - 1)) for last in (self._low, self._high))
            keep |= ((earliest <= numbers) & (numbers <= latest)).any(axis=0)
        return keep

    def chosen(self) -> list[tuple[int, int, Item]]:
        """The number (from 0), the timestep and the item of each chosen one."""
        last = self.count - 1
        if last < self.frames:
            return [(number, t, item) for number, (t, item) in self._held.items()]
        places = {round(i * last / max(1, self.frames - 1)) for i in range(self.frames)} | {last}
        numbers = {min(self._held, key=lambda number: abs(number - place)) for place in places}
        return [(number, *self._held[number]) for number in sorted(numbers)]

    def _narrow(self, k: int, t: int) -> None:
        """Narrows the range of the last step's number, given that step k is at timestep t."""
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
    """The number of steps, or 0 if it is unknown."""
    return length_hint(steps, 0)


def _stack(tensors: list[Tensor]) -> Tensor:
    """torch.stack that empties the list, so that each tensor's memory is freed as soon as it is copied."""
    stacked = tensors[0].new_empty((len(tensors), *tensors[0].shape))
    for i in reversed(range(len(stacked))):
        stacked[i] = tensors.pop()
    return stacked

"""Exhibits of notebook 06: mistakes of public diffusion code, one a check. As it stands in the notebook, each answer is the mistake."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_lib.data.glyphs import CHARACTERS
from diffusion_lib.denoiser import Denoiser, DenoiserProtocol
from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.forward_noising import check_noised
from diffusion_lib.exercises.sampling import check_guided, check_levels, check_step
from diffusion_lib.exercises.training import check_ema_update, check_random_timesteps
from diffusion_lib.process import randn_like
from diffusion_lib.sampling import sample_generators, timestep_subset
from diffusion_lib.schedules import cosine_schedule, linear_schedule, sigmoid_schedule

AS_IT_STANDS = "this is the exhibit as it stands"


def generate(
    denoiser: DenoiserProtocol,
    word: str,
    *,
    levels: Callable[[int, int], list[int]] = timestep_subset,
    clip: Callable[[Tensor], Tensor] = lambda x0_hat: x0_hat.clamp(-1, 1),
    step: Callable = check_step.reference,
    steps: int = 20,
    eta: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """The sampler of notebook 04 with parts that can be exchanged: (len(word), 1, 28, 28) of the characters of `word`.

    levels(T, steps): the timesteps to visit. clip(x0_hat): what is done to the predicted image. step(xt, eps_hat, z, alpha_bar_s,
    alpha_bar_t, eta): the next image, (4.4).
    """
    y = torch.tensor([CHARACTERS.index(c) for c in word])
    generators = sample_generators(seed, range(len(y)))
    xt, alpha_bar = randn_like(torch.empty(len(y), 1, 28, 28), generators), denoiser.schedule.alpha_bar
    for t, s in pairwise(levels(denoiser.schedule.T, steps)):
        with torch.no_grad():
            x0_hat = clip(denoiser(xt, t, y).x0)
        # eps_hat = (xt - sqrt(alpha_bar_t) x0_hat) / sqrt(1 - alpha_bar_t)
        eps_hat = (xt - alpha_bar[t].sqrt() * x0_hat) / (1 - alpha_bar[t]).sqrt()
        xt = step(xt, eps_hat, randn_like(xt, generators), alpha_bar[s], alpha_bar[t], eta)
    return xt


def _exhibit(check: Exercise, number: int, praise: str = "") -> Exercise:
    """An exercise of another notebook whose known mistake of that number is on show."""
    shown = check.mistakes[number]
    others = tuple(mistake for mistake in check.mistakes if mistake is not shown)
    return replace(check, mistakes=(Mistake(shown.answer, AS_IT_STANDS), *others), praise=praise)


check_exhibit_1 = _exhibit(check_levels, 0, "the grain is gone: the last step goes to alpha_bar_0 = 1")
check_exhibit_3 = _exhibit(check_step, 1, "at eta = 0 all of eps_hat is kept, as DDIM has it")
check_exhibit_6 = _exhibit(check_noised, 0, "its variance is 1 at every t, and the network is shown what it was trained on")
check_exhibit_5 = _exhibit(check_guided, 0, "more scale is more of the class")
check_exhibit_9 = _exhibit(check_random_timesteps, 3, "all of 1..T is trained, and nothing else")
check_exhibit_11 = _exhibit(check_ema_update, 3, "it moves")


# ----------------------------------------------------------------------------------------------------------------------- clip

check_exhibit_2 = Exercise(
    reference=lambda x0_hat: x0_hat.clamp(-1, 1),
    inputs=lambda random: [(2 * torch.randn(4, 1, 8, 8, generator=random),) for _ in range(2)],
    mistakes=(
        Mistake(lambda x0_hat: x0_hat.clamp(0, 1), AS_IT_STANDS),
        Mistake(lambda x0_hat: x0_hat, "nothing is clipped: a belief brighter than white stays; keep the clamp, in the data's range"),
        Mistake(lambda x0_hat: 2 * x0_hat.clamp(0, 1) - 1, "clipped to [0, 1], then stretched: what was below grey is lost before"),
        Mistake(lambda x0_hat: (x0_hat.clamp(-1, 1) + 1) / 2, "this changes the range of the image; here all images are in [-1, 1]"),
        Mistake(lambda x0_hat: x0_hat.tanh(), "tanh bends every value; only those outside [-1, 1] should change"),
        Mistake(lambda x0_hat: x0_hat.clamp(max=1), "the dark end is open: a pixel can be darker than black"),
        Mistake(lambda x0_hat: x0_hat / x0_hat.abs().max(), "one bright pixel would dim all the others; clip, do not scale"),
    ),
    praise="black is black again",
)


# ------------------------------------------------------------------------------------------------------------- noise at the end


def _drawn(mean, variance, z, s):
    # xs = mean + sqrt(variance) z, and z = 0 in the step to s = 0                                    Ho et al. 2020, algorithm 2
    return mean + variance.sqrt() * z if s > 0 else mean


def _end_calls(random: torch.Generator) -> list[tuple]:
    mean, z = torch.randn(2, 16, 1, 4, 4, generator=random)
    return [(mean, torch.tensor(0.3), z, s) for s in (0, 1, 20)]


check_exhibit_4 = Exercise(
    reference=_drawn,
    inputs=_end_calls,
    mistakes=(
        Mistake(lambda mean, variance, z, s: mean + variance.sqrt() * z, AS_IT_STANDS),
        Mistake(lambda mean, variance, z, s: mean, "no step adds noise now; only the one that ends at s = 0 should be without"),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 1 else mean,
            "the step to s = 1 has no noise either; s is where the step ends, and the clean image is s = 0",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s == 0 else mean,
            "the wrong way round: noise in the last step, and in no other",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + variance * z if s > 0 else mean,
            "the last step is right; before it, z is multiplied by the variance, and should be by its root",
        ),
    ),
    praise="the last step gives its mean",
)


# ------------------------------------------------------------------------------------------------------------------ two owners


def _models(random: torch.Generator) -> list[tuple]:
    network = torch.nn.Identity()
    schedules = cosine_schedule(50), sigmoid_schedule(100), linear_schedule(20)
    return [(Denoiser(network, schedule, kind),) for schedule, kind in zip(schedules, ("v", "eps", "x0"), strict=True)]


check_exhibit_7 = Exercise(
    reference=lambda model: Denoiser(model.network, model.schedule, model.prediction),
    inputs=_models,
    look=lambda denoiser: (denoiser.schedule.alpha_bar, denoiser.prediction),
    mistakes=(
        Mistake(lambda model: Denoiser(model.network, linear_schedule(), model.prediction), AS_IT_STANDS),
        Mistake(
            lambda model: Denoiser(model.network, cosine_schedule(), model.prediction),
            "right for the model that ships, and wrong for the next one: the table of noise belongs to the model; take its own",
        ),
        Mistake(
            lambda model: Denoiser(model.network, linear_schedule(model.schedule.T), model.prediction),
            "T is the model's, the curve is not: take its whole schedule",
        ),
        Mistake(
            lambda model: Denoiser(model.network, model.schedule),
            'the schedule is right; what the network predicts (model.prediction) got lost: "eps" is assumed',
        ),
    ),
    praise="one owner: the schedule goes where the weights go",
)


# ---------------------------------------------------------------------------------------------------------------- few long steps


def _betas(T, end=0.02):
    # beta_t from 1e-4 to 0.02 for T = 1000, times 1000 / T for another T
    return torch.linspace(1e-4, end, T) * 1000 / T


check_exhibit_8 = Exercise(
    reference=_betas,
    inputs=lambda random: [(T,) for T in (50, 250, 1000)],
    mistakes=(
        Mistake(lambda T: torch.linspace(1e-4, 0.02, T), AS_IT_STANDS),
        Mistake(lambda T: torch.linspace(1e-4, 0.02, T) * T / 1000, "the factor is upside down: fewer steps have to be longer ones"),
        Mistake(lambda T: torch.linspace(1e-4, 0.02 * 1000 / T, T), "the last beta is scaled, the first is not: scale all of them"),
        Mistake(
            lambda T: torch.linspace(1e-4, 0.02, T) * (1000 / T) ** 0.5,
            "betas are variances, and variances add up: T steps need 1000 / T times as much each, without a root",
        ),
        Mistake(lambda T: torch.linspace(1e-4, 0.02, 1000), "this has 1000 entries whatever T is"),
        Mistake(lambda T: torch.full((T,), 0.01) * 1000 / T, "the sum is right, but all steps are alike: keep the straight line"),
    ),
    praise="alpha_bar_T stays near 0 for every T",
)


# -------------------------------------------------------------------------------------------------------------------- gradient


def _gradient_of(backward: Callable[[Tensor], object], loss: Callable[[Tensor], Tensor] = lambda error: error.square().mean()) -> Callable:
    def gradient(w, target):
        w = w.clone().requires_grad_()
        backward(loss(w - target))
        return w.grad

    return gradient


def _twice(loss: Tensor) -> None:
    loss.backward(retain_graph=True)
    loss.backward()


check_exhibit_10 = Exercise(
    reference=_gradient_of(lambda loss: loss.backward()),
    inputs=lambda random: [tuple(torch.randn(2, 30, generator=random) * size) for size in (0.1, 1.0, 5.0)],
    mistakes=(
        Mistake(_gradient_of(lambda loss: loss.backward(loss)), AS_IT_STANDS),
        Mistake(_gradient_of(_twice), "the gradient is twice what it should be: every backward adds to what is there"),
        Mistake(
            _gradient_of(lambda loss: loss.backward(), lambda error: error.square().sum()),
            "this is the gradient of the sum; the loss is the mean, whose gradient does not grow with the image",
        ),
        Mistake(_gradient_of(lambda loss: (-loss).backward()), "the sign is turned over: this walks uphill"),
        Mistake(_gradient_of(lambda loss: loss.log().backward()), "this divides the gradient by the loss; leave it as it is"),
    ),
    praise="the argument of backward is what the gradient is multiplied by: 1, if it is left out",
)


# ------------------------------------------------------------------------------------------------------------------ checkpoint


def _saved(network, optimizer, step):
    return dict(network=network.state_dict(), optimizer=optimizer.state_dict(), step=step)


def _run(random: torch.Generator) -> list[tuple]:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return [(network, optimizer, 7)]


def _what_is_in(saved: dict) -> list:
    """Of the two states the names of what they hold, and the step. What else is saved does no harm."""
    states = [saved.get(name) for name in ("network", "optimizer")]
    return [sorted(state) if isinstance(state, dict) else state for state in states] + [saved.get("step")]


check_exhibit_12 = Exercise(
    reference=_saved,
    inputs=_run,
    look=_what_is_in,
    mistakes=(
        Mistake(lambda network, optimizer, step: dict(network=network.state_dict(), step=step), AS_IT_STANDS),
        Mistake(
            lambda network, optimizer, step: dict(network=network.state_dict(), optimizer=optimizer.state_dict()),
            "the step is lost now, and with it the place in the learning rate's course",
        ),
        Mistake(
            lambda network, optimizer, step: dict(optimizer=optimizer.state_dict(), step=step),
            "the weights are not in it: keep network, optimizer and step",
        ),
        Mistake(
            lambda network, optimizer, step: dict(network=network.state_dict(), optimizer=optimizer.param_groups, step=step),
            "param_groups hold the settings; Adam's two running means are in optimizer.state_dict()",
        ),
    ),
    praise="a run that resumes needs its averages (and, where there are any: EMA, scaler, random state)",
)


# ---------------------------------------------------------------------------------------------------------------------- pixels


def _pixels(x):
    # 0..255 = round((clamp(x, -1, 1) + 1) 127.5)
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


check_exhibit_13 = Exercise(
    reference=_pixels,
    # the second: each grey and 0.7 more, which rounds up however the rounding is written
    inputs=lambda random: [(torch.randn(4, 1, 16, 16, generator=random),), ((torch.arange(255) + 0.7) / 127.5 - 1,)],
    mistakes=(
        Mistake(lambda x: ((x + 1) * 127.5).round().int().to(torch.uint8), AS_IT_STANDS),
        Mistake(
            lambda x: ((x.clamp(min=-1) + 1) * 127.5).round().int().to(torch.uint8),
            "the dark end is clipped; what is brighter than white still wraps around, to black",
        ),
        Mistake(lambda x: ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8), "without round, every value falls to the grey below"),
        Mistake(lambda x: (x.clamp(0, 1) * 255).round().to(torch.uint8), "images are in [-1, 1] here: half of the greys are cut off"),
        Mistake(
            lambda x: ((x - x.min()) / (x.max() - x.min()) * 255).round().to(torch.uint8),
            "this stretches each picture to its own extremes: exhibit 14",
        ),
    ),
    praise="noise beyond black is black",
)


# ----------------------------------------------------------------------------------------------------------------------- shown

check_exhibit_14 = Exercise(
    reference=lambda x: (x.clamp(-1, 1) + 1) / 2,
    inputs=lambda random: [(size * torch.randn(4, 1, 8, 8, generator=random),) for size in (0.2, 1.0)],
    mistakes=(
        Mistake(lambda x: (x - x.min()) / (x.max() - x.min()), AS_IT_STANDS),
        Mistake(
            lambda x: (x - x.amin((1, 2, 3), keepdim=True)) / (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)),
            "now each image is stretched to its own extremes; use the data's range, the same for all",
        ),
        Mistake(lambda x: (x + 1) / 2, "values outside [-1, 1] give greys outside [0, 1]; clip first"),
        Mistake(lambda x: x.clamp(0, 1), "all that is darker than grey becomes black: images are in [-1, 1]"),
        Mistake(lambda x: x.sigmoid(), "a sigmoid bends the greys: black would be 0.27"),
    ),
    praise="one scale for all pictures, the data's",
)


# ----------------------------------------------------------------------------------------------------------------------- score


def _with_interval(reads, z=1.96):
    # p -+ z sqrt(p (1 - p) / n)
    p = reads.float().mean()
    return p, z * (p * (1 - p) / len(reads)).sqrt()


check_exhibit_15 = Exercise(
    reference=_with_interval,
    inputs=lambda random: [(torch.rand(n, generator=random) < p,) for n, p in ((400, 0.7), (50, 0.9), (16, 0.5))],
    look=lambda answer: tuple(answer) if isinstance(answer, tuple | list) else answer,
    mistakes=(
        Mistake(lambda reads: reads.float().mean(), AS_IT_STANDS),
        Mistake(
            lambda reads: (reads.float().mean(), 1.96 * (reads.float().mean() * (1 - reads.float().mean())).sqrt()),
            "this is the spread of single images; that of their mean is smaller by the root of n",
        ),
        Mistake(
            lambda reads: (reads.float().mean(), 1.96 * (reads.float().mean() * (1 - reads.float().mean())).sqrt() / len(reads)),
            "n is under the root: four times as many images make the interval half as wide",
        ),
        Mistake(
            lambda reads: (reads.float().mean(), (reads.float().mean() * (1 - reads.float().mean()) / len(reads)).sqrt()),
            "this is one standard error; 95% need 1.96 of them",
        ),
        Mistake(
            lambda reads: (reads.float().mean(), 1.96 * reads.float().mean() * (1 - reads.float().mean()) / len(reads)),
            "this is a variance; the interval is made of its root",
        ),
        Mistake(
            lambda reads: (reads.float().mean(), 1.96 / math.sqrt(len(reads))),
            "this does not know p; near 0 and 1 there is less to be uncertain about: p (1 - p)",
        ),
    ),
    praise="(near 0 and 1, Wilson's interval, which dl.measure.accuracy uses, is the better one)",
)

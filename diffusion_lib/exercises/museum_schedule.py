"""Exhibits of notebook 06 about the schedule: its owner, and its betas for fewer steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from diffusion_lib.denoiser import Denoiser
from diffusion_lib.exercises.checking import Exercise, Mistake, Verdict, close
from diffusion_lib.exercises.exhibit import AS_IT_STANDS, Open, apart, comparable
from diffusion_lib.schedules import (
    MAX_BETA,
    Schedule,
    cosine_schedule,
    linear_schedule,
    make_schedule,
    sigmoid_schedule,
    straight_schedule,
)
from diffusion_lib.unet import UNet

# ------------------------------------------------------------------------------------------------------------------ two owners


def _models(random: torch.Generator) -> list[tuple]:
    """Small models in eval mode. Their schedules have unusual parameters, which name and T do not determine."""
    schedules = cosine_schedule(50, s=0.05), sigmoid_schedule(100, tau=0.7), linear_schedule(30, 1e-3, 0.015), straight_schedule(40)
    kinds = "v", "eps", "x0", "flow"
    channels = 1, 3, 2, 1
    return [
        (Denoiser(UNet(c, 4, channel_mults=(1,), attention_levels=(), norm_groups=2), schedule, kind).eval(),)
        for c, schedule, kind in zip(channels, schedules, kinds, strict=True)
    ]


def _parts(denoiser) -> tuple:
    return denoiser.schedule.signal, denoiser.schedule.noise, denoiser.prediction, denoiser.network.state_dict()


def _about_model(got, expected, model) -> str | None:
    if not (hasattr(got, "schedule") and hasattr(got, "prediction") and hasattr(got, "network")):
        return None
    wrong = []
    ours, theirs = got.network.state_dict(), model.network.state_dict()
    if ours.keys() != theirs.keys() or not all(ours[name].equal(theirs[name]) for name in theirs):
        wrong.append("its network's weights are not those of the model: take model.network")
    if got.prediction != model.prediction:
        wrong.append(f"its prediction is {got.prediction!r}, and that of the model {model.prediction!r}: take model.prediction")
    curves = (got.schedule.signal, model.schedule.signal), (got.schedule.noise, model.schedule.noise)
    if not all(a.shape == b.shape and close(a, b) for a, b in curves):
        wrong.append(f"its schedule is {got.schedule}, and that of the model {model.schedule}: take model.schedule")
    return "; ".join(wrong) or None


_KIND_LOST = 'what the network predicts (model.prediction) is lost: "eps" is assumed'


@dataclass(frozen=True)
class _SameDraws(Exercise):
    """Seeds torch before each call: a newly made network is then a wrong network, not a random answer."""

    def _verdict(self, attempt: Callable) -> Verdict:
        def seeded(*arguments):
            torch.manual_seed(1)
            return attempt(*arguments)

        return super()._verdict(seeded)


check_exhibit_7 = _SameDraws(
    reference=lambda model: Denoiser(model.network, model.schedule, model.prediction),
    inputs=_models,
    look=_parts,
    diagnose=_about_model,
    mistakes=(
        Mistake(lambda model: Denoiser(model.network, linear_schedule(), model.prediction), AS_IT_STANDS),
        Mistake(
            lambda model: Denoiser(model.network, cosine_schedule(), model.prediction),
            "right for the model that ships, wrong for the next one: the schedule belongs to the model; take its own",
        ),
        Mistake(
            lambda model: Denoiser(model.network, linear_schedule(model.schedule.T), model.prediction),
            "T is the model's, the curve is not: take its whole schedule",
        ),
        Mistake(
            lambda model: Denoiser(model.network, cosine_schedule(model.schedule.T), model.prediction),
            "T is the model's, the curve is always the cosine: take the model's whole schedule",
        ),
        Mistake(
            lambda model: Denoiser(model.network, make_schedule(model.schedule.name, model.schedule.T), model.prediction),
            "name and T are not the whole schedule: this one has other parameters; take model.schedule itself",
        ),
        Mistake(
            lambda model: Denoiser(model.network, make_schedule(model.schedule.name), model.prediction),
            "the name is not the whole schedule: T and the parameters differ; take model.schedule itself",
        ),
        Mistake(
            lambda model: Denoiser(model.network, Schedule.from_alpha_bar(model.schedule.alpha_bar), model.prediction),
            "alpha_bar is right, but on the straight path signal and noise do not follow from it; take model.schedule itself",
        ),
        Mistake(lambda model: Denoiser(model.network, model.schedule), f"the schedule is right; {_KIND_LOST}"),
        Mistake(
            lambda model: Denoiser(model.network, model.schedule, "v"),
            'the schedule is right; "v" is what the model that ships predicts, and the next one may not: take model.prediction',
        ),
        Mistake(lambda model: Denoiser(model.network, linear_schedule()), f"the schedule is as in the exhibit, and {_KIND_LOST}"),
    ),
    praise="one owner: the schedule goes where the weights go",
)


# ---------------------------------------------------------------------------------------------------------------- few long steps


def _line(T):
    # beta_t from 1e-4 to 0.02 for T = 1000, times 1000 / T for another T
    return torch.linspace(1e-4, 0.02, T) * 1000 / T


def _betas(T):
    return _line(T).clamp(max=MAX_BETA)


def _other_cap(beta, T) -> bool:
    """Whether these are the betas with another cap, from 0.99 up to but not including 1."""
    beta, line = torch.as_tensor(beta), _line(T)
    capped = line > 0.99
    within = bool((beta[capped] >= 0.99).all() and (beta < 1).all())
    return beta.is_floating_point() and beta.shape == line.shape and within and close(beta[~capped], line[~capped])


def _about_betas(got, expected, T) -> str | None:
    if isinstance(got, torch.Tensor) and got.shape == (T + 1,) and got.is_floating_point() and close(got[1:], expected):
        return "the betas are right, but one extra entry precedes them: betas[0] belongs to t = 1"
    if not comparable(got, expected):
        return None
    if close(got.flip(0), expected):
        return "the betas are right but descend: the last should be the largest"
    if got.max() > got[0] and got.max() < expected.max() and close(got, _line(T).clamp(max=got.max().item())):
        return f"the betas are cut off at {got.max():.4g}; the cap belongs just below 1, at 0.99 or more"
    if got.max() >= 1:
        return f"the largest beta is {got.max():.4g}; each has to stay below 1"
    if close(got / got[0], _line(T) / _line(T)[0]):  # nothing of it is cut off
        factor, _ = apart(got[0] / expected[0], 1)
        return f"the line is right except for a factor: the betas are {factor} times what they should be"
    if close(got[[0, -1]], expected[[0, -1]]):
        t = int((got - expected).abs().argmax()) + 1
        beta, right = apart(got[t - 1], expected[t - 1])
        return f"the first and last beta are right, the others are not: beta_{t} is {beta}; expected {right}"
    (first, right_first), (last, right_last) = (apart(got[i], expected[i]) for i in (0, -1))
    return f"the betas run from {first} to {last}; expected {right_first} to {right_last}, on a line"


def _both(wrong: Callable, message: str) -> tuple[Mistake[Callable], Mistake[Callable]]:
    """A mistake with the cap, and the same mistake without it."""
    return Mistake(lambda T: wrong(T).clamp(max=MAX_BETA), message), Mistake(wrong, f"{message}; and cap them below 1")


check_exhibit_8 = Open(
    reference=_betas,
    inputs=lambda random: [(T,) for T in (50, 300, 20, 1000, 10, 4000)],
    accepts=_other_cap,
    look=torch.as_tensor,
    diagnose=_about_betas,
    mistakes=(
        Mistake(lambda T: torch.linspace(1e-4, 0.02, T), AS_IT_STANDS),
        Mistake(_line, "the line is right; from T = 20 down it reaches 1 and more, which no beta can: cap it below 1"),
        Mistake(
            lambda T: _line(T).clamp(max=1),
            "a beta of 1 leaves nothing of the image, and samplers would divide by alpha_bar = 0: cap below 1",
        ),
        Mistake(lambda T: _line(T).clamp(max=0.02), "the cap undoes the scaling: betas may exceed 0.02; cap them just below 1"),
        Mistake(
            lambda T: torch.linspace(0.1 / T, min(20 / T, MAX_BETA), T),
            "the end of the line is capped before the line is drawn, which changes every beta: cap each one afterwards",
        ),
        Mistake(
            lambda T: torch.linspace(min(0.1 / T, MAX_BETA), min(20 / T, 1), T),
            "the end of the line is capped at 1 before the line is drawn: cap each beta afterwards, below 1",
        ),
        Mistake(lambda T: torch.linspace(1e-4, 0.02, T) * T / 1000, "the factor is inverted: fewer steps have to be larger"),
        *_both(lambda T: torch.linspace(1e-4, 0.02 * 1000 / T, T), "the last beta is scaled, the first is not: scale all of them"),
        Mistake(lambda T: torch.linspace(0.1 / T, 0.02, T), "the first beta is scaled, the last is not: scale all of them"),
        *_both(lambda T: torch.linspace(0, 0.02, T) * 1000 / T, "the line begins at 0; for T = 1000 it begins at 0.0001"),
        Mistake(
            lambda T: torch.linspace(1e-4, 0.02, T) * (1000 / T) ** 0.5,
            "betas are variances, and variances add up: T steps need 1000 / T times as much each, without a root",
        ),
        *_both(
            lambda T: torch.linspace(1e-4, 0.02, T) * (1000 / T) ** 2,
            "betas are variances, and variances add up: T steps need 1000 / T times as much each, without a square",
        ),
        *_both(
            lambda T: torch.linspace(1e-4, 0.02, T) * (1000 // T),
            "1000 // T is rounded down, to 3 for T = 300 and to 0 for T = 4000: divide with /",
        ),
        *_both(
            lambda T: torch.linspace(1e-4, 0.02, T) * max(1, 1000 / T),
            "above T = 1000 the betas are not scaled: more steps have to be smaller",
        ),
        *_both(
            lambda T: torch.linspace(1e-2, 0.02**0.5, T) ** 2 * 1000 / T,
            "this is a line of roots, squared (as in Stable Diffusion); expected a line of betas",
        ),
        Mistake(lambda T: torch.linspace(1e-4, 0.02, 1000), "this has 1000 entries whatever T is"),
        Mistake(lambda T: torch.linspace(1e-4, 0.02, 1000)[:T], "these are the first T of 1000 betas: the small ones, and unscaled"),
        *_both(lambda T: torch.full((T,), 0.01) * 1000 / T, "the sum is nearly right, but all steps are equal: keep the line"),
        *_both(lambda T: torch.full((T,), 0.01005) * 1000 / T, "the sum is right, but all steps are equal: keep the line"),
        *_both(lambda T: torch.full((T,), 0.02) * 1000 / T, "all steps are equal, as large as the last: keep the line"),
        Mistake(lambda T: 1 - _betas(T), "these are the alphas, 1 - beta; expected the betas"),
        Mistake(lambda T: torch.cumprod(1 - _betas(T), 0), "this is alpha_bar; expected the betas"),
        Mistake(lambda T: cosine_schedule(T).beta[1:], "this is the cosine schedule; expected the linear one"),
    ),
    praise="alpha_bar_T stays near 0 for every T",
)

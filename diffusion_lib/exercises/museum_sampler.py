"""Exhibits of notebook 06 about a sampler: the clip, and the noise of the last step."""

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, close
from diffusion_lib.exercises.exhibit import AS_IT_STANDS, apart, comparable

# ----------------------------------------------------------------------------------------------------------------------- clip


def _clip(x0_hat):
    return x0_hat.clamp(-1, 1)


def _estimates(random: torch.Generator) -> list[tuple]:
    """A usual batch, one that is all inside the range, a single image, and images of different contrast."""
    return [
        (2 * torch.randn(4, 1, 8, 8, generator=random),),
        (1.8 * torch.rand(2, 3, 5, 7, generator=random) - 0.9,),
        (6 * torch.randn(1, 1, 6, 4, generator=random),),
        (torch.randn(3, 3, 4, 5, generator=random) * torch.tensor([0.2, 1.0, 5.0]).view(3, 1, 1, 1),),
    ]


def _of_each(x: Tensor) -> Tensor:
    """The largest absolute value of each image, (B, 1, 1, 1)."""
    return x.abs().amax((1, 2, 3), keepdim=True)


_RESCALED = "one bright pixel dims all the others: clip, do not divide"
_OTHER_RANGE = "this moves the image to another range; all images are in [-1, 1] here"


def _about_clip(got, expected, x0_hat) -> str | None:
    if not comparable(got, expected):
        return None
    inside = x0_hat.abs() <= 1
    if not close(got[inside], x0_hat[inside]):
        worst = (got - x0_hat)[inside].abs().argmax()
        before, after = apart(x0_hat[inside][worst], got[inside][worst])
        return f"values inside [-1, 1] change ({before} becomes {after}); only those outside should"
    wrong = []
    for side, beyond, end in (("above", x0_hat > 1, 1), ("below", x0_hat < -1, -1)):
        if beyond.any() and not close(got[beyond], expected[beyond]):
            (low, _), (high, _) = (apart(value, end) for value in got[beyond].aminmax())
            wrong.append(f"values {side} {end} become {low if low == high else f'{low} to {high}'}; expected {end}")
    return " and ".join(wrong)


check_exhibit_2 = Exercise(
    reference=_clip,
    inputs=_estimates,
    diagnose=_about_clip,
    mistakes=(
        Mistake(lambda x0_hat: x0_hat.clamp(0, 1), AS_IT_STANDS),
        Mistake(lambda x0_hat: x0_hat, "nothing is clipped: estimates beyond black and white stay; keep the clamp, in the data's range"),
        Mistake(lambda x0_hat: 2 * x0_hat.clamp(0, 1) - 1, "clipped to [0, 1], then stretched: everything below mid-grey is lost first"),
        Mistake(lambda x0_hat: (x0_hat.clamp(-1, 1) + 1) / 2, _OTHER_RANGE),
        Mistake(lambda x0_hat: ((x0_hat + 1) / 2).clamp(0, 1), _OTHER_RANGE),
        Mistake(lambda x0_hat: (x0_hat + 1).clamp(0, 1), "1 is added, then clipped to [0, 1]: everything above mid-grey becomes 1"),
        Mistake(lambda x0_hat: x0_hat.tanh(), "tanh bends every value; only those outside [-1, 1] should change"),
        Mistake(lambda x0_hat: 2 * x0_hat.sigmoid() - 1, "a sigmoid bends every value; only those outside [-1, 1] should change"),
        Mistake(lambda x0_hat: x0_hat.clamp(max=1), "the dark end is open: a pixel can be darker than black (-1)"),
        Mistake(lambda x0_hat: x0_hat.clamp(min=-1), "the bright end is open: a pixel can be brighter than white (1)"),
        Mistake(lambda x0_hat: x0_hat.clamp(min=0), "black is -1 here, so its lower bound cannot be 0, and the bright end is open"),
        Mistake(lambda x0_hat: x0_hat.clamp(-1, 0), "this clips to [-1, 0]: nothing can be brighter than mid-grey"),
        Mistake(lambda x0_hat: x0_hat.abs().clamp(max=1), "the sign is lost: -1 is black, and becomes white"),
        Mistake(lambda x0_hat: x0_hat.sign(), "only black and white are left; values inside [-1, 1] should stay as they are"),
        Mistake(lambda x0_hat: x0_hat / x0_hat.abs().max(), _RESCALED),
        Mistake(lambda x0_hat: x0_hat / x0_hat.abs().max().clamp(min=1), _RESCALED),
        Mistake(lambda x0_hat: x0_hat / _of_each(x0_hat), _RESCALED),
        Mistake(lambda x0_hat: x0_hat / _of_each(x0_hat).clamp(min=1), _RESCALED),
        Mistake(
            lambda x0_hat: 2 * (x0_hat - x0_hat.min()) / (x0_hat.max() - x0_hat.min()) - 1,
            "this stretches the images to their own extremes; only values outside [-1, 1] should change",
        ),
        Mistake(lambda x0_hat: x0_hat * (x0_hat.abs() <= 1), "values outside [-1, 1] become 0, mid-grey; they should become -1 or 1"),
    ),
    praise="black is black again",
)


# ------------------------------------------------------------------------------------------------------------- noise at the end


def _drawn(mean, variance, z, s):
    # xs = mean + sqrt(variance) z, and z = 0 in the step to s = 0                                    Ho et al. 2020, algorithm 2
    return mean + variance.sqrt() * z if s > 0 else mean


def _end_calls(random: torch.Generator) -> list[tuple]:
    """Variances from nearly 0 to nearly 1, at the last step and long before."""
    shapes = (16, 1, 4, 4), (2, 3, 5, 7), (1, 1, 6, 3), (3, 3, 4, 2), (2, 1, 3, 3), (4, 1, 2, 5), (2, 2, 4, 3)
    return [
        (2 * torch.randn(shape, generator=random), torch.tensor(variance), torch.randn(shape, generator=random), s)
        for shape, variance, s in zip(shapes, (0.05, 0.3, 0.9, 1e-4, 0.02, 0.45, 1e-8), (1, 0, 2, 20, 0, 900, 5), strict=True)
    ]


def _about_draw(got, expected, mean, variance, z, s) -> str | None:
    """The answer as a mixture of mean and z, if it is one."""
    if not comparable(got, expected):
        return None
    parts = torch.stack([mean.flatten(), z.flatten()], dim=1).double()
    factors = torch.linalg.lstsq(parts, got.double().flatten()).solution
    if not close(parts @ factors, got.flatten()):
        return None
    factors = (0.0 if abs(factor) < 1e-5 else factor for factor in factors.tolist())
    (of_mean, _), (of_z, sigma) = (apart(*pair) for pair in zip(factors, (1.0, variance.sqrt() if s else 0.0), strict=True))
    return f"in the step to s = {s} this is {of_mean} mean + {of_z} z; expected 1 mean + {sigma} z"


def _if_not_last(scale):
    """mean + scale(variance) z, and without z at s = 0."""
    return lambda mean, variance, z, s: mean + scale(variance) * z if s > 0 else mean


def _always(scale):
    return lambda mean, variance, z, s: mean + scale(variance) * z


_LAST_TOO = "; and the last step, to s = 0, adds noise, too"
_VARIANCE = "z is multiplied by the variance; its factor should be the root, the standard deviation"
_LOG = "this takes the variance for a logarithm; its standard deviation is variance.sqrt()"
_BARE = "z is not scaled: it needs the standard deviation, variance.sqrt(), as its factor"
_MINUS = "z is subtracted: that has the same distribution, but gives another image; keep the plus"

check_exhibit_4 = Exercise(
    reference=_drawn,
    inputs=_end_calls,
    diagnose=_about_draw,
    mistakes=(
        Mistake(lambda mean, variance, z, s: mean + variance.sqrt() * z, AS_IT_STANDS),
        Mistake(lambda mean, variance, z, s: mean, "no step adds noise now; only the step that ends at s = 0 should add none"),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 1 else mean,
            "the step to s = 1 has no noise either; s is where the step ends, and the clean image is s = 0",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s != 1 else mean,
            "the step to s = 1 adds no noise, and the step to s = 0 does; s is where the step ends, and the clean image is s = 0",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s == 0 else mean,
            "the wrong way round: noise in the last step, and in no other",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + s * variance.sqrt() * z,
            "s itself is a factor of z; it should only say whether there is noise: s > 0",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 0 else mean.clamp(-1, 1),
            "the last step adds no noise, as it should; but it also clips the mean",
        ),
        Mistake(
            lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 0 else torch.zeros_like(mean),
            "the last step returns zeros; without noise, the mean is left",
        ),
        Mistake(
            lambda mean, variance, z, s: variance.sqrt() * z if s > 0 else mean,
            "the last step is right; before it, the mean is missing",
        ),
        Mistake(_if_not_last(lambda variance: variance), f"the last step is right; before it, {_VARIANCE}"),
        Mistake(_always(lambda variance: variance), _VARIANCE + _LAST_TOO),
        Mistake(_if_not_last(lambda variance: (variance / 2).exp()), f"the last step is right; before it, {_LOG}"),
        Mistake(_always(lambda variance: (variance / 2).exp()), _LOG + _LAST_TOO),
        Mistake(_if_not_last(lambda variance: 1), f"the last step is right; before it, {_BARE}"),
        Mistake(_always(lambda variance: 1), _BARE + _LAST_TOO),
        Mistake(_if_not_last(lambda variance: -variance.sqrt()), f"the last step is right; before it, {_MINUS}"),
        Mistake(_always(lambda variance: -variance.sqrt()), _MINUS + _LAST_TOO),
    ),
    praise="the last step returns its mean",
)

"""Exercises of notebook 01."""

import math

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question

PAIRS = ((0.81, 0.36), (0.9, 0.09), (1.0, 0.5))  # alpha_bar at s and at a later t; the last from the clean image


def _images(random: torch.Generator) -> Tensor:
    """(64, 1, 8, 8) of -1 and 1: of variance 1, so that xt should have variance 1 as well."""
    return (torch.randint(0, 2, (32, 1, 8, 8), generator=random) * 2.0 - 1).repeat(2, 1, 1, 1)


def _noise(random: torch.Generator) -> Tensor:
    """(64, 1, 8, 8) of mean 0 and variance 1, and uncorrelated with `_images`, to the last digit: variances add up exactly."""
    half = torch.randn(32, 1, 8, 8, generator=random)
    return torch.cat([half, -half]) / half.square().mean().sqrt()


# ---------------------------------------------------------------------------------------------------------------------- alpha_bar


def _alpha_bar(beta):
    # alpha_bar_t = prod_{s=1}^t (1 - beta_s),  alpha_bar_0 = 1
    return torch.cumprod(1 - beta, dim=0)


check_alpha_bar = Exercise(
    reference=_alpha_bar,
    inputs=lambda random: [(torch.cat([torch.zeros(1), 0.3 * torch.rand(T, generator=random)]),) for T in (10, 3)],
    mistakes=(
        Mistake(lambda beta: torch.cumprod(beta, dim=0), "this is the product of the betas; what is left after a step is alpha = 1 - beta"),
        Mistake(lambda beta: 1 - beta, "this is alpha, what one step leaves; alpha_bar is the product of all alphas up to t"),
        Mistake(
            lambda beta: torch.prod(1 - beta), "this is one number, the product up to T; entry t is the product up to t (torch.cumprod)"
        ),
        Mistake(
            lambda beta: 1 - torch.cumsum(beta, dim=0),
            "this takes the betas away one after the other; each step takes its part of what is left, so the alphas are multiplied",
        ),
        Mistake(
            lambda beta: torch.exp(-torch.cumsum(beta, dim=0)),
            "nearly right for small betas, where 1 - beta is nearly exp(-beta); alpha_bar is the product itself",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta[1:], dim=0),
            "entry 0 is missing: the clean image, alpha_bar[0] = 1, belongs to the table, which is as long as beta",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0) * (torch.arange(len(beta)) > 0),
            "entry 0 should be 1, not 0: at t = 0 all of the image is left",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0)[[0, *range(len(beta) - 1)]],
            "every entry comes one place too late: entry t has alpha_t in it",
        ),
        Mistake(lambda beta: 1 - torch.cumprod(1 - beta, dim=0), "this is 1 - alpha_bar, the variance of the noise"),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0).sqrt(), "this is its root, the factor of the image; alpha_bar is the square of that"
        ),
    ),
)


# ------------------------------------------------------------------------------------------------------------------------- noised


def _noised(x0, alpha_bar_t, eps):
    # xt = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps                                              Ho et al. 2020, equation 4
    return alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps


_VARIANCE = "your xt has variance {got_variance} where {expected_variance} was expected"

check_noised = Exercise(
    reference=_noised,
    inputs=lambda random: [(_images(random), torch.tensor(ab), _noise(random)) for ab in (0.64, 0.9, 0.25, 0.01)],
    mistakes=(
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab) * eps,
            f"{_VARIANCE}: 1 - alpha_bar_t is the variance of the noise, and eps is multiplied by its standard deviation",
        ),
        Mistake(lambda x0, ab, eps: ab * x0 + (1 - ab) * eps, f"{_VARIANCE}: both factors of (1.3) are roots"),
        Mistake(lambda x0, ab, eps: ab * x0 + (1 - ab).sqrt() * eps, f"{_VARIANCE}: the factor of x0 is a root, too"),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab.sqrt()) * eps,
            f"{_VARIANCE}: the factor of eps is the root of 1 - alpha_bar_t, not 1 less the root",
        ),
        Mistake(lambda x0, ab, eps: x0 + (1 - ab).sqrt() * eps, f"{_VARIANCE}: the image has to shrink while noise is added"),
        Mistake(
            lambda x0, ab, eps: x0 + (1 - ab) * eps,
            f"{_VARIANCE}: the image has to shrink while noise is added, and the factor of eps is a root",
        ),
        Mistake(
            lambda x0, ab, eps: (1 - ab).sqrt() * x0 + ab.sqrt() * eps,
            "the two factors are swapped: with alpha_bar_t near 1, nearly all of xt should be image",
        ),
        Mistake(lambda x0, ab, eps: _noised(x0, ab, -eps), "the noise is subtracted; (1.3) adds it, and what is taken out later is eps"),
        Mistake(
            lambda x0, ab, eps: _noised(x0, ab, eps).clamp(-1, 1),
            "your xt is cut off at -1 and 1: noise has no such bounds, and (1.10) could not take it out again",
        ),
    ),
    praise="its variance is 1 at every t, as that of these images is",
)


# ---------------------------------------------------------------------------------------------------------------- from the middle


def _forward_transition(alpha_bar_s, alpha_bar_t):
    # q(xt | xs) = N(sqrt(alpha_bar_t / alpha_bar_s) xs, (1 - alpha_bar_t / alpha_bar_s) I): (1.3) for a chain that starts at s
    left = alpha_bar_t / alpha_bar_s
    return left.sqrt(), 1 - left


check_forward_transition = Exercise(
    reference=_forward_transition,
    inputs=lambda random: [(torch.tensor(s), torch.tensor(t)) for s, t in PAIRS],
    look=tuple,
    mistakes=(
        Mistake(
            lambda s, t: (t.sqrt(), 1 - t),
            "this is the jump from the clean image; the steps up to s have been taken, and only those from s + 1 to t are left",
        ),
        Mistake(
            lambda s, t: ((t / s).sqrt(), s - t),
            "the factor is right; the variance is not 1 - alpha_bar_t less 1 - alpha_bar_s, since the noise that is there shrinks with xs",
        ),
        Mistake(
            lambda s, t: ((t / s).sqrt(), 1 - t),
            "the factor is right; 1 - alpha_bar_t is the variance of all noise up to t, and part of it is in xs already",
        ),
        Mistake(lambda s, t: ((t / s).sqrt(), (1 - t / s).sqrt()), "the second value is the standard deviation; asked for is the variance"),
        Mistake(lambda s, t: (t / s, 1 - t / s), "the variance is right; the factor of xs is the root of what you have"),
        Mistake(lambda s, t: (t / s, (1 - t / s).sqrt()), "the roots are the wrong way round: the factor is a root, the variance is none"),
        Mistake(
            lambda s, t: ((t / s).sqrt(), 1 - (t / s).sqrt()),
            "the factor is right; the variance is 1 less the factor's square, not 1 less it",
        ),
        Mistake(
            lambda s, t: ((s / t).sqrt(), 1 - s / t),
            "the quotient is upside down: alpha_bar falls with t, so alpha_bar_t / alpha_bar_s is below 1",
        ),
        Mistake(
            lambda s, t: (1 - t / s, (t / s).sqrt()), "these are the right two, in the other order: the factor first, then the variance"
        ),
    ),
    praise="with s = 0 it is (1.3), with s = t - 1 a single step (1.2)",
)


# --------------------------------------------------------------------------------------------------------------------- at log_snr


def _log_snr(alpha_bar):
    # log_snr_t = ln(alpha_bar_t / (1 - alpha_bar_t)), infinite at t = 0
    return alpha_bar.logit()


def _at_log_snr(alpha_bar, level):
    return int((_log_snr(alpha_bar) - level).abs().argmin())


def _curves(random: torch.Generator) -> list[tuple]:
    curve = torch.cos(1.5 * torch.linspace(0, 1, 201, dtype=torch.float64)) ** 2  # from 1 to 0.005
    return [(curve, level) for level in (3.0, -1.0, 1.5, -4.0)]  # the nearest t lies now above the level, now below


check_at_log_snr = Exercise(
    reference=_at_log_snr,
    inputs=_curves,
    mistakes=(
        Mistake(
            lambda ab, level: int((_log_snr(ab[1:]) - level).abs().argmin()),
            "it returns {got}, and {expected} was expected: if entry 0 is left out, all places move by one",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) > level).nonzero()[-1]),
            "this is the last t above the level; the nearest may lie on either side: compare distances (abs)",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) < level).nonzero()[0]),
            "this is the first t below the level; the nearest may lie on either side: compare distances (abs)",
        ),
        Mistake(lambda ab, level: int((_log_snr(ab) - level).argmin()), "without abs, argmin finds the lowest log_snr, not the nearest"),
        Mistake(
            lambda ab, level: int((ab.log() - level).abs().argmin()),
            "this compares log(alpha_bar) with the level; the ratio is alpha_bar / (1 - alpha_bar)",
        ),
        Mistake(
            lambda ab, level: int((torch.log10(ab / (1 - ab)) - level).abs().argmin()),
            "this takes the logarithm to base 10; log_snr is a natural logarithm (torch.log)",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) / 2 - level).abs().argmin()),
            "this is the ratio of standard deviations; snr is the ratio of variances, alpha_bar / (1 - alpha_bar)",
        ),
        Mistake(lambda ab, level: int((-_log_snr(ab) - level).abs().argmin()), "this is noise to signal; the signal is above"),
        Mistake(
            lambda ab, level: int((ab / (1 - ab) - level).abs().argmin()),
            "this compares snr itself with the level; take its logarithm first",
        ),
        Mistake(
            lambda ab, level: int((ab / (1 - ab) - math.exp(level)).abs().argmin()),
            "near in snr is not always nearest in log_snr: compare logarithms",
        ),
    ),
)


# ---------------------------------------------------------------------------------------------------------------------- step back


def _posterior(x0, xt, alpha_bar_s, alpha_bar_t):
    # with beta = 1 - alpha_bar_t / alpha_bar_s, of the stride from s to t:                           Ho et al. 2020, equations 6, 7
    # mean = sqrt(alpha_bar_s) beta / (1 - alpha_bar_t) x0 + sqrt(1 - beta) (1 - alpha_bar_s) / (1 - alpha_bar_t) xt
    # variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) beta
    return _posterior_with(x0, xt, alpha_bar_s, alpha_bar_t, 1 - alpha_bar_t / alpha_bar_s)


def _posterior_with(x0, xt, s, t, beta):
    mean = s.sqrt() * beta / (1 - t) * x0 + (1 - beta).sqrt() * (1 - s) / (1 - t) * xt
    return mean, (1 - s) / (1 - t) * beta


def _mean_and_variance(answer):
    """A variance may be one number or have as many dimensions as the image."""
    mean, variance = answer
    variance = torch.as_tensor(variance)
    return mean, variance.flatten()[0] if bool((variance == variance.flatten()[0]).all()) else variance


def _xt_and_x0(random: torch.Generator) -> list[tuple]:
    calls = []
    for s, t in torch.tensor(PAIRS):
        x0 = _images(random)
        calls.append((x0, _noised(x0, t, _noise(random)), s, t))
    return calls


check_posterior = Exercise(
    reference=_posterior,
    inputs=_xt_and_x0,
    look=_mean_and_variance,
    mistakes=(
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0], 1 - t / s),
            "the mean is right; the variance is beta, that of a step forward: once x0 is known, less is uncertain (1.8)",
        ),
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0], _posterior(x0, xt, s, t)[1].sqrt()),
            "the mean is right; the second value is the standard deviation, and asked for is the variance",
        ),
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0], (1 - t) / (1 - s) * (1 - t / s)),
            "the mean is right; in the variance the fraction is upside down: it should be smaller than beta",
        ),
        Mistake(
            lambda x0, xt, s, t: (_posterior(xt, x0, s, t)[0], _posterior(x0, xt, s, t)[1]),
            "the variance is right; in the mean, the factors of x0 and xt are swapped",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, 1 - t),
            "beta is 1 - alpha_bar_t, that of a step from the clean image; it is that of the steps from s to t (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, s - t),
            "beta is the difference of the two alpha_bar; it is 1 less their quotient (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: (s.sqrt() * (1 - t / s) / (1 - t) * x0 + t.sqrt() * (1 - s) / (1 - t) * xt, _posterior(x0, xt, s, t)[1]),
            "the variance is right; the factor of xt has the root of alpha_t, which is alpha_bar_t / alpha_bar_s here, not alpha_bar_t",
        ),
        Mistake(lambda x0, xt, s, t: (s.sqrt() * x0, 1 - s), "this is q(xs | x0), which does not look at xt; the step back knows both"),
        Mistake(
            lambda x0, xt, s, t: (xt / (t / s).sqrt(), _posterior(x0, xt, s, t)[1]),
            "the variance is right; the mean only undoes the shrinking of xt, and does not use what x0 says",
        ),
        Mistake(lambda x0, xt, s, t: _posterior(x0, xt, s, t)[::-1], "these are the right two, in the other order: the mean first"),
        Mistake(lambda x0, xt, s, t: _posterior(x0, xt, s, t)[0], "this is the mean; return the variance, too: return mean, variance"),
    ),
    praise="with alpha_bar_s = 1 it returns x0 and variance 0: the last step needs no special case",
)


# ------------------------------------------------------------------------------------------------------------------------- pooled

check_pooled_log_snr = Question(
    # averaging n values divides the variance of independent noise by n; the image, the same in all of a block, keeps its own
    answer=math.log(4),
    tolerance=0.02,
    mistakes=(
        Mistake(math.log(2), "that is half of it: a block of 2x2 has four values, and the variance of their mean is a quarter"),
        Mistake(2.0, "that is the factor of the standard deviation; log_snr counts variances, in natural logarithms"),
        Mistake(4.0, "that is the factor of the signal-to-noise ratio; asked for is the change of its natural logarithm"),
        Mistake(0.25, "that is the factor of the noise's variance; asked for is the change of log_snr"),
        Mistake(math.log(16), "the standard deviation is halved, so the variance is a quarter, not a sixteenth"),
        Mistake(0.0, "the image keeps its variance, and the noise does not: what is random partly cancels in a mean"),
        Mistake(-math.log(4), "the right size, but averaging makes noise smaller: does the ratio rise or fall?"),
        Mistake(math.log10(4), "that is the logarithm to base 10; log_snr is a natural logarithm"),
    ),
    praise="at twice the size the same t looks cleaner: a schedule made for small images leaves large ones too much",
)

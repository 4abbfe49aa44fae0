"""One step of a sampler by parts (notebook 04), and what readers write instead of each part."""

import torch

from diffusion_lib.exercises.checking import Mistake
from diffusion_lib.exercises.parts import Variants

# everywhere in this module, s and t are alpha_bar at the level where the step ends and where it starts

# ---------------------------------------------------------------------------------------------------------------------- ddim


def x0_hat(xt, eps_hat, s, t):
    # x0_hat = (xt - sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_bar_t)                                Ho et al. 2020, equation 15
    return (xt - (1 - t).sqrt() * eps_hat) / t.sqrt()


def _signal(s, t):
    return s.sqrt()


def _noise(s, t):
    return (1 - s).sqrt()


def _ddim_with(predict=x0_hat, signal=_signal, noise=_noise):
    def step(xt, eps_hat, s, t):
        # xs = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s) eps_hat              Song et al. 2021, equation 12 with sigma = 0
        return signal(s, t) * predict(xt, eps_hat, s, t) + noise(s, t) * eps_hat

    return step


def ddim(xt, eps_hat, alpha_bar_s, alpha_bar_t):
    return _ddim_with()(xt, eps_hat, alpha_bar_s, alpha_bar_t)


NO_CLAMP = "x0_hat is clamped; leave the clamp out: the step is (4.4) and nothing else"

PREDICT = (
    Mistake(
        lambda xt, eps, s, t: xt - (1 - t).sqrt() * eps, "x0_hat is not divided by sqrt(alpha_bar_t): the image would fade at every step"
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - t).sqrt() * eps) / t,
        "x0_hat is divided by alpha_bar_t; in (4.1) the image has the factor sqrt(alpha_bar_t)",
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - t).sqrt() * eps) * t.sqrt(),
        "x0_hat is multiplied by sqrt(alpha_bar_t); solving (4.1) for x0 divides by it",
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - t).sqrt() * eps) / (1 - t).sqrt(),
        "x0_hat is divided by sqrt(1 - alpha_bar_t); in (4.1) the image has the factor sqrt(alpha_bar_t)",
    ),
    Mistake(
        lambda xt, eps, s, t: xt - (1 - t).sqrt() * eps / t.sqrt(),
        "in x0_hat only the noise is divided; add brackets: (xt - …) / sqrt(alpha_bar_t)",
    ),
    Mistake(
        lambda xt, eps, s, t: xt / t.sqrt() - (1 - t).sqrt() * eps,
        "in x0_hat only xt is divided; add brackets: (xt - …) / sqrt(alpha_bar_t)",
    ),
    Mistake(lambda xt, eps, s, t: x0_hat(xt, -eps, s, t), "in x0_hat the noise is added again; subtract it from xt"),
    Mistake(lambda xt, eps, s, t: -x0_hat(xt, eps, s, t), "x0_hat has the wrong sign: subtract the noise from xt, not xt from the noise"),
    Mistake(
        lambda xt, eps, s, t: (xt - eps) / t.sqrt(),
        "in x0_hat all of eps_hat is subtracted; in (4.1) the noise has the factor sqrt(1 - alpha_bar_t)",
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - t) * eps) / t.sqrt(),
        "in x0_hat the noise has the factor 1 - alpha_bar_t; in (4.1) it is the root of that",
    ),
    Mistake(lambda xt, eps, s, t: (xt - (1 - t) * eps) / t, "in x0_hat the roots of (4.1) are missing"),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - t.sqrt()) * eps) / t.sqrt(),
        "in x0_hat the root should cover 1 - alpha_bar_t: (1 - alpha_bar_t).sqrt(), not 1 - alpha_bar_t.sqrt()",
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - t.sqrt() * eps) / (1 - t).sqrt(),
        "in x0_hat the two factors of (4.1) are swapped: sqrt(alpha_bar_t) belongs to the image, sqrt(1 - alpha_bar_t) to the noise",
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - t.sqrt() * eps) / t.sqrt(),
        "in x0_hat the noise has the factor sqrt(alpha_bar_t); in (4.1) it is sqrt(1 - alpha_bar_t)",
    ),
    Mistake(lambda xt, eps, s, t: x0_hat(xt, eps, t, s), "x0_hat is computed with alpha_bar_s; xt is at level t"),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - s).sqrt() * eps) / t.sqrt(), "in x0_hat the noise has the factor of level s; xt is at level t"
    ),
    Mistake(
        lambda xt, eps, s, t: (xt - (1 - t).sqrt() * eps) / s.sqrt(),
        "xt minus its noise has the wrong factor in xs: divide by sqrt(alpha_bar_t) of the level where the step starts, "
        "and multiply by sqrt(alpha_bar_s) of the level where it ends",
    ),
    Mistake(lambda xt, eps, s, t: xt, "xt is used instead of x0_hat: solve (4.1) for x0 first"),
    Mistake(lambda xt, eps, s, t: x0_hat(xt, eps, s, t).clamp(-1, 1), NO_CLAMP),
    Mistake(lambda xt, eps, s, t: x0_hat(xt, eps, s, t).clamp(0, 1), NO_CLAMP),
)

SIGNAL = (
    Mistake(lambda s, t: 1, "x0_hat is not scaled: at level s the image has the factor sqrt(alpha_bar_s)"),
    Mistake(lambda s, t: s, "x0_hat has the factor alpha_bar_s; at level s it is the root of that"),
    Mistake(lambda s, t: t, "x0_hat has the factor alpha_bar_t; at level s, where the step ends, it is sqrt(alpha_bar_s)"),
    Mistake(lambda s, t: 1 / s.sqrt(), "x0_hat is divided by sqrt(alpha_bar_s); multiply by it"),
    Mistake(
        lambda s, t: (1 - s).sqrt(), "x0_hat has the factor sqrt(1 - alpha_bar_s), which belongs to the noise; expected sqrt(alpha_bar_s)"
    ),
    Mistake(lambda s, t: 0, "x0_hat is missing: xs is sqrt(alpha_bar_s) x0_hat plus the noise"),
)

NOISE = (
    Mistake(
        lambda s, t: (1 - t).sqrt(),
        "the noise is added back at level t, where the step starts; at level s its factor is sqrt(1 - alpha_bar_s)",
    ),
    Mistake(lambda s, t: 0, "no noise is added back: at level s, eps_hat has the factor sqrt(1 - alpha_bar_s)"),
    Mistake(lambda s, t: 1, "eps_hat is not scaled: at level s the noise has the factor sqrt(1 - alpha_bar_s)"),
    Mistake(lambda s, t: 1 - s, "eps_hat has the factor 1 - alpha_bar_s, the variance; expected the root of that"),
    Mistake(lambda s, t: 1 - s.sqrt(), "the root should cover 1 - alpha_bar_s: (1 - alpha_bar_s).sqrt(), not 1 - alpha_bar_s.sqrt()"),
    Mistake(lambda s, t: s.sqrt(), "eps_hat has the factor sqrt(alpha_bar_s), which belongs to the image; expected sqrt(1 - alpha_bar_s)"),
    Mistake(lambda s, t: -_noise(s, t), "the noise is subtracted at the end too; the step adds back the noise of level s"),
    Mistake(
        lambda s, t: s.sqrt() * (1 - s).sqrt(),
        "eps_hat has the factor sqrt(alpha_bar_s) too: it belongs to x0_hat only (check the brackets)",
    ),
    Mistake(
        lambda s, t: (1 - t / s).sqrt(),
        "eps_hat has the factor sqrt(1 - alpha_bar_t / alpha_bar_s); at level s it is sqrt(1 - alpha_bar_s)",
    ),
)

DDIM = Variants(_ddim_with, dict(predict=PREDICT, signal=SIGNAL, noise=NOISE))


# --------------------------------------------------------------------------------------------------------------------- sigma


def _first(s, t):
    return ((1 - s) / (1 - t)).sqrt()


def _second(s, t):
    return (1 - t / s).sqrt()


def _sigma_with(part=lambda eta: eta, first=_first, second=_second):
    # sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s)       Song et al. 2021, equation 16
    return lambda s, t, eta: part(eta) * first(s, t) * second(s, t)


def sigma(alpha_bar_s, alpha_bar_t, eta):
    return _sigma_with()(alpha_bar_s, alpha_bar_t, eta)


ROOTS = dict(
    first=(
        Mistake(lambda s, t: 1, "the first root of (4.5) is missing: the rest is the root of beta, the large variance"),
        Mistake(lambda s, t: (1 - s) / (1 - t), "the first factor of (4.5) is a root too"),
        Mistake(lambda s, t: 1 / _first(s, t), "the first fraction is upside down: level s has less noise than level t"),
        Mistake(lambda s, t: (1 - s).sqrt(), "the first fraction has no denominator: it is (1 - alpha_bar_s) / (1 - alpha_bar_t)"),
        Mistake(lambda s, t: (1 - s / 1 - t).sqrt(), "the first fraction lacks brackets: (1 - alpha_bar_s) / (1 - alpha_bar_t)"),
        Mistake(lambda s, t: (s / t).sqrt(), "the first fraction is (1 - alpha_bar_s) / (1 - alpha_bar_t), not alpha_bar_s / alpha_bar_t"),
        Mistake(lambda s, t: (t / s).sqrt(), "the first fraction is (1 - alpha_bar_s) / (1 - alpha_bar_t), not alpha_bar_t / alpha_bar_s"),
    ),
    second=(
        Mistake(lambda s, t: 1, "the second root of (4.5) is missing"),
        Mistake(lambda s, t: 1 - t / s, "the second factor of (4.5) is a root too"),
        Mistake(
            lambda s, t: ((1 - t) / s).sqrt(),
            "the second root covers 1 - alpha_bar_t / alpha_bar_s: leave the brackets around 1 - alpha_bar_t out",
        ),
        Mistake(lambda s, t: (t / s).sqrt(), "the 1 - is missing in the second root: it covers 1 - alpha_bar_t / alpha_bar_s"),
        Mistake(lambda s, t: (s - t).sqrt(), "the second root covers 1 - alpha_bar_t / alpha_bar_s, not alpha_bar_s - alpha_bar_t"),
        Mistake(lambda s, t: 1 - (t / s).sqrt(), "the second root should cover 1 - alpha_bar_t / alpha_bar_s, including the 1"),
    ),
)

SIGMA = Variants(
    _sigma_with,
    dict(
        part=(
            Mistake(lambda eta: 1, "eta is missing: eta = 0 should give no noise"),
            Mistake(lambda eta: eta**0.5, "eta is under the root; it belongs in front of it"),
            Mistake(lambda eta: eta**2, "eta is squared, as in the variance; in sigma it is not"),
            Mistake(lambda eta: -eta, "sigma is negative; a standard deviation cannot be"),
            Mistake(lambda eta: 1 - eta, "the factor is 1 - eta; it should be eta: eta = 0 gives no noise"),
        ),
        **ROOTS,
    ),
)


# ---------------------------------------------------------------------------------------------------------- the whole family


def _along(s, t, sigma):
    """The factor of eps_hat: the noise of level s without the fresh noise."""
    return (1 - s - sigma**2).clamp(min=0).sqrt()


def _step_with(predict=x0_hat, signal=_signal, along=_along, fresh=lambda s, t, sigma: sigma, size=sigma):
    def step(xt, eps_hat, z, s, t, eta):
        # xs = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma z             Song et al. 2021, equation 12
        deviation = size(s, t, eta)
        return signal(s, t) * predict(xt, eps_hat, s, t) + along(s, t, deviation) * eps_hat + fresh(s, t, deviation) * z

    return step


def step(xt, eps_hat, z, alpha_bar_s, alpha_bar_t, eta):
    return _step_with()(xt, eps_hat, z, alpha_bar_s, alpha_bar_t, eta)


NO_ROOM = Mistake(
    lambda s, t, sigma: (1 - s).sqrt(),
    "eps_hat has the factor sqrt(1 - alpha_bar_s), and the fresh noise comes on top: make room for sigma^2 under the root",
)
ALONG_SIGMA = Mistake(
    lambda s, t, sigma: sigma,
    "eps_hat has the factor sigma; expected the rest of the noise, sqrt(1 - alpha_bar_s - sigma^2)",
)

ALONG = (
    NO_ROOM,
    ALONG_SIGMA,
    Mistake(
        lambda s, t, sigma: (1 - s).sqrt() - sigma,
        "standard deviations are subtracted; variances of independent noise add up, so subtract under the root",
    ),
    Mistake(lambda s, t, sigma: (1 - s - sigma).clamp(min=0).sqrt(), "sigma is not squared under the root: 1 - alpha_bar_s - sigma^2"),
    Mistake(lambda s, t, sigma: 1 - s - sigma**2, "eps_hat has the factor 1 - alpha_bar_s - sigma^2; the root is missing"),
    Mistake(lambda s, t, sigma: (1 - s + sigma**2).sqrt(), "sigma^2 is added under the root; subtract it, because z adds that much noise"),
    Mistake(
        lambda s, t, sigma: (1 - t - sigma**2).sqrt(),
        "the noise is added back at level t, where the step starts; write 1 - alpha_bar_s - sigma^2 under the root",
    ),
    Mistake(lambda s, t, sigma: (1 - t).sqrt(), "eps_hat has the factor of level t; it should be sqrt(1 - alpha_bar_s - sigma^2)"),
    Mistake(lambda s, t, sigma: (1 - sigma**2).sqrt(), "alpha_bar_s is missing under the root: 1 - alpha_bar_s - sigma^2"),
    Mistake(lambda s, t, sigma: (s - sigma**2).sqrt(), "the root has alpha_bar_s instead of 1 - alpha_bar_s"),
    Mistake(lambda s, t, sigma: 1, "eps_hat is not scaled: its factor is sqrt(1 - alpha_bar_s - sigma^2)"),
    Mistake(lambda s, t, sigma: 0, "eps_hat is missing: add it back with the factor sqrt(1 - alpha_bar_s - sigma^2)"),
    Mistake(lambda s, t, sigma: -_along(s, t, sigma), "the noise is subtracted at the end too; the step adds back the noise of level s"),
)

FRESH = (
    Mistake(lambda s, t, sigma: sigma**2, "z is multiplied by the variance sigma^2; its standard deviation should be sigma"),
    Mistake(lambda s, t, sigma: sigma**0.5, "z is multiplied by the root of sigma; its standard deviation should be sigma"),
    Mistake(lambda s, t, sigma: 1, "z is not scaled: its standard deviation should be sigma"),
    Mistake(lambda s, t, sigma: 0, "z is not used: the fresh noise is missing"),
    Mistake(lambda s, t, sigma: -sigma, "z is subtracted; (4.4) adds it"),
    Mistake(lambda s, t, sigma: (1 - s).sqrt(), "z has the factor sqrt(1 - alpha_bar_s); its standard deviation should be sigma"),
)

SIZE = (
    Mistake(lambda s, t, eta: torch.full_like(s, eta), "eta is used instead of sigma; (4.5) gives sigma"),
    Mistake(lambda s, t, eta: eta * (1 - s).sqrt(), "sigma is eta sqrt(1 - alpha_bar_s); (4.5) gives less"),
    Mistake(lambda s, t, eta: sigma(s, t, eta) ** 2, "sigma is squared once too often: (4.5) gives a standard deviation"),
    Mistake(lambda s, t, eta: eta * sigma(s, t, 1.0) ** 2, "sigma is eta times the variance; (4.5) has the root of the variance"),
    Mistake(lambda s, t, eta: eta**0.5 * sigma(s, t, 1.0), "in sigma, eta is under the root; it belongs in front of it"),
    *(Mistake(_sigma_with(**{name: root.answer}), f"in sigma, {root.message}") for name in ROOTS for root in ROOTS[name]),
)

STEP = Variants(_step_with, dict(predict=PREDICT, signal=SIGNAL, along=ALONG, fresh=FRESH, size=SIZE))

"""From x0 and eps to v, and back to x0: two exercises of notebook 03."""

import torch

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.variations import explained, first_of, mixture, nearly, one_wrong, randn, two_wrong

# ------------------------------------------------------------------------------------------------------------------- velocity


def _two_images(random: torch.Generator) -> list[tuple]:
    """The ends of alpha_bar are in float64, where dividing by its root loses no digits."""
    first = [
        (*randn(random, size, size), torch.tensor(alpha_bar))
        for size, alpha_bar in (((256, 1, 4, 4), 0.64), ((2, 3, 5, 7), 0.9), ((1, 1, 6, 3), 0.04), ((3, 2, 2, 5), 0.5))
    ]
    ends = [
        (*(x.double() for x in randn(random, size, size)), torch.tensor(alpha_bar, dtype=torch.float64))
        for size, alpha_bar in (((1, 3, 4, 2), 1.0), ((5, 1, 3, 4), 1e-6))
    ]
    return first + ends


def _mixed(factors, how, after=lambda x: x):
    """how(one image, the other, sqrt(alpha_bar_t), sqrt(1 - alpha_bar_t))"""

    def mix(a, b, alpha_bar_t):
        return after(how(a, b, *factors(alpha_bar_t)))

    return mix


_ROOT_OVER_ALL = "the root should cover 1 - alpha_bar_t: (1 - alpha_bar_t).sqrt(), not 1 - alpha_bar_t.sqrt()"
_KEPT_AWAY = "a small number keeps alpha_bar_t or 1 - alpha_bar_t away from 0, which changes the result: leave it out"


def _kept(low, add=0.0, signal=True, noise=True):
    """Roots of alpha_bar_t and 1 - alpha_bar_t; those selected have `add` added and `low` as their minimum."""

    def kept(x, selected):
        return (x + add).clamp(min=low).sqrt() if selected else x.sqrt()

    return lambda ab: (kept(ab, signal), kept(1 - ab, noise))


_FACTORS = [
    (lambda ab: (ab.sqrt(), (1 - ab).sqrt()), ""),
    (lambda ab: (ab, 1 - ab), "both factors are roots: sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)"),
    (lambda ab: (ab.sqrt(), 1 - ab.sqrt()), _ROOT_OVER_ALL),
    (lambda ab: (ab.sqrt(), 1 - ab), "the factor 1 - alpha_bar_t needs a root too"),
    (lambda ab: (ab, (1 - ab).sqrt()), "the factor alpha_bar_t needs a root too"),
    (lambda ab: (ab**2, (1 - ab) ** 2), "both factors are roots; here they are squares"),
    (lambda ab: (ab.sqrt(), (1 - ab**2).sqrt()), "alpha_bar_t is squared under the root; expected the root of 1 - alpha_bar_t"),
    (lambda ab: (ab, (1 - ab**2).sqrt()), "alpha_bar_t is already the square of a factor: use sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)"),
    (lambda ab: (ab.sqrt(), (1 + ab).sqrt()), "the second factor is sqrt(1 + alpha_bar_t); expected sqrt(1 - alpha_bar_t)"),
    (lambda ab: ((1 - ab).sqrt(), ab.sqrt()), "the two factors are swapped"),
    (lambda ab: (1 / ab.sqrt(), (1 - ab).sqrt()), "this divides by sqrt(alpha_bar_t); multiply by it"),
    *(
        (_kept(low, add, signal, noise), _KEPT_AWAY)
        for low, add in ((1e-3, 0), (1e-4, 0), (1e-5, 0), (0, 1e-4), (0, 1e-5), (0, 1e-6), (0, 1e-8))
        for signal, noise in ((True, True), (False, True), (True, False))
        if noise or add != 1e-8  # rounding hides that
    ),
]
_CLIPPED = [
    (lambda x: x, ""),
    (lambda x: x.clamp(-1, 1), "the result is clipped to [-1, 1]; do not clip it"),
    (lambda x: x.tanh(), "the result goes through tanh; leave it out"),
    (lambda x: x / x.std(), "the result is divided by its standard deviation; do not normalise it"),
]
_V = (
    _FACTORS,
    [
        (lambda x0, eps, s, n: s * eps - n * x0, ""),
        (lambda x0, eps, s, n: s * x0 - n * eps, "image and noise are swapped: with almost no noise (alpha_bar_t near 1) v is eps"),
        (lambda x0, eps, s, n: s * eps + n * x0, "the image is added; (3.7) subtracts it"),
        (lambda x0, eps, s, n: n * x0 - s * eps, "every number has the wrong sign"),
        (lambda x0, eps, s, n: s * x0 + n * eps, "this is xt; v is the other combination of the two"),
        (lambda x0, eps, s, n: eps - x0, "the factors are missing: sqrt(alpha_bar_t) for eps, sqrt(1 - alpha_bar_t) for x0"),
        (lambda x0, eps, s, n: eps - n * x0, "eps needs a factor too: sqrt(alpha_bar_t)"),
        (lambda x0, eps, s, n: s * eps - x0, "x0 needs a factor too: sqrt(1 - alpha_bar_t)"),
        (lambda x0, eps, s, n: s * eps, "the image is missing: subtract sqrt(1 - alpha_bar_t) x0"),
        (lambda x0, eps, s, n: -n * x0, "the noise is missing: the first term is sqrt(alpha_bar_t) eps"),
        (lambda x0, eps, s, n: s * eps - s * x0, "both have the factor sqrt(alpha_bar_t); that of x0 is sqrt(1 - alpha_bar_t)"),
        (lambda x0, eps, s, n: eps, "this is eps; v combines eps and x0"),
        (
            lambda x0, eps, s, n: (s * (s * x0 + n * eps) - x0) / n,
            "at alpha_bar_t = 1 this divides 0 by 0, which is NaN; (3.7) needs no division",
        ),
    ],
    _CLIPPED,
)

check_v = Exercise(
    # v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x0                                           Salimans & Ho 2022, section 4
    reference=lambda x0, eps, alpha_bar_t: alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * x0,
    inputs=_two_images,
    mistakes=(
        *one_wrong(_mixed, *_V),
        Mistake(
            lambda x0, eps, alpha_bar_t: (alpha_bar_t * eps - (1 - alpha_bar_t) * x0).sqrt(),
            "the root covers the whole difference, and is NaN where that is negative; take the roots of alpha_bar_t and of 1 - alpha_bar_t",
        ),
        Mistake(
            lambda x0, eps, alpha_bar_t: alpha_bar_t.sqrt() * eps - 1 - alpha_bar_t.sqrt() * x0,
            "1 - alpha_bar_t needs brackets before the root",
        ),
    ),
    diagnose=first_of(nearly(one_wrong(_mixed, *_V)), nearly(two_wrong(_mixed, *_V)), mixture(["x0", "eps"]), explained),
)


# ------------------------------------------------------------------------------------------------------------------ and back

_BACK = (
    _FACTORS,
    [
        (lambda xt, v, s, n: s * xt - n * v, ""),
        (
            lambda xt, v, s, n: (xt - n * v) / s,
            "this computes x0 from eps; v is not the noise alone, and no division is needed",
        ),
        (lambda xt, v, s, n: s * v + n * xt, "this is eps, the other image that xt and v determine: substitute (1.3) and (3.7) to see it"),
        (lambda xt, v, s, n: s * xt + n * v, "the sign of v is wrong: its noise has to cancel the noise in xt"),
        (lambda xt, v, s, n: n * v - s * xt, "every number has the wrong sign"),
        (lambda xt, v, s, n: xt - n * v, "xt needs a factor too: without it the noise does not cancel"),
        (lambda xt, v, s, n: s * xt - v, "v needs a factor too: without it the noise does not cancel"),
        (lambda xt, v, s, n: xt - v, "the factors are missing: sqrt(alpha_bar_t) for xt, sqrt(1 - alpha_bar_t) for v"),
        (lambda xt, v, s, n: s * v - n * xt, "xt and v are swapped: with almost no noise (alpha_bar_t near 1) x0 is xt"),
        (lambda xt, v, s, n: (s * v - xt) / n, "this solves for the wrong image; substitute (1.3) and (3.7) to see what remains"),
        (lambda xt, v, s, n: (s * xt - n * v) / s, "the factors of x0 already sum to 1: no division is needed"),
        (
            lambda xt, v, s, n: (s * xt - n * v) / (s**2 - n**2).abs().clamp(min=1e-3),
            "no division is needed",
        ),
        (lambda xt, v, s, n: xt / s, "v is missing: subtract sqrt(1 - alpha_bar_t) v"),
        (lambda xt, v, s, n: s * xt, "v is missing: subtract sqrt(1 - alpha_bar_t) v"),
        (lambda xt, v, s, n: xt, "this is xt, which still contains the noise"),
        (
            lambda xt, v, s, n: (s * (s * v + n * xt) - v) / n,
            "at alpha_bar_t = 1 this divides 0 by 0, which is NaN; x0 needs no division",
        ),
    ],
    _CLIPPED,
)

check_x0_from_v = Exercise(
    # x0 = sqrt(alpha_bar_t) xt - sqrt(1 - alpha_bar_t) v                                         Salimans & Ho 2022, appendix D
    reference=lambda xt, v, alpha_bar_t: alpha_bar_t.sqrt() * xt - (1 - alpha_bar_t).sqrt() * v,
    inputs=_two_images,
    mistakes=one_wrong(_mixed, *_BACK),
    praise="xt and v are x0 and eps rotated by an angle; this rotates them back",
    diagnose=first_of(nearly(one_wrong(_mixed, *_BACK)), nearly(two_wrong(_mixed, *_BACK)), mixture(["xt", "v"]), explained),
)

"""Exercises of notebook 04."""

import torch

from diffusion_lib.exercises.checking import Exercise, Mistake, Question

PAIRS = ((0.64, 0.36), (0.9, 0.05), (1.0, 0.8))  # alpha_bar at s and at t > s; the last step of a chain at the end
IMAGES = (256, 1, 4, 4)


def _calls(count: int, *rest):
    """So many random images, then alpha_bar at s and t, then what else there is."""
    return lambda random: [
        (*(torch.randn(IMAGES, generator=random) for _ in range(count)), torch.tensor(s), torch.tensor(t), *rest) for s, t in PAIRS
    ]


# -------------------------------------------------------------------------------------------------------------------- levels


def _levels(T, steps):
    return [T * (steps - i) // steps for i in range(steps + 1)]


check_levels = Exercise(
    reference=_levels,
    inputs=lambda random: [(1000, 10), (100, 3), (50, 50)],
    look=lambda levels: [float(level) for level in levels],
    mistakes=(
        Mistake(lambda T, steps: _levels(T, steps)[:-1], "0 is missing: the last step has to go to the clean image"),
        Mistake(lambda T, steps: _levels(T, steps)[1:], "T is missing: the chain starts from noise, which is level T"),
        Mistake(lambda T, steps: _levels(T, steps)[::-1], "this ascends; a sampler walks from T down to 0"),
        Mistake(
            lambda T, steps: [max(1, level) for level in _levels(T, steps)],
            "it ends at 1: the noise of that level would be left in the image",
        ),
        Mistake(
            lambda T, steps: [T - 1 - i * (T // steps) for i in range(steps)],
            "it starts at T - 1 and does not end at 0: levels are T to 0 here",
        ),
        Mistake(
            lambda T, steps: [T - i * (T // steps) for i in range(steps + 1)],
            "T // steps is rounded first, and the error adds up: 100 in 3 steps should end at 0, not at 1",
        ),
        Mistake(
            lambda T, steps: [T * (steps - i) / steps for i in range(steps + 1)],
            "100 in 3 steps gives levels that are not whole numbers: divide with //",
        ),
        Mistake(
            lambda T, steps: [round(T * (steps - i) / steps) for i in range(steps + 1)],
            "this rounds to the nearest; asked for is rounded down",
        ),
        Mistake(lambda T, steps: [T - T * i // steps for i in range(steps + 1)], "this rounds up; asked for is T (n - i) / n rounded down"),
    ),
)


# ---------------------------------------------------------------------------------------------------------------------- ddim


def _x0_hat(xt, eps_hat, alpha_bar_t):
    # x0_hat = (xt - sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_bar_t)                                Ho et al. 2020, equation 15
    return (xt - (1 - alpha_bar_t).sqrt() * eps_hat) / alpha_bar_t.sqrt()


def _mixed(x0_hat, eps_hat, alpha_bar_s):
    # xs = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s) eps_hat                  Song et al. 2021, equation 12 with sigma = 0
    return alpha_bar_s.sqrt() * x0_hat + (1 - alpha_bar_s).sqrt() * eps_hat


def _ddim(xt, eps_hat, alpha_bar_s, alpha_bar_t):
    return _mixed(_x0_hat(xt, eps_hat, alpha_bar_t), eps_hat, alpha_bar_s)


check_ddim_step = Exercise(
    reference=_ddim,
    inputs=_calls(2),
    mistakes=(
        Mistake(
            lambda xt, eps, s, t: _mixed(xt - (1 - t).sqrt() * eps, eps, s),
            "x0_hat is not divided by sqrt(alpha_bar_t): the image would fade with every step",
        ),
        Mistake(
            lambda xt, eps, s, t: _mixed((xt - (1 - t).sqrt() * eps) / t, eps, s),
            "x0_hat is divided by alpha_bar_t; in (4.1) the image has the factor sqrt(alpha_bar_t)",
        ),
        Mistake(
            lambda xt, eps, s, t: _mixed(xt - (1 - t).sqrt() * eps / t.sqrt(), eps, s),
            "in x0_hat only the noise is divided; brackets: (xt - …) / sqrt(alpha_bar_t)",
        ),
        Mistake(
            lambda xt, eps, s, t: _mixed(_x0_hat(xt, -eps, t), eps, s),
            "in x0_hat the noise is added once more; it has to be taken out of xt",
        ),
        Mistake(
            lambda xt, eps, s, t: _mixed(_x0_hat(xt, eps, t).clamp(-1, 1), eps, s),
            "x0_hat is clamped; here it is not, so that the step is (4.4) and nothing else",
        ),
        Mistake(
            lambda xt, eps, s, t: s.sqrt() * _x0_hat(xt, eps, t) + (1 - t).sqrt() * eps,
            "the noise is put back at the level of t, from where you came; xs has that of s",
        ),
        Mistake(lambda xt, eps, s, t: _x0_hat(xt, eps, t), "this is x0_hat, all the way to the clean image; the step ends at s"),
        Mistake(
            lambda xt, eps, s, t: _x0_hat(xt, eps, t) + (1 - s).sqrt() * eps,
            "x0_hat is not scaled: at level s the image has the factor sqrt(alpha_bar_s)",
        ),
        Mistake(lambda xt, eps, s, t: _ddim(xt, eps, t, s), "s and t are swapped: this walks back into the noise"),
        Mistake(
            lambda xt, eps, s, t: s * _x0_hat(xt, eps, t) + (1 - s) * eps,
            "the factors of x0_hat and eps_hat are sqrt(alpha_bar_s) and sqrt(1 - alpha_bar_s); the roots are missing",
        ),
        Mistake(
            lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t.sqrt()) * eps) / t.sqrt() + (1 - s.sqrt()) * eps,
            "the root is over all of 1 - alpha_bar: (1 - alpha_bar).sqrt(), not 1 - alpha_bar.sqrt()",
        ),
    ),
    praise="and with alpha_bar_s = 1 it is x0_hat: nobody has to ask for the last step",
)


# --------------------------------------------------------------------------------------------------------------------- sigma


def _sigma(alpha_bar_s, alpha_bar_t, eta):
    # sigma = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s)       Song et al. 2021, equation 16
    return eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt() * (1 - alpha_bar_t / alpha_bar_s).sqrt()


check_sigma = Exercise(
    reference=_sigma,
    inputs=lambda random: [(torch.tensor(s), torch.tensor(t), eta) for (s, t), eta in zip(PAIRS, (0.8, 0.5, 1.0), strict=True)],
    mistakes=(
        Mistake(lambda s, t, eta: eta * (1 - t / s).sqrt(), "this is the root of beta, the large variance; (4.5) is that of beta_tilde"),
        Mistake(lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt(), "the second root of (4.5) is missing"),
        Mistake(lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - t / s), "the second factor is a root, too"),
        Mistake(
            lambda s, t, eta: eta * (1 - s) / (1 - t) * (1 - t / s),
            "this is eta times the variance; sigma is a standard deviation: take the root",
        ),
        Mistake(lambda s, t, eta: _sigma(s, t, eta) ** 2, "this is the variance, sigma^2; asked for is its root"),
        Mistake(lambda s, t, eta: eta**0.5 * _sigma(s, t, 1.0), "eta stands before the root, not under it"),
        Mistake(lambda s, t, eta: _sigma(s, t, 1.0), "eta is forgotten: with eta = 0 there should be no noise"),
        Mistake(
            lambda s, t, eta: eta * ((1 - t) / (1 - s)).sqrt() * (1 - t / s).sqrt(),
            "the first fraction is upside down: the noise that is left at s is less than that at t",
        ),
        Mistake(
            lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - s / t).sqrt(),
            "under a root stands a negative number: alpha_bar_s / alpha_bar_t is above 1; (4.5) has alpha_bar_t / alpha_bar_s",
        ),
    ),
)


# ---------------------------------------------------------------------------------------------------------- the whole family


def _step(xt, eps_hat, z, alpha_bar_s, alpha_bar_t, eta):
    # xs = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma z                 Song et al. 2021, equation 12
    sigma = _sigma(alpha_bar_s, alpha_bar_t, eta)
    along = (1 - alpha_bar_s - sigma**2).clamp(min=0).sqrt()
    return alpha_bar_s.sqrt() * _x0_hat(xt, eps_hat, alpha_bar_t) + along * eps_hat + sigma * z


def _step_as(along, fresh=lambda sigma: sigma, predict=_x0_hat):
    def step(xt, eps_hat, z, s, t, eta):
        sigma = _sigma(s, t, eta)
        return s.sqrt() * predict(xt, eps_hat, t) + along(1 - s, sigma) * eps_hat + fresh(sigma) * z

    return step


def _left(variance, sigma):
    """What the fresh noise leaves: the factor of eps_hat."""
    return (variance - sigma**2).clamp(min=0).sqrt()


check_step = Exercise(
    reference=_step,
    inputs=_calls(3, 0.7),
    mistakes=(
        Mistake(
            _step_as(lambda variance, sigma: variance.sqrt()),
            "eps_hat has the factor sqrt(1 - alpha_bar_s), and the fresh noise comes on top: too much for level s; make room for sigma^2",
        ),
        Mistake(
            _step_as(lambda variance, sigma: sigma),
            "eps_hat has the factor sigma; what belongs there is what z leaves of the noise, sqrt(1 - alpha_bar_s - sigma^2)",
        ),
        Mistake(
            _step_as(lambda variance, sigma: variance.sqrt() - sigma),
            "standard deviations are subtracted; variances of independent noise add up, so the subtraction goes under the root",
        ),
        Mistake(
            _step_as(lambda variance, sigma: (variance - sigma).clamp(min=0).sqrt()),
            "sigma is not squared under the root: 1 - alpha_bar_s - sigma^2",
        ),
        Mistake(
            _step_as(_left, fresh=lambda sigma: sigma**2), "z is multiplied by the variance sigma^2; its standard deviation should be sigma"
        ),
        Mistake(
            _step_as(_left, predict=lambda xt, eps_hat, t: xt - (1 - t).sqrt() * eps_hat), "x0_hat is not divided by sqrt(alpha_bar_t)"
        ),
        Mistake(
            _step_as(_left, predict=lambda *args: _x0_hat(*args).clamp(-1, 1)),
            "x0_hat is clamped; here it is not, so that the step is (4.4) and nothing else",
        ),
        Mistake(lambda xt, eps, z, s, t, eta: _ddim(xt, eps, s, t), "this is the step of eta = 0, whatever eta is: z is not used"),
        Mistake(lambda xt, eps, z, s, t, eta: _step(xt, eps, z, s, t, 1.0), "this is the step of eta = 1, whatever eta is"),
    ),
    praise="DDIM at eta = 0, DDPM at eta = 1: you have written both",
)


# ------------------------------------------------------------------------------------------------------------------ guidance


def _guided(conditional, unconditional, scale):
    # eps = eps(xt) + scale (eps(xt, y) - eps(xt))                                     Ho & Salimans 2022, equation 6, w = scale - 1
    return unconditional + scale * (conditional - unconditional)


check_guided = Exercise(
    reference=_guided,
    inputs=lambda random: [(*torch.randn(2, *IMAGES, generator=random), scale) for scale in (3.0, 0.0, 1.0)],
    mistakes=(
        Mistake(
            lambda conditional, unconditional, scale: _guided(unconditional, conditional, scale),
            "the two answers are swapped: this guides away from the class",
        ),
        Mistake(
            lambda conditional, unconditional, scale: conditional + scale * (conditional - unconditional),
            "this starts from the answer with the class, as the paper does (its w is scale - 1); here scale = 1 is the plain answer",
        ),
        Mistake(
            lambda conditional, unconditional, scale: scale * (conditional - unconditional),
            "the answer without the class is missing: scale 0 should give just that",
        ),
        Mistake(
            lambda conditional, unconditional, scale: unconditional + scale * conditional,
            "what is added is the difference that the class makes, not the whole answer",
        ),
        Mistake(
            lambda conditional, unconditional, scale: scale * conditional,
            "the answer without the class is not used: noise would be multiplied, not guided",
        ),
    ),
)


# --------------------------------------------------------------------------------------------------------------------- calls

check_calls = Question(
    answer=200,
    tolerance=0.5,
    mistakes=(
        Mistake(50, "that is for one batch; 100 images at 25 a batch are four"),
        Mistake(5000, "that counts every image; a call takes a whole batch"),
        Mistake(400, "there is no guidance here: one call a step"),
        Mistake(204, "a chain of 50 steps has 51 levels, and the last one, 0, is not asked about"),
    ),
    praise="four batches of 50 steps; DDPM would need as many",
)

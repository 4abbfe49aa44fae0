"""Exercises of notebook 03."""

import math

import torch

from diffusion_lib.exercises.checking import Exercise, Mistake, Question

IMAGES = (256, 1, 4, 4)


def _normal(random: torch.Generator, *sizes: tuple) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(size, generator=random) for size in sizes)


def _two_images(random: torch.Generator) -> list[tuple]:
    return [(*_normal(random, IMAGES, IMAGES), torch.tensor(alpha_bar)) for alpha_bar in (0.64, 0.9, 0.04)]


# ------------------------------------------------------------------------------------------------------------------ timesteps


def _random_timesteps(T, n):
    return torch.randint(1, T + 1, (n,))


def _draws(t):
    """What tells one rule of drawing from another: shape and kind, range, and whether all come about as often and in no order."""
    if t.ndim != 1 or len(t) < 6000:
        return tuple(t.shape)
    values, counts = t.unique(return_counts=True)
    if t.is_floating_point() or len(values) == 1:
        return "floats" if t.is_floating_point() else "one for all"
    expected = len(t) / len(values)
    even = (counts - expected).abs().max() < 6 * math.sqrt(expected)  # 6 standard errors
    pairs = (t[:-1] * (len(values) + 1) + t[1:]).unique()
    return int(t.min()), int(t.max()), bool(even), len(pairs) == len(values) ** 2  # any one may follow any other


check_random_timesteps = Exercise(
    reference=_random_timesteps,
    inputs=lambda random: [(5, 6000), (3, 6000)],
    look=_draws,
    mistakes=(
        Mistake(
            lambda T, n: torch.randint(1, T, (n,)), "T is never drawn: randint leaves its upper end out, so the last level is not trained"
        ),
        Mistake(
            lambda T, n: torch.randint(0, T, (n,)),
            "this draws 0 to T - 1, and timesteps are 1 to T: 0 is the clean image, and T is never trained",
        ),
        Mistake(lambda T, n: torch.randint(0, T + 1, (n,)), "0 is drawn, too: the clean image has no noise to tell"),
        Mistake(
            lambda T, n: torch.randint(0, T - 1, (n,)), "this draws 0 to T - 2: randint leaves its upper end out, and timesteps are 1 to T"
        ),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1,)).expand(n), "one timestep is drawn for the whole batch; each image gets its own"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1,)), "this is a single timestep; each of the n images gets its own"),
        Mistake(
            lambda T, n: torch.randperm(T)[:n] + 1,
            "these are T timesteps at most: randperm never repeats one; a batch may be larger than T",
        ),
        Mistake(lambda T, n: torch.rand(n) * T + 1, "these are not whole numbers; a timestep is an index into a table (torch.randint)"),
        Mistake(
            lambda T, n: (1 + torch.rand(n) * (T - 1)).round().long(), "not all are equally likely: rounding makes 1 and T half as frequent"
        ),
        Mistake(lambda T, n: torch.linspace(1, T, n).round().long(), "these are not random: they rise from 1 to T"),
        Mistake(lambda T, n: torch.arange(n) % T + 1, "these are not random: they count from 1 to T, again and again"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n, 1)), "the shape should be (n,): one number for each image"),
    ),
)


# ------------------------------------------------------------------------------------------------------------------- velocity


def _v(x0, eps, alpha_bar_t):
    # v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x0                                           Salimans & Ho 2022, section 4
    return alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * x0


_ROOT_OVER_ALL = "the root is over all of 1 - alpha_bar_t: (1 - alpha_bar_t).sqrt(), not 1 - alpha_bar_t.sqrt()"

check_v = Exercise(
    reference=_v,
    inputs=_two_images,
    mistakes=(
        Mistake(
            lambda x0, eps, ab: ab.sqrt() * x0 - (1 - ab).sqrt() * eps,
            "image and noise are swapped: with hardly any noise (alpha_bar_t near 1) v is eps",
        ),
        Mistake(
            lambda x0, eps, ab: ab.sqrt() * eps + (1 - ab).sqrt() * x0,
            "the image is added; in (3.7) it is subtracted. With a plus, v would be xt itself where alpha_bar_t is 0.5",
        ),
        Mistake(lambda x0, eps, ab: -_v(x0, eps, ab), "the sign is turned over"),
        Mistake(lambda x0, eps, ab: ab.sqrt() * x0 + (1 - ab).sqrt() * eps, "this is xt; v is the other mixture of the two"),
        Mistake(
            lambda x0, eps, ab: ab * eps - (1 - ab) * x0, "both factors are roots: v has variance {got_variance} here, and should have 1"
        ),
        Mistake(lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab.sqrt()) * x0, _ROOT_OVER_ALL),
    ),
)


# ------------------------------------------------------------------------------------------------------------------ and back


def _x0_from_v(xt, v, alpha_bar_t):
    # x0 = sqrt(alpha_bar_t) xt - sqrt(1 - alpha_bar_t) v                                         Salimans & Ho 2022, appendix D
    return alpha_bar_t.sqrt() * xt - (1 - alpha_bar_t).sqrt() * v


check_x0_from_v = Exercise(
    reference=_x0_from_v,
    inputs=_two_images,
    mistakes=(
        Mistake(
            lambda xt, v, ab: (xt - (1 - ab).sqrt() * v) / ab.sqrt(),
            "this is how x0 comes from eps; v is not the noise alone, and nothing has to be divided",
        ),
        Mistake(
            lambda xt, v, ab: ab.sqrt() * v + (1 - ab).sqrt() * xt,
            "this is eps, the other thing that xt and v tell: put (1.3) and (3.7) in to see it",
        ),
        Mistake(lambda xt, v, ab: ab.sqrt() * xt + (1 - ab).sqrt() * v, "the sign of v is wrong: the noise in it has to cancel that in xt"),
        Mistake(lambda xt, v, ab: -_x0_from_v(xt, v, ab), "the sign is turned over"),
        Mistake(lambda xt, v, ab: ab * xt - (1 - ab) * v, "both factors are roots"),
        Mistake(lambda xt, v, ab: xt - (1 - ab).sqrt() * v, "xt has a factor, too: without it the noise does not cancel"),
        Mistake(lambda xt, v, ab: ab.sqrt() * xt - (1 - ab.sqrt()) * v, _ROOT_OVER_ALL),
    ),
    praise="xt and v are x0 and eps turned by an angle, and this turns them back",
)


# ----------------------------------------------------------------------------------------------------------------------- loss


def _loss(eps_hat, eps):
    return (eps_hat - eps).square().mean(dim=(1, 2, 3))


check_loss = Exercise(
    reference=_loss,
    inputs=lambda random: [_normal(random, (6, 2, 4, 4), (6, 2, 4, 4)) for _ in range(2)],
    mistakes=(
        Mistake(lambda a, b: (a - b).square().mean(), "this is the mean of the whole batch; asked for is one number for each image"),
        Mistake(
            lambda a, b: (a - b).square().sum(dim=(1, 2, 3)),
            "this is the sum over an image's values, as in (3.6); asked for is their mean, whose size does not depend on that of the image",
        ),
        Mistake(lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), "this is the mean absolute error; (3.6) squares"),
        Mistake(lambda a, b: (a - b).square().mean(dim=(1, 2, 3)).sqrt(), "this takes a root at the end; (3.6) has none"),
        Mistake(
            lambda a, b: (a - b).flatten(1).norm(dim=1),
            "this is the length of the difference, with a root; asked for is the mean of squares",
        ),
        Mistake(lambda a, b: (a - b).mean(dim=(1, 2, 3)).square(), "square first, then average: errors of opposite sign must not cancel"),
    ),
)


# ------------------------------------------------------------------------------------------------------------- learning rate


def _warmed_up(after):
    """lr step / warmup up to the warm-up's end, then lr times `after`(step, steps, warmup)."""

    def rate(step, steps, warmup, lr):
        return lr * (step / warmup if step <= warmup else after(step, steps, warmup))

    return rate


def _half_cosine(u):
    # (1 + cos(pi u)) / 2, from 1 at u = 0 to 0 at u = 1                                      Loshchilov & Hutter 2017, equation 5
    return 0.5 * (1 + math.cos(math.pi * u))


_learning_rate = _warmed_up(lambda step, steps, warmup: _half_cosine((step - warmup) / (steps - warmup)))
_COSINE_FROM_0 = "the cosine begins at step 0; it should begin where the warm-up ends, at full height"

check_learning_rate = Exercise(
    reference=_learning_rate,
    inputs=lambda random: [(step, 1000, 100, 3.0) for step in (400, 1, 50, 100, 101, 550, 1000)],
    mistakes=(
        Mistake(lambda step, steps, warmup, lr: lr * min(1, step / warmup) * _half_cosine(step / steps), _COSINE_FROM_0),
        Mistake(_warmed_up(lambda step, steps, warmup: _half_cosine(step / steps)), _COSINE_FROM_0),
        Mistake(
            _warmed_up(lambda step, steps, warmup: 2 * _half_cosine((step - warmup) / (steps - warmup))),
            "after the warm-up the rate is twice what it should be: the cosine runs from 1 to -1, so half of 1 + cos runs from 1 to 0",
        ),
        Mistake(
            _warmed_up(lambda step, steps, warmup: math.cos(0.5 * math.pi * (step - warmup) / (steps - warmup))),
            "this is a quarter of a cosine, steep at its end; asked for is half of one, flat at both ends",
        ),
        Mistake(
            _warmed_up(lambda step, steps, warmup: (steps - step) / (steps - warmup)),
            "the rate falls on a straight line; asked for is half a cosine",
        ),
        Mistake(
            _warmed_up(lambda step, steps, warmup: _half_cosine((step - warmup) / (steps + 1 - warmup))),
            "this is the library's, which is 0 one step after the last; asked for is 0 at the last",
        ),
        Mistake(
            lambda step, steps, warmup, lr: lr if step <= warmup else _learning_rate(step, steps, warmup, lr),
            "there is no warm-up: step 1 of 100 should have a hundredth of the rate",
        ),
        Mistake(
            lambda step, steps, warmup, lr: lr * (step - 1) / (warmup - 1) if step <= warmup else _learning_rate(step, steps, warmup, lr),
            "the line begins at step 1 with 0, and the first step would do nothing; step 1 has lr / warmup",
        ),
        Mistake(lambda step, steps, warmup, lr: _learning_rate(step, steps, warmup, 1.0), "lr is forgotten: it is the height of the curve"),
    ),
)


# ------------------------------------------------------------------------------------------------------------------- average


def _ema_update(average, weights, decay):
    # ema <- d ema + (1 - d) weights
    return decay * average + (1 - decay) * weights


check_ema_update = Exercise(
    reference=_ema_update,
    inputs=lambda random: [(*_normal(random, (20,), (20,)), decay) for decay in (0.9, 0.999)],
    mistakes=(
        Mistake(
            lambda average, weights, d: (1 - d) * average + d * weights,
            "the two factors are swapped: with d near 1 the average should hardly move",
        ),
        Mistake(
            lambda average, weights, d: d * average + weights,
            "the factors do not sum to 1: such an average would become 1 / (1 - d) times the weights",
        ),
        Mistake(lambda average, weights, d: (average + weights) / 2, "this forgets d: it is the plain mean of the two"),
        Mistake(lambda average, weights, d: average, "this returns the average as it was: nothing is learnt"),
        Mistake(lambda average, weights, d: weights, "this returns the weights themselves: nothing is remembered"),
    ),
)


# -------------------------------------------------------------------------------------------------- what is left of the beginning

check_initial_weight_fraction = Question(
    answer=0.9**100,
    tolerance=1e-6,
    mistakes=(
        Mistake(0.0, "that is (1 - d)^100, or nothing at all: each update keeps d = 0.9 of what was there, not a tenth"),
        Mistake(0.9**99, "that is after 99 updates"),
        Mistake(100 * 0.9**100, "that is in percent; asked for is the part, at most 1"),
        Mistake(1 - 0.9**100, "that is the share of all the others"),
        Mistake(0.1, "that is 1 - d, the share of the newest weights"),
        Mistake(0.9, "that is after one update"),
    ),
)

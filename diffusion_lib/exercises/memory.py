"""Exercises of notebook 05."""

import torch

from diffusion_lib.exercises.checking import Exercise, Mistake, Question


def _images(random: torch.Generator, n: int) -> torch.Tensor:
    """(n, 1, 4, 4) of unlike brightness and contrast, so that an overlap is not a distance."""
    return torch.randn(n, 1, 4, 4, generator=random) * (1 + torch.rand(n, 1, 1, 1, generator=random) * 2)


# ------------------------------------------------------------------------------------------------------------------- nearest


def _nearest(samples, images):
    return torch.cdist(samples.flatten(1), images.flatten(1)).argmin(dim=1)


check_nearest = Exercise(
    reference=_nearest,
    inputs=lambda random: [(_images(random, 12), _images(random, 9)) for _ in range(2)],
    mistakes=(
        Mistake(lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).argmax(dim=1), "these are the images that are farthest away"),
        Mistake(
            lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).argmin(dim=0),
            "one index for each training image; asked for is one for each sample: search along the training images (dim=1)",
        ),
        Mistake(
            lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).min(dim=1).values,
            "these are the distances; asked for is which image it is (argmin)",
        ),
        Mistake(
            lambda a, b: (a.flatten(1) @ b.flatten(1).T).argmax(dim=1),
            "this is the image with the largest overlap, which bright images win; asked for is the smallest distance",
        ),
        Mistake(
            lambda a, b: torch.cdist(a.flatten(1), b.flatten(1)).argmin(),
            "this is one number, the nearest pair of all; asked for is one index for each sample",
        ),
        Mistake(
            lambda a, b: (a.mean(dim=(1, 2, 3))[:, None] - b.mean(dim=(1, 2, 3))).abs().argmin(dim=1),
            "this compares mean brightness alone; compare pixel by pixel",
        ),
    ),
)


# -------------------------------------------------------------------------------------------------------------------- weights


def _posterior_weights_of(scale=lambda alpha_bar: 2 * (1 - alpha_bar), factor=lambda alpha_bar: alpha_bar.sqrt(), sign=-1, dim=1):
    """The posterior over images, or what comes out if a part of (5.1) is another one."""

    def weights(xt, images, alpha_bar):
        squared = (xt.flatten(1)[:, None] - factor(alpha_bar) * images.flatten(1)[None]).square().sum(dim=2)
        return torch.softmax(sign * squared / scale(alpha_bar), dim=dim)

    return weights


# w_i = softmax_i(-|xt - sqrt(alpha_bar_t) x_i|^2 / (2 (1 - alpha_bar_t)))
_posterior_weights = _posterior_weights_of()

check_posterior_weights = Exercise(
    reference=_posterior_weights,
    inputs=lambda random: [(_images(random, 5), _images(random, 4), torch.tensor(alpha_bar)) for alpha_bar in (0.1, 0.02)],
    mistakes=(
        Mistake(
            _posterior_weights_of(factor=lambda alpha_bar: 1), "the images are not scaled: in xt they have the factor sqrt(alpha_bar_t)"
        ),
        Mistake(_posterior_weights_of(factor=lambda alpha_bar: alpha_bar), "the images have the factor alpha_bar_t; in xt it is its root"),
        Mistake(_posterior_weights_of(scale=lambda alpha_bar: 1 - alpha_bar), "the 2 of the normal density is missing below the fraction"),
        Mistake(
            _posterior_weights_of(scale=lambda alpha_bar: 2 * (1 - alpha_bar).sqrt()),
            "divided by a standard deviation; the normal density has the variance there, 1 - alpha_bar_t",
        ),
        Mistake(_posterior_weights_of(sign=1), "without the minus, the image that fits worst gets the most weight"),
        Mistake(
            _posterior_weights_of(dim=0), "the weights of one image over all xt sum to 1; those of one xt over all images should: dim=1"
        ),
        Mistake(
            lambda xt, images, alpha_bar: torch.ones(len(xt), len(images)) / len(images), "all alike: that is so only where nothing is left"
        ),
    ),
    praise="with one image its weight is 1, whatever xt is",
)


# --------------------------------------------------------------------------------------------------------------------- count


def _effective_sample_size(weights):
    return 1 / weights.square().sum(dim=1)


check_effective_sample_size = Exercise(
    reference=_effective_sample_size,
    inputs=lambda random: [(torch.softmax(3 * torch.randn(6, n, generator=random), dim=1),) for n in (5, 30)],
    mistakes=(
        Mistake(lambda w: w.square().sum(dim=1), "turned over: ten equal weights should count as 10, not as a tenth"),
        Mistake(lambda w: 1 / w.sum(dim=1).square(), "square first, then sum: the sum of the weights is always 1"),
        Mistake(lambda w: (w > 0).sum(dim=1), "this counts all with any weight, however small"),
        Mistake(lambda w: 1 / w.max(dim=1).values, "this looks at the largest weight alone"),
        Mistake(lambda w: 1 / w.square().sum(), "one number for all; asked for is one for each row (dim=1)"),
    ),
    praise="1 if one image has it all, N if all have the same",
)


# ------------------------------------------------------------------------------------------------------------------- halfway

check_two_images = Question(
    answer=0.5,
    tolerance=1e-6,
    mistakes=(
        Mistake(1.0, "both images fit equally well; neither can have it all"),
        Mistake(0.0, "both images fit equally well, and something must have led to xt"),
        Mistake(2.0, "a weight is a probability, at most 1"),
    ),
    praise="and its answer is the mean of the two: not an image of the set, and the best answer all the same",
)

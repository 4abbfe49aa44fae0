"""The weights of (5.1) by parts (notebook 05), and what readers write instead of each part."""

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Mistake
from diffusion_lib.exercises.parts import Variants


def squared(differences: Tensor) -> Tensor:
    return differences.square().sum(dim=2)


def _weights_with(
    image=lambda alpha_bar: alpha_bar.sqrt(),
    noisy=lambda alpha_bar: 1,
    distance=squared,
    scale=lambda alpha_bar: 2 * (1 - alpha_bar),
    weigh=lambda exponents: torch.softmax(exponents, dim=1),
):
    def weights(xt, images, alpha_bar):
        # w_i = softmax_i(-|xt - sqrt(alpha_bar_t) x_i|^2 / (2 (1 - alpha_bar_t)))
        differences = noisy(alpha_bar) * xt.flatten(1)[:, None] - image(alpha_bar) * images.flatten(1)[None]
        return weigh(-distance(differences) / scale(alpha_bar))

    return weights


def posterior_weights(xt, images, alpha_bar_t):
    return _weights_with()(xt, images, alpha_bar_t)


WEIGHTS = Variants(
    _weights_with,
    dict(
        image=(
            Mistake(lambda alpha_bar: 1, "the images are not scaled: in xt they have the factor sqrt(alpha_bar_t)"),
            Mistake(lambda alpha_bar: alpha_bar, "the images have the factor alpha_bar_t; in xt it is the root of that"),
            Mistake(
                lambda alpha_bar: (1 - alpha_bar).sqrt(), "the images have the factor sqrt(1 - alpha_bar_t); in xt it is sqrt(alpha_bar_t)"
            ),
            Mistake(lambda alpha_bar: 1 / alpha_bar.sqrt(), "the images are divided by sqrt(alpha_bar_t); in xt they are multiplied by it"),
            Mistake(lambda alpha_bar: -alpha_bar.sqrt(), "the images are added to xt; subtract them"),
        ),
        noisy=(Mistake(lambda alpha_bar: alpha_bar.sqrt(), "xt is multiplied by sqrt(alpha_bar_t); only the images have this factor"),),
        distance=(
            Mistake(lambda differences: differences.square().mean(dim=2), "this is the mean of the squares; |…|^2 is their sum"),
            Mistake(lambda differences: differences.norm(dim=2), "the distance is not squared; the exponent contains |…|^2"),
            Mistake(
                lambda differences: differences.abs().sum(dim=2),
                "these are absolute differences; the exponent contains the sum of their squares",
            ),
            Mistake(lambda differences: differences.sum(dim=2).square(), "square first, then sum: |…|^2 is the sum of the squares"),
        ),
        scale=(
            Mistake(lambda alpha_bar: 1 - alpha_bar, "the 2 of the normal density is missing in the denominator"),
            Mistake(
                lambda alpha_bar: 2 * (1 - alpha_bar).sqrt(),
                "the exponent is divided by a standard deviation; divide by the variance, 1 - alpha_bar_t",
            ),
            Mistake(
                lambda alpha_bar: 2 * (1 - alpha_bar) ** 2,
                "the exponent is divided by the variance squared; divide by 1 - alpha_bar_t itself",
            ),
            Mistake(lambda alpha_bar: 2 - alpha_bar, "2 (1 - alpha_bar_t) needs brackets: the denominator is 2 - 2 alpha_bar_t"),
            Mistake(
                lambda alpha_bar: 2 / (1 - alpha_bar), "the variance multiplies; it belongs in the denominator: / (2 * (1 - alpha_bar_t))"
            ),
            Mistake(
                lambda alpha_bar: 2 * alpha_bar, "the exponent is divided by 2 alpha_bar_t; the variance of the noise is 1 - alpha_bar_t"
            ),
            Mistake(lambda alpha_bar: 2, "the variance 1 - alpha_bar_t is missing in the denominator"),
            Mistake(lambda alpha_bar: 1, "the exponent is not divided by 2 (1 - alpha_bar_t)"),
            Mistake(lambda alpha_bar: -2 * (1 - alpha_bar), "the minus sign is missing: the image that fits worst gets the most weight"),
            Mistake(
                lambda alpha_bar: -(1 - alpha_bar),
                "the minus sign is missing: the image that fits worst gets the most weight; and the 2 is missing",
            ),
        ),
        weigh=(
            Mistake(
                lambda exponents: torch.softmax(exponents, dim=0),
                "the weights of one image sum to 1 over all xt; the weights of one xt should sum to 1 over all images: dim=1",
            ),
            Mistake(lambda exponents: torch.log_softmax(exponents, dim=1), "these are the logarithms of the weights"),
            Mistake(lambda exponents: exponents, "these are the exponents; (5.1) is their softmax"),
            Mistake(lambda exponents: exponents.exp(), "the weights do not sum to 1: divide by the sum over the images"),
            Mistake(
                lambda exponents: exponents.exp() / exponents.exp().sum(),
                "all weights together sum to 1; the weights of each xt should (dim=1)",
            ),
            Mistake(
                lambda exponents: torch.softmax(exponents.flatten(), dim=0).view(exponents.shape),
                "all weights together sum to 1; the weights of each xt should (dim=1)",
            ),
            Mistake(lambda exponents: exponents / exponents.sum(dim=1, keepdim=True), "the exponential is missing"),
            Mistake(
                lambda exponents: 1 / exponents / (1 / exponents).sum(dim=1, keepdim=True),
                "the weights are reciprocals of the distances; (5.1) has exponentials",
            ),
            Mistake(
                lambda exponents: torch.nn.functional.one_hot(exponents.argmax(dim=1), exponents.shape[1]).float(),
                "all the weight goes to the nearest image; the others get some too",
            ),
            Mistake(
                lambda exponents: torch.ones_like(exponents) / exponents.shape[1],
                "all weights are equal; they are only where no trace of the images is left",
            ),
            Mistake(
                lambda exponents: torch.softmax(exponents, dim=1).T, "the weights are right, but transposed: expected one row for each xt"
            ),
        ),
    ),
)

"""The loss of each image, an exercise of notebook 03."""

import torch

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, randn, two_wrong

PIXELS = 1, 2, 3


def _reduced(error, reduced, after=lambda x: x):
    return lambda eps_hat, eps: after(reduced(error(eps_hat, eps)))


_SHAPE = "the shape is wrong: expected (B,), one number for each image"
_LOSS = (
    [
        (lambda a, b: (a - b).square(), ""),
        (lambda a, b: (a - b).abs(), "this is the mean absolute error; (3.6) squares"),
        (lambda a, b: a - b, "nothing is squared: errors of opposite sign cancel"),
        (lambda a, b: (a + b).square(), "the two are added; subtract them"),
        (lambda a, b: a.square() - b.square(), "this is the difference of the squares; (3.6) has the square of the difference"),
        (lambda a, b: a * b, "this multiplies the two; (3.6) has the square of their difference"),
        (lambda a, b: torch.nn.functional.smooth_l1_loss(a, b, reduction="none"), "this is the smooth L1 (Huber) loss; (3.6) squares"),
        (lambda a, b: a.square(), "eps is not subtracted from eps_hat"),
        (lambda a, b: (a - b) ** 4, "the error is squared twice"),
        (lambda a, b: ((a - b) / b).square(), "the error is divided by eps; (3.6) uses it unchanged"),
        (
            lambda a, b: (a - b - (a - b).mean(PIXELS, keepdim=True)).square(),
            "this is the variance of the error: do not subtract its mean",
        ),
    ],
    [
        (lambda e: e.mean(dim=PIXELS), ""),
        (lambda e: e.mean(), "this is the mean of the whole batch; expected one number for each image"),
        (
            lambda e: e.sum(dim=PIXELS),
            "this is the sum over an image's values, as in (3.6); expected their mean, which does not depend on the size of the image",
        ),
        (lambda e: e.sum(), "this is the sum over the whole batch; expected the mean for each image"),
        (lambda e: e.sum() / len(e), "this is one number for the batch; expected one for each image, the mean of its values"),
        (lambda e: e.mean().expand(len(e)), "every image gets the mean of the whole batch; expected its own mean"),
        (lambda e: e.mean(dim=PIXELS, keepdim=True), _SHAPE),
        (lambda e: e.mean(dim=PIXELS)[:, None], _SHAPE),
        (lambda e: e.mean(dim=(2, 3)), "this is one number for each channel of each image: average over the channels too"),
        (lambda e: e.mean(dim=1), "this is one number for each pixel: average over height and width too"),
        (lambda e: e.mean(dim=-1), "this is the mean over rows only; average over channels, height and width"),
        (lambda e: e.mean(dim=(1, 2)), "the mean omits the width; average over channels, height and width: dim=(1, 2, 3)"),
        (lambda e: e.mean(dim=0), "the mean runs over the batch; average over the values of each image"),
        (lambda e: e.mean(dim=(0, 2, 3)), "this is one number for each channel; expected one for each image"),
        (lambda e: e.mean(dim=(0, 1, 2)), "the mean runs over the batch; average over the values of each image"),
        (lambda e: e, "this is the error of each value; expected the mean for each image"),
        (lambda e: e.mean(dim=(2, 3)).sum(dim=1), "the channels are summed; average over them too"),
        (lambda e: e.mean(dim=1).sum(dim=(1, 2)), "height and width are summed; average over them too"),
        (lambda e: e.sum(dim=PIXELS) / len(e), "the sum is divided by the number of images; divide by the number of values in one image"),
        (lambda e: e.sum(dim=PIXELS) / (e[0].numel() - 1), "this is close, but the sum is divided by n - 1; a mean divides by n"),
        (lambda e: e.amax(dim=PIXELS), "this is the largest error; expected the mean"),
        (lambda e: e.flatten(1).median(dim=1).values, "this is the median; expected the mean"),
        (lambda e: e.mean(dim=PIXELS).squeeze(), "squeeze makes the shape () for a batch of one image; expected (1,)"),
        (
            lambda e: e.squeeze().mean(dim=PIXELS),
            "squeeze drops the batch axis if it has one image, and the channel axis if it has one channel",
        ),
    ],
    [
        (lambda x: x, ""),
        (lambda x: x.sqrt(), "this takes a root at the end; (3.6) has none"),
        (lambda x: x / 2, "this is half the mean squared error; leave out the factor 1/2"),
        (lambda x: x.square(), "square first, then average"),
        (lambda x: x.log(), "this is the logarithm of the mean squared error; leave out the logarithm"),
        (lambda x: -x, "the sign is wrong: a mean of squares is never negative"),
    ],
)

check_loss = Exercise(
    reference=lambda eps_hat, eps: (eps_hat - eps).square().mean(dim=PIXELS),
    inputs=lambda random: [randn(random, size, size) for size in ((6, 2, 4, 5), (1, 3, 5, 2), (4, 1, 3, 6), (1, 1, 2, 7))],
    mistakes=(
        *one_wrong(_reduced, *_LOSS),
        Mistake(lambda a, b: (a - b).mean(PIXELS).square(), "square first, then average: errors of opposite sign must not cancel"),
        Mistake(
            lambda a, b: (a - b).flatten(1).norm(dim=1),
            "this is the norm of the difference, with a root; expected the mean of squares",
        ),
    ),
    diagnose=first_of(nearly(two_wrong(_reduced, *_LOSS)), explained),
)

"""Exercises of notebook 05."""

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question, close
from diffusion_lib.exercises.parts import floats
from diffusion_lib.exercises.weights import WEIGHTS, posterior_weights, squared

# ------------------------------------------------------------------------------------------------------------------- nearest


def _nearest(samples, images):
    return torch.cdist(samples.flatten(1), images.flatten(1)).argmin(dim=1)


def _images(random: torch.Generator, n: int, shape: tuple[int, ...]) -> Tensor:
    """n images of different brightness and contrast, so that neither an overlap nor an angle can replace the distance."""
    contrast = 0.6 + 0.6 * torch.rand(n, 1, 1, 1, generator=random)
    return contrast * torch.randn(n, *shape, generator=random) + 0.3 * torch.randn(n, 1, 1, 1, generator=random)


def _nearest_calls(random: torch.Generator) -> list[tuple]:
    calls = []
    for a, b, shape in (
        *((30, 9, (1, 4, 6)), (40, 12, (3, 3, 2)), (1, 7, (1, 4, 5))),
        *((5, 1, (2, 3, 4)), (7, 7, (3, 4, 4)), (40, 30, (1, 3, 5))),
    ):
        samples, images = _images(random, a, shape), _images(random, b, shape)
        if a == b:
            samples[::2] = images[::2].flip(0)  # copies, at distance 0
        distances = torch.cdist(samples.double().flatten(1), images.double().flatten(1)).sort(dim=1).values
        clear = distances[:, 1] > distances[:, 0] + 1e-2 if b > 1 else torch.ones(a, dtype=torch.bool)
        calls.append((samples[clear], images))  # rounding would decide between two images at nearly the same distance
    return calls


def _about_nearest(got, expected, samples, images):
    if isinstance(got, tuple) and any(isinstance(part, Tensor) and torch.equal(part, expected) for part in got):
        return "the indices are right, but come with the distances; expected the indices alone (.indices, or argmin)"
    x = torch.as_tensor(got)
    if x.shape == images[expected].shape and torch.equal(x, images[expected]):
        return "these are the nearest images themselves; expected their indices"
    if x.numel() == expected.numel() and x.shape != expected.shape and torch.equal(x.flatten().long(), expected):
        return f"the indices are right, but have shape {tuple(x.shape)}; expected {tuple(expected.shape)}, one for each sample"
    if x.shape != expected.shape or x.is_complex() or x.dtype == torch.bool:
        return None
    if x.is_floating_point() and torch.equal(x.double(), expected.double()):
        return f"the values are right, but they are floats ({x.dtype}); indices are integers"
    if x.is_floating_point():
        return None
    wrong = (x != expected).nonzero().flatten()
    if not len(wrong):
        return None
    k = int(wrong[0])
    theirs, right = int(x[k]), int(expected[k])
    if not 0 <= theirs < len(images):
        return f"sample {k} gets the index {theirs}; expected 0 to {len(images) - 1}, for {len(images)} training images"
    ours, best = (torch.dist(samples[k], images[j]).item() for j in (theirs, right))
    distances = f"the norms of the differences are {best:.3g} and {ours:.3g}"
    return f"{len(wrong)} of {len(x)} are wrong: the nearest to sample {k} is image {right}, not {theirs} ({distances})"


def _flat(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a.flatten(1), b.flatten(1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    a, b = (x / x.norm(dim=1, keepdim=True) for x in _flat(a, b))
    return a @ b.T


check_nearest = Exercise(
    reference=_nearest,
    inputs=_nearest_calls,
    mistakes=(
        Mistake(lambda a, b: torch.cdist(*_flat(a, b)).argmax(dim=1), "these are the most distant images; take argmin"),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b)).argmin(dim=0),
            "this is one index for each training image; expected one for each sample: search along the training images (dim=1)",
        ),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b)).min(dim=1).values,
            "these are the distances; expected the index of the image (argmin)",
        ),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b)), "these are all the distances; expected the index of the smallest in each row (argmin)"
        ),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b)).argsort(dim=1),
            "these are the indices of all images, sorted by distance; expected only the first of each row",
        ),
        Mistake(
            lambda a, b: (a.flatten(1) @ b.flatten(1).T).argmax(dim=1),
            "this is the image with the largest scalar product, which favours bright images; expected the smallest distance",
        ),
        Mistake(
            lambda a, b: (a.flatten(1) @ b.flatten(1).T).argmin(dim=1),
            "this is the image with the smallest scalar product; expected the smallest distance",
        ),
        Mistake(
            lambda a, b: _cosine(a, b).argmax(dim=1),
            "this is the image at the smallest angle (cosine), which ignores contrast; expected the smallest distance",
        ),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b)).argmin(),
            "this is one number, for the nearest pair of all; expected one index for each sample",
        ),
        Mistake(
            lambda a, b: (a.mean(dim=(1, 2, 3))[:, None] - b.mean(dim=(1, 2, 3))).abs().argmin(dim=1),
            "this compares only the mean brightness; square the difference of each pixel, then sum",
        ),
        Mistake(
            lambda a, b: (a.flatten(1)[:, None] - b.flatten(1)[None]).sum(dim=2).argmin(dim=1),
            "the differences are summed with their signs; square them first",
        ),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b), p=1).argmin(dim=1),
            "this is the smallest sum of absolute differences; dist(a, b) is the root of the mean square",
        ),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b), p=torch.inf).argmin(dim=1),
            "this compares the largest difference in a single pixel; dist(a, b) is the root of the mean square over all pixels",
        ),
        Mistake(
            lambda a, b: torch.cdist(a[:, 0].flatten(1), b[:, 0].flatten(1)).argmin(dim=1),
            "this compares only the first channel; all channels count",
        ),
        Mistake(
            lambda a, b: torch.cdist(a.mean(dim=1).flatten(1), b.mean(dim=1).flatten(1)).argmin(dim=1),
            "this compares the mean of the channels; compare each channel pixel by pixel",
        ),
        Mistake(lambda a, b: torch.cdist(*_flat(a, b)).argmin(dim=1) + 1, "these indices are one too high: the first image has index 0"),
        Mistake(
            lambda a, b: torch.cdist(*_flat(a, b)).topk(2, largest=False).indices[:, 1] if len(b) > 1 else _nearest(a, b),
            "this is the second nearest image; expected the nearest",
        ),
        Mistake(
            lambda a, b: (d := torch.cdist(*_flat(a, b))).where(d > 1e-3, torch.inf).argmin(dim=1),
            "images at distance 0 are left out; a copy is the nearest image possible",
        ),
    ),
    diagnose=_about_nearest,
)


# -------------------------------------------------------------------------------------------------------------------- weights


SUBTRACT = "subtract the largest of each row first, as torch.softmax does"


def _about_weights(got, expected, xt, images, alpha_bar):
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        x = got if isinstance(got, Tensor) and got.is_floating_point() and got.isfinite().all() else None
        return WEIGHTS.named(1, x, xt, images, alpha_bar) if x is not None else None
    exponents = -squared(xt.flatten(1)[:, None] - alpha_bar.sqrt() * images.flatten(1)[None]) / (2 * (1 - alpha_bar))
    largest = exponents.max(dim=1).values.min().item()
    small = f"all exponents of a row are {largest:.0f} or less, so exp gives 0"
    if got.isnan().any() and largest < -80:
        return f"{small}, and 0 / 0 is nan: {SUBTRACT}"
    x = floats(got, expected)
    if x is None:
        return None
    if largest < -80 and (x == 0).all(dim=1).any():
        return f"{small}, and every weight is 0 too: {SUBTRACT}"
    if largest < -80:
        return f"it is off by up to {(x - expected).abs().max():.3g} if all exponents of a row are {largest:.0f} or less: do not clamp them"
    if (x == 0).all():
        return "every weight is 0; in each row the weights should sum to 1"
    if len(images) > 1 and (said := WEIGHTS.named(1, x, xt, images, alpha_bar) or WEIGHTS.named(2, x, xt, images, alpha_bar)):
        return said
    sums = x.sum(dim=1)
    if not close(sums, torch.ones(len(x))):
        return f"rows sum to {sums.min().item():.3g} … {sums.max().item():.3g}; expected 1, the sum of one xt's weights over all images"
    return None


def _weights_calls(random: torch.Generator) -> list[tuple]:
    calls = []
    for batch, n, shape, alpha_bar in (
        *((5, 4, (1, 4, 6), 0.1), (4, 6, (3, 3, 2), 0.3), (1, 5, (1, 4, 5), 0.05), (3, 1, (2, 3, 4), 0.4)),
        *((4, 4, (2, 3, 3), 0.2), (3, 7, (1, 5, 3), 1e-6)),
    ):
        images = 0.6 * torch.randn(n, *shape, generator=random)
        eps = torch.randn(batch, *shape, generator=random)
        xt = alpha_bar**0.5 * images[torch.arange(batch) % n] + (1 - alpha_bar) ** 0.5 * eps
        calls.append((xt, images, torch.tensor(alpha_bar)))
    return [*calls, _near_the_image(random), _far_from_all(random)]


def _near_the_image(random: torch.Generator) -> tuple:
    """Little noise: one weight of each row is 1, although exp of its exponent is 0 in float32."""
    images = torch.randn(5, 3, 9, 16, generator=random).clamp(-1, 1)
    alpha_bar = torch.tensor(0.9996)
    return alpha_bar.sqrt() * images[[3, 0, 4]] + (1 - alpha_bar).sqrt() * torch.randn(3, 3, 9, 16, generator=random), images, alpha_bar


def _far_from_all(random: torch.Generator) -> tuple:
    """exp underflows in float64 too. One row has two images at exactly the same distance; in another all exponents are small."""
    images = torch.randint(-4, 5, (4, 1, 8, 12), generator=random) / 4
    images[2] = images[0]
    xt = torch.stack([8 * images[0], 8 * images[1], images[3] / 2])
    return xt, images, torch.tensor(0.25)


check_posterior_weights = Exercise(
    reference=posterior_weights,
    inputs=_weights_calls,
    mistakes=(
        Mistake(WEIGHTS.build(weigh=WEIGHTS.parts["weigh"][0].answer), WEIGHTS.parts["weigh"][0].message),
        Mistake(
            lambda xt, images, alpha_bar: (posterior_weights(xt, images, alpha_bar) @ images.flatten(1)).view(xt.shape),
            "this is the weighted mean of the images, x0_hat; expected the weights",
        ),
        Mistake(
            WEIGHTS.build(image=lambda alpha_bar: 1, noisy=lambda alpha_bar: 1 / alpha_bar.sqrt()),
            "xt is divided by sqrt(alpha_bar_t), and so is its noise: divide the variance in the denominator by alpha_bar_t too",
        ),
    ),
    praise="a single image has weight 1, whatever xt is",
    diagnose=_about_weights,
)


# --------------------------------------------------------------------------------------------------------------------- count


def _effective_sample_size(weights):
    return 1 / weights.square().sum(dim=1)


def _rows(random: torch.Generator) -> list[tuple]:
    """Rows of weights of all kinds, including rows with a single weight, with equal weights and with zeros."""
    calls = []
    for batch, n, contrast in ((6, 5, 2.0), (3, 30, 4.0), (1, 7, 1.0), (4, 4, 1.0), (5, 1, 1.0), (8, 200, 6.0), (3, 200, 0.1)):
        calls.append((torch.softmax(contrast * torch.randn(batch, n, generator=random), dim=1),))
    some = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]])
    return [*calls, (some,), (torch.eye(9)[[2, 7]].double(),)]


def _about_count(got, expected, weights):
    x = floats(got, expected)
    if x is None:
        return None
    entropy = torch.special.entr(weights).sum(dim=1)
    if close(x, entropy.exp()):
        return "this is the exponential of the entropy, which also runs from 1 to N; expected 1 / sum of w_i^2"
    if close(x, entropy):
        return "this is the entropy; expected 1 / sum of w_i^2"
    if close(x, expected.ceil()):
        return "this is rounded; it need not be an integer"
    ratios = x / expected
    if len(x) > 1 and close(ratios, ratios[:1].expand(len(x))):
        return f"it is {ratios[0].item():.4g} times what it should be"
    return None


check_effective_sample_size = Exercise(
    reference=_effective_sample_size,
    inputs=_rows,
    mistakes=(
        Mistake(lambda w: w.square().sum(dim=1), "this is the reciprocal: ten equal weights should count as 10, not as a tenth"),
        Mistake(lambda w: 1 / w.sum(dim=1).square(), "this is always 1, because the weights sum to 1: square first, then sum"),
        Mistake(lambda w: (1 / w.square()).sum(dim=1), "sum first, then take the reciprocal: 1 / sum of w_i^2"),
        Mistake(lambda w: (1 / w).sum(dim=1), "this is the sum of the reciprocals of the weights; expected 1 / sum of w_i^2"),
        Mistake(lambda w: 1 / w.square().sum(dim=1).sqrt(), "this has one root too many; expected 1 / sum of w_i^2"),
        Mistake(lambda w: w.square().sum(dim=1).sqrt(), "this is the root of the sum of squares; expected 1 / sum of w_i^2"),
        Mistake(lambda w: 1 / w.square().mean(dim=1), "this is 1 / mean of w_i^2; expected 1 / sum of w_i^2"),
        Mistake(lambda w: 1 / w.square().sum(dim=1).square(), "the sum is squared too; square only the weights"),
        Mistake(lambda w: 1 / w.pow(3).sum(dim=1), "the weights are cubed; square them"),
        Mistake(lambda w: (w > 0).sum(dim=1), "this counts every image with a nonzero weight, however small"),
        Mistake(lambda w: (w > 0).sum(dim=1).float(), "this counts every image with a nonzero weight, however small"),
        Mistake(lambda w: torch.full((len(w),), float(w.shape[1])), "this is N, whatever the weights are"),
        Mistake(lambda w: 1 / w.max(dim=1).values, "this uses only the largest weight"),
        Mistake(lambda w: 1 / w[:, 0].square(), "this uses only the first weight"),
        Mistake(lambda w: (1 / w.square().sum(dim=1)).round(), "this is rounded; it need not be an integer"),
        Mistake(lambda w: (1 / w.square().sum(dim=1)).round().long(), "this is rounded; it need not be an integer"),
        Mistake(lambda w: (1 / w.square().sum(dim=1)).floor(), "this is rounded; it need not be an integer"),
        Mistake(lambda w: (1 / w.square().sum(dim=1)).long(), "this is rounded; it need not be an integer"),
        Mistake(lambda w: 1 / w.square().sum(), "this is one number for all rows; expected one for each row (dim=1)"),
        Mistake(lambda w: (1 / w.square().sum(dim=1)).mean(), "this is one number, the mean over the rows; expected one for each row"),
        Mistake(lambda w: 1 / w.square().sum(dim=0), "this is one number for each column; expected one for each row (dim=1)"),
        Mistake(lambda w: 1 / w.square(), "the sum is missing: square, sum along a row, then take the reciprocal"),
        Mistake(lambda w: 1 / w.square().sum(dim=1, keepdim=True), "the numbers are right, but have shape (B, 1): leave out keepdim"),
        Mistake(lambda w: -1 / w.square().sum(dim=1), "the sign is wrong: a count is positive"),
    ),
    praise="this is 1 if one image has all the weight, N if all weights are equal",
    diagnose=_about_count,
)


# ------------------------------------------------------------------------------------------------------------------- halfway

check_two_images = Question(
    answer=0.5,
    tolerance=1e-6,
    mistakes=(
        Mistake(1.0, "both images fit equally well; neither can have all the weight"),
        Mistake(0.0, "both images fit equally well, and one of them must have led to xt"),
        Mistake(2.0, "a weight is a probability, at most 1"),
        Mistake(50.0, "a weight is a probability, at most 1: 50% is 0.5"),
        Mistake(-0.5, "a weight is a probability, at least 0"),
        Mistake(0.25, "both images fit equally well, and the two weights sum to 1"),
        Mistake(1 / 3, "both images fit equally well, and the two weights sum to 1: there is no third"),
        Mistake(0.5**0.5, "both images fit equally well, and the two weights sum to 1, not their squares"),
    ),
    praise="the prediction is the mean of the two: it is not in the dataset, and is still the best prediction",
)

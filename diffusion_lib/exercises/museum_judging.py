"""Exhibits of notebook 06 about looking and judging: pixels of a file, pixels on a screen, and a score."""

import math

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, close
from diffusion_lib.exercises.exhibit import AS_IT_STANDS, Open, apart, comparable
from diffusion_lib.exercises.intervals import about_interval, is_interval, wald, wilson

# ---------------------------------------------------------------------------------------------------------------------- pixels


def _pixels(x):
    # 0..255 = round((clamp(x, -1, 1) + 1) 127.5)
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _greys(random: torch.Generator) -> list[tuple]:
    """Black, white and greys, some out of range, each within 0.48 of an integer: every way to write round gives the same byte."""
    calls = []
    for *shape, beyond in ((4, 1, 16, 16, 90), (2, 3, 5, 7, 2000), (1, 1, 6, 4, 0), (3, 3, 4, 6, 300)):
        byte = torch.randint(-beyond, 256 + beyond, shape, generator=random)
        x = (byte + 0.96 * torch.rand(shape, generator=random) - 0.48) / 127.5 - 1
        x = x if beyond else x.clamp(-1, 1)
        x[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
        calls.append((x,))
    return calls


def _about_pixels(got, expected, x) -> str | None:
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return None
    values = got.double()
    low, high = values.aminmax()
    if got.dtype != torch.uint8:
        beyond = f", and values from {low:.4g} to {high:.4g} instead of 0 to 255" if low < 0 or high > 255 else ""
        scale = ", in 0 to 1" if got.is_floating_point() and low >= 0 and 0 < high <= 1 else ""
        return f"it returns {got.dtype}{scale or beyond}; expected bytes, torch.uint8"
    if (values - 255 * _extremes(x)).abs().max() <= 1:
        return f"the darkest value becomes {low:.0f} and the brightest {high:.0f}, whatever they are: {_STRETCHED}"
    off = (values - expected.double()).abs()
    if off.max() == 1:
        return f"{(off > 0).double().mean():.0%} of the bytes are off by one; each should be the nearest of 0 to 255"
    inside = x.abs() <= 1
    if not off[inside].any():
        return f"values inside [-1, 1] are right; of those outside, {(off[~inside] > 0).double().mean():.0%} should be 0 or 255 but are not"
    grey, byte, right = (v[inside][off[inside].argmax()].item() for v in (x, got, expected))
    return f"{grey:.4g} becomes {byte}; expected {right}"


def _extremes(x: Tensor, dims: tuple[int, ...] = (0, 1, 2, 3)) -> Tensor:
    """Stretched to [0, 1] by the smallest and largest value over these dims."""
    low, high = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    return (x - low) / (high - low)


def _bytes(greys: Tensor) -> Tensor:
    return greys.round().int().to(torch.uint8)


_STRETCHED = "this stretches pictures to their own extremes (exhibit 14)"
_NO_ROUND = "without round, every value falls to the grey below"

check_exhibit_13 = Exercise(
    reference=_pixels,
    inputs=_greys,
    diagnose=_about_pixels,
    mistakes=(
        Mistake(lambda x: _bytes((x + 1) * 127.5), AS_IT_STANDS),
        Mistake(
            lambda x: _bytes((x.clamp(min=-1) + 1) * 127.5),
            "the dark end is clipped; what is brighter than white still wraps around, to black",
        ),
        Mistake(
            lambda x: _bytes((x.clamp(max=1) + 1) * 127.5),
            "the bright end is clipped; what is darker than black still wraps around, to white",
        ),
        Mistake(lambda x: ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8), _NO_ROUND),
        Mistake(lambda x: ((x + 1) * 127.5).int().to(torch.uint8), f"nothing is clipped yet, and {_NO_ROUND}"),
        Mistake(lambda x: _bytes(((x.clamp(-1, 1) + 1) * 127.5).ceil()), "ceil raises every value to the grey above; round to the nearest"),
        Mistake(lambda x: _bytes(x.clamp(0, 1) * 255), "images are in [-1, 1] here: half of the greys are cut off"),
        Mistake(lambda x: _bytes(x.clamp(-1, 1) * 255), "the 1 is not added: black (-1) becomes -255, which wraps around to 1"),
        Mistake(lambda x: _bytes(x.clamp(-1, 1) * 127.5), "the 1 is not added: everything below mid-grey is negative, and wraps around"),
        Mistake(
            lambda x: _bytes((x.clamp(-1, 1) + 1) * 255), "[-1, 1] plus 1 is [0, 2], so the factor is 127.5; with 255, half wraps around"
        ),
        Mistake(
            lambda x: _bytes((x.clamp(-1, 1) + 1) * 128),
            "[-1, 1] plus 1 is [0, 2], so its factor is 127.5; with 128, white is 256, and wraps around to black",
        ),
        Mistake(lambda x: _bytes((x.clamp(-1, 1) + 1) * 127), "[-1, 1] plus 1 is [0, 2], so its factor is 127.5; with 127, white is 254"),
        Mistake(
            lambda x: ((x.clamp(-1, 1) + 1) * 128).clamp(max=255).to(torch.uint8),
            "this cuts [-1, 1] into 256 equal parts; expected the nearest of 0 to 255: round((x + 1) * 127.5)",
        ),
        Mistake(lambda x: 255 - _pixels(x), "this is the negative: black (-1) should become 0"),
        Mistake(lambda x: _bytes((x.clamp(-1, 1) + 1).round() * 127.5), "round comes too early: only three greys are left"),
        Mistake(lambda x: _bytes((x.tanh() + 1) * 127.5), "tanh bends every grey; clip instead"),
        Mistake(lambda x: _bytes(x.sigmoid() * 255), "a sigmoid bends every grey; clip instead"),
        Mistake(lambda x: _bytes(_extremes(x) * 255), _STRETCHED),
        Mistake(lambda x: _bytes(_extremes(x, (1, 2, 3)) * 255), _STRETCHED),
        Mistake(lambda x: (_extremes(x) * 255).to(torch.uint8), f"{_STRETCHED}; and {_NO_ROUND}"),
        Mistake(lambda x: (_extremes(x, (1, 2, 3)) * 255).to(torch.uint8), f"{_STRETCHED}; and {_NO_ROUND}"),
    ),
    praise="noise beyond black is black",
)


# ----------------------------------------------------------------------------------------------------------------------- shown


def _shown(x):
    return (x.clamp(-1, 1) + 1) / 2


def _dim_and_strong(random: torch.Generator) -> list[tuple]:
    """Values beyond the range, values all inside it, a single image, and images of one grey."""
    return [
        (torch.randn(4, 1, 8, 8, generator=random),),
        (0.4 * torch.rand(2, 3, 5, 7, generator=random) - 0.3,),
        (0.5 * torch.randn(1, 1, 6, 4, generator=random) - 0.9,),
        (torch.full((3, 1, 2, 5), 0.3),),
    ]


def _about_shown(got, expected, x) -> str | None:
    if isinstance(got, Tensor) and got.is_floating_point() and got.shape == expected.shape and got.isnan().any():
        one_grey = ": images of one grey have no range to be stretched from, 0 / 0" if x.min() == x.max() else ""
        return f"it returns nan{one_grey}"
    if not comparable(got, expected):
        return None
    if got.min() < 0 or got.max() > 1:
        return f"it returns values from {got.min():.3g} to {got.max():.3g}; expected all in [0, 1]"
    if close(got, _extremes(x)) or close(got, _extremes(x, (1, 2, 3))):
        return "the darkest value still becomes 0 and the brightest 1, whatever they are; use the data's range, [-1, 1]"
    if close(got, 1 - expected):
        return "this is the negative: black (-1) should become 0"
    inside = x.abs() <= 1
    if close(got[inside], expected[inside]):
        return "values inside [-1, 1] are right; those outside should become 0 or 1"
    place = (got - expected)[inside].abs().argmax()
    grey, right = apart(got[inside][place], expected[inside][place])
    return f"{x[inside][place]:.3g} becomes {grey}; expected {right}"


_BENT = "bends the greys; a straight line takes -1 to 0 and 1 to 1"
_OWN = "now each image is stretched to its own extremes; use the data's range, the same for all"

check_exhibit_14 = Exercise(
    reference=_shown,
    inputs=_dim_and_strong,
    diagnose=_about_shown,
    mistakes=(
        Mistake(lambda x: (x - x.min()) / (x.max() - x.min()), AS_IT_STANDS),
        Mistake(lambda x: _extremes(x, (1, 2, 3)), _OWN),
        Mistake(lambda x: _extremes(x, (2, 3)), "now each channel is stretched to its own extremes; use the data's range, [-1, 1]"),
        Mistake(
            lambda x: _extremes(x.clamp(-1, 1)),
            "clipped, and then stretched to the batch's own extremes; use the data's range",
        ),
        Mistake(lambda x: (x / x.abs().max() + 1) / 2, "this scales by the batch's own largest value; use the data's range, [-1, 1]"),
        Mistake(lambda x: x / x.max(), "this divides by the batch's own largest value; use the data's range, [-1, 1]"),
        Mistake(lambda x: (x + 1) / 2, "values outside [-1, 1] give greys outside [0, 1]; clip first"),
        Mistake(lambda x: (x.clamp(min=-1) + 1) / 2, "the dark end is clipped; values above 1 give greys above 1"),
        Mistake(lambda x: (x.clamp(max=1) + 1) / 2, "the bright end is clipped; values below -1 give greys below 0"),
        Mistake(lambda x: x.clamp(-1, 1), "clipped, and still in [-1, 1]: shift and scale it to [0, 1]"),
        Mistake(lambda x: x.clamp(-1, 1) / 2, "this is in [-0.5, 0.5]: add 1 before dividing by 2"),
        Mistake(lambda x: x.clamp(-1, 1) + 1, "this is in [0, 2]: divide by 2"),
        Mistake(lambda x: x + 1, "1 is added, but nothing is clipped or divided by 2"),
        Mistake(lambda x: x.clamp(-1, 1) / 2 + 1, "1 is added after dividing by 2; add it before, or add 0.5"),
        Mistake(lambda x: x.clamp(0, 1), "everything darker than mid-grey becomes black: images are in [-1, 1]"),
        Mistake(lambda x: (x.clamp(0, 1) + 1) / 2, "clipped to [0, 1] first: everything darker than mid-grey becomes mid-grey"),
        Mistake(lambda x: x.abs().clamp(max=1), "the sign is lost: black (-1) becomes white"),
        Mistake(lambda x: x.sigmoid(), f"a sigmoid {_BENT}"),
        Mistake(lambda x: (x.tanh() + 1) / 2, f"tanh {_BENT}"),
        Mistake(lambda x: (x.clamp(-1, 1) + 1) * 127.5, "this is in [0, 255]; expected [0, 1]"),
        Mistake(_pixels, "these are bytes, 0 to 255; expected floats in [0, 1]"),
        Mistake(lambda x: _pixels(x) / 255, "this is rounded to bytes on the way; leave every value where it is in [0, 1]"),
    ),
    praise="all pictures share one scale, that of the data",
)


# ----------------------------------------------------------------------------------------------------------------------- score


def _with_interval(reads):
    centre, half = wilson(int(reads.sum()), len(reads))
    return torch.tensor(centre), torch.tensor(half)


def _all_none_and_some(random: torch.Generator) -> list[tuple]:
    some = [torch.randperm(n, generator=random) < right for n, right in ((400, 281), (50, 44), (16, 9))]
    alike = [torch.full((n,), right) for n, right in ((16, True), (30, False), (400, True))]
    return [(reads,) for reads in (*some, *alike)]


def _as_wald(p, half=lambda p, n: 1.96 * math.sqrt(p * (1 - p) / n), swapped=False):
    """p and half the width, as functions of the fraction and n."""

    def reported(reads):
        fraction, n = reads.double().mean().item(), len(reads)
        return (half(fraction, n), p(fraction)) if swapped else (p(fraction), half(fraction, n))

    return reported


def _fraction(p):
    return p


_EMPTY = "and where all or none are read correctly the interval is empty"

check_exhibit_15 = Open(
    reference=_with_interval,
    inputs=_all_none_and_some,
    accepts=lambda answer, reads: is_interval(answer, int(reads.sum()), len(reads)),
    look=lambda answer: tuple(answer) if isinstance(answer, tuple | list) or getattr(answer, "ndim", 0) == 1 else answer,
    diagnose=lambda got, expected, reads: about_interval(got, int(reads.sum()), len(reads)),
    mistakes=(
        Mistake(lambda reads: reads.float().mean(), AS_IT_STANDS),
        Mistake(
            _as_wald(_fraction, lambda p, n: wald(p * n, n)[1]),
            "right for most p, but where all (or none) are read correctly the interval is empty, as if 16 images could prove p = 1; "
            "Wilson's is not",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 1.96 * math.sqrt(p * (1 - p))),
            f"this is the standard deviation of single images; that of their mean is smaller by the root of n; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 1.96 * math.sqrt(p * (1 - p)) / n),
            f"n is under the root: four times as many images make the interval half as wide; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: math.sqrt(p * (1 - p) / n)),
            f"this is one standard error; 95% need 1.96 of them; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 2 * 1.96 * math.sqrt(p * (1 - p) / n)),
            f"this is the whole width; expected half of it; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 1.96 * p * (1 - p) / n),
            f"this uses a variance; the standard error is its root; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: p * (1 - p) / n),
            f"this is the variance of the mean; the interval is 1.96 times its root; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 1.96 * math.sqrt(p * (1 - p) / (n - 1))),
            f"nearly: the standard error of a fraction divides by n, not by n - 1; {_EMPTY}",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 1.96 / math.sqrt(n)),
            "this ignores p; near 0 and 1 there is less uncertainty: p (1 - p)",
        ),
        Mistake(
            _as_wald(_fraction, lambda p, n: 0.98 / math.sqrt(n)),
            "this is the width at p = 0.5, whatever p is; near 0 and 1 there is less uncertainty: p (1 - p)",
        ),
        Mistake(_as_wald(_fraction, swapped=True), f"these are the two numbers in the other order: the fraction first; {_EMPTY}"),
        Mistake(
            _as_wald(lambda p: 100 * p, lambda p, n: 196 * math.sqrt(p * (1 - p) / n)),
            f"these are percent; expected a fraction of 1; {_EMPTY}",
        ),
    ),
    praise="not empty even where all are read correctly, like dl.measure.accuracy",
)

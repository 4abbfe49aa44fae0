"""Mistakes by parts: each wrong part changes the answer in its own way, and one or two of them are identified."""

from itertools import combinations

import pytest
import torch

from diffusion_lib.exercises import check_ddim_step, check_posterior_weights, check_sigma, check_step
from diffusion_lib.exercises.checking import Mistake
from diffusion_lib.exercises.parts import Variants, wrong_factors
from diffusion_lib.exercises.steps import DDIM, SIGMA, STEP
from diffusion_lib.exercises.weights import WEIGHTS

CASES = {
    "ddim": (DDIM, check_ddim_step),
    "sigma": (SIGMA, check_sigma),
    "step": (STEP, check_step),
    "weights": (WEIGHTS, check_posterior_weights),
}


@pytest.mark.parametrize(("variants", "check"), CASES.values(), ids=CASES)
def test_wrong_parts_give_distinct_answers(variants, check):
    """In the first call of the check, which names the mistake; otherwise a message could name another one."""
    call = check.inputs(torch.Generator().manual_seed(0))[0]
    answers = [(check.reference(*call), "right")]
    for name, parts in variants.parts.items():
        answers += [(torch.as_tensor(variants.build(**{name: part.answer})(*call)), part.message) for part in parts]
    for (a, said), (b, of_other) in combinations(answers, 2):
        same = a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)
        assert not same or said == of_other, (said, of_other)


SUM = Variants(
    lambda a=1.0, b=1.0: lambda x, y: a * x + b * y,
    dict(a=(Mistake(2.0, "x is doubled"), Mistake(0.0, "x is missing")), b=(Mistake(-1.0, "y is subtracted"),)),
)
X, Y = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))


def test_names_one_or_two_wrong_parts():
    assert SUM.named(1, 2 * X + Y, X, Y) == "x is doubled"
    assert SUM.named(1, 2 * X - Y, X, Y) is None
    assert SUM.named(2, 2 * X - Y, X, Y) == "x is doubled; and y is subtracted"
    assert SUM.named(2, 3 * X - Y, X, Y) is None


def test_quotes_only_the_wrong_factors_of_a_sum():
    said = wrong_factors(X + 3 * Y, X + Y, dict(x=X, y=Y))
    assert said == "in your sum of x, y, y has the factor 3; expected 1"
    assert wrong_factors(X.abs(), X + Y, dict(x=X, y=Y)) is None, "not a sum of the two"
    assert wrong_factors((X + Y).clamp(-0.5, 0.5), X + Y, dict(x=X, y=Y)).startswith("the result is clamped to -0.5 … 0.5")

"""Descriptions of answers that match no known mistake: only what the answer itself shows."""

import pytest
import torch

from diffusion_lib.exercises.checking import Mistake
from diffusion_lib.exercises.variations import explained, mixture, nearly, one_wrong, two_wrong

RIGHT = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (-RIGHT, "every number has the wrong sign"),
        (RIGHT.flip(1), "in reverse order along dimension 1"),
        (2 * RIGHT, "every number is 2 times"),
        (RIGHT - 3, "too small by 3"),
        (RIGHT.clamp(-0.5, 0.5), "numbers outside [-0.5, 0.5] are clamped"),
        (RIGHT.flatten()[torch.randperm(24, generator=torch.Generator().manual_seed(1))].view_as(RIGHT), "in the wrong places"),
        (RIGHT.transpose(0, 2), "dimensions are in another order: it returns shape (4, 3, 2); expected (2, 3, 4)"),
        (RIGHT[None], "the shape is wrong: it returns shape (1, 2, 3, 4)"),
        (torch.where(RIGHT > 1, torch.nan, RIGHT), "are NaN; the others are right"),
        (torch.where(RIGHT > 1, torch.inf, 2 * RIGHT), "numbers are infinite"),
    ],
)
def test_explains_visible_differences(got, said):
    assert said in explained(got, RIGHT)


@pytest.mark.parametrize("got", [RIGHT.sin(), RIGHT + RIGHT.flip(0) / 7, RIGHT[:1], 0.0, "text", None, torch.zeros_like(RIGHT)])
def test_explains_nothing_without_evidence(got):
    assert explained(got, RIGHT) is None


def test_mixture_names_the_factors():
    a, b = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    diagnose = mixture(["a", "b"])
    assert diagnose(0.8 * a + 0.6 * b, 0.8 * a - 0.6 * b, a, b, 7) == "yours is 0.8 a + 0.6 b; it should be 0.8 a - 0.6 b"
    assert diagnose(0.8 * a - 0.60001 * b, 0.8 * a - 0.6 * b, a, b).startswith("yours is 0.8 a - 0.60001 b")
    assert diagnose(a * b, a, a, b) is None
    assert diagnose(a[:3], a, a, b) is None


def _made(factor, shift):
    return lambda x: factor * x + shift


CHOICES = [(2, ""), (3, "the factor is 2")], [(0, ""), (1, "nothing is added"), (5, "5 is too much")]


def test_varies_one_or_two_choices():
    assert [mistake.message for mistake in one_wrong(_made, *CHOICES)] == ["the factor is 2", "nothing is added", "5 is too much"]
    assert [mistake.answer(1) for mistake in one_wrong(_made, *CHOICES)] == [3, 3, 7]
    assert [mistake.answer(1) for mistake in two_wrong(_made, *CHOICES)] == [4, 8]
    assert two_wrong(_made, *CHOICES)[0].message == "two mistakes: the factor is 2. And: nothing is added"


def test_recognises_mistake_up_to_rounding():
    diagnose = nearly(one_wrong(_made, *CHOICES))
    x = torch.ones(3)
    assert diagnose(7 * x + 1e-5, 2 * x, x) == "5 is too much"
    assert diagnose(7.00001, 2.0, 1.0) == "5 is too much"
    assert diagnose(6 * x, 2 * x, x) is None
    assert diagnose(x * torch.nan, 2 * x, x) is None


def test_ignores_mistake_without_effect_on_these_arguments():
    diagnose = nearly([Mistake(lambda x: x.clamp(max=5), "clamped to 5"), Mistake(lambda x: x.missing, "impossible")])
    x = torch.ones(3)
    assert diagnose(x + 1e-5, x, x) is None
    assert diagnose(5 * x, 9 * x, 9 * x) == "clamped to 5"

"""Quality scores against their formulas, and their confidence intervals."""

import math

import pytest
import torch
from helpers import noise

import diffusion_lib as dl
from diffusion_lib.measure.classifier import Classifier
from diffusion_lib.measure.distances import Estimate, accuracy, features, frechet_distance, kernel_distance


def normal(n, dim=4, seed=0, scale=1.0, shift=0.0):
    return scale * noise(n, dim, seed=seed) + shift


def frechet_formula(a, b):
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the root's trace by eigenvalues."""
    cov_a, cov_b = a.T.cov(), b.T.cov()
    root = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * root).item()


def kernel_formula(a, b):
    """Binkowski et al. 2018: the unbiased squared MMD under (x y / d + 1)^3, pair by pair."""
    k = lambda x, y: (float(x @ y) / len(x) + 1) ** 3  # noqa: E731
    n = len(a)
    within = sum(k(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within - 2 * sum(k(x, y) for x in a for y in b) / n**2


def test_frechet_distance_agrees_with_its_formula():
    a, b = normal(200), normal(150, seed=1, scale=1.5, shift=0.3) @ normal(4, seed=2)
    assert frechet_distance(a, b, resamples=2).value == pytest.approx(frechet_formula(a, b), rel=1e-6)
    # two normal distributions that differ in one thing: |shift|^2, and dim (1 - scale)^2
    many = normal(4000)
    assert frechet_distance(many, many + 0.5, resamples=2).value == pytest.approx(4 * 0.25, rel=1e-6)
    centred = many - many.mean(0)
    expected = centred.T.cov().trace().item() * 0.25
    assert frechet_distance(centred, 1.5 * centred, resamples=2).value == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_a_set_to_itself_is_0():
    a = normal(100)
    estimate = frechet_distance(a, a, resamples=5)
    assert estimate.value == pytest.approx(0, abs=1e-8)
    assert estimate.low == 0
    assert frechet_distance(a, normal(100, seed=1), resamples=2).value > 0.01


def test_frechet_interval_matches_sampling_variation_and_narrows_with_more_images():
    widths = []
    for n in (50, 800):
        estimate = frechet_distance(normal(n), normal(n, seed=1, shift=1.0))
        assert estimate.low < estimate.value < estimate.high
        assert estimate.high - estimate.value == pytest.approx(estimate.value - estimate.low)
        widths.append(estimate.high - estimate.low)
    # 16 times the images: about a quarter of the width
    assert 2 < widths[0] / widths[1] < 8
    # and it is as wide as the value varies between fresh sets
    values = torch.tensor(
        [frechet_distance(normal(200, seed=i), normal(200, seed=100 + i, shift=1.0), resamples=2).value for i in range(20)]
    )
    estimate = frechet_distance(normal(200), normal(200, seed=1, shift=1.0))
    assert 0.5 < (estimate.high - estimate.low) / (2 * 1.96 * values.std()) < 2


def test_frechet_interval_depends_on_both_sets():
    # few images on either side make it wide
    few, many = normal(50), normal(2000, seed=1, shift=1.0)
    widths = [e.high - e.low for e in (frechet_distance(few, many), frechet_distance(many, few))]
    assert 0.6 < widths[0] / widths[1] < 1.6


def test_frechet_distance_is_reproducible():
    a, b = normal(50), normal(50, seed=1)
    assert frechet_distance(a, b, resamples=3) == frechet_distance(a, b, resamples=3)
    assert frechet_distance(a, b, resamples=3) != frechet_distance(a, b, resamples=3, seed=1)


def test_frechet_interval_with_given_classes_excludes_class_sampling():
    # 20 classes far apart and 30 rows of each: between fresh sets of the same classes the distance hardly varies
    y = torch.arange(600) % 20
    centres = normal(20, seed=7, scale=10.0)

    def fresh(seed):
        return centres[y] + normal(600, seed=seed)

    values = torch.tensor([frechet_distance(fresh(i), fresh(100 + i) + 1.0, y, resamples=2).value for i in range(20)])
    free = frechet_distance(fresh(0), fresh(100) + 1.0)
    chosen = frechet_distance(fresh(0), fresh(100) + 1.0, y)
    assert chosen.value == free.value
    assert 0.6 < (chosen.high - chosen.low) / (2 * 1.96 * values.std()) < 1.6
    assert (free.high - free.low) > 5 * (chosen.high - chosen.low)
    with pytest.raises(ValueError, match=r"y has 599 classes for 600 real and 600 fake features; expected one per row of both"):
        frechet_distance(fresh(0), fresh(1), y[:-1])


def test_kernel_distance_agrees_with_its_formula():
    a, b = normal(24), normal(24, seed=1, shift=0.5)
    estimate = kernel_distance(a, b, blocks=3)
    blocks = torch.tensor([kernel_formula(a[i : i + 8], b[i : i + 8]) for i in (0, 8, 16)])
    assert estimate.value == pytest.approx(blocks.mean().item(), rel=1e-5)
    assert estimate.high - estimate.value == pytest.approx(1.96 * blocks.std().item() / math.sqrt(3), rel=1e-4)


def test_kernel_distance_is_unbiased_between_sets_of_one_distribution():
    estimates = [kernel_distance(normal(100, seed=i), normal(100, seed=1000 + i)) for i in range(20)]
    mean = sum(e.value for e in estimates) / 20
    standard_error = torch.tensor([e.value for e in estimates]).std().item() / math.sqrt(20)
    assert abs(mean) < 3 * standard_error
    # 95 % intervals: of 20, all but a few hold the 0
    assert sum(e.low <= 0 <= e.high for e in estimates) >= 16
    assert kernel_distance(normal(100), normal(100, seed=1, shift=1.0)).low > 0


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_rejects_mismatched_features(distance):
    with pytest.raises(ValueError, match=r"fake features have shape \(30, 5\); expected \(N, 4\) with N >= \d+: see features\(\)"):
        distance(normal(30), normal(30, dim=5))
    with pytest.raises(ValueError, match=r"real features have shape \(1, 4\); expected \(N, 4\) with N >= (2|20)"):
        distance(normal(1), normal(30))
    with pytest.raises(ValueError, match=r"real features have shape \(30, 1, 4\)"):
        distance(normal(30)[:, None], normal(30))
    broken = normal(30)
    broken[3, 2] = math.nan
    with pytest.raises(ValueError, match=r"fake features contain NaN or infinity"):  # the best of all scores otherwise: max(0, nan) is 0
        distance(normal(30), broken)
    with pytest.raises(ValueError, match=r"real features contain NaN or infinity"):
        distance(broken, normal(30))


def test_rejects_too_few_values_for_an_interval():
    with pytest.raises(ValueError, match=r"resamples=1; expected 2 or more"):
        frechet_distance(normal(30), normal(30), resamples=1)
    with pytest.raises(ValueError, match=r"blocks=1; expected 2 or more"):
        kernel_distance(normal(30), normal(30), blocks=1)


def test_features_are_the_classifiers_last_hidden_layer():
    torch.manual_seed(0)
    classifier = Classifier(num_classes=5, width=8, num_features=6).eval()
    images = noise(7, 1, 28, 28, dtype=torch.float32)
    found = features(classifier, images, batch_size=3)
    assert (found.shape, found.dtype, found.requires_grad) == ((7, 6), torch.float64, False)
    with torch.no_grad():
        torch.testing.assert_close(classifier.to_logits(found.float()), classifier(images), rtol=1e-4, atol=1e-5)
        assert torch.equal(classifier.read(images, batch_size=2), classifier(images).argmax(dim=1))
    with pytest.raises(ValueError, match=r"images have shape \(7, 3, 28, 28\) .*expected floats \(B, 1, H, W\)"):
        features(classifier, images.expand(-1, 3, -1, -1))


def test_accuracy_has_a_wilson_interval():
    torch.manual_seed(0)
    classifier = Classifier(num_classes=5, width=8).eval()
    images = noise(10, 1, 28, 28, dtype=torch.float32)
    labels = classifier.read(images)
    # tabulated: 10 of 10 is [0.722, 1], 8 of 10 is [0.490, 0.943], 0 of 10 is [0, 0.278]
    assert accuracy(classifier, images, labels) == pytest.approx((1.0, 0.722, 1.0), abs=1e-3)
    wrong = labels.clone()
    wrong[:2] = (wrong[:2] + 1) % 5
    assert accuracy(classifier, images, wrong) == pytest.approx((0.8, 0.490, 0.943), abs=1e-3)
    assert accuracy(classifier, images, (labels + 1) % 5) == pytest.approx((0.0, 0.0, 0.278), abs=1e-3)
    images[3, 0, 5, 5] = math.nan
    with pytest.raises(ValueError, match=r"images contain NaN or infinity"):
        accuracy(classifier, images, labels)
    for n in range(1, 200):  # whatever the rounding
        none, every = (accuracy(classifier, images[:1].expand(n, -1, -1, -1), (labels[:1] + k).expand(n)) for k in (1, 0))
        assert none.low == none.value == 0
        assert every.high == every.value == 1


def test_estimate_prints_value_and_interval():
    assert str(Estimate(1.23456, 1.0, 1.5)) == "1.23 [1, 1.5]"


def test_worse_images_score_worse():
    classifier = dl.load_classifier("glyphs")
    real = features(classifier, dl.load_dataset("glyphs", n=300).images)
    scores = []
    for sigma in (0.0, 0.2, 0.6):
        other = dl.load_dataset("glyphs", train=False, n=300).images
        fake = features(classifier, other + sigma * noise(*other.shape, dtype=torch.float32))
        scores.append((frechet_distance(real, fake, resamples=8), kernel_distance(real, fake)))
    for near, far in ((0, 1), (1, 2)):
        assert scores[near][0].high < scores[far][0].low
        assert scores[near][1].high < scores[far][1].low

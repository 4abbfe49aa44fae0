"""The denoisers: the trained one with a perfect network, the ideal one against brute force, and guidance."""

import math

import pytest
import torch
from helpers import noise, tiny_dataset, tiny_denoiser, tiny_unet
from torch import nn

import diffusion_lib as dl

EXACT = dict(rtol=1e-10, atol=1e-10)
SCHEDULE = dl.cosine_schedule(20)
SHAPE = (4, 1, 3, 4)
X0, EPS = noise(*SHAPE, seed=1).clamp(-1, 1), noise(*SHAPE, seed=2)
TIMES = torch.tensor([1, 5, 12, 20])


class Fixed(nn.Module):
    """A network that always gives one answer and keeps what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, []

    def forward(self, xt, t, y=None):
        self.asked.append((xt, t, y))
        return self.answer.expand_as(xt)


def truth(prediction, t):
    return {"eps": EPS, "x0": X0, "v": dl.v_from(SCHEDULE, X0, EPS, t), "flow": EPS - X0}[prediction]


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("t", [1, 11, 20, TIMES])
def test_perfect_network_recovers_the_image_and_the_noise(prediction, t):
    denoiser = dl.Denoiser(Fixed(truth(prediction, t)), SCHEDULE, prediction)
    xt = dl.q_sample(SCHEDULE, X0, t, EPS)
    x0, eps, _ = denoiser(xt, t)
    torch.testing.assert_close(x0, X0, rtol=0, atol=1e-9)
    torch.testing.assert_close(eps, EPS, rtol=0, atol=1e-9)
    ((asked_x, asked_t, _),) = denoiser.network.asked
    assert torch.equal(asked_x, xt)
    assert torch.equal(asked_t, torch.as_tensor(t).expand(4))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_x0_and_eps_reconstruct_xt_for_any_network_output(prediction):
    denoiser = tiny_denoiser(prediction).double().eval()
    xt = noise(3, 1, 8, 8)
    t = torch.tensor([1, 9, 20])
    with torch.no_grad():
        x0, eps, _ = denoiser(xt, t, torch.tensor([0, 1, -1]))
    torch.testing.assert_close(dl.q_sample(denoiser.schedule, x0, t, eps), xt, **EXACT)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_loss_is_the_squared_error_of_each_image(prediction):
    answer = noise(1, *SHAPE[1:], seed=5)
    denoiser = dl.Denoiser(Fixed(answer), SCHEDULE, prediction)
    loss = denoiser.loss(X0, t=TIMES, eps=EPS)
    assert loss.shape == (4,)
    expected = [(answer[0] - truth(prediction, TIMES)[i]).square().sum() / 12 for i in range(4)]
    torch.testing.assert_close(loss, torch.stack(expected), **EXACT)
    ((xt, t, _),) = denoiser.network.asked
    torch.testing.assert_close(xt, dl.q_sample(SCHEDULE, X0, TIMES, EPS), **EXACT)
    assert torch.equal(t, TIMES)


def test_perfect_network_has_zero_loss():
    for prediction in ("eps", "x0", "v", "flow"):
        denoiser = dl.Denoiser(Fixed(truth(prediction, TIMES)), SCHEDULE, prediction)
        assert denoiser.loss(X0, t=TIMES, eps=EPS).abs().max() < 1e-20


def test_training_draws_timesteps_uniformly_from_1_to_T():
    schedule = dl.linear_schedule(5)
    network = Fixed(torch.zeros(1, 1, 1, 1))
    dl.Denoiser(network, schedule).loss(torch.zeros(5000, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    ((_, t, _),) = network.asked
    counts = torch.bincount(t, minlength=6)
    assert counts[0] == 0
    # 1000 each, give or take 5 standard deviations of 28; a range that ends at T - 1 would leave counts[5] at 0
    assert len(counts) == 6
    assert (counts[1:] - 1000).abs().max() < 140


def test_network_gets_the_timestep_of_the_noise_level():
    # off by one between the two is invisible in a loss curve
    schedule = dl.linear_schedule(5)
    network = Fixed(torch.zeros(1, 1, 1, 1))
    x0 = torch.zeros(200, 1, 8, 8, dtype=torch.float64)
    dl.Denoiser(network, schedule).loss(x0, generator=torch.Generator().manual_seed(0))
    ((xt, t, _),) = network.asked
    for level in range(1, 6):
        # about 2500 pixels a level: 1.4 % each; neighbouring levels differ by more than 8 %
        assert xt[t == level].std().item() == pytest.approx(schedule.noise[level].item(), rel=0.06)


def test_loss_draws_from_its_generator_only():
    denoiser = tiny_denoiser()
    x0 = tiny_dataset().images
    draw = lambda seed: denoiser.loss(x0, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    first = draw(0)
    torch.rand(3)  # the global state has moved on
    assert torch.equal(first, draw(0))
    assert not torch.equal(first, draw(1))


def test_loss_passes_the_class_to_the_network():
    network = Fixed(torch.zeros(1, 1, 1, 1))
    network.num_classes = 3
    y = torch.tensor([2, 0, -1, 1])
    dl.Denoiser(network, SCHEDULE).loss(X0, y)
    dl.Denoiser(network, SCHEDULE).loss(X0)
    assert [asked[2] for asked in network.asked] == [y, None]


def test_predictions_keep_the_dtype_of_the_images_under_autocast():
    denoiser = tiny_denoiser().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x0, eps, _ = denoiser(noise(2, 1, 8, 8, dtype=torch.float32), 3)
    assert (x0.dtype, eps.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, x: d(x, 0), r"t=0 is out of range; expected 1\.\.20 for this schedule of T=20"),
        (lambda d, x: d(x, 21), r"t=21 is out of range"),
        (lambda d, x: d(x, torch.tensor([1, 21])), r"t=21 is out of range"),
        (lambda d, x: d(x, torch.tensor([1, 2, 3])), r"t has shape \(3,\); expected \(2,\)"),
        (lambda d, x: d(x, 1.0), r"t is of type float; expected an int"),
        (lambda d, x: d(x.double(), 1), r"images have dtype torch.float64 but the network torch.float32; expected the same: convert"),
        (lambda d, x: d(x.to("meta"), 1), r"images have device meta but the network cpu"),
        (lambda d, x: d(x.to(torch.uint8), 1), r"xt has dtype torch.uint8; expected floats in \[-1, 1\]"),
        (lambda d, x: d(x[0], 1), r"xt has shape \(1, 8, 8\); expected \(B, C, H, W\)"),
        (lambda d, x: d(x, 1, torch.tensor([3, 0])), r"y=3 is out of range; expected classes 0\.\.2"),
        (lambda d, x: d(x[..., :6], 1), r"images are 8x6; expected multiples of 4"),
        (lambda d, x: d.loss(x, t=torch.tensor([0, 1])), r"t=0 is out of range"),
        (lambda d, x: d.loss(x, eps=x[:1]), r"eps has shape \(1, 1, 8, 8\) but x0 has \(2, 1, 8, 8\)"),
        (lambda d, x: d.loss(x.to(torch.uint8)), r"x0 has dtype torch.uint8; expected floats"),
    ],
)
def test_rejects_bad_input_by_name(denoiser, call, message):
    with pytest.raises(ValueError, match=message):
        call(denoiser, noise(2, 1, 8, 8, dtype=torch.float32))


@pytest.mark.parametrize("whole", [True, False])
def test_rejects_out_of_range_class_in_compiled_code(denoiser, whole):
    x = noise(2, 1, 8, 8, dtype=torch.float32)
    plain = denoiser(x, 1, torch.tensor([2, 0])).x0
    torch._dynamo.reset()  # code that another test has compiled would be used again
    if whole:
        denoiser.compile(backend="eager")
    else:
        denoiser.network.compile(backend="eager", fullgraph=True)
    assert torch.equal(denoiser(x, 1, torch.tensor([2, 0])).x0, plain)
    with pytest.raises(ValueError, match=r"y=3 is out of range; expected classes 0\.\.2"):
        denoiser(x, 1, torch.tensor([3, 0]))


def test_rejects_unknown_prediction():
    with pytest.raises(ValueError, match=r"unknown prediction 'epsilon'; expected one of 'eps', 'x0', 'v'"):
        dl.Denoiser(tiny_unet(), SCHEDULE, "epsilon")


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_rejects_network_with_wrong_output_shape(prediction):
    """Two numbers for each value of a grey image would be compared with one, and the loss would fall all the same."""
    network, x = dl.UNet(in_channels=1, base_channels=8, out_channels=2), noise(3, 1, 8, 8, dtype=torch.float32)
    denoiser = dl.Denoiser(network, SCHEDULE, prediction)
    message = rf"^the network returns shape \(3, 2, 8, 8\); expected \(3, 1, 8, 8\), the shape of its input: .*'{prediction}'"
    for ask in (lambda: denoiser(x, 5), lambda: denoiser.loss(x)):
        with pytest.raises(ValueError, match=message):
            ask()


def test_rejects_eps_prediction_on_a_path_that_ends_in_pure_noise():
    for schedule in (dl.Schedule.from_alpha_bar([1, 0.5, 0], "mine"), dl.Schedule([1, 0.5, 0], [0, 0.5, 1], "mine")):
        message = r"^prediction='eps' with the schedule 'mine', whose signal\[T\] is 0; expected 'v', 'x0' or 'flow': xT is pure noise"
        with pytest.raises(ValueError, match=message):
            dl.Denoiser(tiny_unet(), schedule, "eps")
        for prediction in ("v", "x0", "flow"):
            x0, eps, _ = dl.Denoiser(tiny_unet(), schedule, prediction)(noise(1, 1, 8, 8, dtype=torch.float32), 2)
            assert x0.isfinite().all()
            assert eps.isfinite().all()


# ---------------------------------------------------------------------------------------------------------------- IdealDenoiser


def brute_force(images, xt, alpha_bar):
    """E[x0 | xt] of one xt, in loops: each image weighed by its Gaussian likelihood."""
    pixels = range(xt.numel())
    squared = [sum((xt.view(-1)[p] - math.sqrt(alpha_bar) * x.view(-1)[p]).item() ** 2 for p in pixels) for x in images]
    smallest = min(squared)  # keeps exp from vanishing
    weights = [math.exp(-(d - smallest) / (2 * (1 - alpha_bar))) for d in squared]
    return sum(w * x for w, x in zip(weights, images, strict=True)) / sum(weights), [w / sum(weights) for w in weights]


@pytest.mark.parametrize("t", [1, 10, 19, 20])
def test_ideal_denoiser_is_the_posterior_mean(t):
    images = noise(6, 1, 3, 4, seed=7).clamp(-1, 1)
    ideal = dl.IdealDenoiser(images, SCHEDULE)
    xt = dl.q_sample(SCHEDULE, images[:4], t, EPS)
    x0, eps, _ = ideal(xt, t)
    for i in range(4):
        mean, weights = brute_force(images, xt[i], SCHEDULE.alpha_bar[t].item())
        torch.testing.assert_close(x0[i], mean, **EXACT)
        torch.testing.assert_close(ideal.weights(xt, t)[i], torch.tensor(weights, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(dl.q_sample(SCHEDULE, x0, t, eps), xt, **EXACT)


def test_ideal_denoiser_accepts_a_timestep_per_image():
    images = noise(6, 1, 3, 4, seed=7).clamp(-1, 1)
    ideal = dl.IdealDenoiser(images, SCHEDULE)
    together = ideal(EPS, TIMES)
    for i, t in enumerate(TIMES.tolist()):
        torch.testing.assert_close(together.x0[i], ideal(EPS[i : i + 1], t).x0[0], **EXACT)


def test_ideal_denoiser_of_a_single_image_always_predicts_it():
    for t in (1, 10, 20):
        assert torch.equal(dl.IdealDenoiser(X0[:1], SCHEDULE)(EPS, t).x0, X0[:1].expand(4, -1, -1, -1))


def test_ideal_denoiser_has_the_lowest_possible_loss():
    # no other estimate of x0 has a smaller squared error on average: compare with a few that are off by a little
    images = noise(8, 1, 2, 2, seed=7).clamp(-1, 1)
    ideal = dl.IdealDenoiser(images, SCHEDULE)
    x0 = images[torch.randint(8, (4000,), generator=torch.Generator().manual_seed(0))]
    xt = dl.q_sample(SCHEDULE, x0, 12, noise(4000, 1, 2, 2, seed=8))
    error = lambda guess: (guess - x0).square().mean()  # noqa: E731
    best = ideal(xt, 12).x0
    assert all(error(best) < error(other) for other in (0.9 * best, 1.1 * best, ideal(xt, 11).x0, ideal(xt, 13).x0, best + 0.1))


def test_ideal_denoiser_with_a_class_averages_over_that_class_only():
    dataset = tiny_dataset()
    ideal = dl.IdealDenoiser(dataset, SCHEDULE)
    xt = noise(4, 1, 8, 8, dtype=torch.float32)
    y = torch.tensor([0, 1, 2, -1])
    x0 = ideal(xt, 15, y).x0
    for i in range(3):
        of_class = dl.IdealDenoiser(dataset.images[dataset.labels == i], SCHEDULE)
        torch.testing.assert_close(x0[i], of_class(xt[i : i + 1], 15).x0[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(x0[3], ideal(xt[3:], 15).x0[0], rtol=0, atol=1e-6)


def test_ideal_denoiser_rejects_invalid_queries():
    dataset = tiny_dataset()
    ideal = dl.IdealDenoiser(dataset, SCHEDULE)
    x = noise(2, 1, 8, 8, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"^y was given to an IdealDenoiser without labels; .*build it from an ImageDataset$"):
        dl.IdealDenoiser(dataset.images, SCHEDULE)(x, 1, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"^y was given to an IdealDenoiser without labels; "):
        dl.IdealDenoiser(dl.ImageDataset(dataset.images, torch.full((len(dataset),), -1), ()), SCHEDULE)(x, 1, torch.tensor([0, 1]))
    gap = dl.ImageDataset(dataset.images[:2], torch.tensor([0, 2]), ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"y=1: no image in the dataset has this label"):
        dl.IdealDenoiser(gap, SCHEDULE)(x, 1, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"y=3 is out of range"):
        ideal(x, 1, torch.tensor([0, 3]))
    for ask in (ideal, ideal.weights):
        with pytest.raises(ValueError, match=r"t=0 is out of range; expected 1\.\.20"):
            ask(x, 0)
    with pytest.raises(ValueError, match=r"images have shape \(1, 4, 4\); expected \(1, 8, 8\), as in the dataset"):
        ideal(x[..., :4, :4], 1)
    with pytest.raises(ValueError, match=r"^x0_dataset is an empty batch; expected one or more images$"):
        dl.IdealDenoiser(dataset.images[:0], SCHEDULE)
    with pytest.raises(ValueError, match=r"x0_dataset has dtype torch.uint8"):
        dl.IdealDenoiser(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), SCHEDULE)


# --------------------------------------------------------------------------------------------------------------------- guidance


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_moves_from_the_unconditional_towards_the_conditional_prediction(scale):
    ideal = dl.IdealDenoiser(tiny_dataset(), SCHEDULE)
    xt, y = noise(3, 1, 8, 8), torch.tensor([0, 1, 2])
    conditional, unconditional = ideal(xt, 18, y), ideal(xt, 18)
    guided = dl.Guided(ideal, scale)(xt, 18, y)
    torch.testing.assert_close(guided.eps, (1 - scale) * unconditional.eps + scale * conditional.eps, rtol=0, atol=1e-9)
    torch.testing.assert_close(guided.x0, (1 - scale) * unconditional.x0 + scale * conditional.x0, rtol=0, atol=1e-7)
    torch.testing.assert_close(dl.q_sample(SCHEDULE, guided.x0, 18, guided.eps), xt, **EXACT)


def test_guidance_requires_a_class_and_exposes_the_wrapped_attributes(denoiser):
    guided = dl.Guided(denoiser, 2.0)
    assert guided.schedule is denoiser.schedule
    assert guided.image_shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"^guidance needs a class or a caption; expected y, one per image$"):
        guided(noise(1, 1, 8, 8, dtype=torch.float32), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("t", [1, 500, 999, 1000])
def test_guidance_in_half_precision_is_within_rounding_of_float64(dtype, scale, t):
    """At t = T the cosine schedule leaves signal = 5e-5: an x0 computed from eps would be 20,000 times as wrong as eps is."""

    class Known:
        """Two predictions of one image, made of its noise in float64 and then rounded."""

        schedule, image_shape = dl.cosine_schedule(1000), SHAPE[1:]

        def __call__(self, xt, t, y=None):
            x0 = (X0 if y is None else X0.flip(0)).to(dtype).double()
            eps = dl.eps_from_x0(self.schedule, xt.double(), t, x0)
            return dl.Prediction(x0.to(xt.dtype), eps.to(xt.dtype))

    xt, y = dl.q_sample(Known.schedule, X0, t, EPS).to(dtype), torch.tensor([0, 1, 2, 0])
    exact, ours = (dl.Guided(Known(), scale)(x, t, y) for x in (xt.double(), xt))
    # four roundings of numbers that are as large as scale times the largest
    error = 4 * (1 + scale) * torch.finfo(dtype).eps
    for rounded, value in zip(ours[:2], exact[:2], strict=True):
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded.double(), value, rtol=0, atol=error * max(1, value.abs().max().item()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_guided_chain_in_half_precision_ends_as_in_float64(dtype):
    exact, half = dl.load_pretrained("glyphs").double(), dl.load_pretrained("glyphs").to(dtype)
    xT, y = noise(4, 1, 28, 28, dtype=torch.float32).to(dtype), torch.arange(4)
    *_, ours = dl.ddim_steps(dl.Guided(half, 3.0), xT, steps=10, y=y)
    *_, expected = dl.ddim_steps(dl.Guided(exact, 3.0), xT.double(), steps=10, y=y)
    assert (ours.xt - expected.xt).square().mean().sqrt() < 0.03

"""What people hand to the widgets: usual forms are taken, and what cannot be shown is refused in words, before long work."""

import io
import warnings

import numpy as np
import pytest
import torch
import traitlets
from helpers import Curved, noise
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.widgets import (
    base,
    chains,
    design_schedule,
    explore_schedules,
    live_training,
    noising,
    record,
    scrub,
    scrub_grid,
    training,
)

X0 = noise(3, 1, 8, 6, seed=1, dtype=torch.float32).clamp(-1, 1)
FRAMES = noise(3, 2, 1, 8, 6, dtype=torch.float32)
GRID = noise(2, 3, 2, 1, 8, 6, dtype=torch.float32)
AXES = ("steps", [10, 50]), ("eta", [0, 0.5, 1])
S = dl.cosine_schedule(50)
NAN = float("nan")


def chain(steps=5, xT=X0, T=50):
    return dl.ddim_steps(Curved(dl.cosine_schedule(T)), xT, steps=steps)


def with_nan(frames, *place):
    frames = frames.clone()
    frames[place] = NAN
    return frames


# ----------------------------------------------------------------------------------------------------- numbers that are not numbers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noising(with_nan(X0, 1), S), r"x0 has values that are not finite \(NaN or infinity\) in 1 of 3, the first is number 1"),
        (lambda: noising(X0, S, eps=with_nan(X0, 2)), "eps has values that are not finite .* the first is number 2"),
        (lambda: explore_schedules(S, with_nan(X0, 0)), "x0 has values that are not finite"),
        (lambda: design_schedule(Curved(S), with_nan(X0, 0)), "x0 has values that are not finite"),
        (lambda: scrub({"a": FRAMES, "b": with_nan(FRAMES, 1, 0)}, ["x", "y", "z"]), r"panel 'b' is not finite .* at frame 1 \(y\)"),
        (lambda: scrub_grid({"a": with_nan(GRID, 1, 2)}, *AXES), r"panel 'a' is not finite .* at frame 5 \(steps 50, eta 1\)"),
        (lambda: chains(record(chain())._replace(xt=with_nan(record(chain()).xt, 2))), r"panel 'xt' is not finite .* at frame 2 \(t = 20"),
        (lambda: training({"a": with_nan(FRAMES, 2)}, [1, 5, 9], [0.1] * 9), "samples 'a' is not finite .* at step 9"),
    ],
)
def test_rejects_pictures_that_are_not_finite_and_says_which(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Diverges(Curved):
    def __call__(self, xt, t, y=None):
        prediction = super().__call__(xt, t, y)
        return prediction if t > 25 else dl.Prediction(prediction.x0 * NAN, prediction.eps * NAN)


def test_says_at_which_timestep_a_chain_or_an_estimate_is_not_finite():
    with pytest.raises(ValueError, match=r"of chain 'DDIM' is not finite \(NaN or infinity\) at t = 10, step 4"):
        chains({"DDIM": dl.ddim_steps(Diverges(S), X0, steps=5, clip=False)})
    with pytest.raises(ValueError, match="the denoiser's estimates of x0 at t = 1 hold values that are not finite"):
        design_schedule(Diverges(S), X0)


def test_live_training_that_diverges_goes_on_with_a_warning():
    view = live_training(9, ["samples"], (2, 1, 8, 6))
    with pytest.warns(UserWarning, match=r"samples 'samples' of step 5 are not finite \(NaN or infinity\): the model or its moving"):
        view.add(5, {"samples": with_nan(FRAMES[0], 1)})
    assert view.steps == [5]
    losses = (dl.TrainStep(n, torch.tensor(NAN), torch.tensor(1.0), 0.1, None, None, torch.tensor(0)) for n in range(6, 10))
    watching = view.watch(losses, lambda step: {"samples": FRAMES[0]}, at=np.array([8]))
    with pytest.warns(UserWarning, match="none of the losses is finite"):
        assert [step.step for step in watching] == [6, 7, 8, 9]
    assert view.steps == [5, 8]


# ------------------------------------------------------------------------------------------------------------- forms of the arguments


@pytest.mark.parametrize("form", [lambda x: x.numpy(), list, lambda x: [each.numpy() for each in x], lambda x: x.clone().requires_grad_()])
def test_takes_frames_in_any_usual_form(form):
    assert scrub({"a": form(FRAMES)}, ["x", "y", "z"]).sheets == scrub({"a": FRAMES}, ["x", "y", "z"]).sheets
    assert scrub_grid({"a": form(GRID)}, *AXES).sheets == scrub_grid({"a": GRID}, *AXES).sheets
    assert training({"a": form(FRAMES)}, [1, 2, 3], [0.1]).pictures == training({"a": FRAMES}, [1, 2, 3], [0.1]).pictures


@pytest.mark.parametrize("form", [lambda x: x.numpy(), list, lambda x: x.double().requires_grad_(), dl.ImageDataset.without_classes])
def test_takes_images_in_any_usual_form(form):
    expected = noising(X0, S)
    for made in (noising(form(X0), S), explore_schedules(S, form(X0)), design_schedule(Curved(S), form(X0), columns=3)):
        assert len(made.x0) == X0.numel()
        assert sorted(made.x0) == sorted(expected.x0)
        assert sorted(made.eps) == sorted(expected.eps)


def test_takes_one_panel_and_one_chain_without_a_name():
    assert scrub(FRAMES, range(3)).sheets == scrub({"a": FRAMES}, ["0", "1", "2"]).sheets
    assert scrub(FRAMES, range(3)).captions == ["0", "1", "2"]
    assert scrub_grid(list(GRID), ("steps", torch.tensor([10, 50])), ("eta", np.arange(3))).sheets == scrub_grid({"": GRID}, *AXES).sheets
    named = chains({"": chain()})
    for one in (chain(), list(chain()), record(chain())):
        assert chains(one).sheets == named.sheets


def test_takes_schedules_by_name():
    assert noising(X0, "cosine").signal == noising(X0, dl.cosine_schedule()).signal
    assert noising(X0, [dl.linear_schedule(50), "cosine"]).names == ["linear", "cosine"]
    assert noising(X0, [dl.linear_schedule(50), "cosine"]).signal[1] == noising(X0, S).signal[0]
    assert explore_schedules(["linear", "sigmoid"]).names == ["linear", "sigmoid"]
    for make in (lambda s: noising(X0, s), explore_schedules, dl.plots.plot_schedules):
        with pytest.raises(ValueError, match=r"unknown schedule 'cosin'.*Did you mean 'cosine'"):
            make("cosin")
        with pytest.raises(
            ValueError, match=r"schedules holds a Curved; expected a Schedule or the name of one, as 'cosine': it has one, .sch"
        ):
            make(Curved(S))


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_takes_numpys_and_torchs_numbers(number):
    widget = noising(X0, S, t=number(7), columns=number(2))
    assert (widget.t, type(widget.t)) == (7, int)
    widget.t = number(9)
    assert widget.t == 9
    assert scrub(FRAMES, ["x", "y", "z"], start=number(1), columns=number(2)).frame == 1
    assert scrub_grid(GRID, *AXES, start=(number(1), number(2))).second == 2
    assert chains(chain(), frames=number(3), t=number(10)).t == 10
    assert explore_schedules(S, t=number(3)).t == 3
    assert live_training(number(30), ["a"], torch.Size([2, 1, 8, 6])).total == 30
    assert training({"a": FRAMES}, [number(n) for n in (1, 2, 3)], torch.ones(3)).steps == [1, 2, 3]
    designer = design_schedule(Curved(S), X0, T=number(50))
    designer.T = number(3)
    assert designer.schedule.T == 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noising(X0, S, columns=0), "columns=0; expected an integer, 1 or more"),
        (lambda: noising(X0, S, t=2.0), r"t=2.0; expected an integer, 0\.\.50"),
        (lambda: noising(X0, S, t=True), "t=True; expected an integer"),
        (lambda: explore_schedules(S, eps=X0), "eps was given without x0"),
        (lambda: scrub(FRAMES, "xyz"), "captions='xyz'; expected a list of texts, one for each frame"),
        (lambda: scrub(FRAMES, None), "captions=None; expected a list of texts"),
        (lambda: scrub(FRAMES[:, :0], ["x", "y", "z"]), r"frames has shape \(3, 0, 1, 8, 6\); expected one frame or more of one image"),
        (lambda: scrub({"a": dl.to_uint8(FRAMES)}, range(3)), "panel 'a' has dtype torch.uint8; expected floats"),
        (lambda: scrub({"a": torch.zeros(3, 2, 4, 8, 8)}, range(3)), "panel 'a' has 4 channels"),
        (lambda: scrub({"a": (FRAMES.clamp(-1, 1) + 1) * 127.5}, range(3)), r"panel 'a' ranges from .* as pixels 0..255 do"),
        (lambda: scrub_grid(GRID, "steps", AXES[1]), "first='steps'; expected the name of the slider and its values"),
        (lambda: scrub_grid(GRID, *AXES, start=1), r"start=1; expected two indices"),
        (lambda: scrub_grid(GRID, *AXES, start=(0, 3)), r"start\[1\]=3; expected 0..2"),
        (lambda: design_schedule(Curved(S), X0, kind="cos"), "unknown kind 'cos'.*Did you mean 'cosine'"),
        (lambda: design_schedule(dl.UNet(), X0), r"denoiser is a UNet; .*: Denoiser\(network, schedule, prediction\) makes one"),
        (lambda: design_schedule(X0, Curved(S)), "denoiser is a Tensor; expected a denoiser, which has a schedule"),
        (lambda: training(FRAMES, [1, 2, 3], [0.1]), 'samples is a Tensor; expected frames by name, as {"samples": frames}'),
        (lambda: training({"a": FRAMES}, [1.0, 2.0, 3.0], [0.1]), r"steps\[0\]=1.0; expected an integer"),
        (lambda: training({"a": FRAMES}, [1, 2, 3], torch.ones(3, 2)), "losses cannot be read as numbers"),
        (lambda: live_training(0, ["a"], (2, 1, 8, 6)), "total=0; expected an integer, 1 or more"),
        (lambda: live_training(9, ["a"], (1, 8, 6)), r"shape=\(1, 8, 6\); expected \(B, C, H, W\)"),
        (lambda: live_training(9, [], (2, 1, 8, 6)), "panels is empty"),
        (
            lambda: live_training(9, ["a"], (2, 1, 8, 6)).add(1, FRAMES[0]),
            'samples is a Tensor; expected images by name, as {"samples": im',
        ),
        (lambda: live_training(9, ["a"], (2, 1, 8, 6)).add(1, {}), "samples is empty; expected images by name"),
        (lambda: chains(chain(), frames=0), "frames=0; expected an integer, 1 or more"),
        (lambda: chains(chain(), t=-1), r"t=-1; expected 0\.\.40"),
    ],
)
def test_rejects_arguments_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_position_still_refuses_what_is_no_whole_number():
    widget = noising(X0, S)
    for value in (2.5, "3", None):
        with pytest.raises(traitlets.TraitError, match="'t' trait of a NoisingWidget instance expected an int"):
            widget.t = value


# ------------------------------------------------------------------------------------------------------------------------- chains


def test_rejects_a_chain_that_was_used_up():
    walked = chain()
    chains({"DDIM": walked})
    with pytest.raises(ValueError, match=r"chain 'DDIM' has no steps left; .* make a new one each time"):
        chains({"DDIM": walked})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": FRAMES}, "chain 'a' is a Tensor; expected the steps of a sampler, .*widgets.scrub shows recorded frames"),
        (FRAMES, "the chain is a Tensor"),
        ({"a": [FRAMES[0]]}, "chain 'a' yields a Tensor"),
        ([chain(), chain()], "chains is a list of 2; expected a name for each chain"),
        ([record(chain())], "chains is a list of 1; expected a name for each chain"),
        ([], "the chain has no steps left"),
        ({"a": Curved(S)}, "chain 'a' is a Curved"),
        ({"a": chain(), "b": chain(xT=X0[:1])}, r"chain 'b' has images \(1, 1, 8, 6\) and chain 'a' \(3, 1, 8, 6\); expected the same"),
        ({"a": chain(xT=torch.zeros(1, 4, 8, 6))}, "chain 'a' has 4 channels"),
    ],
)
def test_rejects_what_is_no_chain_of_steps(given, message):
    with pytest.raises(ValueError, match=message):
        chains(given)


def test_rejects_one_generator_under_two_names():
    one = chain()
    with pytest.raises(ValueError, match="chains 'a' and 'b' are the same generator; expected one for each"):
        chains({"a": one, "b": one})
    assert next(one).t == 40  # and it has not been walked
    film = record(chain())
    assert len(chains({"a": film, "b": film}).sheets) == 4


# -------------------------------------------------------------------------------------------------------------------- what is too large


class NotCalled(Curved):
    calls = 0

    def __call__(self, xt, t, y=None):
        self.calls += 1
        return super().__call__(xt, t, y)


def test_refuses_before_the_work_what_does_not_fit_on_a_sheet():
    denoiser = NotCalled(dl.cosine_schedule(1000))
    with pytest.raises(ValueError, match=r"1 picture of 4936x10 pixels; expected as many as fit on 4096x4096"):
        chains(dl.ddpm_steps(denoiser, torch.zeros(705, 1, 6, 8)), columns=1)
    assert denoiser.calls == 1
    with pytest.raises(ValueError, match=r"26 pictures of 1009x1009 pixels; expected as many as fit on 4096x4096"):
        chains(dl.ddpm_steps(denoiser, torch.zeros(4, 1, 503, 503)), columns=2)
    assert denoiser.calls <= 1 + 5  # as soon as the timesteps tell how many steps there will be
    denoiser.calls = 0
    with pytest.raises(ValueError, match="40 pictures of 1000x1000 pixels"):
        design_schedule(denoiser, torch.zeros(1, 1, 1000, 1000))
    assert denoiser.calls == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noising(torch.zeros(1100, 1, 4, 4), S, columns=1), r"1100 images, which make a picture of 4400x4 .* or more columns"),
        (
            lambda: explore_schedules(S, torch.zeros(1100, 1, 4, 4)),
            "1100 images, which make a picture of 4x4400 pixels; expected at most 4096",
        ),
        (lambda: live_training(9, list("abcdefgh"), (4, 1, 128, 128)), "1 picture of 130x4136 pixels; expected as many as fit"),
    ],
)
def test_refuses_pictures_that_browsers_do_not_draw(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_large_widget_says_how_large_it_is(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scrub(FRAMES, range(3))
    monkeypatch.setattr(base, "LARGE", 100)
    with pytest.warns(
        UserWarning, match="the pictures of this ScrubWidget are 0 MB, in the notebook and on its page; expected less"
    ) as said:
        scrub(FRAMES, range(3))
    assert said[0].filename == __file__  # the reader's line, not the library's


def test_stills_of_large_pictures_stay_small():
    still = Image.open(io.BytesIO(scrub(torch.zeros(3, 1, 1, 1200, 1200), range(3)).still))
    assert 640 <= still.width <= 1400

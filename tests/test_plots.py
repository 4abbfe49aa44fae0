"""Static figures: pixels are unchanged, and everything requested is drawn."""

import math
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from helpers import noise

import diffusion_lib as dl
from diffusion_lib.plots import image_grid, plot_loss, plot_schedules, plot_time_to_quality, show, show_rows


def test_image_grid_goes_row_by_row_with_grey_lines():
    images = torch.linspace(-1, 1, 5).view(5, 1, 1, 1).expand(5, 1, 4, 6)
    picture = image_grid(images, columns=3, padding=1)
    assert (picture.shape, picture.dtype) == ((2 * 5 + 1, 3 * 7 + 1, 3), torch.uint8)
    for i, grey in enumerate([0, 64, 128, 191, 255]):
        row, column = divmod(i, 3)
        assert (picture[5 * row + 1 : 5 * row + 5, 7 * column + 1 : 7 * column + 7] == grey).all()
    assert (picture[0] == 96).all()
    assert (picture[:, 7] == 96).all()


def test_image_grid_neither_rescales_nor_wraps():
    # stretching by min and max would hide a wrong data range; wrapping makes dark noise white
    faint = image_grid(torch.tensor([-0.1, 0.1]).view(1, 1, 1, 2), padding=0)
    assert faint[0, :, 0].tolist() == [115, 140]
    beyond = image_grid(torch.tensor([-1.5, 1.5]).view(1, 1, 1, 2), padding=0)
    assert beyond[0, :, 0].tolist() == [0, 255]


def test_image_grid_keeps_colours():
    colours = noise(2, 3, 4, 4).clamp(-1, 1)
    picture = image_grid(colours, padding=0)
    assert torch.equal(picture[:, :4], dl.to_uint8(colours[0]).permute(1, 2, 0))


def test_show_rejects_integer_images():
    with pytest.raises(ValueError, match=r"images have dtype torch.uint8; expected floats in \[-1, 1\]"):
        show(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))


def test_show_draws_the_grid_unchanged():
    images = noise(5, 1, 8, 8).requires_grad_()  # as they come out of a training step
    ax = show(images, columns=3, title="five")
    (drawn,) = ax.images
    assert torch.equal(torch.as_tensor(drawn.get_array()), image_grid(images, 3))
    assert ax.get_title() == "five"
    assert show(images, ax=ax) is ax


def test_show_rows_labels_each_row_and_column():
    rows = [noise(3, 1, 8, 8), noise(2, 1, 8, 8, seed=1)]
    figure = show_rows(rows, ["x0", "xt"], columns=["a", "b", "c"], title="both")
    axes = figure.axes
    assert len(axes) == 6
    assert [ax.get_ylabel() for ax in axes] == ["x0", "", "", "xt", "", ""]
    assert [ax.get_title() for ax in axes[:3]] == ["a", "b", "c"]
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1, 1, 0]
    assert torch.equal(torch.as_tensor(axes[4].images[0].get_array()), image_grid(rows[1][1:2], padding=0))
    with pytest.raises(ValueError, match=r"labels has 1 entries for 2 rows; expected one or more rows, and a label for each"):
        show_rows(rows, ["only one"])


IMAGES = noise(3, 1, 8, 8).clamp(-1, 1)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: show(IMAGES * math.nan), r"images have values that are not finite \(NaN or infinity\) in 3 of 3"),
        (lambda: show((IMAGES + 1) * 127.5), r"images range from .*, as pixels 0..255 do"),
        (lambda: show(IMAGES, scale=0), "scale=0; expected a number above 0"),
        (lambda: show(IMAGES.repeat(20_000, 1, 1, 1), columns=4), r"the figure would be 1x2652 inches, .* expected at most 65535 a side"),
        (lambda: show_rows([], []), "labels has 0 entries for 0 rows; expected one or more rows"),
        (lambda: show_rows([IMAGES], "a"), "labels='a'; expected a list with a label for each row"),
        (lambda: show_rows([IMAGES], ["a"], ["x", "y"]), r"columns=\['x', 'y'\]; expected a name for each of the 3 columns"),
        (lambda: show_rows([IMAGES], ["a"], 3), "columns=3; expected a name for each of the 3 columns"),
        (lambda: show_rows([IMAGES, IMAGES * math.inf], ["a", "b"]), "row 1 has values that are not finite"),
        (lambda: show_rows([IMAGES.repeat(400, 1, 1, 1)], ["a"]), "1 rows of 1200 images; expected at most 1000 images in all"),
        (lambda: plot_schedules([]), "0 schedules and 3 quantities; expected one or more of each"),
        (lambda: plot_schedules("linear", ["betas"]), "unknown quantity 'betas'.*Did you mean 'beta'"),
    ],
)
def test_figures_reject_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plt.subplots(1, 2)[1], r"ax is of type ndarray; expected one matplotlib Axes: one of the 2 in it, such as ax.flat\[0\]"),
        (plt.figure, r"ax is of type Figure; expected one matplotlib Axes: figure.gca\(\)"),
        (lambda: plt.figure().subfigures(), r"ax is of type SubFigure; expected one matplotlib Axes: figure.gca\(\)"),
        (plt.subplots, r"ax is of type tuple; expected one matplotlib Axes: one of them, as in figure, ax = plt.subplots\(\)"),
        (lambda: plt, r"ax is of type module; expected one matplotlib Axes: such as plt.gca\(\)"),
        (lambda: 0, r"ax is of type int; expected one matplotlib Axes"),
    ],
)
def test_figures_are_drawn_into_one_axes(make, message):
    ax = make()
    for draw in (lambda: show(IMAGES, ax=ax), lambda: plot_loss([1.0], ax=ax), lambda: plot_time_to_quality({}, ax=ax)):
        with pytest.raises(ValueError, match=message):
            draw()
    plt.close("all")


def test_many_panels_are_announced(monkeypatch):
    monkeypatch.setattr(dl.plots, "MANY_PANELS", 2)
    with pytest.warns(UserWarning, match=r"show_rows draws 3 images as panels of their own, .*; show\(images\) is faster"):
        show_rows([IMAGES], ["a"])


def test_plot_schedules_takes_names():
    axes = plot_schedules([dl.linear_schedule(50), "cosine"], "alpha_bar").axes
    assert [line.get_label() for line in axes[0].lines] == ["linear, T=50", "cosine, T=50"]
    assert plot_schedules("sigmoid", ["snr"]).axes[0].lines[0].get_label() == "sigmoid, T=1000"


def test_plot_schedules_draws_each_schedules_tables():
    schedules = [dl.linear_schedule(20), dl.cosine_schedule(50)]
    figure = plot_schedules(schedules, ("alpha_bar", "snr"))
    assert [ax.get_title() for ax in figure.axes] == ["alpha_bar", "snr"]
    for ax in figure.axes:
        for line, schedule in zip(ax.lines, schedules, strict=True):
            assert list(line.get_xdata()) == pytest.approx([t / schedule.T for t in range(1, schedule.T + 1)])
            assert list(line.get_ydata()) == pytest.approx(getattr(schedule, ax.get_title())[1:].tolist())
            assert schedule.name in line.get_label()


def test_plot_schedules_uses_a_logarithmic_axis_for_beta_only():
    axes = plot_schedules([dl.cosine_schedule(50)], ("alpha_bar", "beta", "log_snr")).axes
    assert [ax.get_yscale() for ax in axes] == ["linear", "log", "linear"]
    assert axes[2].get_ylim()[0] < -5


def test_plot_schedules_omits_infinite_values_at_the_end():
    signal = torch.linspace(1, 0, 21, dtype=torch.float64)  # a straight path: nothing of the image is left at T
    snr = (signal / (1 - signal)) ** 2
    alpha_bar = 1 / (1 + 1 / snr)
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), 1 - alpha_bar[1:] / alpha_bar[:-1]])
    straight = SimpleNamespace(name="straight", T=20, alpha_bar=alpha_bar, beta=beta, snr=snr, log_snr=snr.log())
    assert (alpha_bar[-1], straight.log_snr[-1]) == (0, -math.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plot_schedules([straight], ("beta", "alpha_bar", "snr", "log_snr"))
        figure.canvas.draw()
    low, high = figure.axes[3].get_ylim()
    assert -7 < low < straight.log_snr[-2] < straight.log_snr[1] < high < 7


def test_plot_loss_skips_losses_that_are_not_finite():
    with pytest.warns(UserWarning, match=r"2 of 5 losses are not finite \(NaN or infinity\), the first in step 2") as said:
        mean = plot_loss([4.0, math.nan, 2.0, math.inf, 3.0]).lines[0]
    assert said[0].filename == __file__
    assert list(mean.get_ydata()) == pytest.approx([4.0, 4.0, 3.0, 3.0, 3.0])


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], "losses is empty; expected the loss of one step or more"),
        (None, "losses cannot be read as numbers"),
        (torch.zeros(2, 2), "losses cannot be read as numbers"),
        (["high"], "losses cannot be read as numbers .*; expected the loss of each step, as step.loss.item"),
    ],
)
def test_plot_loss_rejects_what_are_no_losses(losses, message):
    with pytest.raises(ValueError, match=message):
        plot_loss(losses)
    with pytest.raises(ValueError, match=r"smooth=1.5; expected 0 \(no memory\) to 1"):
        plot_loss([1.0], smooth=1.5)


def test_plot_loss_accepts_tensors_and_leaves_them_unchanged():
    losses = [torch.tensor(loss) for loss in (4.0, 2.0, 3.0, 1.0)]
    assert list(plot_loss(losses).lines[0].get_ydata()) == pytest.approx([4.0, 3.0, 3.0, 2.5])
    assert losses[0] == 4.0
    on_tape = torch.tensor([4.0, 2.0, 3.0, 1.0], requires_grad=True)
    assert list(plot_loss(on_tape).lines[0].get_ydata()) == pytest.approx([4.0, 3.0, 3.0, 2.5])


def test_plot_loss_draws_losses_and_running_mean():
    losses = [4.0, 2.0, 3.0, 1.0]
    ax = plot_loss(losses, smooth=0.5, label="run")
    mean, raw = ax.lines
    assert list(raw.get_ydata()) == losses
    assert list(raw.get_xdata()) == [1, 2, 3, 4]
    # half of it and half of the new
    assert list(mean.get_ydata()) == pytest.approx([4.0, 3.0, 3.0, 2.0])
    # the plain mean while there are few: a long memory does not cling to the first loss
    assert list(plot_loss(losses, smooth=0.98).lines[0].get_ydata()) == pytest.approx([4.0, 3.0, 3.0, 2.5])
    assert ax.get_yscale() == "log"
    assert plot_loss(losses, ax=ax) is ax


def test_plot_time_to_quality_draws_intervals():
    def row(network, budget, seconds, value):
        return dict(network=network, budget=budget, seconds=seconds, frechet_distance=dict(value=value, low=value - 1, high=value + 2))

    rows = [row("a", 60, 61.0, 9.0), row("a", 30, 30.5, 19.0), row("b", 60, 60.2, 99.0)]
    ax = plot_time_to_quality(dict(rows=rows, real=dict(value=0.5, low=0, high=1)))
    curves = {each.get_label(): each for each in ax.containers}
    assert list(curves) == ["a", "b"]
    line, _, (bars,) = curves["a"]
    assert line.get_xydata().tolist() == [[30.5, 19.0], [61.0, 9.0]]
    assert [bar[:, 1].tolist() for bar in bars.get_segments()] == [[18.0, 21.0], [8.0, 11.0]]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["30", "60"]
    assert plot_time_to_quality(dict(rows=rows, real=dict(value=0.5)), ax) is ax

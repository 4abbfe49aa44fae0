"""The widgets' Python side: what they send to the page, and what they store in the notebook for viewers that run no code."""

import io
import math
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import traitlets
from helpers import Curved, noise, tiny_dataset
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image, ImageColor

import diffusion_lib as dl
from diffusion_lib.plots import image_grid
from diffusion_lib.widgets import (
    attention,
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
from diffusion_lib.widgets.base import FOLDER, fingerprint, png
from diffusion_lib.widgets.stills import ALARMED, CURVES, GAP, MARGIN, MARK, WIDTH, space_for_columns

X0, EPS = noise(5, 1, 8, 6, seed=1, dtype=torch.float32).clamp(-1, 1), noise(5, 1, 8, 6, seed=2, dtype=torch.float32)


def picture(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.array(image)


def still(widget):
    """A widget's still picture, uint8 (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(widget.still)).convert("RGB"))


def received(widget, t, schedule=0):
    """xt as the page computes it from what it is sent: (H, W, C)."""
    x0 = np.frombuffer(widget.x0, np.uint8).reshape(widget.shape).astype(float) / 127.5 - 1
    eps = np.frombuffer(widget.eps, np.int8).reshape(widget.shape) * widget.eps_scale
    signal, noise = (np.frombuffer(tables[schedule])[t] for tables in (widget.signal, widget.noise))
    return torch.from_numpy(signal * x0 + noise * eps)


def assert_sends(widget, schedules):
    for k, schedule in enumerate(schedules):
        signal, noise = (torch.frombuffer(bytearray(tables[k]), dtype=torch.float64) for tables in (widget.signal, widget.noise))
        assert len(signal) == len(noise) == schedule.T + 1
        torch.testing.assert_close(signal**2 / (signal**2 + noise**2), schedule.alpha_bar, rtol=1e-12, atol=0)
        torch.testing.assert_close(signal / noise, schedule.snr.sqrt())


@pytest.mark.parametrize("channels", [1, 3])
def test_sends_the_data_for_every_timestep(channels):
    x0, eps = X0.repeat(1, channels, 1, 1), noise(5, channels, 8, 6, dtype=torch.float32)
    eps[0, 0, 0, :2] = torch.tensor([6.0, -6.0])  # beyond what travels: cut off, and not wrapped around
    schedules = [dl.linear_schedule(20), dl.cosine_schedule(20)]
    widget = noising(x0, schedules, t=7, eps=eps, columns=3, title="noise")
    assert widget.shape == [16, 18, channels]
    assert len(widget.x0) == len(widget.eps) == 16 * 18 * channels
    assert (widget.t, widget.schedule, widget.title) == (7, "linear", "noise")
    assert widget.names == ["linear", "cosine"]
    assert_sends(widget, schedules)
    for k, schedule in enumerate(schedules):
        for t in (0, 1, 10, 20):
            xt = dl.q_sample(schedule, x0, t, eps.clamp(-127 / 31, 127 / 31))
            page = received(widget, t, k)
            for i in range(5):
                top, left = 8 * (i // 3), 6 * (i % 3)
                # half a grey level of x0 and, where there is noise, half a step of eps
                atol = 0.5 / 127.5 + 0.5 / 31 * (t > 0) + 1e-6
                torch.testing.assert_close(page[top : top + 8, left : left + 6].permute(2, 0, 1), xt[i].double(), rtol=0, atol=atol)


def test_draws_the_same_noise_in_every_run():
    a, b = (noising(X0, dl.linear_schedule(20)) for _ in range(2))
    assert a.eps == b.eps
    assert a.still == b.still
    eps = np.frombuffer(a.eps, np.int8) * a.eps_scale
    assert 0.8 < eps[eps != 0].std() < 1.2


def test_noising_rejects_invalid_input():
    with pytest.raises(ValueError, match=r"schedules have T = \[20, 30\]; expected one or more schedules of the same T"):
        noising(X0, [dl.linear_schedule(20), dl.cosine_schedule(30)])
    with pytest.raises(ValueError, match=r"schedules have T = \[\]"):
        noising(X0, [])
    with pytest.raises(ValueError, match=r"eps has shape \(4, 1, 8, 6\) but x0 has \(5, 1, 8, 6\)"):
        noising(X0, dl.linear_schedule(20), eps=EPS[:4])
    with pytest.raises(ValueError, match=r"x0 has dtype torch.uint8; expected floats"):
        noising(X0.to(torch.uint8), dl.linear_schedule(20))
    with pytest.raises(ValueError, match=r"x0 has 2 channels; expected 1 \(grey\) or 3 \(colour\)"):
        noising(X0.repeat(1, 2, 1, 1), dl.linear_schedule(20))
    with pytest.raises(ValueError, match=r"schedules are called \['linear', 'linear'\]; expected a different name for each"):
        noising(X0, [dl.linear_schedule(20), dl.linear_schedule(20)])
    with pytest.raises(ValueError, match=r"t=21; expected 0\.\.20"):
        noising(X0, dl.linear_schedule(20), t=21)


def test_timestep_and_schedule_can_be_set_and_observed():
    widget, changes = noising(X0, [dl.linear_schedule(20), dl.cosine_schedule(20)]), []
    widget.observe(lambda change: changes.append((change["name"], change["new"])), ["t", "schedule"])
    widget.t, widget.schedule = 20, "cosine"
    assert changes == [("t", 20), ("schedule", "cosine")]
    with pytest.raises(traitlets.TraitError, match=r"t=21; expected 0\.\.20"):
        widget.t = 21
    with pytest.raises(traitlets.TraitError, match=r"unknown schedule 'cosin'.*Did you mean 'cosine'\?"):
        widget.schedule = "cosin"
    assert (widget.t, widget.schedule) == (20, "cosine")


def coloured(pixels):
    """Where a picture is neither grey nor white: curves, and marks."""
    pixels = pixels.astype(int)
    return pixels.max(axis=2) - pixels.min(axis=2) > 50


def test_noising_still_shows_six_captioned_timesteps_with_histograms():
    schedule = dl.linear_schedule(20)
    page = still(noising(X0, schedule, eps=EPS, columns=2, title="title"))
    assert page.shape[1] == WIDTH + 2 * MARGIN
    top = MARGIN + 21 + GAP + 2 * (LINE + GAP)  # below the title, the captions, and the name of the row
    film = [image_grid(dl.q_sample(schedule, X0, t, EPS), 5).numpy() for t in (0, 4, 8, 12, 16, 20)]
    height, width = (3 * side for side in film[0].shape[:2])
    column = (WIDTH - 5 * GAP) // 6
    counted = []
    for k, each in enumerate(film):
        left = MARGIN + k * (column + GAP)
        shown = page[top : top + height, left : left + width].astype(int)
        assert abs(shown - each.repeat(3, axis=0).repeat(3, axis=1)).max() <= 11  # 13 grey levels, 21 apart
        caption = page[MARGIN + 21 + GAP :][:LINE, left : left + column]
        assert (caption.min(), caption.max()) == (0, 255)
        histogram = page[top + height + GAP :][:74, left : left + column]
        assert coloured(histogram).sum() > 200  # the line
        counted.append((abs(histogram.astype(int) - 191).max(axis=2) < 12).sum())  # grey: where there are pixels
    assert min(counted) > 200
    assert [page[MARGIN:][:21].min(), page[-MARGIN - LINE : -MARGIN].min()] == [0, 0]  # the title, and what the line is


def test_noising_still_has_a_row_for_each_schedule():
    one, two = (still(noising(X0, schedules)) for schedules in (dl.linear_schedule(20), [dl.linear_schedule(20), dl.cosine_schedule(20)]))
    row = LINE + GAP + 3 * image_grid(X0, 5).shape[0] + GAP + 74 + GAP
    assert len(two) == len(one) + row


def test_explore_schedules_sends_tables_and_images():
    schedules = [dl.linear_schedule(20), dl.cosine_schedule(20), dl.sigmoid_schedule(20)]
    widget = explore_schedules(schedules, X0, eps=EPS)
    assert widget.t == 10
    assert_sends(widget, schedules)
    assert widget.shape == [8, 30, 1]
    xt = dl.q_sample(schedules[2], X0, 13, EPS).permute(2, 0, 3, 1).reshape(8, 30, 1)
    torch.testing.assert_close(received(widget, 13, 2), xt.double(), rtol=0, atol=0.03)
    with pytest.raises(ValueError, match=r"t=0; expected 1\.\.20"):
        explore_schedules(schedules, t=0)  # beta has no entry there


def test_explore_schedules_works_without_images():
    widget = explore_schedules(dl.cosine_schedule(20), t=3)
    assert (widget.shape, widget.x0, widget.t) == ([], b"", 3)
    assert picture(widget.still).shape[1] > 300


def test_explore_schedules_still_shows_curves_and_images():
    schedules = [dl.linear_schedule(20), dl.cosine_schedule(20), dl.sigmoid_schedule(20)]
    page = still(explore_schedules(schedules, X0, eps=EPS, t=13))
    curves = page[MARGIN : MARGIN + 170, MARGIN:-MARGIN]
    for colour in CURVES[:3]:
        is_it = (curves == ImageColor.getrgb(colour)).all(axis=2)
        for plot in np.array_split(is_it, 3, axis=1):
            assert plot.any(axis=0).sum() > 40, "the curve, from left to right"
    row = image_grid(dl.q_sample(schedules[2], X0, 13, EPS), 5).numpy()  # enlarged 4 times, for a height of at most 140
    assert contains(page, row.repeat(14, axis=0).repeat(14, axis=1))


def contains(page, expected, atol=11):
    """Whether a page holds a picture, to its grey levels."""
    page, expected = page[..., 0].astype(np.int16), expected[..., 0].astype(np.int16)
    (height, width), free = expected.shape, np.subtract(page.shape, expected.shape) + 1
    near = np.ones(free, bool)
    for y in np.linspace(0, height - 1, 5).astype(int):  # a few of its pixels tell where it may stand
        for x in np.linspace(0, width - 1, 5).astype(int):
            near &= abs(page[y : y + free[0], x : x + free[1]] - expected[y, x]) <= atol
    return any(abs(page[i : i + height, j : j + width] - expected).max() <= atol for i, j in np.argwhere(near))


LINE = 19  # pixels, of a line of text in a still picture
FRAMES = noise(7, 5, 1, 8, 6, seed=3, dtype=torch.float32)


def cut(widget, panel, i):
    """Frame i of a panel, cut from its sheet as the page does."""
    height, width = widget.frame_shape
    row, column = divmod(i, widget.sheet_columns)
    return picture(widget.sheets[panel])[row * height : (row + 1) * height, column * width : (column + 1) * width]


def test_scrub_sends_every_frame_of_every_panel():
    widget = scrub({"xt": FRAMES, "x0_hat": -FRAMES}, [f"t = {i}" for i in range(7)], columns=3, title="chain")
    assert (widget.panel_names, widget.captions[6], widget.title) == (["xt", "x0_hat"], "t = 6", "chain")
    assert widget.frame == 6
    for panel, frames in enumerate((FRAMES, -FRAMES)):
        for i in range(7):
            expected = image_grid(frames[i], 3).numpy()[..., 0].astype(int)
            # 16 grey levels, 17 apart
            assert abs(cut(widget, panel, i).astype(int) - expected).max() <= 9
    assert widget.frame_shape == list(image_grid(FRAMES[0], 3).shape[:2])


def test_scrub_keeps_colours_exact():
    frames = noise(4, 2, 3, 8, 6)
    widget = scrub({"xt": frames}, list("abcd"), columns=2, start=1)
    assert widget.frame == 1
    for i in range(4):
        assert np.array_equal(cut(widget, 0, i), image_grid(frames[i], 2).numpy())


def test_sheet_sides_stay_within_4096_pixels():
    widget = scrub({"xt": torch.zeros(300, 4, 1, 64, 64)}, [""] * 300, columns=4)
    assert max(picture(widget.sheets[0]).shape) <= 4096
    assert len(widget.captions) == 300


def test_rejects_more_pictures_than_a_sheet_holds():
    with pytest.raises(ValueError, match=r"400 pictures of 242x242 pixels; expected as many as fit on 4096x4096: show fewer frames, or"):
        scrub({"xt": torch.zeros(400, 1, 1, 240, 240)}, [""] * 400)


def test_rejects_frames_outside_the_recording():
    with pytest.raises(ValueError, match=r"start=7; expected 0\.\.6"):
        scrub({"a": FRAMES}, [""] * 7, start=7)
    widget = scrub({"a": FRAMES}, [""] * 7)
    with pytest.raises(traitlets.TraitError, match=r"frame=7; expected 0\.\.6"):
        widget.frame = 7


@pytest.mark.parametrize(
    ("panels", "captions"),
    [({}, []), ({"a": FRAMES[0]}, [""] * 5), ({"a": FRAMES, "b": FRAMES[:6]}, [""] * 7), ({"a": FRAMES}, [""] * 6)],
)
def test_rejects_panels_of_different_shapes(panels, captions):
    with pytest.raises(ValueError, match=r"panels have shapes .* with \d captions; expected \(F, B, C, H, W\), all alike, and F captions"):
        scrub(panels, captions)


GRID = noise(6, 2, 3, 1, 8, 6, dtype=torch.float32).clamp(-1, 1)  # 6 by 2 places, 3 images each
AXES = ("step", [1, 10, 20, 30, 40, 50]), ("t", [900, 100])


def test_scrub_grid_sends_a_frame_for_every_pair_of_values():
    captions = [[f"{i} {j}" for j in range(2)] for i in range(6)]
    widget = scrub_grid({"raw": GRID, "average": -GRID}, *AXES, captions, columns=3, start=(4, 1))
    assert (widget.first, widget.second) == (4, 1)
    assert widget.axis_values == [["1", "10", "20", "30", "40", "50"], ["900", "100"]]
    for i in range(6):
        for j in range(2):
            assert widget.captions[2 * i + j] == f"{i} {j}"
            expected = image_grid(-GRID[i, j], 3).numpy()[..., 0].astype(int)
            assert abs(cut(widget, 1, 2 * i + j).astype(int) - expected).max() <= 9
    for name, count in (("first", 6), ("second", 2)):
        with pytest.raises(traitlets.TraitError, match=rf"{name}={count}; expected 0\.\.{count - 1}"):
            setattr(widget, name, count)


@pytest.mark.parametrize(
    ("panels", "captions"),
    [({}, None), ({"a": GRID[0]}, None), ({"a": GRID[:5]}, None), ({"a": GRID, "b": GRID[..., :4]}, None), ({"a": GRID}, [["", ""]] * 5)],
)
def test_rejects_grids_that_do_not_match_their_axes(panels, captions):
    with pytest.raises(ValueError, match=r"panels have shapes .* expected \(6, 2\) \+ \(B, C, H, W\), for the 6 values of 'step'"):
        scrub_grid(panels, *AXES, captions)


@pytest.mark.parametrize(("steps", "frames", "kept"), [(50, 26, 26), (10, 26, 10), (50, 2, 2), (50, 1, 2), (1, 26, 1)])
def test_record_keeps_evenly_spaced_steps_and_the_last(steps, frames, kept):
    denoiser = Curved(dl.cosine_schedule(50))
    chain = list(dl.ddim_steps(denoiser, noise(2, 1, 2, 2), steps=steps))
    recording = record(iter(chain), frames)
    assert len(recording.t) == kept
    assert recording.t[-1] == 0
    assert recording.xt.shape == recording.x0_hat.shape == (kept, 2, 1, 2, 2)
    by_t = {step.t: step for step in chain}
    for i, t in enumerate(recording.t):
        assert torch.equal(recording.xt[i], by_t[t].xt)
        assert torch.equal(recording.x0_hat[i], by_t[t].x0_hat)
    assert [recording.t[i] for i in (0, -1)] == [chain[recording.step[i] - 1].t for i in (0, -1)]
    assert recording.steps == steps
    gaps = np.abs(np.diff(recording.t))
    assert kept < 3 or gaps.max() - gaps.min() <= 50 // steps + 1


def chain(steps, xT=None, eta=0.0):
    xT = noise(5, 1, 8, 6, dtype=torch.float32) if xT is None else xT
    return dl.ddim_steps(Curved(dl.cosine_schedule(50)), xT, steps=steps, eta=eta, generator=torch.Generator().manual_seed(0))


def test_chains_are_shown_at_the_first_chains_timesteps():
    widget = chains({"DDPM": chain(50, eta=1.0), "DDIM": record(chain(10))}, frames=6, t=31)
    assert widget.panel_names == ["DDPM: xt", "DDPM: x0_hat", "DDIM: xt", "DDIM: x0_hat"]
    assert widget.ts == [49, 39, 29, 20, 10, 0]
    assert widget.captions[1] == "t = 39"  # no step: it is another one in each chain
    by_t = {step.t: step for step in chain(10)}
    for i, t in enumerate(widget.ts):
        nearest = min(by_t, key=lambda s: abs(s - t))
        expected = image_grid(by_t[nearest].xt, 4).numpy()[..., 0].astype(int)
        assert abs(cut(widget, 2, i).astype(int) - expected).max() <= 9
    # it opens at the recorded timestep nearest to what was asked for
    assert (widget.frame, widget.t) == (2, 31)


def test_frame_and_timestep_of_a_chain_follow_each_other():
    widget = chains({"": chain(50)}, frames=6)
    assert widget.panel_names == ["xt", "x0_hat"]
    assert widget.captions[-1] == "t = 0, step 50 of 50"
    assert (widget.frame, widget.t) == (5, 0)
    widget.frame = 1
    assert widget.t == 39
    widget.t = 22  # not recorded; kept, for widgets that are linked with this one
    assert (widget.frame, widget.t) == (3, 22)
    with pytest.raises(ValueError, match="chains is empty; expected a name and a sampler's steps"):
        chains({})
    with pytest.raises(ValueError, match=r"t=50; expected 0\.\.49"):
        chains({"": chain(50)}, t=50)


# ----------------------------------------------------------------------------------------------------------------------- training

LOSSES = [1 / n for n in range(1, 31)]


def test_training_sends_samples_and_losses():
    widget = training({"raw": FRAMES[:3], "average": -FRAMES[:3]}, [1, 10, 30], LOSSES, columns=3)
    assert (widget.steps, widget.total, widget.live) == ([1, 10, 30], 30, False)
    assert np.frombuffer(widget.losses, np.float32) == pytest.approx(LOSSES)
    for i in range(3):
        expected = np.concatenate([image_grid(x[i], 3).numpy()[..., 0] for x in (FRAMES, -FRAMES)], axis=1).astype(int)
        assert abs(picture(widget.pictures[i]).astype(int) - expected).max() <= 9
    assert widget.panel_shape == list(image_grid(FRAMES[0], 3).shape[:2])
    assert (widget.frame, widget.step) == (2, 30)
    widget.step = 12
    assert (widget.frame, widget.step) == (1, 12)
    widget.frame = 0
    assert widget.step == 1
    with pytest.raises(traitlets.TraitError, match=r"frame=3; expected 0\.\.2"):
        widget.frame = 3
    alone = training({"raw": FRAMES[:1]}, [30], LOSSES)
    assert (alone.frame, alone.step) == (0, 30)
    for samples, steps in (({}, []), ({"raw": FRAMES}, [1, 2]), ({"raw": FRAMES[0]}, [1] * 5)):
        with pytest.raises(ValueError, match=r"samples have shapes .* for \d steps; expected \(F, B, C, H, W\), all alike, and F steps"):
            training(samples, steps, LOSSES)
    with pytest.raises(ValueError, match=r"samples have the names \['ema'\]; expected \['raw', 'average'\], as before"):
        widget.add(31, {"ema": FRAMES[0]})


def test_training_still_shows_loss_curve_above_samples():
    film, both = (still(training({"raw": FRAMES[:3]}, [1, 10, 30], losses)).astype(int) for losses in ([], LOSSES))
    curve, rest = both[: MARGIN + 170], both[-len(film) + MARGIN :]
    assert len(both) == len(film) + 170 + GAP
    assert np.array_equal(rest[:, : film.shape[1]], film[MARGIN:])
    assert coloured(curve).sum() > 300
    view, samples = live()
    empty = still(view)
    watched(view, fake_run(30), samples, {10, 30})
    assert [coloured(each).sum() > 300 for each in (empty, still(view))] == [False, True]


def test_grid_still_is_a_table_with_captions():
    captions = [[f"caption {i} {j}" for j in range(2)] for i in range(6)]
    plain, captioned = (scrub_grid({"": GRID}, *AXES, said, columns=3, title="table") for said in (None, captions))
    for widget in (plain, captioned):
        page = still(widget)
        for i, j in ((0, 0), (3, 1), (5, 1)):
            expected = image_grid(GRID[i, j], 3).numpy()
            factor = space_for_columns([f"step {value}" for value in AXES[0][1]], 2) // expected.shape[1]
            assert contains(page, expected.repeat(factor, axis=0).repeat(factor, axis=1))
    assert len(still(captioned)) == len(still(plain)) + 6 * (16 + 2)
    # a panel that is the same in all rows is there once
    alike = GRID[:1].expand(6, -1, -1, -1, -1, -1)
    assert len(still(scrub_grid({"a": alike, "b": GRID}, *AXES))) < len(still(scrub_grid({"a": -GRID, "b": GRID}, *AXES))) - 500
    # and the place that is shown first is always there
    many = noise(20, 1, 1, 1, 8, 6, dtype=torch.float32).clamp(-1, 1)
    first = image_grid(many[7, 0], 1).numpy()
    factor = space_for_columns([f"a {i}" for i in range(20)], 1) // first.shape[1]
    page = still(scrub_grid({"": many}, ("a", range(20)), ("b", [0]), start=(7, 0)))
    assert contains(page, first.repeat(factor, axis=0).repeat(factor, axis=1))


LIVE_CELLS = [
    """
import torch, diffusion_lib as dl
run = (dl.TrainStep(n, torch.tensor(1 / n), torch.tensor(1.0), 0.1, None, None, torch.tensor(0)) for n in range(1, 31))
samples = lambda step: {"samples": torch.full((5, 1, 8, 6), step.step / 30)}
view = dl.widgets.live_training(30, ["samples"], (5, 1, 8, 6))
""",
    """
display(view)
for step in view.watch(run, samples, at=[1, 10]):
    if step.step == 12:
        break
""",
    "import base64; print(base64.b64encode(view.still).decode())",
    "for step in view.watch(run, samples, at=[20, 30]): pass",
    "print(base64.b64encode(view.still).decode())",
]


def test_stored_output_of_a_live_view_shows_its_last_state():
    notebook = new_notebook(cells=[new_code_cell(source) for source in LIVE_CELLS])
    client = NotebookClient(notebook, timeout=300)
    with client.setup_kernel():
        for i in range(3):
            client.execute_cell(notebook.cells[i], i)
        _, shown, stopped, *others = notebook.cells
        first = shown.outputs[0].data["image/png"].strip()
        assert first == stopped.outputs[0].text.strip()
        for i in (3, 4):
            client.execute_cell(notebook.cells[i], i)
    # and a run that goes on in another cell changes what was shown before
    assert shown.outputs[0].data["image/png"].strip() == others[1].outputs[0].text.strip() != first
    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1, 1, 0, 1]
    assert shown.outputs[0].data["text/plain"] == "TrainingWidget(live, 30 steps; samples)"
    assert "application/vnd.jupyter.widget-view+json" in shown.outputs[0].data


def test_live_view_updates_no_display_in_colab_or_where_none_was_made(monkeypatch):
    shown, updated = [], []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append(options["display_id"]))
    monkeypatch.setattr("IPython.display.update_display", lambda data, **options: updated.append(options["display_id"]))
    view, samples = live()
    watched(view, fake_run(30), samples, [30])
    assert (shown, updated) == ([], [])  # as in a script
    for colab, expected in ((False, 1), (True, 0)):
        if colab:
            monkeypatch.setitem(sys.modules, "google.colab", sys)
        view, samples = live()
        view._ipython_display_()
        shown.clear()
        updated.clear()
        view._ipython_display_()
        watched(view, fake_run(30), samples, [30])
        assert updated == shown[:expected]


def test_live_view_rejects_samples_of_other_names_or_sizes():
    view, _ = live()
    with pytest.raises(ValueError, match=r"samples have the names \['ema'\]; expected \['samples'\], as before"):
        view.add(1, {"ema": FRAMES[0]})
    with pytest.raises(ValueError, match=r"samples make a picture of \[\d+, \d+\] pixels; expected \[\d+, \d+\], the size of the view"):
        view.add(1, {"samples": FRAMES[0, :2]})
    assert view.steps == view.pictures == []


def fake_run(steps):
    """What `train` yields, without the work."""
    return (dl.TrainStep(n, torch.tensor(1 / n), torch.tensor(1.0), 0.1, None, None, torch.tensor(0)) for n in range(1, steps + 1))


def live(total=30):
    return live_training(total, ["samples"], (5, 1, 8, 6)), lambda step: {"samples": FRAMES[step.step % 7]}


def watched(view, run, samples, at, act=None):
    """The steps that a reader's loop sees, with act(step) done in it; ends where it returns True."""
    seen = []
    for step in view.watch(run, samples, at):
        assert view.running
        seen.append(step.step)
        if act is not None and act(step):
            break
    return seen


def test_live_view_yields_every_step_and_shows_it():
    view, samples = live()
    assert view.still.startswith(b"\x89PNG")  # there is something to see before the first step
    assert view.panel_shape == list(image_grid(FRAMES[0], 4).shape[:2])
    assert (view.running, view.live) == (False, True)
    assert watched(view, fake_run(30), samples, at=[1, 10, 30]) == list(range(1, 31))
    assert np.frombuffer(view.losses, np.float32) == pytest.approx(LOSSES)
    assert (view.steps, len(view.pictures), view.frame, view.step) == ([1, 10, 30], 3, 2, 30)
    assert not view.running
    assert picture(view.still).size > 0


def test_live_view_stops_and_resumes_the_same_run():
    view, samples = live()
    run = fake_run(30)

    def press_stop(step):
        if step.step == 7:
            view._handle_custom_msg({"stop": True}, [])  # what the page's button sends

    assert watched(view, run, samples, [5, 20], press_stop) == list(range(1, 8))
    assert (view.running, len(view.losses) // 4) == (False, 7)
    assert watched(view, run, samples, [5, 20]) == list(range(8, 31))
    assert np.frombuffer(view.losses, np.float32) == pytest.approx(LOSSES)
    assert view.steps == [5, 20]


@pytest.fixture
def interruptible():
    """Python's own answer to an interrupt, also where the tests were started with interrupts ignored, as a shell's background jobs are."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_first_interrupt_stops_live_view_after_the_step():
    view, samples = live()
    before = signal.getsignal(signal.SIGINT)
    run = fake_run(30)
    seen = watched(view, run, samples, [5], lambda step: signal.raise_signal(signal.SIGINT) if step.step == 9 else None)
    assert (seen[-1], next(run).step) == (9, 10)
    assert signal.getsignal(signal.SIGINT) is before

    def interrupt_twice(step):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        watched(view, run, samples, [5], interrupt_twice)


def test_breaking_out_of_the_loop_ends_the_view_cleanly():
    view, samples = live()
    run = fake_run(30)
    before = signal.getsignal(signal.SIGINT)
    assert watched(view, run, samples, [2], lambda step: step.step == 3) == [1, 2, 3]
    assert (view.running, len(view.losses) // 4, next(run).step) == (False, 3, 4)
    assert signal.getsignal(signal.SIGINT) is before


# ---------------------------------------------------------------------------------------------------------------------- attention


def network(**config):
    torch.manual_seed(0)
    unet = dl.UNet(base_channels=8, num_classes=3, **config)
    for p in unet.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return dl.Denoiser(unet, dl.cosine_schedule(20)).eval()


class NoUNet(torch.nn.Module):
    def forward(self, x, t, y=None):
        return x


def test_attention_sends_the_networks_weights_and_features():
    denoiser, x0, eps, y = network(), X0[:1, :, :8, :4].contiguous(), EPS[:1, :, :8, :4].contiguous(), torch.tensor([1])
    widget = attention(denoiser, x0, y=y, eps=eps, ts=[3, 11], channels=4)
    assert [layer["name"] for layer in widget.layers] == ["down, level 0", "down, level 1", "middle", "up, level 1", "up, level 0"]
    assert [layer["heads"] for layer in widget.layers] == [0, 1, 1, 1, 0]
    assert (widget.layer, widget.t, widget.pixel) == ("down, level 1", 11, [4, 2])

    stage = denoiser.network.down[1][0]  # 2 x 1 positions
    seen = []
    hook = stage.attention.register_forward_pre_hook(lambda block, args: seen.append(block.weights(args[0])[0]))
    outputs = stage.register_forward_hook(lambda block, args, out: seen.append(out[0]))
    with torch.no_grad():
        for t in (3, 11):
            denoiser(dl.q_sample(denoiser.schedule, x0, t, eps), t, y)
    hook.remove()
    outputs.remove()
    # frames go down, positions across: cell (f, i) is where position i looks at noise level f
    sheet, top = picture(widget.sheets["attention 1"]).astype(float) / 255, widget.layers[1]["top"]
    assert sheet.shape == (2 * 2, 2 * 1)
    for f in range(2):
        for i in range(2):
            # grey is a weight of 1/2, as if all were equal; white is `top` times that, black 1/top of it
            expected = ((seen[2 * f][0, i] * 2).log2() / math.log2(top)).clamp(-1, 1).view(2, 1) / 2 + 0.5
            assert np.abs(sheet[2 * f : 2 * f + 2, i : i + 1] - expected.numpy()).max() < 1.1 / 31
    features = picture(widget.sheets["features 1"])
    assert features.shape == (2 * 2, 4 * 1)
    # the sign is right: lighter than grey is above 0
    outputs = torch.stack([seen[1][:4], seen[3][:4]]).permute(0, 2, 1, 3).reshape(4, 4)
    clear = outputs.abs() > 0.2 * outputs.abs().max()
    assert torch.equal((torch.from_numpy(features) > 127)[clear], (outputs > 0)[clear])
    assert picture(widget.sheets["images"]).shape == (8, 2 * 4)


def test_attention_still_marks_the_position_at_each_noise_level():
    x0 = X0[:1, :, :8, :4].contiguous()
    for ts, shown in (([3, 11], 2), (range(1, 12), 5)):
        page = still(attention(network(), x0, eps=EPS[:1, :, :8, :4].contiguous(), ts=ts))
        marked = (page == MARK).all(axis=2).any(axis=0).astype(int)
        assert (np.diff(marked) == 1).sum() == shown  # one frame in each picture of xt


def test_attention_removes_its_hooks_and_names_blocks():
    denoiser = network(blocks_per_level=2, attention_levels=())
    widget = attention(denoiser, X0[:1, :, :8, :4].contiguous(), ts=[5])
    assert [layer["name"] for layer in widget.layers][:2] == ["down, level 0, block 0", "down, level 0, block 1"]
    assert {layer["heads"] for layer in widget.layers} == {0}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.network.modules())


def test_attention_rejects_invalid_input():
    denoiser = network()
    with pytest.raises(ValueError, match=r"x0 has 5 images; expected one: x0\[:1\]"):
        attention(denoiser, X0)
    with pytest.raises(ValueError, match=r"the denoiser's network is a NoUNet; expected a UNet"):
        attention(dl.Denoiser(NoUNet(), dl.cosine_schedule(20)), X0[:1])
    widget = attention(denoiser, X0[:1, :, :8, :4].contiguous(), ts=[3, 11, 20])
    with pytest.raises(traitlets.TraitError, match=r"layer='up'; expected one of \['down, level 0'"):
        widget.layer = "up"
    with pytest.raises(traitlets.TraitError, match=r"pixel=\[8, 0\]; expected \[row, column\] inside 8x4"):
        widget.pixel = [8, 0]
    widget.frame = 0
    assert widget.t == 3
    widget.t = 18
    assert widget.frame == 2


# ------------------------------------------------------------------------------------------------------------- schedule designer


def designer(**options):
    return design_schedule(Curved(dl.cosine_schedule(50)), noise(2, 1, 2, 2, dtype=torch.float32).clamp(-1, 1), **options)


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("cosine", {}, dl.cosine_schedule(1000)),
        ("cosine", dict(s=7, T=1), dl.cosine_schedule(20, 0.2)),
        ("linear", dict(T=2), dl.linear_schedule(50)),
        ("linear", dict(beta_start=0, beta_end=1), dl.linear_schedule(1000, 1e-5, 0.005)),
        ("sigmoid", dict(start=4, end=5, tau=0, T=0), dl.sigmoid_schedule(10, -2.0, 5.0, 0.3)),
    ],
)
def test_designed_schedule_matches_the_library(kind, changes, expected):
    widget = designer(kind=kind)
    for name, index in changes.items():
        setattr(widget, name, index)
    torch.testing.assert_close(widget.schedule.alpha_bar, expected.alpha_bar)


def test_designer_rejects_index_out_of_range():
    with pytest.raises(traitlets.TraitError, match=r"T=500; expected 0\.\.6, an index into \[10, 20, 50, 100, 200, 500, 1000\]"):
        designer().T = 500


def test_designer_offers_unscaled_linear_betas():
    alpha_bar = designer(kind="linear, not scaled", T=50).schedule.alpha_bar
    torch.testing.assert_close(alpha_bar[1:], torch.cumprod(1 - torch.linspace(1e-4, 0.02, 50, dtype=torch.float64), 0))
    assert alpha_bar[-1].sqrt() > 0.7


def test_designer_still_shows_curves_alarm_and_estimates():
    for options, alarmed in ((dict(kind="linear, not scaled", T=50), True), (dict(T=50), False)):
        widget = designer(**options, columns=2)
        page = still(widget)
        assert (page == ImageColor.getrgb(ALARMED)).all(axis=2).any() == alarmed
        assert (page[: MARGIN + 170] == ImageColor.getrgb(CURVES[0])).all(axis=2).sum() > 200
        # the estimates at the nearest of 40 noise levels to t's and T's, enlarged to a third of the page
        levels = np.frombuffer(widget.levels)
        for sheet, t in zip(widget.sheets, (25, 50), strict=True):
            asked = widget.schedule.alpha_bar[t].sqrt().item()
            row, column = divmod(int(abs(np.arccos(levels) - math.acos(asked)).argmin()), widget.sheet_columns)
            estimate = picture(sheet)[2 * row : 2 * row + 2, 4 * column : 4 * column + 4, None].repeat(69, axis=0).repeat(69, axis=1)
            assert contains(page, estimate, atol=20)  # 13 grey levels here, and 16 there


def test_designer_sends_the_noise_levels_of_its_estimates():
    schedule = dl.cosine_schedule(50)
    widget = designer()
    levels = torch.frombuffer(bytearray(widget.levels), dtype=torch.float64)
    assert len(levels) == 40
    assert (levels[0], levels[-1]) == (schedule.alpha_bar[1].sqrt(), schedule.alpha_bar[-1].sqrt())
    assert (levels.diff() <= 0).all()
    with pytest.raises(ValueError, match="T=30; expected one of 10, 20, 50, 100, 200, 500, 1000"):
        designer(T=30)


# --------------------------------------------------------------------------------------------------------------- all of them alike


def widgets():
    dataset = tiny_dataset(4)
    view, samples = live()
    watched(view, fake_run(30), samples, at=[1, 30])
    return {
        "NoisingWidget(4 images 1x8x8, t = 0..20, linear, data HASH)": noising(dataset.images, dl.linear_schedule(20)),
        "ScheduleWidget(linear; t = 1..20, data HASH)": explore_schedules(dl.linear_schedule(20), dataset.images),
        "DesignerWidget(cosine, T = 1000; 2 images; data HASH)": designer(),
        "ScrubWidget(7 frames; panels: xt, x0_hat; data HASH)": scrub({"xt": FRAMES, "x0_hat": FRAMES}, [""] * 7),
        "GridWidget(6 x 2 frames; panels: a; data HASH)": scrub_grid({"a": GRID}, *AXES),
        "ChainWidget(10 frames; panels: xt, x0_hat; data HASH)": chains({"": chain(10)}),
        "TrainingWidget(7 of 30 steps; raw; data HASH)": training({"raw": FRAMES}, range(1, 8), LOSSES),
        "TrainingWidget(live, 30 steps; samples)": view,
        "AttentionWidget(5 layers, t = 1..20; data HASH)": attention(network(), X0[:1, :, :8, :4].contiguous()),
    }


def test_stores_a_fixed_text_and_a_still_picture():
    for text, widget in widgets().items():
        data, _ = widget._repr_mimebundle_()
        # no memory address: stored outputs are compared with fresh ones
        assert re.sub("data [0-9a-f]{6}", "data HASH", data["text/plain"]) == text
        assert data["text/plain"] == repr(widget)
        assert data["image/png"] == widget.still
        assert 300 < picture(data["image/png"]).shape[1] < 1300
        assert len(data["image/png"]) < 100_000
        assert "application/vnd.jupyter.widget-view+json" in data


def test_omits_the_still_picture_in_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    for widget in widgets().values():
        data, _ = widget._repr_mimebundle_()
        assert "image/png" not in data
        assert "application/vnd.jupyter.widget-view+json" in data


def test_every_widget_has_its_page_code_and_style():
    for widget in widgets().values():
        assert widget._esm.count("export default") == 1
        assert widget._css == (FOLDER / "widgets.css").read_text(encoding="utf-8")
    # and every file is some widget's
    assert {widget._esm for widget in widgets().values()} == {path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js")}


def test_fingerprint_changes_with_the_data_and_not_with_rounding():
    for make in (lambda x: noising(x, dl.linear_schedule(20)), lambda x: scrub({"a": x[:, None]}, [""] * 5)):
        same, close, other = (repr(make(x)) for x in (X0, X0 * (1 + 1e-6), X0.flip(0) ** 2))
        assert same == close != other
    places = ("a", range(5)), ("b", range(1))
    texts = [repr(scrub_grid({"a": x[:, None, None]}, *places, fingerprinted=False)) for x in (X0, X0.flip(0) ** 2)]
    assert texts == ["GridWidget(5 x 1 frames; panels: a)"] * 2
    parts = torch.zeros(3, 1, 2, 2), torch.ones(5, 1, 1, 1)
    assert len({fingerprint(*parts), fingerprint(*parts[::-1]), fingerprint(parts[0])}) == 3


def test_fewer_grey_levels_make_a_smaller_png():
    pixels = dl.to_uint8(noise(64, 64)).numpy()
    whole, few = png(pixels), png(pixels, grey_levels=16)
    assert np.array_equal(picture(whole), pixels)
    assert len(few) < 0.7 * len(whole)
    assert len(np.unique(picture(few))) == 16
    assert abs(picture(few).astype(int) - pixels).max() <= 9
    # black and white stay so
    assert np.array_equal(picture(png(np.array([[0, 255]], np.uint8), 16)), [[0, 255]])
    # colours that are all grey travel as one channel
    assert np.array_equal(picture(png(np.stack([pixels] * 3, axis=-1))), pixels)


def test_importing_the_library_loads_neither_matplotlib_nor_widgets():
    loaded = "import sys, diffusion_lib, diffusion_lib.exercises; print(sys.modules.keys() & {'matplotlib', 'anywidget', 'ipywidgets'})"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout == "set()\n"

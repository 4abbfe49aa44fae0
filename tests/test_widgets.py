"""The widgets' Python side: what travels to the page, and what stays in the notebook for pages that run nothing."""

import io
import sys

import numpy as np
import pytest
import torch
from helpers import Curved, noise, tiny_dataset
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.plots import image_grid
from diffusion_lib.widgets import noising, record, scrub
from diffusion_lib.widgets.base import FOLDER, png

X0, EPS = noise(5, 1, 8, 6, seed=1, dtype=torch.float32).clamp(-1, 1), noise(5, 1, 8, 6, seed=2, dtype=torch.float32)


def picture(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.array(image)


def received(widget, t, schedule=0):
    """xt as the page computes it from what it is sent: (H, W, C)."""
    x0 = np.frombuffer(widget.x0, np.uint8).reshape(widget.shape).astype(float) / 127.5 - 1
    eps = np.frombuffer(widget.eps, np.int8).reshape(widget.shape) * widget.eps_scale
    alpha_bar = widget.schedules[schedule]["alpha_bar"][t]
    return torch.from_numpy(np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_gets_all_it_needs_for_every_timestep(channels):
    x0, eps = X0.repeat(1, channels, 1, 1), noise(5, channels, 8, 6, dtype=torch.float32)
    eps[0, 0, 0, :2] = torch.tensor([6.0, -6.0])  # beyond what travels: cut off, and not wrapped around
    schedules = [dl.linear_schedule(20), dl.cosine_schedule(20)]
    widget = noising(x0, schedules, t=7, eps=eps, columns=3, title="noise")
    assert widget.shape == [16, 18, channels]
    assert len(widget.x0) == len(widget.eps) == 16 * 18 * channels
    assert (widget.value, widget.title) == (7, "noise")
    assert [s["name"] for s in widget.schedules] == ["linear", "cosine"]
    for k, schedule in enumerate(schedules):
        assert widget.schedules[k]["alpha_bar"] == pytest.approx(schedule.alpha_bar.tolist(), rel=1e-6)
        for t in (0, 1, 10, 20):
            xt = dl.q_sample(schedule, x0, t, eps.clamp(-127 / 31, 127 / 31))
            page = received(widget, t, k)
            for i in range(5):
                top, left = 8 * (i // 3), 6 * (i % 3)
                # half a grey level of x0 and, where there is noise, half a step of eps
                atol = 0.5 / 127.5 + 0.5 / 31 * (t > 0) + 1e-6
                torch.testing.assert_close(page[top : top + 8, left : left + 6].permute(2, 0, 1), xt[i].double(), rtol=0, atol=atol)


def test_the_noise_is_the_same_in_every_run():
    a, b = (noising(X0, dl.linear_schedule(20)) for _ in range(2))
    assert a.eps == b.eps
    assert a.still == b.still
    eps = np.frombuffer(a.eps, np.int8) * a.eps_scale
    assert 0.8 < eps[eps != 0].std() < 1.2


def test_noising_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match=r"schedules have T = \[20, 30\]; expected one or more schedules of the same T"):
        noising(X0, [dl.linear_schedule(20), dl.cosine_schedule(30)])
    with pytest.raises(ValueError, match=r"schedules have T = \[\]"):
        noising(X0, [])
    with pytest.raises(ValueError, match=r"eps has shape \(4, 1, 8, 6\) but x0 has \(5, 1, 8, 6\)"):
        noising(X0, dl.linear_schedule(20), eps=EPS[:4])
    with pytest.raises(ValueError, match=r"x0 has dtype torch.uint8; expected floats"):
        noising(X0.to(torch.uint8), dl.linear_schedule(20))


def test_noisings_still_is_a_film_from_clean_to_noise():
    schedule = dl.linear_schedule(20)
    still = picture(noising(X0, schedule, eps=EPS, columns=2).still)
    film = torch.cat([dl.q_sample(schedule, X0[:2], t, EPS[:2]) for t in (0, 4, 8, 12, 16, 20)])
    expected = image_grid(film, columns=2).numpy()
    factor = still.shape[1] // expected.shape[1]
    assert np.array_equal(still, expected.repeat(factor, axis=0).repeat(factor, axis=1))


FRAMES = noise(7, 5, 1, 8, 6, seed=3, dtype=torch.float32)


def cut(widget, panel, i):
    """Frame i of a panel, cut from its sheet as the page does."""
    height, width = widget.frame_shape
    row, column = divmod(i, widget.sheet_columns)
    return picture(widget.sheets[panel])[row * height : (row + 1) * height, column * width : (column + 1) * width]


def test_scrub_sends_every_frame_of_every_panel():
    widget = scrub({"xt": FRAMES, "x0_hat": -FRAMES}, [f"t = {i}" for i in range(7)], columns=3, title="chain")
    assert (widget.panel_names, widget.captions[6], widget.title) == (["xt", "x0_hat"], "t = 6", "chain")
    assert widget.value == 6
    for panel, frames in enumerate((FRAMES, -FRAMES)):
        for i in range(7):
            expected = image_grid(frames[i], 3).numpy()[..., 0].astype(int)
            # 16 grey levels, 17 apart
            assert abs(cut(widget, panel, i).astype(int) - expected).max() <= 9
    assert widget.frame_shape == list(image_grid(FRAMES[0], 3).shape[:2])


def test_scrub_sends_colours_as_they_are():
    frames = noise(4, 2, 3, 8, 6)
    widget = scrub({"xt": frames}, list("abcd"), columns=2, start=1)
    assert widget.value == 1
    for i in range(4):
        assert np.array_equal(cut(widget, 0, i), image_grid(frames[i], 2).numpy())


def test_sheets_stay_small_enough_for_a_browser():
    widget = scrub({"xt": torch.zeros(300, 4, 1, 64, 64)}, [""] * 300, columns=4)
    assert max(picture(widget.sheets[0]).shape) <= 4096
    assert len(widget.captions) == 300


@pytest.mark.parametrize(
    ("panels", "captions"),
    [({}, []), ({"a": FRAMES[0]}, [""] * 5), ({"a": FRAMES, "b": FRAMES[:6]}, [""] * 7), ({"a": FRAMES}, [""] * 6)],
)
def test_panels_that_do_not_fit_together_are_refused(panels, captions):
    with pytest.raises(ValueError, match=r"panels have shapes .* with \d captions; expected \(F, B, C, H, W\), all alike, and F captions"):
        scrub(panels, captions)


@pytest.mark.parametrize(("steps", "frames", "kept"), [(50, 26, 26), (10, 26, 10), (50, 2, 2), (50, 1, 2), (1, 26, 1)])
def test_record_keeps_an_even_part_of_the_chain_and_its_end(steps, frames, kept):
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
    gaps = np.abs(np.diff(recording.t))
    assert kept < 3 or gaps.max() - gaps.min() <= 50 // steps + 1


def widgets():
    dataset = tiny_dataset(4)
    return {
        "NoisingWidget(4 images 1x8x8, t = 0..20, linear)": noising(dataset.images, dl.linear_schedule(20)),
        "ScrubWidget(7 frames; panels: xt, x0_hat)": scrub({"xt": FRAMES, "x0_hat": FRAMES}, [""] * 7),
    }


def test_a_notebook_keeps_a_fixed_text_and_a_still_picture():
    for text, widget in widgets().items():
        data, _ = widget._repr_mimebundle_()
        # no memory address: stored outputs are compared with fresh ones
        assert data["text/plain"] == repr(widget) == text
        assert data["image/png"] == widget.still
        assert 300 < picture(data["image/png"]).shape[1] < 1300
        assert "application/vnd.jupyter.widget-view+json" in data


def test_colab_gets_the_widget_and_no_picture_to_prefer(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    for widget in widgets().values():
        data, _ = widget._repr_mimebundle_()
        assert "image/png" not in data
        assert "application/vnd.jupyter.widget-view+json" in data


def test_each_widget_has_its_page_code_and_style():
    for name, widget in zip(("noising", "scrub"), widgets().values(), strict=True):
        assert (FOLDER / f"{name}.js").read_text(encoding="utf-8") in widget._esm
        assert (FOLDER / "controls.js").read_text(encoding="utf-8") in widget._esm
        assert "export default" in widget._esm
        assert widget._css == (FOLDER / "widgets.css").read_text(encoding="utf-8")


def test_fewer_grey_levels_make_a_smaller_png_and_stay_near():
    pixels = dl.to_uint8(noise(64, 64)).numpy()
    whole, few = png(pixels), png(pixels, grey_levels=16)
    assert np.array_equal(picture(whole), pixels)
    assert len(few) < 0.7 * len(whole)
    assert len(np.unique(picture(few))) == 16
    assert abs(picture(few).astype(int) - pixels).max() <= 9
    # black and white stay so
    assert np.array_equal(picture(png(np.array([[0, 255]], np.uint8), 16)), [[0, 255]])

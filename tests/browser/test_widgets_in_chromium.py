"""The widgets' own JavaScript in a real browser, on a page without a kernel: what it draws must match the formulas."""

import base64
import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_lib as dl

# a stand-in for the widget manager: anywidget's model interface over plain values
PAGE = """
<!doctype html><meta charset="utf-8"><style>CSS</style><div id="out" style="width: 700px"></div>
<script type="module">
const values = VALUES;
const revive = (v) => Array.isArray(v) ? v.map(revive)
  : v && v.base64 !== undefined ? new DataView(Uint8Array.from(atob(v.base64), (c) => c.charCodeAt(0)).buffer)
  : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, revive(x)])) : v;
for (const k in values) values[k] = revive(values[k]);
const listeners = {};
window.saved = 0;
window.sent = [];
window.model = {
  get: (k) => values[k],
  set: (k, v) => {
    const before = values[k];
    values[k] = v;
    if (before !== v) for (const f of listeners[`change:${k}`] ?? []) f();
  },
  save_changes: () => { window.saved++; },
  send: (message) => { window.sent.push(message); },
  on: (event, f) => { (listeners[event] ??= []).push(f); },
  off: (event, f) => { listeners[event] = listeners[event].filter((g) => g !== f); },
  fromKernel: (k, v) => window.model.set(k, revive(v)),
  listeners: () => Object.values(listeners).flat().length,
};
const source = new Blob([ESM], { type: "text/javascript" });
const widget = (await import(URL.createObjectURL(source))).default;
window.dispose = widget.render({ model: window.model, el: document.getElementById("out") });
window.ready = true;
</script>
"""


@pytest.fixture
def open_widget(browser):
    """Shows a widget on an empty page, and fails the test if the page reports any error."""
    pages, errors = [], []

    def show(widget, **options):
        values = {name: jsonable(getattr(widget, name)) for name in widget.keys if not name.startswith("_") and name != "layout"}
        page = browser.new_page(**options)
        page.set_default_timeout(120_000)  # a slow machine is not a failure
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.set_content(PAGE.replace("CSS", widget._css).replace("ESM", json.dumps(widget._esm)).replace("VALUES", json.dumps(values)))
        page.wait_for_function("window.ready")
        return page

    yield show
    for page in pages:
        page.close()
    assert errors == []


def jsonable(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    return [jsonable(v) for v in value] if isinstance(value, list) else value


def pixels(page, index=0):
    """The pixels of a canvas, uint8 (H, W, 4)."""
    script = """(i) => {
        const c = document.querySelectorAll("canvas")[i];
        return [c.height, c.width, ...c.getContext("2d").getImageData(0, 0, c.width, c.height).data];
    }"""
    height, width, *data = page.evaluate(script, index)
    return np.array(data, dtype=np.uint8).reshape(height, width, 4)


def wait_for_pixels(page, expected, index=0):
    """Waits until a canvas shows `expected` (H, W, 3): pictures are decoded in the background."""
    script = """([i, expected]) => {
        const canvas = document.querySelectorAll("canvas")[i];
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return expected.every((value, k) => data[4 * Math.floor(k / 3) + (k % 3)] === value);
    }"""
    page.wait_for_function(script, arg=[index, expected.flatten().tolist()])


def stop_the_clock(page):
    """From now on the page's time passes in `page.clock.run_for` alone, whatever the machine's speed: timers, and 60 frames a second."""
    page.clock.install(time=0)
    page.clock.pause_at(3600)  # seconds, while `run_for` takes milliseconds; must lie ahead, and no page takes an hour to get here


def move(page, value):
    script = "(v) => { const s = document.querySelector('input[type=range]'); s.value = v; s.dispatchEvent(new Event('input')); }"
    page.evaluate(script, value)


def words(page):
    return page.text_content(".dl-controls .dl-value")


def curve_at(page, plot, index):
    """Where the marker's dot stands on a curve of a plot, in the plot's own units."""
    script = """([p, i]) => {
        const dot = document.querySelectorAll(".dl-plot")[p].querySelectorAll("circle")[i];
        return [dot.cx.baseVal.value, dot.cy.baseVal.value];
    }"""
    return page.evaluate(script, [plot, index])


@pytest.mark.parametrize("channels", [1, 3])
def test_noising_draws_q_sample(open_widget, channels):
    random = torch.Generator().manual_seed(0)
    x0 = torch.rand(3, channels, 8, 8, generator=random) * 2 - 1
    eps = torch.randn(3, channels, 8, 8, generator=random)
    schedule = dl.cosine_schedule(100)
    page = open_widget(dl.widgets.noising(x0, schedule, eps=eps, columns=3))

    for t in (0, 1, 37, 100):
        move(page, t)  # the picture is there when the event has been handled: nothing is waited for
        xt = dl.to_uint8(dl.q_sample(schedule, x0, t, eps))  # (3, C, 8, 8)
        expected = xt.expand(3, 3, 8, 8).permute(2, 0, 3, 1).reshape(8, 24, 3).numpy()
        # eps travels in steps of 1/31: half a step is two grey levels; x0 is rounded once more
        assert np.abs(pixels(page)[..., :3].astype(int) - expected.astype(int)).max() <= 3
        assert words(page) == f"t = {t}"
        facts = page.locator("dd").all_text_contents()
        alpha_bar = schedule.alpha_bar[t].item()
        assert facts[0] == f"{alpha_bar**0.5:.3f} x0 + {(1 - alpha_bar) ** 0.5:.3f} eps"
        if t > 0:
            assert float(facts[1]) == pytest.approx(alpha_bar, rel=0.06)
            assert float(facts[2]) == pytest.approx(schedule.snr[t].item(), rel=0.06)
            assert float(facts[3]) == pytest.approx(schedule.log_snr[t].item(), abs=0.006)
        else:
            assert facts[2:] == ["∞", "∞"]


def test_histogram_counts_the_pixels(open_widget):
    x0 = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    page = open_widget(dl.widgets.noising(x0, dl.cosine_schedule(100), eps=torch.full_like(x0, 2.05)))
    counts = "() => document.querySelector('.dl-bars').getAttribute('d')"
    for t in (0, 60, 100):
        move(page, t)
        points = [tuple(map(float, p.split())) for p in page.evaluate(counts).replace("M", "").split("L")]
        xt = dl.q_sample(dl.cosine_schedule(100), x0, t, torch.full_like(x0, 2.05)).flatten().numpy()
        heights = np.histogram(xt, bins=np.linspace(-3.5, 3.5, 71))[0] / 64 / 0.1
        drawn = np.array([y for _, y in points[1:-1:2]])
        # 0 is drawn at 130 and 1.2 at 20; a value on the edge of two bins may fall in either
        found = (130 - drawn) / 110 * 1.2
        assert np.abs(np.cumsum(found) - np.cumsum(np.minimum(heights, 1.2))).max() < 0.4


def test_histogram_skips_cells_without_an_image(open_widget):
    page = open_widget(dl.widgets.noising(torch.ones(5, 1, 8, 8), dl.cosine_schedule(100), columns=4))

    def densities():  # 0 is drawn at 130 and 1.2 at 20
        points = page.evaluate("() => document.querySelector('.dl-bars').getAttribute('d')").replace("M", "").split("L")
        return [(130 - float(p.split()[1])) / 110 * 1.2 for p in points[1:-1:2]]

    move(page, 0)
    assert sum(density > 0 for density in densities()) == 1  # all pixels are white
    move(page, 100)
    assert 0.1 * sum(densities()) == pytest.approx(1, abs=0.01)


def test_schedule_can_be_switched_by_page_and_kernel(open_widget):
    x0 = torch.zeros(1, 1, 8, 8)
    schedules = [dl.linear_schedule(100), dl.cosine_schedule(100)]
    page = open_widget(dl.widgets.noising(x0, schedules, t=50))
    alpha_bar = page.locator("dd").nth(1)
    assert float(alpha_bar.text_content()) == pytest.approx(schedules[0].alpha_bar[50].item(), rel=0.01)
    page.select_option('select[aria-label="noise schedule"]', "1")
    assert float(alpha_bar.text_content()) == pytest.approx(schedules[1].alpha_bar[50].item(), rel=0.01)
    assert page.evaluate("model.get('schedule')") == "cosine"
    # and the kernel can switch it
    page.evaluate("model.fromKernel('schedule', 'linear')")
    assert float(alpha_bar.text_content()) == pytest.approx(schedules[0].alpha_bar[50].item(), rel=0.01)
    assert page.input_value('select[aria-label="noise schedule"]') == "0"


def test_schedule_explorer_marks_curves_and_mixes_images(open_widget):
    random = torch.Generator().manual_seed(0)
    x0, eps = torch.rand(2, 1, 8, 8, generator=random) * 2 - 1, torch.randn(2, 1, 8, 8, generator=random)
    schedules = [dl.linear_schedule(100), dl.cosine_schedule(100)]
    page = open_widget(dl.widgets.explore_schedules(schedules, x0, eps=eps))
    for t in (1, 30, 100):
        move(page, t)
        for i, schedule in enumerate(schedules):
            xt = dl.to_uint8(dl.q_sample(schedule, x0, t, eps)).permute(1, 2, 0, 3).reshape(8, 16).numpy()
            assert np.abs(pixels(page, i)[..., 0].astype(int) - xt).max() <= 3
            x, y = curve_at(page, 1, i)
            assert (x - 38) / (252 - 38) * 99 + 1 == pytest.approx(t, abs=0.01)
            assert (130 - y) / 110 == pytest.approx(schedule.alpha_bar[t].item(), abs=1e-3)
            _, y = curve_at(page, 0, i)
            assert (130 - y) / 110 * 5 - 5 == pytest.approx(schedule.beta[t].log10().item(), abs=0.01)
            _, y = curve_at(page, 2, i)
            assert (130 - y) / 110 * 24 - 12 == pytest.approx(schedule.log_snr[t].clamp(-12, 12).item(), abs=0.01)
    # a finger on a curve moves it too
    box = page.locator(".dl-plot").nth(1).bounding_box()
    page.mouse.click(box["x"] + box["width"] * (38 + 214 / 2) / 260, box["y"] + 40)
    assert page.evaluate("model.get('t')") in (50, 51)


def test_schedule_explorer_works_without_images(open_widget):
    page = open_widget(dl.widgets.explore_schedules(dl.linear_schedule(100), t=7))
    assert page.locator("canvas").count() == 0
    assert words(page) == "t = 7"


def straight(widget, T):
    """The widget with a straight path's tables instead of its schedule's: at T nothing of the image is left."""
    signal = torch.linspace(1, 0, T + 1, dtype=torch.float64)
    widget.signal, widget.noise = [signal.numpy().tobytes()], [(1 - signal).numpy().tobytes()]
    return widget


def test_noising_shows_a_straight_path_up_to_both_ends(open_widget):
    x0 = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    page = open_widget(straight(dl.widgets.noising(x0, dl.linear_schedule(100), eps=eps), 100))
    expected = {
        0: ["1.000 x0 + 0.000 eps", "1.00", "∞", "∞"],
        50: ["0.500 x0 + 0.500 eps", "0.500", "1.00", "0.00"],
        80: ["0.200 x0 + 0.800 eps", "0.0588", "0.0625", "-2.77"],  # 0.04 / 0.68, 0.04 / 0.64 and its logarithm
        100: ["0.000 x0 + 1.000 eps", "0", "0", "-∞"],
    }
    for t, facts in expected.items():
        move(page, t)
        assert page.locator("dd").all_text_contents() == facts
        xt = dl.to_uint8((1 - t / 100) * x0 + t / 100 * eps)[0, 0].int().numpy()
        assert np.abs(pixels(page)[..., 0].astype(int) - xt).max() <= 3


def test_schedule_explorer_keeps_a_straight_path_within_its_plots(open_widget):
    x0 = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    page = open_widget(straight(dl.widgets.explore_schedules(dl.linear_schedule(100), x0, eps=eps), 100))
    for t in (1, 50, 100):
        move(page, t)
        xt = dl.to_uint8((1 - t / 100) * x0 + t / 100 * eps)[0, 0].int().numpy()
        assert np.abs(pixels(page)[..., 0].astype(int) - xt).max() <= 3
    assert page.locator(".dl-numbers").inner_text().split() == ["β", "1.00", "ᾱ", "0", "log", "SNR", "-∞"]
    # beta is 1, the top, and alpha_bar and log SNR are below all that is drawn
    assert [curve_at(page, plot, 0) for plot in range(3)] == [[252, 20], [252, 130], [252, 130]]
    drawn = page.locator(".dl-plot path").evaluate_all("(paths) => paths.map((path) => path.getAttribute('d'))")
    assert not any("NaN" in d or "Infinity" in d for d in drawn)


def frames_of(shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def wait_for_pictures(page):
    page.wait_for_function(
        "() => [...document.querySelectorAll('canvas')].every(c => c.getContext('2d').getImageData(0, 0, 1, 1).data[3] > 0)"
    )


def test_scrubber_draws_its_frames(open_widget):
    frames = frames_of((7, 4, 3, 8, 8))
    widget = dl.widgets.scrub({"a": frames, "b": -frames}, [f"frame {i}" for i in range(7)], columns=2)
    page = open_widget(widget)
    wait_for_pictures(page)
    for i in (0, 3, 6):
        move(page, i)
        assert words(page) == f"frame {i}"
        for panel, images in enumerate((frames, -frames)):
            assert np.array_equal(pixels(page, panel)[..., :3], dl.plots.image_grid(images[i], 2).numpy())


def test_two_sliders_select_a_frame(open_widget):
    frames = frames_of((7, 3, 4, 3, 8, 8))
    captions = [[f"caption {i} {j}" for j in range(3)] for i in range(7)]
    page = open_widget(dl.widgets.scrub_grid({"a": frames}, ("step", list("pqrstuv")), ("t", [9, 5, 1]), captions, columns=2, start=(2, 1)))
    wait_for_pictures(page)
    first, second = page.locator("input[type=range]").all()

    def shows(i, j):
        assert np.array_equal(pixels(page)[..., :3], dl.plots.image_grid(frames[i, j], 2).numpy())
        assert page.locator("[role=status]").inner_text() == f"caption {i} {j}"

    shows(2, 1)
    first.press("End")
    shows(6, 1)
    second.press("ArrowRight")
    shows(6, 2)
    assert (page.evaluate("model.get('first')"), page.evaluate("model.get('second')")) == (6, 2)
    assert [each.get_attribute("aria-valuetext") for each in (first, second)] == ["step v", "t 1"]
    assert page.locator("canvas").get_attribute("aria-label") == "a, step v, t 1"
    page.evaluate("model.fromKernel('first', 0)")
    shows(0, 2)
    # only the longer axis can be played
    assert page.get_by_label("play").count() == 1


DESIGNS = [
    ("cosine", dict(s=7, T=6)),
    ("linear", dict(T=2, beta_start=0, beta_end=6)),
    ("linear", dict(T=0)),
    ("linear, not scaled", dict(T=2)),
    ("sigmoid", dict(start=4, end=5, tau=0, T=4)),
]


@pytest.mark.parametrize(("kind", "indices"), DESIGNS)
def test_designer_computes_the_librarys_schedules(open_widget, kind, indices):
    x0 = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    model = dl.IdealDenoiser(x0, dl.cosine_schedule(50))
    widget = dl.widgets.design_schedule(model, x0, kind=kind, columns=1)
    page = open_widget(widget)
    for name, index in indices.items():
        setattr(widget, name, index)  # for its schedule
        page.evaluate("([name, index]) => model.fromKernel(name, index)", [name, index])
    schedule = widget.schedule
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    for permille in (0, 300, 1000):
        page.evaluate("(permille) => model.fromKernel('t_permille', permille)", permille)
        t = max(1, round(permille / 1000 * schedule.T))
        expected = dl.to_uint8(dl.q_sample(schedule, x0, t, eps))[0, 0].int().numpy()
        assert np.abs(pixels(page)[..., 0].astype(int) - expected).max() <= 3
        assert page.locator(".dl-value").last.inner_text() == f"t = {t} of {schedule.T}"
    left = schedule.alpha_bar[-1].sqrt().item()
    assert (page.locator(".dl-alarmed").count() == 1) == (left > 0.05)
    assert f"{100 * left:.0f}%" in page.locator(".dl-alarm").inner_text() or left < 0.05
    # a slider for each parameter of this kind, and one for t
    shown = [each.get_attribute("aria-label") for each in page.locator("input[type=range]").all() if each.is_visible()]
    own = [name for name, kinds, _ in widget.parameters if kind in kinds]
    assert shown == [*own, "timestep t"]


def test_designer_shows_the_estimate_at_the_nearest_noise_level(open_widget):
    x0 = torch.cat([torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)])
    schedule = dl.cosine_schedule(50)

    class ReportsTimestep:
        """Predicts a grey that says at which t it was asked."""

        def __init__(self):
            self.schedule = schedule

        def __call__(self, xt, t, y=None):
            return dl.Prediction(torch.full_like(xt, 2 * t / 50 - 1), xt)

    page = open_widget(dl.widgets.design_schedule(ReportsTimestep(), x0, kind="cosine", columns=2))
    wait_for_pictures(page)
    for permille, t in ((200, 10), (500, 25), (900, 45)):
        page.evaluate("(permille) => model.fromKernel('t_permille', permille)", permille)
        # asked at 40 levels of 50, shown in 16 greys
        assert abs(pixels(page, 1)[0, 0, 0] / 255 * 50 - t) <= 3
    assert pixels(page, 2)[0, 0, 0] == 255, "where a sampler starts: the last level"


def chain_widget(**options):
    steps = [SimpleNamespace(t=t, xt=frames_of((2, 3, 8, 8), t), x0_hat=frames_of((2, 3, 8, 8), 100 + t)) for t in (80, 60, 40, 20, 0)]
    return steps, dl.widgets.chains({"": steps}, columns=2, **options)


def test_chain_keeps_frame_and_timestep_in_sync(open_widget):
    steps, widget = chain_widget()
    page = open_widget(widget)
    wait_for_pictures(page)
    move(page, 1)
    assert words(page).strip() == "t = 60, step 2 of 5"
    assert page.evaluate("model.get('t')") == 60
    assert np.array_equal(pixels(page, 0)[..., :3], dl.plots.image_grid(steps[1].xt, 2).numpy())
    assert np.array_equal(pixels(page, 1)[..., :3], dl.plots.image_grid(steps[1].x0_hat, 2).numpy())
    # a timestep from the kernel or a linked widget: it shows the nearest frame, and leaves the timestep as it is
    page.evaluate("model.fromKernel('t', 33)")
    assert (page.evaluate("model.get('frame')"), page.evaluate("model.get('t')")) == (2, 33)


def test_training_view_shows_samples_and_marks_the_loss(open_widget):
    frames = frames_of((4, 2, 3, 8, 8))
    losses = [1 / (n + 1) for n in range(100)]
    page = open_widget(dl.widgets.training({"raw": frames, "average": -frames}, [10, 20, 50, 100], losses, columns=2))
    wait_for_pictures(page)
    move(page, 2)
    for panel, images in enumerate((frames, -frames)):
        expected = dl.plots.image_grid(images[2], 2).numpy()
        wait_for_pixels(page, expected, panel)
        assert np.array_equal(pixels(page, panel)[..., :3], expected)
    assert words(page).strip() == "after 50 of 100 steps"
    assert page.evaluate("model.get('step')") == 50
    marker = page.evaluate("document.querySelector('.dl-marker').x1.baseVal.value")
    assert (marker - 38) / (632 - 38) * 100 == pytest.approx(50)
    raw = page.evaluate("document.querySelectorAll('.dl-plot g')[1].children[0].getAttribute('d')")
    points = [tuple(map(float, p.split())) for p in raw.replace("M", "").split("L")]
    assert len(points) == 100
    for n in (0, 9, 99):  # 1 is drawn at 20, 0.01 at 130, evenly in the logarithm
        assert 10 ** ((130 - points[n][1]) / 110 * 2 - 2) == pytest.approx(losses[n], rel=0.02)
    box = page.locator(".dl-plot").bounding_box()
    page.mouse.click(box["x"] + box["width"] * (38 + 594 * 0.18) / 640, box["y"] + box["height"] / 2)
    assert page.evaluate("model.get('frame')") == 1


def test_loss_curve_skips_losses_that_are_not_finite(open_widget):
    losses = [math.nan, 4.0, math.inf, 2.0, math.nan]
    page = open_widget(dl.widgets.training({"a": frames_of((1, 2, 3, 8, 8))}, [5], losses))
    raw, mean = (page.evaluate(f"document.querySelectorAll('.dl-plot g')[1].children[{i}].getAttribute('d')") for i in (0, 1))
    assert (raw.count("L"), mean.count("L")) == (1, 3)
    assert "NaN" not in raw + mean
    page = open_widget(dl.widgets.training({"a": frames_of((1, 2, 3, 8, 8))}, [2], [math.nan, math.nan]))
    assert words(page).strip() == "after 2 of 2 steps"
    page.evaluate("dispose()")
    assert page.evaluate("model.listeners()") == 0


def test_live_training_view_follows_new_samples_unless_an_earlier_one_is_selected(open_widget):
    frames = frames_of((4, 2, 3, 8, 8))
    empty = dl.widgets.live_training(100, ["a"], (2, 3, 8, 8), columns=2)
    full = dl.widgets.training({"a": frames}, [10, 20, 50, 100], [0.5] * 100, columns=2)
    page = open_widget(empty)
    stop_the_clock(page)
    assert words(page) == "no samples yet"

    def arrive(n):
        new = dict(steps=full.steps[:n], losses=jsonable(full.losses[: 4 * full.steps[n - 1]]))
        new["pictures"] = [jsonable(p) for p in full.pictures[:n]]
        page.evaluate("(new_) => Object.entries(new_).forEach(([k, v]) => model.fromKernel(k, v))", new)

    page.evaluate("model.fromKernel('running', true)")
    assert page.is_enabled(".dl-stop")
    for n in (1, 2):
        arrive(n)
        expected = dl.plots.image_grid(frames[n - 1], 2).numpy()
        page.wait_for_function("i => model.get('frame') === i", arg=n - 1)
        wait_for_pixels(page, expected)
        assert np.array_equal(pixels(page)[..., :3], expected)
    move(page, 0)
    arrive(3)
    assert page.evaluate("model.get('frame')") == 0
    assert page.get_attribute("input[type=range]", "max") == "2"
    assert words(page).strip() == "after 10 of 100 steps"
    page.click(".dl-stop")
    assert page.evaluate("sent") == [{"stop": True}]
    page.clock.run_for(1000)
    assert page.evaluate("saved") == 0  # a training kernel answers no changes of state
    assert page.text_content("[role=status]") == "stopping …"
    page.evaluate("model.fromKernel('running', false)")
    assert page.text_content("[role=status]") == "stopped after 50 steps; nothing is lost"
    assert not page.is_enabled(".dl-stop")


def test_attention_view_shows_the_weights_of_the_chosen_position(open_widget):
    torch.manual_seed(0)
    denoiser = dl.Denoiser(dl.UNet(base_channels=8), dl.cosine_schedule(20)).eval()
    widget = dl.widgets.attention(denoiser, frames_of((1, 1, 16, 16)), ts=[5, 15], channels=4)
    page = open_widget(widget)
    wait_for_pictures(page)
    sheet = np.array(Image.open(io.BytesIO(widget.sheets["attention 1"])))  # (2 frames 4, 16 positions 4)
    canvas = page.locator("canvas").first
    box = canvas.bounding_box()
    for row, column, frame in ((1, 2, 1), (3, 0, 1), (0, 3, 0)):
        move(page, frame)
        page.mouse.click(box["x"] + box["width"] * (column + 0.5) / 4, box["y"] + box["height"] * (row + 0.5) / 4)
        i = 4 * row + column
        expected = sheet[4 * frame : 4 * frame + 4, 4 * i : 4 * i + 4]
        assert np.array_equal(pixels(page, 1)[..., 0], expected)
        assert page.evaluate("model.get('pixel')") == [4 * row + 2, 4 * column + 2]
    # the marker is moved by keys, and stays inside
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('pixel')") == [10, 15]
    page.select_option("select[aria-label=layer]", "0")
    assert page.evaluate("model.get('layer')") == "down, level 0"
    assert "none in this layer" in page.text_content(".dl-maps")
    features = np.array(Image.open(io.BytesIO(widget.sheets["features 0"])))
    wait_for_pixels(page, np.repeat(features[:8, 8:16, None], 3, axis=2), 2)
    assert np.array_equal(pixels(page, 2)[..., 0], features[:8, 8:16])


def nine(start=4):
    return dl.widgets.scrub({"a": torch.zeros(9, 1, 1, 8, 8)}, [str(i) for i in range(9)], start=start)


def test_keys_move_the_slider_and_save_once(open_widget):
    page = open_widget(nine())
    stop_the_clock(page)
    page.evaluate("document.addEventListener('keydown', (event) => { window.leaked = event.key; })")
    page.focus("input[type=range]")
    for key, expected in (
        ("ArrowRight", 5),
        ("ArrowUp", 6),
        ("ArrowLeft", 5),
        ("End", 8),
        ("Home", 0),
        ("PageUp", 1),
        ("PageDown", 0),
        ("ArrowRight", 1),
    ):
        page.keyboard.press(key)
        assert page.evaluate("model.get('frame')") == expected
        page.clock.run_for(100)  # the next key comes before the page saves
    assert page.evaluate("saved") == 0
    page.clock.run_for(1000)
    assert page.evaluate("saved") == 1
    assert page.evaluate("window.leaked") is None
    page.focus("select")
    page.keyboard.press("x")  # with which JupyterLab would cut the cell
    assert page.evaluate("window.leaked") is None
    page.keyboard.press("Control+s")
    assert page.evaluate("window.leaked") == "s"
    page.keyboard.press("Shift+Enter")  # which JupyterLab's readers want to go on working
    assert page.evaluate("window.leaked") == "Enter"


def test_kernel_moves_the_slider(open_widget):
    page = open_widget(nine())
    stop_the_clock(page)
    page.evaluate("model.fromKernel('frame', 2)")
    assert words(page) == "2"
    assert page.input_value("input[type=range]") == "2"
    page.clock.run_for(1000)
    assert page.evaluate("saved") == 0


def record_frames(page):
    """Notes each frame the widget shows from now on, and when."""
    page.evaluate("() => { window.shown = []; model.on('change:frame', () => shown.push([model.get('frame'), performance.now()])); }")


def frames_shown(page):
    """The frames, and the milliseconds between them."""
    shown = page.evaluate("shown")
    return [frame for frame, _ in shown], np.diff([time for _, time in shown])


def test_play_stops_at_the_end(open_widget):
    page = open_widget(nine(start=0))
    stop_the_clock(page)
    record_frames(page)
    page.select_option("select[aria-label=speed]", "4×")
    page.focus("input[type=range]")
    page.keyboard.press(" ")
    assert page.get_attribute(".dl-button", "aria-label") == "pause"
    page.clock.run_for(300)
    assert page.get_attribute(".dl-button", "aria-label") == "pause"
    page.clock.run_for(1000)
    assert page.get_attribute(".dl-button", "aria-label") == "play"
    assert words(page) == "8"
    frames, gaps = frames_shown(page)
    assert frames == [1, 2, 3, 4, 5, 6, 7, 8]
    assert gaps == pytest.approx(1000 / 16, abs=1000 / 60)  # 4 a second, times 4; each on one of the page's frames


def test_play_loops_and_pauses_when_the_slider_is_moved(open_widget):
    page = open_widget(nine(start=7))
    stop_the_clock(page)
    record_frames(page)
    page.select_option("select[aria-label=speed]", "4×")
    page.click("[aria-label=loop]")
    assert page.get_attribute("[aria-label=loop]", "aria-pressed") == "true"
    page.click("[aria-label=play]")
    page.clock.run_for(500)
    # it showed the last frame, and began again
    assert frames_shown(page)[0] == [8, 0, 1, 2, 3, 4, 5]
    assert page.get_attribute(".dl-button", "aria-label") == "pause"
    move(page, 6)  # a hand on the slider
    assert page.get_attribute(".dl-button", "aria-label") == "play"
    page.clock.run_for(1000)
    assert page.get_attribute(".dl-button", "aria-label") == "play"
    assert words(page) == "6"


def test_play_respects_reduced_motion(open_widget):
    page = open_widget(nine(start=0), reduced_motion="reduce")
    stop_the_clock(page)
    record_frames(page)
    page.click("[aria-label=play]")
    page.clock.run_for(1800)
    frames, gaps = frames_shown(page)
    assert frames == [2, 4, 6]  # still 4 a second, but only two pictures
    assert min(gaps) >= 500


def test_layout_stays_fixed_when_pictures_arrive_or_captions_change(open_widget):
    frames = frames_of((9, 4, 1, 8, 8))
    page = open_widget(dl.widgets.scrub({"a": frames, "b": frames}, ["a word" * i for i in range(9)], start=0))
    layout = """() => [...document.querySelectorAll(".dl-widget *")].map((node) => {
        const { x, y, width, height } = node.getBoundingClientRect();
        return [x, y, width, height].map(Math.round);
    })"""
    before = page.evaluate(layout)
    wait_for_pictures(page)
    move(page, 5)
    assert page.evaluate(layout) == before


def test_disposed_widget_removes_its_listeners(open_widget):
    for widget in (nine(), chain_widget()[1], dl.widgets.noising(frames_of((1, 1, 8, 8)), dl.linear_schedule(20))):
        page = open_widget(widget)
        page.evaluate("dispose()")
        assert page.evaluate("model.listeners()") == 0


def test_touch_moves_the_slider(open_widget):
    page = open_widget(nine(start=0), has_touch=True)
    box = page.locator("input[type=range]").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.wait_for_function("() => model.get('frame') !== 0")  # a tap becomes a click in the browser, later
    assert words(page) == "4"

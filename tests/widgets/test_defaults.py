"""Widgets and figures are the same whatever dtype and device the session has set for new tensors."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import Curved, noise

import diffusion_lib as dl
from diffusion_lib.plots import plot_schedules, plot_time_to_quality
from diffusion_lib.widgets import attention, design_schedule, live_training, noising
from diffusion_lib.widgets.attention import _pooling, _weights

S = dl.cosine_schedule(50)
X0 = noise(2, 1, 8, 8, dtype=torch.float32).clamp(-1, 1)
torch.manual_seed(0)
DENOISER = dl.Denoiser(dl.UNet(1, 8, num_classes=3), dl.cosine_schedule(20)).eval()
BLOCK, FEATURES = dl.unet.AttentionBlock(8, 4, head_channels=4), noise(1, 8, 8, 8, dtype=torch.float32)


@pytest.fixture(params=[torch.bfloat16, torch.float16, torch.float64, "meta"], ids=str)
def default(request):
    """Sets the session's default when it is called; it is set back after the test."""

    def set_default():
        torch.set_default_device("meta") if request.param == "meta" else torch.set_default_dtype(request.param)

    yield set_default
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def curves(figure):
    lines = [line for ax in figure.axes for line in ax.lines]
    plt.close(figure)
    return [np.asarray(line.get_xydata()).tolist() for line in lines]


@pytest.mark.parametrize(
    "make",
    [
        lambda: noising(X0, "cosine"),
        lambda: design_schedule(Curved(S), X0, T=50),
        lambda: design_schedule(Curved(S), X0, T=50, kind="linear, not scaled"),
        lambda: attention(DENOISER, X0[:1], y=1, ts=[5]),
        lambda: live_training(9, ["a"], (2, 1, 8, 8)),
    ],
    ids=["noising", "design_schedule", "not scaled", "attention", "live_training"],
)
def test_the_sessions_defaults_change_no_widget(make, default):
    def shown():
        widget = make()
        state = {name: value for name, value in widget.get_state().items() if name not in ("layout", "_esm", "_css", "_anywidget_id")}
        return widget.summary, widget.still, state

    expected = shown()
    default()
    assert shown() == expected


def test_the_sessions_defaults_change_no_curve(default):
    results = dl.measure.load_results("time_to_quality")

    def drawn():
        return curves(plot_schedules([S, "linear"])) + curves(plot_time_to_quality(results).figure)

    expected = drawn()
    default()
    assert drawn() == expected


def test_the_sessions_defaults_change_no_attention_of_a_large_layer(default):
    expected = _weights(BLOCK, FEATURES, (4, 4)), _pooling((8, 8), (4, 4))
    default()
    pooled = _weights(BLOCK, FEATURES, (4, 4)), _pooling((8, 8), (4, 4))
    assert [(each.dtype, each.device.type) for each in pooled] == [(torch.float32, "cpu")] * 2
    assert all(torch.equal(a, b) for a, b in zip(pooled, expected, strict=True))

"""Attention of networks as people have them: compiled, guided, on large images; and of arguments in their usual forms."""

import io
import sys
import warnings

import numpy as np
import pytest
import torch
from helpers import noise
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.widgets import attention
from diffusion_lib.widgets.attention import _places, _pooling, _weights
from diffusion_lib.widgets.base import MAX_SHEET_SIDE


def network(channels=1, **config):
    torch.manual_seed(0)
    unet = dl.UNet(channels, 8, num_classes=3, **config)
    for p in unet.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return dl.Denoiser(unet, dl.cosine_schedule(20)).eval()


X0 = noise(1, 1, 8, 8, dtype=torch.float32).clamp(-1, 1)


def compiled_network():
    denoiser = network()
    denoiser.network = torch.compile(denoiser.network, backend="eager")
    denoiser(X0, 5)  # compiled before it is looked into
    return denoiser


def compiled_in_place():
    denoiser = network()
    denoiser.network.compile(backend="eager")
    denoiser(X0, 5)
    return denoiser


def compiled_stage():
    denoiser = network()
    denoiser.network.middle = torch.compile(denoiser.network.middle, backend="eager")
    return denoiser


def parallel_network():
    denoiser = network()
    denoiser.network = torch.nn.DataParallel(denoiser.network)
    return denoiser


def parallel(denoiser):
    denoiser.network = torch.nn.DataParallel(denoiser.network)
    return denoiser


@pytest.mark.parametrize(
    "wrapped",
    [
        compiled_network,
        compiled_in_place,
        compiled_stage,
        lambda: torch.compile(network(), backend="eager"),
        parallel_network,
        lambda: torch.nn.DataParallel(network()),
        lambda: dl.Guided(network(), 3.0),
        lambda: network().double(),
    ],
)
def test_shows_the_network_inside_what_is_wrapped_around_it(wrapped):
    plain, widget = (attention(denoiser, X0, ts=[5, 10], y=1) for denoiser in (network(), wrapped()))
    assert widget.layers == plain.layers
    for name, sheet in plain.sheets.items():
        a, b = (np.array(Image.open(io.BytesIO(each))).astype(int) for each in (sheet, widget.sheets[name]))
        assert abs(a - b).max() <= 9  # one of 32 grey levels, for those in float64


@pytest.mark.parametrize("y", [1, [1], np.array([1]), np.int64(1), torch.tensor(1), torch.tensor([1], dtype=torch.int32)])
def test_takes_the_class_in_any_usual_form(y):
    assert attention(network(), X0, y=y, ts=5).sheets == attention(network(), X0, y=torch.tensor([1]), ts=[5]).sheets


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: dl.Guided(d, 3.0), lambda d: torch.compile(d, backend="eager"), parallel])
@pytest.mark.parametrize("y", ["B", ["B"], np.array(["B"])])
def test_takes_the_class_by_its_name(y, wrap):
    plain = network()
    named = wrap(dl.Denoiser(plain.network, plain.schedule, class_names=("A", "B", "C")))
    assert attention(named, X0, y=y, ts=5).sheets == attention(plain, X0, y=1, ts=5).sheets
    with pytest.raises(ValueError, match="unknown class 'D'"):
        attention(named, X0, y="D", ts=5)


@pytest.mark.parametrize("x0", [X0[0], X0[0, 0], X0.numpy(), [X0[0]], X0.double().requires_grad_()])
def test_takes_the_image_in_any_usual_form(x0):
    assert attention(network(), x0, ts=np.array([5])).sheets == attention(network(), X0, ts=[torch.tensor(5)]).sheets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(denoiser=dl.IdealDenoiser(X0, dl.cosine_schedule(20))),
            "the denoiser is a IdealDenoiser; expected a Denoiser, whose network",
        ),
        (dict(denoiser=network().network), r"denoiser is a UNet; .*: Denoiser\(network, schedule, prediction\) makes one from a network"),
        (dict(denoiser=dl.Denoiser(torch.nn.Conv2d(1, 1, 1), dl.cosine_schedule(20))), "network is a Conv2d; expected a UNet"),
        (dict(y=[1, 2]), r"y has 2 entries for 1 image; expected one for each"),
        (dict(y="A"), "y='A' is a name, but this denoiser has no class names; expected integers"),
        (dict(y=1.5), "y has dtype torch.float32; expected integers"),
        (dict(y=3), r"y=3 is out of range; expected classes 0\.\.2"),
        (dict(ts=[0]), r"ts\[0\]=0; expected 1\.\.20"),
        (dict(ts=[2.5]), r"ts\[0\]=2.5; expected an integer, 1\.\.20"),
        (dict(ts=[]), "0 noise levels of an image of 8x8 pixels; expected one or more"),
        (dict(ts=[1] * 600), "600 noise levels of an image of 8x8 pixels; expected one or more, side by side on at most 4096"),
        (dict(channels=0), "channels=0; expected an integer, 1 or more"),
        (dict(x0=X0 * float("nan")), "x0 has values that are not finite"),
        (dict(x0=(X0 + 1) * 127.5), "x0 ranges from .* as pixels 0..255 do"),
        (dict(eps=X0 * float("inf")), "eps has values that are not finite"),
    ],
)
def test_rejects_arguments_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        attention(**(dict(denoiser=network(), x0=X0, ts=[5]) | change))


def test_network_of_nan_is_named_and_its_hooks_are_removed():
    denoiser = network()
    next(denoiser.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"the network's features are not finite \(NaN or infinity\) at t = 5 in down.0.0"):
        attention(denoiser, X0, ts=[5])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.network.modules())


# ------------------------------------------------------------------------------------------------------------------------ large images


@pytest.mark.parametrize(
    ("size", "config", "positions"),
    [
        (64, {}, {16}),  # the largest that is shown position by position
        (72, {}, {9}),
        (128, {}, {16}),
        (64, dict(attention_levels=(0, 1)), {16}),
        (68, dict(patch_size=1), {12}),  # 34 positions in groups of 3, and a rest
    ],
)
def test_sheets_stay_within_what_browsers_draw(size, config, positions):
    x0 = noise(1, 3, size, size, dtype=torch.float32).clamp(-1, 1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        widget = attention(network(3, **config), x0, ts=[5, 10, 15], channels=4)
    sizes = {name: Image.open(io.BytesIO(sheet)).size for name, sheet in widget.sheets.items()}
    assert max(map(max, sizes.values())) <= MAX_SHEET_SIDE
    for i, layer in enumerate(widget.layers):
        h, w = layer["size"]
        assert sizes[f"features {i}"] == (layer["channels"] * w, 3 * h)
        if layer["heads"]:
            assert {h, w} == positions
            assert sizes[f"attention {i}"] == (h * w * w, 3 * layer["heads"] * h)
            assert layer["top"] > 0
    assert [w.filename for w in said] == ([] if size == 64 and not config else [__file__])
    assert all("averaged over squares of positions: 'down, level" in str(w.message) for w in said)


@pytest.mark.parametrize(("size", "places"), [((18, 18), (9, 9)), ((17, 10), (9, 5)), ((8, 8), (8, 8))])
def test_coarse_weights_are_sums_over_places(size, places):
    torch.manual_seed(0)
    block, h = dl.unet.AttentionBlock(8, 8), noise(1, 8, *size, dtype=torch.float32)
    whole, coarse = block.weights(h)[0], _weights(block, h, places)
    row, column = (torch.arange(n) * m // n for n, m in zip(size, places, strict=True))
    place = (row[:, None] * places[1] + column).flatten()
    for a in (0, 3, places[0] * places[1] - 1):
        for b in (0, 2, places[0] * places[1] - 1):
            mean = whole[:, place == a][:, :, place == b].mean(dim=(1, 2))
            torch.testing.assert_close(coarse[:, a, b], mean * len(place) / len(coarse[0]))
    assert _pooling(size, places).sum(dim=0) == pytest.approx(np.ones(places[0] * places[1]))
    if size[0] % places[0] == 0:  # all places of one size: still a distribution
        torch.testing.assert_close(coarse.sum(dim=2), torch.ones(coarse.shape[:2]))


def test_weights_of_a_large_layer_are_not_all_in_memory(monkeypatch):
    block, h = dl.unet.AttentionBlock(8, 8), noise(1, 8, 32, 32, dtype=torch.float32)
    expected = _weights(block, h, (16, 16))
    sizes, plain = [], block.weights_of
    monkeypatch.setattr(sys.modules[_weights.__module__], "MOST_WEIGHTS", 2**15)
    monkeypatch.setattr(block, "weights_of", lambda q, k: sizes.append(q.shape[2]) or plain(q, k))
    torch.testing.assert_close(_weights(block, h, (16, 16)), expected)
    assert sizes == [32] * 32


def test_refuses_what_would_be_too_coarse_to_see():
    assert _places((32, 32), heads=2, channels=16, frames=11) == (16, 16)
    assert _places((16, 16), heads=2, channels=16, frames=11) == (16, 16)
    assert _places((4, 8), heads=0, channels=16, frames=11) == (4, 8)
    with pytest.raises(
        ValueError, match=r"1000 noise levels, 8 heads and 16 channels of a layer of 32x32 positions; .* fewer ts, or fewer"
    ):
        _places((32, 32), heads=8, channels=16, frames=1000)

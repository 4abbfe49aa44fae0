"""Inside the U-Net: what each position attends to, and the feature maps, by layer and noise level."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from PIL import Image
from torch import Tensor

from diffusion_lib.checks import labels_for, whole
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.pictures import as_images, draw
from diffusion_lib.plots import warn
from diffusion_lib.process import q_sample
from diffusion_lib.unet import AttentionBlock, Stage
from diffusion_lib.widgets.base import (
    FOLDER,
    MAX_SHEET_SIDE,
    SHOW_PROGRESS_AFTER,
    FrameWidget,
    Whole,
    fingerprint,
    png,
    warn_if_large,
    within,
)
from diffusion_lib.widgets.mix import with_noise
from diffusion_lib.widgets.networks import WRAPPERS, placed, with_network
from diffusion_lib.widgets.stills import GAP, MARK, WIDTH, beside, evenly, fit, still, text, to_width

LABEL, MAP = 130, 100  # pixels in the still picture: of the names of rows, and of a map at most
COARSEST = 4  # cells each way, the fewest with which a map still shows something
HEADS_IN_STILL, MAPS_IN_STILL = 3, 2
TOPS = [2, 3, 4, 6, 8, 12, 16, 24, 32]  # what is white, in uniform weights: the first that is not below 98% of a layer's weights
MOST_WEIGHTS = 2**24  # attention weights of a large layer that are in memory at once


class AttentionWidget(FrameWidget):
    """Made by `attention`. `widget.t`, `widget.layer` (a name) and `widget.pixel` ([row, column] of the image) can be set and observed."""

    _esm = FOLDER / "attention.js"
    t = Whole(0).tag(sync=True)
    ts = traitlets.List(traitlets.Int()).tag(sync=True)
    position, positions = "t", "ts"
    layer = traitlets.Unicode().tag(sync=True)
    layers = traitlets.List(traitlets.Dict()).tag(sync=True)
    pixel = traitlets.List(traitlets.Int()).tag(sync=True)
    image_shape = traitlets.List(traitlets.Int()).tag(sync=True)
    sheets = traitlets.Dict().tag(sync=True)  # name -> PNG

    @traitlets.validate("layer")
    def _known(self, proposal):
        names = [layer["name"] for layer in self.layers]
        if names and proposal["value"] not in names:
            raise traitlets.TraitError(f"layer={proposal['value']!r}; expected one of {names}")
        return proposal["value"]

    @traitlets.validate("pixel")
    def _inside(self, proposal):
        pixel, size = proposal["value"], self.image_shape
        if size and not (len(pixel) == 2 and all(0 <= p < n for p, n in zip(pixel, size, strict=True))):
            raise traitlets.TraitError(f"pixel={pixel}; expected [row, column] inside {size[0]}x{size[1]}")
        return pixel


def attention(
    denoiser: Denoiser,
    x0: Any,
    *,
    y: Any = None,
    ts: Sequence[int] | None = None,
    eps: Any = None,
    channels: int = 16,
    title: str = "",
) -> AttentionWidget:
    """Shows the inside of a denoiser's U-Net while it works on one image: pick a layer, a noise level and a position.

    denoiser: a `Denoiser` with a UNet, possibly compiled or guided; guidance is ignored. x0: (1, C, H, W) in [-1, 1]. y: its class, a
    number or a name, or None. ts: the noise levels, by default eleven in 1..T. eps: the noise, drawn with seed 0 by default. channels:
    how many feature maps of each layer to show.

    Each position has an attention map, so the number of weights grows with the fourth power of the image's side. A layer of more than
    about 16x16 positions is therefore averaged over squares of positions, with a warning. Raises `ValueError` if the result is still
    too large.
    """
    from tqdm import tqdm

    denoiser = with_network(denoiser)
    x0, channels = as_images(x0, "x0"), whole("channels", channels)
    if len(x0) != 1:
        raise ValueError(f"x0 has {len(x0)} images; expected one: x0[:1]")
    x0, eps = (placed(each, denoiser) for each in with_noise(x0, eps))
    labels = labels_for(denoiser, y, 1)
    y = None if labels is None else labels.to(x0.device)
    T = denoiser.schedule.T
    ts = sorted({max(1, T * i // 10) for i in range(11)}) if ts is None else list(ts) if isinstance(ts, Iterable) else [ts]
    ts = [within(f"ts[{i}]", t, 1, T) for i, t in enumerate(ts)]
    height, width = x0.shape[2:]
    if not ts or max(len(ts) * width, height) > MAX_SHEET_SIDE:
        raise ValueError(
            f"{len(ts)} noise levels of an image of {height}x{width} pixels; expected one or more, side by side on at most "
            f"{MAX_SHEET_SIDE} pixels: fewer ts, or a smaller image"
        )
    xts = [q_sample(denoiser.schedule, x0, t, eps) for t in ts]
    seen: list[dict[str, _Inside]] = []
    for xt, t in zip(tqdm(xts, desc="evaluating the network", delay=SHOW_PROGRESS_AFTER, leave=False, disable=None), ts, strict=True):
        seen.append(_look_inside(denoiser, xt, t, y, channels, len(ts)))

    layers: list[dict[str, Any]] = []
    shades: dict[str, Tensor] = {}  # attention as it is drawn: -1 is black, 0 a uniform weight, 1 white
    sheets = {"images": png(np.concatenate([draw(xt, 1, padding=0).numpy() for xt in xts], axis=1))}
    for i, name in enumerate(seen[0]):
        features = torch.stack([each[name].features for each in seen])[:, :channels]  # (F, channels, h, w)
        strongest = features.abs().movedim(1, 0).flatten(1).quantile(0.98, dim=1)  # of each channel, so that weak ones are visible too
        sheets[f"features {i}"] = png(_grey(features / strongest[:, None, None].clamp(min=1e-12)), 32)
        layer = dict(name=name, size=list(features.shape[2:]), channels=features.shape[1], heads=0, top=0)
        attended = [weights for each in seen if (weights := each[name].weights) is not None]
        if attended:
            weights = torch.stack(attended)  # (F, heads, h w, h w)
            factors = _factors(weights)
            top = next((top for top in TOPS if top >= 2 ** factors.quantile(0.98).item()), TOPS[-1])
            shades[name] = (factors / math.log2(top)).clamp(-1, 1).unflatten(3, layer["size"])  # (F, heads, positions, h, w)
            sheets[f"attention {i}"] = png(_grey(shades[name].flatten(0, 1)), 32)  # noise levels and heads go down, positions across
            layer |= dict(heads=weights.shape[1], top=top)
        layers.append(layer)
    _say_what_is_coarse(seen[0])
    warn_if_large("AttentionWidget", list(sheets.values()), "fewer ts, fewer channels, or a smaller image")

    first = next((layer["name"] for layer in layers if layer["heads"]), layers[0]["name"])
    middle = len(ts) // 2
    widget = AttentionWidget(
        layers=layers,
        layer=first,
        sheets=sheets,
        ts=ts,
        frame=middle,
        t=ts[middle],
        image_shape=[height, width],
        pixel=[height // 2, width // 2],
        title=title,
    )
    widget.summary = f"AttentionWidget({len(layers)} layers, t = {ts[0]}..{ts[-1]}; data {fingerprint(x0, eps, cells=4)})"
    features = torch.stack([each[first].features[:MAPS_IN_STILL] for each in seen])
    layer = next(layer for layer in layers if layer["name"] == first)
    widget.still = _still(xts, ts, layer, shades.get(first), features, title)
    return widget


def _say_what_is_coarse(layers: Mapping[str, "_Inside"]) -> None:
    sizes = {name: (inside.positions, tuple(inside.features.shape[1:])) for name, inside in layers.items()}
    coarse = [f"{name!r} ({h}x{w} as {m}x{n})" for name, ((h, w), (m, n)) in sizes.items() if (h, w) != (m, n)]
    if coarse:
        warn(f"layers with too many positions to show each of them are averaged over squares of positions: {', '.join(coarse)}")


class _Inside(NamedTuple):
    """What one stage of the network computed for one image, on the h x w cells in which it is shown."""

    features: Tensor  # (channels, h, w) its output
    weights: Tensor | None  # (heads, h w, h w) of its attention, if it has any
    positions: tuple[int, int]  # height and width before averaging


@torch.no_grad()
def _look_inside(denoiser: Denoiser, xt: Tensor, t: int, y: Tensor | None, channels: int, frames: int) -> dict[str, _Inside]:
    """The stages by name, in the order of computation. channels: how many features to keep. frames: the number of noise levels."""
    outputs: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    positions: dict[str, tuple[int, int]] = {}
    most = max(channels, MAPS_IN_STILL)

    def look_at_output(stage: Stage, out: Tensor, path: str) -> None:
        positions[path] = size = (out.shape[2], out.shape[3])
        heads = 0 if stage.attention is None else weights[path].shape[0]
        if not out.isfinite().all():
            raise ValueError(f"the network's features are not finite (NaN or infinity) at t = {t} in {path}; expected finite numbers")
        outputs[path] = _pooled(out[0, :most].float(), _places(size, heads, min(channels, out.shape[1]), frames)).cpu()

    def look_at_attention(block: AttentionBlock, h: Tensor, path: str) -> None:
        places = _places((h.shape[2], h.shape[3]), block.heads, min(channels, h.shape[1]), frames)
        weights[path] = _weights(block, h, places).float().cpu()

    hooks = []
    for path, module in denoiser.network.named_modules():
        path = ".".join(part for part in path.split(".") if part not in WRAPPERS)
        if isinstance(module, Stage):
            hooks.append(module.register_forward_hook(lambda stage, args, out, path=path: look_at_output(stage, out, path)))
        elif isinstance(module, AttentionBlock):
            stage = path.rpartition(".")[0]
            hooks.append(module.register_forward_pre_hook(lambda block, args, path=stage: look_at_attention(block, args[0], path)))
    if not hooks:
        raise ValueError(f"the denoiser's network is a {type(denoiser.network).__name__}; expected a UNet, whose layers have names")
    try:
        with torch.compiler.set_stance("force_eager"):  # compiled code would skip the hooks
            denoiser(xt, t, y)
    finally:
        for hook in hooks:
            hook.remove()
    return {_name(path, outputs): _Inside(out, weights.get(path), positions[path]) for path, out in outputs.items()}


def _places(size: tuple[int, int], heads: int, channels: int, frames: int) -> tuple[int, int]:
    """In how many cells to show a layer with `size` positions: all of them, or a half, a third … each way, so that its sheets fit."""
    height, width = size
    for every in range(1, max(size) + 1):
        h, w = math.ceil(height / every), math.ceil(width / every)
        across = max(channels * w, h * w * w if heads else 0)  # feature maps, and an attention map for each cell
        if max(across, frames * max(heads, 1) * h) <= MAX_SHEET_SIDE:
            break
    if min(h, w) < min(COARSEST, height, width):
        raise ValueError(
            f"{frames} noise levels, {max(heads, 1)} heads and {channels} channels of a layer of {height}x{width} positions; expected as "
            f"many as fit on sheets of {MAX_SHEET_SIDE}x{MAX_SHEET_SIDE} pixels: fewer ts, or fewer channels"
        )
    return h, w


def _pooling(size: tuple[int, int], places: tuple[int, int]) -> Tensor:
    """(positions, cells): 1 / n where a position is one of the n in a cell, else 0."""
    rows, columns = (torch.arange(n, device="cpu") * m // n for n, m in zip(size, places, strict=True))
    belongs = torch.nn.functional.one_hot((rows[:, None] * places[1] + columns).flatten(), places[0] * places[1]).float()
    return belongs / belongs.sum(dim=0)


def _pooled(features: Tensor, places: tuple[int, int]) -> Tensor:
    """Features (C, h, w) averaged over each cell."""
    size = features.shape[1], features.shape[2]
    if size == places:
        return features
    return (features.flatten(1) @ _pooling(size, places).to(features.device)).unflatten(1, places)


def _weights(block: AttentionBlock, h: Tensor, places: tuple[int, int]) -> Tensor:
    """The block's weights for one image (heads, cells, cells): averaged over the attending positions, summed over the attended ones."""
    size = h.shape[2], h.shape[3]
    if size == places:
        return block.weights(h)[0]
    pooling = _pooling(size, places).to(h.device)
    q, k, _ = block.queries_keys_values(h)
    rows = max(1, MOST_WEIGHTS // (k.shape[1] * k.shape[2]))  # at a time
    pooled = torch.zeros(k.shape[1], pooling.shape[1], pooling.shape[1], dtype=torch.float32, device=h.device)
    for some, belongs in zip(q.split(rows, dim=2), pooling.split(rows), strict=True):
        pooled += belongs.T @ (block.weights_of(some, k)[0].float() @ pooling)
    # as if all cells had the same number of positions, so that larger ones are not brighter
    return pooled * (len(pooling) / pooling.shape[1])


def _name(path: str, paths: Collection[str]) -> str:
    """ "down.1.0", the first block on the way down on level 1, is "down, level 1", and its block is named if there are several."""
    part, *numbers = path.split(".")
    several = any(other.endswith(".1") and other.count(".") == 2 for other in paths)
    return ", ".join([part, *(f"{word} {n}" for word, n in zip(("level", "block") if several else ("level",), numbers, strict=False))])


def _grey(tiles: Tensor) -> np.ndarray:
    """(rows, columns, h, w) in [-1, 1] as one picture uint8 (rows h, columns w)."""
    rows, columns, h, w = tiles.shape
    values = tiles.clamp(-1, 1).permute(0, 2, 1, 3).reshape(rows * h, columns * w)
    return ((values + 1) * 127.5).round().to(torch.uint8).numpy()


def _factors(weights: Tensor) -> Tensor:
    """log2 of each weight (…, positions) relative to a uniform weight, 1 / positions."""
    return (weights * weights.shape[-1]).clamp(min=1e-9).log2()


def _still(
    xts: Sequence[Tensor], ts: Sequence[int], layer: Mapping[str, Any], shades: Tensor | None, features: Tensor, title: str
) -> bytes:
    """At some noise levels: xt, a layer's attention (F, heads, positions, h, w) from one position, and some of its feature maps.

    It shows the position whose attention differs most from uniform.
    """
    h, w = layer["size"]
    chosen = evenly(len(ts))
    column = (WIDTH - LABEL - GAP * len(chosen)) // len(chosen)
    shown = [fit(draw(xts[i], 1, padding=0).numpy(), min(column, MAP)).copy() for i in chosen]
    size = shown[0].shape[1], shown[0].shape[0]

    def row(name: str, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return beside(to_width(text(name, LABEL), LABEL), *(to_width(picture, column) for picture in pictures), centred=True)

    def maps(values: Tensor) -> list[np.ndarray]:  # (F, h, w) in [-1, 1]
        greys = [_grey(values[i][None, None]) for i in chosen]
        return [np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.NEAREST).convert("RGB")) for grey in greys]

    rows = [row("xt", shown)]
    if shades is not None:
        position = int(shades.abs().mean(dim=(0, 1, 3, 4)).argmax())
        top, left = (round(i * n / m) for i, n, m in zip(divmod(position, w), size[::-1], (h, w), strict=True))
        for picture in shown:
            _mark(picture, top, left, round(size[1] / h), round(size[0] / w))
        rows = [row("xt; the frame is the position that attends", shown)]
        rows += [row(f"attention, head {k}", maps(shades[:, k, position])) for k in range(min(HEADS_IN_STILL, shades.shape[1]))]
    for k in range(features.shape[1]):
        strongest = features[:, k].abs().flatten().quantile(0.98).clamp(min=1e-12)
        rows.append(row(f"feature map {k} (grey: 0)", maps((features[:, k] / strongest).clamp(-1, 1))))
    heads = beside(np.full((1, LABEL, 3), 255, np.uint8), *(to_width(text(f"t = {ts[i]}"), column) for i in chosen))
    scale = "attention: none in this layer" if shades is None else attention_scale(layer)
    return still(title, text(f"layer: {layer['name']}; {scale}"), heads, *rows)


def attention_scale(layer: Mapping[str, Any]) -> str:
    """What the grey levels of a layer's attention mean, as in source/attention.js."""
    height, width = layer["size"]
    positions = height * width
    return f"attention (grey: uniform, 1/{positions}; white: {layer['top']} times that or more; black: 1/{layer['top']} of it or less)"


def _mark(picture: np.ndarray, top: int, left: int, height: int, width: int) -> None:
    """Draws a frame, two pixels wide, inside the edge of a cell."""
    inside = picture[top : top + height, left : left + width]
    inside[:2] = inside[-2:] = MARK
    inside[:, :2] = inside[:, -2:] = MARK

"""Inside the U-Net: what each position looks at, and what the feature maps hold, by layer and noise level."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from torch import Tensor

from diffusion_lib.denoiser import Denoiser
from diffusion_lib.plots import image_grid
from diffusion_lib.process import q_sample, randn_like
from diffusion_lib.unet import AttentionBlock, Stage
from diffusion_lib.widgets.base import FOLDER, FrameWidget, filmstrip, fingerprint, png


class AttentionWidget(FrameWidget):
    """Made by `attention`. `widget.t`, `widget.layer` (a name) and `widget.pixel` ([row, column] of the image) can be set and observed."""

    _esm = FOLDER / "attention.js"
    t = traitlets.Int(0).tag(sync=True)
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
    x0: Tensor,
    *,
    y: Tensor | None = None,
    ts: Sequence[int] | None = None,
    eps: Tensor | None = None,
    channels: int = 16,
    title: str = "",
) -> AttentionWidget:
    """Looks into the U-Net of a denoiser while it works on one image: pick a layer, a noise level and a position.

    x0: (1, C, H, W) in [-1, 1]. y: its class (1,), or None. ts: the noise levels; eleven of 1..T if left out. eps: the noise,
    drawn with seed 0 if left out. channels: how many feature maps of each layer to show.
    """
    if len(x0) != 1:
        raise ValueError(f"x0 has {len(x0)} images; expected one: x0[:1]")
    T = denoiser.schedule.T
    ts = sorted({max(1, T * i // 10) for i in range(11)}) if ts is None else list(ts)
    eps = randn_like(x0, torch.Generator().manual_seed(0)) if eps is None else eps
    xts = [q_sample(denoiser.schedule, x0, t, eps) for t in ts]
    seen = [_look_inside(denoiser, xt, t, y) for xt, t in zip(xts, ts, strict=True)]

    layers: list[dict[str, Any]] = []
    sheets = {"images": png(np.concatenate([image_grid(xt, padding=0).numpy() for xt in xts], axis=1))}
    for i, name in enumerate(seen[0]):
        features = torch.stack([each[name].features for each in seen])[:, :channels]  # (F, channels, h, w)
        strongest = features.abs().movedim(1, 0).flatten(1).quantile(0.98, dim=1)  # of each channel, so that weak ones are seen too
        sheets[f"features {i}"] = png(_grey(features / strongest[:, None, None].clamp(min=1e-12)), 32)
        layer = dict(name=name, size=list(features.shape[2:]), channels=features.shape[1], heads=0, top=0.0)
        attended = [weights for each in seen if (weights := each[name].weights) is not None]
        if attended:
            weights = torch.stack(attended)  # (F, heads, h w, h w)
            top = round(weights.quantile(0.999).item(), 2)
            tiles = weights.unflatten(3, layer["size"])  # (F, heads, positions, h, w): frames and heads go down, positions across
            sheets[f"attention {i}"] = png(_grey(tiles.flatten(0, 1) / max(top, 0.01) * 2 - 1), 32)
            layer |= dict(heads=weights.shape[1], top=top)
        layers.append(layer)

    first = next((layer["name"] for layer in layers if layer["heads"]), layers[0]["name"])
    height, width = x0.shape[2:]
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
    widget.still = _still(xts, ts, first, [each[first].features[:3] for each in seen])
    return widget


class _Inside(NamedTuple):
    """What one stage of the network computed for one image."""

    features: Tensor  # (channels, h, w) its output
    weights: Tensor | None  # (heads, h w, h w) of its attention, if it has any


@torch.no_grad()
def _look_inside(denoiser: Denoiser, xt: Tensor, t: int, y: Tensor | None) -> dict[str, _Inside]:
    """The stages by name, in the order in which they work."""
    outputs: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    hooks = []
    for path, module in denoiser.network.named_modules():
        if isinstance(module, Stage):
            hooks.append(module.register_forward_hook(lambda module, args, out, path=path: outputs.update({path: out[0].cpu()})))
        elif isinstance(module, AttentionBlock):
            stage = path.rpartition(".")[0]
            hooks.append(
                module.register_forward_pre_hook(lambda block, args, s=stage: weights.update({s: block.weights(args[0])[0].cpu()}))
            )
    try:
        denoiser(xt, t, y)
    finally:
        for hook in hooks:
            hook.remove()
    if not outputs:
        raise ValueError(f"the denoiser's network is a {type(denoiser.network).__name__}; expected a UNet, whose layers can be told apart")
    return {_name(path, outputs): _Inside(out, weights.get(path)) for path, out in outputs.items()}


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


def _still(xts: Sequence[Tensor], ts: Sequence[int], layer: str, features: Sequence[Tensor]) -> bytes:
    """xt at some noise levels and, below, three feature maps (3, h, w) of a layer at each, enlarged to the image's size."""
    height, width = xts[0].shape[2:]
    enlarged = [torch.nn.functional.interpolate(f[:, None] / f.abs().max(), size=(height, width)) for f in features]
    rows = {"xt": xts} | {f"feature map {k} of {layer}": [e[k : k + 1] for e in enlarged] for k in range(3)}
    pictures = {name: [image_grid(picture, padding=0).numpy() for picture in row] for name, row in rows.items()}
    return filmstrip(pictures, [f"t = {t}" for t in ts])

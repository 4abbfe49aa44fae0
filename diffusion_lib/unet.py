"""The network: a U-Net over patches of pixels, conditioned on the timestep and optionally on a class.

Every block takes (h, emb) and returns the new h: h (B, C, H, W) are feature maps, emb (B, E) is the embedding of t and y.
A notebook can therefore call each block on its own, and `UNet.forward` is a walk down, across and up.

Sources: the U-Net of Ho et al. 2020 (arXiv:2006.11239, appendix B) with the scale-shift group norm of Nichol & Dhariwal 2021
(arXiv:2102.09672, appendix A), pre-activation residual blocks, and patches as in Luhman & Luhman 2022 (arXiv:2207.04316).
A captioned network is given coordinates, as in Liu et al. 2018 (arXiv:1807.03247).
Downsampling and upsampling rearrange 2x2 squares into channels and back: Shi et al. 2016 (arXiv:1609.05158), section 2.2.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib.checks import NO_LABEL, as_image_shape, check_label_shape, check_labels, check_like, unet_config
from diffusion_lib.text import Text, TextEncoder
from diffusion_lib.words import check_words_shape


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Timesteps as the hands of dim / 2 clocks, with periods from 2 pi to about 2 pi max_period timesteps.

    t: (B,). dim: even. Returns (B, dim) in [-1, 1]: all the cosines, then all the sines.
    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """
    # emb_i = cos(t omega_i), emb_{i + dim/2} = sin(t omega_i),  omega_i = max_period^(-i / (dim/2))
    frequency = torch.exp(-math.log(max_period) * torch.arange(dim // 2, dtype=torch.float32, device=t.device) / (dim // 2))
    angle = t[:, None].float() * frequency  # (B, dim / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def with_coordinates(h: Tensor) -> Tensor:
    """h (B, C, H, W) with two more channels: each position's place from left to right and from top to bottom, -1..1.

    Source: Liu et al. 2018 (arXiv:1807.03247), CoordConv.
    """
    across, down = (torch.linspace(-1, 1, size, dtype=h.dtype, device=h.device) for size in (h.shape[3], h.shape[2]))
    places = torch.stack([across.expand(h.shape[2], -1), down[:, None].expand(-1, h.shape[3])])  # (2, H, W)
    return torch.cat([h, places.expand(len(h), -1, -1, -1)], dim=1)


class TimeEmbedding(nn.Module):
    """t (B,) to emb (B, dim): the sinusoidal embedding, followed by a small trained network."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.channels = channels
        self.mlp = nn.Sequential(nn.Linear(channels, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoidal_embedding(t, self.channels).to(next(self.parameters()).dtype))


class ResidualBlock(nn.Module):
    """h + f(h, emb): two 3x3 convolutions; between them, the embedding scales and shifts the normalised features."""

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int, dropout: float = 0.0, norm_groups: int = 4):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(emb_dim, 2 * out_channels)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        f = self.conv1(F.silu(self.norm1(h)))
        scale, shift = self.scale_shift(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
        # AdaGN(f, emb) = (1 + scale) GroupNorm(f) + shift                                 Nichol & Dhariwal 2021, appendix A
        f = torch.addcmul(shift, self.norm2(f), 1 + scale)
        f = self.conv2(self.dropout(F.silu(f)))
        return self.shortcut(h) + f


class AttentionBlock(nn.Module):
    """h + attention(h): every position attends to every position. emb is unused; it keeps the signature the same for all blocks."""

    def __init__(self, channels: int, emb_dim: int, head_channels: int = 32, norm_groups: int = 4):
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // head_channels))  # fewer heads if the channels would not divide evenly
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        q, k, v = self.queries_keys_values(h)
        a = self.attend(q, k, v)  # (B, heads, H W, d_k)
        return h + self.out(a.transpose(2, 3).reshape(h.shape))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # softmax(q k^T / sqrt(d_k)) v                                                       Vaswani et al. 2017, equation 1
        if q.device.type == "cpu" and q.requires_grad:
            # on a CPU in bfloat16, the backward pass of the fused function takes five times as long as these two products
            return self.weights_of(q, k) @ v
        return F.scaled_dot_product_attention(q, k, v)

    def weights(self, h: Tensor) -> Tensor:
        """Attention weights (B, heads, H W, H W): row i is a distribution over the positions that position i attends to."""
        q, k, _ = self.queries_keys_values(h)
        return self.weights_of(q, k)

    @staticmethod
    def weights_of(q: Tensor, k: Tensor) -> Tensor:
        return torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)

    def queries_keys_values(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors (B, heads, H W, d_k) with d_k = C / heads."""
        qkv = self.qkv(self.norm(h)).flatten(2).unflatten(1, (3, self.heads, -1))  # (B, 3, heads, d_k, H W)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        return q, k, v


class CrossAttention(nn.Module):
    """h + attention(h, text): every position attends to the words of its caption (Rombach et al. 2022, arXiv:2112.10752, section 3.3)."""

    def __init__(self, channels: int, text_channels: int, head_channels: int = 32, norm_groups: int = 4):
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // head_channels))
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(text_channels, 2 * channels)
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, text: Text) -> Tensor:
        q, k, v = self.queries_keys_values(h, text)
        # softmax(q k^T / sqrt(d_k)) v                                                       Vaswani et al. 2017, equation 1
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=text.there)  # (B, heads, H W, d_k)
        return h + self.out(a.transpose(2, 3).reshape(h.shape))

    def weights(self, h: Tensor, text: Text) -> Tensor:
        """Attention weights (B, heads, H W, 1 + L): row i is a distribution over the words that position i attends to."""
        q, k, _ = self.queries_keys_values(h, text)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])  # (B, heads, H W, 1 + L)
        return torch.softmax(scores.masked_fill(~text.there, -torch.inf), dim=-1)

    def queries_keys_values(self, h: Tensor, text: Text) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, heads, H W, d_k) from the image; keys and values (B, heads, 1 + L, d_k) from the words; d_k = C / heads."""
        q = self.q(self.norm(h)).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        k, v = self.kv(text.features).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v


class Downsample(nn.Module):
    """Halves height and width: each 2x2 square becomes the channels of one position, and a 1x1 convolution mixes them."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(4 * in_channels, out_channels, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(h, 2))


class Upsample(nn.Module):
    """Doubles height and width: a 1x1 convolution computes four positions from each one, and they become a 2x2 square."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(h), 2)


class Stage(nn.Module):
    """A residual block, followed on the levels that have attention by attention, and in a captioned network by attention to words."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_dim: int,
        attention: bool,
        text_channels: int | None,
        dropout: float,
        norm_groups: int,
    ):
        super().__init__()
        self.residual = ResidualBlock(in_channels, out_channels, emb_dim, dropout, norm_groups)
        self.attention = AttentionBlock(out_channels, emb_dim, norm_groups=norm_groups) if attention else None
        self.cross_attention = None
        if attention and text_channels is not None:
            self.cross_attention = CrossAttention(out_channels, text_channels, norm_groups=norm_groups)

    def forward(self, h: Tensor, emb: Tensor, text: Text | None = None) -> Tensor:
        h = self.residual(h, emb)
        if self.attention is not None:
            h = self.attention(h, emb)
        return h if self.cross_attention is None else self.cross_attention(h, text)


class UNet(nn.Module):
    """network(xt, t, y=None) -> (B, out_channels, H, W): the U-Net that learns to separate noise from image.

    in_channels: channels of the images, C. base_channels: feature maps on the finest level, even and a multiple of norm_groups; level i
    has base_channels * channel_mults[i]. blocks_per_level: residual blocks on each level, on the way down and again on the way up.
    attention_levels: the levels (0 is the finest) with self-attention. patch_size: p x p pixels become channels of one
    position, which makes everything p^2 times cheaper. num_classes: number of classes; None for an unconditional network.
    dropout: probability in the residual blocks. norm_groups: number of channel groups in group norm (Wu & He 2018,
    arXiv:1803.08494); CPUs are several times faster with 8 or more channels per group. out_channels: channels of the output,
    C by default. words: the vocabulary of a captioned network, whose y are captions instead of classes; as captions tell of places,
    it is also given the coordinates of every position.

    Height and width must be multiples of patch_size * 2^(levels - 1), else `ValueError`.
    """

    _no_split_modules = ("Stage",)  # read by accelerate: the modules to shard across processes one by one

    def __init__(
        self,
        in_channels: int = 1,
        base_channels: int = 32,
        *,
        channel_mults: tuple[int, ...] = (1, 2),
        blocks_per_level: int = 1,
        attention_levels: tuple[int, ...] = (1,),
        patch_size: int = 2,
        num_classes: int | None = None,
        dropout: float = 0.0,
        norm_groups: int = 4,
        out_channels: int | None = None,
        words: Sequence[str] | None = None,
    ):
        super().__init__()
        self.config: dict[str, Any] = unet_config(
            in_channels=in_channels,
            base_channels=base_channels,
            channel_mults=channel_mults,
            blocks_per_level=blocks_per_level,
            attention_levels=attention_levels,
            patch_size=patch_size,
            num_classes=num_classes,
            dropout=dropout,
            norm_groups=norm_groups,
            out_channels=out_channels,
            words=words,
        )
        # plain Python numbers, whatever type was given
        in_channels, base_channels, channel_mults, blocks_per_level, attention_levels, *others = self.config.values()
        patch_size, num_classes, dropout, norm_groups, out_channels = others[:5]
        words = self.config.get("words")
        self.in_channels, self.patch_size, self.num_classes = in_channels, patch_size, num_classes
        self.size_multiple = patch_size * 2 ** (len(channel_mults) - 1)
        widths = [base_channels * m for m in channel_mults]
        levels = range(len(widths))
        emb_dim, text_channels = 4 * base_channels, 2 * base_channels
        reads = None if words is None else text_channels

        def stage(level: int, in_channels: int) -> Stage:
            return Stage(in_channels, widths[level], emb_dim, level in attention_levels, reads, dropout, norm_groups)

        self.time_embedding = TimeEmbedding(base_channels, emb_dim)
        self.class_embedding = None if num_classes is None else nn.Embedding(num_classes + 1, emb_dim)  # row 0: NO_LABEL
        self.words = None if words is None else tuple(words)
        self.text_encoder = None if words is None else TextEncoder(len(words), text_channels)
        self.caption_embedding = None if words is None else nn.Linear(text_channels, emb_dim)
        # "on the left" means nothing to a convolution: where captions tell of places, every position is given its own
        self.places = 0 if words is None else 2
        self.stem = nn.Conv2d(in_channels * patch_size**2 + self.places, widths[0], 3, padding=1)
        self.down = nn.ModuleList([nn.ModuleList([stage(i, widths[i]) for _ in range(blocks_per_level)]) for i in levels])
        self.downsample = nn.ModuleList([Downsample(widths[i], widths[i + 1]) for i in levels[:-1]])
        self.middle = Stage(widths[-1], widths[-1], emb_dim, bool(attention_levels), reads, dropout, norm_groups)
        self.upsample = nn.ModuleList([Upsample(widths[i + 1], widths[i]) for i in levels[:-1]])
        self.up = nn.ModuleList([nn.ModuleList([stage(i, 2 * widths[i]) for _ in range(blocks_per_level)]) for i in levels])
        self.head = nn.Sequential(
            nn.GroupNorm(norm_groups, widths[0]), nn.SiLU(), zero_init(nn.Conv2d(widths[0], out_channels * patch_size**2, 3, padding=1))
        )
        # convolutions compute in this layout on CPUs and GPUs: no tensor has to be rearranged for them and back
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x: (B, C, H, W). t: LongTensor (B,). y: LongTensor (B,) of classes, `NO_LABEL` for images without one; or (B, L) of words,
        `NO_WORD` where a caption has no more; None for neither."""
        self.check_input(x, t, y)
        check_like(x, self.stem.weight)
        text = self.read(y, len(x))
        emb = self.embed(t, y, text)  # (B, E)
        h = F.pixel_unshuffle(x, self.patch_size)  # (B, C p p, H / p, W / p)
        h = self.stem(with_coordinates(h) if self.places else h)  # (B, widths[0], H / p, W / p)

        skips = []
        for level, stages in enumerate(self.down):
            if level > 0:
                h = self.downsample[level - 1](h, emb)
            for stage in stages.children():
                h = stage(h, emb, text)
                skips.append(h)

        h = self.middle(h, emb, text)

        for level in reversed(range(len(self.up))):
            for stage in self.up[level].children():
                h = stage(torch.cat([h, skips.pop()], dim=1), emb, text)
            if level > 0:
                h = self.upsample[level - 1](h, emb)

        return F.pixel_shuffle(self.head(h), self.patch_size)  # (B, out_channels, H, W)

    def read(self, y: Tensor | None, batch: int) -> Text | None:
        """What the text encoder makes of the captions; None in a network without captions."""
        if self.text_encoder is None:
            return None
        device = self.stem.weight.device
        return self.text_encoder(torch.empty(batch, 0, dtype=torch.long, device=device) if y is None else y)

    def embed(self, t: Tensor, y: Tensor | None = None, text: Text | None = None) -> Tensor:
        """The embedding of the timestep and, in a conditional network, of class or caption: emb (B, E), the input of every block."""
        emb = self.time_embedding(t)
        if self.caption_embedding is not None:
            text = text or self.read(y, len(t))
            return emb if text is None else emb + self.caption_embedding(text.features[:, 0])  # what the encoder makes of the whole caption
        if self.class_embedding is None:
            return emb
        y = torch.full_like(t, NO_LABEL) if y is None else y
        try:
            return emb + self.class_embedding(y - NO_LABEL)
        except IndexError:  # raised on a CPU; on a GPU, where a check would wait for the device, `Denoiser` has already checked them
            check_labels(y, self.num_classes, len(t))
            raise

    @property
    def draws_noise(self) -> bool:
        """Whether a call in training mode draws random numbers."""
        return self.config["dropout"] > 0

    def check_image_shape(self, shape: tuple[int, int, int]) -> None:
        """Raises `ValueError` unless images of shape (C, H, W) fit this network."""
        self.check_input(torch.empty(1, *as_image_shape(shape), device="meta"), torch.ones(1, dtype=torch.long), None)  # takes no memory

    def check_input(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        """Raises `ValueError` for images, timesteps or labels of the wrong shape or type."""
        for name, value in dict(images=x, t=t).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{name}: {type(value).__name__}; expected a tensor, as in network(xt, torch.tensor([t]))")
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"images have shape {tuple(x.shape)}; expected (B, {self.in_channels}, H, W)")
        height, width = x.shape[2:]
        if height % self.size_multiple or width % self.size_multiple or not height * width:
            raise ValueError(
                f"images are {height}x{width}; expected multiples of {self.size_multiple} (patch_size {self.patch_size}, "
                f"{len(self.up)} levels): resize or pad them, or use fewer channel_mults"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t has shape {tuple(t.shape)}; expected ({len(x)},): one timestep per image")
        if y is not None and self.words is not None:
            check_words_shape(y, len(x))
        elif y is not None:
            check_label_shape(y, self.num_classes, len(x))


def zero_init(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias set to 0: a new residual block is then the identity, and a new network predicts 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer

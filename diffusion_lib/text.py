"""Reading captions: a small text encoder, and the attention by which positions of an image look at words.

Sources: Vaswani et al. 2017 (arXiv:1706.03762) for both; cross-attention in a U-Net as in Rombach et al. 2022 (arXiv:2112.10752, section 3.3).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib.words import MAX_WORDS, NO_WORD


class Text(NamedTuple):
    """Captions that a text encoder has read. The first position of each is not a word: it is there if there is no caption, too."""

    features: Tensor  # (B, 1 + L, D)
    there: Tensor  # bool (B, 1, 1, 1 + L): False where a shorter caption has no word


class TextEncoder(nn.Module):
    """Words (B, L) to `Text`: every word is read in the light of the others, so that "red" belongs to the right house."""

    def __init__(self, num_words: int, channels: int, layers: int = 2):
        super().__init__()
        self.word = nn.Embedding(1 + num_words, channels)  # row 0 is the position before the first word
        self.position = nn.Embedding(1 + MAX_WORDS, channels)
        nn.init.normal_(self.position.weight, std=0.3)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                channels, max(1, channels // 32), 2 * channels, dropout=0.0, activation=F.silu, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, y: Tensor) -> Text:
        y = F.pad(y, (1, 0), value=NO_WORD)  # (B, 1 + L)
        there = y != NO_WORD
        there[:, 0] = True
        h = self.word(y) + self.position.weight[: y.shape[1]]
        for layer in self.layers:
            h = layer(h, src_key_padding_mask=~there)
        return Text(self.norm(h), there[:, None, None])


class CrossAttention(nn.Module):
    """h + attention(h, text): every position attends to the words of its caption."""

    def __init__(self, channels: int, text_channels: int, head_channels: int = 32, norm_groups: int = 4):
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // head_channels))
        self.norm = nn.GroupNorm(norm_groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(text_channels, 2 * channels)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, text: Text) -> Tensor:
        q, k, v = self.queries_keys_values(h, text)
        # softmax(q k^T / sqrt(d_k)) v                                                       Vaswani et al. 2017, equation 1
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=text.there)  # (B, heads, H W, d_k)
        return h + self.out(a.transpose(2, 3).reshape(h.shape))

    def weights(self, h: Tensor, text: Text) -> Tensor:
        """Attention weights (B, heads, H W, 1 + L): row i is a distribution over the words that position i attends to."""
        q, k, _ = self.queries_keys_values(h, text)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        return torch.softmax(scores.masked_fill(~text.there, -torch.inf), dim=-1)

    def queries_keys_values(self, h: Tensor, text: Text) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, heads, H W, d_k) from the image; keys and values (B, heads, 1 + L, d_k) from the words; d_k = C / heads."""
        q = self.q(self.norm(h)).flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
        k, v = self.kv(text.features).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

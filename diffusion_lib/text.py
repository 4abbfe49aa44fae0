"""Reading captions: a small transformer that turns the words of a caption into features, one row per word.

The blocks of the network attend to them: `unet.CrossAttention`. Source: Vaswani et al. 2017 (arXiv:1706.03762).
"""

from typing import NamedTuple

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

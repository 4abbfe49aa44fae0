"""Capital letters and digits, drawn at 28x28 from the fonts that ship with matplotlib: a dataset that needs no download.

Each character of each font is rendered once at a large size. The images are random views of these masters (size, rotation, shear,
position), drawn in batches by `grid_sample`: 20,000 images take a few seconds and no disk space.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lib.data.dataset import ImageDataset, check_memory, to_float
from diffusion_lib.devices import torchs_defaults

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
SIZE = 28  # height and width of an image, in pixels
MASTER = 112  # height and width of a master
CAP_HEIGHT = 68  # height of a capital in a master


def load_glyphs(*, train: bool = True, n: int | None = None, seed: int = 0) -> ImageDataset:
    """20,000 glyphs for training or 4,000 others for testing, or n of either."""
    return _glyphs(n or (20_000 if train else 4_000), 2 * seed + (0 if train else 1))


@lru_cache(maxsize=8)
def _glyphs(n: int, seed: int) -> ImageDataset:
    pixels, labels = draw_glyphs(n, seed)
    return ImageDataset(to_float(pixels), labels, tuple(CHARACTERS))


@torchs_defaults()
def draw_glyphs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n random glyphs, white on black: pixels uint8 (n, 1, 28, 28) and labels LongTensor (n,), indices into `CHARACTERS`.

    The same seed gives the same images, and the first k of n are the first k of any longer draw.
    """
    check_memory(n, (1, SIZE, SIZE))
    masters = _masters()
    random = torch.Generator().manual_seed(seed)
    # one row of random numbers per image, so that n does not change the first images
    u = torch.rand(n, 8, generator=random)
    label = (u[:, 0] * len(CHARACTERS)).long()
    font = (u[:, 1] * len(FONTS)).long()
    angle = (u[:, 2] * 2 - 1) * math.radians(12)
    shear = (u[:, 3] * 2 - 1) * 0.15
    scale = 0.8 + 0.4 * u[:, 4]
    shift = (u[:, 5:7] * 2 - 1) * 0.08  # as a fraction of half the image's side

    # grid_sample needs the position in the master of each pixel of the image: the inverse of the glyph's transformation
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack([cos, sin + shear * cos, -shift[:, 0], -sin, cos - shear * sin, -shift[:, 1]], dim=1).view(n, 2, 3)

    pixels = torch.empty(n, 1, SIZE, SIZE, dtype=torch.uint8)
    for start in range(0, n, 1024):  # limits the memory
        part = slice(start, start + 1024)
        grid = F.affine_grid(rows[part], [len(rows[part]), 1, 2 * SIZE, 2 * SIZE], align_corners=False)
        views = F.grid_sample(masters[font[part], label[part]][:, None], grid, align_corners=False)
        pixels[part] = (F.avg_pool2d(views, 2) * 255).round()  # drawn at twice the size, for smooth edges
    return pixels, label


@lru_cache(maxsize=1)
def _masters() -> Tensor:
    """Every character in every font, centred: float (fonts, characters, 112, 112) in [0, 1]."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    masters = torch.zeros(len(FONTS), len(CHARACTERS), MASTER, MASTER)
    for masters_of_font, name in zip(masters, FONTS, strict=True):
        font = FT2Font(f"{get_data_path()}/fonts/ttf/{name}.ttf")
        cap_height = len(_drawn(font, "H", 100))  # a capital's share of the font size differs between fonts
        for master, character in zip(masters_of_font, CHARACTERS, strict=True):
            bitmap = torch.from_numpy(_drawn(font, character, 100 * CAP_HEIGHT / cap_height)) / 255
            height, width = bitmap.shape
            top, left = (MASTER - height) // 2, (MASTER - width) // 2
            master[top : top + height, left : left + width] = bitmap
    return masters


def _drawn(font, text: str, size: float) -> np.ndarray:
    """The text at this size in pixels (points at 72 dpi): float32 (height, width) in 0..255."""
    font.set_size(size, 72)
    font.set_text(text)
    font.draw_glyphs_to_bitmap(antialiased=True)
    return np.array(font.get_image(), dtype=np.float32)

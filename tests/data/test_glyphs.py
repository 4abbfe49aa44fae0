"""The dataset of letters and digits: what it draws, and that it is reproducible from its seed."""

import torch
import torch.nn.functional as F

import diffusion_lib as dl
from diffusion_lib.data.glyphs import CHARACTERS, FONTS, _masters


def test_glyphs_are_characters_in_the_data_range():
    glyphs = dl.load_dataset("glyphs", n=3600)
    assert (glyphs.images.shape, glyphs.images.dtype) == ((3600, 1, 28, 28), torch.float32)
    assert glyphs.class_names == tuple(CHARACTERS)
    assert (glyphs.images.min(), glyphs.images.max()) == (-1, 1)
    # white on black, in the middle: every image has ink, and hardly any of it touches the border
    ink = (glyphs.images + 1) / 2
    assert ink.amax(dim=(1, 2, 3)).min() > 0.5
    assert 0.05 < ink.mean() < 0.3
    border = torch.cat([ink[:, 0, 0], ink[:, 0, -1], ink[:, 0, :, 0], ink[:, 0, :, -1]], dim=1)
    assert border.mean() < 0.01
    # 100 of each class, give or take 5 standard deviations
    assert (torch.bincount(glyphs.labels, minlength=36) - 100).abs().max() < 50


def test_glyphs_of_a_seed_do_not_depend_on_their_number():
    few, many = dl.load_dataset("glyphs", n=5), dl.load_dataset("glyphs", n=1200)
    assert torch.equal(few.images, many.images[:5])
    assert torch.equal(few.labels, many.labels[:5])
    # more than a batch of drawing away, too
    assert torch.equal(many.images[1100], dl.load_dataset("glyphs", n=1101).images[1100])


def test_test_set_and_other_seeds_share_no_images():
    sets = [dl.load_dataset("glyphs", train=train, n=400, seed=seed).images.flatten(1) for train in (True, False) for seed in (0, 1)]
    assert len(torch.cat(sets).unique(dim=0)) == 1600


def test_every_font_draws_every_character_differently():
    masters = _masters().flatten(2)  # (fonts, characters, pixels)
    assert masters.shape[:2] == (len(FONTS), len(CHARACTERS))
    assert masters.amax(dim=2).min() > 0.9
    for font in masters:
        assert len(font.unique(dim=0)) == len(CHARACTERS)
    for character in masters.unbind(1):
        assert len(character.unique(dim=0)) == len(FONTS)


def test_glyphs_use_all_fonts():
    glyphs = dl.load_dataset("glyphs", n=2000)
    # which font's master each image overlaps with most; size and slant mislead some, so the shares are not even
    masters = F.normalize(F.avg_pool2d(_masters(), 4).flatten(2), dim=2)
    overlap = torch.einsum("nd,fnd->nf", glyphs.images.flatten(1) + 1, masters[:, glyphs.labels])
    assert torch.bincount(overlap.argmax(dim=1), minlength=len(FONTS)).min() >= 15

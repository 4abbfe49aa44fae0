"""Pictures in the forms in which people have them: the same picture comes out, or an error that says what to do."""

import numpy as np
import pytest
import torch
from helpers import noise, tiny_dataset
from PIL import Image
from torch.utils.data import DataLoader

import diffusion_lib as dl
from diffusion_lib.pictures import as_frames, as_images, check_frames, image_grid

GREY, COLOUR = noise(3, 1, 8, 6, dtype=torch.float32).clamp(-1, 1), noise(2, 3, 8, 6, dtype=torch.float32).clamp(-1, 1)
PILLOW = Image.fromarray(dl.to_uint8(COLOUR[0]).permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY),
        (GREY[0, 0], GREY[:1]),
        (GREY[0], GREY[:1]),
        (COLOUR[0], COLOUR[:1]),
        (GREY.numpy(), GREY),
        (GREY.numpy()[..., ::-1], GREY.flip(-1)),
        (GREY.numpy().astype(">f4"), GREY),
        (np.broadcast_to(GREY[:1].numpy(), (2, 1, 8, 6)), GREY[:1].expand(2, -1, -1, -1)),
        (list(GREY), GREY),
        ([GREY[:1], GREY[1:]], GREY),
        (tuple(GREY[:, 0]), GREY),
        (iter(GREY), GREY),
        (GREY.clone().requires_grad_(), GREY),
        (GREY.transpose(2, 3).contiguous().transpose(2, 3), GREY),
        (GREY.double(), GREY.double()),
        (GREY.half(), GREY.half().float()),
        (GREY.bfloat16(), GREY.bfloat16().float()),
        (tiny_dataset(4), tiny_dataset(4).images),
        (PILLOW, dl.to_float(dl.to_uint8(COLOUR[:1]))),
        ([PILLOW.convert("L")], dl.to_float(torch.from_numpy(np.array(PILLOW.convert("L"))))[None, None]),
        (PILLOW.convert("RGBA"), dl.to_float(dl.to_uint8(COLOUR[:1]))),
    ],
)
def test_takes_pictures_in_any_usual_form(images, expected):
    batch = as_images(images)
    assert not batch.requires_grad
    assert batch.dtype == expected.dtype
    assert torch.equal(batch, expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(5, 8, 6),
            r"images have shape \(5, 8, 6\); expected \(B, C, H, W\).* for grey images without a channel, use images\[:, None\]",
        ),
        (np.zeros((8, 6, 3), np.float32), r"images have shape \(8, 6, 3\), with the channels last; .* use movedim\(-1, -3\)"),
        (torch.zeros(2, 8, 6, 3), "with the channels last"),
        (torch.zeros(2, 2, 8, 6), r"images have 2 channels; expected 1 \(grey\) or 3 \(colour\)$"),
        (torch.zeros(2, 4, 8, 6), r"images have 4 channels; .*: images\[:, :3\] drops the fourth, transparency"),
        (torch.zeros(5), r"images have shape \(5,\); expected \(B, C, H, W\)"),
        (torch.zeros(2, 2, 1, 8, 6), r"images have shape \(2, 2, 1, 8, 6\); expected"),
        (GREY[:0], "images hold no images"),
        ([], "images hold no images; expected a batch of one or more"),
        (torch.zeros(1, 1, 0, 6), "images hold no images"),
        ([GREY[0], COLOUR[0]], r"images are of shapes \(1, 8, 6\), \(3, 8, 6\); expected one shape"),
        (dl.to_uint8(GREY), r"images have dtype torch.uint8; expected floats in \[-1, 1\]: use diffusion_lib.to_float$"),
        (dl.to_uint8(GREY).numpy(), r"use diffusion_lib.to_float\(torch.from_numpy"),
        (GREY > 0, r"images have dtype torch.bool; .*images.float\(\) \* 2 - 1 makes a mask black and white"),
        (GREY.long(), "images have dtype torch.int64"),
        (GREY.cfloat(), "images have dtype torch.complex64"),
        ((GREY + 1) * 127.5, r"images range from .* as pixels 0..255 do; expected about -1..1: images / 127.5 - 1"),
        (None, r"images are a NoneType; expected a tensor of shape \(B, C, H, W\)"),
        ("photo", "images are a str"),
        ({"a": GREY}, "images are a dict"),
        (np.array([None]), "images are a ndarray"),
        (GREY.to("meta"), "images have no dense values"),
        (GREY[0, 0].to_sparse(), "images have no dense values"),
        (Image.new("I;16", (4, 4)), "images hold a picture of mode 'I;16'"),
    ],
)
def test_rejects_what_is_no_picture_and_says_the_remedy(images, message):
    with pytest.raises(ValueError, match=message):
        as_images(images)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rejects_numbers_that_are_not_finite(value):
    images = GREY.clone()
    images[1, 0, 3, 2] = value
    with pytest.raises(ValueError, match=r"x0 has values that are not finite \(NaN or infinity\) in 1 of 3, the first is number 1"):
        as_images(images, "x0")
    frames = torch.stack([GREY, images])
    with pytest.raises(ValueError, match=r"panel 'a' is not finite \(NaN or infinity\) at frame 1; expected numbers"):
        check_frames(frames, "panel 'a'", lambda i: f"frame {i}")


@pytest.mark.parametrize("images", [noise(2, 1, 8, 8) * 5, GREY * 40, GREY.abs() * 300 + 300, (GREY + 1) / 2, torch.ones(1, 1, 2, 2) * 3])
def test_noise_and_chains_that_explode_are_not_taken_for_pixels(images):
    assert torch.equal(as_images(images), images)


class Pairs(torch.utils.data.Dataset):
    """A dataset as others write them: no `.images`, and an image and its label by number."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return tiny_dataset(4)[i]


DATA = tiny_dataset(4)
PAIR, LOADER, PAIRS = (
    r"are a pair of images and their labels; expected only the images: images\[0\]$",
    r"are a DataLoader of images and their labels; expected only the images: next\(iter\(loader\)\)\[0\]$",
    r" of images and their labels; expected only the images: \[image for image, label in …\]$",
)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (DATA[0], PAIR),
        (DATA[:3], PAIR),
        (list(DATA[:3]), PAIR),
        ((PILLOW, 3), PAIR),
        ((GREY, ["a", "b", "c"]), PAIR),
        ((GREY.numpy(), np.arange(3)), PAIR),
        ((GREY[0], "a"), PAIR),
        ((GREY[0], None), PAIR),
        ((GREY, torch.zeros(3, 2, dtype=torch.long)), PAIR),
        (DataLoader(DATA, batch_size=2), LOADER),
        (DataLoader(Pairs(), batch_size=2), LOADER),
        (next(iter(DataLoader(DATA, batch_size=2))), PAIR),
        (iter(DataLoader(DATA, batch_size=2)), PAIRS),
        ([DATA[0], DATA[1]], PAIRS),
        (zip(DATA.images, DATA.labels, strict=True), PAIRS),
        (Pairs(), r"are a Pairs of images and their labels; expected only the images: \[dataset\[i\]\[0\] for i in range\(16\)\]$"),
        ([GREY.long(), GREY.long()], "images have dtype torch.int64"),
    ],
)
def test_says_how_to_take_the_images_out_of_pairs_with_labels(images, message):
    with pytest.raises(ValueError, match=message):
        as_images(images)


def test_takes_a_loader_of_images_alone():
    assert torch.equal(as_images(DataLoader(GREY, batch_size=2)), GREY)
    assert torch.equal(as_images([dataset_item[0] for dataset_item in (DATA[0], DATA[1])]), DATA.images[:2])


def test_pairs_are_no_frames():
    with pytest.raises(ValueError, match=r"^film is a pair of images and their labels; expected only the images: film\[0\]$"):
        as_frames(DATA[:3], "film")


def test_frames_are_taken_as_lists_of_lists():
    grid = noise(2, 3, 4, 1, 8, 6, dtype=torch.float32)
    assert torch.equal(as_frames([list(row) for row in grid], "frames", 6), grid)
    assert torch.equal(as_frames([batch.numpy() for batch in grid[0]], "frames"), grid[0])
    with pytest.raises(ValueError, match=r"frames is a list of shapes \(3, 1, 8, 6\), \(4, 1, 8, 6\); expected frames of one shape"):
        as_frames([grid[0, 0], grid[0, 0, :3]], "frames")


@pytest.mark.parametrize("columns", [0, -1, 2.0, True, "3", None])
def test_rejects_numbers_of_columns(columns):
    with pytest.raises(ValueError, match=r"columns=.*; expected an integer, 1 or more"):
        image_grid(GREY, columns)


def test_takes_numpys_and_torchs_columns():
    assert torch.equal(image_grid(GREY, np.int64(2)), image_grid(GREY, 2))
    assert torch.equal(image_grid(GREY, torch.tensor(2)), image_grid(GREY, 2))
    picture = image_grid(GREY, 2)
    picture[0, 0, 0] = 7  # three channels of their own
    assert picture[0, 0].tolist() == [7, 96, 96]

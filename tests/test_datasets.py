"""Datasets: the one data range and its inverse, glyphs, the photo, folders, and what torchvision brings."""

import gzip
import hashlib
import pickle
import socket
import struct
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import SHARED, noise, serve, tiny_dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.datasets import cache_folder
from diffusion_lib.glyphs import CHARACTERS, FONTS, _masters

# ---------------------------------------------------------------------------------------------------------------- the data range


def test_to_uint8_is_the_inverse_of_to_float():
    pixels = torch.arange(256, dtype=torch.uint8)
    images = dl.to_float(pixels)
    assert (images.dtype, images.min(), images.max()) == (torch.float32, -1, 1)
    torch.testing.assert_close(images, torch.arange(256) / 255 * 2 - 1, rtol=0, atol=1e-6)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(dl.to_uint8(images.to(dtype)), pixels)


@given(st.floats(-10, 10, width=32))
def test_to_uint8_clips_and_neither_wraps_nor_stretches(value):
    # noise cast to uint8 without clipping wraps around: -1.01 would be white
    expected = round((min(1.0, max(-1.0, value)) + 1) * 127.5)
    assert abs(dl.to_uint8(torch.tensor([value])).item() - expected) <= 1
    # and the brightness of one pixel does not depend on the others
    together = dl.to_uint8(torch.tensor([value, -0.5, 0.25]))
    assert together.tolist() == [dl.to_uint8(torch.tensor([v])).item() for v in (value, -0.5, 0.25)]


def test_wrong_kinds_of_pixels_are_refused():
    with pytest.raises(ValueError, match=r"pixels have dtype torch.float32; expected torch.uint8 in 0\.\.255"):
        dl.to_float(torch.zeros(3))
    with pytest.raises(ValueError, match=r"images have dtype torch.uint8; expected floats in \[-1, 1\]"):
        dl.to_uint8(torch.zeros(3, dtype=torch.uint8))


def test_a_dataset_is_its_images_and_labels():
    dataset = tiny_dataset()
    assert (len(dataset), dataset.image_shape, dataset.num_classes, dataset.class_names) == (24, (1, 8, 8), 3, ("a", "b", "c"))
    image, label = dataset[4]
    assert image.shape == (1, 8, 8)
    assert label == 1
    images, labels = dataset[torch.tensor([4, 0])]
    assert torch.equal(images[0], image)
    assert labels.tolist() == [1, 0]
    assert len(dataset[2:5][0]) == 3


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2).long(), r"dtype torch.uint8; expected floats .*see to_float"),
        (torch.zeros(2, 4, 4), torch.zeros(2).long(), r"images have shape \(2, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(3).long(), r"labels have shape \(3,\) .*expected torch.long \(2,\)"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2), r"dtype torch.float32; expected torch.long"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        dl.ImageDataset(images, labels, ("a",))


def test_an_unknown_dataset_is_named_with_its_nearest():
    with pytest.raises(ValueError, match=r"unknown dataset 'glyph'; expected one of 'glyphs', 'photo', 'mnist'.*Did you mean 'glyphs'\?"):
        dl.load_dataset("glyph")
    with pytest.raises(ValueError, match=r"n=0; expected 1 image or more"):
        dl.load_dataset("glyphs", n=0)


# ------------------------------------------------------------------------------------------------------------- glyphs and photo


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


def test_glyphs_of_one_seed_are_the_same_however_many():
    few, many = dl.load_dataset("glyphs", n=5), dl.load_dataset("glyphs", n=1200)
    assert torch.equal(few.images, many.images[:5])
    assert torch.equal(few.labels, many.labels[:5])
    # more than a batch of drawing away, too
    assert torch.equal(many.images[1100], dl.load_dataset("glyphs", n=1101).images[1100])


def test_test_glyphs_and_other_seeds_are_other_images():
    sets = [dl.load_dataset("glyphs", train=train, n=400, seed=seed).images.flatten(1) for train in (True, False) for seed in (0, 1)]
    assert len(torch.cat(sets).unique(dim=0)) == 1600


def test_every_font_draws_every_character_its_own_way():
    masters = _masters().flatten(2)  # (fonts, characters, pixels)
    assert masters.shape[:2] == (len(FONTS), len(CHARACTERS))
    assert masters.amax(dim=2).min() > 0.9
    for font in masters:
        assert len(font.unique(dim=0)) == len(CHARACTERS)
    for character in masters.unbind(1):
        assert len(character.unique(dim=0)) == len(FONTS)


def test_glyphs_are_of_all_fonts():
    glyphs = dl.load_dataset("glyphs", n=2000)
    # which font's master each image overlaps with most; size and slant mislead some, so the shares are not even
    masters = F.normalize(F.avg_pool2d(_masters(), 4).flatten(2), dim=2)
    overlap = torch.einsum("nd,fnd->nf", glyphs.images.flatten(1) + 1, masters[:, glyphs.labels])
    assert torch.bincount(overlap.argmax(dim=1), minlength=len(FONTS)).min() >= 15


def test_the_photo_is_one_colour_image_without_classes():
    photo = dl.load_dataset("photo")
    assert photo.images.shape == (1, 3, 64, 64)
    assert (photo.labels.tolist(), photo.num_classes) == ([-1], None)
    assert photo.images.amin() < -0.8 < 0.8 < photo.images.amax()
    small = dl.load_dataset("photo", size=16).images
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(photo.images, 4), rtol=0, atol=0.35)


# ---------------------------------------------------------------------------------------------------------------------- folders


def save(path, size=(40, 40), colour=(255, 0, 0), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def test_a_folder_of_images_is_a_dataset_without_classes(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.PNG", colour=(128, 128, 128), mode="L")
    (tmp_path / "notes.txt").write_text("no image")
    folder = dl.load_dataset(f"folder:{tmp_path}")
    assert folder.images.shape == (2, 3, 32, 32)
    assert (folder.labels.tolist(), folder.class_names) == ([-1, -1], ())
    torch.testing.assert_close(folder.images[0].mean(dim=(1, 2)), torch.tensor([1.0, -1.0, -1.0]), rtol=0, atol=1e-6)
    assert folder.images[1].unique().tolist() == pytest.approx([128 / 127.5 - 1], abs=1e-6)
    assert len(dl.load_dataset(f"folder:{tmp_path}", n=1)) == 1


def test_sub_folders_are_classes(tmp_path):
    for name in ("dog/1", "cat/1", "cat/deep/2"):
        save(tmp_path / f"{name}.png")
    folder = dl.load_dataset(f"folder:{tmp_path}", size=8)
    assert folder.images.shape == (3, 3, 8, 8)
    assert folder.class_names == ("cat", "dog")
    assert folder.labels.tolist() == [0, 0, 1]


def test_images_are_cropped_to_their_centre_and_not_squeezed(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image = dl.load_dataset(f"folder:{tmp_path}", size=20).images
    assert (image == 1).all()


def test_a_turned_camera_is_turned_back(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # the upper half is white, but
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = dl.load_dataset(f"folder:{tmp_path}", size=8).images[0, 0]
    assert image[:4].max() < image[4:].min()


def test_folders_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder; expected one with images"):
        dl.load_dataset(f"folder:{tmp_path}/nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no images; expected files ending in \.png"):
        dl.load_dataset(f"folder:{tmp_path}")
    save(tmp_path / "a.png")
    save(tmp_path / "cat" / "b.png")
    with pytest.raises(ValueError, match=r"holds images both beside and inside its sub-folders; expected one or the other"):
        dl.load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("keep", [0, 60, 200])
def test_a_broken_image_is_named(tmp_path, keep):
    Image.fromarray(noise(40, 40, 3).mul(60).to(torch.int8).numpy().view(np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image \(.+\); expected a whole one: repair or remove it"):
        dl.load_dataset(f"folder:{tmp_path}")


# ------------------------------------------------------------------------------------------------------------------ torchvision


def test_mnist_as_torchvision_stores_it():
    if not SHARED.is_dir():
        pytest.skip("../shared/data, with the files of MNIST, is not here")
    mnist = dl.load_dataset("mnist", train=False, root=SHARED)
    assert (mnist.images.shape, mnist.num_classes) == ((10_000, 1, 28, 28), 10)
    assert (mnist.images.min(), mnist.images.max()) == (-1, 1)
    # the first of the test set, as everyone knows them
    assert mnist.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert mnist.class_names[3] == "3 - three"
    assert len(dl.load_dataset("mnist", train=False, n=7, root=SHARED)) == 7


def mnist_files(folder, images, labels):
    """The four files of an MNIST of a few images, packed as on its mirrors; names with their md5 sums."""
    resources = []
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
            path = folder / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(data))
            resources.append((path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    return resources


def test_mnist_is_downloaded_once(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    labels = np.array([3, 1, 4, 1], np.uint8)
    (tmp_path / "host").mkdir()
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "host"))

        def log_message(self, format, *values):
            asked.append(values)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MNIST, "resources", mnist_files(tmp_path / "host", images, labels))
    with serve(Handler) as address:
        monkeypatch.setattr(MNIST, "mirrors", [f"{address}/"])
        mnist = dl.load_dataset("mnist")
    assert len({request for request, *_ in asked}) == 4
    assert torch.equal(dl.to_uint8(mnist.images)[:, 0], torch.from_numpy(images))
    assert mnist.labels.tolist() == [3, 1, 4, 1]
    # the host is gone, the files are in the cache folder
    assert torch.equal(dl.load_dataset("mnist").images, mnist.images)
    assert (tmp_path / "cache" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_host_that_is_down_is_told_with_a_way_out(tmp_path, monkeypatch, name):
    from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for kind in (MNIST, FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", [address])
    monkeypatch.setattr(CIFAR10, "url", f"{address}cifar.tar.gz")
    with pytest.raises(
        FileNotFoundError, match=rf"(?s){name} is not in .* could not be downloaded there .*root=.*The 'glyphs' dataset needs neither"
    ):
        dl.load_dataset(name, root=tmp_path)


def test_cifar10_is_in_colour_and_the_right_way_up(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    # CIFAR-10's rows are 1024 red values, 1024 green, 1024 blue
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    (folder / "batch").write_bytes(pickle.dumps(dict(data=pixels.reshape(2, -1), labels=[6, 9])))
    (folder / "meta").write_bytes(pickle.dumps(dict(label_names=[f"class {i}" for i in range(10)])))
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ("batch", "meta")}
    monkeypatch.setattr(CIFAR10, "train_list", [["batch", md5["batch"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [])
    monkeypatch.setattr(CIFAR10, "meta", dict(filename="meta", key="label_names", md5=md5["meta"]))
    cifar = dl.load_dataset("cifar10", root=tmp_path)
    assert torch.equal(dl.to_uint8(cifar.images), torch.from_numpy(pixels))
    assert (cifar.labels.tolist(), cifar.num_classes) == ([6, 9], 10)


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DIFFUSION_LIB_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "diffusion_lib"

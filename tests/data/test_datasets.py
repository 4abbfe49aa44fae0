"""Datasets: the one data range and its inverse, glyphs, the photo, folders, and what torchvision brings."""

import gzip
import hashlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import SHARED, noise, serve, tiny_dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.data.datasets import cache_folder
from diffusion_lib.data.glyphs import CHARACTERS, FONTS, _masters

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
    with pytest.raises(ValueError, match=r"^n=0; expected 1 or more, or None for the default$"):
        dl.load_dataset("glyphs", n=0)
    with pytest.raises(ValueError, match=r"^size=-5; expected 1 or more, or None for the default$"):
        dl.load_dataset("photo", size=-5)


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
    assert folder.labels.tolist() == [0, 1, 0]


def test_the_first_images_of_a_folder_are_of_all_its_classes(tmp_path):
    for name in ("ant", "bee", "cat"):
        for k in range(4):
            save(tmp_path / name / f"{k}.png", colour=(60 * k, 0, 0))
    (tmp_path / "cat" / "3.png").unlink()
    whole, first = (dl.load_dataset(f"folder:{tmp_path}", size=8, n=n) for n in (None, 4))
    assert (first.labels.tolist(), first.class_names) == ([0, 1, 2, 0], ("ant", "bee", "cat"))
    assert whole.labels.tolist() == [0, 1, 2] * 3 + [0, 1]
    assert torch.equal(whole.images[:4], first.images)


def test_hidden_files_are_no_images_and_links_are_followed_once(tmp_path):
    save(tmp_path / "elsewhere" / "1.png")
    save(tmp_path / "data" / "cat" / "1.png")
    save(tmp_path / "data" / "cat" / ".ipynb_checkpoints" / "1-checkpoint.png")
    save(tmp_path / "data" / ".thumbnails" / "1.png")
    (tmp_path / "data" / "cat" / "._1.png").write_bytes(b"what a Mac leaves")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cat" / "back").symlink_to(tmp_path / "data")
    folder = dl.load_dataset(f"folder:{tmp_path / 'data'}", size=8)
    assert (folder.labels.tolist(), folder.class_names) == ([0, 1], ("cat", "dog"))


def test_a_folder_that_two_links_lead_to_is_in_both_places(tmp_path):
    save(tmp_path / "pool" / "1.png")
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "common").symlink_to(tmp_path / "pool")
    assert dl.load_dataset(f"folder:{tmp_path / 'data'}", size=8).labels.tolist() == [0, 1]


def test_folders_that_lead_to_far_too_many_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusion_lib.data.datasets.MOST_FOLDERS", 100)
    for name in "abcdef":  # each with links to all others: some two thousand ways
        (tmp_path / name).mkdir()
        for other in "abcdef":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    with pytest.raises(ValueError, match="leads to more than 100 folders, links followed; expected fewer"):
        dl.load_dataset(f"folder:{tmp_path}")


def test_a_folder_that_cannot_be_looked_into_is_not_left_out(tmp_path, monkeypatch):
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "b" / "1.png")

    def scandir(path, look=os.scandir):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="b'"):
        dl.load_dataset(f"folder:{tmp_path}", size=8)


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 255)).save(tmp_path / "b.png")
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "c.gif", transparency=0)
    assert dl.load_dataset(f"folder:{tmp_path}", size=8).images.amax(dim=(1, 2, 3)).tolist() == [1, -1, 1]


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
    with pytest.raises(
        ValueError, match=r"broken\.png cannot be read as an image \(.+\); expected a whole one: repair, convert or remove it"
    ):
        dl.load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("deep.png", Image.fromarray(np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16))),
        ("float.tiff", Image.fromarray(np.linspace(0, 1, 1600).reshape(40, 40).astype(np.float32))),
    ],
)
def test_images_of_more_than_8_bits_are_refused_not_ruined(tmp_path, name, image):
    image.save(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as an image \(its pixels are of mode \S+, not of 8 bits a channel\)"):
        dl.load_dataset(f"folder:{tmp_path}")


def test_only_image_files_are_opened_and_by_their_own_decoders_alone(tmp_path):
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")  # a pipe, at which a reader would wait
    (tmp_path / "c.png").mkdir()
    assert len(dl.load_dataset(f"folder:{tmp_path}")) == 1
    Image.new("RGB", (40, 40)).save(tmp_path / "d.eps")  # PostScript is a program, and Pillow would start an interpreter
    (tmp_path / "d.eps").rename(tmp_path / "d.png")
    with pytest.raises(ValueError, match=r"d\.png cannot be read as an image \(cannot identify image file"):
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


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
LABELS = np.array([3, 1, 4, 1], np.uint8)


@pytest.fixture
def mnist_host(tmp_path, monkeypatch):
    """How to serve an MNIST of four images: a context that takes what the host does with a file's content, and gives what it was asked."""
    from torchvision.datasets import MNIST

    (tmp_path / "host").mkdir()
    resources = mnist_files(tmp_path / "host", IMAGES, LABELS)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MNIST, "resources", resources)

    @contextmanager
    def host(send=lambda handler, content: handler.wfile.write(content), chunked=False):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                content = (tmp_path / "host" / self.path.strip("/")).read_bytes()
                self.send_response(200)
                self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(content)))))
                self.end_headers()
                with suppress(ConnectionError):
                    send(self, content)

            def log_message(self, *_):
                pass

        with serve(Handler) as address:
            monkeypatch.setattr(MNIST, "mirrors", [f"{address}/"])
            yield SimpleNamespace(asked=asked, address=address, resources=resources)

    return host


def assert_whole(mnist):
    assert torch.equal(dl.to_uint8(mnist.images)[:, 0], torch.from_numpy(IMAGES))
    assert mnist.labels.tolist() == [3, 1, 4, 1]


def test_mnist_is_downloaded_once(tmp_path, mnist_host):
    with mnist_host() as host:
        assert_whole(dl.load_dataset("mnist"))
    assert len(host.asked) == 2 * len(set(host.asked)) == 8  # torchvision asks twice, the first time for redirections
    # the host is gone, the files are in the cache folder, and nothing else is
    assert_whole(dl.load_dataset("mnist", train=False))
    assert (tmp_path / "cache" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.name != ".mnist.lock") == ["MNIST"]


def in_time(handler, content):
    """Half of the file, and then nothing for longer than anyone should wait."""
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    time.sleep(3)


def in_chunks(handler, content):
    """Half of a chunk."""
    handler.wfile.write(b"%x\r\n" % 100 + content[:50])


HOSTS = {
    "a slow one": (in_time, "timed out"),
    "one that sends half a file": (lambda handler, content: handler.wfile.write(content[: len(content) // 2]), "corrupted|IncompleteRead"),
    "one that breaks off in a chunk": (in_chunks, "IncompleteRead"),
    "one that sends other bytes": (lambda handler, content: handler.wfile.write(bytes(len(content))), "corrupted"),
}


@pytest.mark.parametrize("kind", HOSTS)
def test_a_bad_host_is_told_and_leaves_nothing_that_is_taken_for_whole(tmp_path, mnist_host, monkeypatch, kind):
    send, reason = HOSTS[kind]
    monkeypatch.setattr("diffusion_lib.data.datasets.PATIENCE", 0.5)
    message = rf"(?is)mnist is not in .*({reason}).*'glyphs' dataset needs neither"
    with mnist_host(send, chunked="chunk" in kind), pytest.raises(FileNotFoundError, match=message):
        dl.load_dataset("mnist")
    assert socket.getdefaulttimeout() is None
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".mnist.lock"] == []
    with mnist_host():
        assert_whole(dl.load_dataset("mnist"))


@pytest.mark.parametrize("kind", HOSTS)
def test_when_a_mirror_is_bad_the_next_one_is_asked(mnist_host, monkeypatch, kind):
    from torchvision.datasets import MNIST

    monkeypatch.setattr("diffusion_lib.data.datasets.PATIENCE", 0.5)
    send, _ = HOSTS[kind]
    with mnist_host(send, chunked="chunk" in kind) as bad, mnist_host() as good:
        monkeypatch.setattr(MNIST, "mirrors", [f"{bad.address}/", f"{good.address}/"])
        assert_whole(dl.load_dataset("mnist"))
    assert bad.asked


LOAD = """
import sys
from torchvision.datasets import MNIST
import diffusion_lib as dl

MNIST.mirrors, MNIST.resources = [sys.argv[1]], eval(sys.argv[2])
print(dl.to_uint8(dl.load_dataset("mnist").images).sum().item())
"""


def start_loading(host):
    line = [sys.executable, "-c", LOAD, f"{host.address}/", repr(host.resources)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_load_at_once_do_not_break_each_other(mnist_host):
    def slowly(handler, content):
        time.sleep(0.5)
        handler.wfile.write(content)

    with mnist_host(slowly) as host:
        answers = [process.communicate(timeout=120) for process in [start_loading(host) for _ in range(2)]]
    assert [out.strip() for out, _ in answers] == [str(int(IMAGES.sum()))] * 2, answers
    assert len(host.asked) == 8  # the second one waited, and found what the first one had fetched


def test_a_download_that_is_killed_is_made_again_and_leaves_nothing_behind(tmp_path, mnist_host):
    reached = threading.Event()

    def half(handler, content):
        handler.wfile.write(content[: len(content) // 2])
        handler.wfile.flush()
        reached.set()
        time.sleep(3)

    with mnist_host(half) as host:
        process = start_loading(host)
        assert reached.wait(60)
        process.kill()
        process.communicate()
    assert list((tmp_path / "cache").glob(".mnist-*"))
    with mnist_host():
        assert_whole(dl.load_dataset("mnist"))
    assert not list((tmp_path / "cache").glob(".mnist-*"))


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize("damage", [b"", b"half", b"\x00" * 5000, "truncated"], ids=["empty", "short", "zeros", "truncated"])
def test_damaged_files_are_named_with_what_to_do(tmp_path, mnist_host, damage, part):
    with mnist_host():
        dl.load_dataset("mnist")
        file = tmp_path / "cache" / "MNIST" / "raw" / f"{part}-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:2000] if damage == "truncated" else damage)
        with pytest.raises(
            ValueError, match=rf"files of mnist in .*{tmp_path.name}.* are damaged \(.+\); expected whole ones: remove them"
        ):
            dl.load_dataset("mnist", train=part == "train")
        file.unlink()
        assert_whole(dl.load_dataset("mnist", train=part == "train"))  # downloaded again


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


def test_as_many_labels_as_images_are_expected(tmp_path, mnist_host):
    with mnist_host():
        dl.load_dataset("mnist")
    (tmp_path / "other").mkdir()
    mnist_files(tmp_path / "other", IMAGES, LABELS[:3])
    for file in (tmp_path / "other").rglob("train-labels*"):
        content = gzip.decompress(file.read_bytes())
        (tmp_path / "cache" / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=r"the files of mnist in .+ are damaged \(4 images and 3 labels\); expected whole ones"):
        dl.load_dataset("mnist")


def test_a_tilde_is_the_home_folder(tmp_path, mnist_host, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    with mnist_host():
        assert_whole(dl.load_dataset("mnist", root="~/data"))
    assert (tmp_path / "home" / "data" / "MNIST").is_dir()
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", "~/data")
    assert_whole(dl.load_dataset("mnist"))


def test_files_that_vanish_after_the_download_are_named(tmp_path, mnist_host, monkeypatch):
    monkeypatch.setattr("diffusion_lib.data.datasets._from_files", lambda *arguments, **options: None)
    with mnist_host(), pytest.raises(FileNotFoundError, match=r"mnist was downloaded to .+ and is not there; expected a folder"):
        dl.load_dataset("mnist")


def test_the_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DIFFUSION_LIB_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "diffusion_lib"

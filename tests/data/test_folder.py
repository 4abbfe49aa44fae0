"""A folder of images: which files are read, how they are cropped to squares, and which are rejected."""

import os
import re
import warnings

import numpy as np
import pytest
import torch
from helpers import noise
from PIL import Image

import diffusion_lib as dl


def save(path, size=(40, 40), colour=(255, 0, 0), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def test_loads_a_flat_folder_as_a_dataset_without_classes(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.PNG", colour=(128, 128, 128), mode="L")
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


def test_first_n_images_cover_all_classes(tmp_path):
    for name in ("ant", "bee", "cat"):
        for k in range(4):
            save(tmp_path / name / f"{k}.png", colour=(60 * k, 0, 0))
    (tmp_path / "cat" / "3.png").unlink()
    whole, first = (dl.load_dataset(f"folder:{tmp_path}", size=8, n=n) for n in (None, 4))
    assert (first.labels.tolist(), first.class_names) == ([0, 1, 2, 0], ("ant", "bee", "cat"))
    assert whole.labels.tolist() == [0, 1, 2] * 3 + [0, 1]
    assert torch.equal(whole.images[:4], first.images)


def test_skips_hidden_files_and_follows_links_once(tmp_path):
    save(tmp_path / "elsewhere" / "1.png")
    save(tmp_path / "data" / "cat" / "1.png")
    save(tmp_path / "data" / "cat" / ".ipynb_checkpoints" / "1-checkpoint.png")
    save(tmp_path / "data" / ".thumbnails" / "1.png")
    (tmp_path / "data" / "cat" / "._1.png").write_bytes(b"what a Mac leaves")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cat" / "back").symlink_to(tmp_path / "data")
    folder = dl.load_dataset(f"folder:{tmp_path / 'data'}", size=8)
    assert (folder.labels.tolist(), folder.class_names) == ([0, 1], ("cat", "dog"))


def test_folder_linked_twice_appears_in_both_places(tmp_path):
    save(tmp_path / "pool" / "1.png")
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "common").symlink_to(tmp_path / "pool")
    assert dl.load_dataset(f"folder:{tmp_path / 'data'}", size=8).labels.tolist() == [0, 1]


def test_rejects_links_that_lead_to_too_many_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusion_lib.data.pictures.MOST_FOLDERS", 100)
    for name in "abcdef":  # each with links to all others: some two thousand ways
        (tmp_path / name).mkdir()
        for other in "abcdef":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    with pytest.raises(ValueError, match="leads to more than 100 folders, following links; expected fewer"):
        dl.load_dataset(f"folder:{tmp_path}")


def test_rejects_folder_with_an_unreadable_sub_folder(tmp_path, monkeypatch):
    save(tmp_path / "a" / "1.png")
    save(tmp_path / "b" / "1.png")

    def scandir(path, look=os.scandir):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="b'"):
        dl.load_dataset(f"folder:{tmp_path}", size=8)


@pytest.mark.filterwarnings("ignore:folder")
def test_transparent_pixels_become_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGBA", (8, 8), (0, 0, 0, 255)).save(tmp_path / "b.png")
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "c.gif", transparency=0)
    assert dl.load_dataset(f"folder:{tmp_path}", size=8).images.amax(dim=(1, 2, 3)).tolist() == [1, -1, 1]


@pytest.mark.filterwarnings("ignore:folder")
def test_crops_images_to_their_centre_without_squeezing_them(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image = dl.load_dataset(f"folder:{tmp_path}", size=20).images
    assert (image == 1).all()


@pytest.mark.filterwarnings("ignore:folder")
def test_applies_the_exif_orientation(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # the upper half is white, but
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = dl.load_dataset(f"folder:{tmp_path}", size=8).images[0, 0]
    assert image[:4].max() < image[4:].min()


def test_rejects_missing_empty_and_mixed_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder; expected one with images"):
        dl.load_dataset(f"folder:{tmp_path}/nowhere")
    with pytest.raises(FileNotFoundError, match=r"contains no images; expected files ending in \.png"):
        dl.load_dataset(f"folder:{tmp_path}")
    save(tmp_path / "a.png")
    save(tmp_path / "cat" / "b.png")
    with pytest.raises(ValueError, match=r"contains images both beside and inside its sub-folders; expected one or the other"):
        dl.load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize("keep", [0, 60, 200])
def test_rejects_broken_image(tmp_path, keep):
    Image.fromarray(noise(40, 40, 3).mul(60).to(torch.int8).numpy().view(np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "whole.png").read_bytes()[:keep])
    with pytest.raises(
        ValueError,
        match=r"broken\.png cannot be read as an image \(.+\); expected an intact image: repair, convert or remove it, or skip it with "
        r"skip_broken=True \(--skip-broken\)$",
    ):
        dl.load_dataset(f"folder:{tmp_path}")


def test_lists_all_broken_images_at_once(tmp_path):
    for k in range(9):
        save(tmp_path / f"{k}.png")
    for k in range(7):
        (tmp_path / f"{k}.png").write_bytes(b"not a picture")
    with pytest.raises(
        ValueError, match=r"^7 of 9 files are broken; expected intact images: .* skip_broken=True \(--skip-broken\):"
    ) as refused:
        dl.load_dataset(f"folder:{tmp_path}")
    lines = str(refused.value).splitlines()
    assert [re.search(r"/(\d\.png) cannot be read as an image \(", line)[1] for line in lines[1:-1]] == [f"{k}.png" for k in range(5)]
    assert lines[-1] == "  and 2 more"


def test_skip_broken_replaces_broken_images_and_counts_them(tmp_path):
    for k in range(9):
        save(tmp_path / "ab"[k % 2] / f"{k}.png", colour=(10 * k, 0, 0))
    whole = dl.load_dataset(tmp_path)
    broken = [tmp_path / "a" / "0.png", tmp_path / "b" / "3.png"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.warns(UserWarning, match=r"skipped 2 of 9 files:\n.*a/0\.png cannot be read .*\n.*b/3\.png cannot be read") as said:
        kept = dl.load_dataset(tmp_path, skip_broken=True)
    assert said[0].filename == __file__
    assert len(said) == 1
    order = [k for k in range(9) if k not in (0, 3)]
    assert torch.equal(kept.images, whole.images[order])
    assert torch.equal(kept.labels, whole.labels[order])
    with pytest.warns(UserWarning, match="skipped 2 of 9"):  # the first n are n
        first = dl.load_dataset(tmp_path, n=4, skip_broken=True, flip=True)
    assert torch.equal(first.images, torch.cat([kept.images[:4], kept.images[:4].flip(3)]))
    assert torch.equal(first.labels, kept.labels[:4].repeat(2))


def test_skip_broken_rejects_a_folder_without_an_intact_image(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"^2 of 2 files are broken; expected intact images: repair, convert or remove them:\n.*a\.png"):
        dl.load_dataset(tmp_path, skip_broken=True)


def test_running_out_of_memory_is_not_reported_as_a_broken_image(tmp_path, monkeypatch):
    def no_memory(*arguments):
        raise MemoryError

    save(tmp_path / "a.png")
    monkeypatch.setattr("diffusion_lib.data.folder.read_picture", no_memory)
    with pytest.raises(MemoryError, match=r"a\.png needs too much memory; expected a smaller picture"):
        dl.load_dataset(tmp_path, skip_broken=True)


def test_rejects_more_images_than_memory_before_reading_any(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}[name])
    monkeypatch.setattr("diffusion_lib.data.folder.read_picture", None)
    with pytest.raises(
        MemoryError, match=r"1 images of 3x600x700 take 0\.0 GB, but this machine has 0\.0 GB; expected less: use fewer images"
    ):
        dl.load_dataset(tmp_path, size=(600, 700))


def test_grey_images_load_with_one_channel(tmp_path):
    save(tmp_path / "a.png", colour=(128, 128, 128), mode="L")
    save(tmp_path / "b.png", colour=(255, 0, 0))
    grey = dl.load_dataset(tmp_path, channels=1)
    assert grey.image_shape == (1, 32, 32)
    assert dl.to_uint8(grey.images)[:, 0, 0, 0].tolist() == [128, 76]
    (tmp_path / "b.png").unlink()
    with pytest.warns(UserWarning, match=r"all images are grey but were loaded as RGB; channels=1 \(--channels 1\)"):
        assert dl.load_dataset(tmp_path).image_shape == (3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dl.load_dataset(tmp_path, channels=3).image_shape == (3, 32, 32)


def test_size_is_height_and_width(tmp_path):
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30] = (255, 0, 0)  # what an image of half the height shows
    Image.fromarray(pixels).save(tmp_path / "a.png")
    images = dl.load_dataset(tmp_path, size=(16, 32)).images
    assert images.shape == (1, 3, 16, 32)
    assert images[0, 0, 1:-1].min() > 0.9


def test_warning_lists_skipped_files_with_reasons(tmp_path):
    for name in ("a.png", "b.heic", "c.HEIC", "d.svg", "e.txt", "f"):
        (tmp_path / name).write_bytes(b"not a picture")
    save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="skipped") as said:
        dl.load_dataset(tmp_path)
    assert str(said[0].message) == (
        f"folder:{tmp_path}: skipped 2 .heic, 1 .svg (formats that are not supported: convert them to PNG or JPEG), "
        "1 .txt, 1 without suffix (not pictures)"
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"contains no images; expected files ending in \.png, .* Skipped: 2 \.heic, 1 \.svg \(formats"
    ):
        dl.load_dataset(tmp_path)


def test_warns_that_there_is_no_test_set(tmp_path):
    save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a folder has only one set of images: train=False returns the same"):
        dl.load_dataset(tmp_path, train=False)


def test_progress_appears_only_when_loading_takes_long(tmp_path, monkeypatch, capsys):
    for k in range(3):
        save(tmp_path / f"{k}.png")
    dl.load_dataset(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("diffusion_lib.data.folder.PATIENCE", 0)
    dl.load_dataset(tmp_path)
    assert f"loading {tmp_path.name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("deep.png", Image.fromarray(np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16))),
        ("float.tiff", Image.fromarray(np.linspace(0, 1, 1600).reshape(40, 40).astype(np.float32))),
    ],
)
def test_rejects_images_of_more_than_8_bits(tmp_path, name, image):
    image.save(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as an image \(its pixels have mode \S+, not 8 bits per channel\)"):
        dl.load_dataset(f"folder:{tmp_path}")


def test_opens_only_image_files_and_only_with_image_decoders(tmp_path):
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")  # a pipe, at which a reader would wait
    (tmp_path / "c.png").mkdir()
    with pytest.warns(UserWarning, match=r"skipped 1 \.png \(not files: pipes or broken links\)"):
        assert len(dl.load_dataset(f"folder:{tmp_path}")) == 1
    Image.new("RGB", (40, 40)).save(tmp_path / "d.eps")  # PostScript is a program, and Pillow would start an interpreter
    (tmp_path / "d.eps").rename(tmp_path / "d.png")
    with pytest.raises(ValueError, match=r"d\.png cannot be read as an image \(cannot identify image file"):
        dl.load_dataset(f"folder:{tmp_path}")
